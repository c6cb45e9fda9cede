"""FEM, Finer-CAM, Shapley-CAM, RefineCAM and Opti-CAM: by hand, then against strangers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import make
from sightline.errors import RefusedError
from sightline.heatmap import resize
from sightline.models import zoo

ONE = torch.float64


def maps(net: nn.Module, x: Tensor, method: str, target: Any = 1, **parameters: Any) -> np.ndarray:
    return np.stack([e.attribution for e in sightline.explain(net, x, method, target, **parameters)])


def close(found: np.ndarray, wanted: Any, tolerance: float = 1e-5) -> bool:
    wanted = np.asarray(wanted)
    return found.shape == wanted.shape and np.allclose(
        found, wanted, rtol=tolerance, atol=tolerance * abs(wanted).max()
    )


def grad_cam_library() -> Any:
    """Return pytorch_grad_cam, which imports torchvision."""
    zoo.import_torchvision()
    return pytest.importorskip("pytorch_grad_cam")


def activation(net: nn.Module, x: Tensor, layer: str) -> Tensor:
    kept: list[Tensor] = []
    hook = net.get_submodule(layer).register_forward_hook(lambda m, a, o: kept.append(o))
    net(x)
    hook.remove()
    return kept[0]


# --- FEM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["conv", "signal", "volume"])
@pytest.mark.parametrize("deviations", [0.5, 2.0])
def test_fem_counts_each_channel_where_it_is_strong_by_its_mean(net, deviations):
    module, x = make(net, ONE)
    layer = "features" if net == "conv" else "conv"
    a = activation(module, x, layer).detach().numpy()
    wanted = np.zeros((len(a), *a.shape[2:]))
    for n, k in np.ndindex(a.shape[:2]):
        channel = a[n, k]
        wanted[n] += channel.mean() * (channel > channel.mean() + deviations * channel.std())
    assert close(maps(module, x, "fem", layer=layer, deviations=deviations), wanted)


def test_fem_marks_the_same_places_as_pytorch_grad_cam_which_weights_them_otherwise():
    library = grad_cam_library()
    module, x = make("conv")
    a = activation(module, x, "features").detach().numpy()
    found = maps(module, x, "fem", layer="features")
    marked = a > a.mean((2, 3), keepdims=True) + 2 * a.std((2, 3), keepdims=True)
    theirs = (marked.mean((2, 3), keepdims=True) * a).sum(1)
    cam = library.FEM(module, [module.features])
    assert np.allclose(cam.get_cam_image(x, None, None, a, None, False), theirs)
    assert np.array_equal(found != 0, (marked & (a.mean((2, 3), keepdims=True) != 0)).any(1))


# --- Finer-CAM ------------------------------------------------------------------------------------------------------


def gradient_cam(a: Tensor, score: Tensor) -> Tensor:
    (g,) = torch.autograd.grad(score.sum(), [a], retain_graph=True)
    return (g.flatten(2).mean(2)[..., None, None] * a).sum(1).detach()


@pytest.mark.parametrize(("similar", "strength"), [(1, 1.0), (3, 0.6), (9, 0.3)])
@pytest.mark.parametrize("relu", [True, False])
def test_finer_cam_is_the_mean_over_similar_classes_of_grad_cam_of_the_difference(similar, strength, relu):
    module, x = make("conv", ONE)
    a = activation(module, x, "features")
    logits = module.head(module.pool(a).flatten(1))
    wanted = []
    for n, row in enumerate(logits.detach()):
        others = sorted((k for k in range(5) if k != 1), key=lambda k, r=row: float((r[k] - r[1]).abs()))[:similar]
        cams = [gradient_cam(a, logits[n, 1] - strength * logits[n, k])[n] for k in others]
        wanted.append(torch.stack([c.clamp(min=0) if relu else c for c in cams]).mean(0))
    found = maps(module, x, "finer_cam", layer="features", similar=similar, strength=strength, relu=relu)
    assert close(found, torch.stack(wanted))


def test_finer_cam_against_one_class_is_grad_cam_of_the_contrast():
    module, x = make("residual", ONE)
    with torch.no_grad():
        logits = module(x[:1])[0]
    nearest = min((k for k in range(5) if k != 1), key=lambda k: float((logits[k] - logits[1]).abs()))
    found = maps(module, x[:1], "finer_cam", similar=1, strength=1.0)
    assert close(found, maps(module, x[:1], "grad_cam", contrast=nearest))
    assert close(maps(module, x, "finer_cam", strength=0.0), maps(module, x, "grad_cam"))


def test_finer_cam_takes_the_other_side_of_a_single_output():
    module, x = make("binary", ONE)
    found = maps(module, x, "finer_cam", strength=0.5, relu=False)
    assert close(found, 1.5 * maps(module, x, "grad_cam", relu=False))


@pytest.mark.parametrize("references", [1, 2])
def test_finer_cam_without_relu_is_pytorch_grad_cams_up_to_its_weights(references):
    library = grad_cam_library()
    module, x = make("conv", ONE)
    a = activation(module, x[:1], "features")
    logits = module.head(module.pool(a).flatten(1))
    order = (logits[0] - logits[0, 1]).abs().argsort()[1 : 1 + references].tolist()
    target = library.utils.model_targets.FinerWeightedTarget(1, order, 0.6)
    theirs = gradient_cam(a, target(logits[0]))
    ours = maps(module, x[:1], "finer_cam", layer="features", similar=references, relu=False)
    if references == 1:
        assert close(ours, theirs, 1e-4)
    else:  # theirs weights the classes by their probabilities, and so differentiates those weights too
        assert np.corrcoef(ours.ravel(), theirs.numpy().ravel())[0, 1] > 0.5


# --- Shapley-CAM ----------------------------------------------------------------------------------------------------


class Curved(nn.Module):
    """Scores that are quadratic in the layer, whose Hessian is the same everywhere."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.form = nn.Conv2d(3, 4, 3, padding=1), nn.Parameter(torch.randn(2, 4, 4))
        self.linear = nn.Parameter(torch.randn(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.layer(x).mean((2, 3))
        return mean @ self.linear.T + 0.5 * torch.einsum("nc,kcd,nd->nk", mean, self.form + self.form.mT, mean)


def test_shapley_cams_sum_is_the_score_of_a_quadratic_model():
    with torch.random.fork_rng(devices=[]):
        net = Curved().double()
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=ONE)
    found = maps(net, x, "shapley_cam", layer="layer", utility="score", relu=False)
    assert np.allclose(found.sum((1, 2)), net(x)[:, 1].detach().numpy(), atol=1e-5)


def test_shapley_cams_weights_are_the_shapley_values_of_channels():
    # Of a quadratic game the second-order formula is exact; the players are channels, absent ones 0.
    from itertools import permutations

    with torch.random.fork_rng(devices=[]):
        net = Curved().double()
    x = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=ONE)
    a = net.layer(x).detach()[0]

    def score(present: tuple[int, ...]) -> float:
        mean = torch.zeros(4, dtype=ONE)
        mean[list(present)] = a.mean((1, 2))[list(present)]
        form = (net.form + net.form.mT).detach()
        return float(mean @ net.linear.detach()[1] + 0.5 * mean @ form[1] @ mean)

    values = np.zeros(4)
    for order in permutations(range(4)):
        for i, k in enumerate(order):
            values[k] += (score(order[: i + 1]) - score(order[:i])) / 24
    wanted = (torch.as_tensor(values) / a.sum((1, 2)))[:, None, None] * a  # each channel's value, spread as it is
    found = maps(net, x, "shapley_cam", layer="layer", utility="score", relu=False)[0]
    assert close(found, wanted.sum(0).detach())


