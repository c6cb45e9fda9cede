"""Decode pictures safely: any common format and mode, upright, within a limit of pixels, or a clear error."""

from __future__ import annotations

import difflib
import hashlib
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from sightline.errors import ImageError

__all__ = ["MAX_PIXELS", "ImageSource", "Picture", "read_image"]

MAX_PIXELS = 179_000_000
ImageSource: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray"

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")
_OPENING = threading.Lock()
_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture: uint8 pixels (H, W) or (H, W, C), the file's name without its directory, and a hash."""

    pixels: np.ndarray
    name: str | None
    hash: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


def read_image(source: Any, *, channels: int = 3, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a file, PIL image or array (H, W, C) into 8-bit pixels of the wanted number of channels.

    EXIF orientation is applied and then forgotten; transparency lies on white. 16-bit greys are divided by 257.
    Raises ImageError, in one line, for whatever cannot be read as it should.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _picture(_decode_file(path, str(source), channels, max_pixels), path.name)
    if isinstance(source, Image.Image):
        name = Path(getattr(source, "filename", "") or "").name or None
        _check_pixels(source.size, max_pixels, name or "the image")
        return _picture(_decoded(source, channels, name or "the image"), name)
    if isinstance(source, np.ndarray):
        return _picture(_from_array(source, channels, max_pixels), None)
    raise ImageError(
        f"a {type(source).__name__} came as an image; wanted a path, a PIL image, an array (H, W, C) or a preprocessed "
        "tensor (N, C, H, W)."
    )


def _picture(pixels: np.ndarray, name: str | None) -> Picture:
    pixels = np.ascontiguousarray(pixels)
    digest = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:16]
    pixels.flags.writeable = False
    return Picture(pixels, name, digest)


def _decode_file(path: Path, said: str, channels: int, max_pixels: int) -> np.ndarray:
    _check_file(path, said)
    with _opened(path, said) as image:
        _check_pixels(image.size, max_pixels, said)
        return _decoded(image, channels, said)


def _check_file(path: Path, said: str) -> None:
    if path.is_dir():
        raise ImageError(f"{said} is a directory; give the image files in it, as {said.rstrip('/')}/*.jpg.")
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=2)
        hint = f" Did you mean {' or '.join(close)}?" if close else " Check the path."
        raise ImageError(f"{said} does not exist.{hint}")
    if path.is_file() and path.stat().st_size == 0:
        raise ImageError(f"{said} is empty (0 bytes); it may not have been copied fully.")


@contextmanager
def _opened(path: Path, said: str) -> Iterator[Image.Image]:
    try:
        with path.open("rb") as stream:
            if _is_heif(stream.read(12)):
                _register_heif()
            stream.seek(0)
            with _no_bomb_check():
                image = Image.open(stream)
            with image:
                yield image
    except UnidentifiedImageError:
        raise ImageError(f"{said} is not an image; wanted JPEG, PNG, WebP, BMP, GIF, TIFF or HEIC.") from None
    except PermissionError:
        raise ImageError(f"{said} cannot be read: permission denied.") from None
    except ImageError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise ImageError(f"{said} is a damaged or truncated image ({_first_line(error)}); get it again.") from None


def _first_line(error: BaseException) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:120]


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF


def _register_heif() -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener()


@contextmanager
def _no_bomb_check() -> Iterator[None]:
    # Pillow's own limit is a module global; ours is checked right after opening and before decoding.
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check_pixels(size: tuple[int, int], most: int, said: str) -> None:
    width, height = size
    if width * height > most:
        raise ImageError(
            f"{said} has {width * height:,} pixels ({width}x{height}), over the limit of {most:,}; raise it with "
            "--max-pixels (max_pixels=) if the file can be trusted."
        )
    if not width or not height:
        raise ImageError(f"{said} has no pixels ({width}x{height}).")


def _decoded(image: Image.Image, channels: int, said: str) -> np.ndarray:
    if channels not in _MODES:
        raise ImageError(
            f"{said}: the model takes {channels} channels and a picture has 1, 3 or 4; give an array "
            f"(H, W, {channels}) or a preprocessed tensor (N, C, H, W)."
        )
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged tag is no reason to refuse a whole picture
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image.load()
            turned = _upright(image)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    return np.array(_in_mode(_eight_bit(turned, said), _MODES[channels]))


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (ValueError, TypeError, KeyError, IndexError, OSError, SyntaxError, OverflowError):
        orientation = 1  # a damaged EXIF block says nothing; the picture itself is whole
    for turn in _TURNS.get(orientation, ()) if isinstance(orientation, int) else ():
        image = image.transpose(turn)
    return image


def _eight_bit(image: Image.Image, said: str) -> Image.Image:
    """Bring 16- and 32-bit greys to 8 bits by a stated rule, never by guessing from the picture's own range."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if not np.isfinite(values).all() or low < 0 or high > 65535:
        raise ImageError(
            f"{said} holds values from {low:g} to {high:g}; wanted 0 to 1, 0 to 255 or 0 to 65535: convert it first."
        )
    factor = 255.0 if image.mode == "F" and high <= 1 else 1.0 if high <= 255 else 1 / 257
    return Image.fromarray(np.rint(values * factor).astype(np.uint8))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode == "RGBA":
        return image.convert("RGBA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = _on_white(image.convert("RGBA"))
    return (
        image
        if image.mode == mode
        else image.convert("RGB").convert(mode)
        if image.mode != "L"
        else image.convert(mode)
    )


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _from_array(values: np.ndarray, channels: int, max_pixels: int) -> np.ndarray:
    if values.ndim not in (2, 3) or not values.size:
        raise ImageError(f"an array of shape {values.shape} came; wanted (H, W) or (H, W, C).")
    if values.ndim == 3 and values.shape[0] in (1, 3, 4) and values.shape[2] not in (1, 3, 4, channels):
        raise ImageError(
            f"an array of shape {values.shape} came, which looks like (C, H, W); wanted (H, W, C), or a preprocessed "
            "tensor (N, C, H, W)."
        )
    _check_pixels((values.shape[1], values.shape[0]), max_pixels, "the array")
    return _with_channels(_as_bytes(values), channels)


def _as_bytes(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint16:
        return np.rint(values / 257).astype(np.uint8)
    if np.issubdtype(values.dtype, np.integer) and values.min() >= 0 and values.max() <= 255:
        return values.astype(np.uint8)
    if np.issubdtype(values.dtype, np.floating):
        return _float_bytes(values)
    raise ImageError(
        f"an array of {values.dtype} came; wanted uint8, or float from 0 to 1, or a preprocessed tensor (N, C, H, W)."
    )


def _float_bytes(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ImageError("the array holds NaN or infinity; wanted float from 0 to 1.")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise ImageError(
            f"a float array from {low:.3g} to {high:.3g} came; wanted 0 to 1: divide 8-bit values by 255, or give what "
            "is already preprocessed as a tensor (N, C, H, W)."
        )
    pixels: np.ndarray = np.rint(values * 255).astype(np.uint8)
    return pixels


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    have = 1 if pixels.ndim == 2 else pixels.shape[2]
    if have == channels:
        return pixels.reshape(pixels.shape[:2]) if channels == 1 else pixels
    if have == 1 and channels == 3:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    if have in (3, 4) and channels in _MODES:
        return np.array(_in_mode(Image.fromarray(pixels), _MODES[channels]))
    raise ImageError(f"an array with {have} channels came; the model takes {channels}: wanted (H, W, {channels}).")
