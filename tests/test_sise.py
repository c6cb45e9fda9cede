"""SISE and Ada-SISE against their formulas in loops, and the layers that they take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import make
from sightline.errors import LayerError
from sightline.methods.sise import otsu

LAYERS = ["features.2", "features"]


def gap(values: Tensor, limit: float) -> float:
    """The variance between the values up to a threshold and those above it."""
    low, high = values[values <= limit], values[values > limit]
    return float(len(low) * len(high) * (low.mean() - high.mean()) ** 2) if len(low) and len(high) else -1.0


def read(net: nn.Module, x: Tensor, layer: str, output: str) -> tuple[Tensor, Tensor]:
    """The layer's maps and the gradient of the score, by hand."""
    kept = []
    handle = net.get_submodule(layer).register_forward_hook(lambda _, __, out: kept.append(out))
    logits = net(x)
    handle.remove()
    score = (logits if output == "logit" else logits.softmax(1))[:, 1].sum()
    return kept[0].detach(), torch.autograd.grad(score, kept[0])[0]


def score(net: nn.Module, x: Tensor, output: str) -> float:
    logits = net(x[None]).detach()
    return float((logits if output == "logit" else logits.softmax(1))[0, 1])


def seen(net, image: Tensor, maps: Tensor, average: Tensor, threshold: float, output: str, centre: bool) -> Tensor:
    total = torch.zeros(image.shape[1:], dtype=torch.float64)
    empty = score(net, image * 0, output) if centre else 0.0
    for k in range(len(maps)):
        if average[k] > max(0.0, threshold * float(average.max())):
            mask = F.interpolate(maps[None, k : k + 1], size=image.shape[1:], mode="bilinear")[0, 0]
            mask = (mask - mask.min()) / (mask.max() - mask.min()).clamp(min=1e-12)
            total += (score(net, image * mask, output) - empty) * mask / mask.sum()
    return (total - total.min()) / (total.max() - total.min()).clamp(min=1e-12)


@pytest.mark.parametrize(
    ("threshold", "output", "centre", "fuse"),
    [(0.0, "probability", False, "otsu"), (0.5, "logit", True, "otsu"), (0.0, "logit", True, "product")],
)
def test_sise_is_its_formula(threshold, output, centre, fuse):
    net, x = make("conv", torch.float64)
    said = {"threshold": threshold, "centre": centre, "fuse": fuse, "layer": LAYERS, "output": output}
    for i, e in enumerate(sightline.explain(net, x, "sise", 1, **said)):
        maps = []
        for layer in LAYERS:
            a, gradient = read(net, x[i : i + 1], layer, output)
            maps.append(seen(net, x[i], a[0], gradient[0].mean((1, 2)), threshold, output, centre))
        fine, coarse = maps
        limit = max(coarse.flatten().sort().values[:-1], key=lambda t: gap(coarse.flatten(), float(t)))
        wanted = (fine + coarse) * (coarse if fuse == "product" else coarse > limit)
        assert np.allclose(e.attribution, wanted, atol=1e-6)
        assert e.layer == "features.2+features"


def test_one_layer_is_not_fused_and_lies_between_0_and_1():
    net, x = make("conv", torch.float64)
    for e in sightline.explain(net, x, "sise", 1, layer="features"):
        assert (e.attribution.min(), e.attribution.max()) == (0, 1)


def test_ada_sise_takes_the_maps_above_otsus_threshold():
    net, x = make("conv", torch.float64)
    (e,) = sightline.explain(net, x[:1], "ada_sise", 1, layer="features", centre=False)
    a, gradient = read(net, x[:1], "features", "logit")
    average = gradient[0].mean((1, 2))
    positive = average[average > 0]
    limit = max(positive.sort().values[:-1], key=lambda t: gap(positive, float(t)))
    few = average.where(average > limit, torch.zeros(()).double())
    assert 0 < int((few > 0).sum()) < len(positive)
    assert np.allclose(e.attribution, seen(net, x[0], a[0], few, 0.0, "logit", False), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_otsus_threshold_parts_best_and_is_near_the_binned_one(seed):
    skimage = pytest.importorskip("skimage.filters")
    generator = torch.Generator().manual_seed(seed)
    values = torch.cat((torch.rand(80, generator=generator), 2 + torch.rand(40, generator=generator))).double()
    found = float(otsu(values))
    assert gap(values, found) == pytest.approx(max(gap(values, float(t)) for t in values), rel=1e-12)
    assert int(((values > found) != (values > skimage.threshold_otsu(values.numpy()))).sum()) <= 1  # bins


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0, 2.0]])
def test_otsu_of_nothing_to_part_is_0(values):
    assert float(otsu(torch.tensor(values, dtype=torch.float64))) == 0


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("conv", ("features.2", "features")),
        ("inplace", ("relu@2",)),
        ("tokens", ("blocks.1.norm1",)),
        ("signal", ("conv",)),
    ],
)
def test_the_layers_are_the_last_of_each_size(name, wanted):
    net, x = make(name)
    assert sightline.load(net).last_layers(x) == wanted


def test_a_layer_that_branches_off_at_another_size_is_no_block():
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.squeeze, self.gate = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.pool, self.coarse, self.head = nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.fine(x)
            h = h * self.gate(F.adaptive_avg_pool2d(self.squeeze(h), 1)).sigmoid()
            small = F.interpolate(self.gate(F.avg_pool2d(h, 8)), scale_factor=4)
            return self.head(self.coarse(self.pool(h) + small).mean((2, 3)))

    # The gate at 2 x 2 is smaller than the last layer at 8 x 8, so nothing between them counts.
    assert sightline.load(Gated().eval()).last_layers(torch.randn(1, 3, 16, 16)) == ("squeeze", "coarse")


def test_a_target_that_no_map_speaks_for_has_an_empty_map_and_says_so():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    net[4].weight.data = torch.tensor([[1.0], [-1.0]]).expand(2, 4).clone()
    for method in ("sise", "ada_sise"):
        (e,) = sightline.explain(net, torch.randn(1, 3, 8, 8), method, 1)
        assert not e.attribution.any()
        assert any("zero everywhere" in note for note in e.notes)


def test_a_net_without_layers_is_refused():
    with pytest.raises(LayerError, match="use a method that reads the input"):
        sightline.explain(lambda batch: batch.mean((2, 3)), torch.rand(1, 3, 8, 8), "sise", 1)
