"""A watch called by hand: grids, strips, TensorBoard, resuming, and what fails."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sightline
from nets import ConvNet
from sightline import Preprocessing
from sightline.errors import ImageError, InputError, ModelError, ParameterError, TargetError
from sightline.methods import METHODS
from sightline.methods import method as register
from sightline.recording import Recording
from sightline.training.callbacks.strip import spread
from watching import HOW, images, learned, tags_of


def watched(out: Path, *args: Any, **options: Any) -> Any:
    given: dict[str, Any] = {"preprocessing": HOW, "out": out, "tensorboard": False} | options
    return sightline.watch(images(2), *args, **given)


def net() -> nn.Module:
    torch.manual_seed(3)
    return ConvNet()


def frame_size(strip: Path) -> tuple[int, int]:
    with Image.open(strip) as picture:
        return picture.size


def test_a_grid_an_epoch_and_a_strip_an_image_are_written(tmp_path: Path) -> None:
    watch = watched(tmp_path, "grad_cam,gradient", every=2, names=["cat", "cat"])
    files = [watch(net(), epoch) for epoch in range(5)]
    assert [f and f.name for f in files] == ["epoch_0000.png", None, "epoch_0002.png", None, "epoch_0004.png"]
    assert {p.name for p in tmp_path.glob("*.png")} == {
        "epoch_0000.png", "epoch_0002.png", "epoch_0004.png", "strip_cat.png", "strip_cat-2.png",
    }  # fmt: skip
    index = json.loads((tmp_path / "frames" / "index.json").read_text())
    moments = index["images"]["cat"]["epochs"]
    assert list(moments) == ["0", "2", "4"]
    assert 0 < moments["4"]["says"][1] <= 1
    assert set(moments["4"]["drawn"]) == {"grad_cam", "gradient"}


def test_the_first_call_draws_whatever_its_epoch(tmp_path: Path) -> None:
    watch = watched(tmp_path, every=10)
    assert [watch(net(), e) is not None for e in (3, 4, 10)] == [True, False, True]


def test_frames_change_where_the_net_changed_and_only_there(tmp_path: Path) -> None:
    watch = watched(tmp_path, target=1)
    module = net()
    for epoch in range(2):
        watch(module, epoch)
    watch(learned(module), 2)
    folder = tmp_path / "frames" / "image_1"
    first, same, other = ((folder / f"grad_cam_000{e}.png").read_bytes() for e in range(3))
    assert first == same != other
    with Image.open(tmp_path / "strip_image_1.png") as strip:
        columns = _columns(np.asarray(strip.convert("RGB")).astype(int), len("i012"))
    assert np.array_equal(columns[1], columns[2])
    assert np.abs(columns[2] - columns[3]).max() > 20


def _columns(strip: np.ndarray, count: int) -> list[np.ndarray]:
    """Cut the frames of the first row out of a strip: 240 pixels wide each, 8 apart, behind the labels."""
    left, top = 32 + 150 + 8, 190
    return [strip[top : top + 150, left + i * 248 : left + i * 248 + 240] for i in range(count)]


def test_a_strip_stays_as_wide_however_long_the_training(tmp_path: Path) -> None:
    watch = watched(tmp_path, columns=4)
    sizes = []
    for epoch in range(7):
        watch(net(), epoch)
        sizes.append(frame_size(tmp_path / "strip_image_1.png"))
    assert sizes[2][0] < sizes[3][0] == sizes[6][0]
    assert spread(range(7), 4) == [0, 2, 4, 6]
    assert spread(range(1000), 12)[0::11] == [0, 999]
    assert spread([5], 12) == [5]


def test_a_training_that_goes_on_continues_its_strip(tmp_path: Path) -> None:
    for epochs in ((0, 1, 2), (2, 3)):
        watch = watched(tmp_path)
        for epoch in epochs:
            watch(net(), epoch)
    index = json.loads((tmp_path / "frames" / "index.json").read_text())
    assert list(index["images"]["image_1"]["epochs"]) == ["0", "1", "2", "3"]


def test_a_training_begun_anew_forgets_the_earlier_one(tmp_path: Path) -> None:
    first = watched(tmp_path)
    for epoch in range(3):
        first(net(), epoch)
    watched(tmp_path)(net(), 1)
    assert sorted(p.name for p in tmp_path.glob("epoch_*.png")) == ["epoch_0000.png", "epoch_0001.png"]
    left = sorted(p.name for p in (tmp_path / "frames" / "image_2").iterdir())
    assert left == ["grad_cam_0000.png", "grad_cam_0001.png", "image.png"]


def test_frames_of_other_images_and_damaged_indices_are_not_continued(tmp_path: Path) -> None:
    watched(tmp_path)(net(), 0)
    with pytest.raises(ParameterError, match="another image called 'image_1'"):
        sightline.watch(images(3)[1:], out=tmp_path, tensorboard=False)
    (tmp_path / "frames" / "index.json").write_text('{"images": {"image_1": 3}}')
    with pytest.raises(InputError, match="not an index of frames"):
        watched(tmp_path)


def test_a_refused_method_is_said_once_and_on_the_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    watch = watched(tmp_path, ["guided_backprop", "gradient"])
    with caplog.at_level(logging.WARNING, "sightline"):
        for epoch in range(3):
            assert watch(smooth, epoch) is not None
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("epoch 0, image_1 cannot be explained by guided_backprop: ")
    drawn = json.loads((tmp_path / "frames" / "index.json").read_text())["images"]["image_2"]["epochs"]["2"]["drawn"]
    assert drawn["guided_backprop"]["why"].startswith("refused: guided_backprop")
    assert drawn["gradient"]["why"] is None


def test_weights_that_become_nan_end_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = net()
    watch = watched(tmp_path, "grad_cam,gradient")
    watch(module, 0)
    with torch.no_grad():
        module.head.weight.fill_(float("nan"))
    with caplog.at_level(logging.WARNING, "sightline"):
        assert watch(module, 1) is not None
        assert watch(module, 2) is not None
    assert len(caplog.records) == 1
    assert "weights hold NaN" in caplog.text
    assert watched(tmp_path / "new")(module, 0) is not None


def test_a_method_of_ones_own_may_break_and_the_others_are_drawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @register(family="gradient", cite="none", reads="input")
    def breaks(rec: Recording) -> Tensor:
        if len(calls) > 1:
            raise KeyError("lost")
        return torch.rand_like(rec.x)

    calls: list[int] = []
    try:
        watch = watched(tmp_path, "breaks,gradient")
        with caplog.at_level(logging.WARNING, "sightline"):
            for epoch in range(3):
                calls.append(epoch)
                watch(net(), epoch)
    finally:
        del METHODS["breaks"]
    drawn = json.loads((tmp_path / "frames" / "index.json").read_text())["images"]["image_1"]["epochs"]["2"]["drawn"]
    assert (drawn["breaks"]["why"], drawn["gradient"]["why"]) == ("KeyError: 'lost'", None)
    assert [r.exc_info is not None for r in caplog.records] == [True]


def test_a_disk_that_cannot_be_written_ends_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = watched(tmp_path / "out")
    watch(net(), 0)
    (tmp_path / "out").rename(tmp_path / "gone")
    (tmp_path / "out").write_text("in the way")
    with caplog.at_level(logging.WARNING, "sightline"):
        assert watch(net(), 1) is None
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"methods": "grad_camm"}, ParameterError, "Did you mean grad_cam"),
        ({"parameters": {"stepz": 3}}, ParameterError, "no parameter 'stepz'"),
        ({"every": 0}, ParameterError, "every=0: wanted a whole number from 1"),
        ({"columns": 1}, ParameterError, "columns=1"),
        ({"output": "score"}, ParameterError, "output='score'"),
        ({"target": [1]}, ParameterError, "one for each"),
        ({"names": ["one"]}, ParameterError, "names="),
        ({"tensorboard": 3}, ParameterError, "a SummaryWriter"),
        ({"images": []}, ParameterError, "0 images"),
        ({"images": "nowhere.png"}, ImageError, "does not exist"),
        ({"images": [torch.zeros(3, 8, 8)]}, ImageError, "preprocessed tensor"),
        ({"images": np.array([object()])}, ImageError, "Python objects"),
        ({"images": torch.full((1, 3, 8, 8), torch.nan)}, ImageError, "finite"),
    ],
)
def test_what_cannot_be_used_is_said_before_the_training(options: dict[str, Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        sightline.watch(**({"images": images(2), "tensorboard": False} | options))


def test_a_damaged_file_is_said_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(ImageError, match="damaged or truncated"):
        sightline.watch(tmp_path / "a.jpg", tensorboard=False)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"target": 7}, TargetError), ({"layer": "nosuch"}, ModelError), ({"target": "zebra"}, TargetError)],
)
def test_what_never_works_is_raised_by_the_first_call(tmp_path: Path, options: dict[str, Any], error: Any) -> None:
    watch = watched(tmp_path, **options)
    for _ in range(2):  # and again, as nothing was drawn
        with pytest.raises(error):
            watch(net(), 0)
    with pytest.raises(ModelError, match="forward pass fails"):
        sightline.watch(torch.zeros(1, 3, 8), out=tmp_path, tensorboard=False)(net(), 0)


def test_the_last_try_is_at_the_first_call_only(tmp_path: Path) -> None:
    watch = watched(tmp_path, target=4)
    watch(net(), 0)
    assert watch(ConvNet(classes=2), 1) is not None
    drawn = json.loads((tmp_path / "frames" / "index.json").read_text())["images"]["image_1"]["epochs"]["1"]["drawn"]
    assert "4" in drawn["grad_cam"]["why"]


def test_tensorboard_gets_each_method_and_all_at_the_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    watch = watched(tmp_path, "grad_cam,gradient,activations", tensorboard=tmp_path / "events")
    for epoch in (0, 1):
        watch(net(), epoch)
    watch.close()
    tags = tags_of(tmp_path / "events")
    assert set(tags) == {
        *("explanations/grad_cam", "explanations/gradient", "explanations/activations", "explanations/all"),
        *("explanations/activations/image_1", "explanations/activations/image_2"),
    }
    assert all([e.step for e in events] == [0, 1] for events in tags.values())
    with Image.open(tmp_path / "epoch_0001.png") as grid:
        event = tags["explanations/all"][1]
        assert (event.width, event.height) == grid.size
    assert len(list((tmp_path / "channels").glob("epoch_0001_activations_image_?.png"))) == 2


def test_a_writer_of_ones_own_is_used_and_left_open(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "mine")) as writer:
        watch = watched(tmp_path, tensorboard=writer)
        watch(net(), 0)
        watch.close()
        writer.add_scalar("loss", 1.0, 0)
    assert set(tags_of(tmp_path / "mine")) == {"explanations/grad_cam"}


def test_preprocessed_tensors_files_and_folders_will_do(tmp_path: Path) -> None:
    for n, picture in enumerate(images(2)):
        Image.fromarray(picture).save(tmp_path / f"{n}.png")
    ready = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for number, given in enumerate((tmp_path, [tmp_path / "0.png", images(2)[1]], np.stack(images(2)), ready)):
        out = tmp_path / f"out{number}"
        sightline.watch(given, preprocessing=HOW, out=out, tensorboard=False, target=[0, 1])(net(), 0)
        assert len(list(out.glob("strip_*.png"))) == 2


def test_a_series_is_watched(tmp_path: Path) -> None:
    (tmp_path / "wave.csv").write_text("\n".join(f"{np.sin(i / 3):.4f}" for i in range(40)))
    series = nn.Sequential(
        nn.Conv1d(1, 4, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    methods = ["grad_cam", "integrated_gradients", "activations"]
    watch = sightline.watch([tmp_path / "wave.csv", np.ones(40)], methods, out=tmp_path, tensorboard=False)
    assert watch(series, 0) is not None
    assert frame_size(tmp_path / "strip_wave.png")[0] > 500


def test_a_volume_is_watched(tmp_path: Path) -> None:
    solid = nn.Sequential(nn.Conv3d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2))
    given = torch.randn(1, 1, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    watch = sightline.watch(given, "gradient,activations", out=tmp_path, tensorboard=False)
    assert watch(solid, 0) is not None
    drawn = json.loads((tmp_path / "frames" / "index.json").read_text())["images"]["image_1"]["epochs"]["0"]["drawn"]
    assert {d["dims"] for d in drawn.values()} == {3}
    assert all(d["why"] is None for d in drawn.values())


def test_large_photos_are_drawn_small(tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 255, (1200, 1500, 3), dtype=np.uint8)
    sightline.watch(big, preprocessing=Preprocessing(), out=tmp_path, tensorboard=False)(net(), 0)
    assert frame_size(tmp_path / "frames" / "image_1" / "image.png") == (512, 410)
    drawn = json.loads((tmp_path / "frames" / "index.json").read_text())["images"]["image_1"]["epochs"]["0"]["drawn"]
    assert drawn["grad_cam"]["unseen"]  # the centre crop cuts the sides off


@pytest.mark.parametrize(
    ("first", "heavy"),
    [("0", ["torch", "lightning", "keras"]), ("sightline.watch", ["lightning", "keras", "tensorboard"])],
)
def test_nothing_heavy_is_imported_before_it_is_needed(first: str, heavy: list[str]) -> None:
    code = f"import sys, sightline; {first}; print([m for m in {heavy} if m in sys.modules])"
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert light.stdout.strip() == "[]"
