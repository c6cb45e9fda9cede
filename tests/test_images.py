"""Pictures: every format, mode and orientation is read as it should be, and everything else refused in one line."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile
from pillow_heif import from_pillow

from sightline import images
from sightline.errors import ImageError
from sightline.images import Picture, read_image

WIDTH, HEIGHT = 48, 32
LOSSLESS = ("PNG", "BMP", "GIF", "TIFF", "PPM")
LOSSY = ("JPEG", "WEBP", "HEIF", "AVIF", "JPEG2000")
ORIENTATION = 0x0112
CORNERS = {"red": (255, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
# Where the stored top left, top right, bottom left, bottom right lie once upright.
UPRIGHT = {
    1: "red green blue yellow",
    2: "green red yellow blue",
    3: "yellow blue green red",
    4: "blue yellow red green",
    5: "red blue green yellow",
    6: "blue red yellow green",
    7: "yellow green blue red",
    8: "green yellow red blue",
}


@pytest.fixture(autouse=True)
def _globals_unchanged() -> Iterator[None]:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)
    yield
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))


def corners(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Four blocks of colour: red, green / blue, yellow."""
    pixels = np.empty((height, width, 3), np.uint8)
    for i, colour in enumerate(CORNERS.values()):
        rows = slice(None, height // 2) if i < 2 else slice(height // 2, None)
        columns = slice(None, width // 2) if i % 2 == 0 else slice(width // 2, None)
        pixels[rows, columns] = colour
    return Image.fromarray(pixels)


def noise(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    out = io.BytesIO()
    if kind == "HEIF":
        from_pillow(image).save(out, quality=95, **how)
    else:
        image.save(out, kind, **({"quality": 95} if kind in LOSSY[:2] else {}), **how)
    return out.getvalue()


def saved(folder: Path, data: bytes, name: str = "picture") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def refused(source: Any, *words: str, **how: Any) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(source, **how)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    assert all(word in text for word in words), text
    return text


def colours(picture: Picture) -> str:
    """Name what lies in the four corners."""
    height, width = picture.size
    at = [(y, x) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    near = [min(CORNERS, key=lambda n: abs(picture.pixels[p].astype(int) - CORNERS[n]).sum()) for p in at]
    return " ".join(near)


def with_orientation(value: Any) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif.tobytes()


# Formats, suffixes, orientation


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_file_is_read_exactly(kind: str, tmp_path: Path) -> None:
    picture = read_image(saved(tmp_path, encoded(corners(), kind)))
    assert picture.name == "picture"
    assert np.array_equal(picture.pixels, np.array(corners()))
    assert picture.hash == read_image(np.array(corners())).hash == read_image(corners()).hash


@pytest.mark.parametrize("kind", LOSSY)
def test_a_lossy_file_is_read_closely(kind: str, tmp_path: Path) -> None:
    picture = read_image(str(saved(tmp_path, encoded(corners(), kind))))
    assert picture.size == (HEIGHT, WIDTH)
    assert colours(picture) == UPRIGHT[1]
    assert picture.pixels.dtype == np.uint8


@pytest.mark.parametrize("name", ["a.jfif", "A.JPEG", "a.png", "a.txt", "a", "a.", ".jpg", "ä ö.JPG", "a\nb.jpg"])
def test_the_content_decides_and_not_the_suffix(name: str, tmp_path: Path) -> None:
    assert colours(read_image(saved(tmp_path, encoded(corners(), "JPEG"), name))) == UPRIGHT[1]


def test_a_name_fit_for_a_terminal_is_kept(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff\n.jpg"
    Path(os.fsdecode(odd)).write_bytes(encoded(corners(), "JPEG"))
    assert read_image(os.fsdecode(odd)).name == "??.jpg"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_is_turned_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    data = encoded(corners(), kind, exif=with_orientation(orientation))
    picture = read_image(saved(tmp_path, data))
    assert colours(picture) == UPRIGHT[orientation]
    assert picture.size == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_upright_once(orientation: int, tmp_path: Path) -> None:
    data = encoded(corners(), "HEIF", exif=with_orientation(orientation))  # written as EXIF and as HEIC's own turn
    picture = read_image(saved(tmp_path, data))
    assert colours(picture) == UPRIGHT[orientation]
    assert picture.size == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    opened = images._opened(io.BytesIO(data), "it")
    assert colours(read_image(opened)) == UPRIGHT[orientation]


def test_an_opened_picture_is_turned_like_its_file(tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(noise(), "PNG", exif=with_orientation(6)), "a.png")
    with Image.open(path) as image:
        given = read_image(image)
    assert (given.name, given.hash) == ("a.png", read_image(path).hash)


@pytest.mark.parametrize("orientation", [0, 9, 77, "6", (6, 3), 1.5])
def test_a_nonsense_orientation_is_ignored(orientation: Any, tmp_path: Path) -> None:
    image = corners()
    image.getexif()[ORIENTATION] = orientation
    assert colours(read_image(image)) == UPRIGHT[1]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("seed", range(6))
def test_a_corrupt_exif_block_fails_no_good_picture(kind: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    exif = bytearray(with_orientation(1))
    exif[rng.integers(6, len(exif), 6)[0]] ^= 0xFF
    block = [bytes(exif), bytes(exif[: 6 + seed]), b"Exif\0\0" + rng.bytes(40), b"Exif\0\0II*\0" + b"\xff" * seed][
        seed % 4
    ]
    assert read_image(saved(tmp_path, encoded(corners(), kind, exif=block))).pixels.size == HEIGHT * WIDTH * 3


@pytest.mark.parametrize("count", [0, 1, 300, 65535])
def test_an_exif_block_with_lying_counts_is_ignored(count: int, tmp_path: Path) -> None:
    entry = struct.pack("<HHLL", ORIENTATION, 12, 0x7FFFFFFF, 0xFFFFFFF0)
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + entry
    assert colours(read_image(saved(tmp_path, encoded(corners(), "JPEG", exif=block)))) == UPRIGHT[1]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_is_read(kind: str, tmp_path: Path) -> None:
    data = encoded(corners(), kind, save_all=True, append_images=[noise(1), noise(2)])
    assert colours(read_image(saved(tmp_path, data))) == UPRIGHT[1]


def test_the_frame_an_opened_picture_stands_at_is_read() -> None:
    frames = Image.open(io.BytesIO(encoded(corners(), "PNG", save_all=True, append_images=[noise(1)])))
    frames.seek(1)
    assert np.array_equal(read_image(frames).pixels, np.array(noise(1)))
    assert frames.tell() == 1


# Modes


def ramp() -> np.ndarray:
    return np.linspace(0, 255, HEIGHT * WIDTH).astype(np.uint8).reshape(HEIGHT, WIDTH)


def alpha() -> Image.Image:
    return Image.fromarray(np.where(np.arange(WIDTH) < WIDTH // 2, 0, 255).astype(np.uint8)[None].repeat(HEIGHT, 0))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_mode_becomes_the_wanted_one(mode: str, channels: int) -> None:
    base = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(mode, mode)
    image = corners().convert(base)
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode) if mode != base else image
    before = image.tobytes(), image.mode, dict(image.info)
    picture = read_image(image, channels=channels)
    assert picture.pixels.shape == ((HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels))
    if mode not in ("1", "L", "LA", "La") and channels > 1:
        assert colours(Picture(picture.pixels[..., :3], None, "")) == UPRIGHT[1]
    assert before == (image.tobytes(), image.mode, dict(image.info))


def test_grey_stays_what_it_is() -> None:
    grey = Image.fromarray(ramp())
    assert np.array_equal(read_image(grey, channels=1).pixels, ramp())
    assert np.array_equal(read_image(grey).pixels, ramp()[..., None].repeat(3, 2))


def test_lab_becomes_rgb(tmp_path: Path) -> None:
    rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.buildTransform(rgb, lab, "RGB", "LAB").apply(corners())
    for source in (image, saved(tmp_path, encoded(image, "TIFF"))):
        assert np.abs(read_image(source).pixels.astype(int) - np.array(corners())).max() <= 24
        assert read_image(source, channels=4).pixels.shape == (HEIGHT, WIDTH, 4)
        assert read_image(source, channels=1).pixels.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_on_white(mode: str) -> None:
    image = Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))
    image.putalpha(alpha())
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    if mode == "PA":
        image.putalpha(alpha())
    pixels = read_image(image).pixels
    assert (pixels[:, : WIDTH // 2] == 255).all()
    assert (pixels[:, WIDTH // 2 :] == 0).all()
    kept = read_image(image, channels=4).pixels
    assert np.array_equal(kept[..., 3], np.array(alpha()))


def test_half_transparent_colour_is_blended_with_white() -> None:
    half = Image.new("RGBA", (2, 2), (200, 100, 0, 51))
    assert (read_image(half).pixels[0, 0] == (244, 224, 204)).all()
    assert read_image(half, channels=1).pixels[0, 0] == Image.new("RGB", (1, 1), (244, 224, 204)).convert("L").getpixel(
        (0, 0)
    )


@pytest.mark.parametrize("clear", [0, bytes([0, 128]), None])
def test_a_palette_is_read_with_and_without_transparency(clear: Any, tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((3, 3), 1)
    how = {} if clear is None else {"transparency": clear}
    pixels = read_image(saved(tmp_path, encoded(image, "PNG", **how))).pixels
    assert tuple(pixels[0, 0]) == ((10, 20, 30) if clear is None else (255, 255, 255))
    assert tuple(pixels[3, 3]) == ((227, 177, 127) if isinstance(clear, bytes) else (200, 100, 0))


@pytest.mark.parametrize(("mode", "colour"), [("1", 0), ("L", 7), ("RGB", (1, 2, 3))])
def test_a_transparent_colour_is_white(mode: str, colour: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(Image.new(mode, (3, 3), colour), "PNG", transparency=colour))
    assert (read_image(path).pixels == 255).all()
    assert (read_image(path, channels=1).pixels == 255).all()
    assert (read_image(path, channels=4).pixels[..., 3] == 0).all()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_files_keep_their_colours(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(corners().convert("CMYK"), kind))
    with Image.open(path) as image:
        assert image.mode == "CMYK"
    assert colours(read_image(path)) == UPRIGHT[1]


def sixteen() -> np.ndarray:
    return (ramp().astype(np.uint16) * 257).astype(np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit_greys_are_divided_by_257(kind: str, channels: int, tmp_path: Path) -> None:
    picture = read_image(saved(tmp_path, encoded(Image.fromarray(sixteen()), kind)), channels=channels)
    grey = picture.pixels if channels == 1 else picture.pixels[..., 0]
    assert np.array_equal(grey, ramp())


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 7])
def test_sixteen_bit_greys_are_turned(mode: str, orientation: int) -> None:
    order = ">u2" if mode.endswith("B") else "<u2"
    image = Image.frombytes(mode, (WIDTH, HEIGHT), sixteen().astype(order).tobytes())
    image.getexif()[ORIENTATION] = orientation
    eight = Image.fromarray(ramp())
    eight.getexif()[ORIENTATION] = orientation
    assert np.array_equal(read_image(image).pixels, read_image(eight).pixels)


def test_sixteen_bit_grey_with_a_transparent_value(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 5000], [40000, 65535]], np.uint16))
    path = saved(tmp_path, encoded(image, "PNG", transparency=5000))
    assert read_image(path, channels=1).pixels.tolist() == [[0, 255], [156, 255]]
    assert read_image(path, channels=4).pixels[..., 3].tolist() == [[255, 0], [255, 255]]


@pytest.mark.parametrize(("top", "factor"), [(255, 1), (65535, 1 / 257)])
def test_integer_greys_are_read_by_range(top: int, factor: float) -> None:
    values = np.array([[0, top // 2], [top // 3, top]], np.int32)
    assert np.array_equal(read_image(Image.fromarray(values), channels=1).pixels, np.rint(values * factor))


@pytest.mark.parametrize(("top", "factor"), [(1.0, 255), (255.0, 1), (65535.0, 1 / 257)])
def test_float_greys_are_read_by_range(top: float, factor: float, tmp_path: Path) -> None:
    values = np.array([[0, top / 2], [top / 3, top]], np.float32)
    path = saved(tmp_path, encoded(Image.fromarray(values), "TIFF"))
    assert np.array_equal(read_image(path, channels=1).pixels, np.rint(values.astype(float) * factor))


@pytest.mark.parametrize("value", [-1.0, 65536.0, np.nan, np.inf])
def test_greys_of_an_unknown_range_are_refused(value: float) -> None:
    image = Image.fromarray(np.array([[0.5, value]], np.float32))
    refused(image, "the image", "wanted 0 to 1, 0 to 255 or 0 to 65535")
    if np.isfinite(value):
        refused(Image.fromarray(np.array([[0, int(value)]], np.int32)), "convert it first")


@pytest.mark.parametrize("channels", [0, 2, 5, 12])
def test_a_file_has_no_other_number_of_channels(channels: int, tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(corners(), "PNG"))
    refused(path, f"{channels} channels", f"(H, W, {channels})", channels=channels)
    refused(corners(), f"{channels} channels", channels=channels)


# Arrays


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4), (1, 1), (3, 3, 3), (3, 4, 3), (1, 9, 3)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_become_the_wanted_number_of_channels(shape: tuple[int, ...], channels: int) -> None:
    values = random(*shape)
    pixels = read_image(values, channels=channels).pixels
    assert pixels.shape == (shape[:2] if channels == 1 else (*shape[:2], channels))
    same = values.reshape(shape[:2]) if channels == 1 and values.size == shape[0] * shape[1] else values
    if same.shape == pixels.shape:
        assert np.array_equal(pixels, same)


@pytest.mark.parametrize("channels", [2, 5, 7])
def test_an_array_of_as_many_channels_as_the_model_takes(channels: int) -> None:
    values = random(6, 8, channels)
    assert np.array_equal(read_image(values, channels=channels).pixels, values)
    refused(values, f"{channels} channels came", "takes 3", "(H, W, 3)")
    refused(random(channels, 60, 80), "looks like (C, H, W)", channels=channels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_from_0_to_1_are_exact(dtype: Any) -> None:
    assert np.array_equal(read_image((ramp() / 255).astype(dtype), channels=1).pixels, ramp())


@pytest.mark.parametrize("dtype", [np.uint16, ">u2", "<u2"])
def test_sixteen_bit_arrays(dtype: Any) -> None:
    assert np.array_equal(read_image(sixteen().astype(dtype), channels=1).pixels, ramp())


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.uint32, ">i4"])
def test_other_integers_hold_8_bits(dtype: Any) -> None:
    assert np.array_equal(read_image(ramp().astype(dtype), channels=1).pixels, ramp())
    for wrong in (-1, 256):
        if wrong > 0 or np.dtype(dtype).kind == "i":
            refused(np.full((2, 2), wrong, dtype), f"from {wrong} to {wrong}", "wanted uint8")


def test_bool_and_memory_order() -> None:
    mask = ramp() > 99
    assert np.array_equal(read_image(mask, channels=1).pixels, mask * np.uint8(255))
    values = random(6, 8, 3)
    for view in (np.asfortranarray(values), values[::-1, ::-1][::-1, ::-1], values.view(np.ndarray)):
        assert np.array_equal(read_image(view).pixels, values)
        assert read_image(view).hash == read_image(values).hash


def test_the_callers_array_is_left_alone() -> None:
    for values, channels in ((random(6, 8, 3), 3), (random(6, 8), 1), (random(6, 8, 1), 1)):
        picture = read_image(values, channels=channels)
        kept = picture.pixels.copy()
        values[:] = 0
        assert values.flags.writeable
        assert not picture.pixels.flags.writeable
        assert np.array_equal(picture.pixels, kept)


@pytest.mark.parametrize("shape", [(3,), (), (0, 5), (5, 0, 3), (5, 5, 0), (1, 3, 5, 5)])
def test_arrays_of_no_picture_are_refused(shape: tuple[int, ...]) -> None:
    refused(np.zeros(shape, np.uint8), str(shape), "wanted one picture (H, W)")


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 50, 60), (4, 9, 8)])
def test_channels_first_is_noticed(shape: tuple[int, ...]) -> None:
    refused(np.zeros(shape, np.uint8), "looks like (C, H, W)", "last")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(value: float) -> None:
    refused(np.array([[0, value]]), "NaN or infinity", "wanted float from 0 to 1")


@pytest.mark.parametrize("value", [-0.001, 1.001, 255.0])
def test_floats_out_of_range_are_refused(value: float) -> None:
    refused(np.array([[0, value]]), "wanted 0 to 1", "divide 8-bit values by 255")


@pytest.mark.parametrize("dtype", [complex, object, "U1", "datetime64[s]"])
def test_other_kinds_of_array_are_refused(dtype: Any) -> None:
    refused(np.ones((2, 2), np.int64).astype(dtype), "an array of", "wanted uint8")


# Refusals


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    saved(tmp_path, b"x", "kitten.jpg")
    refused(tmp_path / "kiten.jpg", "does not exist", "Did you mean kitten.jpg?")
    refused(tmp_path / "KITTEN.JPG", "Did you mean kitten.jpg?")
    refused(tmp_path / "zebra.png", "does not exist. Check the path.")
    refused(tmp_path / "no" / "such" / "a.png", "Check the path")
    refused(tmp_path / "kitten.jpg" / "a.png", "does not exist")
    refused("https://example.org/cat.jpg", "Download it first")


def test_a_broken_link_and_a_circle_of_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "gone")
    (tmp_path / "b").symlink_to(tmp_path / "c")
    (tmp_path / "c").symlink_to(tmp_path / "b")
    refused(tmp_path / "a", "does not exist")
    refused(tmp_path / "b", "not a usable path", "symbolic links")


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path, "is a directory", "*.jpg")
    refused(saved(tmp_path, b""), "is empty (0 bytes)", "get it again")
    refused("", "an empty path")
    refused("a\0b.jpg", "a?b.jpg", "not a usable path")
    refused("x" * 5000, "not a usable path", "too long")


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is a pipe", "wanted a file")
    for device in ("/dev/zero", "/dev/null", "/dev/urandom"):
        refused(device, "is a device")


@pytest.mark.parametrize("source", [None, 7, b"cat.jpg", ["cat.jpg"], 1.5, object(), io.BytesIO()])
def test_other_types_are_refused(source: Any) -> None:
    refused(source, f"a {type(source).__name__} came as an image", "wanted a path")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(corners(), "PNG"))
    path.chmod(0)
    refused(path, "permission denied")


@pytest.mark.parametrize("call", ["stat", "open"])
def test_permission_denied(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = saved(tmp_path, encoded(corners(), "PNG"))
    monkeypatch.setattr(Path, call, deny)
    refused(path, "permission denied", "change its rights")


def test_text_and_other_files_are_no_images(tmp_path: Path) -> None:
    for data in (
        b"hello\n",
        b"\0" * 5000,
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"P",
        b"<svg/>",
    ):
        refused(saved(tmp_path, data, "cat.jpg"), "is not an image", "wanted JPEG, PNG, WebP, BMP, GIF, TIFF or HEIC")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "HEIF"])
