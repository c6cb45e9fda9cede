"""Activation maximisation: the picture that a class or a channel answers to most, found by gradient ascent."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import ParameterError, RefusedError, TargetError
from sightline.geometry import Preprocessing, restore
from sightline.goals import top_count
from sightline.models.load import load
from sightline.models.model import Model
from sightline.output import written
from sightline.recording import Options, Recording, record
from sightline.targets import Output, Target, TargetName

__all__ = ["Maximized", "Parametrization", "maximize"]

Parametrization = Literal["fourier", "pixel"]

# How far a view may be off, as in Olah et al. 2017: shifted by shares of a side, scaled, turned by degrees.
_SHIFT, _SCALE, _TURN = 0.04, 0.05, 5.0
_CONTRAST = 0.25
_FLAT = "the score did not rise: around its start the target may not answer at all; try another seed or noise"
# Brightness, blue to yellow and red to green are nearly independent in photographs (Ruderman et al. 1998), and vary
# less and less.
_COLOURS = ((0.27, 0.09, 0.03), (0.27, 0.0, -0.06), (0.27, -0.09, 0.03))


@dataclass(frozen=True, eq=False)
class Maximized:
    """The picture that a target answers to most, and how its score rose.

    ``values`` (C, H, W) is what the model takes, ``image`` the picture to look at: uint8 (H, W, 3), or (H, W) of one
    channel. ``scores`` is the score of the view at each step, and at last of the picture itself.
    """

    values: np.ndarray
    image: np.ndarray
    target: TargetName
    scores: tuple[float, ...]
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """The score of the picture as it is."""
        return self.scores[-1]

    def render(self) -> Any:
        """Return a PIL card: the picture, and the score over the steps."""
        from sightline.render.optimized import maximized_card

        return maximized_card(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but arrays as plain JSON values."""
        target = {"index": self.target.index, "label": self.target.label}
        names = ("model", "score", "scores", "parameters", "notes")
        return {"target": target, **{n: getattr(self, n) for n in names}}

    def save(self, path: str | os.PathLike[str], draw: Literal["card", "image"] = "card") -> Path:
        """Write it, by the suffix: .png the card or the picture alone, .npz the values and all that is known of them.

        Raises ParameterError for another suffix.
        """
        from PIL import Image

        file = Path(path)
        if file.suffix.lower() not in (".png", ".npz"):
            raise ParameterError(f"cannot save to '{file.name}': wanted a name that ends in .png or .npz.")
        with written(file) as aside:
            if file.suffix.lower() == ".png":
                (self.render() if draw == "card" else Image.fromarray(self.image)).save(aside, format="PNG")
            else:
                about = np.array(json.dumps(self.to_dict()))
                np.savez_compressed(aside, about=about, values=self.values, image=self.image)
        return file

    def __repr__(self) -> str:
        size = "x".join(map(str, self.image.shape[:2]))
        return f"<Maximized {self.target.label!r} of {self.model}: {size}, score {self.score:.4g}>"


def maximize(
    model: Model | nn.Module | str,
    target: Target,
    *,
    steps: int = 256,
    size: int | tuple[int, int] | None = None,
    parametrization: Parametrization = "fourier",
    rate: float = 0.05,
    decay: float = 0.02,
    noise: float = 0.5,
    transforms: bool = True,
    output: Output = "logit",
    seed: int = 0,
    tick: Callable[[int], None] | None = None,
) -> Maximized:
    """Find the picture that ``target`` answers to most: a class, a contrast, `sightline.targets.unit(layer, channel)`.

    "fourier" climbs in the spectrum of a picture with independent colours, by Adam (Olah et al. 2017); "pixel" climbs
    from the mean colour in the model's own units, each step as long as the last, less ``decay`` times the picture
    (Simonyan et al. 2014). With ``transforms`` each step sees the picture a little shifted, scaled and turned.
    ``noise`` is how strong the random picture is that "fourier" starts from; from grey some targets never wake up.
    ``size`` is the side, or (height, width), where the model takes any. The same seed gives the same picture.

    Raises TargetError for "top1", which needs an image, RefusedError for what is no picture or has no gradient.
    """
    loaded = model if isinstance(model, Model) else load(model)
    loaded.check_weights()
    _check(parametrization, steps, rate=rate, decay=decay, noise=noise)
    _refuse(loaded, target)
    shape = (loaded.batch or 1, loaded.preprocessing.channels, *_size(loaded, size))
    how = {"steps": steps, "size": list(shape[2:]), "parametrization": parametrization, "rate": rate, "decay": decay}
    how |= {"noise": noise, "transforms": transforms, "output": output, "seed": seed}
    blank = torch.zeros(shape, device=loaded.device, dtype=loaded.dtype)
    with record(loaded, blank, Options(output=output, seed=seed, tick=tick), target) as rec:
        found, scores = _climbed(rec, how)
    picture = restore(found, loaded.preprocessing)
    notes = () if scores[-1] > scores[0] else (_FLAT,)
    return Maximized(found.numpy(), picture, rec.goal.names[0], scores, loaded.name, how, notes)


def _check(parametrization: str, steps: int, **numbers: float) -> None:
    if parametrization not in get_args(Parametrization):
        raise ParameterError(
            f"parametrization={parametrization!r}: wanted one of {', '.join(get_args(Parametrization))}."
        )
    if not isinstance(steps, int) or steps < 1:
        raise ParameterError(f"steps={steps!r}: wanted a whole number of at least 1.")
    for name, value in numbers.items():
        if not 0 <= value < math.inf:
            raise ParameterError(f"{name}={value!r}: wanted a number of at least 0.")


