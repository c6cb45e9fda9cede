"""From pixels to a model's input, to the bit as torchvision does it, and from the input's grid back to the pixels."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.errors import ImageError, InputError, ParameterError
from sightline.geometry import Geometry, Preprocessing, prepare, restore
from sightline.images import Picture, read_image
from sightline.models.zoo import import_torchvision

FITS = ("crop", "squash", "pad")
PLAIN = Preprocessing(mean=(0.0,), std=(1.0,), scale=1.0)
SIZES = [
    (300, 400),
    (400, 300),
    (333, 333),
    (257, 311),
    (1, 1),
    (1, 50),
    (50, 1),
    (100, 90),
    (30, 500),
    (224, 224),
    (2, 3),
]
SIZES += [(225, 226), (255, 256), (64, 1023)]


def picture(*shape: int, seed: int = 0) -> Picture:
    return read_image(
        np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), channels=shape[2] if len(shape) > 2 else 1
    )


def block(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """Zeros, with ones in the box (left, top, right, bottom)."""
    values = np.zeros(size, np.float32)
    values[box[1] : box[3], box[0] : box[2]] = 1
    return values


def placed(size: tuple[int, int], how: Preprocessing) -> Geometry:
    return prepare(picture(*size), replace(how, mean=(0.0,), std=(1.0,)))[1]


def centroid(values: np.ndarray) -> tuple[float, float]:
    weights = np.nan_to_num(values)
    ys, xs = np.indices(values.shape) + 0.5
    return float((xs * weights).sum() / weights.sum()), float((ys * weights).sum() / weights.sum())


# As torchvision does it


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (232, 224), (64, 97), (65, 64), (33, 16)])
def test_the_crop_is_torchvisions_to_the_bit(size: tuple[int, int], resize: int, crop: int, interpolation: Any) -> None:
    import_torchvision()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    preset = ImageClassification(crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation))
    image = picture(*size, 3)
    found, geometry = prepare(image, Preprocessing(resize, crop, interpolation=interpolation))
    assert torch.equal(found, preset(Image.fromarray(image.pixels)))
    assert geometry.tensor == (crop, crop) == tuple(found.shape[1:])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop", [None, 31, 64, (31, 64), (400, 17), (301, 399)])
@pytest.mark.parametrize("resize", [None, 48, (40, 61)])
def test_parts_of_the_preset(size: tuple[int, int], crop: Any, resize: Any) -> None:
    import_torchvision()
    from torchvision.transforms import functional

    image = picture(*size, 3)
    wanted = Image.fromarray(image.pixels)
    wanted = wanted if resize is None else functional.resize(wanted, [resize] if isinstance(resize, int) else resize)
    wanted = wanted if crop is None else functional.center_crop(wanted, crop)
    found, geometry = prepare(image, Preprocessing(resize, crop, mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0))
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.array(wanted))
    assert geometry.original == size


@pytest.mark.parametrize("mean", [(0.5,), (0.485, 0.456, 0.406)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_normalisation_is_torchvisions(mean: tuple[float, ...], dtype: torch.dtype) -> None:
    import_torchvision()
    from torchvision.transforms import functional

    image = picture(20, 30) if len(mean) == 1 else picture(20, 30, 3)
    how = Preprocessing(None, None, mean=mean, std=(0.25,) * len(mean))
    planes = functional.pil_to_tensor(Image.fromarray(image.pixels))
    wanted = functional.normalize(functional.convert_image_dtype(planes, dtype), list(mean), list(how.std))
    assert torch.equal(prepare(image, how, dtype=dtype)[0], wanted)


def test_every_preset_of_torchvision_is_read_alike() -> None:
    from sightline.models.zoo import metadata, pretrained

    image = picture(301, 277, 3)
    for name in ("resnet50", "efficientnet_b3", "vit_b_16", "inception_v3", "swin_v2_t"):
        weights = pretrained(name, "default")
        preset, how = weights.transforms(), metadata(name, weights)[0]
        assert torch.equal(prepare(image, how)[0], preset(Image.fromarray(image.pixels))), name


# The other fits


@pytest.mark.parametrize("size", SIZES)
def test_squash_shows_the_whole_picture(size: tuple[int, int]) -> None:
    how = Preprocessing(fit="squash", crop=(61, 33), mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0)
    image = picture(*size, 3)
    found, geometry = prepare(image, how)
    wanted = Image.fromarray(image.pixels).resize((33, 61), Image.Resampling.BILINEAR)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.array(wanted))
    assert geometry == Geometry(size, (61, 33), (0, 0), (61, 33))
    assert geometry.seen().all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop", [64, (61, 33), (7, 90)])
def test_pad_keeps_the_shape_and_fills_with_the_mean(size: tuple[int, int], crop: Any) -> None:
    how = Preprocessing(fit="pad", crop=crop)
    found, geometry = prepare(picture(*size, 3), how)
    (height, width), (top, left), goal = geometry.resized, geometry.offset, geometry.tensor
    assert tuple(found.shape[1:]) == goal
    assert height == goal[0] or width == goal[1]
    assert abs(height * size[1] / size[0] - width) <= max(1, size[1] / size[0], size[0] / size[1])
    inside = np.zeros(goal, bool)
    inside[-top : height - top, -left : width - left] = True
    assert inside.sum() == height * width
    assert (found.numpy()[:, ~inside] == 0).all()
    assert 0 <= goal[0] - height + 2 * top <= 1
    assert 0 <= goal[1] - width + 2 * left <= 1
    inner = prepare(picture(*size, 3), replace(how, fit="squash", crop=(height, width)))[0]
    assert torch.equal(found[:, -top : height - top, -left : width - left], inner)


@pytest.mark.parametrize("fit", FITS)
def test_without_sizes_every_fit_takes_the_picture_as_it_is(fit: Any) -> None:
    found, geometry = prepare(picture(9, 7), replace(PLAIN, resize=None, crop=None, fit=fit))
    assert np.array_equal(found[0].numpy(), picture(9, 7).pixels)
    assert geometry == Geometry.identity((9, 7))
    assert placed((9, 7), Preprocessing(resize=(5, 6), crop=None, fit=fit)).tensor == (5, 6)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("fit", FITS)
def test_channels_do_not_touch_each_other(channels: int, fit: Any) -> None:
    how = replace(PLAIN, resize=40, crop=32, fit=fit, mean=(0.0,) * channels, std=(1.0,) * channels)
    image = picture(50, 70, channels) if channels > 1 else picture(50, 70)
    found = prepare(image, how)[0]
    assert found.shape == (channels, 32, 32)
    for i in range(channels):
        plane = image.pixels if channels == 1 else image.pixels[..., i]
        alone = prepare(read_image(plane, channels=1), replace(how, mean=(0.0,), std=(1.0,)))[0]
        assert torch.equal(found[i], alone[0])


def test_the_channels_must_fit() -> None:
    with pytest.raises(InputError, match=r"has 1 channels and the model takes 3; read it with channels=3"):
        prepare(picture(5, 5), Preprocessing())


def test_a_line_that_would_grow_beyond_all_limits_is_refused() -> None:
    line = picture(1, 60_000, 3)
    with pytest.raises(ImageError, match=r"1x60000 would become 256x15360000 .*fit='squash'"):
        prepare(line, Preprocessing(resize=256))
    assert prepare(line, Preprocessing(fit="pad"))[0].shape == (3, 224, 224)


def test_the_picture_is_not_changed_and_not_shared() -> None:
    image = picture(8, 8)
    found = prepare(image, replace(PLAIN, resize=None, crop=None), dtype=torch.float32)[0]
    found += 1
    assert np.array_equal(image.pixels, picture(8, 8).pixels)


# There and back


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (224, 224)])
def test_the_identity_is_exact(size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=(2, *size)).astype(np.float32)
    geometry = Geometry.identity(size)
    assert np.array_equal(geometry.to_original(values), values)
    assert np.array_equal(geometry.to_tensor(values), values)
    assert geometry.seen().all()
    values[0, size[0] // 2, size[1] // 2] = np.nan
    assert np.isnan(geometry.to_original(values)).sum() == 1


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(300, 400), (400, 300), (97, 91), (20, 30), (1200, 900)])
@pytest.mark.parametrize("crop", [224, (200, 160), 97])
def test_a_marked_block_lands_where_it_was(size: tuple[int, int], fit: Any, crop: Any) -> None:
    geometry = placed(size, Preprocessing(resize=256, crop=crop, fit=fit))
    height, width = size
    box = (width * 2 // 5, height * 2 // 5, width * 11 // 20, height * 3 // 5)
    there = geometry.to_tensor(block(size, box))
    left, top, right, bottom = geometry.box_to_tensor(box)
    found = centroid(there)
    assert found == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.6)
    assert np.nansum(there) == pytest.approx((right - left) * (bottom - top), rel=0.15)
    back = geometry.to_original(np.nan_to_num(there))
    slack = 0.6 + max(height / geometry.resized[0], width / geometry.resized[1])
    assert centroid(back) == pytest.approx(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), abs=slack)
    edge = int(3 * slack) + 1
    inner = back[box[1] + edge : box[3] - edge, box[0] + edge : box[2] - edge]
    assert np.allclose(inner, 1, atol=1e-5)


@pytest.mark.parametrize("fit", FITS)
def test_the_model_sees_the_block_where_the_geometry_says(fit: Any) -> None:
    box = (150, 100, 250, 200)
    image = read_image(block((300, 400), box).astype(np.uint8) * 255, channels=1)
    found, geometry = prepare(image, replace(PLAIN, fit=fit, mean=(0.0,), scale=255.0))
    assert centroid(found[0].numpy()) == pytest.approx(centroid(geometry.to_tensor(block((300, 400), box))), abs=0.05)
    left, top, right, bottom = (round(v) for v in geometry.box_to_tensor(box))
    assert (found[0, top + 2 : bottom - 2, left + 2 : right - 2] == 1).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (64, 97), (None, 60), ((40, 61), (33, 33)), (33, (16, 17))])
def test_nan_lies_exactly_where_the_crop_cut_off(size: tuple[int, int], resize: Any, crop: Any) -> None:
    geometry = placed(size, Preprocessing(resize, crop))
    found = geometry.to_original(np.ones(geometry.tensor))
    inside = []
    for axis in (0, 1):
        centres = (np.arange(size[axis]) + 0.5) * geometry.resized[axis] / size[axis] - geometry.offset[axis]
        inside.append((centres >= 0) & (centres < geometry.tensor[axis]))
    assert np.array_equal(~np.isnan(found), np.outer(*inside))
    assert np.array_equal(geometry.seen(), np.outer(*inside))
    assert np.allclose(found[geometry.seen()], 1)


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_nan_where_nothing_was_cut(size: tuple[int, int], fit: Any) -> None:
    geometry = placed(size, Preprocessing(crop=(61, 47), fit=fit))
    assert np.isfinite(geometry.to_original(np.ones((61, 47)))).all()
    there = geometry.to_tensor(np.ones(size))
    (top, left), (height, width) = geometry.offset, geometry.resized
    wanted = np.full((61, 47), np.nan)
    wanted[-top : height - top, -left : width - left] = 1
    assert np.allclose(there, wanted, equal_nan=True)


def test_what_lies_on_the_padding_does_not_leak_into_the_picture() -> None:
    geometry = placed((100, 40), Preprocessing(crop=50, fit="pad"))
    values = np.where(geometry.filled(), 1.0, 1000.0)
    assert np.allclose(geometry.to_original(values), 1)


def test_a_thin_line_of_a_large_picture_keeps_its_share() -> None:
    geometry = placed((300, 400), Preprocessing(resize=30, crop=None))
    line = np.zeros((300, 400))
    line[:, 200] = 1
    assert geometry.to_tensor(line).sum() / 30 == pytest.approx(40 / 400, rel=0.05)


def test_black_borders_of_a_small_picture_are_nan_on_the_input() -> None:
    geometry = placed((30, 50), Preprocessing(resize=None, crop=40))
    there = geometry.to_tensor(np.ones((30, 50)))
    assert np.isnan(there).sum() == 10 * 40
    assert np.isnan(there[:5]).all()
    assert np.isnan(there[35:]).all()


def test_a_gradient_comes_back_as_it_went() -> None:
    geometry = placed((300, 400), Preprocessing(fit="squash"))
    ramp = np.linspace(0, 1, 400, dtype=np.float32)[None].repeat(300, 0)
    assert np.abs(geometry.to_original(geometry.to_tensor(ramp)) - ramp).max() < 0.004


@pytest.mark.parametrize("shape", [(5, 7), (224,), (), (7, 5, 7), (225, 224)])
def test_a_map_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    geometry = placed((300, 400), Preprocessing())
    with pytest.raises(InputError, match=r"wanted \(\.\.\., 224, 224\)"):
        geometry.to_original(np.zeros(shape))
    with pytest.raises(InputError, match=r"wanted \(\.\.\., 300, 400\)"):
        geometry.to_tensor(np.zeros(shape))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float64, np.int64])
def test_maps_of_any_number_become_float32(dtype: Any) -> None:
    geometry = placed((30, 40), Preprocessing(32, 28))
    for found in (geometry.to_original(np.ones((2, 28, 28), dtype)), geometry.to_tensor(np.ones((2, 30, 40), dtype))):
        assert found.dtype == np.float32
        assert np.nanmin(found) == np.nanmax(found) == 1


@pytest.mark.parametrize("fit", FITS)
def test_big_pictures_are_quick(fit: Any) -> None:
    geometry = placed((3000, 4000), Preprocessing(fit=fit))
    values = np.ones((224, 224), np.float32)
    geometry.to_original(values[:1].repeat(224, 0))
    start = time.process_time()
    found = geometry.to_original(values)
    assert time.process_time() - start < 1
    assert found.shape == (3000, 4000)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(300, 400), (97, 91), (1, 50)])
def test_boxes_there_and_back(size: tuple[int, int], fit: Any) -> None:
    geometry = placed(size, Preprocessing(fit=fit))
    box = (0.25, 0.5, size[1] * 0.75, size[0] * 0.875)
    assert geometry.box_to_original(geometry.box_to_tensor(box)) == pytest.approx(box)
    assert geometry.box_to_tensor(geometry.box_to_original(box)) == pytest.approx(box)


def test_boxes_of_a_known_crop() -> None:
    geometry = placed((512, 1024), Preprocessing(256, 224))
    assert geometry == Geometry((512, 1024), (256, 512), (16, 144), (224, 224))
    assert geometry.box_to_tensor((288, 32, 736, 480)) == (0, 0, 224, 224)
    assert geometry.box_to_original((0, 0, 224, 224)) == (288, 32, 736, 480)


# Written and read, described, refused


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(),
        Preprocessing(None, None),
        Preprocessing((30, 40), (20, 10), fit="pad", interpolation="lanczos", scale=1),
        Preprocessing(mean=(0.5,), std=(0.5,), fit="squash"),
    ],
)
def test_preprocessing_is_written_and_read(how: Preprocessing) -> None:
    again = Preprocessing.from_dict(json.loads(json.dumps(how.to_dict())))
    assert again == how
    assert hash(again) == hash(how)


def test_geometry_is_written_and_read() -> None:
    geometry = placed((30, 50), Preprocessing(None, 40))
    assert Geometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry
    assert all(type(v) is int for pair in geometry.to_dict().values() for v in pair)


def test_lists_and_numpy_numbers_are_taken() -> None:
    how: Any = Preprocessing([256], [np.int64(20), 10], [0.5, 0.5, 0.5], np.full(3, 0.25))  # type: ignore[arg-type]
    assert how == Preprocessing(256, (20, 10), (0.5,) * 3, (0.25,) * 3)
    assert json.dumps(how.to_dict())
    assert hash(how)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (Preprocessing(), "short side to 256, centre crop 224x224 (bilinear), /255, mean 0.485 0.456 0.406, std 0.229"),
        (Preprocessing(None, None), "no resizing (bilinear)"),
        (Preprocessing((30, 40), None), "resized to 30x40 (bilinear)"),
        (Preprocessing(None, (20, 10)), "no resizing, centre crop 20x10"),
        (Preprocessing(fit="pad", interpolation="bicubic"), "padded to 224x224 (bicubic)"),
        (Preprocessing(fit="squash", crop=None), "squashed to 256x256"),
        (Preprocessing(None, None, fit="squash"), "squashed to its own size"),
        (Preprocessing(mean=(0.0,), std=(1.0,), scale=1), "(bilinear), mean 0, std 1"),
    ],
)
def test_the_description_is_one_readable_line(how: Preprocessing, wanted: str) -> None:
    assert wanted in how.describe()
    assert "\n" not in how.describe()


def test_with_fit_changes_nothing_else() -> None:
    assert Preprocessing(resize=9).with_fit("pad") == Preprocessing(resize=9, fit="pad")
    assert Preprocessing(mean=(0.0, 0.0), std=(1.0, 1.0)).channels == 2


@pytest.mark.parametrize("name", ["resize", "crop"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "224", True, (0, 5), (5, -5), (1, 2, 3), (), (5.0, 5), [None, 3]])
def test_nonsense_sizes_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=rf"{name}=.*wanted a whole number above 0, \(height, width\) or None"):
        Preprocessing(**{name: value})


@pytest.mark.parametrize(
    "given",
    [
        {"std": (0.2, 0.0, 0.2)},
        {"std": (0.2, -0.2, 0.2)},
        {"std": (1e-50, 1, 1)},
        {"std": (0.2,)},
        {"mean": ()},
        {"mean": 0.5},
        {"mean": ("a", "b", "c")},
        {"mean": (np.nan, 0, 0)},
        {"mean": None},
        {"scale": 0},
        {"scale": -255},
        {"scale": np.inf},
        {"scale": None},
        {"fit": "stretch"},
        {"fit": None},
        {"fit": ["crop"]},
        {"interpolation": "area"},
        {"interpolation": 2},
    ],
)
def test_nonsense_is_refused_in_one_line(given: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=r"preprocessing: .*wanted") as caught:
        Preprocessing(**given)
    assert "\n" not in str(caught.value)


def test_what_was_not_written_by_us_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"'size' is unknown; wanted resize, crop"):
        Preprocessing.from_dict({"size": 3})
    with pytest.raises(InputError, match="above 0"):
        Geometry((0, 5), (1, 1), (0, 0), (1, 1))


# For display


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("how", [{}, {"scale": 1.0}, {"scale": 127.5}])
def test_restore_inverts_mean_and_std(channels: int, how: dict[str, Any]) -> None:
    full = Preprocessing(
        None, None, mean=(0.485, 0.456, 0.406, 1)[:channels], std=(0.229, 0.2, 0.22, 2)[:channels], **how
    )
    image = picture(40, 50, channels) if channels > 1 else picture(40, 50)
    found = restore(prepare(image, full)[0].requires_grad_(), full)
    assert found.dtype == np.uint8
    assert np.array_equal(found, image.pixels)


def test_restore_stays_within_8_bits() -> None:
    far = torch.tensor([-1e9, 0.0, 1e9]).reshape(1, 1, 3)
    assert restore(far, Preprocessing(mean=(0.5,), std=(0.5,))).tolist() == [[0, 128, 255]]
    with pytest.raises(InputError, match=r"wanted \(3, height, width\)"):
        restore(far, Preprocessing())


def test_padding_is_shown_in_the_mean_colour() -> None:
    how = Preprocessing(crop=20, fit="pad", mean=(0.2, 0.4, 0.6), std=(0.1, 0.1, 0.1))
    shown = restore(prepare(picture(10, 40, 3), how)[0], how)
    assert (shown[0, 0] == (51, 102, 153)).all()
