"""What the page Check tries, without a browser: remembered under what was asked, few points for many layers."""

from __future__ import annotations

import math

import pytest
from PIL import Image

from sightline.app import subject as subjects
from sightline.app import trials
from sightline.app.examples import EXAMPLES
from sightline.app.parts.charts import Line, _lowest
from sightline.app.parts.randomise import _counts, _listed
from sightline.app.store import Store
from sightline.app.subject import Asked, Chosen, Subject
from sightline.app.trials import Curve, Shuffle, ShuffledMap, Similarity, is_tried, tried
from sightline.models.load import load

CHOSEN = Chosen(load("demo/honest"), "honest")
PICTURE = Subject(Image.fromarray(EXAMPLES["ring"].draw().image), "ring", "ring")


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    kept = Store(1 << 24)
    for module in (trials, subjects):
        monkeypatch.setattr(module, "store_of", lambda *, private: kept)
    return kept


@pytest.mark.parametrize(
    "trial",
    [
        ShuffledMap(Asked("gradient"), Shuffle(2)),
        Similarity(Asked("gradient"), Shuffle(2)),
        Curve(Asked("gradient"), "insertion", "mean"),
    ],
)
def test_a_trial_is_made_once_and_fits_what_it_says(trial: Curve) -> None:
    assert not is_tried(CHOSEN, PICTURE, trial)
    made = tried(CHOSEN, PICTURE, trial)
    assert is_tried(CHOSEN, PICTURE, trial)
    assert tried(CHOSEN, PICTURE, trial) is made
    assert 0 < trial.size(made) < 1 << 21


def test_another_seed_order_or_fill_is_another_trial() -> None:
    asked = Asked("edges")
    assert len({Shuffle(2), Shuffle(2, seed=1), Shuffle(2, "independent"), Shuffle(3), Shuffle(2)}) == 4
    assert len({Curve(asked), Curve(asked, "insertion"), Curve(asked, fill="mean"), Curve(asked)}) == 3


def test_the_number_and_the_map_tell_the_same_similarity() -> None:
    how, asked = Shuffle(4, seed=3), Asked("gradient", target="1")
    number, whole = tried(CHOSEN, PICTURE, Similarity(asked, how)), tried(CHOSEN, PICTURE, ShuffledMap(asked, how))
    assert number == whole.similarity
    assert whole.explanation.target.index == 1


def test_the_chart_of_a_deep_model_has_few_points_and_the_chosen_one() -> None:
    assert _counts(6, 2) == [0, 1, 2, 3, 4, 5, 6]
    many = _counts(161, 50)
    assert len(many) == 14
    assert {0, 50, 161} <= set(many)


def test_long_lists_of_layers_are_cut_in_the_middle() -> None:
    assert _listed(["a", ""]) == "`a`, `weights outside of any layer`"
    assert _listed([str(i) for i in range(10)]) == "`0`, `1`, `2`, … 5 more …, `8`, `9`"


def test_the_scale_of_a_chart_begins_at_0_or_below_whatever_cannot_be_compared() -> None:
    assert _lowest([Line("a", [0, 1], [0.5, math.nan], ["", ""])]) == 0
    assert _lowest([Line("a", [0, 1], [1.0, -0.5], ["", ""]), Line("b", [0], [math.nan], [""])]) == -0.5
