"""Sampled methods say how far they may be off, and stop early where that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from sightline.methods import METHODS
from sightline.sobol import design, standard_errors, total_indices

SEEDS = range(24)


class Gated(nn.Module):
    """Scores with interactions between the quarters of an 8 x 8 image, so that sampling matters."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = (x[:, 0, i : i + 4, j : j + 4].mean((1, 2)) for i in (0, 4) for j in (0, 4))
        score = 3 * a + 2 * a * b + b * c * d + torch.sin(3 * c) * d
        return torch.stack((score, -score), 1)


X = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
NET = Gated().double()


def run(method: str, seed: int, **more: object) -> sightline.Explanation:
    return sightline.explain(NET, X, method, 0, seed=seed, count=16, **more)[0]


@pytest.mark.parametrize(
    ("method", "samples"), [("shapley_sampling", 12), ("kernel_shap", 100), ("lime", 150), ("rise", 150)]
)
def test_the_standard_error_is_the_spread_over_seeds(method: str, samples: int) -> None:
    more = {"samples": samples} | ({"segments": "grid"} if method == "lime" else {})
    if method == "rise":
        found = [sightline.explain(NET, X, "rise", 0, seed=s, cells=4, **more)[0] for s in SEEDS]
    else:
        found = [run(method, seed, **more) for seed in SEEDS]
    spread = np.stack([e.attribution for e in found]).std(0, ddof=1).mean()
    said = np.mean([e.standard_error for e in found])
    assert 0.6 < said / spread < 1.5


def test_the_standard_error_of_total_indices_is_the_spread_over_seeds() -> None:
    def scores(levels: Tensor) -> Tensor:
        return (levels[:, :1] + 2 * levels[:, 1:2] * levels[:, 2:3]).double()

    generator = torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(60):  # random points, for which the error is meant: quasi-random ones do better
        first, second = torch.rand(2, 64, 3, generator=generator)
        levels = torch.cat([first, *(first.clone().index_copy(1, torch.tensor([i]), second[:, [i]]) for i in range(3))])
        drawn.append((total_indices(scores(levels), 64), standard_errors(scores(levels), 64)))
    spread, said = torch.stack([i for i, _ in drawn]).std(0), torch.stack([e for _, e in drawn]).mean(0)
    assert bool((said / spread > 0.6).all())
    assert bool((said / spread < 1.6).all())
    assert design(3, 64, 0).shape == levels.shape


def test_exact_shapley_values_have_no_error() -> None:
    assert run("kernel_shap", 0, segments=torch.arange(4).reshape(2, 2).repeat_interleave(4, 0).repeat_interleave(4, 1),
               samples=20).standard_error == 0  # fmt: skip


@pytest.mark.parametrize(
    ("method", "samples", "tolerance"),
    [("shapley_sampling", 200, 0.1), ("kernel_shap", 3000, 0.05), ("lime", 3000, 0.02)],
)
def test_with_a_tolerance_it_stops_when_the_error_is_small_enough(method, samples, tolerance, monkeypatch) -> None:
    seen = []
    forward = Gated.forward
    monkeypatch.setattr(Gated, "forward", lambda self, x: (seen.append(len(x)), forward(self, x))[1])
    more = {"segments": "grid"} if method == "lime" else {}
    stopped = run(method, 0, samples=samples, tolerance=tolerance, chunk=10, **more)
    passes, span = sum(seen), stopped.attribution.max() - stopped.attribution.min()
    seen.clear()
    run(method, 0, samples=samples, chunk=10, **more)
    assert passes < 0.6 * sum(seen)
    assert 0 < stopped.standard_error <= tolerance * span


@pytest.mark.parametrize("method", ["shapley_sampling", "kernel_shap"])
def test_what_was_stopped_early_still_adds_up(method: str) -> None:
    e = run(method, 0, samples=200, tolerance=0.2)
    assert e.completeness.gap < 1e-9


def test_every_method_that_takes_a_tolerance_reports_an_error() -> None:
    for name, m in METHODS.items():
        if "tolerance" in m.parameters:
            assert sightline.explain(NET, X, name, 0, samples=60)[0].standard_error is not None
