// Pictures of one size, looked at one by one, side by side or in turn; zoomed together; with a box drawn on them.
const STEP = 1.25, MOST = 16, NUDGE = 0.02, FLICKER_MS = 700;
const GRIP = 14, PAUSE_MS = 350;  // pixels around a corner; how long the keys must rest before a box is sent

const make = (tag, given = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), given);
  made.append(...children);
  return made;
};
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

const modesOf = (data) => {
  const names = data.pictures.map((p) => p.name);
  return names.length < 2 ? names : [...names, 'Side by side', 'Flicker'];
};

const shownIn = (state) => {
  const { pictures } = state.data;
  if (state.mode === 'Side by side') return pictures;
  if (state.mode === 'Flicker') return [pictures[state.turn % pictures.length]];
  return [pictures.find((p) => p.name === state.mode) ?? pictures[0]];
};

const frameOf = (picture, state) => {
  const img = make('img', { src: picture.src, alt: picture.alt, draggable: false });
  img.style.transform = `translate(${state.x * 100}%, ${state.y * 100}%) scale(${state.zoom})`;
  const frame = make('div', { className: 'frame' }, img);
  if (state.data.box || state.data.select) frame.append(boxOn(state));
  return frame;
};

const boxOn = ({ box, zoom, x, y }) => {
  const drawn = make('div', { className: 'box' });
  drawn.hidden = !box;
  if (!box) return drawn;
  const [left, top, right, bottom] = box;
  Object.assign(drawn.style, {
    left: `${(left * zoom + x) * 100}%`, top: `${(top * zoom + y) * 100}%`,
    width: `${(right - left) * zoom * 100}%`, height: `${(bottom - top) * zoom * 100}%`,
  });
  return drawn;
};

const draw = (state) => {
  const { stage, tools, said } = state;
  stage.classList.toggle('side', state.mode === 'Side by side');
  stage.classList.toggle('select', !!state.data.select);
  stage.replaceChildren(...shownIn(state).map((p) => frameOf(p, state)));
  for (const button of tools.querySelectorAll('[data-mode]'))
    button.setAttribute('aria-pressed', String(button.dataset.mode === state.mode));
  said.textContent = `${Math.round(state.zoom * 100)} %`;
};

const zoomTo = (state, zoom, at = [0.5, 0.5]) => {
  const next = clamp(zoom, 1, MOST), ratio = next / state.zoom;
  state.x = clamp(at[0] - (at[0] - state.x) * ratio, 1 - next, 0);
  state.y = clamp(at[1] - (at[1] - state.y) * ratio, 1 - next, 0);
  state.zoom = next;
  draw(state);
};

const pan = (state, dx, dy) => {
  state.x = clamp(state.x + dx, 1 - state.zoom, 0);
  state.y = clamp(state.y + dy, 1 - state.zoom, 0);
  draw(state);
};

const setMode = (state, mode) => {
  clearInterval(state.timer);
  state.mode = mode;
  if (mode === 'Flicker') state.timer = setInterval(() => { state.turn += 1; draw(state); }, FLICKER_MS);
  draw(state);
};

const placeIn = (state, event) => {
  const frame = state.stage.querySelector('.frame').getBoundingClientRect();
  const under = [...state.stage.querySelectorAll('.frame')].map((f) => f.getBoundingClientRect())
    .find((f) => event.clientX >= f.left && event.clientX <= f.right) ?? frame;
  return [(event.clientX - under.left) / under.width, (event.clientY - under.top) / under.height];
};

const inPicture = (state, [u, v]) => [clamp((u - state.x) / state.zoom, 0, 1), clamp((v - state.y) / state.zoom, 0, 1)];

const setBox = (state, box) => {
  state.busy = true;
  state.box = box.map((v) => Math.round(v * 1e4) / 1e4);
  for (const old of state.stage.querySelectorAll('.box')) old.replaceWith(boxOn(state));
};

const sendBox = (state) => {
  clearTimeout(state.wait);
  state.busy = false;
  if (state.box) state.send(state.box);
};

// What a pointer that goes down in a picture does: size the box by a corner, move it, or draw another.
const grabbed = (state, [x, y]) => {
  const { box } = state, frame = state.stage.querySelector('.frame').getBoundingClientRect();
  if (!box) return ([u, v]) => boxOf([x, y], [u, v]);
  const near = (a, b, side) => Math.abs(a - b) * side * state.zoom < GRIP;
  const across = near(x, box[0], frame.width) ? 2 : near(x, box[2], frame.width) ? 0 : null;
  const down = near(y, box[1], frame.height) ? 3 : near(y, box[3], frame.height) ? 1 : null;
  if (across !== null && down !== null) return (to) => boxOf([box[across], box[down]], to);
  const inside = x > box[0] && x < box[2] && y > box[1] && y < box[3];
  return inside ? ([u, v]) => moved(box, u - x, v - y) : ([u, v]) => boxOf([x, y], [u, v]);
};

