"""From a picture to a model's input, and from the input's grid back to the original pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.errors import InputError, ParameterError
from sightline.images import Picture

__all__ = ["Geometry", "Preprocessing", "prepare", "restore"]

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Fit = Literal["crop", "squash", "pad"]
Size = tuple[int, int]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a model's input: resize, crop, (pixels / scale - mean) / std.

    ``resize`` is the short side, or (height, width), or None; ``crop`` is cut from the centre. ``fit`` "crop" does
    just that; "squash" brings the whole picture to the input's size, its shape not kept; "pad" keeps the shape and
    fills up with the mean colour.
    """

    resize: int | Size | None = 256
    crop: int | Size | None = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"
    fit: Fit = "crop"
    scale: float = 255.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("interpolation", self.interpolation, _FILTERS),
            ("fit", self.fit, ("crop", "squash", "pad")),
        ):
            if value not in known:
                raise ParameterError(f"preprocessing: {name}={value!r}; wanted one of {', '.join(known)}.")
        if len(self.mean) != len(self.std) or not self.mean or 0 in self.std or not self.scale:
            raise ParameterError(
                f"preprocessing: mean {self.mean} and std {self.std} must have one number a channel, "
                "std and scale not 0."
            )

    @property
    def channels(self) -> int:
        """The number of channels of the input."""
        return len(self.mean)

    def with_fit(self, fit: Fit) -> Preprocessing:
        """Return the same with another fit."""
        return replace(self, fit=fit)

    def describe(self) -> str:
        """Return the preprocessing as one line."""
        target = _text(self._target())
        fitted = {"crop": self._crop_text(), "squash": f"squashed to {target}", "pad": f"padded to {target}"}
        numbers = " ".join(f"{m:.3g}" for m in self.mean), " ".join(f"{s:.3g}" for s in self.std)
        return f"{fitted[self.fit]} ({self.interpolation}), /{self.scale:g}, mean {numbers[0]}, std {numbers[1]}"

    def _crop_text(self) -> str:
        first = (
            "no resizing"
            if self.resize is None
            else f"short side to {self.resize}"
            if isinstance(self.resize, int)
            else f"resized to {_text(self.resize)}"
        )
        return first if self.crop is None else f"{first}, centre crop {_text(_pair(self.crop))}"

    def _target(self) -> Size | None:
        size = self.crop if self.crop is not None else self.resize
        return None if size is None else _pair(size)

    def to_dict(self) -> dict[str, Any]:
        """Return the preprocessing as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Preprocessing:
        """Read what `to_dict` wrote."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return Preprocessing(**values)


def _pair(size: int | Size) -> Size:
    return (size, size) if isinstance(size, int) else size


def _text(size: Size | None) -> str:
    return "its own size" if size is None else f"{size[0]}x{size[1]}"


