"""A run keeps what `explain` says of each image: every method, target, kind of input and size of map."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sightline
from batches import HERE, SMALL, Net, done, images, job_of, net_model, rows, same, scenes
from sightline.batch.run import How
from sightline.batch.sources import source_of
from sightline.batch.store import open_store
from sightline.batch.table import heatmaps_of
from sightline.demo.scenes import scene
from sightline.errors import ParameterError
from sightline.evaluation.run import evaluate
from sightline.models.model import Model

RESUME = dataclasses.replace(HERE, resume=True)


@pytest.fixture(scope="module")
def honest() -> Model:
    return sightline.load("demo/honest")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return scenes(tmp_path / "photos", 6)


def explained(model: Model, photos: Path, *asked: Any, **options: Any) -> list[sightline.Explanation]:
    files = [item.uri for item in source_of(photos).items()]
    found = sightline.explain(model, files, *asked, batch_size=4, **options)
    return found if isinstance(found, list) else [found]


def by_image(out: Path, *names: str) -> list[dict[str, Any]]:
    """Return the rows in the order in which `explain` gives them."""
    return sorted(rows(out), key=lambda r: (r["image"], *(r[n] for n in names)))


def array(row: dict[str, Any]) -> np.ndarray:
    return np.load(io.BytesIO(row["raw"]), allow_pickle=False)


@pytest.mark.parametrize("method", ["grad_cam", "gradient", "integrated_gradients", "lrp", "guided_backprop"])
def test_a_row_says_what_explain_says(photos: Path, tmp_path: Path, honest: Model, method: str) -> None:
    done(photos, job_of(honest, method, raw=True), tmp_path / "s")
    for row, one in zip(by_image(tmp_path / "s"), explained(honest, photos, method), strict=True):
        assert np.array_equal(array(row), one.attribution)  # raw is lossless
        assert array(row).dtype == np.float32
        assert (row["target"], row["target_label"]) == (one.target.index, one.target.label)
        assert (row["score"], row["layer"], row["notes"]) == (one.score, one.layer, list(one.notes))
        best = one.predictions[0]
        assert [row["prediction"], row["prediction_label"], row["probability"]] == [
            *map(best.get, ("index", "label", "probability"))
        ]
        assert (row["width"], row["height"], row["model"], row["error"]) == (96, 96, honest.name, None)
        assert row["weights_hash"] == one.provenance["weights_hash"] if "weights_hash" in one.provenance else True
        assert (row["completeness"] is None) == (one.completeness is None)
        if one.completeness is not None:
            assert row["completeness"]["total"] == one.completeness.total
            assert row["completeness"]["gap"] == one.completeness.gap
        assert (row["coverage"] is None) == (one.coverage is None)
        if one.coverage is not None:
            assert row["coverage"]["changed"] == one.coverage.changed
            assert dict(row["coverage"]["unchanged"]) == dict(one.coverage.unchanged)


@pytest.mark.parametrize("size", [8, 64, 200])
def test_a_map_is_the_explanations_own_at_another_size(photos: Path, tmp_path: Path, honest: Model, size: int) -> None:
    done(photos, job_of(honest, "gradient", heatmap=size), tmp_path / "s")
    table = open_store(tmp_path / "s").read()
    maps = heatmaps_of(table) * np.asarray(table["heatmap_scale"])[:, None, None]
    order = np.argsort(table["image"].to_pylist())
    for found, one in zip(maps[order], explained(honest, photos, "gradient"), strict=True):
        assert found.shape == (size, size)
        assert one.geometry is not None
        wanted = dataclasses.replace(one.geometry, original=(size, size)).to_original(one.at_input())
        assert np.abs(found - wanted).max() <= 2**-11 * np.abs(wanted).max()
    assert np.abs(heatmaps_of(table)).max() == 1


def bright(folder: Path, width: int, height: int, box: tuple[int, int, int, int], exif: int | None = None) -> Path:
    """Write a dark picture with a bright box, turned as a camera does."""
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = 255
    folder.mkdir()
    tags = Image.Exif()
    if exif is not None:
        tags[0x0112] = exif
    Image.fromarray(pixels).save(folder / "a.png", exif=tags)
    return folder


class Bright(nn.Module):
    """Says how bright the picture is: its map by input x gradient is the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2)
        nn.init.ones_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.mean((1, 2, 3))[:, None])


