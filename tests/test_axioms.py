"""What the methods must satisfy by mathematics: closed forms, axioms, identities, in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import ConvNet, LinearNet, SmoothNet, drawn, make
from sightline.errors import ParameterError, RefusedError
from sightline.geometry import Preprocessing
from sightline.heatmap import fuse_maps, reduce_channels, resize, resize_array
from sightline.points import baseline_of, gaussian_blur, noisy, path, uniform_images
from sightline.targets import contrast, joint

RULES = ["gauss-legendre", "trapezoid", "middle", "left", "right", "endpoints"]
BASELINES = ["zero", "black", "white", "mean", "blur", "uniform"]


def maps(model: Any, x: Tensor, method: str, target: Any = 1, **how: Any) -> np.ndarray:
    found = sightline.explain(model, x, method, target, **how)
    return np.stack([e.attribution for e in found])


def close(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-7) -> bool:
    """Attributions come as float32, whatever they were computed in."""
    found, wanted = (np.asarray(v.detach() if isinstance(v, Tensor) else v, dtype=float) for v in (a, b))
    return bool(np.allclose(found, wanted, rtol=rtol, atol=atol * np.abs(wanted).max()))


def linear() -> tuple[LinearNet, Tensor]:
    return drawn(LinearNet).double(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def smooth() -> tuple[nn.Module, Tensor]:
    """A net without kinks, whose integrals converge fast."""
    net = drawn(SmoothNet).double()
    for p in net.parameters():
        p.data *= 2.5
    return net, torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(1)).double()


# --- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", range(5))
def test_the_gradient_of_a_linear_net_is_its_weights(target):
    net, x = linear()
    weights = net.head.weight[target].detach().reshape(3, 8, 8).float().numpy()
    assert np.array_equal(maps(net, x, "gradient", target), np.stack([weights, weights]))


def test_input_x_gradient_of_a_linear_net_adds_up_to_the_score_less_the_bias():
    net, x = linear()
    wanted = (net(x)[:, 1] - net.head.bias[1]).tolist()
    assert maps(net, x, "input_x_gradient").sum((1, 2, 3)).tolist() == pytest.approx(wanted, rel=1e-5)


def test_the_gradient_is_the_change_of_the_score():
    net, x = make("conv", torch.float64)
    found = maps(net, x, "gradient", 2)
    for place in itertools.product((0, 2), (0, 7, 15), (3, 8)):
        step = torch.zeros_like(x)
        step[(slice(None), *place)] = 1e-6
        with torch.no_grad():
            change = (net(x + step) - net(x - step))[:, 2] / 2e-6
        np.testing.assert_allclose(found[(slice(None), *place)], change, rtol=1e-4, atol=1e-7)


def test_a_pixel_that_counts_for_nothing_gets_nothing():
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = drawn(ConvNet)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x * (torch.arange(16) >= 8))

    net, x = Blind().double().eval(), make("conv", torch.float64)[1]
    for method in (
        "gradient",
        "input_x_gradient",
        "integrated_gradients",
        "smooth_grad",
        "guided_backprop",
        "expected_gradients",
    ):
        found = maps(net, x, method)
        assert not found[..., :8].any()
        assert found[..., 8:].any()


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "grad_cam", "hires_cam", "input_x_gradient"])
def test_contrast_is_the_difference_and_joint_the_sum(method):
    # Of what is linear in the score.
    net, x = make("conv", torch.float64)
    how = {"relu": False} if "cam" in method else {}
    one, other = (maps(net, x, method, t, **how) for t in (1, 3))
    assert close(maps(net, x, method, contrast(1, 3), **how), one - other)
    assert close(maps(net, x, method, 1, contrast=3, **how), one - other)
    assert close(maps(net, x, method, joint(1, 3), **how), one + other)
    assert close(maps(net, x, method, joint(1, 1, 3), **how), 2 * one + other)
    assert not maps(net, x, method, contrast(1, 1), **how).any()


@pytest.mark.parametrize(
    "method", ["gradient", "input_x_gradient", "integrated_gradients", "grad_cam", "cam", "smooth_grad"]
)
def test_the_two_sides_of_a_binary_model_are_negatives(method):
    net, x = make("binary", torch.float64)
    how = {"relu": False} if "cam" in method else {}
    yes, no = (maps(net, x, method, t, **how) for t in (1, 0))
    assert yes.any()
    assert np.array_equal(yes, -no)


def test_gradients_of_probabilities_add_up_to_nothing():
    net, x = make("conv", torch.float64)
    total = sum(maps(net, x, "gradient", t, output="probability").astype(float) for t in range(5))
    assert np.abs(total).max() < 1e-8


# --- integrated gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", BASELINES)
def test_integrated_gradients_are_complete(baseline):
    net, x = smooth()
    model = sightline.load(net)
    start = baseline_of(baseline, x, model.preprocessing, 0)
    with torch.no_grad():
        wanted = (net(x) - net(start))[:, 1].tolist()
    for e, w in zip(
        sightline.explain(model, x, "integrated_gradients", 1, baseline=baseline, steps=40), wanted, strict=True
    ):
        assert e.completeness.expected == pytest.approx(w, rel=1e-9)
        assert e.completeness.gap < 1e-6
        assert e.completeness.total == pytest.approx(float(e.attribution.sum(dtype=float)), rel=1e-4, abs=1e-6)
        assert not any("incomplete" in note for note in e.notes)


@pytest.mark.parametrize(
    ("rule", "order"), [("trapezoid", 2), ("middle", 2), ("left", 1), ("right", 1), ("endpoints", 1)]
)
def test_each_rule_closes_the_gap_at_its_own_pace(rule, order):
    # A gap that only happened to be small would not shrink by the rule's own power of two.
    net, x = smooth()

    def error(steps: int) -> float:
        (e,) = sightline.explain(net, x[:1], "integrated_gradients", 1, rule=rule, steps=steps)
        return e.completeness.total - e.completeness.expected

    assert error(129) != 0
    assert error(65) / error(129) == pytest.approx(2**order, rel=0.15)


@pytest.mark.parametrize("rule", RULES)
def test_any_rule_closes_the_gap(rule):
    net, x = smooth()
    steps = {"gauss-legendre": 16, "trapezoid": 1500, "middle": 1500}.get(rule, 3000)
    (e,) = sightline.explain(net, x[:1, :, :5, :5], "integrated_gradients", 1, rule=rule, steps=steps)
    assert e.completeness.gap < {"gauss-legendre": 1e-6, "trapezoid": 1e-6, "middle": 1e-6}.get(rule, 2e-3)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("baseline", BASELINES)
def test_integrated_gradients_of_a_linear_net_are_exact_with_any_rule(rule, baseline):
    net, x = linear()
    found = sightline.explain(net, x, "integrated_gradients", 1, rule=rule, steps=2, baseline=baseline)
    start = baseline_of(baseline, x, sightline.load(net).preprocessing, 0)
    wanted = (x - start) * net.head.weight[1].detach().reshape(3, 8, 8)
    assert close(np.stack([e.attribution for e in found]), wanted)
    assert all(e.completeness.gap < 1e-9 for e in found)


def test_integrated_gradients_without_the_product():
    net, x = smooth()
    with_product, without = (maps(net, x, "integrated_gradients", steps=5, multiply=m) for m in (True, False))
    assert close(with_product, x.numpy() * without)
    e = sightline.explain(net, x, "integrated_gradients", 1, multiply=False)[0]
    assert e.completeness is None


def test_integrated_gradients_by_hand():
    net, x = make("conv", torch.float64)
    start = baseline_of("black", x, sightline.load(net).preprocessing, 0)
    total = torch.zeros_like(x)
    for i in range(6):
        point = (start + (i + 0.5) / 6 * (x - start)).requires_grad_()
        total += torch.autograd.grad(net(point)[:, 1].sum(), point)[0] / 6
    found = maps(net, x, "integrated_gradients", rule="middle", steps=6, baseline="black")
    assert close(found, (x - start) * total)


@pytest.mark.parametrize("shape", [(), (3, 1, 1), (3, 16, 16), (1, 3, 16, 16), (3, 3, 16, 16)])
def test_baselines_of_ones_own(shape):
    net, x = make("conv", torch.float64)
    given = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for own in (given, given.numpy()):
        found = sightline.explain(net, x, "integrated_gradients", 1, baseline=own, steps=200)
        with torch.no_grad():
            wanted = (net(x) - net(given.double().expand_as(x)))[:, 1].tolist()
        assert [e.completeness.expected for e in found] == pytest.approx(wanted)
        assert all(e.completeness.gap < 0.02 for e in found)
    averaged = maps(
        net, x, "integrated_gradients", baseline=given, steps=3, smooth_samples=2, smooth_noise=0.0, chunk=1
    )
    assert close(averaged, maps(net, x, "integrated_gradients", baseline=given, steps=3))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 3, 16, 16), (16, 16, 3)])
def test_baselines_of_another_shape_are_refused(shape):
    net, x = make("conv")
    with pytest.raises(ParameterError, match=r"does not fit the input|for 2 images came with 3 images"):
        sightline.explain(net, x, "integrated_gradients", 1, baseline=torch.zeros(shape))


def test_functions_that_are_equal_are_explained_alike():
    # Implementation invariance: batch norm folded into the convolution.
    net, x = make("conv", torch.float64)
    folded = make("conv", torch.float64)[0]
    conv, norm = folded.features[0], folded.features[1]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    conv.weight.data *= scale[:, None, None, None]
    conv.bias.data = (conv.bias - norm.running_mean) * scale + norm.bias
    folded.features[1] = nn.Identity()
    torch.testing.assert_close(net(x), folded(x))
    for method in ("gradient", "integrated_gradients", "grad_cam", "guided_backprop", "deconvnet", "smooth_grad"):
        assert close(maps(net, x, method), maps(folded, x, method))


# --- noise ----------------------------------------------------------------------------------------------------------


def test_without_noise_smooth_grad_is_the_gradient_and_var_grad_nothing():
    net, x = make("conv", torch.float64)
    plain = maps(net, x, "gradient")
    assert close(maps(net, x, "smooth_grad", noise=0.0, samples=3), plain)
    assert close(maps(net, x, "square_grad", noise=0.0, samples=3), plain**2)
    assert np.abs(maps(net, x, "var_grad", noise=0.0, samples=3)).max() < 1e-15


def test_of_a_linear_net_noise_changes_nothing():
    net, x = linear()
    (e, *_) = sightline.explain(net, x, "smooth_grad", 1, noise=0.5, samples=4)
    assert close(e.attribution, net.head.weight[1].detach().reshape(3, 8, 8))
    assert e.standard_error < 1e-9
    assert np.abs(maps(net, x, "var_grad", noise=0.5, samples=4)).max() < 1e-15


@pytest.mark.parametrize("scale", ["relative", "absolute"])
def test_the_three_averages_by_hand(scale):
    net, x = make("conv", torch.float64)
    generator = torch.Generator().manual_seed(5)
    spread = (x.amax((1, 2, 3)) - x.amin((1, 2, 3)))[:, None, None, None] if scale == "relative" else 1.0
    gradients = []
    for _ in range(6):
        noise = torch.randn(x.shape[1:], generator=generator, dtype=torch.float64)
        point = (x + 0.2 * spread * noise).requires_grad_()
        gradients.append(torch.autograd.grad(net(point)[:, 1].sum(), point)[0])
    g = torch.stack(gradients)
    how = {"samples": 6, "noise": 0.2, "scale": scale, "seed": 5}
    assert close(maps(net, x, "smooth_grad", **how), g.mean(0))
    assert close(maps(net, x, "square_grad", **how), (g**2).mean(0))
    assert close(maps(net, x, "var_grad", **how), g.var(0, unbiased=False), atol=1e-6)
    errors = [e.standard_error for e in sightline.explain(net, x, "smooth_grad", 1, **how)]
    assert errors == pytest.approx((g.std(0) / 6**0.5).mean((1, 2, 3)).tolist(), rel=1e-4)


def test_the_mean_square_is_variance_and_squared_mean():
    net, x = make("residual", torch.float64)
    mean, square, variance = (
        maps(net, x, m, samples=8).astype(float) for m in ("smooth_grad", "square_grad", "var_grad")
    )
    assert close(square, variance + mean**2)
    assert variance.max() > 0


def test_any_method_over_noise_is_what_smooth_grad_is_of_the_gradient():
    net, x = make("conv", torch.float64)
    averaged = maps(net, x, "gradient", smooth_samples=5, smooth_noise=0.2, smooth_scale="absolute", chunk=2)
    assert close(averaged, maps(net, x, "smooth_grad", samples=5, noise=0.2, scale="absolute"))


def test_noise_is_the_same_for_each_image_and_scaled_by_its_range():
    x = torch.zeros(2, 3, 4, 4)
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 1.0, 2.0
    (point,) = noisy(x, 1, 0.5, "relative", 3)
    torch.testing.assert_close(2 * (point - x)[0], (point - x)[1])
    drawn_points = torch.stack(list(noisy(torch.zeros(1, 1, 64, 64), 20, 0.3, "absolute", 0)))
    assert float(drawn_points.std()) == pytest.approx(0.3, rel=0.01)
    assert float(drawn_points.mean()) == pytest.approx(0.0, abs=0.01)


# --- expected gradients ---------------------------------------------------------------------------------------------


def test_expected_gradients_with_one_baseline_are_integrated_gradients_in_expectation():
    net, x = smooth()
    x, baseline = x[:1], torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(3))
    samples = 400
    exact = maps(net, x, "integrated_gradients", baseline=baseline, steps=40)[0]
    runs = np.stack(
        [maps(net, x, "expected_gradients", baselines=baseline, samples=samples, seed=s)[0] for s in range(4)]
    )
    (e,) = sightline.explain(net, x, "expected_gradients", 1, baselines=baseline, samples=samples)
    mean_error = np.abs(runs - exact).mean()
    assert mean_error == pytest.approx(e.standard_error * (2 / np.pi) ** 0.5, rel=0.5)  # of a normal variable
    assert mean_error < 0.1 * np.abs(exact).mean()


def test_expected_gradients_of_a_linear_net_are_exact():
    net, x = linear()
    baselines = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    drawn_ones = torch.Generator().manual_seed(0)
    torch.rand(30, generator=drawn_ones, dtype=torch.float64)
    chosen = baselines[torch.randint(3, (30,), generator=drawn_ones)]
    found = sightline.explain(net, x, "expected_gradients", 1, baselines=baselines, samples=30)
    wanted = (x - chosen.mean(0)) * net.head.weight[1].detach().reshape(3, 8, 8)
    assert close(np.stack([e.attribution for e in found]), wanted)
    for e, w in zip(found, (net(x) - net(chosen).mean(0))[:, 1].tolist(), strict=True):
        assert e.completeness.expected == pytest.approx(w)
        assert e.completeness.gap < 1e-9


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 3, 8, 8), (2, 3, 4, 4), (2, 1, 8, 8)])
def test_expected_gradients_refuse_other_baselines(shape):
    net, x = linear()
    with pytest.raises(ParameterError, match="wanted \\(M, 3, 8, 8\\)"):
        sightline.explain(net, x, "expected_gradients", 1, baselines=torch.zeros(shape))


# --- class activation maps ------------------------------------------------------------------------------------------

LAYERS = [
    ("functional", "c"),
    ("functional", "a"),
    ("conv", "features.0"),
    ("tokens", "blocks.0.norm2"),
    ("volume", "conv.0"),
]


def read(name: str, layer: str, target: int = 1) -> tuple[nn.Module, Tensor, np.ndarray, np.ndarray]:
    """The net, its input, and the layer's activation and gradient (N, C, P), by hand."""
    net, x = make(name, torch.float64)
    kept: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o) or o.clone())
    score = net(x.clone().requires_grad_())[:, target].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    a, g = kept[0].detach(), gradient
    if name == "tokens":
        a, g = a[:, 1:].mT, g[:, 1:].mT
    return net, x, a.flatten(2).numpy(), g.flatten(2).numpy()


