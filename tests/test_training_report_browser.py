"""The page of a training in a real browser: wide and narrow, light and dark; nothing is loaded, cut off or too wide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages import VIEWS, fits_and_is_quiet, no_label_is_cut_off_or_covered, shown, started
from sightline.training.job import Told
from sightline.training.report import write_results
from trainings import epochs, pictures, series, training

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as opened:
        yield opened


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


@pytest.fixture(scope="module", params=VIEWS, ids=lambda view: f"{view[0]}-{view[1]}")
def opened(
    request: pytest.FixtureRequest, browser: Any, report: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    with shown(browser, report, request.param, tmp_path_factory.mktemp("screenshots") / "training") as page:
        yield page


def test_the_page_fits_and_is_quiet(opened: Any, report: Path) -> None:
    fits_and_is_quiet(opened, report)


def test_no_label_is_cut_off_or_covered(opened: Any) -> None:
    assert opened.evaluate("document.querySelectorAll('svg.epochs text').length") > 8
    no_label_is_cut_off_or_covered(opened, "svg.epochs")


def test_the_sections_can_be_jumped_to(opened: Any) -> None:
    assert opened.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")


def test_dark_is_dark(opened: Any) -> None:
    scheme = "dark" if opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    shade = opened.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (shade < 60) == (scheme == "dark")
