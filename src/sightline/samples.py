"""From what a caller gives as images to tensors in batches, each with the way back to its original."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import ImageError, SightlineError
from sightline.geometry import Geometry, restore
from sightline.models.model import Model
from sightline.signals import read_signal, standardised

__all__ = ["Failure", "Sample", "batches", "sample_of_signal", "samples"]


@dataclass(frozen=True)
class Failure:
    """What could not be explained: the image as it was given (None: all of them), the method, and why."""

    image: Any
    method: str | None
    error: SightlineError


@dataclass(frozen=True, eq=False)
class Sample:
    """One image ready for the model, with what is needed to bring a map back onto it.

    ``signal`` (C, *S) is what is drawn where ``pixels`` cannot be: a series, a volume, a tensor of many channels.
    ``how`` says what was done to its values.
    """

    given: Any
    number: int
    x: Tensor
    geometry: Geometry | None
    pixels: np.ndarray | None
    name: str | None
    hash: str | None
    signal: np.ndarray | None = None
    how: str = "given as a tensor"


def samples(model: Model, images: Any, fail: Callable[[Failure], None]) -> Iterator[Sample]:
    """Yield the images one after the other as the model takes them; what is no image goes to ``fail``."""
    if isinstance(images, Tensor):
        yield from _tensor_samples(model, images)
        return
    listed = images if isinstance(images, (list, tuple)) else [images]
    if not listed:
        raise ImageError("no images came; wanted at least one path, PIL image, array or tensor.")
    for number, given in enumerate(listed):
        try:
            sample = _sample(model, given, number)
        except ImageError as error:
            fail(Failure(given, None, error))
        else:
            yield sample


def _sample(model: Model, given: Any, number: int) -> Sample:
    if isinstance(given, Tensor):
        raise ImageError(
            f"a list of tensors came (one of shape {tuple(given.shape)}); wanted one preprocessed tensor (N, C, *S): "
            "stack them with torch.stack."
        )
    if model.input_dims != 2:
        return sample_of_signal(model, given, number)
    picture = model.read(given)
    x, geometry = model.prepare(picture)
    how = model.preprocessing.describe()
    return Sample(given, number, x, geometry, picture.pixels, picture.name, picture.hash, how=how)


def sample_of_signal(model: Model, given: Any, number: int) -> Sample:
    """Return a series or volume as the model takes it; ImageError where it is none that fits."""
    how = model.preprocessing
    found = read_signal(given, dims=model.input_dims, channels=how.channels, most=model.max_pixels)
    if model.input_size is not None and tuple(found.values.shape[1:]) != model.input_size:
        have, want = ("x".join(map(str, size)) for size in (found.values.shape[1:], model.input_size))
        raise ImageError(
            f"{found.name or 'the array'} has {have} values a channel; {model.name} takes {want}: cut it, fill it up, "
            "or resample it to that size."
        )
    x, said = standardised(found.values, None if model.assumed else how)
    ready = x.to(model.device, model.dtype)
    return Sample(given, number, ready, None, None, found.name, found.hash, found.values, said)


def _tensor_samples(model: Model, images: Tensor) -> Iterator[Sample]:
    if images.ndim < 3 or not len(images):
        raise ImageError(
            f"a tensor of shape {tuple(images.shape)} came; wanted preprocessed images (N, C, H, W) or signals "
            "(N, C, L)."
        )
    if images.ndim == 3 and images.shape[0] == model.preprocessing.channels and _takes_pictures(model):
        raise ImageError(
            f"a tensor of shape {tuple(images.shape)} came, one picture (C, H, W); wanted a batch "
            "(N, C, H, W): give x[None]."
        )
    if not images.is_floating_point():
        raise ImageError(
            f"a tensor of {images.dtype} came; wanted float, already preprocessed. Give 8-bit pixels as an array "
            "(H, W, C)."
        )
    if not bool(torch.isfinite(images).all()):
        raise ImageError("the tensor holds NaN or infinity; wanted finite preprocessed values.")
    for number, x in enumerate(images.detach().to(model.device, model.dtype)):
        known = x.ndim == 3 and model.preprocessing.channels == len(x) and len(x) in (1, 3, 4)
        pixels = restore(x.float().cpu(), model.preprocessing) if known else None
        signal = None if pixels is not None else x.float().cpu().numpy().copy()
        yield Sample(number, number, x, None, pixels, None, None, signal)


def _takes_pictures(model: Model) -> bool:
    if model.dims is not None:
        return model.dims == 2
    kinds = [type(m) for m in model.module.modules()]
    return nn.Conv2d in kinds and nn.Conv1d not in kinds


def batches(found: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Group neighbours of one shape, so that a batch can be stacked."""
    batch: list[Sample] = []
    for sample in found:
        if batch and (len(batch) >= max(1, size) or sample.x.shape != batch[0].x.shape):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch
