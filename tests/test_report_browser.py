"""The report in a real browser: wide and narrow, light and dark; nothing is loaded, cut off or too wide."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports import Answer, Checked, explained, made

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium")
ANSWERS = [
    Answer("Does it depend on the model?", "yes", 0.12, "With one layer drawn anew, the map is another."),
    Answer("Does it depend on the class?", "no", 0.97, "For the second class the map is nearly the same."),
    Answer("Is it complete?", "unknown", None, "This method does not promise it."),
]
_CUT_OFF = """() => [...document.querySelectorAll('svg text')].filter(text => {
    const box = text.getBoundingClientRect(), svg = text.ownerSVGElement;
    const scaled = svg.viewBox.baseVal && svg.viewBox.baseVal.width;
    const room = (scaled ? svg : text.closest('.card')).getBoundingClientRect();
    return box.width && (box.left < room.left - .5 || box.right > room.right + .5
        || box.top < room.top - .5 || box.bottom > room.bottom + .5);
}).map(text => text.textContent)"""
_OVERLAPS = """() => [...document.querySelectorAll('svg.axis, svg.panel')].flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    const seen = texts.filter(([, box]) => box.width);
    const over = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
    return seen.flatMap(([a, box], i) => seen.slice(i + 1).filter(([, b]) => over(box, b)).map(([b]) => a + ' | ' + b));
})"""
_BEYOND = """() => [...document.querySelectorAll('.card .value, .card .error, .card th')].filter(e => {
    const range = document.createRange(); range.selectNodeContents(e);
    const card = getComputedStyle(e.closest('.card')), room = e.closest('.card').getBoundingClientRect();
    return range.getBoundingClientRect().right > room.right - parseFloat(card.paddingRight) + .5;
}).map(e => e.textContent)"""
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
        pytest.skip(f"the report cannot be opened: no {' and no '.join(missing)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    methods = ("grad_cam", "contrastive_excitation_backprop", "gradient", "random", "edges", "centre", "constant")
    cells = [explained(m) for m in methods]
    object.__setattr__(cells[0], "check", Checked(ANSWERS))
    long = "/".join(["a_directory_of_a_very_long_name"] * 4) + "/photo.png"
    found = made(
        methods,
        findings=["The model looks at the lower right corner in 4 of 8 images."],
        shown=[cells, [explained(m, "W" * 60 + ".png", "a class of an unusually long name " * 2) for m in methods]],
        skipped=[{"image": f"/{long}", "method": None, "metric": None, "reason": f"/{long} is not an image."}],
    )
    close = [replace(r, value=0.2823 + r.value / 200) if "single" in r.metric else r for r in found.rows]
    near = [replace(c, score=0.2823 + c.score / 200) if c.metric == "deletion" else c for c in found.curves]
    return replace(found, rows=close, curves=near).report(tmp_path_factory.mktemp("report") / "report.html")


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
    page.screenshot(path=folder / f"report-{width}-{scheme}.png", full_page=True)
    yield page
    page.close()


def test_the_page_fits_and_is_quiet(opened: Any, report: Path) -> None:
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [report.as_uri()]
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.evaluate(_WIDER) == []
    assert opened.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_no_label_is_cut_off_or_covered(opened: Any) -> None:
    assert opened.evaluate("document.querySelectorAll('svg text').length") > 40
    assert opened.evaluate(_CUT_OFF) == []
    assert opened.evaluate(_OVERLAPS) == []
    assert opened.evaluate(_BEYOND) == []


def test_it_is_used_by_keyboard(opened: Any) -> None:
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "Skip to the content"
    opened.locator("#numbers details:not([open]) summary").first.focus()
    opened.keyboard.press("Enter")
    assert opened.locator("#numbers details[open]").count() == 2


def test_dark_is_dark(opened: Any) -> None:
    scheme = "dark" if opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    shade = opened.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (shade < 60) == (scheme == "dark")
