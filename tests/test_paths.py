"""Gradients along paths, regions and low-passed maps: closed forms and completeness, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import NETS, LinearNet, drawn, make
from sightline.errors import ParameterError, RefusedError
from sightline.heatmap import low_passed
from sightline.masks import overlapping_segments
from sightline.methods import METHODS
from sightline.methods.paths import _shares
from sightline.methods.regions import region_densities
from sightline.points import gaussian_blur


class Square(nn.Module):
    """f(x) = Σ w x², whose integrals are known."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(2)).double())

    def forward(self, x: Tensor) -> Tensor:
        score = (self.weight * x**2).flatten(1).sum(1, keepdim=True)
        return torch.cat((-score, score), 1)


class Product(nn.Module):
    """f(x) = x₀ x₁, of which a path decides how it is shared."""

    def forward(self, x: Tensor) -> Tensor:
        score = x[:, 0, :1] * x[:, 0, 1:]
        return torch.cat((-score, score), 1)


def explain(model: Any, x: Tensor, method: str, target: Any = 1, **how: Any) -> list[sightline.Explanation]:
    return sightline.explain(model, x, method, target, **how)


def maps(model: Any, x: Tensor, method: str, target: Any = 1, **how: Any) -> np.ndarray:
    return np.stack([e.attribution for e in explain(model, x, method, target, **how)])


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def gaps(model: Any, x: Tensor, method: str, **how: Any) -> list[float]:
    return [e.completeness.gap for e in explain(model, x, method, **how)]


# --- Blur IG --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 7])
def test_blur_ig_of_a_linear_net_is_its_weights_times_what_the_blur_takes_away(steps):
    net, x = drawn(LinearNet).double(), images(2, 3, 8, 8)
    wanted = net.head.weight[1].detach().reshape(3, 8, 8) * (x - gaussian_blur(x, 0.25 * 8))
    found = explain(net, x, "blur_ig", max_sigma=0.25, steps=steps)
    assert np.allclose(np.stack([e.attribution for e in found]), wanted.numpy(), rtol=1e-5, atol=1e-7)
    assert all(e.completeness.gap < 1e-6 for e in found)


def test_blur_ig_of_a_square_is_the_integral_over_the_width():
    # Each point of f = w x² gives ∫ 2 w b db over its own blurred values: w (x² - b²), where b changes one way.
    x = torch.linspace(0, 1, 16).double().square().reshape(1, 1, 16)
    net = Square(1, 16)
    blurred = gaussian_blur(x, 3.0)
    wanted = (net.weight * (x**2 - blurred**2)).detach().numpy()
    assert np.allclose(maps(net, x, "blur_ig", max_sigma=3.0, steps=400), wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("max_sigma", "pixels"), [(0.25, 6.0), (2.0, 2.0)])
def test_the_width_of_the_blur_is_a_share_of_the_longest_side_or_pixels(max_sigma, pixels):
    net, x = make("signal", torch.float64)
    scores = net(x)[:, 1] - net(gaussian_blur(x, pixels))[:, 1]
    found = [e.completeness.expected for e in explain(net, x, "blur_ig", max_sigma=max_sigma, steps=2)]
    assert found == pytest.approx(scores.tolist(), rel=1e-6)


@pytest.mark.parametrize("net", ["conv", "residual", "signal", "volume", "smooth", "tokens"])
@pytest.mark.parametrize("method", ["blur_ig", "guided_ig"])
def test_more_steps_come_closer_to_the_difference_of_the_scores(method, net):
    model, x = make(net, torch.float64, images=2)
    model.double()
    few, many = (max(gaps(model, x, method, steps=steps)) for steps in (4, 128))
    assert many < 0.04
    assert many < few


def test_a_blur_narrower_than_can_be_drawn_is_refused():
    net, x = make("conv")
    with pytest.raises(ParameterError, match=r"blur_ig.max_sigma=0: wanted a number of at least 0.001"):
        explain(net, x, "blur_ig", max_sigma=0)


