"""The app under test: a server of its own, and what a visitor does on its pages."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightline.app.settings import Settings

SECONDS = 60_000


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
    browser: Any, address: str, width: int = 1280, scheme: str = "light", *, settle: bool = True
) -> Iterator[Any]:
    """Open a page of the app in a context of its own; at the end it must have reported nothing and asked no one else.

    ``said`` holds what the browser reported.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if _is_fault(message) else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: said.append(asked.url) if _elsewhere(asked.url) else None)
    page.said = said
    page.goto(address)
    if settle:
        settled(page)
    yield page
    assert said == []
    context.close()


def _is_fault(message: Any) -> bool:
    """Say whether the browser reports a fault; Streamlit asks below a page's address first where the server is."""
    return message.type == "error" and not re.search(r"/_stcore/(health|host-config)$", message.location["url"])


def _elsewhere(url: str) -> bool:
    return not re.match(r"(http|ws)://127\.0\.0\.1[:/]|data:|blob:", url)


def settled(page: Any) -> None:
    """Wait until the script has run: what a click began has begun after 0.3 s, and nothing is running or stale."""
    page.wait_for_selector("[data-testid=stMain] [data-testid=stHeading]")
    page.wait_for_timeout(300)
    page.wait_for_function("""() => !document.querySelector('[data-test-script-state="running"]')
        && !document.querySelector('[data-testid=stSkeleton], [data-stale=true]')""")


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


def picture(page: Any, folder: Path, name: str) -> None:
    """Take a picture of the whole page, however long, into the folder for screenshots."""
    view = page.viewport_size
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": view["width"], "height": max(view["height"], min(height + 40, 6000))})
    page.wait_for_timeout(300)
    where = Path(os.environ.get("SIGHTLINE_SCREENSHOTS") or folder)
    page.screenshot(path=where / f"{name}.png")
    page.set_viewport_size(view)


@contextmanager
def visit_page(browser: Any, address: str, path: str, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """Open one of the app's pages by its path and query, as `visit` opens the first.

    Streamlit looks for its own files below the page's path before it looks at the root, which the browser reports.
    """
    with visit(browser, f"{address}/{path}", width, scheme) as page:
        yield page
        page.said[:] = [line for line in page.said if "status of 404" not in line]
