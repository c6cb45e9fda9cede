"""Metrics over cells of a grid against loops written out, exact linear models, and where they are undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from faithful import half_right, normal, pixel_net
from nets import make
from sightline.evaluation.measure import measure
from sightline.evaluation.measuring import counted
from sightline.evaluation.metrics.agreement import pearson, spearman
from sightline.evaluation.metrics.cells import drawn_subsets
from sightline.models.load import load

NET, X = make("conv")
MAPS = normal(3, *X.shape[2:], seed=9).float()
OVER_SETS = ["sensitivity_n", "mu_fidelity", "infidelity"]


def logit(image: Tensor) -> float:
    with torch.no_grad():
        return float(NET(image[None]).double()[0, 1])


def cells_of(image: Tensor, side: int) -> list[np.ndarray]:
    """Return the places of the cells, row by row; sides that they do not divide give cells of unequal size."""
    rows, columns = (np.arange(s) * side // s for s in image.shape[1:])
    return [np.outer(rows == i, columns == j) for i in range(side) for j in range(side)]


def without(image: Tensor, places: np.ndarray) -> Tensor:
    return image * torch.from_numpy(~places).to(image)


def forecast(image: Tensor, heat: Tensor, side: int, subsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the map gives each set of cells, and what it costs to cover it."""
    cells, given, drops = cells_of(image, side), [], []
    for subset in subsets:
        places = np.any([c for c, inside in zip(cells, subset, strict=True) if inside], axis=0)
        given.append(float(heat.double().numpy()[places].sum()))
        drops.append(logit(image) - logit(without(image, places)))
    return np.array(given), np.array(drops)


def wanted(name: str, given: np.ndarray, drops: np.ndarray) -> float:
    if name == "infidelity":
        scale = max(0.0, (given * drops).mean() / (given**2).mean())
        return float(((scale * given - drops) ** 2).mean() / (drops**2).mean())
    found = stats.spearmanr(given, drops) if name == "mu_fidelity" else stats.pearsonr(given, drops)
    return float(found.statistic)


@pytest.mark.parametrize("side", [4, 3])
def test_single_deletion_is_that_of_a_loop_over_cells(side: int) -> None:
    found = measure(NET, MAPS, X, target=1, parameters={"single_deletion.cells": side})["single_deletion"]
    for row, (image, heat) in enumerate(zip(X, MAPS, strict=True)):
        given, drops = forecast(image, heat, side, np.eye(side**2, dtype=bool))
        assert found[row] == pytest.approx(stats.spearmanr(given, drops).statistic, abs=1e-6)


@pytest.mark.parametrize("name", OVER_SETS)
@pytest.mark.parametrize("side", [4, 5])
def test_sets_of_cells_are_those_of_a_loop(name: str, side: int) -> None:
    """Also where cells do not divide the side, on which Infidelity of another tool fails."""
    how = {f"{name}.cells": side, f"{name}.samples": 12, f"{name}.share": 0.3}
    found = measure(NET, MAPS, X, name, target=1, seed=4, parameters=how)[name]
    subsets = drawn_subsets(side**2, 0.3, 12, seed=4).numpy()
    for row, (image, heat) in enumerate(zip(X, MAPS, strict=True)):
        assert found[row] == pytest.approx(wanted(name, *forecast(image, heat, side, subsets)), abs=1e-5)


def test_sets_are_of_one_size_and_all_cells_take_part() -> None:
    drawn = drawn_subsets(64, 0.25, 200, seed=0)
    assert drawn.sum(1).unique().tolist() == [16]
    assert (drawn.double().mean(0) - 0.25).abs().max() < 0.15
    assert drawn_subsets(9, 0.0, 5, seed=0).sum(1).unique().tolist() == [1]


@pytest.mark.parametrize(
    ("name", "best"), [*[(n, 1.0) for n in ("single_deletion", *OVER_SETS[:2])], ("infidelity", 0.0)]
)
@pytest.mark.parametrize("size", [(16, 16), (13, 11)])
def test_the_exact_attribution_of_a_linear_net_has_the_best_value(name: str, best: float, size: Any) -> None:
    net, x, exact = pixel_net(*size)
    np.testing.assert_allclose(measure(net, exact, x, name, target=0)[name], best, atol=2e-4)


def test_infidelity_is_one_for_a_map_upside_down_and_between_for_a_noisy_one() -> None:
    net, x, exact = pixel_net(16, 16)
    upside = measure(net, -exact, x, "infidelity", target=0)["infidelity"]
    noisy = measure(net, half_right(exact), x, "infidelity", target=0)["infidelity"]
    np.testing.assert_allclose(upside, 1)
    assert ((noisy > 1e-4) & (noisy < 1)).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("single_deletion", 0.1),
        ("sensitivity_n", 0.1),
        ("mu_fidelity", 0.1),
        ("infidelity", 0.0),
        ("sensitivity_n", 0.0),
    ],
)
def test_a_map_that_says_nothing_is_undefined(name: str, value: float) -> None:
    """Sums of 0.1 differ by rounding: that is not an order."""
    net, x, exact = pixel_net(16, 16)
    maps = exact.clone()
    maps[1] = value
    found = measure(net, maps, x, name, target=0, parameters={f"{name}.cells": 4})[name]
    assert np.isnan(found).tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", ["single_deletion", *OVER_SETS])
def test_a_net_that_does_not_look_is_undefined(name: str) -> None:
    net, x, exact = pixel_net(16, 16)
    net.weights.data.zero_()
    assert np.isnan(measure(net, exact, x, name, target=0)[name]).all()


def test_sets_are_covered_once_for_sensitivity_n_and_infidelity() -> None:
    net, x, exact = pixel_net(16, 16)
    model = load(net)
    with counted(model) as passed:
        measure(model, exact, x, "sensitivity_n,infidelity", target=0)
    assert passed[0] <= len(x) * (64 + 2)


def test_correlations_are_those_of_scipy() -> None:
    a, b = normal(4, 30, seed=1), normal(4, 30, seed=2).round()
    for row in range(4):
        assert pearson(a, b)[row].item() == pytest.approx(stats.pearsonr(a[row], b[row]).statistic)
        assert spearman(a, b)[row].item() == pytest.approx(stats.spearmanr(a[row], b[row]).statistic)


def test_values_that_differ_by_rounding_are_constant() -> None:
    nearly = 0.3 * (1 + 1e-15 * normal(1, 20))
    for correlation in (pearson, spearman):
        assert correlation(nearly, normal(1, 20, seed=3)).isnan().all()