@pytest.mark.parametrize("net", ["conv", "smooth", "tokens", "channels_last", "signal"])
def test_shapley_cam_is_its_formula_by_differences(net):
    # H A from the gradients at A (1 + e) and A (1 - e).
    module, x = make(net, ONE)
    e = sightline.explain(module, x[:1], "shapley_cam", 1, relu=False)[0]
    plain = sightline.explain(module, x[:1], "grad_cam", rest, relu=False, layer=e.layer)[0]
    up, down = (gradients(module, x[:1], str(e.layer), 1 + step) for step in (1e-4, -1e-4))
    a = sightline.explain(module, x[:1], "activations", 1, layer=e.layer)[0].attribution
    curved = (up - down) / 2e-4
    weights = curved.reshape(len(a), -1).mean(1).reshape(-1, *[1] * (a.ndim - 1))
    assert close(e.attribution, plain.attribution - 0.5 * (weights * a).sum(0), 1e-4)


def rest(logits: Tensor) -> Tensor:
    return (logits + F.log_softmax(logits, 1))[:, 1]


def gradients(module: nn.Module, x: Tensor, layer: str, scale: float) -> np.ndarray:
    """Return the gradient at a layer whose output is scaled, (C, *S)."""
    kept: list[Tensor] = []

    def scaled(m: nn.Module, a: Any, o: Tensor) -> Tensor:
        kept.append((o * scale).detach().requires_grad_(True))
        return kept[0]

    hook = module.get_submodule(layer).register_forward_hook(scaled)
    (g,) = torch.autograd.grad(rest(module(x)).sum(), kept)
    hook.remove()
    if g.ndim == 3 and x.ndim == 4:
        return g[0, 1:].T.reshape(g.shape[2], 8, 8).numpy()  # the class token left out
    return (g[0].movedim(-1, 0) if g.shape[3:] == (12,) else g[0]).numpy()  # twelve channels, last


def test_shapley_cam_equals_grad_cam_where_only_relus_and_linear_layers_follow():
    module, x = make("functional", ONE)
    assert close(maps(module, x, "shapley_cam", utility="score"), maps(module, x, "grad_cam"))


def test_shapley_cam_is_pytorch_grad_cams():
    library = grad_cam_library()
    module, x = make("conv", ONE)
    weights: list[np.ndarray] = []
    with library.ShapleyCAM(module, [module.features]) as cam:
        own = cam.get_cam_weights
        cam.get_cam_weights = lambda *given: weights.append(own(*given)) or weights[-1]
        cam(x.clone(), [library.utils.model_targets.ClassifierOutputReST(1)] * len(x))
    theirs = (weights[0][:, :, None, None] * activation(module, x, "features").detach().numpy()).sum(1)
    assert close(maps(module, x, "shapley_cam", layer="features", relu=False), theirs, 1e-4)


def test_what_shapley_and_finer_cam_cannot_explain_is_refused_with_what_can():
    module, x = make("conv")
    with pytest.raises(RefusedError, match=r"finer_cam needs a class.*use grad_cam with contrast="):
        maps(module, x, "finer_cam", lambda logits: logits.sum(1))
    with pytest.raises(RefusedError, match=r"needs a class.*give utility='score'"):
        maps(module, x, "shapley_cam", lambda logits: logits.sum(1))
    assert maps(module, x, "shapley_cam", lambda logits: logits.square().sum(1), utility="score").any()
    with pytest.raises(RefusedError, match=r"differentiated only once.*use grad_cam or hires_cam"):
        maps(
            nn.Sequential(module.features, Once(), module.pool, nn.Flatten(), module.head), x, "shapley_cam", layer="0"
        )


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class Once(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Once.apply(x)


# --- RefineCAM ------------------------------------------------------------------------------------------------------


def test_refine_cam_is_the_product_of_grad_cam_plus_plus_at_each_resolution():
    module, x = make("conv", ONE)
    found = sightline.explain(module, x, "refine_cam", 1)
    cams = [
        torch.from_numpy(maps(module, x, "grad_cam_plus_plus", layer=n)).double() for n in ("features.2", "features")
    ]
    large = [cams[0], resize(cams[1], (16, 16))]
    first, second = (c / c.flatten(1).amax(1)[:, None, None] for c in large)
    assert close(np.stack([e.attribution for e in found]), first * second)
    assert found[0].layer == "features"


@pytest.mark.parametrize("stages", [2, 3])
def test_refine_cam_takes_the_nearest_resolutions(stages):
    net = nn.Sequential(
        *(part for i in (3, 4, 4) for part in (nn.Conv2d(i, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))),
        nn.Conv2d(4, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (found,) = maps(net, x, "refine_cam", stages=stages)
    assert found.shape == ((8, 8) if stages == 2 else (16, 16))


def test_refine_cam_of_one_resolution_is_refused():
    module, x = make("residual")
    with pytest.raises(RefusedError, match=r"none finer before.*grad_cam_plus_plus.*fuse='product'"):
        maps(module, x, "refine_cam")


# --- Opti-CAM -------------------------------------------------------------------------------------------------------


def test_opti_cam_takes_the_steps_that_adam_takes_through_the_whole_chain():
    module, x = make("conv", ONE)
    a = activation(module, x, "features").detach()
    u = torch.zeros(3, 8, dtype=ONE, requires_grad=True)
    adam = torch.optim.Adam([u], lr=0.1)

    def unit(m: Tensor) -> Tensor:
        low, high = m.amin((1, 2), keepdim=True), m.amax((1, 2), keepdim=True)
        return (m - low) / (high - low)

    def mixed() -> Tensor:
        return (torch.softmax(u, 1)[:, :, None, None] * a).sum(1)

    for _ in range(5):
        mask = unit(F.interpolate(mixed()[:, None], size=(16, 16), mode="bilinear")[:, 0])
        adam.zero_grad()
        (-module(x * mask[:, None])[:, 1].sum()).backward()
        adam.step()
    assert close(maps(module, x, "opti_cam", layer="features", steps=5), unit(mixed()).detach())


def test_opti_cam_raises_the_score_of_what_is_seen_through_it():
    module, x = make("conv", ONE)
    seen = []
    for steps in (1, 60):
        mask = torch.from_numpy(maps(module, x, "opti_cam", steps=steps)).to(x)
        large = F.interpolate(mask[:, None], size=(16, 16), mode="bilinear")
        with torch.no_grad():
            seen.append(module(x * large)[:, 1])
    assert bool((seen[1] > seen[0]).all())


def test_opti_cam_says_how_far_it_is():
    module, x = make("conv")
    ticks: list[int] = []
    model = sightline.load(module)
    list(sightline.engine.explanations(model, x, "opti_cam", 1, parameters={"steps": 4}, tick=ticks.append))
    assert ticks == [1] * 4
