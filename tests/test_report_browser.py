"""The report in a real browser: wide and narrow, light and dark; nothing is loaded, cut off or too wide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pages import VIEWS, fits_and_is_quiet, no_label_is_cut_off_or_covered, shown, started
from reports import Answer, Checked, explained, made

pytestmark = pytest.mark.browser
ANSWERS = [
    Answer("Does it depend on the model?", "yes", 0.12, "With one layer drawn anew, the map is another."),
    Answer("Does it depend on the class?", "no", 0.97, "For the second class the map is nearly the same."),
    Answer("Is it complete?", "unknown", None, "This method does not promise it."),
]
_BEYOND = """() => [...document.querySelectorAll('.card .value, .card .error, .card th')].filter(e => {
    const range = document.createRange(); range.selectNodeContents(e);
    const card = getComputedStyle(e.closest('.card')), room = e.closest('.card').getBoundingClientRect();
    return range.getBoundingClientRect().right > room.right - parseFloat(card.paddingRight) + .5;
}).map(e => e.textContent)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as opened:
        yield opened


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


@pytest.fixture(scope="module", params=VIEWS, ids=lambda view: f"{view[0]}-{view[1]}")
def opened(
    request: pytest.FixtureRequest, browser: Any, report: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    with shown(browser, report, request.param, tmp_path_factory.mktemp("screenshots") / "report") as page:
        yield page


def test_the_page_fits_and_is_quiet(opened: Any, report: Path) -> None:
    fits_and_is_quiet(opened, report)


def test_no_label_is_cut_off_or_covered(opened: Any) -> None:
    assert opened.evaluate("document.querySelectorAll('svg text').length") > 40
    no_label_is_cut_off_or_covered(opened, "svg.axis, svg.panel")
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
