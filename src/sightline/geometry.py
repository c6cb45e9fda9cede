"""From a picture to a model's input, and from the input's grid back to the original pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.errors import ImageError, InputError, ParameterError
from sightline.images import MAX_PIXELS, Picture

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Geometry", "Preprocessing", "prepare", "restore"]

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Fit = Literal["crop", "squash", "pad"]
Size = tuple[int, int]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


_SMALLEST = 1e-30  # of a divisor, so that it is not 0 in float32 either


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a model's input: resize, crop, (pixels / scale - mean) / std.

    ``resize`` is the short side, or (height, width), or None; ``crop`` is cut from the centre. ``fit`` "crop" does
    just that; "squash" brings the whole picture to the input's size, its shape not kept; "pad" keeps the shape and
    fills up with the mean colour. ``order`` "bgr" turns the colours round first: mean and std are in that order.
    """

    resize: int | Size | None = 256
    crop: int | Size | None = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"
    fit: Fit = "crop"
    scale: float = 255.0
    order: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("interpolation", self.interpolation, _FILTERS),
            ("fit", self.fit, ("crop", "squash", "pad")),
            ("order", self.order, ("rgb", "bgr")),
        ):
            if not isinstance(value, str) or value not in known:
                raise ParameterError(f"preprocessing: {name}={value!r}; wanted one of {', '.join(known)}.")
        for name, found in (
            ("resize", _checked_size("resize", self.resize)),
            ("crop", _checked_size("crop", self.crop)),
            ("mean", _checked_numbers("mean", self.mean)),
            ("std", _checked_numbers("std", self.std)),
            ("scale", _checked_numbers("scale", (self.scale,))[0]),
        ):
            object.__setattr__(self, name, found)
        if len(self.mean) != len(self.std) or min(*self.std, self.scale) < _SMALLEST:
            raise ParameterError(
                f"preprocessing: mean {self.mean}, std {self.std}, scale {self.scale:g}; wanted one mean and one std a "
                "channel, std and scale above 0."
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
        colours = ", BGR" if self.order == "bgr" else ""
        scaled = "" if self.scale == 1 else f" /{self.scale:g},"
        return f"{fitted[self.fit]} ({self.interpolation}){colours},{scaled} mean {numbers[0]}, std {numbers[1]}"

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
        known = [f.name for f in fields(Preprocessing)]
        for name in data:
            if name not in known:
                raise ParameterError(f"preprocessing: {name!r} is unknown; wanted {', '.join(known)}.")
        return Preprocessing(**data)


def _checked_size(name: str, value: Any) -> int | Size | None:
    """Return a size as an int or a pair of them; one number in a list is that number, as in torchvision's presets."""
    if value is None:
        return None
    given = value if isinstance(value, (tuple, list)) else (value,)
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v > 0 for v in given)
    if not whole or len(given) not in (1, 2):
        raise ParameterError(
            f"preprocessing: {name}={value!r}; wanted a whole number above 0, (height, width) or None."
        )
    return int(given[0]) if len(given) == 1 else (int(given[0]), int(given[1]))


def _checked_numbers(name: str, value: Any) -> tuple[float, ...]:
    try:
        found = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        found = ()
    if not found or not np.isfinite(found).all():
        raise ParameterError(f"preprocessing: {name}={value!r}; wanted finite numbers, one a channel.")
    return found


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

    def __post_init__(self) -> None:
        if min(*self.original, *self.resized, *self.tensor) < 1:
            raise InputError(f"{self}; wanted heights and widths above 0.")

    @staticmethod
    def identity(size: Size) -> Geometry:
        """Return the geometry of an input that is the original."""
        return Geometry(size, size, (0, 0), size)

    def to_original(self, values: np.ndarray) -> np.ndarray:
        """Bring maps (..., h, w) of the input onto the original: (..., H, W) float32, NaN where it was cut off.

        The original pixel (y + 1/2) is read at (y + 1/2) h / H - top, bilinearly; where the original has fewer pixels
        than the input, by a triangle wide enough to count every input pixel. NaN counts as unknown.
        Raises InputError for another shape.
        """
        _check_shape(values, self.tensor, "the input")
        found = _resampled(values, *(self.weights_onto_original(axis) for axis in (0, 1)))
        found[..., ~self.seen()] = np.nan
        return found

    def to_tensor(self, values: np.ndarray) -> np.ndarray:
        """Bring maps (..., H, W) of the original onto the input: (..., h, w) float32, NaN where it is padding.

        As `to_original`, the other way: a thin or small region of a large original keeps its share of a pixel.
        Raises InputError for another shape.
        """
        _check_shape(values, self.original, "the original")
        found = _resampled(values, *(self._onto_tensor(axis) for axis in (0, 1)))
        found[..., ~self.filled()] = np.nan
        return found

    def seen(self) -> np.ndarray:
        """Return where the model saw the original: bool (H, W), True where a pixel's centre is in the window."""
        centres = (self._original_centres(axis) for axis in (0, 1))
        rows, columns = ((c >= 0) & (c < size) for c, size in zip(centres, self.tensor, strict=True))
        return np.logical_and.outer(rows, columns)

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

    def _visible(self, axis: int) -> tuple[int, int]:
        """Return the first and the end of what the window shows of the resized picture."""
        start, end = self.offset[axis], self.offset[axis] + self.tensor[axis]
        return max(0, start), min(self.resized[axis], end)

    def filled(self) -> np.ndarray:
        """Return where the input shows the picture and not padding: bool (h, w)."""
        filled = np.zeros(self.tensor, bool)
        rows, columns = (slice(*np.subtract(self._visible(a), self.offset[a])) for a in (0, 1))
        filled[rows, columns] = True
        return filled

    def _original_centres(self, axis: int) -> np.ndarray:
        centres = (np.arange(self.original[axis]) + 0.5) * self.resized[axis] / self.original[axis]
        return np.asarray(centres - self.offset[axis])

    def weights_onto_original(self, axis: int) -> csr_array:
        """Return the weights (H, h) or (W, w) by which `to_original` brings an axis to the original's pixels."""
        return _weights_onto_original(self, axis)

    def _onto_tensor(self, axis: int) -> csr_array:
        size, resized = self.original[axis], self.resized[axis]
        centres = (np.arange(self.tensor[axis]) + 0.5 + self.offset[axis]) * size / resized
        return _weights(centres, size / resized, (0, size), size)


