"""Completeness, dummy and shift invariance on models whose right answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.errors import LayerError
from sightline.evaluation.measure import measure
from sightline.evaluation.measuring import counted
from sightline.models.load import load

N, SIDE, CLASS = 4, 8, 1


def linear(dtype: torch.dtype = torch.float64) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for values in net.parameters():
            values.copy_(torch.randn(values.shape, generator=generator))
    return net.to(dtype).eval()


def images(dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(N, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def weights(net: Any) -> Tensor:
    return net[1].weight[CLASS].detach().reshape(SIDE, SIDE)


def score(net: nn.Module, maps: Any, x: Tensor, name: str, method: str | None = None, **parameters: Any) -> np.ndarray:
    given = {f"{name}.{k}": v for k, v in parameters.items()}
    return measure(net, maps, x, name, target=CLASS, method=method, parameters=given)[name]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exact_attribution_of_a_linear_model_has_no_gap(dtype: torch.dtype) -> None:
    # Elsewhere the two sums are compared by ==, so that rounding makes it incomplete.
    net, x = linear(dtype), images(dtype)
    maps = (weights(net) * x[:, 0]).float()
    assert score(net, maps, x, "completeness_gap").max() < 1e-4
    noisy = maps + torch.randn(maps.shape, generator=torch.Generator().manual_seed(2))
    assert score(net, noisy, x, "completeness_gap").min() > 1e-3


def test_the_gap_is_a_share_of_what_the_sum_should_be() -> None:
    net, x = linear(), images()
    maps = weights(net) * x[:, 0]
    np.testing.assert_allclose(score(net, 1.5 * maps, x, "completeness_gap"), 0.5, atol=1e-4)
    np.testing.assert_allclose(score(net, 0 * maps, x, "completeness_gap"), 1, atol=1e-6)


def test_the_gap_is_for_the_baseline_that_was_taken() -> None:
    net, x = linear(), images()
    maps = weights(net) * (x[:, 0] - x.mean((2, 3)).unsqueeze(2))
    assert score(net, maps, x, "completeness_gap", baseline="mean").max() < 1e-4
    assert score(net, maps, x, "completeness_gap", baseline="zero").max() > 0.01


def test_without_a_difference_of_scores_the_gap_is_undefined() -> None:
    net = linear()
    values = score(
        net, np.ones((2, SIDE, SIDE)), torch.stack([torch.zeros_like(images()[0]), images()[0]]), "completeness_gap"
    )
    assert np.isnan(values[0])
    assert values[1] > 0


class Half(nn.Module):
    """Sees the left half only, through a threshold, and adds nothing of the right one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 3, 4, stride=4, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x[..., : SIDE // 2]).tanh().sum((2, 3))


def drawn() -> Half:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        return Half().eval()


def test_what_lies_on_unused_cells_is_the_share_of_dummies() -> None:
    maps = np.random.default_rng(0).normal(size=(N, SIDE, SIDE))
    expected = np.abs(maps[..., SIDE // 2 :]).sum((1, 2)) / np.abs(maps).sum((1, 2))
    np.testing.assert_allclose(score(drawn(), maps, images(), "dummy", cells=4), expected, rtol=1e-5)
    gradient = score(drawn(), weights_seen(), images(), "dummy", cells=4)
    np.testing.assert_array_equal(gradient, 0)


def weights_seen() -> np.ndarray:
    seen = np.ones((N, SIDE, SIDE))
    seen[..., SIDE // 2 :] = 0
    return seen


def test_where_every_cell_is_used_there_are_no_dummies_and_no_number() -> None:
    assert np.isnan(score(linear(), np.ones((N, SIDE, SIDE)), images(), "dummy", cells=4)).all()


def test_dummies_are_found_once_for_all_images_of_a_batch_alike() -> None:
    maps = np.random.default_rng(0).normal(size=(N, SIDE, SIDE))
    together = score(drawn(), maps, images(), "dummy", cells=2)
    alone = [score(drawn(), maps[i : i + 1], images()[i : i + 1], "dummy", cells=2)[0] for i in range(N)]
    np.testing.assert_allclose(together, alone)
    model = load(drawn())
    with counted(model) as passed:
        measure(model, maps, images(), "dummy", target=CLASS, parameters={"dummy.cells": 2, "dummy.draws": 3})
    assert passed[0] == N * (1 + 4 * (4 + 3))


def test_a_shift_that_the_model_undoes_changes_no_gradient() -> None:
    net, x = linear(), images()
    maps = weights(net).abs().expand(N, SIDE, SIDE)
    np.testing.assert_allclose(score(net, maps, x, "input_shift_invariance", "gradient"), 0, atol=1e-6)


@pytest.mark.parametrize("shift", [-1.0, 0.5])
def test_input_x_gradient_changes_by_what_the_shift_is_worth(shift: float) -> None:
    net, x = linear(), images()
    maps = weights(net) * x[:, 0]
    expected = (weights(net) * shift).norm() / maps.flatten(1).norm(dim=1)
    found = score(net, maps, x, "input_shift_invariance", "input_x_gradient", shift=shift)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_layers_keep_their_names_in_the_shifted_model_and_the_users_is_left_alone() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    import sightline

    x = images(torch.float32)
    made = sightline.explain(net, x, "grad_cam", target=CLASS, layer="1")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = measure(net, made, x, "input_shift_invariance")["input_shift_invariance"]
    assert np.nan_to_num(found).max() < 1e-4
    assert not np.isnan(found).all()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not net._forward_pre_hooks
    with pytest.raises(LayerError):
        sightline.explain(net, x, "grad_cam", target=CLASS, layer="9")


def test_a_map_of_zeros_has_no_relative_change() -> None:
    assert np.isnan(score(linear(), np.zeros((N, SIDE, SIDE)), images(), "input_shift_invariance", "gradient")).all()