# --- Guided IG ------------------------------------------------------------------------------------------------------


def one_pair(*values: float) -> Tensor:
    return torch.tensor([[values]]).double()


def test_guided_ig_walks_round_a_product_one_side_at_a_time():
    # At (0, 0) both gradients are 0 and the first value goes first: then only the second changes f. A straight path
    # shares x₀ x₁ evenly.
    (found,) = maps(Product(), one_pair(2.0, 3.0), "guided_ig", fraction=0.5, max_dist=1.0, steps=50)
    assert found.sum() == pytest.approx(6.0, rel=1e-6)
    (straight,) = maps(Product(), one_pair(2.0, 3.0), "guided_ig", max_dist=0.0, steps=50)
    assert straight.tolist() == [pytest.approx([3.0, 3.0], rel=1e-6)]
    assert abs(found[0, 0] - found[0, 1]) > 1.0


def naive_step(x, g, start, end, alpha, fraction, max_dist):
    """One step of algorithm 1, value by value."""
    low, high = (start + np.clip(alpha + d, 0, 1) * (end - start) for d in (-max_dist, max_dist))
    x = np.where(np.abs(x - start) < np.abs(low - start), low, x)
    due = np.abs(end - x).sum() - (1 - alpha) * np.abs(end - start).sum()
    waiting = sorted((i for i in range(len(x)) if x[i] != high[i]), key=lambda i: abs(g[i]))
    each = int(np.ceil(fraction * len(x)))
    while waiting and due > 0:
        group, waiting = waiting[:each], waiting[each:]
        room = np.abs(high[group] - x[group]).sum()
        x[group] += min(1.0, due / room) * (high[group] - x[group])
        due -= min(due, room)
    return x


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("max_dist", [0.0, 0.05, 1.0])
def test_guided_ig_is_its_algorithm_value_by_value(fraction, max_dist):
    net, x = make("signal", torch.float64, images=1)
    start, end, steps = np.zeros(x.numel()), x.flatten().numpy(), 6

    def gradient(at: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(at).reshape(x.shape).requires_grad_()
        return torch.autograd.grad(net(leaf)[0, 1], leaf)[0].flatten().numpy()

    point, wanted, g = start, np.zeros_like(start), gradient(start)
    for step in range(1, steps + 1):
        moved = naive_step(point, g, start, end, step / steps, max(fraction, 1e-9), max_dist)
        later = gradient(moved)
        wanted, point, g = wanted + (moved - point) * (g + later) / 2, moved, later
    (found,) = maps(net, x, "guided_ig", steps=steps, fraction=fraction, max_dist=max_dist)
    assert np.allclose(point, end)
    assert np.allclose(found.ravel(), wanted, rtol=1e-5, atol=1e-7 * np.abs(wanted).max())


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_guided_ig_takes_exactly_what_is_due(fraction):
    draw = torch.Generator().manual_seed(4)
    room, size = (torch.rand((3, 17), generator=draw).double() for _ in range(2))
    room[:, ::4] = 0
    due = torch.tensor([0.0, 0.4, 1.0]).double() * room.sum(1)
    taken = _shares(room, size, due, fraction)
    assert ((taken * room).sum(1) - due).abs().max() < 1e-12
    assert ((taken >= 0) & (taken <= 1)).all()


def test_guided_ig_without_room_is_integrated_gradients():
    net, x = make("conv", torch.float64)
    found = maps(net, x, "guided_ig", max_dist=0.0, steps=8)
    assert np.allclose(found, maps(net, x, "integrated_gradients", rule="trapezoid", steps=9), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["guided_ig", "conductance", "internal_influence", "xrai"])
def test_a_baseline_of_another_shape_is_refused(method):
    net, x = make("conv")
    with pytest.raises(ParameterError, match=rf"{method}: baseline of shape \(3, 5, 5\) does not fit.*wanted"):
        explain(net, x, method, baseline=torch.zeros(3, 5, 5))


@pytest.mark.parametrize("method", ["guided_ig", "conductance"])
def test_baselines_one_for_each_image_stay_with_their_image(method):
    net, x = make("conv", torch.float64)
    starts = images(3, 3, 16, 16, seed=9)
    together = maps(net, x, method, baseline=starts, steps=3, batch_size=2)
    alone = [maps(net, x[i : i + 1], method, baseline=starts[i], steps=3)[0] for i in range(3)]
    assert np.allclose(together, np.stack(alone), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["blur_ig", "guided_ig", "xrai", "full_grad"])
def test_a_function_without_gradients_is_refused_with_what_works(method):
    model = sightline.load(lambda batch: batch.detach().mean((2, 3)))
    with pytest.raises(RefusedError, match=rf"^{method}: .*only scores"):
        explain(model, torch.rand(1, 3, 16, 16), method, 0)


# --- XRAI -----------------------------------------------------------------------------------------------------------


def test_regions_join_by_density_of_what_they_add():
    a = np.arange(40.0).reshape(4, 10)
    masks = np.zeros((3, 4, 10), dtype=bool)
    masks[0, 3, 5:], masks[1, 2:, 5:], masks[2] = True, True, True
    found = region_densities(a, masks)
    assert np.allclose(found[3, 5:], a[3, 5:].mean())
    assert np.allclose(found[2, 5:], a[2, 5:].mean())  # the second segment adds only this
    assert np.allclose(found[:, :5], (a.sum() - a[2:, 5:].sum()) / 30)


def naive_regions(a: np.ndarray, masks: np.ndarray) -> np.ndarray:
    found, covered, left = np.zeros_like(a), np.zeros(a.shape, dtype=bool), list(masks)
    while left := [m for m in left if (m & ~covered).any()]:
        best = max(left, key=lambda m: a[m & ~covered].mean())
        part = best & ~covered
        found[part], covered = a[part].mean(), covered | part
    return found


def test_regions_are_the_greedy_algorithm_word_by_word():
    draw = np.random.default_rng(3)
    a, masks = draw.normal(size=(12, 12)), draw.random((20, 12, 12)) < 0.2
    masks[0] = True
    assert np.allclose(region_densities(a, masks), naive_regions(a, masks))


def test_regions_keep_the_sum_and_what_no_segment_covers_gets_its_mean():
    a = np.random.default_rng(3).normal(size=(12, 12))
    masks = np.zeros((1, 12, 12), dtype=bool)
    masks[0, :6] = True
    found = region_densities(a, masks)
    assert np.allclose(found[6:], a[6:].mean())
    assert found.sum() == pytest.approx(a.sum())


def test_segments_of_two_halves_are_the_halves_grown_a_little():
    image = torch.zeros(3, 64, 64)
    image[:, :, 32:] = 1
    masks = overlapping_segments(image)
    assert any(m[:, :28].all() and not m[:, 36:].any() for m in masks)
    assert any(m[:, 36:].all() and not m[:, :28].any() for m in masks)
    assert masks.any(0).all()
    assert masks.mean((1, 2)).sum() > 1


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels_can_be_segmented(channels):
    assert overlapping_segments(images(channels, 12, 12)).any(0).all()


def test_a_blank_image_is_one_segment():
    assert overlapping_segments(torch.zeros(3, 16, 16)).all()


def test_xrai_finds_the_half_that_counts():
    x = images(1, 3, 32, 32) * 0.02
    x[..., 16:] += 1.0
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2, bias=False)).double()
    with torch.no_grad():
        net[1].weight.zero_()[1] = (torch.arange(32) >= 16).double().expand(3, 32, 32).flatten()
    (e,) = explain(net, x, "xrai", baseline="zero", steps=2)
    assert e.attribution.shape == (32, 32)
    assert e.attribution[:, 20:].min() > e.attribution[:, :12].max()
    assert e.completeness is None