def grad_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    return np.array([sum(g[k].mean() * a[k] for k in range(len(a)))])[0]


def grad_cam_plus_plus(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    total = np.zeros(a.shape[1])
    for k in range(len(a)):
        weight = 0.0
        for p in range(a.shape[1]):
            below = 2 * g[k, p] ** 2 + a[k].sum() * g[k, p] ** 3
            alpha = g[k, p] ** 2 / below if below else 0.0
            weight += alpha * max(g[k, p], 0.0)
        total += weight * a[k]
    return total


def xgrad_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    return sum((a[k] * g[k]).sum() / a[k].sum() * a[k] for k in range(len(a)))


def layer_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    return sum(np.maximum(g[k], 0) * a[k] for k in range(len(a)))


def hires_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    return sum(g[k] * a[k] for k in range(len(a)))


def elementwise_grad_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    return sum(np.maximum(g[k] * a[k], 0) for k in range(len(a)))


def eigen_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    _, _, v = np.linalg.svd(a.T, full_matrices=False)
    projection = a.T @ v[0]
    total = a.sum(0)
    guide = total if np.linalg.norm(total) > 1e-3 * np.linalg.norm(a) else projection**2  # after a layer norm
    return projection if (projection * guide).sum() >= 0 else -projection


def eigen_grad_cam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    return eigen_cam(a * g, g)


BY_HAND = [
    grad_cam,
    grad_cam_plus_plus,
    xgrad_cam,
    layer_cam,
    hires_cam,
    elementwise_grad_cam,
    eigen_cam,
    eigen_grad_cam,
]


@pytest.mark.parametrize("formula", BY_HAND, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_cams_are_their_formulas(name, layer, formula):
    net, x, a, g = read(name, layer)
    wanted = np.stack([formula(*row) for row in zip(a, g, strict=True)])
    method = formula.__name__
    found = maps(net, x, method, layer=layer)
    assert close(found.reshape(len(x), -1), np.maximum(wanted, 0), rtol=1e-4, atol=1e-6)
    if method != "elementwise_grad_cam":
        signed = maps(net, x, method, layer=layer, relu=False).reshape(len(x), -1)
        assert close(signed, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", ["more positions", "more channels"])
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("sign", ["evidence", "none"])
def test_eigen_cam_is_the_first_component_by_svd(shape, centre, sign):
    name, layer = ("conv", "features.0") if shape == "more positions" else ("registers", "blocks.0.mlp.0")
    net, x = make(name, torch.float64)
    x = x if shape == "more positions" else x[..., :16, :16]
    activation = np.stack([e.attribution for e in sightline.explain(net, x, "activations", 1, layer=layer)])
    flat = activation.reshape(*activation.shape[:2], -1).astype(float)
    assert (flat.shape[1] > flat.shape[2]) == (shape == "more channels")
    found = maps(net, x, "eigen_cam", layer=layer, centre=centre, sign=sign, relu=False).reshape(len(x), -1)
    for a, f in zip(flat, found, strict=True):
        m = a.T - a.T.mean(0) if centre else a.T
        _, _, v = np.linalg.svd(m, full_matrices=False)
        projection = m @ v[0]
        if sign == "none":
            assert min(np.abs(f - projection).max(), np.abs(f + projection).max()) < 1e-4 * np.abs(projection).max()
        else:
            assert (f * a.sum(0)).sum() >= 0
            assert close(f, np.sign((projection * a.sum(0)).sum()) * projection, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("net_name", ["conv", "inplace", "signal", "volume"])
def test_on_a_net_with_average_pooling_and_one_linear_layer_these_are_one(net_name):
    net, x = make(net_name, torch.float64)
    model = sightline.load(net)
    positions = np.prod(maps(model, x, "grad_cam").shape[1:])
    plain = maps(model, x, "grad_cam", relu=False)
    assert close(maps(model, x, "cam", relu=False), plain * positions)
    assert close(maps(model, x, "cam"), maps(model, x, "grad_cam") * positions)
    for same in ("hires_cam", "xgrad_cam"):
        assert close(maps(model, x, same, relu=False), plain, atol=1e-6)
    # CAM adds up, over positions, to the score without the bias.
    with torch.no_grad():
        wanted = (net(x) - net.head.bias)[:, 1].tolist()
    assert (maps(model, x, "cam", relu=False).reshape(len(x), -1).sum(1) / positions).tolist() == pytest.approx(
        wanted, rel=1e-5
    )


@pytest.mark.parametrize(
    "target", [contrast(1, 2), joint(1, 2), lambda z: z[:, 1]], ids=["contrast", "joint", "function"]
)
def test_cam_is_of_one_class(target):
    net, x = make("conv")
    with pytest.raises(RefusedError, match="use grad_cam"):
        sightline.explain(net, x, "cam", target)


def test_cam_is_refused_where_the_even_gradient_is_no_row_of_weights():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5)
    )
    with pytest.raises(RefusedError, match="one linear layer"):
        sightline.explain(drawn(lambda: net), torch.randn(2, 3, 8, 8), "cam", 1)


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_smooth_grad_cam_plus_plus_without_noise_is_grad_cam_plus_plus(name, layer):
    net, x = make(name, torch.float64)
    plain = maps(net, x, "grad_cam_plus_plus", layer=layer, relu=False)
    found = maps(net, x, "smooth_grad_cam_plus_plus", layer=layer, relu=False, noise=0.0, samples=3)
    assert close(found, plain, rtol=1e-4, atol=1e-6)


def test_grad_cams_options():
    _, _, a, g = read("functional", "c")
    net, x = make("functional", torch.float64)
    plain = maps(net, x, "grad_cam", relu=False)
    assert close(maps(net, x, "grad_cam", relu=False, channels="mean"), plain / a.shape[1])
    kept = g * (a > 0) * (g > 0)
    wanted = (kept.mean(2, keepdims=True) * a).sum(1).reshape(plain.shape)
    assert close(maps(net, x, "grad_cam", relu=False, guided=True), wanted)
    largest = g.reshape(len(g), -1).max(1)[:, None, None] + 1e-7
    assert close(maps(net, x, "grad_cam", relu=False, scaling="max"), plain / largest)
    mean = (g.reshape(len(g), -1) ** 2).mean(1)[:, None, None] + 1e-5
    assert close(maps(net, x, "grad_cam", relu=False, scaling="mean-square"), plain / mean)


def test_guided_grad_cam_is_the_product_of_both():
    net, x = make("conv", torch.float64)
    cam = F.interpolate(torch.tensor(maps(net, x, "grad_cam"))[:, None], size=(16, 16), mode="bilinear")
    wanted = cam.numpy() * maps(net, x, "guided_backprop")
    assert close(maps(net, x, "guided_grad_cam"), wanted)


def test_activations_are_the_activations():
    net, x, a, _ = read("tokens", "blocks.0.norm2")
    found = maps(net, x, "activations", layer="blocks.0.norm2")
    assert found.shape == (3, 12, 8, 8)
    assert close(found.reshape(a.shape), a)


@pytest.mark.parametrize("fuse", ["mean", "max", "product"])
def test_several_layers_are_fused_alike(fuse):
    net, x = make("conv", torch.float64)
    one, two = (
        torch.tensor(maps(net, x, "hires_cam", layer=layer, relu=False)) for layer in ("features.0", "features.5")
    )
    two = F.interpolate(two[:, None], size=(16, 16), mode="bilinear")[:, 0]
    unit = torch.stack([m / m.abs().amax((1, 2), keepdim=True) for m in (one, two)])
    wanted = {"mean": unit.mean(0), "max": unit.amax(0), "product": unit.prod(0)}[fuse]
    found = sightline.explain(net, x, "hires_cam", 1, layer=["features.0", "features.5"], relu=False, fuse=fuse)
    assert close(np.stack([e.attribution for e in found]), wanted, atol=1e-6)
    assert found[0].layer == "features.0+features.5"


# --- points ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 3, 10])
def test_quadrature_is_a_mean_over_the_path(rule, steps):
    line = path(steps, rule)
    assert len(line.alphas) == len(line.weights) == steps
    assert sum(line.weights) == pytest.approx(1)
    assert all(w > 0 for w in line.weights)
    assert list(line.alphas) == sorted(line.alphas)
    assert 0 <= line.alphas[0] < line.alphas[-1] <= 1


@pytest.mark.parametrize(
    ("rule", "degree"),
    [("gauss-legendre", 7), ("trapezoid", 1), ("middle", 1), ("left", 0), ("right", 0), ("endpoints", 1)],
)
def test_quadrature_integrates_polynomials_up_to_its_degree(rule, degree):
    line = path(4, rule)
    errors = [
        abs(sum(w * a**power for a, w in zip(line.alphas, line.weights, strict=True)) - 1 / (power + 1))
        for power in range(degree + 2)
    ]
    assert max(errors[:-1]) < 1e-12
    assert errors[-1] > 1e-6


@pytest.mark.parametrize("rule", ["trapezoid", "endpoints"])
def test_closed_rules_need_both_ends(rule):
    net, x = make("conv")
    with pytest.raises(ParameterError, match="at least 2 steps"):
        sightline.explain(net, x, "integrated_gradients", rule=rule, steps=1)


HOW = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))


