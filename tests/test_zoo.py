"""The coverage benchmark's own machinery: a few small networks are right, and what is wrong is seen."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nets import ConvNet, ResidualNet, SmoothNet, drawn
from sightline.errors import RefusedError
from sightline.methods import METHODS
from sightline.models.zoo import build as build_torchvision

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks are not installed

from benchmarks.zoo import cells, nets, references
from benchmarks.zoo.cells import BAD, Cell, Result, measure, referenced
from benchmarks.zoo.nets import Case
from benchmarks.zoo.subjects import Subject, built, from_torch


def case(build, size: int = 24, **known) -> Case:
    return Case("here", "tiny", build.__name__, lambda: from_torch(drawn(build), size, **known))


def outcomes(result: Result) -> dict[str, str]:
    assert not result.failed
    return {c.method: c.outcome for c in result.cells}


def bad(result: Result) -> list[Cell]:
    assert not result.failed
    return [c for c in result.cells if c.outcome in BAD]


@pytest.mark.parametrize("build", [ConvNet, ResidualNet])
def test_a_net_with_relu_is_right_everywhere(build):
    found = outcomes(measure(case(build), with_peers=False))
    assert list(found) == referenced()
    assert {o for m, o in found.items() if m != "cam"} == {"right"}


def test_a_net_without_relu_is_refused_where_it_should_be():
    found = outcomes(measure(case(SmoothNet), with_peers=False))
    refused = {m for m, o in found.items() if o == "refused"}
    assert {"guided_backprop", "deconvnet", "guided_grad_cam"} <= refused <= {*found} - {"gradient", "grad_cam"}
    assert not {*found.values()} & {*BAD}


def torchvision(name: str, size: int, **known) -> Case:
    return Case("torchvision", name, name, lambda: from_torch(build_torchvision(name), size, **known))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_torchvision_is_right_or_truly_refused(name):
    result = measure(torchvision(name, 64), with_peers=False)
    assert not bad(result)
    assert sum(c.outcome == "right" for c in result.cells) >= 20
    assert result.question == ""


@pytest.mark.slow
def test_a_small_vision_transformer_is_right_or_truly_refused():
    timm = pytest.importorskip("timm", reason="timm is not installed")

    def build() -> Subject:
        make = timm.models.vision_transformer.VisionTransformer
        net = built(lambda: make(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=7))
        return from_torch(net, 32, prefix=net.num_prefix_tokens)

    result = measure(Case("timm", "vision_transformer", "tiny", build), with_peers=False)
    assert not bad(result)
    assert result.grid == (4, 4)
    found = outcomes(result)
    assert {m for m, o in found.items() if o == "refused"} == {"cam", "guided_backprop", "deconvnet", "guided_grad_cam"}


# --- it must see what is wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", referenced())
def test_a_wrong_map_of_any_method_is_seen(monkeypatch, method):
    honest = cells.explanations

    def spoiled(*args, **options):
        for image, e in honest(*args, **options):
            skewed = np.where(np.arange(e.attribution.shape[-1]) % 2, 1.5, 1.0)
            yield image, replace(e, attribution=e.attribution * skewed.astype(np.float32))

    monkeypatch.setattr(cells, "explanations", spoiled)
    (cell,) = measure(case(ConvNet), [method], with_peers=False).cells
    assert cell.outcome == "wrong"


def test_a_crash_of_one_method_is_counted_and_the_others_go_on(monkeypatch):
    honest = cells.explanations

    def broken(model, x, methods, *args, **options):
        if "grad_cam" in methods:
            raise ZeroDivisionError("of ours")
        yield from honest(model, x, methods, *args, **options)

    monkeypatch.setattr(cells, "explanations", broken)
    found = measure(case(ConvNet), ["gradient", "grad_cam", "hires_cam"], with_peers=False).cells
    assert [c.outcome for c in found] == ["right", "crashed", "right"]
    assert "ZeroDivisionError: of ours" in found[1].why


def test_a_refusal_without_reason_is_seen(monkeypatch):
    def refuse(*_):
        raise RefusedError("guided: this model has no ReLU")

    monkeypatch.setattr("sightline.recording.applied", refuse)
    (cell,) = measure(case(ConvNet), ["guided_backprop"], with_peers=False).cells
    assert cell.outcome == "untrue refusal"


def test_a_map_where_the_method_means_nothing_is_wrong(monkeypatch):
    def none(_):
        raise references.MeaninglessError("no ReLU")

    monkeypatch.setitem(references.OTHERS, "guided_backprop", none)
    (cell,) = measure(case(ConvNet), ["guided_backprop"], with_peers=False).cells
    assert (cell.outcome, cell.why) == ("wrong", "a map, where no ReLU")


class FlatNet(nn.Module):
    """Its gradient is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.conv(x) * 0).mean((2, 3)))


def test_a_gradient_of_zero_is_not_measured():
    found = measure(case(FlatNet), ["gradient", "smooth_grad"], with_peers=False)
    assert [c.outcome for c in found.cells] == ["not measured"] * 2


class SkewedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * 1.5


class SkewedNet(ConvNet):
    """Its autograd is wrong, as that of a library may be."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(SkewedGradient.apply(x))


def test_a_gradient_that_is_not_the_slope_is_wrong_though_autograd_says_so():
    (cell,) = measure(case(SkewedNet), ["gradient"], with_peers=False).cells
    assert (cell.outcome, cell.why) == ("wrong", "its length is 0.33 off the slope")


def test_zero_heads_and_faint_scales_are_drawn_anew():
    class Zero(ConvNet):
        def __init__(self) -> None:
            super().__init__()
            for p in self.parameters():
                nn.init.zeros_(p)
            self.gamma = nn.Parameter(torch.full((3,), 1e-6))

    subject = from_torch(drawn(Zero), 24)
    assert all(p.any() for n, p in subject.net.named_parameters() if n.endswith("weight"))
    assert float(subject.net.gamma.abs().min()) >= 0.1


def test_a_net_that_cannot_be_built_is_reported():
    def build() -> Subject:
        raise OSError("not here")

    result = measure(Case("here", "tiny", "none", build))
    assert result.failed.startswith("OSError: not here")
    assert not result.cells


def test_results_survive_the_file():
    result = measure(case(ConvNet), ["gradient"], with_peers=False)
    assert Result.from_dict(result.to_dict()) == result


def test_every_reference_is_of_a_registered_method():
    assert {*references.CAMS, *references.OTHERS} == {*referenced()} <= {*METHODS}
    assert len(referenced()) >= 21


@pytest.mark.slow
def test_every_source_lists_its_networks():
    assert len(nets.cases("torchvision")) == 80
    for source, least in (("timm", 98), ("keras", 15), ("hf", 35)):
        if find_spec({"hf": "transformers"}.get(source, source)):
            assert len({c.family for c in nets.cases(source)}) >= least


@pytest.mark.slow
@pytest.mark.reference
def test_peers_are_right_on_a_plain_net_and_wrong_where_they_miss_a_relu():
    pytest.importorskip("captum")
    pytest.importorskip("pytorch_grad_cam")
    found = {c.method: c.peers for c in measure(torchvision("googlenet", 64)).cells}
    assert found["gradient"] == {"captum": "right"}
    assert found["guided_backprop"] == {"captum": "wrong"}
    assert found["grad_cam"] == {"captum": "right", "grad-cam": "right"}