@pytest.mark.parametrize(
    ("width", "height", "exif", "corner"),
    [(80, 40, None, (0, 0)), (40, 80, None, (0, 0)), (80, 40, 6, (0, 1)), (80, 40, 3, (1, 1)), (80, 40, 8, (1, 0))],
)
def test_maps_lie_upright_on_the_whole_original(
    tmp_path: Path, width: int, height: int, exif: int | None, corner: tuple[int, int]
) -> None:
    photos = bright(tmp_path / "photos", width, height, (0, 0, width // 4, height // 4), exif)
    how = dataclasses.replace(SMALL, resize=(32, 32))
    model = sightline.load(Bright(), preprocessing=how)
    done(photos, job_of(model, "input_x_gradient", heatmap=16), tmp_path / "s")
    table = open_store(tmp_path / "s").read()
    turned = exif in (6, 8)
    assert (table["width"][0].as_py(), table["height"][0].as_py()) == ((height, width) if turned else (width, height))
    mass = np.abs(heatmaps_of(table)[0]).reshape(2, 8, 2, 8).sum((1, 3))
    assert mass[corner] > 0.95 * mass.sum()


@pytest.mark.parametrize(("width", "height"), [(120, 60), (60, 120)])
def test_what_the_crop_cuts_off_is_not_a_number(tmp_path: Path, width: int, height: int) -> None:
    photos = bright(tmp_path / "photos", width, height, (0, 0, width, height))
    model = sightline.load(Bright(), preprocessing=dataclasses.replace(SMALL, resize=32, crop=32))
    done(photos, job_of(model, "input_x_gradient", heatmap=16), tmp_path / "s")
    unseen = np.isnan(heatmaps_of(open_store(tmp_path / "s").read())[0])
    seen = ~(unseen if width < height else unseen.T)
    assert seen[4:12].all()
    assert not seen[:3].any()
    assert not seen[13:].any()


def test_top3_is_three_rows_and_each_row_has_a_key_of_its_own(photos: Path, tmp_path: Path, honest: Model) -> None:
    job = job_of(honest, "grad_cam", "gradient", targets=("top3", 2, "triangle"), raw=True)
    summary = done(photos, job, tmp_path / "s")
    found = rows(tmp_path / "s")
    assert summary.rows == len(found) == len({r["key"] for r in found}) == 6 * 2 * 5
    wanted = {
        (e.method, e.target.index, round(e.score, 5))
        for e in explained(honest, photos, ["grad_cam", "gradient"], ["top3", 2, "triangle"])
    }
    assert {(r["method"], r["target"], round(r["score"], 5)) for r in found} == wanted
    assert {r["asked"] for r in found} == {"top3", "2", "triangle"}


def test_only_what_is_missing_is_explained(photos: Path, tmp_path: Path) -> None:
    model, out = net_model(), tmp_path / "s"
    passes = []
    for asked in (
        {"methods": ("gradient",)},
        {"methods": ("gradient",)},
        {"methods": ("gradient", "grad_cam")},
        {"methods": ("gradient",), "targets": ("top1", 3)},
        {"methods": ("gradient",), "output": "probability"},
        {"methods": ("gradient",), "contrast": 2},
        {"methods": ("occlusion",), "parameters": {"window": 16}},
        {"methods": ("occlusion",), "parameters": {"window": 24}},
        {"methods": ("gradient",), "metrics": ("single_deletion",)},
    ):
        model.layers(torch.zeros(1, 3, 96, 96))  # traced once
        before = model.module.passes
        passes.append((done(photos, job_of(model, **asked), out).rows, model.module.passes - before))
    assert [new for new, _ in passes] == [6, 0, 6, 6, 6, 6, 6, 6, 6]
    assert passes[1][1] == 0
    assert passes[2][1] == passes[0][1]  # Grad-CAM alone: as many passes as the gradient alone
    assert len({r["key"] for r in rows(out)}) == len(rows(out)) == 48
    assert all(json.loads(r["parameters"])["seed"] == 0 for r in rows(out))


@pytest.mark.parametrize("how", [HERE, RESUME])
def test_images_that_lack_different_methods(photos: Path, tmp_path: Path, how: How) -> None:
    model = net_model()
    done(str(photos / "00[0,2,3].png"), job_of(model, "gradient"), tmp_path / "s", how)
    done(str(photos / "00[3,4].png"), job_of(model, "grad_cam"), tmp_path / "s", how)
    summary = done(photos, job_of(model, "gradient", "grad_cam"), tmp_path / "s", how)
    assert summary.rows == 12 - 3 - 2
    found = rows(tmp_path / "s")
    assert {(Path(r["image"]).stem, r["method"]) for r in found} == {
        (f"00{n}", m) for n in range(6) for m in ("gradient", "grad_cam")
    }
    assert len({r["key"] for r in found}) == len(found) == 12
    assert done(photos, job_of(model, "gradient", "grad_cam"), tmp_path / "s", how).rows == 0


def test_metrics_are_those_of_evaluate(photos: Path, tmp_path: Path, honest: Model) -> None:
    names, methods = ["single_deletion", "gini"], ["gradient", "grad_cam"]
    done(photos, job_of(honest, *methods, metrics=tuple(names)), tmp_path / "s")
    table = evaluate(honest, sorted(map(str, photos.iterdir())), methods, names, cards=0)
    for method in methods:
        for name in names:
            found = [dict(r["metrics"]).get(name, np.nan) for r in by_image(tmp_path / "s") if r["method"] == method]
            np.testing.assert_allclose(np.sort(found), np.sort(table.values(method, name)), atol=1e-5)


@pytest.mark.parametrize("name", ["pointing_game", "grid_pointing_game"])
def test_metrics_that_a_batch_cannot_measure_are_refused(
    photos: Path, tmp_path: Path, honest: Model, name: str
) -> None:
    with pytest.raises(ParameterError, match=rf"{name}.*sightline evaluate takes boxes and masks"):
        done(photos, job_of(honest, metrics=("single_deletion", name)), tmp_path / "s")


def test_a_metric_that_is_refused_says_so_in_the_notes(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.random.default_rng(0).random(40, np.float32))
    model = sightline.load("demo/mnist1d")
    done(tmp_path / "0.npy", job_of(model, "gradient", metrics=("jpeg_stability",)), tmp_path / "s")
    (row,) = rows(tmp_path / "s")
    assert row["error"] is None
    assert not row["metrics"]
    assert any(note.startswith("jpeg_stability could not be measured: ") for note in row["notes"])


def test_workers_and_batches_change_nothing_but_the_last_bit(photos: Path, tmp_path: Path, honest: Model) -> None:
    for name, how in (("a", HERE), ("b", How(workers=2, batch_size=4)), ("c", How(workers=0, batch_size=6))):
        done(photos, job_of(honest), tmp_path / name, how)
    assert same(rows(tmp_path / "a"), rows(tmp_path / "b"))
    assert images(tmp_path / "a") == images(tmp_path / "b")
    for one, other in zip(rows(tmp_path / "a"), rows(tmp_path / "c"), strict=True):
        assert one["key"] == other["key"]
        assert np.allclose(one["heatmap"], other["heatmap"], atol=1e-3)


def test_series_from_tables_and_arrays(tmp_path: Path) -> None:
    from sightline.demo.mnist1d import make_mnist1d

    data = make_mnist1d()
    folder = tmp_path / "series"
    folder.mkdir()
    for number, values in enumerate(data.x[:3]):
        np.save(folder / f"{number}.npy", values.astype(np.float32))
    np.savetxt(folder / "3.csv", data.x[3][None], delimiter=",")
    (folder / "4.npy").write_bytes(b"no")
    model = sightline.load("demo/mnist1d")
    summary = done(str(folder / "*.{npy,csv}"), job_of(model, "gradient", heatmap=20, raw=True), tmp_path / "s")
    assert (summary.explained, summary.failed) == (4, 1)
    found = [r for r in by_image(tmp_path / "s") if r["error"] is None]
    alone = sightline.explain(model, [str(folder / f"{n}") for n in ("0.npy", "1.npy", "2.npy", "3.csv")], "gradient")
    for row, one in zip(found, alone, strict=True):
        assert np.allclose(array(row), one.attribution, atol=1e-6)
        small = one.at_input().reshape(20, 2).mean(1)
        assert np.allclose(np.array(row["heatmap"]) * row["heatmap_scale"], small, atol=1e-3 * row["heatmap_scale"])
        assert (row["width"], row["height"]) == (None, None)


def test_volumes_and_grey_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3))
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    for number in range(3):
        np.save(volumes / f"{number}.npy", np.random.default_rng(number).random((16, 16, 16), np.float32))
    model = sightline.load(net, preprocessing=sightline.Preprocessing(None, None, (0.0,), (1.0,)), dims=3)
    assert done(volumes, job_of(model, "gradient"), tmp_path / "v").explained == 3
    assert heatmaps_of(open_store(tmp_path / "v").read()).shape == (3, 8, 8, 8)
    grey = sightline.load(Net(channels=1), preprocessing=sightline.Preprocessing(None, None, (0.0,), (1.0,)))
    assert done(scenes(tmp_path / "p", 3), job_of(grey), tmp_path / "g").explained == 3