def test_baselines_by_name():
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor(HOW.mean)[:, None, None], torch.tensor(HOW.std)[:, None, None]
    for name, pixel in (("black", 0.0), ("white", 1.0)):
        torch.testing.assert_close(baseline_of(name, x, HOW, 0), ((pixel - mean) / std).expand_as(x))
    assert not baseline_of("zero", x, HOW, 0).any()
    torch.testing.assert_close(baseline_of("mean", x, HOW, 0), x.mean((2, 3), keepdim=True).expand_as(x))
    uniform = baseline_of("uniform", x, HOW, 4) * std + mean
    assert ((uniform >= 0) & (uniform <= 1)).all()
    assert torch.equal(uniform[0], uniform[1])  # the same for each image of a batch
    assert not torch.equal(uniform, baseline_of("uniform", x, HOW, 5) * std + mean)
    in_bytes = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0)  # a model that takes 0 to 255
    assert float(baseline_of("white", x, in_bytes, 0).max()) == 255


@pytest.mark.parametrize("name", ["black", "white", "uniform"])
def test_pixels_of_unknown_channels_are_refused(name):
    with pytest.raises(ParameterError, match="2 channels and its preprocessing 3"):
        baseline_of(name, torch.zeros(1, 2, 4, 4), HOW, 0)


