"""Many visitors at once in the app: nothing mixed, nothing broken, and the memory given back.

    python benchmarks/app.py [--visitors 20] [--seconds 600] [--json]

Starts the app on 127.0.0.1. One visitor alone asks every question first and keeps the answers: the titles, the classes'
bars and the hash of every picture. Then so many visitors ask the same questions at once, each in an order of its own,
come, change what they ask, look at other pages, leave and come back; every answer is compared with the one that was
given alone. They speak Streamlit's own protocol, so no browser is needed. The exit code is 1 for any fault.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.util import calc_hash

from sightline.app.examples import EXAMPLES
from sightline.demo.scenes import CLASSES

MODELS = ("demo/honest", "demo/cheating", "demo/vit")
METHODS = ("gradient", "input_x_gradient", "integrated_gradients", "occlusion", "grad_cam", "layer_cam")
PAGES = ("compare", "check", "ask", "signals", "errors", "trainings", "learn")
QUESTIONS, LONGEST, STAYS = 24, 120.0, 4
TTL = 15  # seconds for which the app keeps a session that left


@dataclass(frozen=True)
class Question:
    """What a visitor asks of the first page."""

    picture: str
    model: str
    target: str
    methods: tuple[str, ...]

    @property
    def url(self) -> str:
        """The question as a query string."""
        asked = [("picture", self.picture), ("model", self.model), ("target", self.target)]
        return urlencode(asked + [("method", m) for m in self.methods])

    def answers(self, titles: Sequence[str]) -> bool:
        """Say whether titles are of the methods and the class that were asked."""
        label = self.target.partition(" (")[0]
        return len(titles) == len(self.methods) and all(
            t.startswith(f"**{m} ") and f"“{label}”" in t for t, m in zip(titles, self.methods, strict=True)
        )


@dataclass(frozen=True)
class Answer:
    """What a page says: its titles of maps, what its components show, and what went wrong."""

    titles: tuple[str, ...]
    shown: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass
class Outcome:
    """What came of all visits."""

    seconds: list[float] = field(default_factory=list)
    pages: int = 0
    sessions: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def questions(seed: int = 0) -> list[Question]:
    """Return a mix of pictures, models, classes and methods, always the same."""
    draw = random.Random(seed)
    made = []
    for n in range(QUESTIONS):
        target = draw.randrange(len(CLASSES))
        methods = draw.sample(METHODS, 1 + n % 2)
        picture, model = draw.choice(list(EXAMPLES)), MODELS[n % len(MODELS)]
        made.append(Question(picture, model, f"{CLASSES[target]} ({target})", tuple(methods)))
    return made


# --- one visitor --------------------------------------------------------------------------------------------


class Visitor:
    """A session of its own in the app, without a browser."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._widgets: dict[str, str] = {}
        self._socket: Any = None

    async def __aenter__(self) -> Visitor:
        where = f"ws://127.0.0.1:{self._port}/_stcore/stream"
        self._socket = await websockets.connect(where, subprotocols=["streamlit"], max_size=None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()

    async def ask(self, query: str = "", page: str = "explain") -> Answer:
        """Open a page by its address and return what it says."""
        return await self._run(self._message(query, page))

    async def change(self, question: Question) -> Answer:
        """Set picture, class and methods as a visitor who is there does; the model stays."""
        message = self._message("", "explain")
        states = message.rerun_script.widget_states.widgets
        for key, value in (("picture", question.picture), ("target", question.target)):
            states.add(id=self._widgets[key], string_value=value)
        states.add(id=self._widgets["model"], string_value=question.model)
        states.add(id=self._widgets["method"]).string_array_value.data.extend(question.methods)
        return await self._run(message)

    def _message(self, query: str, page: str) -> BackMsg:
        message = BackMsg()
        message.rerun_script.query_string = query
        message.rerun_script.page_script_hash = calc_hash(page)
        message.rerun_script.context_info.url = f"http://127.0.0.1:{self._port}/{page}"
        return message

    async def _run(self, message: BackMsg) -> Answer:
        await self._socket.send(message.SerializeToString())
        async with asyncio.timeout(LONGEST):
            return self._read([m async for m in self._until_finished()])

    async def _until_finished(self) -> Any:
        while True:
            message = ForwardMsg.FromString(await self._socket.recv())
            yield message
            if message.WhichOneof("type") == "script_finished":
                return

    def _read(self, messages: Sequence[ForwardMsg]) -> Answer:
        placed: dict[tuple[int, ...], Any] = {}
        faults = [f"the run ended as {m.script_finished}" for m in messages[-1:] if m.script_finished]
        for m in (m for m in messages if m.WhichOneof("type") == "delta"):
            path = tuple(m.metadata.delta_path)
            placed = {p: e for p, e in placed.items() if p[: len(path)] != path}
            if m.delta.WhichOneof("type") == "new_element":
                placed[path] = m.delta.new_element
        elements = [placed[path] for path in sorted(placed)]
        self._remember(elements)
        return Answer(tuple(_titles(elements)), tuple(_shown(elements)), (*faults, *_faults(elements)))

    def _remember(self, elements: Sequence[Any]) -> None:
        for e in elements:
            kind = e.WhichOneof("type")
            if kind in ("selectbox", "multiselect"):
                widget = getattr(e, kind)
                self._widgets[widget.query_param_key] = widget.id


def _titles(elements: Sequence[Any]) -> Iterator[str]:
    for e in elements:
        if e.WhichOneof("type") == "markdown" and " · why " in e.markdown.body:
            yield e.markdown.body


def _shown(elements: Sequence[Any]) -> Iterator[str]:
    """Yield a hash of what each component shows: the bars with their numbers, the pictures byte by byte."""
    for e in elements:
        if e.WhichOneof("type") == "bidi_component":
            data = e.bidi_component
            kind = data.WhichOneof("data")
            value = getattr(data, kind) if kind else ""
            raw = value.SerializeToString(deterministic=True) if hasattr(value, "SerializeToString") else value
            raw = raw.encode() if isinstance(raw, str) else raw
            yield f"{data.component_name} {hashlib.sha256(raw).hexdigest()[:16]}"


def _faults(elements: Sequence[Any]) -> Iterator[str]:
    for e in elements:
        kind = e.WhichOneof("type")
        if kind == "exception":
            yield f"exception: {e.exception.type} {e.exception.message}"
        elif kind == "alert" and e.alert.format == e.alert.ERROR:
            yield f"error: {e.alert.body}"


# --- all of them --------------------------------------------------------------------------------------------


async def alone(port: int, asked: Sequence[Question]) -> dict[Question, Answer]:
    """Return the answers that one visitor gets who has the app to himself; a fault among them ends it all."""
    found = {}
    for question in asked:
        async with Visitor(port) as visitor:
            answer = await visitor.ask(question.url)
        if answer.faults or not answer.shown or not question.answers(answer.titles):
            raise SystemExit(f"alone already: {question} is answered by {answer}")
        found[question] = answer
    for page in PAGES:
        async with Visitor(port) as visitor:
            if faults := (await visitor.ask(page=page)).faults:
                raise SystemExit(f"alone already: the page {page} says {faults}")
    return found


async def visits(port: int, known: dict[Question, Answer], number: int, until: float, out: Outcome) -> None:
    """Come, ask, change, look at another page, leave and come back until the time is over."""
    draw = random.Random(number)
    await asyncio.sleep(draw.random() * 2)
    while time.monotonic() < until:
        try:
            async with Visitor(port) as visitor:
                out.sessions += 1
                await _stay(visitor, known, draw, until, out)
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            out.errors.append(f"visitor {number}: {type(error).__name__} {error}")
        await asyncio.sleep(draw.random() * 2)


async def _stay(
    visitor: Visitor, known: dict[Question, Answer], draw: random.Random, until: float, out: Outcome
) -> None:
    first = draw.choice(list(known))
    _judge(first, known[first], await _timed(visitor.ask(first.url), out), out)
    same = [q for q in known if q.model == first.model]
    for _ in range(draw.randrange(STAYS)):
        await asyncio.sleep(draw.random())
        if time.monotonic() > until:
            return
        question = draw.choice(same)
        _judge(question, known[question], await _timed(visitor.change(question), out), out)
    if draw.random() < 0.4:
        page = draw.choice(PAGES)
        answer = await _timed(visitor.ask(page=page), out)
        out.pages += 1
        out.errors += [f"{page}: {fault}" for fault in answer.faults]


async def _timed(asked: Any, out: Outcome) -> Answer:
    started = time.perf_counter()
    answer: Answer = await asked
    out.seconds.append(time.perf_counter() - started)
    return answer


def _judge(question: Question, expected: Answer, answer: Answer, out: Outcome) -> None:
    out.errors += [f"{question}: {fault}" for fault in answer.faults]
    if not answer.faults and (answer.titles, answer.shown) != (expected.titles, expected.shown):
        out.wrong.append(f"{question}: {answer.titles}, wanted {expected.titles}")


# --- the server ---------------------------------------------------------------------------------------------


@contextmanager
def served() -> Iterator[tuple[int, int]]:
    """Start the app; give its port and its process's id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-c", "from sightline.cli.main import main; main()", "app", "--port", str(port)]
        server = subprocess.Popen([*line, "--reports", folder], stdout=subprocess.DEVNULL)
        try:
            _wait_for(port, server)
            yield port, server.pid
        finally:
            server.terminate()
            server.wait(20)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the app did not start")


def memory(pid: int) -> float:
    """Return the resident memory of a process and of its children in MB."""
    about = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    own = next((int(line.split()[1]) for line in about.splitlines() if line.startswith("VmRSS")), 0) / 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return own + sum(memory(int(child)) for child in children if os.path.exists(f"/proc/{child}"))


async def watch(pid: int, seen: list[float]) -> None:
    """Note the memory twice a second."""
    while True:
        seen.append(memory(pid))
        await asyncio.sleep(0.5)


async def measured(port: int, pid: int, visitors: int, seconds: float) -> dict[str, Any]:
    """Run all of it and return the numbers."""
    known = await alone(port, questions())
    await asyncio.sleep(TTL + 5)
    before, seen, out = memory(pid), [], Outcome()
    watching = asyncio.create_task(watch(pid, seen))
    until = time.monotonic() + seconds
    await asyncio.gather(*(visits(port, known, n, until, out) for n in range(visitors)))
    await asyncio.sleep(TTL + 15)
    watching.cancel()
    return _numbers(out, visitors, seconds, (before, max(seen), memory(pid)))


def _numbers(out: Outcome, visitors: int, seconds: float, megabytes: tuple[float, float, float]) -> dict[str, Any]:
    times = sorted(out.seconds) or [float("nan")]
    return {
        "visitors": visitors,
        "seconds": seconds,
        "sessions": out.sessions,
        "answers": len(out.seconds),
        "other_pages": out.pages,
        "wrong": len(out.wrong),
        "errors": len(out.errors),
        "examples": [*out.wrong[:5], *out.errors[:5]],
        "median_s": round(statistics.median(times), 3),
        "p95_s": round(times[min(len(times) - 1, int(0.95 * len(times)))], 3),
        "longest_s": round(times[-1], 3),
        "mb_before": round(megabytes[0]),
        "mb_peak": round(megabytes[1]),
        "mb_after": round(megabytes[2]),
    }


def main() -> None:
    """Read the command line, run, print, and say by the exit code whether all was right."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with served() as (port, pid):
        found = asyncio.run(measured(port, pid, asked.visitors, asked.seconds))
    print(json.dumps(found, indent=1) if asked.json else "\n".join(f"{k:12} {v}" for k, v in found.items()))
    raise SystemExit(1 if found["wrong"] or found["errors"] else 0)


if __name__ == "__main__":
    main()
