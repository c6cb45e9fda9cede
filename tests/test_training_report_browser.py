"""The page of a training in a real browser: wide and narrow, light and dark; nothing is loaded, cut off or too wide."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.training.job import Told
from sightline.training.report import write_results
from trainings import epochs, pictures, series, training

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM = shutil.which("chromium")
_CUT_OFF = """() => [...document.querySelectorAll('svg text')].filter(text => {
    const box = text.getBoundingClientRect(), svg = text.ownerSVGElement;
    const scaled = svg.viewBox.baseVal && svg.viewBox.baseVal.width;
    const room = (scaled ? svg : text.closest('.card')).getBoundingClientRect();
    return box.width && (box.left < room.left - .5 || box.right > room.right + .5
        || box.top < room.top - .5 || box.bottom > room.bottom + .5);
}).map(text => text.textContent)"""
_OVERLAPS = """() => [...document.querySelectorAll('svg.epochs')].flatMap(svg => {
    const seen = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    const over = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
    return seen.flatMap(([a, box], i) => seen.slice(i + 1).filter(([, b]) => over(box, b)).map(([b]) => a + ' | ' + b));
})"""
_WIDER = """() => [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg')
    && e.getBoundingClientRect().right > innerWidth + .5).map(e => e.tagName + '.' + e.className)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    missing = [
        *([] if CHROMIUM else ["chromium"]),
        *([] if importlib.util.find_spec("playwright") else ["playwright"]),
    ]
    if missing and os.environ.get("SIGHTLINE_BROWSER") == "required":
        pytest.fail(f"SIGHTLINE_BROWSER=required, and there is no {' and no '.join(missing)}")
    if missing:
        pytest.skip(f"the page cannot be opened: no {' and no '.join(missing)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=["pictures", "series"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("training") / ("a_run_of_a_very_long_name_" * 3)
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    if request.param == "pictures":
        val = pictures([0, 9, 120, 128, 10, 140, 255, 250, 230], labels)
        notes = ("words-without-a-space-" * 12, "2 images are in both parts.")
        run = training(out, val, val, rows=epochs(120, 90), notes=notes)
    else:
        run = training(out, series([0, 0.1, 0.4, 0.5, 0.9, 1, 0.1, 1, 1], labels), rows=epochs(1))
    write_results(run, Told())
    return out / "report.html"


@pytest.fixture(
    scope="module",
    params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")],
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def opened(
    request: pytest.FixtureRequest, browser: Any, report: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    width, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.goto(report.as_uri())
    folder = Path(os.environ.get("SIGHTLINE_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    page.screenshot(path=folder / f"training-{width}-{scheme}.png", full_page=True)
    yield page
    page.close()


def test_the_page_fits_and_is_quiet(opened: Any, report: Path) -> None:
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [report.as_uri()]
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.evaluate(_WIDER) == []
    assert opened.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_no_label_is_cut_off_or_covered(opened: Any) -> None:
    assert opened.evaluate("document.querySelectorAll('svg.epochs text').length") > 8
    assert opened.evaluate(_CUT_OFF) == []
    assert opened.evaluate(_OVERLAPS) == []


def test_the_sections_can_be_jumped_to(opened: Any) -> None:
    assert opened.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")


def test_dark_is_dark(opened: Any) -> None:
    scheme = "dark" if opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    shade = opened.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (shade < 60) == (scheme == "dark")
