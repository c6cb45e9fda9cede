"""The frozen result: sizes, files, boxes, drawing; and what `explain` returns for what it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline
from nets import ConvNet, make
from sightline.demo.scenes import scene
from sightline.errors import ImageError, InputError, ParameterError, RefusedError
from sightline.explanation import Explanation
from sightline.models.load import load


@pytest.fixture(scope="module")
def honest() -> sightline.Model:
    return load("demo/honest")


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    """A picture twice as wide as high, so that the crop cuts its sides off."""
    return np.concatenate([scene(1).image, scene(2).image], axis=1)


def test_one_image_one_method_one_target_gives_one_explanation(honest: sightline.Model) -> None:
    image = scene(1).image
    assert isinstance(sightline.explain(honest, image), Explanation)
    assert isinstance(sightline.explain(honest, Image.fromarray(image)), Explanation)


@pytest.mark.parametrize(
    ("images", "method", "target", "count"),
    [
        ("list", "grad_cam", "top1", 1),
        ("one", "grad_cam,gradient", "top1", 2),
        ("one", ["grad_cam"], "top1", 1),
        ("one", "grad_cam", "top3", 3),
        ("one", "grad_cam", ["star", "disc"], 2),
        ("tensor", "grad_cam", "top1", 2),
    ],
)
def test_anything_else_gives_a_flat_list(honest, images: str, method, target, count: int) -> None:
    image = scene(1).image
    given = {"list": [image], "one": image, "tensor": torch.randn(2, 3, 96, 96)}[images]
    found = sightline.explain(honest, given, method, target)
    assert isinstance(found, list)
    assert len(found) == count


def test_the_list_is_ordered_by_image_method_target(honest: sightline.Model) -> None:
    found = sightline.explain(
        honest, [scene(i).image for i in range(3)], "gradient,grad_cam", ["star", "disc"], batch_size=2
    )
    hashes = list(dict.fromkeys(e.provenance["image_hash"] for e in found))
    order = [(hashes.index(e.provenance["image_hash"]), e.method, e.target.label) for e in found]
    assert order == [(i, m, t) for i in range(3) for m in ("gradient", "grad_cam") for t in ("star", "disc")]


def test_sizes_of_attribution_map_and_heatmap(honest: sightline.Model, wide: np.ndarray) -> None:
    cam, pixels = sightline.explain(honest, wide, "grad_cam,gradient")
    assert cam.attribution.shape == (12, 12)
    assert pixels.attribution.shape == (3, 96, 96)
    for e in (cam, pixels):
        assert e.attribution.dtype == e.heatmap.dtype == e.at_input().dtype == np.float32
        assert e.at_input().shape == (96, 96)
        assert e.heatmap.shape == wide.shape[:2]


def test_what_the_crop_cut_off_is_nan_and_only_that(honest: sightline.Model, wide: np.ndarray) -> None:
    heatmap = sightline.explain(honest, wide).heatmap
    assert np.isnan(heatmap[:, :48]).all()
    assert np.isnan(heatmap[:, 144:]).all()
    assert np.isfinite(heatmap[:, 48:144]).all()
    for fit in ("squash", "pad"):
        assert np.isfinite(sightline.explain(load("demo/honest", fit=fit), wide).heatmap).all()


def test_the_heatmap_lies_where_the_object_is(honest: sightline.Model) -> None:
    shares = []
    for seed in range(12):
        shot = scene(seed)
        e = sightline.explain(honest, shot.image, target=int(shot.label))
        shares.append(e.heatmap[shot.object_mask].mean() > e.heatmap[~shot.object_mask].mean())
    assert np.mean(shares) > 0.8


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_saved_and_loaded_is_the_same(honest, wide: np.ndarray, tmp_path: Path, suffix: str) -> None:
    e = sightline.explain(honest, wide, "guided_grad_cam", "star")
    again = Explanation.load(e.save(tmp_path / "deep" / f"e{suffix}"))
    assert again.to_dict() == e.to_dict()
    assert np.array_equal(again.attribution, e.attribution)
    assert np.array_equal(again.heatmap, e.heatmap, equal_nan=True)
    assert np.array_equal(again.image, e.image)
    assert list(again.render("overlay").get_flattened_data()) == list(e.render("overlay").get_flattened_data())


@pytest.mark.parametrize("draw", ["card", "overlay", "heatmap", "masked", "alpha", "contours", "channels"])
def test_every_drawing_is_a_picture_without_metadata(honest, wide: np.ndarray, tmp_path: Path, draw) -> None:
    e = sightline.explain(honest, wide)
    with Image.open(e.save(tmp_path / "e.png", draw)) as picture:
        assert picture.format == "PNG"
        assert not picture.getexif()
        if draw not in ("card", "channels"):
            assert picture.size == (wide.shape[1], wide.shape[0])


def test_what_cannot_be_loaded_or_saved_says_so(honest, tmp_path: Path) -> None:
    e = sightline.explain(honest, scene(0).image)
    with pytest.raises(ParameterError, match=r"\.png, \.html, \.npz or \.json"):
        e.save(tmp_path / "e.jpg")
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.npz", "bad.json", "missing.npz"):
        with pytest.raises(InputError):
            Explanation.load(tmp_path / name)


def test_an_explanation_cannot_be_changed(honest: sightline.Model) -> None:
    e = sightline.explain(honest, scene(0).image)
    with pytest.raises(ValueError, match="read-only"):
        e.attribution[0] = 1
    with pytest.raises(AttributeError):
        e.method = "other"


def test_boxes_frame_the_hot_regions(honest: sightline.Model) -> None:
    shot = scene(3)
    boxes = sightline.explain(honest, shot.image, target=int(shot.label)).boxes(0.5)
    assert boxes
    assert [b.mass for b in boxes] == sorted((b.mass for b in boxes), reverse=True)
    assert all(0 <= b.xmin < b.xmax <= 96 and 0 <= b.ymin < b.ymax <= 96 for b in boxes)
    with pytest.raises(ParameterError, match="between 0 and 1"):
        sightline.explain(honest, shot.image).boxes(5)


def test_a_zero_map_is_legal_and_said(tmp_path: Path) -> None:
    net = ConvNet().eval()
    with torch.no_grad():
        net.head.weight.zero_()
    e = sightline.explain(net, torch.randn(1, 3, 16, 16), "grad_cam")[0]
    assert not e.attribution.any()
    assert any("zero everywhere" in note for note in e.notes)
    e.save(tmp_path / "zero.png")


def test_predictions_are_best_first_and_have_both_numbers(honest: sightline.Model) -> None:
    e = sightline.explain(honest, scene(0).image)
    chances = [p["probability"] for p in e.predictions]
    assert chances == sorted(chances, reverse=True)
    logits = torch.tensor([p["logit"] for p in e.predictions])
    ratio = torch.tensor(chances[1] / chances[0]).log()
    assert ratio == pytest.approx(float(logits[1] - logits[0]), abs=1e-4)
    assert sightline.predict(honest, scene(0).image)[0] == list(e.predictions)


def test_notebooks_get_html_with_a_picture(honest: sightline.Model) -> None:
    html = sightline.explain(honest, scene(0).image)._repr_html_()
    assert "data:image/png;base64," in html
    assert "alt=" in html


def test_provenance_names_no_directory(honest: sightline.Model, tmp_path: Path) -> None:
    Image.fromarray(scene(0).image).save(tmp_path / "secret.png")
    e = sightline.explain(honest, tmp_path / "secret.png")
    assert e.provenance["image"] == "secret.png"
    assert str(tmp_path) not in str(e.to_dict())


@pytest.mark.parametrize(
    "images",
    [
        [],
        None,
        7,
        torch.zeros(3, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.full((1, 3, 8, 8), torch.nan),
        [torch.zeros(3, 8, 8)],
    ],
)
def test_what_is_no_image_is_refused_in_one_line(honest: sightline.Model, images) -> None:
    with pytest.raises(ImageError) as caught:
        sightline.explain(honest, images)
    assert "\n" not in str(caught.value)
    assert "wanted" in str(caught.value)


def test_several_layers_are_fused(honest: sightline.Model) -> None:
    layers = ["features.relu4", "features.relu5"]
    for fuse in ("mean", "max", "product"):
        e = sightline.explain(honest, scene(1).image, layer=layers, fuse=fuse)
        assert e.layer == "features.relu4+features.relu5"
        assert 0 < e.attribution.max() <= 1


def test_parameters_reach_the_method_that_was_meant(honest: sightline.Model) -> None:
    image = scene(1).image
    both = sightline.explain(honest, image, "grad_cam,layer_cam", **{"grad_cam.relu": False})
    assert [e.parameters["relu"] for e in both] == [False, True]
    with pytest.raises(ParameterError, match="not among the methods"):
        sightline.explain(honest, image, "grad_cam", **{"layer_cam.relu": False})


def test_upsampling_and_reduction_are_kept(honest: sightline.Model) -> None:
    image = scene(1).image
    maps = {
        h: sightline.explain(honest, image, upsampling=h).at_input()
        for h in ("bilinear", "bicubic", "nearest", "spline")
    }
    assert len({m.tobytes() for m in maps.values()}) == 4
    pixels = [
        sightline.explain(honest, image, "gradient", reduction=r).heatmap for r in ("max-abs", "sum-abs", "sum", "l2")
    ]
    assert (pixels[1] >= pixels[0] - 1e-6).all()
    assert pixels[2].min() < 0


def test_baselines_one_for_each_image_are_cut_with_the_batches() -> None:
    net, x = make("conv")
    given = torch.rand_like(x)
    whole = sightline.explain(net, x, "integrated_gradients", baseline=given, steps=3)
    parts = sightline.explain(net, x, "integrated_gradients", baseline=given, steps=3, batch_size=2)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a.attribution, b.attribution, atol=1e-6)


def test_targets_that_are_no_whole_numbers_are_refused() -> None:
    net, x = make("conv")
    with pytest.raises(sightline.SightlineError, match="whole numbers"):
        sightline.explain(net, x, "gradient", np.array([0.2, 1.7, 2.9]))


def test_channels_of_different_layers_are_not_mixed() -> None:
    net, x = make("conv")
    with pytest.raises(RefusedError, match="different channels"):
        sightline.explain(net, x, "activations", layer=["features.0", "features.4"])


def test_an_exact_copy_is_made_under_inference_mode_too() -> None:
    net, x = make("conv")
    model = load(net)
    with torch.inference_mode():
        inside = sightline.explain(model, x.clone(), "gradient", 1, precision="float64")
    assert np.array_equal(
        inside[0].attribution, sightline.explain(model, x, "gradient", 1, precision="float64")[0].attribution
    )


def test_a_refused_method_says_why(honest: sightline.Model) -> None:
    net, x = make("smooth")
    with pytest.raises(RefusedError, match="no ReLU"):
        sightline.explain(net, x, "guided_backprop")


def test_compare_fills_a_refused_cell_with_the_reason() -> None:
    net, _ = make("smooth")
    found = sightline.compare({"smooth": net}, scene(0).image, "grad_cam,guided_backprop")
    assert [m for _, m, _ in found.refused] == ["guided_backprop"]
    assert found.picture.mode == "RGB"


def test_a_page_holds_the_picture_and_loads_nothing(honest, wide: np.ndarray, tmp_path: Path) -> None:
    page = sightline.explain(honest, wide).save(tmp_path / "map.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page


def test_a_tick_that_raises_ends_the_work(honest, wide: np.ndarray) -> None:
    class StoppedError(Exception): ...

    def stop(points: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        sightline.explain(honest, wide, "rise", tick=stop)
    assert sightline.explain(honest, wide).method == "grad_cam"