def test_uniform_images_fill_the_range():
    pixels = torch.stack(list(uniform_images(torch.zeros(1, 1, 50, 50), 4, Preprocessing(mean=(0.0,), std=(1.0,)), 0)))
    assert float(pixels.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(pixels.var()) == pytest.approx(1 / 12, abs=0.005)


@pytest.mark.parametrize("shape", [(1, 2, 30), (1, 2, 30, 40), (1, 1, 12, 14, 16)])
@pytest.mark.parametrize("sigma", [0.7, 2.0, 9.0])
def test_blur_keeps_what_is_constant_and_is_smooth(shape, sigma):
    constant = torch.full(shape, 3.5, dtype=torch.float64)
    torch.testing.assert_close(gaussian_blur(constant, sigma), constant)
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blurred = gaussian_blur(x, sigma)
    assert blurred.shape == x.shape
    assert float(blurred.var()) < float(x.var())
    torch.testing.assert_close(gaussian_blur(x.flip(-1), sigma), blurred.flip(-1))


def test_blur_of_a_point_is_a_gaussian():
    x = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    x[..., 20, 20] = 1
    blurred = gaussian_blur(x, 3.0)[0, 0]
    offsets = torch.arange(-9, 10, dtype=torch.float64)
    line = torch.exp(-0.5 * (offsets / 3.0) ** 2)
    line = line / line.sum()
    torch.testing.assert_close(blurred[11:30, 11:30], torch.outer(line, line))
    assert float(blurred.sum()) == pytest.approx(1)


# --- heatmaps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "wanted"), [("max-abs", 4.0), ("sum-abs", 7.0), ("sum", -1.0), ("l2", 5.0), ("mean", -0.5)]
)
def test_channels_are_reduced(how, wanted):
    assert reduce_channels(np.array([[3.0], [-4.0]]), how) == pytest.approx(np.array([wanted]))