@lru_cache(maxsize=256)
def _weights_onto_original(how: Geometry, axis: int) -> csr_array:
    # Held within what is shown of the picture: padding says nothing about its edge.
    low, high = np.subtract(how._visible(axis), how.offset[axis])
    return _weights(how._original_centres(axis), how._scales()[axis], (low, high), how.tensor[axis])


def _check_shape(values: np.ndarray, size: Size, name: str) -> None:
    shape = np.shape(values)
    if shape[-2:] != size:
        wanted = f"(..., {size[0]}, {size[1]})"
        raise InputError(f"a map of shape {shape} came; {name} is {size[0]}x{size[1]}: wanted {wanted}.")


def _weights(centres: np.ndarray, step: float, span: tuple[int, int], size: int) -> csr_array:
    """Return linear weights (len(centres), size) over the pixels of ``span``, each row's sum 1.

    A triangle around each centre, as wide as ``step`` where that is over 1: the antialiasing of Pillow's resize.
    """
    from scipy.sparse import csr_array

    (low, high), reach = span, max(1.0, step)
    held = np.clip(centres, low + 0.5, high - 0.5)[:, None]
    taps = np.ceil(held - reach - 0.5).astype(np.int64) + np.arange(int(2 * reach) + 2)
    share = np.maximum(0, 1 - np.abs(taps + 0.5 - held) / reach)
    share[(taps < low) | (taps >= high)] = 0
    share /= share.sum(axis=1, keepdims=True)
    rows, columns = np.nonzero(share)
    weights = share[rows, columns].astype(np.float32), (rows, taps[rows, columns])
    return csr_array(weights, shape=(len(centres), size))


def _resampled(values: np.ndarray, down: csr_array, across: csr_array) -> np.ndarray:
    given = np.asarray(values, np.float32)
    unknown = np.isnan(given)
    if not unknown.any():
        return _applied(given, down, across)
    share = _applied((~unknown).astype(np.float32), down, across)
    found = _applied(np.where(unknown, np.float32(0), given), down, across)
    return np.asarray(np.divide(found, share, out=np.full_like(found, np.nan), where=share >= 0.5))


def _applied(values: np.ndarray, down: csr_array, across: csr_array) -> np.ndarray:
    found = np.empty((*values.shape[:-2], down.shape[0], across.shape[0]), np.float32)
    for index in np.ndindex(values.shape[:-2]):
        found[index] = down @ (across @ values[index].T).T
    return found


def prepare(picture: Picture, how: Preprocessing, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Geometry]:
    """Turn a picture into a model's input (C, h, w) and the way back.

    With ``fit="crop"`` this is, to the bit, what torchvision's presets do to a PIL image.
    """
    have = 1 if picture.pixels.ndim == 2 else picture.pixels.shape[2]
    if have != how.channels:
        raise InputError(
            f"the picture has {have} channels and the model takes {how.channels}; read it with channels={how.channels}."
        )
    geometry = _placement(picture.size, how)
    pixels = _window(_resized(picture.pixels, geometry.resized, how), geometry)
    values = _ordered(torch.from_numpy(pixels).permute(2, 0, 1).to(dtype), how) / how.scale
    mean, std = (torch.tensor(v, dtype=dtype).reshape(-1, 1, 1) for v in (how.mean, how.std))
    normalised = (values - mean) / std
    if how.fit == "pad":
        normalised[:, ~geometry.filled()] = 0
    return normalised, geometry


def _ordered(planes: Tensor, how: Preprocessing) -> Tensor:
    return planes.flip(0) if how.order == "bgr" else planes


def _placement(size: Size, how: Preprocessing) -> Geometry:
    target = how._target() or size
    if how.fit == "squash":
        return Geometry(size, target, (0, 0), target)
    if how.fit == "pad":
        factor = min(target[0] / size[0], target[1] / size[1])
        inner = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
        return Geometry(size, inner, _centred(inner, target), target)
    resized = _short_side(size, how.resize)
    if resized[0] * resized[1] > max(MAX_PIXELS, size[0] * size[1]):
        raise ImageError(
            f"the picture of {_text(size)} would become {_text(resized)} by resizing its short side to {how.resize}; "
            "cut it, or give fit='squash' or fit='pad'."
        )
    goal = resized if how.crop is None else _pair(how.crop)
    return Geometry(size, resized, _centred(resized, goal), goal)


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


def restore(tensor: Tensor, how: Preprocessing) -> np.ndarray:
    """Return the picture that an input (C, h, w) shows, for display: uint8 (h, w, C), or (h, w) of one channel."""
    values = tensor.detach().cpu().float()
    if values.ndim != 3 or len(values) != how.channels:
        raise InputError(f"a tensor of shape {tuple(values.shape)} came; wanted ({how.channels}, height, width).")
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (how.mean, how.std))
    unscaled = _ordered((values * std + mean) * how.scale, how)
    pixels = unscaled.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels
