"""The curves of a training: where lines, ticks and marks lie, and pictures of short, long and broken runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.evaluation.mistakes.classification import class_numbers
from sightline.training.curves import _drawable, charts, draw_curves, draw_roc, rate_changes
from sightline.training.history import best_row
from trainings import epochs


def test_the_learning_rate_changes_where_it_does() -> None:
    assert [r.epoch for r in rate_changes(epochs(10))] == [6]
    assert rate_changes(epochs(1)) == []


def test_lines_run_from_the_first_epoch_to_the_last_and_the_best_lies_on_its_line() -> None:
    rows = epochs(10, 7)
    loss, accuracy = charts(rows, best_row(rows))
    for chart in (loss, accuracy):
        for _, places in chart.lines:
            assert (places[0][0], places[-1][0]) == (0, 1)
            assert all(0 <= y <= 1 for _, y in places)
        assert chart.best in dict(chart.lines)["validation"]
        assert chart.changes == [pytest.approx(5 / 9)]
    assert accuracy.best is not None
    assert accuracy.best[0] == pytest.approx(6 / 9)
    assert dict(loss.lines)["training"][0][1] > dict(loss.lines)["training"][-1][1]


@pytest.mark.parametrize("count", [1, 2, 7, 13, 100, 250])
def test_a_few_round_epochs_are_numbered(count: int) -> None:
    chart = charts(epochs(count), epochs(count)[0])[0]
    assert 1 <= len(chart.epochs) <= 7
    assert all(1 <= e <= count and 0 <= at <= 1 for at, e in chart.epochs)


def test_a_loss_that_is_not_finite_leaves_a_gap_and_the_rest() -> None:
    rows = (*epochs(3), replace(epochs(4)[3], val_loss=math.nan))
    chart = charts(rows, rows[2])[0]
    assert len(dict(chart.lines)["validation"]) == 3
    assert charts(rows, rows[3])[0].best is None


@pytest.mark.parametrize("count", [1, 3, 60])
def test_the_picture_is_drawn_and_no_global_state_is_touched(tmp_path: Path, count: int) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    rows = epochs(count)
    with Image.open(draw_curves(rows, best_row(rows), tmp_path / "c.png", "costs $5 and $6")) as drawn:
        assert drawn.size[0] == 1536
        assert len(np.unique(np.asarray(drawn.convert("L")))) > 20
    assert dict(matplotlib.rcParams) == before
    assert [f.name for f in tmp_path.iterdir()] == ["c.png"]


def test_roc_curves_of_many_classes_are_drawn_and_of_one_class_are_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truths, chances = np.arange(60) % 12, rng.random((60, 12))
    many = class_numbers(truths, chances.argmax(1), chances, {i: f"a ${'long ' * 9}name {i}" for i in range(12)})
    assert draw_roc(many, tmp_path / "many.png", "all") == tmp_path / "many.png"
    one = class_numbers(np.zeros(4, int), np.zeros(4, int), chances[:4], {0: "only"})
    assert draw_roc(one, tmp_path / "one.png", "one") is None
    assert not (tmp_path / "one.png").exists()


def test_a_name_that_the_font_cannot_draw_is_a_number(tmp_path: Path) -> None:
    """Warnings are errors here, and matplotlib warns of each letter that it would draw as an empty box."""
    chances = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    found = class_numbers(np.array([0, 1, 1, 0]), chances.argmax(1), chances, {0: "三角形", 1: "Kreis"})
    file = draw_roc(found, tmp_path / "roc.png", "shapes")
    assert file is not None
    assert file.is_file()
    assert [_drawable(c) for c in found] == ["class 0", "Kreis"]
