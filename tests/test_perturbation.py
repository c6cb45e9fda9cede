"""Methods that look at scores only, against naive loops, brute force and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from sightline.errors import ParameterError
from sightline.masks import random_masks, segments_of, windows

X = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
STRIPES = torch.arange(8).repeat_interleave(8).reshape(8, 8)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).double().requires_grad_(False)


def maps(net, method: str, x: Tensor = X, **parameters) -> np.ndarray:
    return np.stack([e.attribution for e in sightline.explain(net, x, method, 1, **parameters)])


def kept(net, image: Tensor, coalition) -> float:
    return float(net((image * torch.as_tensor(coalition, dtype=torch.float64)[STRIPES])[None])[0, 1])


@pytest.mark.parametrize(("window", "stride"), [(3, 2), (0.5, 0.25), (8, 1), (1, 1), (3, 3)])
def test_occlusion_is_a_naive_loop(net, window, stride):
    side = round(window * 8) if window < 1 else window
    step = round(stride * 8) if stride < 1 else stride
    starts = sorted({*range(0, 8 - side, step), 8 - side})
    total, count = np.zeros((2, 8, 8)), np.zeros((8, 8))
    for top, left in itertools.product(starts, starts):
        covered = X.clone()
        covered[:, :, top : top + side, left : left + side] = 0
        drop = (net(X) - net(covered))[:, 1].numpy()
        total[:, top : top + side, left : left + side] += drop[:, None, None]
        count[top : top + side, left : left + side] += 1
    assert np.allclose(maps(net, "occlusion", window=window, stride=stride), total / count, atol=1e-6)


def test_windows_cover_everything_whatever_the_stride():
    for size, window, stride in itertools.product([(7,), (5, 9), (4, 3, 5)], [3, 4, 0.6], [1, 2, 0.3]):
        seen = np.zeros(size)
        for place in windows(size, window, stride):
            seen[place] += 1
        assert seen.min() >= 1


def test_gaps_between_windows_are_refused(net):
    with pytest.raises(ParameterError, match="never be covered"):
        maps(net, "occlusion", window=2, stride=3)


def test_feature_ablation_is_the_drop_of_each_segment(net):
    found = maps(net, "feature_ablation", segments=STRIPES)
    for image, i in itertools.product(range(2), range(8)):
        coalition = [j != i for j in range(8)]
        wanted = kept(net, X[image], [1] * 8) - kept(net, X[image], coalition)
        assert np.allclose(found[image, i], wanted, atol=1e-6)


def test_the_fill_is_what_takes_the_place(net):
    base = torch.randn(3, 8, 8, dtype=torch.float64)
    found = maps(net, "feature_ablation", segments=torch.zeros(8, 8, dtype=torch.long), fill=base)
    assert np.allclose(found[:, 0, 0], (net(X) - net(base[None]))[:, 1], atol=1e-6)


@pytest.mark.slow
def test_the_mean_of_rise_over_seeds_is_its_expectation():
    """For a linear score w.x, E[(f(x m) - f̄) m(p)] / keep is sum_q w_q x_q cov(m_q, m_p) / keep."""
    weights = torch.randn(1, 36, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    line = nn.Sequential(nn.Flatten(), nn.Linear(36, 1, bias=False)).double()
    line[1].weight.data = weights
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    masks = torch.stack(list(random_masks((6, 6), 3, 0.5, 40_000, 99))).double().flatten(1)
    covariance = torch.cov(masks.T)
    wanted = (covariance @ (weights[0] * x.flatten())).reshape(6, 6) / 0.5
    found = np.mean([maps(line, "rise", x, samples=400, cells=3, seed=s)[0] for s in range(50)], axis=0)
    assert np.abs(found - wanted.numpy()).max() < 0.05 * wanted.abs().max()


def test_rise_says_how_sure_it_is_and_stops_when_sure_enough(net):
    runs = np.stack([maps(net, "rise", samples=100, seed=s)[0] for s in range(40)])
    (one, _) = sightline.explain(net, X, "rise", 1, samples=100)
    assert one.standard_error == pytest.approx(runs.std(0).mean(), rel=0.15)
    model, count = counted(net)
    sightline.explain(model, X[:1], "rise", 1, samples=2000, tolerance=0.1, chunk=10)
    stopped = count[0]
    assert 50 <= stopped < 2000


def counted(net):
    rows = [0]

    def score(batch: Tensor) -> Tensor:
        rows[0] += len(batch)
        return net(batch.double())

    return sightline.load(score), rows


def test_rise_without_centring_is_the_papers_formula(net):
    masks = torch.stack(list(random_masks((8, 8), 7, 0.5, 30, 0))).double()
    scores = torch.stack([net(X * m)[:, 1] for m in masks])
    wanted = torch.einsum("kn,khw->nhw", scores, masks) / (30 * 0.5)
    assert np.allclose(maps(net, "rise", samples=30, centre=False), wanted, atol=1e-6)


# Shapley values.


def brute(net, image: Tensor) -> np.ndarray:
    value = {z: kept(net, image, z) for z in itertools.product((0, 1), repeat=8)}
    found = np.zeros(8)
    for z, i in itertools.product(value, range(8)):
        if not z[i]:
            size = sum(z)
            joined = (*z[:i], 1, *z[i + 1 :])
            found[i] += math.factorial(size) * math.factorial(7 - size) / math.factorial(8) * (value[joined] - value[z])
    return found


def test_kernel_shap_is_exact_where_all_coalitions_are_taken(net):
    found = sightline.explain(net, X, "kernel_shap", 1, segments=STRIPES, samples=254)
    for e, image in zip(found, X, strict=True):
        assert np.allclose(e.attribution[:, 0], brute(net, image), atol=1e-7)
        assert e.completeness.gap < 1e-9


def test_sampled_shapley_values_come_near_and_add_up(net):
    for method, samples in (("shapley_sampling", 400), ("kernel_shap", 200)):
        found = sightline.explain(net, X, method, 1, segments=STRIPES, samples=samples)
        for e, image in zip(found, X, strict=True):
            wanted = brute(net, image)
            assert np.abs(e.attribution[:, 0] - wanted).max() < 0.1 * np.abs(wanted).max()
            assert e.completeness.gap < 1e-9


def test_shapley_sampling_is_unbiased_and_its_standard_error_true(net):
    runs = [
        sightline.explain(net, X, "shapley_sampling", 1, segments=STRIPES, samples=10, seed=s)[0] for s in range(60)
    ]
    values = np.stack([r.attribution[:, 0] for r in runs])
    error = values.std(0).max() / 60**0.5
    assert np.abs(values.mean(0) - brute(net, X[0])).max() < 4 * error


def test_lime_is_ridge_regression_in_closed_form(net):
    from sightline.coalitions import fair

    z = fair(8, 40, 0).double().numpy()
    found = maps(net, "lime", segments=STRIPES, samples=40, fill="zero", ridge=0.5, width=0.3)
    for image, e in zip(X, found, strict=True):
        scores = np.array([kept(net, image, row) for row in z])
        weights = np.exp(-(((1 - np.sqrt(z.mean(1))) / 0.3) ** 2))
        design = np.hstack([z, np.ones((40, 1))])
        penalty = np.diag([0.5] * 8 + [0])
        wanted = np.linalg.solve(design.T @ (weights[:, None] * design) + penalty, design.T @ (weights * scores))
        assert np.allclose(e[:, 0], wanted[:8], atol=1e-6)


def test_hsic_and_sobol_find_the_one_cell_that_matters():
    score = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 2, bias=False)).double()
    score[2].weight.data = torch.tensor([[0.0, 0, 0, 0], [0, 0, 3, 0]]).double()
    x = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    for method in ("sobol", "hsic"):
        (found,) = maps(score, method, x, count=4, samples=64)
        assert found[6, 1] > 20 * max(found[1, 1], found[1, 6], found[6, 6])
    (found,) = maps(score, "sobol", x, count=4, samples=256)
    assert found[6, 1] == pytest.approx(1, abs=0.1)  # it is part of all the variance


# What is given.


def test_segments_of_the_wrong_shape_or_type_are_refused(net):
    for wrong, words in ((torch.zeros(4, 4, dtype=torch.long), "segments of shape"), (torch.zeros(8, 8), "float32")):
        with pytest.raises(ParameterError, match=words):
            maps(net, "feature_ablation", segments=wrong)
    with pytest.raises(ParameterError, match="samples"):
        maps(net, "rise", samples=0)


def test_grids_have_about_as_many_cells_as_asked_for():
    for size in ((40,), (20, 30), (8, 8, 8)):
        labels = segments_of("grid", 16, torch.zeros(1, 1, *size))
        assert 8 <= int(labels.max()) + 1 <= 32
        assert len(labels.unique()) == int(labels.max()) + 1


def test_a_function_that_leaves_torch_is_explained_by_all_of_them(net):
    def score(batch: Tensor) -> np.ndarray:
        return net(batch.double()).numpy()

    for method in ("occlusion", "feature_ablation", "rise", "kernel_shap", "shapley_sampling", "lime", "sobol", "hsic"):
        few = {} if method in ("occlusion", "feature_ablation") else {"samples": 20}
        grid = {"segments": "grid"} if method == "lime" else {}
        assert maps(score, method, X.float(), **few, **grid).shape == (2, 8, 8)
