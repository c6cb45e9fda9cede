"""Decode pictures safely: any common format and mode, upright, within a limit of pixels, or a clear error."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from sightline.arrays import find_array
from sightline.errors import ImageError
from sightline.paths import DENIED, shown, why

__all__ = ["MAX_PIXELS", "ImageSource", "Picture", "decoded", "read_image", "read_mask", "read_upload", "stored_traits"]

MAX_PIXELS = 179_000_000
ImageSource: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray"

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_PICTURE = "wanted JPEG, PNG, WebP, BMP, GIF, TIFF or HEIC"
_WANTED = f"{_PICTURE}, or an array as .npy or .npz"
_TRUSTED = "raise it with --max-pixels (max_pixels=) if the file can be trusted"
# Not whatever Pillow can open: EPS, for one, would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM")
_HEIF = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
_STARTS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"RIFF": "WebP", b"II*\0": "TIFF"} | {
    b"MM\0*": "TIFF",
    b"BM": "BMP",
}
_DECODING = threading.Lock()
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
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

    A .npy or .npz file (or ``FILE.npz:KEY``) is read as the array in it.

    EXIF orientation is applied and then forgotten; transparency lies on white. 16-bit greys are divided by 257;
    32-bit ones are read as 0 to 1 (floats only), 0 to 255 or 0 to 65535, whichever holds all of the picture first.
    The pixels are read-only and never share memory with the source, which stays as it was.
    Raises ImageError, in one line, for whatever cannot be read as it should.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(source))
        return _picture(_from_file(path, shown(os.fsdecode(source)), channels, max_pixels), shown(path.name))
    if isinstance(source, Image.Image):
        name = shown(Path(os.fsdecode(getattr(source, "filename", "") or "")).name)
        return _picture(_from_pil(source, name or "the image", channels, max_pixels), name or None)
    if isinstance(source, np.ndarray):
        return _picture(_from_array(np.asarray(source), channels, max_pixels), None)
    raise ImageError(
        f"a {type(source).__name__} came as an image; wanted a path, a PIL image, an array (H, W, C) or a preprocessed "
        "tensor (N, C, H, W)."
    )


def read_upload(stream: BinaryIO, said: str, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an opened picture that has no path into an upright RGB image; ``said`` is its name in errors.

    Raises ImageError for whatever cannot be read as it should.
    """
    with _safely(said):
        if not stream.read(1):
            raise ImageError(f"{said} is empty; choose it again.")
    return Image.fromarray(decoded(stream, said, 3, max_pixels, "make it smaller first"))


def decoded(stream: BinaryIO, said: str, channels: int, max_pixels: int, advice: str = _TRUSTED) -> np.ndarray:
    """Decode an opened picture into upright 8-bit pixels of the wanted number of channels, as `read_image` does."""
    _check_channels(channels, said)
    with _safely(said), _opened(stream, said, _PICTURE) as image:
        _check_pixels(image.size, max_pixels, said, advice)
        return _decoded(image, channels, said)


