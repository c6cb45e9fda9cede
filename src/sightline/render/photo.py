"""The photograph below a map: checked, made grey, resized, and hatched where the model did not see it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.errors import ImageError, InputError
from sightline.render.palette import RGB

__all__ = ["channels_note", "greyed", "hatched", "resized_map", "resized_photo", "rgb", "shown_channels"]

# Cool greys: a black-and-white or dark map has no such colour, so that "not seen" is never read as a value.
SHADE: RGB = (64, 74, 90)
STROKE: RGB = (222, 227, 234)
BLANK: RGB = (226, 230, 235)
BLANK_STROKE: RGB = (166, 175, 187)


def rgb(photo: NDArray[Any]) -> Image.Image:
    """Return a uint8 (H, W), (H, W, 3) or (H, W, 4) array as an RGB image; transparent parts on white.

    Raises ImageError for any other array.

    >>> rgb(np.zeros((2, 3), np.uint8)).size
    (3, 2)
    """
    pixels = np.asarray(photo)
    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not pixels.size or not (grey or pixels.shape[2:] in ((3,), (4,))):
        came = f"{pixels.dtype} {pixels.shape}"
        raise ImageError(f"a photo is a non-empty uint8 array (H, W) or (H, W, 3 or 4), this is {came}")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def shown_channels(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return values (C, *S) of any number of channels as a picture to look at: uint8 (*S, 3), or grey (*S).

    The first three channels are red, green and blue, of fewer the first is grey. They are stretched to 0..255, the
    few extremes cut: three together, so that their colours stay, and of more each by itself.

    >>> shown_channels(np.array([[[0.0, 2.0]], [[7.0, 7.0]]])).tolist()
    [[0, 255]]
    """
    planes = np.asarray(values, np.float64)
    if len(planes) < 3:
        return _stretched(planes[0])
    return np.moveaxis(_stretched(planes) if len(planes) == 3 else np.stack([_stretched(p) for p in planes[:3]]), 0, -1)


def channels_note(count: int) -> str | None:
    """Return what must be said of `shown_channels`, None where it shows all.

    >>> channels_note(5)
    'shown are channels 0, 1 and 2 of 5 as red, green and blue, each stretched from black to white'
    """
    if count in (1, 3):
        return None
    if count == 2:
        return "shown is channel 0 of 2, stretched from black to white"
    return f"shown are channels 0, 1 and 2 of {count} as red, green and blue, each stretched from black to white"


def _stretched(plane: NDArray[np.float64]) -> NDArray[np.uint8]:
    low, high = np.percentile(plane, (0.5, 99.5)) if plane.size > 400 else (plane.min(), plane.max())
    share = (plane.clip(low, high) - low) / (high - low) if high > low else np.full_like(plane, 0.5)
    return np.rint(share * 255).astype(np.uint8)


def check_same_size(photo: Image.Image, heatmap: NDArray[Any]) -> None:
    """Raise InputError unless the map has one value for each pixel of the photo."""
    height, width = heatmap.shape
    if photo.size != (width, height):
        raise InputError(
            f"the heatmap is {width} x {height}, the photo {photo.width} x {photo.height}: "
            "resize the map to the photo first"
        )


def greyed(photo: Image.Image, colour: float = 0.0) -> Image.Image:
    """Return the photo with a share of its colour (0 none, 1 all); the brightness stays."""
    return photo if colour == 1 else Image.blend(photo.convert("L").convert("RGB"), photo, colour)


def hatched(picture: Image.Image, unseen: NDArray[np.bool_], photo: Image.Image | None) -> Image.Image:
    """Return the picture with diagonals where ``unseen`` (H, W), over the dimmed photo if there is one."""
    if not unseen.any():
        return picture
    return Image.composite(hatching(picture.size, photo), picture, as_mask(unseen))


def hatching(size: tuple[int, int], photo: Image.Image | None) -> Image.Image:
    """Return a picture of "not seen": diagonals over the dimmed photo, or over light grey without one."""
    ground = _dimmed(photo) if photo else Image.new("RGB", size, BLANK)
    strokes = Image.new("RGB", size, STROKE if photo else BLANK_STROKE)
    return Image.composite(strokes, ground, _diagonals(size, 0.75))


def as_mask(opacity: NDArray[Any]) -> Image.Image:
    """Return an (H, W) array of bool, or of numbers in 0..1, as the mask of an image."""
    if opacity.dtype != bool:
        opacity = np.rint(np.nan_to_num(opacity) * 255)
    return Image.fromarray(opacity.astype(np.uint8) * (255 if opacity.dtype == bool else 1))


def resized_photo(photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the photo at another size; the pixels of a tiny one stay visible as squares."""
    if size[0] <= photo.width:
        return photo.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    tiny = max(photo.size) < 48
    return photo.resize(size, Image.Resampling.NEAREST if tiny else Image.Resampling.BICUBIC)


def resized_map(values: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return an (H, W) map at another size (width, height); NaN is no value and does not spread.

    Made larger, a map of single pixels keeps them as squares and a smooth one stays smooth; made smaller, it
    is averaged.
    """
    larger = size[0] > values.shape[1] and not _is_smooth(values)
    how = Image.Resampling.NEAREST if larger else Image.Resampling.BILINEAR
    seen = _resized(~np.isnan(values), size, how)
    total = _resized(np.nan_to_num(values), size, how)
    return np.where(seen > 0.5, total / np.maximum(seen, 0.5), np.float32(np.nan))


def _is_smooth(values: NDArray[Any]) -> bool:
    # A map enlarged from a layer: neighbours differ by little of what the map varies by.
    steps = np.diff(values, axis=1)
    steps, seen = steps[~np.isnan(steps)], values[~np.isnan(values)]
    return bool(steps.size and np.mean(steps**2) < 0.05 * np.var(seen))


def _resized(values: NDArray[Any], size: tuple[int, int], how: Image.Resampling) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, how))


def _dimmed(photo: Image.Image) -> Image.Image:
    return Image.blend(greyed(photo), Image.new("RGB", photo.size, SHADE), 0.62)


def _diagonals(size: tuple[int, int], opacity: float) -> Image.Image:
    # One row of the pattern holds every other one, shifted: the strokes rise by one pixel a column.
    width, height = size
    period = max(round(max(size) / 48), 6)
    distance = np.abs((np.arange(width + height) % period) - period / 2)
    row = np.rint((period / 7 + 0.5 - distance).clip(0, 1) * opacity * 255).astype(np.uint8)
    return Image.fromarray(np.lib.stride_tricks.sliding_window_view(row, width)[:height].copy())
