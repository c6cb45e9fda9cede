"""The map that a store keeps is the explanation's, laid over the original at the store's size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import sightline
from sightline.batch.maps import stored_map


@pytest.mark.parametrize("size", [(96, 96), (57, 333), (400, 300)])
@pytest.mark.parametrize("how", ["bilinear", "bicubic", "nearest", "spline"])
def test_a_layer_s_map_is_brought_over_in_one_step_as_in_two(size: tuple[int, int], how: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    e = sightline.explain("demo/honest", pixels, "grad_cam", upsampling=how)
    assert e.geometry is not None
    for side in (8, 64):
        twice = replace(e.geometry, original=(side, side)).to_original(e.at_input())
        values, scale = stored_map(e, (side, side))
        assert scale == pytest.approx(np.nanmax(np.abs(twice)), rel=1e-5)
        assert np.array_equal(np.isnan(values), np.isnan(twice))
        np.testing.assert_allclose(values * np.float32(scale), twice, atol=1e-3 * scale)


def test_a_map_of_the_input_s_size_keeps_its_mean() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    e = sightline.explain("demo/honest", pixels, "gradient", reduction="max-abs")
    values, scale = stored_map(e, (8, 8))
    assert np.abs(values).max() == 1
    assert scale * values.mean(dtype=np.float64) == pytest.approx(e.heatmap.mean(), rel=0.1)
