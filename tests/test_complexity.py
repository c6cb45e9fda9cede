"""Gini, entropy and effective complexity against closed forms, each map by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightline.evaluation import METRICS, find_metric
from sightline.evaluation.measure import measure

NAMES = ["gini", "entropy", "effective_complexity"]
P = 36


def score(name: str, maps: Any, **parameters: Any) -> np.ndarray:
    maps = np.asarray(maps, np.float32).reshape(len(maps), 6, 6)
    net = nn.Sequential(nn.Flatten(), nn.Linear(P, 2)).eval()
    given = {f"{name}.{k}": v for k, v in parameters.items()}
    return measure(net, maps, torch.zeros(len(maps), 1, 6, 6), name, target=0, parameters=given)[name]


@pytest.mark.parametrize(
    ("name", "even", "single"), [("gini", 0, 1 - 1 / P), ("entropy", 1, 0), ("effective_complexity", 1, 1 / P)]
)
def test_the_most_even_and_the_most_concentrated_map(name: str, even: float, single: float) -> None:
    signs = np.where(np.arange(P) % 2, 2.0, -2.0)  # only the size counts
    np.testing.assert_allclose(score(name, [signs, -7.0 * (np.arange(P) == 5)]), [even, single], atol=1e-12)


def test_half_of_the_positions_alike() -> None:
    half = (np.arange(P) < P / 2).astype(float)
    assert score("gini", [half])[0] == pytest.approx(0.5)
    assert score("entropy", [half])[0] == pytest.approx(np.log(P / 2) / np.log(P))
    assert score("effective_complexity", [half])[0] == 0.5


def test_gini_is_the_mean_absolute_difference_over_twice_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=P)
    size = np.abs(values.astype(np.float32)).astype(float)
    expected = np.abs(size[:, None] - size).mean() / (2 * size.mean())
    assert score("gini", [values])[0] == pytest.approx(expected)


def test_the_threshold_is_relative_to_the_largest() -> None:
    values = np.array([100.0, 2.0, 1.0, 0.5, *[0.0] * (P - 4)])
    assert score("effective_complexity", [values], threshold=0.015)[0] == pytest.approx(2 / P)
    assert score("effective_complexity", [values], threshold=0.003)[0] == pytest.approx(4 / P)


@pytest.mark.parametrize("name", NAMES)
def test_a_map_a_billion_times_larger_in_the_batch_changes_nothing(name: str) -> None:
    # Elsewhere the batch is normalised together, and the smaller maps drown.
    maps = np.random.default_rng(1).normal(size=(3, P))
    alone = [score(name, m[None])[0] for m in maps]
    together = score(name, maps * np.array([[1.0], [1e9], [1.0]]))
    np.testing.assert_array_equal(together[::2], alone[::2])
    assert together[1] == pytest.approx(alone[1])


@pytest.mark.parametrize("scale", [1e-37, 1e-9, 3.0, 1e37])
@pytest.mark.parametrize("name", NAMES)
def test_no_scale_is_too_small_or_too_large(name: str, scale: float) -> None:
    maps = np.random.default_rng(1).uniform(0.1, 1, size=(2, P))
    np.testing.assert_allclose(score(name, maps * scale), score(name, maps), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_map_of_zeros_is_undefined(name: str) -> None:
    assert np.isnan(score(name, np.zeros((1, P)))[0])


def test_they_describe_and_do_not_rank() -> None:
    assert {METRICS[name].better for name in NAMES} == {"neither"}
    assert find_metric("Sparseness") is METRICS["gini"]
    assert find_metric("complexity") is METRICS["entropy"]
