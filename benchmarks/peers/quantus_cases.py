"""What Quantus gives on cases with a known answer; prints {case: outcome} as JSON. Run by its own environment."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable

import numpy as np
import quantus
import torch
from torch import nn

QUIET = {"disable_warnings": True, "display_progressbar": False}
FAILURES = (IndexError, AssertionError, TypeError, AttributeError, ValueError, KeyError, ZeroDivisionError)


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


def inputs(count: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(count, 3, 16, 16)).astype(np.float32)
    with torch.no_grad():
        y = small_net()(torch.from_numpy(x)).argmax(1).numpy()
    return x, y, drawn.normal(size=(count, 1, 16, 16)).astype(np.float32)


def linear_net() -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """A linear model with its exact attribution."""
    torch.manual_seed(0)
    layer = nn.Linear(3 * 16 * 16, 2, bias=False)
    x, _, _ = inputs(4)
    weights = layer.weight.detach().numpy()[0].reshape(1, 3, 16, 16)
    return nn.Sequential(nn.Flatten(), layer).eval(), x, x * weights


def outcome(run: Callable[[], object]) -> str:
    try:
        return str(run())
    except FAILURES as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:70]}"


def monotonicity() -> object:
    x, y, random = inputs(4)
    return quantus.Monotonicity(features_in_step=16, **QUIET)(small_net(), x, y, random)


def road() -> object:
    x, y, random = inputs(4)
    return quantus.ROAD(percentages=[20, 50], **QUIET)(small_net(), x, y, random)


def road_batches() -> object:
    x, y, _ = inputs()
    x, y = x[:, :1].copy(), y.copy()
    net = nn.Sequential(nn.Conv2d(1, 3, 1), small_net()).eval()
    with torch.no_grad():
        y = net(torch.from_numpy(x)).argmax(1).numpy()
    y[8:] = (y[8:] + 1) % 4
    maps = np.abs(x)
    metric = [quantus.ROAD(percentages=[1], noise=0.0, **QUIET) for _ in range(2)]
    return [m(net, x, y, maps, batch_size=size) for m, size in zip(metric, (8, 20), strict=True)]


def sensitivity_n() -> object:
    x, y, random = inputs()
    few = quantus.SensitivityN(features_in_step=16, **QUIET)(small_net(), x[:8], y[:8], random[:8], batch_size=8)
    many = quantus.SensitivityN(features_in_step=16, **QUIET)(small_net(), x, y, random, batch_size=8)
    return f"20 images in batches of 8: {np.ravel(many)}; the first 8 alone: {np.ravel(few)}"


def irof() -> object:
    x, y, random = inputs(4)
    return quantus.IROF(**QUIET)(small_net(), x, y, random)


def pointing_game() -> object:
    x, y, random = inputs(2)
    empty = np.zeros_like(random)
    half = np.zeros_like(random)
    half[..., 8:] = 1
    tied = np.zeros_like(random)
    tied[..., 4, [2, 12]] = 1
    scored = [
        quantus.PointingGame(**QUIET)(small_net(), x, y, a, s_batch=s) for a, s in ((random, empty), (tied, half))
    ]
    return f"empty mask: {scored[0]}; largest both on and off the object: {scored[1]}"


def completeness() -> object:
    net, x, exact = linear_net()
    y = np.zeros(len(x), int)
    metric = quantus.Completeness(normalise=False, abs=False, **QUIET)
    return metric(net, x, y, exact, softmax=False)


def mprt() -> object:
    x, y, _ = inputs(4)

    def saliency(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
        given = torch.as_tensor(inputs, dtype=torch.float32).requires_grad_()
        scores = model(given).gather(1, torch.as_tensor(targets).reshape(-1, 1))
        return torch.autograd.grad(scores.sum(), given)[0].abs().sum(1, keepdim=True).numpy()

    metric = quantus.MPRT(return_average_correlation=True, **QUIET)
    averaged = metric(small_net(), x, y, explain_func=saliency)
    return f"average {np.mean(averaged):.3f}"


def sparseness() -> object:
    x, y, random = inputs(2)
    alone = quantus.Sparseness(**QUIET)(small_net(), x[:1], y[:1], np.abs(random[:1]))
    scaled = np.abs(random) * np.array([1.0, 1e9], np.float32).reshape(2, 1, 1, 1)
    beside = quantus.Sparseness(**QUIET)(small_net(), x, y, scaled)
    return f"alone {alone[0]:.3f}, beside a map 1e9 times larger {beside[0]:.3f}"


def weighted_localisation() -> object:
    x, y, random = inputs(2)
    mask = np.zeros_like(random)
    mask[..., :8] = 1
    return quantus.AttributionLocalisation(weighted=True, **QUIET)(small_net(), x, y, np.abs(random), s_batch=mask)


def infidelity() -> object:
    x, y, random = inputs(2)
    metric = quantus.Infidelity(perturb_patch_sizes=[5], n_perturb_samples=5, **QUIET)
    return metric(small_net(), x, y, random)


CASES = {
    "monotonicity of random maps": monotonicity,
    "ROAD of RGB images": road,
    "ROAD of 20 images, 9 to 20 mislabelled, in batches of 8 and of 20": road_batches,
    "sensitivity-n of 20 images": sensitivity_n,
    "IROF of RGB images": irof,
    "pointing game": pointing_game,
    "completeness of the exact attribution of a linear model": completeness,
    "MPRT of the gradient": mprt,
    "sparseness of a map": sparseness,
    "weighted localisation of two images": weighted_localisation,
    "infidelity where patches do not divide the side": infidelity,
}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps({name: outcome(run) for name, run in CASES.items()}))