const pointers = (state) => {
  const { stage } = state;
  let from = null, change = null;
  stage.addEventListener('pointerdown', (event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    from = placeIn(state, event);
    change = grabbed(state, inPicture(state, from));
  });
  stage.addEventListener('pointermove', (event) => {
    if (!from) return;
    const to = placeIn(state, event);
    if (state.data.select) {
      setBox(state, change(inPicture(state, to)));
      return;
    }
    pan(state, to[0] - from[0], to[1] - from[1]);
    from = to;
  });
  stage.addEventListener('pointerup', () => {
    if (from && state.busy && state.box && large(state.box)) sendBox(state);
    else forget(state);
    from = null;
  });
  stage.addEventListener('pointercancel', () => { from = null; forget(state); });
  stage.addEventListener('wheel', (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoomTo(state, state.zoom * (event.deltaY < 0 ? STEP : 1 / STEP), placeIn(state, event));
  }, { passive: false });
};

// A click draws no box: the one that was there stays.
const forget = (state) => {
  if (!state.busy) return;
  state.busy = false;
  state.box = state.data.box ?? null;
  draw(state);
};

const boxOf = ([a, b], [c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
const large = ([left, top, right, bottom]) => right - left > 0.01 && bottom - top > 0.01;

const moved = (box, dx, dy) => {
  const width = box[2] - box[0], height = box[3] - box[1];
  const left = clamp(box[0] + dx, 0, 1 - width), top = clamp(box[1] + dy, 0, 1 - height);
  return [left, top, left + width, top + height];
};
const sized = (box, dx, dy) =>
  [box[0], box[1], clamp(box[2] + dx, box[0] + NUDGE, 1), clamp(box[3] + dy, box[1] + NUDGE, 1)];

const keys = (state) => {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  state.stage.addEventListener('keydown', (event) => {
    const way = ways[event.key];
    if (event.key === '+' || event.key === '=') zoomTo(state, state.zoom * STEP);
    else if (event.key === '-') zoomTo(state, state.zoom / STEP);
    else if (event.key === '0') zoomTo(state, 1);
    else if (way && state.data.select) {
      const change = event.shiftKey ? sized : moved;
      setBox(state, change(state.box ?? [0.4, 0.4, 0.6, 0.6], way[0] * NUDGE, way[1] * NUDGE));
      clearTimeout(state.wait);
      state.wait = setTimeout(() => sendBox(state), PAUSE_MS);
    } else if (way) pan(state, -way[0] * NUDGE * 4, -way[1] * NUDGE * 4);
    else if (event.key === 'Enter' && state.data.select && state.box) sendBox(state);
    else return;
    event.preventDefault();
  });
};

const button = (text, label, act) => {
  const made = make('button', { type: 'button', textContent: text, onclick: act });
  if (label) { made.setAttribute('aria-label', label); made.title = label; }
  return made;
};

const toolsOf = (state) => {
  const modes = modesOf(state.data);
  const chosen = modes.length < 2 ? [] : modes.map((mode) => {
    const made = button(mode, '', () => setMode(state, mode));
    made.dataset.mode = mode;
    return made;
  });
  const group = make('span', { className: 'modes', role: 'group' }, ...chosen);
  const zoom = make('span', { className: 'zoom', role: 'group' },
    button('−', 'Zoom out', () => zoomTo(state, state.zoom / STEP)), state.said,
    button('+', 'Zoom in', () => zoomTo(state, state.zoom * STEP)));
  state.corner.replaceChildren(zoom);
  return modes.length < 2 ? [] : [group];
};

const legendOf = ({ legend }) => {
  if (!legend) return [];
  const bar = make('div', { className: 'colours' });
  bar.style.background = `linear-gradient(to right, ${legend.stops.join(', ')})`;
  return [make('div', { className: 'legend', role: 'img', ariaLabel: legend.alt },
    make('span', { textContent: legend.low }), bar, make('span', { textContent: legend.high }))];
};

const started = (root, send) => {
  const state = { zoom: 1, x: 0, y: 0, turn: 0, timer: 0, wait: 0, box: null, busy: false, mode: null, send: (box) => send('box', box) };
  state.stage = make('div', { className: 'stage', tabIndex: 0, role: 'group' });
  state.tools = make('div', { className: 'tools' });
  state.said = make('span', { className: 'percent', ariaLive: 'polite' });
  state.legend = make('div', {});
  state.corner = make('div', { className: 'corner' });
  const pictures = make('div', { className: 'pictures' }, state.stage, state.corner);
  root.querySelector('.viewer').append(state.tools, pictures, state.legend);
  pointers(state);
  keys(state);
  return state;
};

const STATES = new WeakMap();

export default function ({ data, parentElement, setStateValue }) {
  if (!STATES.has(parentElement)) STATES.set(parentElement, started(parentElement, setStateValue));
  const state = STATES.get(parentElement);
  state.data = data;
  if (!state.busy) state.box = data.box ?? null;
  const modes = modesOf(data);
  if (!modes.includes(state.mode)) state.mode = data.start ?? modes[0];
  state.stage.ariaLabel = data.select
    ? `${data.label}. Drag a box; the arrow keys move it, with Shift they size it.`
    : `${data.label}. Plus and minus zoom, arrow keys move.`;
  state.stage.style.setProperty('--ratio', data.ratio);
  parentElement.querySelector('.viewer').style.setProperty('--most', `${data.most}px`);
  state.tools.replaceChildren(...toolsOf(state));
  state.legend.replaceChildren(...legendOf(data));
  draw(state);
  return () => clearInterval(state.timer);
}