def _refuse(model: Model, target: Target) -> None:
    if top_count(target, model.labels) is not None:
        raise TargetError(f"maximize: {target} is what a model says of an image, and here is none; name a class.")
    if model.input_dims != 2 or model.preprocessing.channels not in (1, 3):
        raise RefusedError(
            f"maximize draws pictures of 1 or 3 channels; {model.name} takes {model.preprocessing.channels} channels "
            f"in {model.input_dims} dimensions. Explain real inputs of it instead."
        )


def _size(model: Model, size: int | tuple[int, int] | None) -> tuple[int, ...]:
    usual = tuple(model.example_input().shape[2:])
    if size is None:
        return usual
    wanted = size if isinstance(size, tuple) else (size, size)
    if len(wanted) != 2 or not all(isinstance(side, int) and side > 0 for side in wanted):
        raise ParameterError(f"size={size!r}: wanted a whole number above 0, or (height, width).")
    if model.input_size is not None and wanted != usual:
        raise ParameterError(f"size={size}: {model.name} takes {usual[0]}x{usual[1]} and no other size.")
    return wanted


def _climbed(rec: Recording, how: Mapping[str, Any]) -> tuple[Tensor, tuple[float, ...]]:
    """Return the picture (C, H, W) in the model's units, on the CPU in float32, and its scores."""
    generator = torch.Generator().manual_seed(rec.seed)
    fourier = how["parametrization"] == "fourier"
    with torch.inference_mode(False), torch.enable_grad():
        start, draw = _spectrum(rec, how["noise"], generator) if fourier else (_wide(rec.x[:1]).clone(), _as_it_is)
        variable = start.requires_grad_()
        climb = _climb(variable, fourier, how["rate"], how["decay"])
        scores = []
        for _ in range(how["steps"]):
            variable.grad = None
            picture = draw(variable)
            seen = _moved(picture, generator) if how["transforms"] else picture
            score, gradient = _reading(rec, seen)
            seen.backward(gradient.to(seen))
            scores.append(score)
            climb()
        found = draw(variable).detach()
    (last,) = rec.scores_at([_batch(rec, found)])
    return found[0].float().cpu(), (*scores, float(last[0]))


def _as_it_is(values: Tensor) -> Tensor:
    return values


def _climb(variable: Tensor, fourier: bool, rate: float, decay: float) -> Callable[[], Any]:
    """Return what takes one step up the variable's gradient."""
    if fourier:
        return torch.optim.Adam([variable], lr=rate, maximize=True).step

    def step() -> None:
        slope = variable.grad if variable.grad is not None else torch.zeros_like(variable)
        unit = slope / slope.square().mean().sqrt().clamp(min=1e-30)
        variable.data.add_(rate * unit - decay * variable.data)

    return step


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _batch(rec: Recording, picture: Tensor) -> Tensor:
    return picture.detach().to(rec.x).repeat(len(rec.x), 1, 1, 1)


def _reading(rec: Recording, picture: Tensor) -> tuple[float, Tensor]:
    """Return the score of one picture (1, C, H, W) and its gradient."""
    score, gradient = 0.0, torch.zeros_like(picture)
    for child, _ in rec.children([_batch(rec, picture)]):
        score, gradient = float(child.scores[0]), child.gradient("input")[:1]
    return score, gradient


def _spectrum(rec: Recording, noise: float, generator: torch.Generator) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return random amplitudes and how they become a picture (1, C, H, W), every frequency as strong as in photographs.

    Their colours are turned into red, green and blue, and a sigmoid keeps the pixels between black and white.
    """
    _, channels, height, width = rec.x.shape
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    strength = (_CONTRAST / frequency.clamp(min=1 / max(height, width))).to(_wide(rec.x))
    shape = (channels, height, width // 2 + 1, 2)
    start = (noise * torch.randn(shape, generator=generator, dtype=torch.float64)).to(strength)
    colours = torch.tensor(_COLOURS).to(strength) / torch.tensor(_COLOURS).norm(dim=0).max()

    def draw(values: Tensor) -> Tensor:
        planes = torch.fft.irfft2(torch.view_as_complex(values) * strength, s=(height, width), norm="ortho")
        mixed = torch.einsum("ij,jhw->ihw", colours, planes) if channels == 3 else planes
        return _prepared(torch.sigmoid(mixed), rec.model.preprocessing).unsqueeze(0)

    return start, draw


def _prepared(pixels: Tensor, how: Preprocessing) -> Tensor:
    """Turn pixels (C, H, W) from 0 to 1 into the model's units, differentiably."""
    ordered = pixels.flip(0) if how.order == "bgr" else pixels
    mean, std = (torch.tensor(v).to(pixels).reshape(-1, 1, 1) for v in (how.mean, how.std))
    return (ordered * (255.0 / how.scale) - mean) / std


def _moved(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Return the picture (1, C, H, W) a little shifted, scaled and turned, its edges mirrored."""
    right, down, larger, turned = (2 * torch.rand(4, generator=generator, dtype=torch.float64) - 1).tolist()
    angle, scale = math.radians(_TURN * turned), 1 + _SCALE * larger
    rows = [
        [scale * math.cos(angle), -scale * math.sin(angle), 2 * _SHIFT * right],
        [scale * math.sin(angle), scale * math.cos(angle), 2 * _SHIFT * down],
    ]
    grid = F.affine_grid(torch.tensor([rows]).to(picture), list(picture.shape), align_corners=False)
    return F.grid_sample(picture, grid, padding_mode="reflection", align_corners=False)
