"""Curves over positions and regions against loops written out, and the pitfalls of deletion in other tools."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from faithful import noise_like, normal, pixel_net, softmax
from nets import make
from sightline.demo.scenes import scene
from sightline.evaluation.measure import measure
from sightline.evaluation.run import evaluate
from sightline.masks import segments_of
from sightline.points import gaussian_blur

STEPS = 7
NET, X = make("conv")
MAPS = normal(3, *X.shape[2:], seed=9).float()


def forwarded(net: nn.Module, x: np.ndarray, probability: bool) -> float:
    with torch.no_grad():
        logits = net(torch.from_numpy(x[None]).float()).double().numpy()[0]
    return float((softmax(logits) if probability else logits)[1])


def filled(image: Tensor, fill: str) -> np.ndarray:
    if fill == "blur":
        return gaussian_blur(image[None], max(image.shape[1:]) / 10)[0].numpy()
    colour = image.flatten(1).mean(1) if fill == "mean" else torch.zeros(len(image))
    return colour.reshape(-1, 1, 1).expand_as(image).numpy()


def flipped(image: Tensor, heat: Tensor, fill: str, probability: bool, insert: bool) -> float:
    """Take away, or show, position after position of one image: the mean of neighbours, over the shares."""
    order = np.argsort(-heat.numpy().ravel())
    whole, other = image.numpy(), filled(image, fill)
    scores = []
    for step in range(STEPS + 1):
        picture = (other if insert else whole).copy()
        for place in order[: round(step / STEPS * len(order))]:
            row, column = divmod(int(place), heat.shape[1])
            picture[:, row, column] = (whole if insert else other)[:, row, column]
        scores.append(forwarded(NET, picture, probability))
    return sum((a + b) / 2 / STEPS for a, b in pairwise(scores))


@pytest.mark.parametrize(
    ("name", "fill", "probability"),
    [("deletion", "blur", True), ("insertion", "blur", True), ("pixel_flipping", "mean", False)],
)
def test_curves_are_those_of_a_loop_over_pixels(name: str, fill: str, probability: bool) -> None:
    found = measure(NET, MAPS, X, name, target=1, parameters={f"{name}.steps": STEPS})[name]
    loops = [flipped(x, m, fill, probability, name == "insertion") for x, m in zip(X, MAPS, strict=True)]
    np.testing.assert_allclose(found, loops, atol=1e-5)


@pytest.mark.parametrize("name", ["aopc", "aopc_lerf"])
def test_aopc_is_that_of_a_loop_over_cells(name: str) -> None:
    how = {"cells": 4, "part": 0.5, "steps": 4}
    found = measure(NET, MAPS, X, name, target=1, parameters={f"{name}.{k}": v for k, v in how.items()})[name]
    for row, (image, heat) in enumerate(zip(X, MAPS, strict=True)):
        cells = _cells(heat.shape, 4)
        totals = [heat.numpy()[cell].sum() for cell in cells]
        order = np.argsort(totals) if name == "aopc_lerf" else np.argsort(totals)[::-1]
        picture, drops = image.numpy().copy(), [0.0]
        start = forwarded(NET, picture, probability=False)
        for step in range(4):
            for cell in order[2 * step : 2 * step + 2]:
                picture[:, cells[cell][0], cells[cell][1]] = filled(image, "mean")[:, cells[cell][0], cells[cell][1]]
            drops.append(start - forwarded(NET, picture, probability=False))
        assert found[row] == pytest.approx(np.mean(drops), abs=1e-5)


def _cells(size: Any, side: int) -> list[tuple[slice, slice]]:
    high, wide = (s // side for s in size)
    return [
        (slice(i * high, (i + 1) * high), slice(j * wide, (j + 1) * wide)) for i in range(side) for j in range(side)
    ]


def test_irof_is_that_of_a_loop_over_superpixels() -> None:
    net, x, exact = pixel_net(30, 30, images=2)
    maps = exact + exact.std() * noise_like(exact)
    found = measure(net, maps, x, "irof", target=0, parameters={"irof.segments": 12, "irof.steps": 200})["irof"]
    for row, (image, heat) in enumerate(zip(x, maps, strict=True)):
        labels = segments_of("slic", 12, image[None])[0].numpy()
        mean = {label: float(heat.numpy()[labels == label].mean()) for label in np.unique(labels)}
        picture, curve = image.numpy().copy(), [1.0]
        with torch.no_grad():
            own = torch.softmax(net(image[None]).double(), 1)[0, 0].item()
            for label in sorted(mean, key=lambda k: -mean[k]):
                picture[:, labels == label] = filled(image, "mean")[:, labels == label]
                curve.append(torch.softmax(net(torch.from_numpy(picture[None])).double(), 1)[0, 0].item() / own)
        # With many steps the curve is one of stairs, which changes at once and not along a slope.
        stairs = 1 - np.mean(curve[1:])
        assert found[row] == pytest.approx(stairs, abs=0.01)


def test_irof_is_undefined_where_there_is_only_one_superpixel() -> None:
    noise = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert _segments(noise) == 1
    net, x, exact = pixel_net(96, 96, images=2)
    x[1] = noise
    found = measure(net, exact, x, "irof", target=0)["irof"]
    assert np.isfinite(found[0])
    assert np.isnan(found[1])


def _segments(image: Tensor) -> int:
    from skimage.segmentation import slic

    scaled = (image - image.min()) / (image.max() - image.min())
    return len(np.unique(slic(scaled.numpy(), n_segments=100, compactness=30.0, channel_axis=0, start_label=0)))


@pytest.mark.parametrize("name", ["deletion", "insertion", "pixel_flipping"])
def test_the_area_does_not_grow_with_the_number_of_steps(name: str) -> None:
    """In another tool the area of 20 steps is twice that of 10."""
    net, x, exact = pixel_net(20, 20)
    few, many = (measure(net, exact, x, name, target=0, parameters={f"{name}.steps": n})[name] for n in (20, 80))
    np.testing.assert_allclose(few, many, rtol=0.1)


def test_the_curve_of_an_even_net_is_a_straight_line() -> None:
    """All positions count alike, so any order gives the mean of both ends, with any number of steps."""
    net, x, _ = pixel_net(12, 12)
    net.weights.data.fill_(0.01)
    x = torch.ones_like(x)
    maps = normal(len(x), 12, 12).float()
    for steps in (1, 3, 12):
        how = {"deletion.steps": steps, "deletion.fill": "zero", "deletion.score": "logit"}
        found = measure(net, maps, x, "deletion", target=0, parameters=how)["deletion"]
        np.testing.assert_allclose(found, (3 * 144 * 0.01) / 2 + net.bias, rtol=1e-5)


class Watching(nn.Module):
    """Keep what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.head = nn.Linear(3 * 64, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.head(x.flatten(1))


@pytest.mark.parametrize("name", ["deletion", "insertion", "pixel_flipping"])
def test_pixels_change_whole_and_not_channel_by_channel(name: str) -> None:
    """In another tool a map of one channel flips the red values first."""
    net, x = Watching().eval(), normal(1, 3, 8, 8).float()
    measure(net, normal(1, 8, 8).float(), x, name, target=0, parameters={f"{name}.steps": 16, f"{name}.fill": "zero"})
    partly = [p for p in torch.cat(net.seen) if 0 < int((p == 0).sum()) < p.numel()]
    assert len(partly) == 15
    for picture in partly:
        covered = (picture == 0).sum(0)
        assert set(covered.unique().tolist()) == {0, 3}
        assert int((covered == 3).sum()) % 4 == 0


def test_a_constant_map_is_a_random_order_and_not_a_raster_scan() -> None:
    """Row by row, all that counts would go in the first eighth."""
    net, x, _ = pixel_net(16, 16, images=1)
    net.weights.data.zero_()
    net.weights.data[:, :2] = 0.1
    x = torch.ones_like(x)
    how = {"deletion.fill": "zero", "deletion.score": "logit"}
    maps = np.full((1, 16, 16), 0.1, np.float32)
    found = [measure(net, maps, x, "deletion", target=0, seed=s, parameters=how)["deletion"][0] for s in range(12)]
    start = 3 * 32 * 0.1
    assert np.mean(found) - net.bias == pytest.approx(start / 2, abs=0.05 * start)  # a raster scan has 1/16 of it
    assert np.std(found) > 0


def test_the_metrics_need_no_name_that_numpy_has_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("trapz", "NaN", "in1d"):
        monkeypatch.delattr(np, name, raising=False)
    net, x, exact = pixel_net(16, 16, images=1)
    assert np.isfinite(measure(net, exact, x, "deletion,sic,irof,road", target=0)["deletion"]).all()


def test_the_score_that_insertion_starts_from_is_reported() -> None:
    pictures = [scene(i).image for i in (0, 3)]
    found = evaluate(
        "demo/honest", pictures, "gradient", "insertion,single_deletion", parameters={"insertion.steps": 2}
    )
    first = [c.score for c in found.curves if c.share == 0 and c.method == "gradient"]
    start = found.start("insertion")
    assert start is not None
    assert start.count == len(first) == 2
    assert start.mean == pytest.approx(np.mean(first))
    assert found.to_dict()["metrics"]["insertion@1"]["start"]["mean"] == pytest.approx(start.mean)
    assert found.start("single_deletion") is None
    assert start.mean == pytest.approx(np.mean([_blurred_score(p) for p in pictures]), abs=1e-4)


def _blurred_score(picture: np.ndarray) -> float:
    from sightline.models.load import load
    from sightline.samples import samples

    model = load("demo/honest")
    x = next(iter(samples(model, [picture], _raise))).x[None]
    with torch.no_grad():
        own, hidden = (torch.softmax(model.module(v), 1)[0] for v in (x, gaussian_blur(x, 9.6)))
    return float(hidden[own.argmax()])


def _raise(failure: Any) -> None:
    raise failure.error
