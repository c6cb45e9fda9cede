"""Metrics over maps that are there already: explanations, arrays, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sightline
from sightline.demo.scenes import scene
from sightline.errors import InputError, ParameterError
from sightline.evaluation.measure import measure

PICTURES = [scene(i).image for i in range(3)]


def test_an_explanation_knows_its_picture_and_its_target() -> None:
    made = sightline.explain("demo/honest", PICTURES, "grad_cam", target="top2")[1::2]
    by_itself = measure("demo/honest", made)
    indices = torch.tensor([e.target.index for e in made])
    arrays = np.stack([e.at_input() for e in made])
    as_arrays = measure("demo/honest", arrays, PICTURES, target=sightline.targets.per_image(indices.tolist()))
    np.testing.assert_allclose(by_itself["single_deletion"], as_arrays["single_deletion"])


def test_a_batch_gives_what_its_images_give() -> None:
    made = sightline.explain("demo/honest", PICTURES, "gradient")
    together = measure("demo/honest", made, metric="single_deletion,insertion,deletion")
    for row, one in enumerate(made):
        alone = measure("demo/honest", one, metric="single_deletion,insertion,deletion")
        for name, values in together.items():
            assert alone[name][0] == pytest.approx(values[row], abs=1e-5)


@pytest.mark.parametrize(
    ("maps", "images", "said"),
    [
        (np.zeros((5, 5)), PICTURES[:1], r"shape \(5, 5\) came; wanted the model's input, \(96, 96\)"),
        (np.full((96, 96), np.nan), PICTURES[:1], "NaN or infinity"),
        (np.zeros((2, 96, 96)), PICTURES[:1], "2 maps came for 1 images"),
        (np.zeros((96, 96)), None, "give images="),
    ],
)
def test_what_does_not_fit_is_said(maps: np.ndarray, images: list[np.ndarray] | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        measure("demo/honest", maps, images)


def test_scaled_maps_are_not_compared_with_what_the_method_gives() -> None:
    made = sightline.explain("demo/honest", PICTURES, "gradient")
    arrays = np.stack([e.at_input() for e in made])
    how = {"method": "gradient", "target": sightline.targets.per_image([e.target.index for e in made])}
    same = measure("demo/honest", arrays, PICTURES, "max_sensitivity", **how)
    assert same["max_sensitivity"] == pytest.approx(
        measure("demo/honest", made, metric="max_sensitivity")["max_sensitivity"]
    )
    with pytest.raises(InputError, match="not what gradient gives here"):
        measure("demo/honest", 3 * arrays, PICTURES, "max_sensitivity", **how)


def test_one_method_at_a_time() -> None:
    made = sightline.explain("demo/honest", PICTURES[0], "gradient,grad_cam")
    with pytest.raises(ParameterError, match="several methods"):
        measure("demo/honest", made)


def test_a_heatmap_on_the_photo_may_be_unknown_where_the_crop_cut_it_off() -> None:
    how = sightline.Preprocessing(resize=96, crop=96, mean=(0.5,) * 3, std=(0.25,) * 3)
    model = sightline.load(sightline.load("demo/honest").module, preprocessing=how)
    wide = np.pad(PICTURES[0], ((0, 0), (30, 30), (0, 0)), mode="edge")
    e = sightline.explain(model, wide)
    assert np.isnan(e.heatmap).any()
    there, here = measure(model, e.heatmap, wide), measure(model, e, wide)
    assert there["single_deletion"][0] == pytest.approx(here["single_deletion"][0], abs=0.05)
    with pytest.raises(InputError, match="NaN"):
        measure(model, np.full_like(e.heatmap, np.nan), wide)


def test_a_map_on_the_original_is_brought_to_the_input() -> None:
    large = np.kron(PICTURES[0], np.ones((2, 2, 1), np.uint8))
    e = sightline.explain("demo/honest", large)
    there, here = measure("demo/honest", e.heatmap, large), measure("demo/honest", e, large)
    assert there["single_deletion"][0] == pytest.approx(here["single_deletion"][0], abs=0.05)