def test_xrai_averages_black_and_white():
    net, x = make("conv", torch.float64)
    both = maps(net, x, "xrai", steps=2, relu=False).sum((1, 2))
    each = [maps(net, x, "integrated_gradients", baseline=b, steps=2).sum((1, 2, 3)) for b in ("black", "white")]
    assert np.allclose(both, (each[0] + each[1]) / 2, rtol=1e-4)


def test_regions_that_speak_against_the_target_are_cut_off_unless_asked_for():
    net, x = make("conv", torch.float64)
    signed, cut = (maps(net, x, "xrai", steps=2, relu=relu) for relu in (False, True))
    assert (signed < 0).any()
    assert np.array_equal(cut, signed.clip(min=0))


@pytest.mark.parametrize("net", ["signal", "volume"])
def test_xrai_wants_pictures(net):
    model, x = make(net)
    with pytest.raises(RefusedError, match=r"xrai needs images .*use integrated_gradients, or feature_ablation"):
        explain(model, x, "xrai")


# --- low-passed maps ------------------------------------------------------------------------------------------------

FILTERED = [m.name for m in METHODS.values() if "low_pass" in m.parameters]


def test_gradient_maps_at_the_input_can_be_filtered_and_no_others():
    assert {m.name for m in METHODS.values() if m.family == "gradient" and m.at == "input"} == set(FILTERED)
    assert {"gradient", "smooth_grad", "integrated_gradients", "blur_ig", "guided_backprop"} <= set(FILTERED)


