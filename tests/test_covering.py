"""Covering a region of a picture and asking what changes: against what can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sightline
from sightline.covering import FILLS, ask_region, cover, heat_share, hottest_box, other_places, percent, seen_region
from sightline.demo.scenes import scene
from sightline.errors import ParameterError, TargetError
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models.model import Model
from sightline.predictions import class_probabilities

BOX = (2, 4, 6, 8)
PLAIN = Preprocessing(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)


class Corner(nn.Module):
    """Two classes: how bright rows 4 to 8, columns 2 to 6 are, and 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        bright = self.weight * x[:, :, 4:8, 2:6].mean((1, 2, 3))
        return torch.stack([bright, torch.zeros_like(bright)], 1)


MODEL = Model(Corner(), "corner", PLAIN, Labels(("bright", "dark")))
WHITE = np.full((16, 20, 3), 255, np.uint8)


def sigmoid(z: float) -> float:
    return 1 / (1 + float(np.exp(-z)))


def test_what_is_outside_the_box_stays_and_reveal_is_the_rest() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    inside = np.zeros((12, 9), bool)
    inside[4:8, 2:6] = True
    for fill in FILLS:
        covered, shown = (np.asarray(cover(pixels, BOX, fill, reveal=reveal)) for reveal in (False, True))
        assert (covered[~inside] == pixels[~inside]).all()
        assert (shown[inside] == pixels[inside]).all()
        assert (covered[inside] != pixels[inside]).any()
        assert (shown[~inside] != pixels[~inside]).any()


def test_the_fills_are_what_they_say() -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:, :5] = (200, 100, 0)
    at = {fill: np.asarray(cover(pixels, (4, 4, 6, 6), fill))[4:6, 4:6] for fill in FILLS}
    assert (at["mean"] == (100, 50, 0)).all()
    assert (at["black"] == 0).all()
    assert (at["grey"] == 127).all()
    assert (at["noise"][..., 0] == at["noise"][..., 2]).all()
    assert (np.diff(at["blur"].astype(int)[:, :, 0]) < 0).all()
    assert (at["inpaint"][:, 0, 0] > at["inpaint"][:, 1, 0]).all()
    assert (np.asarray(cover(np.full((9, 9, 3), 77, np.uint8), (3, 3, 6, 6), "inpaint")) == 77).all()


def test_inpainting_a_large_picture_leaks_nothing_of_what_is_covered() -> None:
    pixels = np.zeros((900, 700, 3), np.uint8)
    pixels[301:602, 203:404] = 255
    assert np.asarray(cover(pixels, (203, 301, 404, 602), "inpaint")).max() == 0


@pytest.mark.parametrize("box", [(0, 0, 0, 4), (5, 0, 3, 4), (-1, 0, 4, 4), (0, 0, 21, 4), (0, 0, 4, 17)])
def test_a_box_that_is_not_within_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ParameterError, match="20x16 pixels; wanted left, top"):
        cover(WHITE, box)


def test_another_fill_is_refused() -> None:
    with pytest.raises(ParameterError, match="wanted one of mean, blur"):
        cover(WHITE, BOX, "paint")  # type: ignore[arg-type]


def test_the_answer_is_that_of_the_formula() -> None:
    found = ask_region(MODEL, WHITE, BOX, "bright", fill="black")
    assert found.was == pytest.approx(sigmoid(4))
    assert found.now == pytest.approx(0.5)
    assert found.change == pytest.approx(0.5 - sigmoid(4))
    assert found.others == pytest.approx([sigmoid(4 * (1 - _shared(place) / 16)) for place in found.places], rel=1e-5)
    assert found.matters
    assert found.words == "Without this region “bright” falls from 98.2 % to 50 %: the model uses it."
    assert found.control.endswith("so it is the place that counts and not only the size.")


def _shared(place: tuple[int, int, int, int]) -> int:
    width = min(place[2], 6) - max(place[0], 2)
    return max(0, width) * max(0, min(place[3], 8) - max(place[1], 4))


def test_another_region_hardly_changes_anything_and_the_right_one_alone_is_enough() -> None:
    away = ask_region(MODEL, WHITE, (10, 4, 14, 8), fill="black")
    assert (away.index, away.change, away.matters) == (0, 0.0, False)
    assert "hardly changes" in away.words
    alone = ask_region(MODEL, WHITE, BOX, fill="black", reveal=True)
    assert alone.change == 0
    assert alone.words.endswith("the region is enough.")
    lost = ask_region(MODEL, WHITE, (10, 4, 14, 8), fill="black", reveal=True)
    assert lost.now == 0.5
    assert lost.others.max() > 0.5
    assert "nothing special" in lost.control


