"""Exports: files that hold what the store holds, in the forms that other programs read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sightline.batch.exports import KINDS, export, run
from sightline.batch.querying import query
from sightline.batch.store import open_store
from sightline.batch.table import heatmaps_of
from sightline.batch.unchanged import unchanged_picture
from sightline.cli.main import app
from sightline.errors import InputError, ParameterError
from stores import explained, row, scenes, stored

CORNER = [[0, 0], [0, 1]]
TWO = [[1, 0], [0, 0.75]]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("real")
    explained(scenes(at / "scenes", 3), at / "store", methods=("grad_cam", "integrated_gradients"))
    (at / "scenes" / "scene0.png").rename(at / "scenes" / "moved.png")
    return at


def command(*words: Any) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["export", *map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout


def test_a_picture_for_each_row_whose_original_is_there(real: Path, tmp_path: Path) -> None:
    begun, done = list[int](), list[int]()
    found = export(real / "store", "png", tmp_path / "out", on_begin=begun.append, on_rows=done.append)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert (found.rows, found.files, found.failed) == (4, 4, 2)
    assert begun == [6]
    assert sum(done) == 6
    assert all("original not found" in f["message"] for f in found.failures)
    assert [n.split(".")[:2] for n in names] == [
        ["scene1", "grad_cam"],
        ["scene1", "integrated_gradients"],
        ["scene2", "grad_cam"],
        ["scene2", "integrated_gradients"],
    ]
    assert unchanged_picture(str(tmp_path / "out" / names[0])).shape == (96, 96, 3)


def test_the_heatmaps_alone_need_no_original(real: Path, tmp_path: Path) -> None:
    found = export(real / "store", "png", tmp_path / "out", draw="heatmap", where="method = 'grad_cam'")
    assert (found.rows, found.failed) == (3, 0)


def test_pictures_of_hostile_names_stay_in_the_folder_and_apart(tmp_path: Path) -> None:
    names = ["/a/../../x.png", "/b/x.png", "s.tar#../../x.png", "/c/" + "n" * 300 + ".png", "/d/..", "/e/?*:.png"]
    rows = [row(n, CORNER, key=f"{i:032}"[::-1], target_label="../up", width=2, height=2) for i, n in enumerate(names)]
    found = export(stored(tmp_path / "s", rows), "png", tmp_path / "out", draw="heatmap")
    assert found.files == len(names) == len(list((tmp_path / "out").iterdir()))
    assert {p.name for p in tmp_path.iterdir()} == {"s", "out"}


def test_arrays_hold_the_attributions_themselves_and_all_other_columns(real: Path, tmp_path: Path) -> None:
    found = export(real / "store", "npz", tmp_path / "out")
    assert (found.rows, found.files) == (6, 1)
    table = open_store(real / "store").read()
    with np.load(tmp_path / "out" / "explanations-00000.npz") as saved:
        order = [table["key"].to_pylist().index(k) for k in saved["key"]]
        scale = np.array(table["heatmap_scale"].to_pylist(), np.float32)[:, None, None]
        np.testing.assert_array_equal(saved["heatmap"], (heatmaps_of(table) * scale)[order])
        assert saved["heatmap"].dtype == np.float32
        assert saved["image"].tolist() == [table["image"][n].as_py() for n in order]
        gaps = [(table["completeness"][n].as_py() or {}).get("gap", np.nan) for n in order]
        np.testing.assert_array_equal(saved["completeness_gap"], gaps)
        assert json.loads(str(saved["notes"][0])) == table["notes"][order[0]].as_py()
        flat = {"heatmap", "heatmap_scale", "completeness", "metrics", "raw"}
        assert set(table.column_names) - flat <= set(saved.files)


def test_arrays_of_rows_with_errors_say_what_is_missing(tmp_path: Path) -> None:
    good = row("a", CORNER, target=2, metrics=[("area", 0.5)], heatmap_scale=4.0)
    bad = row("b", None, error="bad", target=None, heatmap_scale=None)
    export(stored(tmp_path / "s", [good, bad]), "npz", tmp_path / "out")
    with np.load(tmp_path / "out" / "explanations-00000.npz") as saved:
        assert saved["target"].tolist() == [2, -1]
        assert saved["error"].tolist() == ["", "bad"]
        np.testing.assert_array_equal(saved["metrics_area"], [0.5, np.nan])
        np.testing.assert_array_equal(saved["heatmap"], [[[0, 0], [0, 4]], np.full((2, 2), np.nan)])


def test_many_rows_are_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = [[row(f"{c}-{n}", CORNER) for n in range(3)] for c in range(5)]
    monkeypatch.setitem(run._FORMS, "npz", run._FORMS["npz"]._replace(rows=7))
    found = export(stored(tmp_path / "s", *commits), "npz", tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    held = [np.load(f) for f in files]
    sizes = [len(h["key"]) for h in held]
    keys = [k for h in held for k in h["key"].tolist()]
    for one in held:
        one.close()
    assert max(sizes) <= 7
    assert (sum(sizes), found.files) == (15, len(files))
    assert keys == [f"{c}-{n}-" for c in range(5) for n in range(3)]


def test_boxes_are_those_of_the_hot_regions_in_pixels(tmp_path: Path) -> None:
    words = {"width": 200, "height": 100}
    rows = [
        row("/p/a.png", CORNER, target=7, target_label="cat", **words),
        row("/p/a.png", TWO, target=0, target_label="dog", asked="0", **words),
        row("/p/b.png", [[0, 0], [0, 0]], target=7, target_label="cat", **words),
        row("/p/c.png", TWO, target=None, target_label="my score", **words),
        row("/p/d.png", None, error="bad"),
    ]
    found = export(stored(tmp_path / "s", rows), "coco", tmp_path / "out")
    data = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert (found.rows, found.without) == (4, 1)
    assert [i["file_name"] for i in data["images"]] == ["/p/a.png", "/p/b.png", "/p/c.png"]
    assert data["images"][0] == {"id": 1, "file_name": "/p/a.png", "width": 200, "height": 100}
    assert {c["name"]: c["id"] for c in data["categories"]} == {"cat": 8, "dog": 1, "my score": 9}
    first = {"id": 1, "image_id": 1, "category_id": 8, "bbox": [100, 50, 100, 50], "area": 5000, "iscrowd": 0}
    assert data["annotations"][0] == first | {"score": 1.0, "method": "grad_cam", "model": "m"}
    assert [(a["id"], a["image_id"], a["bbox"]) for a in data["annotations"][1:3]] == [
        (2, 1, [0, 0, 100, 50]),
        (3, 1, [100, 50, 100, 50]),
    ]
    assert [a["score"] for a in data["annotations"][1:3]] == pytest.approx([1 / 1.75, 0.75 / 1.75], abs=1e-3)


def test_every_box_refers_to_an_image_and_a_category_and_lies_in_it(real: Path, tmp_path: Path) -> None:
    export(real / "store", "coco", tmp_path / "out", threshold=0.3)
    data = json.loads((tmp_path / "out" / "annotations.json").read_text())
    images, categories = {i["id"]: i for i in data["images"]}, {c["id"] for c in data["categories"]}
    assert len({a["id"] for a in data["annotations"]}) == len(data["annotations"]) >= 6
    for a in data["annotations"]:
        left, top, wide, high = a["bbox"]
        assert a["category_id"] in categories
        assert min(left, top) >= 0 < min(wide, high)
        assert left + wide <= images[a["image_id"]]["width"]
        assert top + high <= images[a["image_id"]]["height"]


def test_a_higher_threshold_makes_smaller_boxes(real: Path, tmp_path: Path) -> None:
    areas = []
    for threshold in (0.2, 0.8):
        export(real / "store", "coco", tmp_path / str(threshold), where="method = 'grad_cam'", threshold=threshold)
        data = json.loads((tmp_path / str(threshold) / "annotations.json").read_text())
        areas.append(sum(a["area"] for a in data["annotations"]))
    assert areas[0] > 2 * areas[1] > 0


class Datasets(ModuleType):
    """What is handed to Hugging Face's datasets, kept."""

    def __init__(self, kept: list[dict[str, Any]]) -> None:
        super().__init__("datasets")
        saved: dict[str, Any] = {}

        def made(columns: dict[str, list[Any]], features: Any) -> Any:
            return SimpleNamespace(save_to_disk=lambda at: saved.update({at: columns}) or kept.append(features))

        def joined(parts: list[dict[str, list[Any]]]) -> Any:
            whole = {k: [v for p in parts for v in p[k]] for k in parts[0]}
            return SimpleNamespace(save_to_disk=lambda at: kept.append({"at": at, **whole}))

        self.Dataset = SimpleNamespace(from_dict=made)
        self.load_from_disk, self.concatenate_datasets = saved.__getitem__, joined
        self.Features, self.Value, self.Image = dict, lambda kind: kind, lambda: "image"
        self.Array2D = lambda shape, dtype: (*shape, dtype)
        self.Sequence = lambda kind, length: (length, kind)


