"""What holds for every metric of localisation, confidence, complexity and axioms: one number an image, and no more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sightline
from nets import make
from sightline.evaluation import METRICS
from sightline.evaluation.measure import measure

NAMES = [
    *("pointing_game", "energy_pointing_game", "relevance_rank", "top_k_intersection", "box_iou"),
    *("average_drop", "average_increase", "average_gain", "top_fraction_drop", "top_fraction_increase", "adcc"),
    *("gini", "entropy", "effective_complexity", "completeness_gap", "dummy", "input_shift_invariance"),
]
SCALED = [n for n in NAMES if n not in ("completeness_gap", "input_shift_invariance")]  # these compare sizes
FEW = {"dummy.cells": 2, "dummy.draws": 1}
NET, X = make("conv", torch.float64)
N = len(X)
MAPS = np.random.default_rng(0).normal(size=(N, *X.shape[2:])).astype(np.float32)
TRUTH = np.zeros(MAPS.shape, bool)
TRUTH[:, 2:7, 3:9] = True


def score(name: str, rows: list[int], scale: float = 1.0, seed: int = 0) -> np.ndarray:
    asked = {k: v for k, v in FEW.items() if k.startswith(name)}
    maps, truth = MAPS[rows] * scale, TRUTH[rows]
    if name == "input_shift_invariance":  # it compares with what the method gives, and takes no other map
        maps = np.stack([e.at_input() for e in sightline.explain(NET, X[rows], "input_x_gradient", target=1)])
    found = measure(
        NET, maps, X[rows], name, target=1, truth=truth, method="input_x_gradient", seed=seed, parameters=asked
    )
    return found[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_gives_one_number_an_image_whatever_the_batch(name: str) -> None:
    # Elsewhere some give one for all, some a table; and other images of the batch change a score.
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    together, turned = score(name, [*range(N)]), score(name, [*range(N)][::-1])[::-1]
    alone = np.concatenate([score(name, [i]) for i in range(N)])
    assert together.shape == (N,)
    assert together.dtype == np.float64
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(together, turned, rtol=1e-6, atol=1e-9)
    assert torch.equal(state[0], torch.random.get_rng_state())
    assert (state[1] == np.random.get_state()[1]).all()


@pytest.mark.parametrize("name", SCALED)
def test_a_positive_factor_changes_nothing(name: str) -> None:
    every = [*range(N)]
    np.testing.assert_allclose(score(name, every, 1000.0), score(name, every), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_sentence_and_the_source_are_there(name: str) -> None:
    found = METRICS[name]
    assert found.summary.endswith((".", "0.", "1."))
    assert "arXiv:" in found.cite
