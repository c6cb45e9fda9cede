"""Owen values and anchors: brute force, SHAP's partition explainer, and what the bounds promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from sightline.errors import ParameterError, RefusedError
from sightline.methods.anchors import kl_bounds
from sightline.targets import contrast, joint

ALL = 10_000  # evaluations: enough for every part


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3)
    return nn.Sequential(*layers).double().requires_grad_(False)


def images(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(2, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orders(tree) -> list[list[int]]:
    """All orders in which the leaves of a tree can join so that each part joins as a whole."""
    if isinstance(tree, int):
        return [[tree]]
    left, right = (orders(part) for part in tree)
    return [a + b for x, y in itertools.product(left, right) for a, b in ((x, y), (y, x))]


def test_owen_values_are_the_mean_over_the_orders_that_the_tree_allows():
    torch.manual_seed(2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 2)).double().requires_grad_(False)
    x = images(6)
    tree = ((0, (1, 2)), (3, (4, 5)))  # 6 is 3 + 3, 3 is 1 + 2
    for e, image in zip(sightline.explain(net, x, "owen", 1, evaluations=ALL), x, strict=True):
        wanted, allowed = np.zeros(6), orders(tree)
        for order in allowed:
            kept = torch.zeros(6, dtype=torch.float64)
            for i in order:
                before = net((image * kept)[None])[0, 1]
                kept[i] = 1
                wanted[i] += float(net((image * kept)[None])[0, 1] - before) / len(allowed)
        assert np.allclose(e.attribution, wanted, atol=1e-7)


@pytest.mark.parametrize("size", [(4, 4), (2, 8), (8, 2), (16, 1)])
def test_owen_values_are_shaps_when_all_parts_are_reached(net, size):
    shap = pytest.importorskip("shap", reason="shap, a development dependency, is not installed")
    x, fill = images(*size), 0.3

    def score(batch: np.ndarray) -> np.ndarray:
        return net(torch.as_tensor(batch).permute(0, 3, 1, 2).double()).numpy()

    masker = shap.maskers.Image(np.full((*size, 1), fill))
    explainer = shap.explainers.Partition(score, masker)
    theirs = explainer(x.permute(0, 2, 3, 1).numpy(), max_evals=ALL, outputs=[1], silent=True).values
    ours = sightline.explain(net, x, "owen", 1, evaluations=ALL, fill=torch.tensor(fill))
    for e, values in zip(ours, theirs, strict=True):
        assert np.allclose(e.attribution, values[..., 0, 0], atol=1e-6)


@pytest.mark.parametrize("evaluations", [2, 3, 10, 64, 200])
def test_any_budget_is_kept_and_adds_up(net, evaluations):
    rows = [0]

    def score(batch: Tensor) -> Tensor:
        rows[0] += len(batch)
        return net(batch.double())

    for e in sightline.explain(sightline.load(score), images(4, 4), "owen", 1, evaluations=evaluations):
        assert e.completeness.gap < 1e-6
    # The image, the covered one, and pairs of halves, of which there are 1 + 4 + 16 + 64 in 16 positions.
    assert rows[0] == 2 * (2 + min(2 * (evaluations // 2), 170))


def test_what_is_not_reached_is_spread_evenly(net):
    x = images(4, 4)[:1]
    (e,) = sightline.explain(net, x, "owen", 1, evaluations=2)
    assert len(np.unique(e.attribution[:2])) == len(np.unique(e.attribution[2:])) == 1
    top, bottom = torch.zeros(4, 4), torch.zeros(4, 4)
    top[:2], bottom[2:] = 1, 1
    f = {k: float(net(x * m)[0, 1]) for k, m in {"": top * 0, "t": top, "b": bottom, "tb": top + bottom}.items()}
    assert e.attribution[0, 0] * 8 == pytest.approx((f["t"] - f[""] + f["tb"] - f["b"]) / 2, abs=1e-6)


def test_the_parts_that_gain_most_are_shared_first():
    """One pixel decides: the search goes down to its surroundings, and leaves the rest of the image alone."""
    x = torch.ones(1, 1, 64, 64, dtype=torch.float64)
    (e,) = sightline.explain(lambda b: torch.stack((b[:, 0, 17, 42], b[:, 0, 3, 3] * 0), 1), x, "owen", 0)
    assert e.attribution[16:24, 40:48].sum() == pytest.approx(1)
    assert np.abs(e.attribution).sum() == pytest.approx(1)


# Anchors.

QUARTERS = torch.arange(2).repeat_interleave(4)[:, None] * 2 + torch.arange(2).repeat_interleave(4)[None]


def both(batch: Tensor) -> Tensor:
    """Class 1 where quarters 0 and 3 are both bright; what is in the others does not matter."""
    kept = (batch[:, 0, 0, 0] > 0.5) & (batch[:, 0, 7, 7] > 0.5)
    return torch.stack((torch.full((len(batch),), 4.0), 8 * kept.float()), 1)


def test_the_anchor_is_what_the_class_needs():
    for e in sightline.explain(both, torch.ones(2, 1, 8, 8), "anchors", 1, segments=QUARTERS, fill="zero"):
        assert np.array_equal(e.attribution, np.isin(QUARTERS, (0, 3)))
        (note,) = e.notes
        assert note.startswith("anchor: 2 of 4 segments, precision 1.00 (0.9")
        assert note.endswith("coverage 0.25")


def test_a_class_that_nothing_changes_needs_no_anchor():
    (e,) = sightline.explain(lambda b: b.new_tensor([[0.0, 9.0]]).expand(len(b), 2), torch.ones(1, 1, 8, 8), "anchors")
    assert not e.attribution.any()
    assert "no segment is needed" in e.notes[0]
    assert len(e.notes) == 1


def test_any_class_keeps_its_rank():
    def score(batch: Tensor) -> Tensor:
        second = 2 * batch[:, 0, 0, 0]  # falls behind the third without quarter 0
        return torch.stack((torch.full_like(second, 9), second, torch.ones_like(second)), 1)

    (e,) = sightline.explain(score, torch.ones(1, 1, 8, 8), "anchors", 1, segments=QUARTERS, fill="zero")
    assert np.array_equal(e.attribution, QUARTERS == 0)


@pytest.mark.parametrize("samples", [1, 5, 30])
def test_too_few_samples_are_said(samples):
    said = {"segments": QUARTERS, "fill": "zero", "samples": samples}
    (e,) = sightline.explain(both, torch.ones(1, 1, 8, 8), "anchors", 1, **said)
    assert f"no anchor of precision 0.95 was found within {samples} samples" in e.notes[0]


@pytest.mark.parametrize("target", [contrast(1, 0), joint(0, 1), lambda logits: logits[:, 0]])
def test_anchors_are_of_one_class(target):
    with pytest.raises(RefusedError, match="is not one class; give a class, or use kernel_shap or lime"):
        sightline.explain(both, torch.ones(1, 1, 8, 8), "anchors", target)


def test_the_precision_is_as_often_outside_its_bounds_as_they_say():
    """Of 2000 coins of 0.9, each thrown 60 times, the lower bound is above 0.9 for less than 5 of 100."""
    thrown = torch.rand(2000, 60, generator=torch.Generator().manual_seed(0)) < 0.9
    lows, highs = zip(*(kl_bounds(float(p), 60, math.log(20)) for p in thrown.double().mean(1)), strict=True)
    assert 0.001 < np.mean(np.array(lows) > 0.9) < 0.05
    assert 0.001 < np.mean(np.array(highs) < 0.9) < 0.05


@pytest.mark.parametrize(("mean", "tried", "level"), [(0.3, 50, 2.0), (0.0, 10, 1.0), (1.0, 10, 1.0)])
def test_the_bounds_solve_their_equation(mean, tried, level):
    def divergence(q: float) -> float:
        return sum(a * math.log(a / b) for a, b in ((mean, q), (1 - mean, 1 - q)) if a > 0)

    low, high = kl_bounds(mean, tried, level)
    assert low <= mean <= high
    for bound in (b for b in (low, high) if 0 < b < 1 and b != mean):
        assert tried * divergence(bound) == pytest.approx(level, rel=1e-6)
    assert kl_bounds(mean, 0, level) == pytest.approx((0, 1))


@pytest.mark.parametrize(
    ("method", "given", "words"),
    [
        ("owen", {"evaluations": 0}, "owen.evaluations=0: wanted a whole number of at least 2"),
        ("anchors", {"tau": 1.5}, "anchors.tau=1.5: wanted a number from 0.01 to 0.999"),
        ("anchors", {"samples": 0}, "anchors.samples=0: wanted a whole number of at least 1"),
        ("anchors", {"segments": torch.zeros(3, 3, dtype=torch.long)}, "anchors: segments of shape"),
    ],
)
def test_wrong_parameters_are_named(method, given, words):
    with pytest.raises(ParameterError, match=words):
        sightline.explain(both, torch.ones(1, 1, 8, 8), method, 1, **given)
