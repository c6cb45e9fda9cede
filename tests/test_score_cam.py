"""CAMs weighted by scores, against loops that run the whole net for each channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import make
from sightline.recording import Options, record

LAYERS = [
    ("conv", "features.2"),
    ("conv", "features"),
    ("residual", "relu@2"),
    ("tokens", "blocks.0"),
    ("signal", "conv"),
]


def read(name: str, layer: str) -> tuple[nn.Module, Tensor, np.ndarray]:
    net, x = make(name, torch.float64)
    (a, *_) = np.stack([e.attribution for e in sightline.explain(net, x, "activations", 1, layer=layer)])[None]
    return net, x, a


def maps(net, x, method: str, layer: str, **parameters) -> np.ndarray:
    return np.stack(
        [e.attribution for e in sightline.explain(net, x, method, 1, layer=layer, relu=False, **parameters)]
    )


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_score_cam_is_its_formula(name, layer):
    net, x, a = read(name, layer)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 2]
    up = F.interpolate(torch.as_tensor(a, dtype=torch.float64), size=x.shape[2:], mode=mode)
    low, high = (f(up, dim=tuple(range(2, up.ndim)), keepdim=True) for f in (torch.amin, torch.amax))
    masks = (up - low) / (high - low).clamp(min=1e-12)
    scores = torch.stack([net(x * masks[:, k : k + 1])[:, 1] for k in range(a.shape[1])], 1).detach()
    weights = torch.softmax(scores, 1).numpy()
    wanted = np.einsum("nk,nk...->n...", weights, a)
    assert np.allclose(maps(net, x, "score_cam", layer), wanted, atol=1e-5)


def zeroed(net: nn.Module, x: Tensor, layer: str, channel: int, last: bool) -> Tensor:
    part, _, call = layer.partition("@")
    count = iter(range(1, 99))

    def hook(_, __, output):
        if next(count) != int(call or 1):
            return None
        copy = output.clone()
        copy[(..., channel) if last else (slice(None), channel)] = 0
        if last:
            copy[:, :1] = output[:, :1]  # the class token is no position
        return copy

    handle = net.get_submodule(part).register_forward_hook(hook)
    scores = net(x)[:, 1].detach()
    handle.remove()
    return scores


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_ablation_cam_is_its_formula_also_where_something_passes_by_the_layer(name, layer):
    net, x, a = read(name, layer)
    whole = net(x)[:, 1].detach()
    dropped = [whole - zeroed(net, x, layer, k, name == "tokens") for k in range(a.shape[1])]
    weights = (torch.stack(dropped, 1) / whole.abs().unsqueeze(1)).numpy()
    wanted = np.einsum("nk,nk...->n...", weights, a)
    assert np.allclose(maps(net, x, "ablation_cam", layer), wanted, atol=1e-5)


def test_what_comes_before_the_layer_runs_once_for_a_chunk():
    net, x = make("conv", torch.float64)
    rows = []
    net.features[0].register_forward_hook(lambda _, __, output: rows.append(len(output)))
    rec = record(sightline.load(net), x, Options(layers=("features",), from_input=False)).for_layer("features")
    a = rec.activation()
    rows.clear()
    list(rec.scores_after([a] * 40))
    assert sum(rows) == 2 * len(x)  # once to try, once for the one chunk


def test_the_strongest_channels_are_those_that_vary_most():
    net, x, a = read("conv", "features")
    best = np.argsort(-a.reshape(*a.shape[:2], -1).var(2), axis=1)[:, :2]
    found = maps(net, x, "score_cam", "features", channels=2)
    for image, channels in enumerate(best):
        planes = a[image, channels].reshape(2, -1).T
        weights, *_ = np.linalg.lstsq(planes, found[image].ravel(), rcond=None)
        assert np.allclose(planes @ weights, found[image].ravel(), atol=1e-6)
        assert weights.sum() == pytest.approx(1, abs=1e-4)