def read_mask(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a file as a mask: bool (H, W), True where its value, of a palette its number, is not 0.

    What is transparent is not marked. Raises ImageError for whatever cannot be read.
    """
    said = shown(str(path))
    values = find_array(str(path), said, max_pixels * 4)
    if values is None:
        with _safely(said), path.open("rb") as stream, _opened(stream, said) as image:
            _check_pixels(image.size, max_pixels, said)
            return _marked(_upright(image))
    if values.ndim != 2:
        raise ImageError(f"{said} holds an array of shape {values.shape}; wanted a mask (height, width).")
    return np.asarray(values != 0)


def stored_traits(path: Path) -> frozenset[str]:
    """Say of a picture in a file how it is stored: "grey" or "colour", "alpha", "deep" (over 8 bits); none of an array.

    Only the head is read. Raises ImageError for whatever cannot be.
    """
    said = shown(str(path))
    with _safely(said), path.open("rb") as stream:
        if stream.read(6).startswith((b"\x93NUMPY", b"PK")):
            return frozenset()
        stream.seek(0)
        with _opened(stream, said) as image:
            return _traits(image)


def _traits(image: Image.Image) -> frozenset[str]:
    deep = image.mode.startswith(("I", "F"))
    alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    grey = deep or image.mode in ("1", "L", "LA", "La")
    said = {"grey": grey, "colour": not grey, "alpha": alpha, "deep": deep}
    return frozenset(name for name, true in said.items() if true)


def _marked(image: Image.Image) -> np.ndarray:
    values, alpha = np.asarray(image), image.mode in ("LA", "RGBA")
    if values.ndim == 2:
        return np.asarray(values != 0)
    colours = values[..., :-1] if alpha else values
    return np.asarray(colours.any(-1) & (values[..., -1] > 0) if alpha else colours.any(-1))


def _picture(pixels: np.ndarray, name: str | None) -> Picture:
    pixels = np.array(pixels, order="C")  # a copy: the caller's own array must stay writeable
    digest = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:16]
    pixels.flags.writeable = False
    return Picture(pixels, name, digest)


def _from_file(path: Path, said: str, channels: int, max_pixels: int) -> np.ndarray:
    if not said:
        raise ImageError("an empty path came as an image; wanted the path of a file.")
    if (values := find_array(str(path), said, max_pixels * max(channels, 4))) is not None:
        return _from_array_file(values, channels, max_pixels, said)
    _check_channels(channels, said)
    with _safely(said), path.open("rb") as stream, _opened(stream, said) as image:
        _check_pixels(image.size, max_pixels, said)
        return _decoded(image, channels, said)


def _from_array_file(values: np.ndarray, channels: int, max_pixels: int, said: str) -> np.ndarray:
    try:
        return _from_array(values, channels, max_pixels)
    except ImageError as error:
        raise ImageError(f"{said}: {error}") from None


def _from_pil(image: Image.Image, said: str, channels: int, max_pixels: int) -> np.ndarray:
    _check_channels(channels, said)
    _check_pixels(image.size, max_pixels, said)
    with _safely(said):
        return _decoded(image, channels, said)


@contextmanager
def _safely(said: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an ImageError, one decoder at a time and without Pillow's warnings."""
    with _DECODING, _pillow_set():
        try:
            yield
        except ImageError:
            raise
        except PermissionError:
            raise ImageError(f"{said} {DENIED}") from None
        except MemoryError:
            raise ImageError(f"{said} does not fit into the memory; give a smaller one.") from None
        except Exception as error:  # noqa: BLE001  decoders of damaged files raise anything
            raise ImageError(f"{said} is a damaged or truncated image ({why(error)}); get it again.") from None


@contextmanager
def _pillow_set() -> Iterator[None]:
    """Put Pillow's globals aside: its limit of pixels, where ours is checked, and its reading of half a picture.

    A damaged tag is no reason to refuse a whole picture, and no reason to warn.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _opened(stream: BinaryIO, said: str, wanted: str = _WANTED) -> Image.Image:
    stream.seek(0)
    head = stream.read(64)
    stream.seek(0)
    if _is_heif(head):
        from pillow_heif import HeifImageFile

        return HeifImageFile(stream)  # type: ignore[no-any-return]
    if head.startswith(b"\xff\xd8"):
        _check_end(stream, said)
    Image.init()
    try:
        return Image.open(stream, formats=[f for f in _FORMATS if f in Image.OPEN])
    except UnidentifiedImageError:
        table = said.casefold().endswith((".csv", ".tsv", ".txt"))
        hint = " A series wants a model of series: --dims 1 (dims=1 in load) where it does not show." if table else ""
        raise ImageError(f"{said} {_unknown(head, wanted)}{hint}") from None


def _unknown(head: bytes, wanted: str) -> str:
    kinds = ["HEIC or AVIF" if head[4:8] == b"ftyp" else "", *(k for s, k in _STARTS.items() if head.startswith(s))]
    if any(kinds):
        return f"is a damaged or truncated {''.join(kinds)} image; get it again."
    return f"is not an image, whatever its name says; {wanted}."


def _check_end(stream: BinaryIO, said: str) -> None:
    """Refuse a JPEG whose end is still zeros, as a download leaves it that broke off: it would decode to grey."""
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - 64))
    whole = any(stream.read())
    stream.seek(0)
    if not whole and (data := stream.read()).rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise ImageError(f"{said} is a truncated JPEG image (it ends in zeros); get it again.")


def _is_heif(head: bytes) -> bool:
    brands = {head[i : i + 4] for i in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)}
    return head[4:8] == b"ftyp" and bool(brands & _HEIF) and not brands & {b"avif", b"avis"}


def _check_channels(channels: int, said: str) -> None:
    if channels not in _MODES:
        raise ImageError(
            f"{said}: the model takes {channels} channels and a picture has 1, 3 or 4; give an array "
            f"(H, W, {channels}), also as .npy, or a preprocessed tensor (N, {channels}, H, W)."
        )


def _check_pixels(size: tuple[int, int], most: int, said: str, advice: str = _TRUSTED) -> None:
    width, height = size
    if width * height > most:
        raise ImageError(
            f"{said} has {width * height:,} pixels ({width}x{height}), over the limit of {most:,}; {advice}."
        )
    if not width or not height:
        raise ImageError(f"{said} has no pixels ({width}x{height}); give another.")


def _decoded(image: Image.Image, channels: int, said: str) -> np.ndarray:
    image.load()
    return np.array(_in_mode(_eight_bit(_upright(image), said), _MODES[channels]))


def _upright(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  a damaged EXIF block says nothing; the picture itself is whole
        return 1
    return found if isinstance(found, int) else 1


def _eight_bit(image: Image.Image, said: str) -> Image.Image:
    """Bring 16- and 32-bit greys to 8 bits by the rule that `read_image` states."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(values).all() or low < 0 or high > 65535:
        raise ImageError(
            f"{said} holds values from {low:g} to {high:g}; wanted 0 to 1, 0 to 255 or 0 to 65535: convert it first."
        )
    grey = Image.fromarray(np.rint(values * _factor(image.mode, high)).astype(np.uint8))
    return _cleared(grey, values, image.info.get("transparency"))


def _cleared(grey: Image.Image, values: np.ndarray, clear: Any) -> Image.Image:
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray((values != clear).astype(np.uint8) * 255))
    return grey