def test_pictures_of_many_sizes_in_one_batch(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate((40, 40, 56, 40, 56, 56, 72)):
        Image.fromarray(scene(number).image).resize((size, size)).save(folder / f"{number}.png")
    model = net_model()
    done(folder, job_of(model, "gradient", raw=True), tmp_path / "s", How(workers=0, batch_size=8))
    for row in rows(tmp_path / "s"):
        one = sightline.explain(model, row["image"], "gradient")
        assert np.allclose(array(row), one.attribution, atol=1e-6)


def test_the_size_of_batches_is_found_and_kept(photos: Path, tmp_path: Path) -> None:
    from sightline.batch.store import Commit

    def one_by_one(x: torch.Tensor) -> None:
        if len(x) > 1:
            raise RuntimeError("one at a time, please")

    done(photos, job_of(net_model(one_by_one), "gradient"), tmp_path / "s", How(workers=0))
    commits: tuple[Commit, ...] = open_store(tmp_path / "s").commits
    assert [c.about["batch_size"] for c in commits] == [1]
    assert all(r["error"] is None for r in rows(tmp_path / "s"))
    done(photos, job_of(net_model(), "gradient"), tmp_path / "t", How(workers=0, batch_size=3))
    (photos / "more.png").write_bytes((scenes(tmp_path / "more", 1, 50) / "050.png").read_bytes())
    done(photos, job_of(net_model(), "gradient"), tmp_path / "t", How(workers=0))
    assert [c.about["batch_size"] for c in open_store(tmp_path / "t").commits] == [3, 3]


SCRIPT = """
import sys
from functools import partial
from sightline.batch.job import Job
from sightline.batch.run import How, run
from sightline.models.load import load
print("once")
job = Job(partial(load, "demo/honest"), "demo/honest", ("grad_cam",), ("top1",))
print(run(sys.argv[1], job, sys.argv[2], How(workers=2, batch_size=4)).explained)
"""


@pytest.mark.slow
def test_a_script_without_a_guard_is_not_run_again_by_the_workers(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    command = [sys.executable, "script.py", str(photos), "s"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=120)
    assert (found.returncode, found.stdout, found.stderr) == (0, "once\n6\n", "")


MEMORY = """
import resource, sys
from sightline.batch import run as running
from sightline.batch.job import Job
from sightline.batch.sources import Bytes, Item, Source
from sightline.models.load import load

running._PART_ROWS = 64
data = open(sys.argv[1], "rb").read()
def items():  # PNG readers ignore what follows the picture: each is another content
    return (Item(f"/{n}.png", Bytes(data + str(n).encode()), 1, str(n)) for n in range(int(sys.argv[2])))
model = load("demo/honest")
job = Job(lambda: model, "demo/honest", ("grad_cam",), ("top1",), raw=True)
running.run(Source("x", items), job, sys.argv[3], running.How(workers=0, batch_size=8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(photos: Path, tmp_path: Path) -> None:
    peaks = {}
    for count in (100, 1000):
        command = [sys.executable, "-c", MEMORY, str(photos / "000.png"), str(count), str(tmp_path / str(count))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        found = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=200)
        peaks[count] = int(found.stdout) / 1024
        assert sum(c.rows for c in open_store(tmp_path / str(count)).commits) == count
    assert peaks[1000] < 1.1 * peaks[100] + 10
