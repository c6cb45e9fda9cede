"""What is asked for is checked before it is computed, and what cannot be said is not drawn as if it were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import sightline
from nets import drawn, make
from sightline.demo.scenes import scene
from sightline.errors import LayerError, ModelError, ParameterError, RefusedError

STAR = scene(11).image


@pytest.fixture(scope="module")
def honest() -> sightline.Model:
    return sightline.load("demo/honest")


def body() -> nn.Module:
    convs = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU())
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.parametrize(
    "method",
    ["lrp", "deep_taylor", "excitation_backprop", "contrastive_excitation_backprop", "full_grad", "deep_lift"],
)
def test_a_function_around_a_net_gives_what_the_net_gives(method: str) -> None:
    net = drawn(body)  # whose weights nobody freezes when a function is called
    how = sightline.Preprocessing(resize=16, crop=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    through = sightline.load(lambda batch: net(batch), preprocessing=how)
    ours, theirs = (sightline.explain(m, STAR, method, 1) for m in (sightline.load(net, preprocessing=how), through))
    assert np.allclose(ours.attribution, theirs.attribution, atol=1e-6 * np.abs(ours.attribution).max())
    assert ours.notes == theirs.notes


@pytest.mark.parametrize("method", ["excitation_backprop", "contrastive_excitation_backprop", "deep_taylor"])
def test_rules_for_positive_activations_refuse_attention(method: str) -> None:
    net, x = make("tokens")
    with pytest.raises(RefusedError, match=rf"^{method}.*attention; use attn_lrp"):
        sightline.explain(net, x, method, 1)


@pytest.mark.parametrize(
    ("method", "name", "array"),
    [
        ("feature_ablation", "segments", np.zeros((3, 96, 96), int)),
        ("integrated_gradients", "baseline", torch.zeros(3, 3, 96, 96)),
        ("rise", "fill", torch.zeros(3, 3, 96, 96)),
    ],
)
@pytest.mark.parametrize("images", [1, 2])
def test_one_or_one_for_each_image(honest, method: str, name: str, array, images: int) -> None:
    with pytest.raises(ParameterError, match=f"{name} for 3 images came with {images} image"):
        sightline.explain(honest, [STAR] * images, method, 0, **{name: array})


def test_lists_are_arrays_or_text(honest) -> None:
    halves = np.repeat([[0] * 48 + [1] * 48], 96, 0)
    listed, array = (
        sightline.explain(honest, STAR, "feature_ablation", 0, segments=s) for s in (halves.tolist(), halves)
    )
    assert np.array_equal(listed.attribution, array.attribution)
    with pytest.raises(ParameterError, match="a list that is no array"):
        sightline.explain(honest, STAR, "feature_ablation", 0, segments=[[0, 1], [2]])
    assert sightline.explain(honest, STAR, "extremal_perturbation", 0, areas=[0.1, 0.2], steps=2)


@pytest.mark.parametrize(("method", "name"), [("integrated_gradients", "baseline"), ("rise", "fill")])
def test_a_baseline_of_nan_is_no_baseline(honest, method: str, name: str) -> None:
    with pytest.raises(ParameterError, match=f"{method}.*NaN or infinity; wanted finite"):
        sightline.explain(honest, STAR, method, 0, **{name: torch.full((3, 96, 96), float("nan"))})


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"seed": 2**70}, "whole number from 0"),
        ({"seed": -1}, "whole number from 0"),
        ({"chunk": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_numbers_that_mean_nothing(honest, given: dict, word: str) -> None:
    with pytest.raises(ParameterError, match=word):
        sightline.explain(honest, STAR, "rise", 0, **given)


@pytest.mark.parametrize(("name", "value"), [("window", 0), ("stride", 0), ("keep", 0)])
def test_nothing_is_no_size(honest, name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=rf"{name}=0: wanted a number"):
        sightline.explain(honest, STAR, "rise" if name == "keep" else "occlusion", 0, **{name: value})


def test_a_layer_that_is_not_there_is_said_whatever_the_method(honest) -> None:
    with pytest.raises(LayerError, match="there is no layer 'layer9'"):
        sightline.explain(honest, STAR, "occlusion", 0, layer="layer9")
    e = sightline.explain(honest, STAR, "gradient", 0, layer="features.relu5")
    assert "layer= changes nothing here" in " ".join(e.notes)


@pytest.mark.parametrize(
    ("method", "given"),
    [("gradient", {"low_pass": 0.0}), ("occlusion", {"window": 1000}), ("internal_influence", {"layer": "1"})],
)
def test_a_map_that_is_the_same_everywhere_says_so(method: str, given: dict) -> None:
    net = drawn(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    )
    x = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    (e,) = sightline.explain(net, x, method, 0, **given)
    assert "the same everywhere" in " ".join(e.notes)
    (other,) = sightline.explain(net, x, "constant", 0)
    assert other.notes == ()


@pytest.mark.parametrize("method", ["eigen_cam", "eigen_grad_cam", "seg_eigen_cam", "kpca_cam"])
def test_huge_activations_do_not_overflow(method: str) -> None:
    net = drawn(body)
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    (small,) = sightline.explain(net, x, method, 1)
    with torch.no_grad():
        for bias in (net[0].bias, net[2].bias):
            bias.zero_()
    (plain,) = sightline.explain(net, x, method, 1)
    (huge,) = sightline.explain(net, x * 1e25, method, 1)
    assert np.isfinite(huge.attribution).all()
    if method in ("eigen_cam", "eigen_grad_cam"):
        assert np.corrcoef(plain.attribution.ravel(), huge.attribution.ravel())[0, 1] > 0.999
    assert small.attribution.any()


def test_errors_begin_with_the_name_of_what_was_asked_for() -> None:
    net, x = make("smooth")
    for method in ("guided_backprop", "guided_grad_cam", "deconvnet"):
        with pytest.raises(RefusedError, match=f"^{method}: this model has no ReLU"):
            sightline.explain(net, x, method, 1)


@pytest.mark.parametrize("method", ["lrp", "deep_lift", "full_grad"])
def test_rules_say_of_a_function_outside_torch_what_helps(method: str) -> None:
    model = sightline.load(lambda batch: np.asarray(batch).mean((2, 3)))
    with pytest.raises(RefusedError, match=f"^{method}: .*only scores"):
        sightline.explain(model, STAR, method, 1)


def test_a_name_that_no_hub_can_have_is_no_model() -> None:
    with pytest.raises(ModelError, match="there is no model"):
        sightline.load("nope[/x]")


def test_an_anchor_that_was_not_found_is_not_called_one(honest) -> None:
    e = sightline.explain(honest, STAR, "anchors", "top1", samples=1)
    assert "no anchor of precision" in e.notes[0]


def test_expected_gradients_wants_samples_not_steps(honest) -> None:
    e = sightline.explain(honest, STAR, "expected_gradients", 0, samples=2)
    assert "take more samples" in " ".join(e.notes)


@pytest.mark.parametrize(
    ("method", "model", "given"),
    [("finer_cam", "demo/honest", "similar"), ("refine_cam", "demo/honest", "stages"), ("legrad", "demo/vit", "last")],
)
def test_more_than_there_is_is_said(method: str, model: str, given: str) -> None:
    e = sightline.explain(model, STAR, method, "star", **{given: 99})
    assert f"{given}=99: the model has" in " ".join(e.notes)