def test_what_speaks_against_a_class_is_said_to() -> None:
    found = ask_region(MODEL, WHITE, BOX, "dark", fill="black", draws=0)
    assert "rises from 1.8 % to 50 %: the region speaks against it" in found.words
    assert len(found.others) == 0
    assert np.isnan(found.elsewhere)
    assert "nothing to compare" in found.control


def test_each_pass_is_counted_and_may_end_it() -> None:
    counted: list[int] = []
    ask_region(MODEL, WHITE, BOX, draws=3, tick=counted.append)
    assert counted == [1] * 5
    with pytest.raises(TargetError, match="no label 'green'"):
        ask_region(MODEL, WHITE, BOX, "green", draws=0)


def test_other_places_lie_apart_and_the_same_seed_gives_the_same() -> None:
    places = other_places((0, 0, 10, 10), (0, 0, 100, 100), seed=3)
    assert places == other_places((0, 0, 10, 10), (0, 0, 100, 100), seed=3)
    grid = np.zeros((100, 100), int)
    for left, top, right, bottom in [(0, 0, 10, 10), *places]:
        grid[top:bottom, left:right] += 1
    assert (len(places), grid.max(), grid.sum()) == (8, 1, 900)


def test_a_large_box_has_few_other_places_or_none() -> None:
    assert other_places((0, 0, 10, 10), (0, 0, 10, 10)) == []
    assert other_places((0, 0, 10, 10), (0, 0, 14, 10)) == []
    assert other_places((0, 0, 10, 10), (0, 0, 9, 50)) == []
    assert other_places((0, 0, 2, 2), (0, 0, 4, 2)) == [(2, 0, 4, 2), (1, 0, 3, 2)]


def test_other_places_are_where_the_model_sees_the_picture() -> None:
    cropped = Model(Corner(), "crop", Preprocessing(resize=16, crop=16, mean=(0.0,) * 3, std=(1.0,) * 3))
    wide = np.full((32, 64, 3), 255, np.uint8)
    assert seen_region(cropped, wide) == (16, 0, 48, 32)
    places = ask_region(cropped, wide, (20, 8, 28, 16)).places
    assert len(places) == 8
    assert all(place[0] >= 16 and place[2] <= 48 for place in places)


def test_the_hottest_box_holds_what_is_hot() -> None:
    heat = np.zeros((20, 30), np.float32)
    heat[5:7, 20:24], heat[15:, :4] = 1, -3
    e = sightline.explain("demo/honest", scene(0).image, "input_x_gradient", reduction="sum")
    e = replace(e, attribution=heat[None], input_size=(20, 30), geometry=None)
    box = hottest_box(e, 0.04)
    assert box is not None
    assert (box[2] - box[0], box[3] - box[1]) == (6, 4)
    assert heat_share(e, box) == 1
    assert heat_share(e, (20, 5, 22, 7)) == 0.5
    assert hottest_box(replace(e, attribution=-np.abs(heat)[None]), 0.1) is None
    assert np.isnan(heat_share(replace(e, attribution=np.zeros_like(heat)[None]), box))
    with pytest.raises(ParameterError, match="above 0 and at most 1"):
        hottest_box(e, 0.0)


def test_the_cheating_model_needs_the_mark_and_the_honest_one_does_not() -> None:
    marked = scene(5, label=5, watermark=True)
    rows, columns = np.nonzero(marked.watermark_mask)
    box = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
    cheating, honest = (ask_region(f"demo/{n}", Image.fromarray(marked.image), box) for n in ("cheating", "honest"))
    assert cheating.change < -0.5
    assert cheating.now < cheating.others.min()
    assert abs(honest.change) < 0.05


def test_probabilities_of_all_classes_are_those_that_predict_lists() -> None:
    images = [scene(0).image, scene(1).image]
    rows = class_probabilities("demo/honest", images)
    assert rows.sum(1) == pytest.approx([1, 1], abs=1e-6)
    for row, predictions in zip(rows, sightline.predict("demo/honest", images), strict=True):
        assert [row[p["index"]] for p in predictions] == pytest.approx([p["probability"] for p in predictions])


@pytest.mark.parametrize(("share", "said"), [(0.0, "0.0 %"), (1.0, "100.0 %"), (0.973, "97.3 %"), (0.12, "12 %")])
def test_percentages_are_short(share: float, said: str) -> None:
    assert percent(share) == said
