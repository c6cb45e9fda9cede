// Put into a page of the app before its own scripts: it follows what the page has asked of the server and has yet to do.
(fields) => {
  if (window !== window.top) return;
  const DEBOUNCED_MS = 500;
  const IN_WORK = '[data-testid=stSkeleton], [data-stale=true]';
  const timers = new Set();
  let asked = true, running = false, replies = 0, loads = 0, done = 0;

  const valuesOf = (bytes) => {
    const found = {};
    let at = 0;
    const number = () => {
      let value = 0, unit = 1, byte;
      do {
        byte = bytes[at++];
        value += (byte & 127) * unit;
        unit *= 128;
      } while (byte & 128);
      return value;
    };
    while (at < bytes.length) {
      const tag = number(), value = number();
      found[Math.floor(tag / 8)] = value;
      if (tag % 8 === 2) at += value;
    }
    return found;
  };

  const sent = (data) => {
    const values = valuesOf(new Uint8Array(data));
    if (fields.rerun in values) asked = true;
    else if (fields.requests.some((field) => field in values)) replies += 1;
    else return;
    done += 1;
  };
  const received = (data) => {
    const values = valuesOf(new Uint8Array(data));
    if (fields.begun in values) [asked, running] = [false, true];
    if (fields.ended in values && values[fields.ended] !== fields.early) running = false;
    if (fields.responses.some((field) => field in values)) replies -= 1;
    if (!(fields.heartbeat in values)) done += 1;
  };
  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      [asked, running, replies] = [true, false, 0];
      this.addEventListener('message', ({ data }) => received(data));
    }
    send(data) {
      sent(data);
      super.send(data);
    }
  };

  const { setTimeout, clearTimeout, fetch } = window;
  window.setTimeout = (act, after = 0, ...given) => {
    const timer = setTimeout(() => {
      if (timers.delete(timer)) done += 1;
      act(...given);
    }, after);
    if (after <= DEBOUNCED_MS) timers.add(timer);
    return timer;
  };
  window.clearTimeout = (timer) => {
    timers.delete(timer);
    clearTimeout(timer);
  };

  const loading = () => { loads += 1; };
  const loaded = () => { loads -= 1; done += 1; };
  window.fetch = (...given) => {
    loading();
    return fetch(...given).finally(loaded);
  };
  const { send } = XMLHttpRequest.prototype;
  XMLHttpRequest.prototype.send = function (...given) {
    loading();
    this.addEventListener('loadend', loaded, { once: true });
    return send.apply(this, given);
  };

  const atRest = () => !asked && !running && !replies && !loads && !timers.size
    && document.fonts.status === 'loaded' && [...document.images].every((image) => image.complete)
    && document.querySelector('[data-testid=stMain] [data-testid=stHeading]')
    && document.querySelector('[data-test-script-state=notRunning]') && !document.querySelector(IN_WORK);
  const drawn = () => new Promise((resolve) => {
    requestAnimationFrame(() => requestIdleCallback(resolve, { timeout: 2000 }));
  });
  const staysAtRest = async () => {
    await drawn();
    const before = done;
    if (!atRest()) return false;
    await drawn();
    await drawn();
    return atRest() && done === before;
  };
  let question = {};
  window.atRestSince = (asker) => {
    if (question.asker !== asker) question = { asker, busy: false, answer: false };
    const now = question;
    if (now.busy || now.answer) return now.answer;
    now.busy = true;
    staysAtRest().then((answer) => Object.assign(now, { answer, busy: false }));
    return false;
  };
  window.yetToDo = () => ({ asked, running, replies, loads, timers: timers.size });
}