def test_a_truncated_file_is_refused_or_whole(kind: str, tmp_path: Path) -> None:
    data = encoded(noise(width=160, height=120), kind)
    whole = read_image(saved(tmp_path, data)).pixels
    for share in (0.002, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99):
        text = refused(saved(tmp_path, data[: max(1, int(len(data) * share))]), "image")
        assert "get it again" in text or "wanted JPEG" in text
    for cut in (1, 2, 3, 5, 9, 13, 20):
        try:
            found = read_image(saved(tmp_path, data[:-cut])).pixels
        except ImageError:
            continue
        assert np.array_equal(found, whole), cut


@pytest.mark.parametrize("how", [{"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_truncated_jpegs_of_every_kind(how: dict[str, Any], tmp_path: Path) -> None:
    data = encoded(noise(width=160, height=120), "JPEG", **how)
    for share in np.linspace(0.05, 0.98, 12):
        refused(saved(tmp_path, data[: int(len(data) * share)]), "damaged or truncated", "get it again")


def test_a_download_that_left_zeros_is_refused(tmp_path: Path) -> None:
    data = encoded(noise(width=160, height=120), "JPEG")
    refused(saved(tmp_path, data[: len(data) // 2] + bytes(len(data) // 2)), "ends in zeros", "get it again")
    assert read_image(saved(tmp_path, data + bytes(5000))).hash == read_image(saved(tmp_path, data)).hash


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_truncated_tiffs_of_every_compression(compression: str, tmp_path: Path) -> None:
    data = encoded(noise(width=160, height=120), "TIFF", compression=compression)
    assert read_image(saved(tmp_path, data)).size == (120, 160)
    for share in np.linspace(0.05, 0.95, 8):
        refused(saved(tmp_path, data[: int(len(data) * share)]), "damaged or truncated")


def test_a_user_setting_does_not_let_half_a_picture_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(noise(), "JPEG")
    refused(saved(tmp_path, data[: len(data) // 2]), "damaged or truncated")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_an_opened_picture_that_cannot_be_read() -> None:
    data = encoded(noise(), "PNG")
    refused(Image.open(io.BytesIO(data[: len(data) // 2])), "the image is a damaged or truncated image")
    closed = Image.new("RGB", (4, 4))
    closed.close()
    refused(closed, "the image")
    refused(Image.new("RGB", (0, 5)), "has no pixels (0x5)")


# The limit of pixels


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    bombs = {
        "png": png_header(60_000, 60_000),
        "gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + encoded(corners(), "GIF")[10:],
        "bmp": encoded(corners(), "BMP")[:18] + struct.pack("<ii", 50_000, 50_000) + encoded(corners(), "BMP")[26:],
    }
    for kind, data in bombs.items():
        refused(
            saved(tmp_path, data, f"bomb.{kind}"), f"bomb.{kind} has ", "over the limit of 179,000,000", "--max-pixels"
        )


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_the_limit_comes_before_decoding(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, encoded(corners(), kind))
    assert read_image(path, max_pixels=WIDTH * HEIGHT).size == (HEIGHT, WIDTH)
    monkeypatch.setattr(images, "_decoded", lambda *_: pytest.fail("decoded"))
    refused(path, "1,536 pixels (48x32)", "limit of 1,535", max_pixels=WIDTH * HEIGHT - 1)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_limit_holds_for_animations(kind: str, tmp_path: Path) -> None:
    data = encoded(corners(), kind, save_all=True, append_images=[noise(1), noise(2)])
    refused(saved(tmp_path, data), "over the limit of 1,000", max_pixels=1000)


def test_the_limit_holds_for_arrays_and_pil_images() -> None:
    for source in (corners(), np.array(corners()), ramp()):
        refused(source, "(48x32), over the limit of 99", max_pixels=99)


def test_pillows_own_limit_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(saved(tmp_path, encoded(corners(), "PNG"))).size == (HEIGHT, WIDTH)
    assert Image.MAX_IMAGE_PIXELS == 10


# Global state, threads, damage


def test_many_threads_leave_the_globals_alone(tmp_path: Path) -> None:
    kinds = ("JPEG", "PNG", "WEBP", "GIF", "HEIF")
    good = [
        saved(
            tmp_path,
            encoded(noise(i, 90, 70), k, exif=b"Exif\0\0xx") if k in kinds[:3] else encoded(noise(i, 90, 70), k),
            k,
        )
        for i, k in enumerate(kinds)
    ]
    bad = [saved(tmp_path, p.read_bytes()[:-900], f"{p.name}.bad") for p in good]
    wanted = [read_image(p).hash for p in good]
    start = threading.Barrier(4)

    def work(_: int) -> list[str]:
        start.wait()
        found = []
        for path, broken in list(zip(good, bad, strict=True)) * 4:
            refused(broken)
            found.append(read_image(path).hash)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [wanted * 4] * 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "HEIF", "BMP", "AVIF"])
def test_flipped_bytes_give_a_picture_or_one_line(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = encoded(corners(), kind, exif=with_orientation(6), **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    for seed in range(30):
        read_or_refused(saved(tmp_path, flipped(data, seed)))
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err == "" or kind == "TIFF"  # libtiff itself writes there, from C
    assert not caplog.records


def flipped(data: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    damaged = bytearray(data)
    for place in rng.integers(0, len(data) if seed % 2 else min(len(data), 200), 1 + seed % 8):
        damaged[place] = rng.integers(0, 256)
    return bytes(damaged)


def read_or_refused(path: Path) -> None:
    try:
        picture = read_image(path)
    except ImageError as error:
        text = str(error)
    else:
        assert picture.pixels.ndim == 3
        return
    assert "\n" not in text
    assert path.name in text