def _factor(mode: str, high: float) -> float:
    if mode.startswith("I;16"):
        return 1 / 257
    return 255.0 if mode == "F" and high <= 1 else 1.0 if high <= 255 else 1 / 257


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    image = _convertible(image)
    if mode == "RGBA":
        return image.convert(mode)
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = _on_white(image.convert("RGBA"))
    return image.convert(mode) if image.mode in ("1", "L") else image.convert("RGB").convert(mode)


def _convertible(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        return _from_lab(image)
    return image.convert("LA") if image.mode == "La" else image


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, rgb, "LAB", "RGB").apply(image)


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _from_array(values: np.ndarray, channels: int, max_pixels: int) -> np.ndarray:
    if values.ndim not in (2, 3) or not values.size:
        raise ImageError(
            f"an array of shape {values.shape} came; wanted one picture (H, W) or (H, W, C), or a preprocessed torch "
            "tensor (N, C, H, W)."
        )
    known = (*_MODES, channels)
    if values.ndim == 3 and values.shape[0] in known and values.shape[2] not in known:
        raise ImageError(
            f"an array of shape {values.shape} came, which looks like (C, H, W); wanted (H, W, C): move its first axis "
            "last, or give a preprocessed tensor (N, C, H, W)."
        )
    _check_pixels((values.shape[1], values.shape[0]), max_pixels, "the array")
    return _with_channels(_as_bytes(values), channels)


def _as_bytes(values: np.ndarray) -> np.ndarray:
    kind, width = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values.astype(np.uint8) * 255
    if kind == "f":
        return _float_bytes(values)
    if (kind, width) == ("u", 2):
        return np.rint(values / 257).astype(np.uint8)
    if kind in "iu" and values.min() >= 0 and values.max() <= 255:
        return values.astype(np.uint8)
    held = f" from {values.min()} to {values.max()}" if kind in "iu" else ""
    raise ImageError(
        f"an array of {values.dtype}{held} came; wanted uint8 (0 to 255), uint16 (0 to 65535) or float from 0 to 1, or "
        "a preprocessed tensor (N, C, H, W)."
    )


def _float_bytes(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ImageError("the array holds NaN or infinity; wanted float from 0 to 1: replace them first.")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise ImageError(
            f"a float array from {low:.3g} to {high:.3g} came; wanted 0 to 1: divide 8-bit values by 255, or give what "
            "is already preprocessed as a tensor (N, C, H, W)."
        )
    pixels: np.ndarray = np.rint(values * 255).astype(np.uint8)
    return pixels


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    have = 1 if pixels.ndim == 2 else pixels.shape[2]
    if have == channels:
        return pixels
    if have in _MODES and channels in _MODES:
        return np.array(_in_mode(Image.fromarray(pixels), _MODES[channels]))
    raise ImageError(f"an array with {have} channels came; the model takes {channels}: give (H, W, {channels}).")
