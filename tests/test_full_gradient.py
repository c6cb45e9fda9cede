"""FullGrad: the score is the input's share and every bias's, to the last digit; checked against hooks and by hand."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import (
    CheckpointNet,
    ConvNet,
    FirstReluNet,
    GateNet,
    LinearNet,
    NoGradTrunkNet,
    SliceReluNet,
    calibrated,
    drawn,
    make,
    settle,
)
from sightline.errors import RefusedError
from sightline.targets import contrast

COMPLETE = ["conv", "inplace", "functional", "residual", "signal", "volume", "softmax", "binary", "dense", "smooth"]


def explain(model: Any, x: Tensor, target: Any = 1, **how: Any) -> list[sightline.Explanation]:
    return sightline.explain(model, x, "full_grad", target, **how)


def scaled(share: Tensor) -> Tensor:
    """ψ word by word, for one image and one layer."""
    size = share.abs()
    return (size - size.min()) / (size.max() - size.min())


@pytest.mark.parametrize("name", COMPLETE)
def test_the_input_and_the_biases_add_up_to_the_score(name):
    for e in explain(*make(name, torch.float64)):
        assert e.completeness.total == pytest.approx(e.score, rel=1e-9)
        assert e.completeness.expected == pytest.approx(e.score, rel=1e-9)
        assert not e.notes


@pytest.mark.parametrize(
    "net", ["resnet18", "mobilenet_v2", "squeezenet1_1", "googlenet", "densenet121", "shufflenet_v2_x1_0"]
)
def test_they_do_in_nets_from_torchvision(net):
    model, x = calibrated(net, 64, images=1)
    (e,) = explain(model, x, precision="float64")
    assert e.completeness.gap < 1e-6
    assert not e.notes


class Elementwise(nn.Module):
    """Everything written out: an input made ready, a batch norm of four operations, constants put side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.Linear(8 * 16 * 16, 4)
        self.shift = nn.Parameter(torch.randn(6, 1, 1, generator=torch.Generator().manual_seed(0)))
        self.extra = nn.Parameter(torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv((x - 0.4) / 0.3)
        h = (h - 0.1) * torch.rsqrt(torch.tensor(0.7)) * 1.3 + self.shift
        h = torch.cat((F.relu(h), self.extra.expand(len(x), -1, -1, -1)), 1)
        h += 0.2
        return torch.addmm(self.head.bias, (1 - h).flatten(1), self.head.weight.T)


def test_constants_count_wherever_they_are_added():
    for e in explain(*(m.double() for m in settle(drawn(Elementwise), 2, 3, 16, 16))):
        assert e.completeness.gap < 1e-9
        assert not e.notes


def test_a_linear_nets_map_is_input_x_gradient_scaled():
    net, x = drawn(LinearNet).double(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    share = x * net.head.weight[1].detach().reshape(3, 8, 8)
    for e, image, row in zip(explain(net, x), share, x, strict=True):
        assert np.allclose(e.attribution, scaled(image).sum(0).numpy(), rtol=1e-5)
        assert e.completeness.total == pytest.approx(net(row[None])[0, 1].item(), rel=1e-9)


def test_a_conv_nets_map_is_what_hooks_on_its_layers_give():
    net, x = make("conv", torch.float64, images=1)
    twin = deepcopy(net)
    kept: dict[nn.Module, Tensor] = {}
    parts = [net.features[0], net.features[1], net.features[4]]
    for part in parts:
        part.register_forward_hook(lambda m, _, out: (out.retain_grad(), kept.__setitem__(m, out))[0])
    leaf = x.clone().requires_grad_()
    net(leaf)[0, 1].backward()
    norm = net.features[1]
    shift = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
    wanted = scaled(leaf * leaf.grad).sum(1)
    for part, bias in zip(parts, (parts[0].bias, shift, parts[2].bias), strict=True):
        share = scaled(kept[part].grad * bias.reshape(-1, 1, 1)).sum(1, keepdim=True)
        wanted = wanted + F.interpolate(share, size=(16, 16), mode="bilinear", align_corners=False)[:, 0]
    (e,) = explain(twin, x)
    assert np.allclose(e.attribution, wanted[0].detach().numpy(), rtol=1e-5, atol=1e-7)
    assert (e.coverage.rule, e.coverage.changed, dict(e.coverage.unseen)) == ("full_grad", 4, {})


def test_in_place_activations_change_nothing():
    net, x = settle(drawn(FirstReluNet), 2, 3, 16, 16)
    found = explain(net.double(), x.double())
    net.relu.inplace = False
    for a, b in zip(found, explain(net, x.double()), strict=True):
        assert np.array_equal(a.attribution, b.attribution)
        assert a.completeness.gap < 1e-9


def test_each_target_of_one_pass_gets_its_own():
    net, x = make("binary", torch.float64)  # a single output's two sides: what turns the sign is seen again each time
    together = sightline.explain(net, x, "full_grad", [0, 1, contrast(1, 0)])
    alone = [e for t in (0, 1, contrast(1, 0)) for e in explain(net, x, t)]
    assert len(together) == len(alone) == 9
    by_label = {(e.target.label, round(e.score, 9)): e for e in alone}
    for e in together:
        twin = by_label[e.target.label, round(e.score, 9)]
        assert np.allclose(e.attribution, twin.attribution, rtol=1e-6)
        assert e.completeness.gap < 1e-9


def test_of_other_outputs_only_the_logit_adds_up():
    net, x = make("conv", torch.float64)
    assert all(e.completeness.gap > 0.01 for e in explain(net, x, output="log_probability"))


@pytest.mark.parametrize(("net", "hidden"), [("tokens", "Softmax|ScaledDotProduct"), ("channels_last", "LayerNorm")])
def test_products_and_norms_hold_shares_that_are_nobodys(net, hidden):
    for e in explain(*make(net, torch.float64)):
        assert e.completeness.gap > 0.01
        assert any("products, norms and softmaxes hold the rest" in note for note in e.notes)
        assert any("could not see into" in note for note in e.notes)


def test_gates_are_products():
    (e,) = explain(*settle(drawn(GateNet), 1, 3, 16, 16))
    assert "products, norms and softmaxes hold the rest" in " ".join(e.notes)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("first", ["conv", "separable"])
def test_keras_layers_are_seen_as_their_operations(first):
    from sightline.models.keras import import_keras

    keras = import_keras()
    layers = keras.layers
    conv = layers.Conv2D(6, 3, padding="same") if first == "conv" else layers.SeparableConv2D(6, 3, padding="same")
    parts = [layers.Rescaling(2.0, offset=-1.0), conv, layers.BatchNormalization(), layers.ReLU(max_value=0.3)]
    parts += [layers.MaxPooling2D(), layers.Conv2D(8, 3, activation="elu"), layers.GlobalAveragePooling2D()]
    net = keras.Sequential([keras.Input((16, 16, 3)), *parts, layers.Dense(4, activation="softmax")])
    draw = np.random.default_rng(0)
    for part in net.layers:
        part.set_weights([draw.uniform(0.2, 1.0, w.shape) for w in part.get_weights()])
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for e in explain(net, x):
        assert e.attribution.shape == (16, 16)
        assert e.completeness.gap < 1e-4
        assert e.completeness.total != pytest.approx(0.0, abs=1e-3)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_what_hides_its_operations_is_refused():
    net, x = make("conv")
    with pytest.raises(RefusedError, match=r"full_grad: TorchScript.*use integrated_gradients"):
        explain(torch.jit.trace(net, x), x)
    with pytest.raises(RefusedError, match=r"full_grad: .*checkpointing"):
        explain(*settle(drawn(CheckpointNet), 1, 3, 16, 16))
    with pytest.raises(RefusedError, match=r"full_grad: .*do not depend on its input"):
        explain(*settle(drawn(NoGradTrunkNet), 1, 3, 16, 16))


class SequenceFirst(nn.Module):
    """Puts the sequence before the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(2, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.embed(x.permute(2, 0, 1))).mean(0))


def test_a_bias_that_cannot_be_given_to_an_image_is_refused():
    net, x = settle(drawn(SequenceFirst), 2, 2, 9)
    with pytest.raises(RefusedError, match=r"full_grad: .*not the batch of 2.*one image at a time"):
        explain(net, x)
    assert all(e.completeness.gap < 1e-5 for e in explain(net, x, batch_size=1))


def test_slices_written_in_place_are_followed():
    assert all(e.completeness.gap < 1e-5 for e in explain(*settle(drawn(SliceReluNet), 2, 3, 16, 16)))


def test_a_net_without_biases_is_input_x_gradient():
    net, x = settle(drawn(ConvNet), 2, 3, 16, 16)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(784, 2, bias=False)).double()
    plain = sightline.explain(net, x.double(), "input_x_gradient", 1)
    for e, p in zip(explain(net, x.double()), plain, strict=True):
        share = torch.from_numpy(p.attribution.copy())
        assert np.allclose(e.attribution, scaled(share).sum(0), rtol=1e-4, atol=1e-6)
        assert e.completeness.gap < 1e-9