@pytest.mark.parametrize("size", [(9,), (8, 9), (4, 6, 5)], ids=str)
def test_waves_up_to_the_cut_off_stay_and_others_go(size):
    axes = torch.meshgrid(*(torch.arange(s).double() / s for s in size), indexing="ij")
    slow, fast = (torch.cos(2 * torch.pi * turns * axes[-1]).expand(1, 2, *size) for turns in (1, size[-1] // 2))
    assert torch.allclose(low_passed(slow + fast, 2.1 / size[-1]), slow, atol=1e-12)
    assert torch.allclose(low_passed(slow + fast + 3, 0.0), torch.full_like(slow, 3), atol=1e-12)
    assert low_passed(fast, 1.0) is fast


@pytest.mark.parametrize("net", ["conv", "signal", "volume"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_each_channels_sum_and_so_completeness_is_kept(net, share):
    assert NETS[net]
    model, x = make(net, torch.float64)
    plain = explain(model, x, "integrated_gradients", steps=3)
    filtered = explain(model, x, "integrated_gradients", steps=3, low_pass=share)
    for p, f in zip(plain, filtered, strict=True):
        axes = tuple(range(1, p.attribution.ndim))
        assert np.allclose(p.attribution.sum(axes), f.attribution.sum(axes), rtol=1e-4, atol=1e-6)
        assert p.completeness == f.completeness
        assert not np.array_equal(p.attribution, f.attribution)


def test_a_filtered_map_is_smoother_and_the_cut_off_is_recorded():
    model, x = make("conv", torch.float64)
    (plain, *_), (filtered, *_) = (explain(model, x, "gradient", low_pass=share) for share in (1.0, 0.3))
    rough, smooth = (np.abs(np.diff(e.attribution, axis=2)).mean() for e in (plain, filtered))
    assert smooth < 0.5 * rough
    assert filtered.parameters["low_pass"] == 0.3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_half_precision_maps_can_be_filtered(dtype):
    model, x = make("conv", dtype)
    assert np.isfinite(maps(model, x, "gradient", low_pass=0.2)).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low_pass": 1.5}, "from 0 to 1"),
        ({"low_pass": -1}, "from 0 to 1"),
        ({"low_pass": "much"}, "a number from 0 to 1"),
    ],
)
def test_other_cut_offs_are_refused(given, message):
    model, x = make("conv")
    with pytest.raises(ParameterError, match=message):
        explain(model, x, "gradient", **given)
