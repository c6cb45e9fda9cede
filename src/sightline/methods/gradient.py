"""Methods that read the gradient at the input: (N, C, *S), signed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from torch import Tensor

from sightline.errors import ParameterError
from sightline.heatmap import resize
from sightline.methods.cam import grad_cam
from sightline.methods.registry import Range, method
from sightline.points import Baseline, NoiseScale, PathRule, baseline_of, noisy, path, uniform_images
from sightline.recording import Recording

Count = Annotated[int, Range(1)]
Level = Annotated[float, Range(0)]


@method(
    family="gradient",
    cite="Simonyan et al. 2013, arXiv:1312.6034, sec. 3",
    reads="input",
    style="grey",
    reduction="max-abs",
)
def gradient(rec: Recording) -> Tensor:
    """How much the score changes with each pixel: ds/dx."""
    return rec.gradient("input")


@method(family="gradient", cite="Shrikumar et al. 2016, arXiv:1605.01713, sec. 2", reads="input")
def input_x_gradient(rec: Recording) -> Tensor:
    """The first-order share of each pixel in the score: x · ds/dx."""
    return rec.x * rec.gradient("input")


def noise_moments(rec: Recording, samples: int, noise: float, scale: NoiseScale) -> tuple[Tensor, Tensor]:
    """Return mean and mean square of the gradient over noisy copies; shared by the three methods that average."""
    total = square = torch.zeros_like(rec.x, dtype=torch.float64 if rec.x.device.type != "mps" else torch.float32)
    for g in rec.gradients_at(noisy(rec.x, samples, noise, scale, rec.seed)):
        total, square = total + g, square + g.to(square) ** 2
    return total / samples, square / samples


@method(
    family="gradient",
    cite="Smilkov et al. 2017, arXiv:1706.03825, sec. 3",
    reads="input",
    style="grey",
    reduction="max-abs",
)
def smooth_grad(rec: Recording, samples: Count = 25, noise: Level = 0.15, scale: NoiseScale = "relative") -> Tensor:
    """The gradient averaged over noisy copies of the image: E[ds/dx (x + e)]."""
    mean, square = rec.memo(noise_moments, samples=samples, noise=noise, scale=scale)
    rec.sampled(((square - mean**2).clamp(min=0) / max(1, samples - 1)).sqrt().to(rec.x))
    return mean.to(rec.x)


@method(
    family="gradient",
    cite="Hooker et al. 2019, arXiv:1806.10758 (SmoothGrad squared)",
    reads="input",
    style="grey",
    reduction="max-abs",
)
def square_grad(rec: Recording, samples: Count = 25, noise: Level = 0.15, scale: NoiseScale = "relative") -> Tensor:
    """The squared gradient averaged over noisy copies of the image: E[(ds/dx)²]."""
    return rec.memo(noise_moments, samples=samples, noise=noise, scale=scale)[1].to(rec.x)


@method(
    family="gradient",
    cite="Adebayo et al. 2018, arXiv:1810.03292",
    reads="input",
    style="grey",
    reduction="max-abs",
)
def var_grad(rec: Recording, samples: Count = 25, noise: Level = 0.15, scale: NoiseScale = "relative") -> Tensor:
    """The variance of the gradient over noisy copies of the image: E[g²] - E[g]²."""
    mean, square = rec.memo(noise_moments, samples=samples, noise=noise, scale=scale)
    return (square - mean**2).clamp(min=0).to(rec.x)


@method(family="gradient", cite="Sundararajan et al. 2017, arXiv:1703.01365, eq. 1-3", reads="input")
def integrated_gradients(
    rec: Recording,
    baseline: Baseline = "zero",
    steps: Count = 50,
    rule: PathRule = "gauss-legendre",
    multiply: bool = True,
) -> Tensor:
    """The gradient averaged along the straight path from a baseline, times the difference; it adds up to f(x) - f(b).

    ``multiply=False`` leaves the difference out, as tf-explain does; it then adds up to nothing.
    """
    start = baseline_of(of_rows(baseline, rec), rec.x, rec.model.preprocessing, rec.seed)
    line = path(steps, rule)
    mean = torch.zeros_like(rec.x)
    for weight, g in zip(line.weights, rec.gradients_at(line.points(rec.x, start)), strict=True):
        mean = mean + weight * g
    if not multiply:
        return mean
    attribution = (rec.x - start) * mean
    rec.promise(attribution, rec.scores - next(rec.scores_at([start])))
    return attribution


def of_rows(baseline: Baseline, rec: Recording) -> Baseline:
    """Repeat baselines that were given one for each image where the recording repeats the images."""
    if isinstance(baseline, str) or baseline.ndim != rec.x.ndim or len(baseline) != int(rec.rows.max()) + 1:
        return baseline
    return torch.as_tensor(baseline)[rec.rows.cpu()]


@method(family="gradient", cite="Erion et al. 2021, arXiv:1906.10670, eq. 3", reads="input")
def expected_gradients(
    rec: Recording, baselines: Literal["uniform"] | Tensor = "uniform", samples: Count = 50
) -> Tensor:
    """Integrated gradients averaged over random baselines and random points: E[(x - b) · ds/dx (b + a (x - b))].

    ``baselines`` are preprocessed images (M, C, *S) to draw from, such as training images, or random pixels.
    """
    total = square = torch.zeros_like(rec.x)
    inputs = (b + a * (rec.x - b) for b, a in _drawn(rec, baselines, samples))
    for (b, _), g in zip(_drawn(rec, baselines, samples), rec.gradients_at(inputs), strict=True):
        total, square = total + (rec.x - b) * g, square + ((rec.x - b) * g) ** 2
    mean = total / samples
    rec.sampled(((square / samples - mean**2).clamp(min=0) / max(1, samples - 1)).sqrt())
    at_baselines = torch.stack(list(rec.scores_at(b for b, _ in _drawn(rec, baselines, samples))))
    rec.promise(mean, rec.scores - at_baselines.mean(0))
    return mean


def _drawn(rec: Recording, baselines: Literal["uniform"] | Tensor, samples: int) -> Iterator[tuple[Tensor, float]]:
    generator = torch.Generator().manual_seed(rec.seed)
    alphas = torch.rand(samples, generator=generator, dtype=torch.float64).tolist()
    if isinstance(baselines, str):
        yield from zip(uniform_images(rec.x, samples, rec.model.preprocessing, rec.seed), alphas, strict=True)
        return
    given = torch.as_tensor(baselines).to(rec.x)
    if given.ndim != rec.x.ndim or given.shape[1:] != rec.x.shape[1:] or not len(given):
        raise ParameterError(
            f"expected_gradients.baselines has shape {tuple(given.shape)}; wanted (M, "
            f"{', '.join(map(str, rec.x.shape[1:]))}), preprocessed."
        )
    for index, alpha in zip(torch.randint(len(given), (samples,), generator=generator).tolist(), alphas, strict=True):
        yield given[index].expand_as(rec.x), alpha


@method(
    family="gradient",
    cite="Springenberg et al. 2014, arXiv:1412.6806, sec. 3.4",
    reads="input",
    style="grey",
    reduction="max-abs",
)
def guided_backprop(rec: Recording, smooth_activations: bool = False) -> Tensor:
    """The gradient with negative parts cut off at every ReLU on the way back.

    ``smooth_activations`` extends the rule to GELU, SiLU and the like, which the paper does not define.
    """
    return rec.gradient("input", "guided_smooth" if smooth_activations else "guided")


@method(
    family="gradient",
    cite="Zeiler & Fergus 2014, arXiv:1311.2901, sec. 2.1",
    reads="input",
    style="grey",
    reduction="max-abs",
)
def deconvnet(rec: Recording, smooth_activations: bool = False) -> Tensor:
    """The gradient with every ReLU replaced, on the way back, by a ReLU of the gradient itself.

    ``smooth_activations`` extends the rule to GELU, SiLU and the like, which the paper does not define.
    """
    return rec.gradient("input", "deconv_smooth" if smooth_activations else "deconv")


@method(
    family="gradient",
    cite="Selvaraju et al. 2017, arXiv:1610.02391, sec. 3.3",
    reads=("input", "layer"),
    at="input",
    style="grey",
    reduction="max-abs",
)
def guided_grad_cam(rec: Recording, smooth_activations: bool = False) -> Tensor:
    """Guided backprop where Grad-CAM looks: the product of both."""
    cam = resize(grad_cam(rec), rec.x.shape[2:])
    return cam.unsqueeze(1) * guided_backprop(rec, smooth_activations)