def test_a_data_set_of_hugging_face_gets_pictures_maps_and_columns(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "datasets", Datasets(kept))
    found = export(real / "store", "huggingface", tmp_path / "out", where="method = 'grad_cam'")
    features, data = kept
    assert (found.rows, found.failed) == (2, 1)  # one original has moved
    assert data.pop("at") == str(tmp_path / "out")
    assert set(data) == set(features)
    assert {len(v) for v in data.values()} == {2}
    assert features["heatmap"] == (64, 64, "float32")
    assert (features["image"], features["target"], features["score"]) == ("image", "int64", "float64")
    assert data["image"][0] == {"bytes": Path(data["uri"][0]).read_bytes(), "path": "scene1.png"}
    scaled = "SELECT heatmap, heatmap_scale FROM explanations WHERE method = 'grad_cam' AND image LIKE '%scene1.png'"
    row_ = query(real / "store", scaled).to_pylist()[0]
    np.testing.assert_allclose(np.ravel(data["heatmap"][0]), np.multiply(row_["heatmap"], row_["heatmap_scale"]))


def test_series_of_hugging_face_have_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "datasets", Datasets(kept))
    export(stored(tmp_path / "s", [row("a.npy", [0, 1, 0, 0])], shape=(4,)), "huggingface", tmp_path / "out")
    assert kept[0]["heatmap"] == (4, "float32")
    assert "image" not in kept[1]
    assert kept[1]["heatmap"] == [[0, 1, 0, 0]]


