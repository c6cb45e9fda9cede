"""LRP against zennit with its canonizers and against captum, on nets of real make with random weights."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import calibrated, drawn
from sightline.models.zoo import import_torchvision

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]  # the others' own

import_torchvision()  # where its compiled operators do not fit, the others could not import it either
CLASS = 3


class Vgg(nn.Module):
    """VGG-11's trunk below a head of two linear layers, which is not larger than all the rest."""

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers

        self.features = make_layers(cfgs["A"], batch_norm=batch_norm)
        self.classifier = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))
        for part in self.features:
            if isinstance(part, nn.Conv2d):  # as torchvision does, so that the activations do not fade
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
                nn.init.normal_(part.bias, 0, 0.05)
            elif isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.2)
                part.momentum = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def vgg(batch_norm: bool) -> tuple[nn.Module, Tensor]:
    net, x = drawn(lambda: Vgg(batch_norm)), torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.train()(x)  # what batch norms have seen
    return net.eval(), x[:1]


@pytest.fixture(scope="module", params=["vgg11", "vgg11_bn", "resnet18"])
def case(request) -> tuple[nn.Module, Tensor]:
    net, x = calibrated("resnet18", 48, 1) if request.param == "resnet18" else vgg(request.param == "vgg11_bn")
    return net.double(), x.double()


def mine(net: nn.Module, x: Tensor, method: str = "lrp", **how: Any) -> np.ndarray:
    return sightline.explain(net, x, method, CLASS, **how)[0].attribution


def cosine(found: np.ndarray, wanted: Tensor) -> float:
    assert wanted.any()
    return float(F.cosine_similarity(torch.tensor(found).double().flatten(), wanted.detach().flatten(), dim=0))


def zennits(net: nn.Module, x: Tensor, name: str, **how: Any) -> Tensor:
    """Return zennit's relevance, with the canonizer that it has for the net."""
    zennit = pytest.importorskip("zennit", reason="zennit, a development dependency, is not installed")
    from zennit.attribution import Gradient
    from zennit.composites import COMPOSITES
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    assert zennit
    canonizer = VGGCanonizer() if isinstance(net, Vgg) else ResNetCanonizer()
    composite = COMPOSITES[name](canonizers=[canonizer], **how)
    with Gradient(model=copy.deepcopy(net), composite=composite) as attributor:
        # Relevance starts as the class's score.
        _, relevance = attributor(x, lambda scores: scores * F.one_hot(torch.tensor([CLASS]), scores.shape[1]))
    return relevance


@pytest.mark.parametrize(
    "composite", ["epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat"]
)
def test_lrp_is_zennits(case, composite):
    net, x = case
    found, wanted = mine(net, x, composite=composite), zennits(net, x, composite)
    assert cosine(found, wanted) >= 0.9998
    assert found.sum() == pytest.approx(float(wanted.sum()), rel=1e-2)


def test_lrp_between_black_and_white_is_zennits(case):
    net, x = case
    how = sightline.Preprocessing(resize=None, crop=None, mean=(0.5, 0.4, 0.6), std=(0.2, 0.25, 0.3))
    mean, std = (torch.tensor(v).to(x).reshape(1, 3, 1, 1) for v in (how.mean, how.std))
    low, high = ((level - mean) / std * torch.ones_like(x) for level in (0, 1))
    x = torch.minimum(torch.maximum(x, low), high)
    wanted = zennits(net, x, "epsilon_gamma_box", low=low, high=high)
    found = mine(sightline.load(net, preprocessing=how), x, composite="epsilon_gamma_box")
    assert cosine(found, wanted) >= 0.9998


def test_excitation_backprop_is_zennits(case):
    net, x = case
    x = x.abs()  # the rule is for activations that are not negative
    wanted = zennits(net, x, "excitation_backprop", zero_params="bias")  # with biases its walk does not end in 1
    (found,) = sightline.explain(net, x, "excitation_backprop", CLASS)
    assert cosine(found.attribution * found.score, wanted) >= 0.9998  # ours starts from 1, theirs from the score


def test_lrp_with_epsilon_is_captums_on_vgg():
    captum = pytest.importorskip("captum.attr", reason="captum, a development dependency, is not installed")
    from captum.attr._utils.lrp_rules import EpsilonRule

    net, x = vgg(batch_norm=False)
    net, x = net.double(), x.double()
    theirs = copy.deepcopy(net)
    for part in theirs.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear, nn.MaxPool2d)):
            part.rule = EpsilonRule(1e-6)
        elif isinstance(part, nn.ReLU):
            part.inplace = False
    wanted = captum.LRP(theirs).attribute(x, target=CLASS)
    found = mine(net, x, composite="epsilon")
    assert cosine(found, wanted) >= 0.9998


class Skip(nn.Module):
    """A block that is added to its input, without biases, so that the relevance must add up to the score."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.before, self.after = nn.ReLU(), nn.ReLU()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.before(self.first(x))
        return self.head(self.pool(self.after(self.second(h) + h)).flatten(1))


def test_captum_gives_each_of_two_branches_all_relevance_as_the_page_says():
    captum = pytest.importorskip("captum.attr", reason="captum, a development dependency, is not installed")
    net, x = drawn(Skip).double(), torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    score = float(net(x)[0, CLASS])
    assert mine(net, x, composite="epsilon").sum() == pytest.approx(score, rel=1e-3)
    assert float(captum.LRP(net).attribute(x, target=CLASS).sum()) == pytest.approx(2 * score, rel=0.2)
