"""How alike maps are: rank correlations against scipy's, on one grid for models that see different parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

import sightline
from sightline.agreement import agreement
from sightline.demo.scenes import scene
from sightline.errors import InputError, ParameterError
from sightline.explanation import Explanation
from sightline.geometry import Geometry

SIZE = (12, 16)
FIRST = sightline.explain("demo/honest", scene(0).image, "grad_cam")


def of(values: np.ndarray, geometry: Geometry | None = None) -> Explanation:
    """Return an explanation with a map of one's own, by default at the size of its picture."""
    where = geometry or Geometry.identity(values.shape)
    return replace(FIRST, attribution=values.astype(np.float32), input_size=values.shape, geometry=where)


def test_it_is_the_rank_correlation_of_the_maps() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, *SIZE)).astype(np.float32)
    found = agreement([of(a), of(b), of(np.exp(a)), of(-a)])
    assert found[0, 1] == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    assert found[0] == pytest.approx([1, found[0, 1], 1, -1])
    assert found == pytest.approx(found.T)


def test_a_map_that_is_the_same_everywhere_agrees_with_none() -> None:
    found = agreement([of(np.ones(SIZE)), of(np.arange(192.0).reshape(SIZE))])
    assert np.isnan(found[0]).all()
    assert found[1, 1] == 1


def test_maps_of_other_grain_agree_by_cells_where_they_do_not_by_pixels() -> None:
    rng = np.random.default_rng(1)
    coarse = np.repeat(np.repeat(np.arange(12.0).reshape(3, 4), 4, 0), 4, 1)
    fine = coarse + 12 * rng.normal(size=SIZE)
    maps = [of(coarse), of(fine)]
    assert agreement(maps)[0, 1] < 0.5
    means = fine.reshape(4, 3, 4, 4).mean((1, 3)), coarse.reshape(4, 3, 4, 4).mean((1, 3))
    assert agreement(maps, cells=4)[0, 1] == pytest.approx(spearmanr(*(m.ravel() for m in means)).statistic, abs=1e-6)
    assert agreement(maps, cells=4)[0, 1] > 0.6


def test_models_that_see_other_parts_are_compared_where_both_see() -> None:
    whole = np.arange(12.0 * 16).reshape(SIZE)
    cropped = of(whole[:, 2:14], Geometry(SIZE, SIZE, (0, 2), (12, 12)))
    assert agreement([cropped, of(whole)])[0, 1] == pytest.approx(1)
    assert agreement([of(whole), cropped])[0, 1] == pytest.approx(1)
    assert agreement([of(whole), cropped], cells=3)[0, 1] == pytest.approx(1)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        agreement([])
    with pytest.raises(InputError, match="wanted explanations of one picture"):
        agreement([of(np.ones((4, 4))), of(np.ones((5, 4)))])
    with pytest.raises(ParameterError, match="cells=1"):
        agreement([FIRST], cells=1)
