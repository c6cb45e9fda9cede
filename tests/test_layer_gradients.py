"""Conductance, internal influence and gradient times activation at a layer: closed forms, identities, and captum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import calibrated, make
from sightline.errors import LayerError, RefusedError

LAYERS = [
    ("conv", "features.0"), ("conv", "features.2"), ("conv", "features.5"), ("inplace", "conv"), ("functional", "b"),
    ("signal", "conv.1"), ("volume", "conv.1"), ("smooth", "body.1"), ("channels_last", "patch"),
]  # fmt: skip


def maps(model: Any, x: Tensor, method: str, target: Any = 1, **how: Any) -> np.ndarray:
    return np.stack([e.attribution for e in sightline.explain(model, x, method, target, **how)])


class Cubic(nn.Module):
    """A layer a = W x, and f = Σ v a³ on it, so that everything along a path is known."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 3, 1, bias=False)
        self.scale = nn.Parameter(torch.randn(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        score = (self.scale * self.layer(x) ** 3).flatten(1).sum(1, keepdim=True)
        return torch.cat((-score, score), 1)


def cubic() -> tuple[Cubic, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        net, x = Cubic().double(), torch.randn(2, 2, 6, 6).double()
    return net, x, net.layer(x).detach()


def test_conductance_of_a_cube_is_the_cube():
    net, x, a = cubic()
    wanted = (net.scale * a**3).detach().numpy()
    assert np.allclose(maps(net, x, "conductance", layer="layer", steps=500), wanted, rtol=1e-4, atol=1e-6)


def test_internal_influence_of_a_cube_is_the_square():
    # ∫ 3 v (t a)² dt = v a², which two points of Gauss and Legendre integrate exactly.
    net, x, a = cubic()
    wanted = (net.scale * a**2).detach().numpy()
    assert np.allclose(maps(net, x, "internal_influence", layer="layer", steps=2), wanted, rtol=1e-5, atol=1e-7)


def test_gradient_x_activation_of_a_cube_is_three_times_the_cube():
    net, x, a = cubic()
    wanted = (3 * net.scale * a**3).detach().numpy()
    assert np.allclose(maps(net, x, "layer_gradient_x_activation", layer="layer"), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("net", "layer"), LAYERS)
def test_conductance_adds_up_to_the_difference_of_the_scores(net, layer):
    model, x = make(net, torch.float64)
    for e in sightline.explain(model, x, "conductance", 1, layer=layer, steps=100, baseline="white"):
        assert e.completeness.gap < 2e-2
        assert e.attribution.sum() == pytest.approx(e.completeness.total, rel=1e-4)


def test_conductance_of_two_layers_in_a_row_adds_up_to_the_same_for_each_channel():
    # A ReLU passes each unit's share on to itself.
    model, x = make("conv", torch.float64)
    before, after = (maps(model, x, "conductance", layer=f"features.{i}", steps=200) for i in (4, 5))
    assert np.allclose(before.sum((2, 3)), after.sum((2, 3)), rtol=1e-2, atol=1e-3)


def test_what_passes_a_layer_by_is_missing_and_said():
    model, x = make("residual", torch.float64)
    (e, *_) = sightline.explain(model, x, "conductance", 1, layer="left", steps=20)
    assert e.completeness.gap > 0.05
    assert "something passes this one by" in " ".join(e.notes)


@pytest.mark.parametrize(("net", "layer"), LAYERS)
def test_the_sum_over_channels_is_hires_cam_without_its_relu(net, layer):
    model, x = make(net, torch.float64)
    (found, *_) = sightline.explain(model, x, "layer_gradient_x_activation", 1, layer=layer)
    (hires, *_) = sightline.explain(model, x, "hires_cam", 1, layer=layer, relu=False)
    assert np.allclose(found.attribution.sum(0), hires.attribution, rtol=1e-4, atol=1e-7)
    assert np.allclose(found.heatmap, hires.heatmap, rtol=1e-4, atol=1e-6)
    assert found.render().size[0] > 0


def test_internal_influence_of_one_point_at_the_image_is_the_gradient():
    model, x = make("smooth", torch.float64)
    (found, *_) = sightline.explain(model, x, "internal_influence", 1, layer="body.1", steps=1, rule="right")
    (twin, *_) = sightline.explain(model, x, "layer_gradient_x_activation", 1, layer="body.1")
    activation = F.gelu(model.body[0](x))[0].detach().numpy()
    assert np.allclose(found.attribution * activation, twin.attribution, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["conductance", "internal_influence", "layer_gradient_x_activation"])
def test_layers_that_are_not_there_or_have_no_gradient_are_refused(method):
    model, x = make("conv")
    with pytest.raises(LayerError, match=r"there is no layer 'features.55'.*Did you mean"):
        sightline.explain(model, x, method, 1, layer="features.55")
    with pytest.raises(LayerError, match="no spatial extent"):
        sightline.explain(model, x, method, 1, layer="head")
    with pytest.raises((LayerError, RefusedError), match=r"use a method that reads|only scores|no layer"):
        sightline.explain(sightline.load(lambda batch: batch.detach().mean((2, 3))), x, method, 1)


# --- captum ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def captum() -> Any:
    return pytest.importorskip("captum.attr", reason="captum, a development dependency, is not installed")


@pytest.fixture(params=["conv", "resnet18"])
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, str]:
    if request.param == "resnet18":
        net, x = calibrated("resnet18", 48)
        return net.double(), x.double(), "layer2"
    net, x = make("conv", torch.float64)
    return net, x, "features.2"


def alike(mine: np.ndarray, theirs: Tensor, tolerance: float) -> bool:
    wanted = theirs.detach().numpy()
    return bool(np.abs(mine - wanted).max() < tolerance * np.abs(wanted).max())


@pytest.mark.reference
def test_captum_layer_gradient_x_activation(case, captum):
    net, x, layer = case
    theirs = captum.LayerGradientXActivation(net, net.get_submodule(layer)).attribute(x, target=1)
    assert alike(maps(net, x, "layer_gradient_x_activation", layer=layer), theirs, 1e-5)


@pytest.mark.reference
def test_captum_internal_influence(case, captum):
    net, x, layer = case
    theirs = captum.InternalInfluence(net, net.get_submodule(layer)).attribute(
        x, target=1, n_steps=4, method="riemann_middle"
    )
    assert alike(maps(net, x, "internal_influence", layer=layer, steps=4, rule="middle"), theirs, 1e-5)


@pytest.mark.reference
@pytest.mark.parametrize(("net", "layer"), [("conv", "features.2"), ("signal", "conv.1"), ("smooth", "body.1")])
def test_captum_layer_conductance_comes_to_the_same_with_many_steps(net, layer, captum):
    # Captum takes the gradient of one end of each step, which is of the first order; the mean of both is of the second.
    model, x = make(net, torch.float64)
    theirs = captum.LayerConductance(model, model.get_submodule(layer)).attribute(x, target=1, n_steps=400)
    assert alike(maps(model, x, "conductance", layer=layer, steps=100), theirs, 0.02)
