"""The app under test: a server of its own, and what a visitor does on its pages."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from sightline.app.settings import Settings

SECONDS = 60_000
LOOKS = [(1280, "light"), (390, "dark")]
_ASKERS = count()


@contextmanager
def served(settings: Settings | None = None, folder: Path | None = None) -> Iterator[str]:
    """Start the app on a free port and give its address; nothing of it is left behind."""
    asked = settings or Settings()
    models = [part for name in asked.models for part in ("--model", name)]
    line = [sys.executable, "-c", "from sightline.cli.main import main; main()", "app", "--port", "$PORT", *models]
    limits = ["--upload-mb", asked.upload_mb, "--megapixels", asked.megapixels, "--reports", asked.reports]
    limits += ["--model-seconds", asked.model_seconds, "--model-gb", asked.model_gb]
    limits += ["--keep-seconds", asked.keep_seconds]
    with started([*line, *map(str, limits)], folder) as address:
        yield address


@contextmanager
def started(line: list[str], folder: Path | None = None) -> Iterator[str]:
    """Run a command line that starts the app, in which $PORT is a free port, and give the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    server = subprocess.Popen(
        [part.replace("$PORT", port) for part in line],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(server, address)
        yield address
    finally:
        server.terminate()
        server.communicate(timeout=60)


def _wait_for(server: subprocess.Popen[bytes], address: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if server.poll() is not None:
            raise AssertionError((server.stdout.read() if server.stdout else b"").decode())
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the app did not start in a minute")


@contextmanager
def visit(
    browser: Any, address: str, width: int = 1280, scheme: str = "light", *, settle: bool = True, alone: bool = False
) -> Iterator[Any]:
    """Open a page of the app; at the end it must have reported nothing and asked no one else.

    Pages of one browser share its cache, which halves what opening one costs, and nothing else: who comes ``alone``
    shares nothing with a page that is open at the same time. ``said`` holds what the browser reported.
    """
    context = _context(browser, alone)
    page = context.new_page()
    try:
        _watched(page)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.goto(address)
        if settle:
            settled(page)
        yield page
        assert page.said == []
        page.evaluate("localStorage.clear()")
        context.clear_cookies()
        page.close()
    except BaseException:
        alone = True
        raise
    finally:
        if alone:
            context.close()


def _context(browser: Any, alone: bool) -> Any:
    kept = getattr(browser, "kept", None)
    if kept in browser.contexts and not alone:
        return kept
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(SECONDS)
    context.add_init_script(_rest())
    if not alone:
        browser.kept = context
    return context


def _watched(page: Any) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if _is_fault(message) else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: said.append(asked.url) if _elsewhere(asked.url) else None)
    page.said = said


@cache
def _rest() -> str:
    """Return the script that follows what a page has yet to do, with the numbers of Streamlit's messages."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    fields = {
        "rerun": BackMsg.RERUN_SCRIPT_FIELD_NUMBER,
        "requests": [BackMsg.FILE_URLS_REQUEST_FIELD_NUMBER, BackMsg.BACKEND_OPERATION_REQUEST_FIELD_NUMBER],
        "begun": ForwardMsg.NEW_SESSION_FIELD_NUMBER,
        "ended": ForwardMsg.SCRIPT_FINISHED_FIELD_NUMBER,
        "early": ForwardMsg.FINISHED_EARLY_FOR_RERUN,
        "responses": [ForwardMsg.FILE_URLS_RESPONSE_FIELD_NUMBER, ForwardMsg.BACKEND_OPERATION_RESPONSE_FIELD_NUMBER],
        "heartbeat": ForwardMsg.HEARTBEAT_ACK_FIELD_NUMBER,
    }
    script = Path(__file__).with_name("rest.js").read_text(encoding="utf-8")
    return f"({script})({json.dumps(fields)})"


def _is_fault(message: Any) -> bool:
    """Say whether the browser reports a fault; Streamlit asks below a page's address first where the server is."""
    return message.type == "error" and not re.search(r"/_stcore/(health|host-config)$", message.location["url"])


def _elsewhere(url: str) -> bool:
    return not re.match(r"(http|ws)://127\.0\.0\.1[:/]|data:|blob:", url)


def settled(page: Any) -> None:
    """Wait until all that was begun in the page has ended: the script's runs, what is loaded, what is drawn."""
    from playwright.sync_api import TimeoutError as LateError

    try:
        page.wait_for_function("(asker) => window.atRestSince(asker)", arg=next(_ASKERS))
    except LateError as error:
        error.add_note(f"the page has yet to do: {page.evaluate('window.yetToDo()')}")
        raise


def expect(what: Any) -> Any:
    """Return playwright's assertions of a locator, each of which waits until it is so."""
    from playwright.sync_api import expect as waiting

    waiting.set_options(timeout=SECONDS)
    return waiting(what)


def choose(page: Any, label: str, option: str) -> None:
    """Choose an option of the selectbox or multiselect of that label, and wait for what comes of it."""
    choose_only(page, label, option)
    settled(page)


def choose_only(page: Any, label: str, option: str) -> None:
    """Choose an option of the selectbox or multiselect of that label."""
    field = page.get_by_role("combobox", name=re.compile(re.escape(label)))
    field.click()
    field.fill(option)
    page.get_by_role("option", name=option, exact=True).first.click()
    page.keyboard.press("Escape")


def pictures(page: Any, name: str) -> None:
    """Take pictures of the page in both colour schemes."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        picture(page, f"{name}-{page.viewport_size['width']}-{scheme}")


def picture(page: Any, name: str) -> None:
    """Take a picture of the whole page, however long, where a folder for screenshots is named."""
    settled(page)
    folder = os.environ.get("SIGHTLINE_SCREENSHOTS")
    if not folder:
        return
    view = page.viewport_size
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": view["width"], "height": max(view["height"], min(height + 40, 6000))})
    settled(page)
    page.screenshot(path=Path(folder) / f"{name}.png")
    page.set_viewport_size(view)
