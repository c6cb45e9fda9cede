"""Series and volumes: from a file or an array to the input (C, *S) of a model of one or three spatial dimensions."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.arrays import check_kind, read_numbers
from sightline.errors import ImageError
from sightline.geometry import Preprocessing
from sightline.images import MAX_PIXELS
from sightline.paths import shown

__all__ = ["Signal", "read_signal", "standardised"]

_NOUNS = {1: "a series", 3: "a volume"}
_AXES = {1: "L", 3: "D, H, W"}


@dataclass(frozen=True, eq=False)
class Signal:
    """A series or volume as it came: float32 values (C, *S), read-only; the file's name; a hash of the values."""

    values: np.ndarray
    name: str | None
    hash: str


def read_signal(source: Any, *, dims: int, channels: int, most: int = MAX_PIXELS) -> Signal:
    """Read a series (``dims`` 1) or a volume (``dims`` 3) of ``channels`` channels from a file or an array.

    Files are .npy, .npz (``FILE.npz:KEY`` where it holds several arrays), .csv, .tsv and .txt; in a table a column
    is a channel, and a single row is one series. Channels may be last or first, or left out where there is one;
    where both ends fit the model's number of channels, they are last, as in pictures. Values stay as they are.
    Raises ImageError, in one line, for whatever cannot be read as such, and for NaN and infinity.

    >>> read_signal(np.zeros((100, 2)), dims=1, channels=2).values.shape
    (2, 100)
    """
    if dims not in _NOUNS:
        raise ImageError(f"the model takes {dims} spatial dimensions; wanted a preprocessed tensor (N, C, *S).")
    if isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        said, name = shown(path), shown(Path(path).name)
        if not said:
            raise ImageError(f"an empty path came; wanted the path of a file with {_NOUNS[dims]}.")
        return _signal(read_numbers(path, said, most), said, name, (dims, channels))
    if isinstance(source, np.ndarray):
        return _signal(np.asarray(source), "the array", None, (dims, channels))
    raise ImageError(
        f"a {type(source).__name__} came and the model takes {_NOUNS[dims]} {_shapes(dims, channels)}; wanted a path, "
        "an array or a preprocessed tensor (N, C, *S)."
    )


def _signal(values: np.ndarray, said: str, name: str | None, wanted: tuple[int, int]) -> Signal:
    check_kind(values.dtype, said)
    if not values.size:
        raise ImageError(f"{said} is empty, of shape {values.shape}; wanted {_shapes(*wanted)}.")
    with np.errstate(over="ignore"):
        planes = np.array(_channels_first(values, said, *wanted), np.float32, order="C")
    _check_finite(planes, said)
    planes.flags.writeable = False
    digest = hashlib.sha256(f"{planes.shape}".encode() + planes.tobytes()).hexdigest()[:16]
    return Signal(planes, name, digest)


def _channels_first(values: np.ndarray, said: str, dims: int, channels: int) -> np.ndarray:
    shape = values.shape
    if values.ndim == dims and channels == 1:
        return values[None]
    if values.ndim == dims + 1 and shape[-1] == channels:
        return np.moveaxis(values, -1, 0)
    if values.ndim == dims + 1 and shape[0] == channels:
        return values
    wanted = f"the model takes {_NOUNS[dims]} of {channels} channel{'s' * (channels != 1)}: {_shapes(dims, channels)}"
    raise ImageError(f"{said} has the shape {shape}; {wanted}.{_advice(shape, dims, channels)}")


def _advice(shape: tuple[int, ...], dims: int, channels: int) -> str:
    if len(shape) == dims + 2:
        return " Give the series or volumes of a batch one by one, or as a preprocessed tensor (N, C, *S)."
    if len(shape) == dims + 1:
        few = min(shape[0], shape[-1]) < channels
        return " Give the missing channels too." if few else " Leave out the channels that the model does not take."
    return " Stack the channels on a last axis." if len(shape) == dims else " Bring it to that shape first."


def _shapes(dims: int, channels: int) -> str:
    axes = _AXES[dims]
    alone = f"({axes}), " if channels == 1 else ""
    return f"{alone}({axes}, {channels}) or ({channels}, {axes})"


def _check_finite(planes: np.ndarray, said: str) -> None:
    bad = ~np.isfinite(planes)
    if bad.any():
        channel, *place = (int(i) for i in np.argwhere(bad)[0])
        where = place[0] if len(place) == 1 else tuple(place)
        raise ImageError(
            f"{said} holds NaN or infinity ({bad.sum()} of {bad.size} values, the first at {where} of channel "
            f"{channel}, from 0); wanted finite numbers: fill or cut them."
        )


def standardised(values: np.ndarray, how: Preprocessing | None) -> tuple[Tensor, str]:
    """Return the input (C, *S) for values (C, *S), and in words what was done to them.

    With a preprocessing that is (values / scale - mean) / std of each channel, its resizing and cropping left out;
    without, it is nothing.
    """
    x = torch.from_numpy(values.copy())
    if how is None:
        return x, "values as given"
    mean, std = (torch.tensor(v).reshape(-1, *[1] * (x.ndim - 1)) for v in (how.mean, how.std))
    numbers = " ".join(f"{m:.3g}" for m in how.mean), " ".join(f"{s:.3g}" for s in how.std)
    return (x / how.scale - mean) / std, f"no resizing, /{how.scale:g}, mean {numbers[0]}, std {numbers[1]}"