class Sample(dict[str, Any]):
    def __init__(self, filepath: str) -> None:
        super().__init__()
        self.filepath = filepath


class FiftyOne(ModuleType):
    """What is handed to FiftyOne, kept."""

    def __init__(self) -> None:
        super().__init__("fiftyone")
        self.samples: list[Sample] = []
        self.exported: dict[str, Any] = {}
        self.deleted = 0
        self.Sample, self.types = Sample, SimpleNamespace(FiftyOneDataset="its own")
        for name in ("Classification", "Heatmap", "Detections", "Detection"):
            setattr(self, name, SimpleNamespace)

    def Dataset(self) -> Any:
        def delete() -> None:
            self.deleted += 1

        return SimpleNamespace(
            add_sample=self.samples.append, export=lambda **how: self.exported.update(how), delete=delete
        )


def test_fiftyone_gets_a_sample_for_each_image_with_its_maps(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fo = FiftyOne()
    monkeypatch.setitem(sys.modules, "fiftyone", fo)
    found = export(real / "store", "fiftyone", tmp_path / "out")
    assert (found.rows, found.failed, fo.deleted) == (4, 1, 1)
    assert [Path(s.filepath).name for s in fo.samples] == ["scene1.png", "scene2.png"]
    assert fo.exported == {"export_dir": str(tmp_path / "out"), "dataset_type": "its own", "export_media": False}
    sample = fo.samples[0]
    maps = {"grad_cam_top1", "integrated_gradients_top1"}
    assert set(sample) == {"prediction", *maps, *(f"{m}_regions" for m in maps)}
    assert sample["grad_cam_top1"].map.shape == (64, 64)
    assert sample["grad_cam_top1"].range == [0.0, 1.0]
    assert sample["integrated_gradients_top1"].range == [-1.0, 1.0]
    left, top, wide, high = sample["grad_cam_top1_regions"].detections[0].bounding_box
    assert 0 <= left < left + wide <= 1
    assert 0 <= top < top + high <= 1
    assert sample["prediction"].label == sample["grad_cam_top1_regions"].detections[0].label


@pytest.mark.parametrize(("kind", "package"), [("huggingface", "datasets"), ("fiftyone", "fiftyone")])
def test_a_library_that_is_not_installed_is_named(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"needs the package {package}: pip install {package}"):
        export(real / "store", kind, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["coco", "fiftyone"])
def test_boxes_are_of_pictures(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(ParameterError, match="use --to npz"):
        export(stored(tmp_path / "s", [row("a", [0, 1])], shape=(2,)), kind, tmp_path / "out")


def test_what_cannot_be_meant_is_refused(real: Path, tmp_path: Path) -> None:
    store = real / "store"
    with pytest.raises(ParameterError, match="wanted one of png, npz, coco, huggingface, fiftyone"):
        export(store, "cocoa", tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="threshold"):
        export(store, "coco", tmp_path / "out", threshold=0)
    with pytest.raises(InputError, match="no rows where probability > 2"):
        export(store, "npz", tmp_path / "out", where="probability > 2")
    with pytest.raises(ParameterError, match="no column"):
        export(store, "npz", tmp_path / "out", where="probabilty > 2")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for kind in KINDS:
        with pytest.raises(InputError, match="holds files already"):
            export(store, kind, tmp_path / "out")
    with pytest.raises(InputError, match="is a file"):
        export(store, "npz", tmp_path / "out" / "mine.txt")


@pytest.mark.parametrize(
    ("failed", "said"), [(1, "1 row has an error and no map"), (2, "2 rows have an error and no map")]
)
def test_the_command_says_how_many_have_no_map(tmp_path: Path, failed: int, said: str) -> None:
    rows = [
        row("/p/a.png", CORNER, width=20, height=10),
        *(row(f"/p/{n}.png", None, error="bad") for n in range(failed)),
    ]
    stored(tmp_path / "s", rows)
    words = ["export", tmp_path / "s", "--to", "coco", "--out", tmp_path / "out"]
    assert said in CliRunner().invoke(app, list(map(str, words))).stderr


def test_the_command_says_what_it_wrote_and_fails_where_something_failed(real: Path, tmp_path: Path) -> None:
    code, text = command(real / "store", "--to", "coco", "--out", tmp_path / "boxes")
    assert code == 0
    assert "6 rows in 1 file" in text
    code, text = command(real / "store", "--to", "png", "--out", tmp_path / "pictures", "--json")
    found = json.loads(text)
    assert code == 2
    assert (found["rows"], found["failed"], len(found["failures"])) == (4, 2, 2)
