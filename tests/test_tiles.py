"""Large pictures: tile by tile, put together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import drawn
from sightline.demo.scenes import scene
from sightline.errors import ParameterError, RefusedError
from sightline.geometry import Preprocessing
from sightline.models.model import Model

PLAIN = Preprocessing(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)


class Additive(nn.Module):
    """Scores that are sums over pixels, so that a pixel's share is the same in every tile."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -0.5]]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("kc,nchw->nk", self.weight, x)


def picture(height: int = 70, width: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def additive() -> Model:
    return Model(Additive(), "additive", PLAIN)


@pytest.mark.parametrize(("tile", "overlap"), [(16, 0.0), (16, 0.5), (24, 0.3), (50, 0.25)])
def test_tiles_of_a_sum_over_pixels_give_the_whole_map(additive: Model, tile: int, overlap: float) -> None:
    image = picture()
    whole = sightline.explain(additive, image, "input_x_gradient", 0)
    parts = sightline.explain(additive, image, "input_x_gradient", 0, tile=tile, overlap=overlap)
    assert np.allclose(parts.heatmap, whole.heatmap, atol=1e-5)
    assert parts.heatmap.shape == (70, 50)


def test_one_tile_is_the_plain_explanation() -> None:
    image = scene(0).image
    model = sightline.load("demo/honest")
    one = sightline.explain(model, image, "grad_cam", tile=max(image.shape))
    plain = sightline.explain(model, image, "grad_cam")
    assert np.allclose(one.heatmap, plain.heatmap, atol=1e-5 * np.abs(plain.heatmap).max())
    assert one.target == plain.target
    assert one.predictions[0]["probability"] == pytest.approx(plain.predictions[0]["probability"])


def test_every_tile_is_asked_about_the_class_of_the_whole() -> None:
    model = sightline.load("demo/honest")
    left, right = scene(0).image, scene(1).image
    wide = np.concatenate((left, right), 1)
    tile = left.shape[0]
    found = sightline.explain(model, wide, "gradient", "top2", tile=tile, overlap=0.0)
    x = torch.stack([model.prepare(model.read(side))[0] for side in (left, right)])
    with torch.no_grad():
        chances = model.module(x).softmax(1).mean(0)
    assert [e.target.index for e in found] == chances.topk(2).indices.tolist()
    for e in found:
        sides = sightline.explain(model, [left, right], "gradient", e.target.index)
        assert np.allclose(e.heatmap[:, :tile], sides[0].heatmap, atol=1e-6)
        assert np.allclose(e.heatmap[:, tile:], sides[1].heatmap, atol=1e-6)
        assert e.score == pytest.approx(np.mean([s.score for s in sides]), abs=1e-5)


def test_a_class_asked_for_twice_comes_twice(additive: Model) -> None:
    found = sightline.explain(additive, picture(), "gradient", [1, "top1", "top2"], tile=32)
    assert len(found) == 4
    same = [e for e in found if e.target.index == 1]
    assert len(same) >= 2
    assert all(np.array_equal(e.heatmap, same[0].heatmap) and e.score == same[0].score for e in same)


def test_what_the_result_says(additive: Model) -> None:
    e = sightline.explain(additive, picture(), "input_x_gradient", 0, tile=32, overlap=0.5)
    assert e.parameters["tile"] == 32
    assert e.parameters["overlap"] == 0.5
    assert "tiles of 32 pixels" in e.notes[0]
    assert e.completeness is None
    assert e.render("overlay").size == (50, 70)


def test_saved_and_loaded(additive: Model, tmp_path) -> None:
    e = sightline.explain(additive, picture(), "rise", 0, tile=32, samples=8)
    again = sightline.Explanation.load(e.save(tmp_path / "tiled.npz"))
    assert np.array_equal(again.heatmap, e.heatmap)
    assert again.standard_error == e.standard_error > 0


def test_several_pictures_and_methods_in_order(additive: Model) -> None:
    found = sightline.explain(additive, [picture(), picture(30, 90)], ["gradient", "edges"], [0, 1], tile=32)
    assert [(e.heatmap.shape, e.method, e.target.index) for e in found] == [
        (size, m, t) for size in ((70, 50), (30, 90)) for m in ("gradient", "edges") for t in (0, 1)
    ]


@pytest.mark.parametrize(
    ("given", "word"),
    [({"tile": 4}, "at least 8"), ({"tile": 32.5}, "whole number"), ({"tile": 32, "overlap": 0.95}, "0 to 0.9")],
)
def test_sizes_that_make_no_tiles(additive: Model, given: dict, word: str) -> None:
    with pytest.raises(ParameterError, match=word):
        sightline.explain(additive, picture(), "gradient", 0, **given)


def test_tensors_and_targets_for_each_image_are_refused(additive: Model) -> None:
    with pytest.raises(ParameterError, match="cuts pictures"):
        sightline.explain(additive, torch.zeros(1, 3, 64, 64), "gradient", 0, tile=32)
    with pytest.raises(ParameterError, match="one target"):
        sightline.explain(additive, [picture()], "gradient", np.array([0]), tile=32)


def test_a_refused_method_leaves_the_others(additive: Model, tmp_path) -> None:
    from sightline.engine import explanations

    failures = []
    found = list(
        explanations(additive, picture(), ["guided_backprop", "gradient"], 0, tile=32, on_failure=failures.append)
    )
    assert [e.method for _, e in found] == ["gradient"]
    assert [(f.method, type(f.error)) for f in failures] == [("guided_backprop", RefusedError)]


def test_an_unreadable_picture_leaves_the_others(additive: Model, tmp_path) -> None:
    from sightline.engine import explanations

    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    failures = []
    found = list(explanations(additive, [str(bad), picture()], "gradient", 0, tile=32, on_failure=failures.append))
    assert len(found) == 1
    assert [f.image for f in failures] == [str(bad)]


def test_a_net_with_a_fixed_input_size_sees_whole_tiles() -> None:
    net = drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, 2)))
    model = Model(net, "fixed", Preprocessing(resize=36, crop=32, mean=(0.5,) * 3, std=(0.5,) * 3))
    e = sightline.explain(model, picture(100, 120), "gradient", 0, tile=50, overlap=0.2)
    assert np.isfinite(e.heatmap).all()
    assert e.heatmap.shape == (100, 120)
