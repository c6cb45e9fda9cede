"""Pages in a real browser: how one is opened, and what is looked for in it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
_CUT_OFF = """() => [...document.querySelectorAll('svg text')].filter(text => {
    const box = text.getBoundingClientRect(), svg = text.ownerSVGElement;
    const scaled = svg.viewBox.baseVal && svg.viewBox.baseVal.width;
    const room = (scaled ? svg : text.closest('.card')).getBoundingClientRect();
    return box.width && (box.left < room.left - .5 || box.right > room.right + .5
        || box.top < room.top - .5 || box.bottom > room.bottom + .5);
}).map(text => text.textContent)"""
_OVERLAPS = """selector => [...document.querySelectorAll(selector)].flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    const seen = texts.filter(([, box]) => box.width);
    const over = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
    return seen.flatMap(([a, box], i) => seen.slice(i + 1).filter(([, b]) => over(box, b)).map(([b]) => a + ' | ' + b));
})"""
_WIDER = """() => [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg')
    && e.getBoundingClientRect().right > innerWidth + .5).map(e => e.tagName + '.' + e.className)"""


@contextmanager
def started() -> Iterator[Any]:
    """Start chromium, or skip with what is missing; fail where the environment says that it has to be there."""
    missing = [
        *([] if CHROMIUM else ["chromium"]),
        *([] if importlib.util.find_spec("playwright") else ["playwright"]),
    ]
    if missing and os.environ.get("SIGHTLINE_BROWSER") == "required":
        pytest.fail(f"SIGHTLINE_BROWSER=required, and there is no {' and no '.join(missing)}")
    if missing:
        pytest.skip(f"pages cannot be opened: no {' and no '.join(missing)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@contextmanager
def shown(browser: Any, file: Path, view: tuple[int, str], picture: Path) -> Iterator[Any]:
    """Open a file in a view and take its picture; ``said`` and ``asked`` hold what it reported and what it loaded."""
    width, scheme = view
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.goto(file.as_uri())
    folder = Path(os.environ.get("SIGHTLINE_SCREENSHOTS") or picture.parent)
    page.screenshot(path=folder / f"{picture.name}-{width}-{scheme}.png", full_page=True)
    yield page
    page.close()


def fits_and_is_quiet(page: Any, file: Path) -> None:
    """Check that a page reports nothing, loads nothing but itself, and is no wider than the window."""
    assert page.said == []
    assert [url for url in page.asked if not url.startswith("data:")] == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(_WIDER) == []
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def no_label_is_cut_off_or_covered(page: Any, panels: str) -> None:
    """Check that every text of a drawing lies in it, and that none lies on another within ``panels``."""
    assert page.evaluate(_CUT_OFF) == []
    assert page.evaluate(_OVERLAPS, panels) == []