@pytest.mark.parametrize("how", ["nearest", "bilinear", "bicubic", "spline"])
@pytest.mark.parametrize(("size", "to"), [((5,), (11,)), ((3, 4), (9, 20)), ((8, 8), (3, 5)), ((2, 3, 4), (4, 6, 8))])
def test_resizing_keeps_constants_and_size(how, size, to):
    maps_ = torch.full((2, *size), -1.5)
    found = resize(maps_, to, how)
    assert found.shape == (2, *to)
    torch.testing.assert_close(found, torch.full((2, *to), -1.5))
    assert resize(maps_, size, how) is maps_


@pytest.mark.parametrize("how", ["nearest", "bilinear", "bicubic"])
def test_resizing_keeps_pixel_centres(how):
    ramp = (torch.arange(8) + 0.5)[None, :, None].expand(1, 8, 8)
    found = resize(ramp, (32, 32), how)
    wanted = (torch.arange(32) + 0.5) / 4
    step = {"nearest": 0.51, "bilinear": 1e-5, "bicubic": 0.1}[how]  # torch's cubic does not keep ramps
    assert float((found[0, 4:-4, 0] - wanted[4:-4]).abs().max()) < step
    torch.testing.assert_close(found, -resize(-ramp.flip(1), (32, 32), how).flip(1))
    assert resize_array(ramp[0].numpy(), (32, 32), how).shape == (32, 32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_resizing_keeps_the_type(dtype):
    assert resize(torch.ones(1, 2, 2, dtype=dtype), (4, 4)).dtype == dtype


def test_fusing_weighs_layers_alike_and_survives_empty_maps():
    big, small, empty = torch.full((1, 2, 2), 100.0), torch.full((1, 4, 4), -0.01), torch.zeros(1, 2, 2)
    assert fuse_maps([big, small], "mean").shape == (1, 4, 4)
    assert not fuse_maps([big, small], "mean").any()
    assert torch.equal(fuse_maps([big, small], "max"), torch.ones(1, 4, 4))
    assert torch.equal(fuse_maps([big, empty], "mean"), torch.full((1, 2, 2), 0.5))