@dataclass(frozen=True)
class Geometry:
    """How the input's pixels lie on the original: it was resized, then a window was taken.

    Sizes are (height, width); ``offset`` is the window's (top, left) in the resized picture, negative where padded.
    """

    original: Size
    resized: Size
    offset: Size
    tensor: Size

    @staticmethod
    def identity(size: Size) -> Geometry:
        """Return the geometry of an input that is the original."""
        return Geometry(size, size, (0, 0), size)

    def to_original(self, values: np.ndarray) -> np.ndarray:
        """Bring (..., h, w) of the input onto the original (..., H, W), bilinear; NaN where the window ends."""
        rows = self._original_centres(0)
        columns = self._original_centres(1)
        found = _sample(values, rows, columns)
        return _hidden(found, self._inside(rows, 0), self._inside(columns, 1))

    def to_tensor(self, values: np.ndarray) -> np.ndarray:
        """Bring (..., H, W) of the original onto the input (..., h, w), bilinear; NaN where the input is padding."""
        rows, columns = self._tensor_centres(0), self._tensor_centres(1)
        inside = [(c >= -0.5) & (c <= n - 0.5) for c, n in zip((rows, columns), self.original, strict=True)]
        return _hidden(_sample(values, rows, columns), *inside)

    def seen(self) -> np.ndarray:
        """Return where the model saw the original: bool (H, W)."""
        return np.asarray(np.outer(*(self._inside(self._original_centres(a), a) for a in (0, 1))))

    def box_to_tensor(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Bring a box (left, top, right, bottom) of the original to the input's pixels."""
        (sy, sx), (top, left) = self._scales(), self.offset
        return box[0] * sx - left, box[1] * sy - top, box[2] * sx - left, box[3] * sy - top

    def box_to_original(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Bring a box (left, top, right, bottom) of the input to the original's pixels."""
        (sy, sx), (top, left) = self._scales(), self.offset
        return (box[0] + left) / sx, (box[1] + top) / sy, (box[2] + left) / sx, (box[3] + top) / sy

    def to_dict(self) -> dict[str, list[int]]:
        """Return the geometry as plain JSON values."""
        return {k: list(v) for k, v in asdict(self).items()}

    @staticmethod
    def from_dict(data: dict[str, list[int]]) -> Geometry:
        """Read what `to_dict` wrote."""
        return Geometry(**{k: (v[0], v[1]) for k, v in data.items()})

    def _scales(self) -> tuple[float, float]:
        return self.resized[0] / self.original[0], self.resized[1] / self.original[1]

    def _original_centres(self, axis: int) -> np.ndarray:
        """Return where the original's pixel centres lie in the input, in its pixels."""
        scale = self._scales()[axis]
        return np.asarray((np.arange(self.original[axis]) + 0.5) * scale - self.offset[axis] - 0.5)

    def _tensor_centres(self, axis: int) -> np.ndarray:
        """Return where the input's pixel centres lie in the original, in its pixels."""
        scale = self._scales()[axis]
        return np.asarray((np.arange(self.tensor[axis]) + 0.5 + self.offset[axis]) / scale - 0.5)

    def _inside(self, centres: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray((centres >= -0.5) & (centres <= self.tensor[axis] - 0.5))


def _sample(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate (..., h, w) linearly at rows and columns, held at the border: (..., R, C) float32."""
    wide = np.asarray(values, dtype=np.float32)
    if wide.ndim < 2:
        raise InputError(f"a map of shape {wide.shape} came; wanted (..., height, width).")
    wide = _along(wide, rows, -2)
    return _along(wide, columns, -1)


def _along(values: np.ndarray, centres: np.ndarray, axis: int) -> np.ndarray:
    last = values.shape[axis] - 1
    clipped = centres.clip(0, last)
    low = np.floor(clipped).astype(int)
    high = np.minimum(low + 1, last)
    shape = (-1, 1) if axis == -2 else (-1,)
    share = (clipped - low).astype(np.float32).reshape(shape)
    return np.asarray(values.take(low, axis) * (1 - share) + values.take(high, axis) * share)


def _hidden(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    values[..., ~rows, :] = np.nan
    values[..., :, ~columns] = np.nan
    return values


def prepare(picture: Picture, how: Preprocessing, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Geometry]:
    """Turn a picture into a model's input (C, h, w) and the way back.

    With ``fit="crop"`` this is, to the bit, what torchvision's presets do to a PIL image.
    """
    resized, geometry = _placement(picture.size, how)
    pixels = _resized(picture.pixels, resized, how)
    values = torch.from_numpy(_window(pixels, geometry).copy()).permute(2, 0, 1).to(dtype) / how.scale
    mean, std = (torch.tensor(v, dtype=dtype).reshape(-1, 1, 1) for v in (how.mean, how.std))
    if len(values) != how.channels:
        raise InputError(f"the picture has {len(values)} channels; the model takes {how.channels}.")
    normalised = (values - mean) / std
    if how.fit == "pad":
        normalised[:, ~_filled(geometry)] = 0
    return normalised, geometry


def _placement(size: Size, how: Preprocessing) -> tuple[Size, Geometry]:
    target = how._target()
    if how.fit == "squash":
        goal = target or size
        return goal, Geometry(size, goal, (0, 0), goal)
    if how.fit == "pad":
        goal = target or size
        factor = min(goal[0] / size[0], goal[1] / size[1])
        inner = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
        return inner, Geometry(size, inner, _centred(inner, goal), goal)
    resized = _short_side(size, how.resize)
    goal = _pair(how.crop) if how.crop is not None else resized
    return resized, Geometry(size, resized, _centred(resized, goal), goal)


def _short_side(size: Size, resize: int | Size | None) -> Size:
    if resize is None:
        return size
    if not isinstance(resize, int):
        return resize
    height, width = size
    if height <= width:
        return resize, max(1, int(resize * width / height))
    return max(1, int(resize * height / width)), resize


def _centred(inner: Size, goal: Size) -> Size:
    """Return a centred window's (top, left): torchvision rounds a cut half to even, and pads the lesser half first."""
    return tuple(
        round((have - want) / 2.0) if have >= want else -((want - have) // 2)
        for have, want in zip(inner, goal, strict=True)
    )  # type: ignore[return-value]


def _resized(pixels: np.ndarray, size: Size, how: Preprocessing) -> np.ndarray:
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    if planes.shape[:2] == size:
        return planes
    if planes.shape[2] in (1, 3):
        found = np.asarray(_resize(Image.fromarray(planes.squeeze(2) if planes.shape[2] == 1 else planes), size, how))
        return found[..., None] if found.ndim == 2 else found
    # Each on its own: Pillow would weigh the colours of a four-channel picture by the fourth.
    return np.stack(
        [np.asarray(_resize(Image.fromarray(planes[..., i]), size, how)) for i in range(planes.shape[2])], 2
    )


def _resize(image: Image.Image, size: Size, how: Preprocessing) -> Image.Image:
    return image.resize((size[1], size[0]), _FILTERS[how.interpolation])


def _window(pixels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Cut the window out, black where it reaches beyond the picture."""
    (top, left), (height, width) = geometry.offset, geometry.tensor
    out = np.zeros((height, width, pixels.shape[2]), pixels.dtype)
    inner = pixels[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
    out[max(0, -top) :, max(0, -left) :][: inner.shape[0], : inner.shape[1]] = inner
    return out


def _filled(geometry: Geometry) -> np.ndarray:
    (top, left), (height, width), (h, w) = geometry.offset, geometry.tensor, geometry.resized
    rows, columns = np.arange(height) + top, np.arange(width) + left
    return np.asarray(np.outer((rows >= 0) & (rows < h), (columns >= 0) & (columns < w)))


def restore(tensor: Tensor, how: Preprocessing) -> np.ndarray:
    """Return the picture that an input (C, h, w) shows, for display: uint8 (h, w, C), or (h, w) of one channel."""
    values = tensor.detach().cpu().float()
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (how.mean, how.std))
    pixels = ((values * std + mean) * how.scale).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels
