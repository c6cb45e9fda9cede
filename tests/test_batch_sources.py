"""Sources of a run: the same pictures by any way give the same rows, are known again, and may be added to."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch_kinds import KINDS, pictures, png, source, write_csv, write_parquet, write_tar
from commands import sightline
from sightline.batch.job import Job
from sightline.batch.originals import read_original
from sightline.batch.run import How, Summary, run
from sightline.batch.sources import Broken, Source, source_of
from sightline.batch.store import open_store
from sightline.batch.table import heatmaps_of
from sightline.errors import InputError, ParameterError
from sightline.models.load import load
from sightline.models.model import Model

SEEDS = range(4)
JOB = Job(partial(load, "demo/honest"), "demo/honest", ("grad_cam",), ("top1",))


@pytest.fixture(scope="module")
def model() -> Model:
    return JOB.open_model()


@pytest.fixture(scope="module")
def expected(model: Model, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    at = tmp_path_factory.mktemp("expected")
    done(pictures(at / "pictures", SEEDS), at / "out", model)
    return heatmaps_of(open_store(at / "out").read())


def done(named: Any, out: Path, model: Model, *, resume: bool = False, workers: int = 0) -> Summary:
    return run(named, JOB, out, How(workers=workers, batch_size=len(SEEDS), resume=resume), model=model)


def rows(out: Path) -> list[dict[str, Any]]:
    return open_store(out).read(["image", "image_hash", "about", "error", "key"]).to_pylist()


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_source_gives_the_same_maps_and_is_known_again(
    kind: str, tmp_path: Path, model: Model, expected: np.ndarray
) -> None:
    named, out = source(kind, tmp_path, SEEDS), tmp_path / "out"
    assert done(named, out, model).explained == len(SEEDS)
    np.testing.assert_array_equal(heatmaps_of(open_store(out).read()), expected)
    again = done(named, out, model, resume=True)
    assert (again.explained, again.already, again.rows) == (0, len(SEEDS), 0)
    more = done(source(kind, tmp_path, range(6)), out, model, resume=True)
    assert (more.images, more.explained, more.rows) == (6, 2, 2)
    assert len({row["key"] for row in rows(out)}) == len(rows(out)) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_s_image_leads_back_to_its_pixels(kind: str, tmp_path: Path, model: Model) -> None:
    done(source(kind, tmp_path, SEEDS), tmp_path / "out", model)
    found = rows(tmp_path / "out")
    wanted = [read_original(str(f)) for f in sorted((tmp_path / "pictures").iterdir())]
    for row, original in zip(found, wanted, strict=True):
        picture = read_original(row["image"])
        np.testing.assert_array_equal(picture.pixels, original.pixels)
        assert picture.hash == row["image_hash"]


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_named_the_same_from_any_folder(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = source(kind, tmp_path, SEEDS)
    whole = [item.uri for item in source_of(named).items()]
    monkeypatch.chdir(tmp_path)
    if isinstance(named, Path):
        assert [item.uri for item in source_of(named.relative_to(tmp_path)).items()] == whole
    assert [item.uri for item in source_of(named).items()] == whole
    assert all(uri.startswith(("/", "memory://")) for uri in whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet_struct", "tar"])
def test_worker_processes_decode_what_is_no_file(kind: str, tmp_path: Path, model: Model, expected: np.ndarray) -> None:
    summary = done(source(kind, tmp_path, SEEDS), tmp_path / "out", model, workers=1)
    assert (summary.explained, summary.failed) == (len(SEEDS), 0)
    np.testing.assert_array_equal(heatmaps_of(open_store(tmp_path / "out").read()), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_items_are_small_and_fetch_the_same_elsewhere(kind: str, tmp_path: Path) -> None:
    for item in source_of(source(kind, tmp_path, SEEDS)).items():
        sent = pickle.dumps(item)
        assert kind in ("parquet_bytes", "parquet_struct") or len(sent) < 1000
        assert pickle.loads(sent).where.fetch() == item.where.fetch()


def test_bytes_that_were_handed_over_do_not_travel_back(tmp_path: Path) -> None:
    item = next(source_of(source("parquet_bytes", tmp_path, SEEDS)).items())
    there = pickle.loads(pickle.dumps(item))
    assert len(there.where.fetch()) > 5000
    assert len(pickle.dumps(there)) < 1000
    with pytest.raises(OSError, match="handed over before"):
        there.where.fetch()


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "memory"])
def test_the_images_are_counted(kind: str, tmp_path: Path) -> None:
    found = source_of(source(kind, tmp_path, SEEDS))
    assert found.count is not None
    assert found.count() == len(list(found.items())) == len(SEEDS)


def test_what_fails_is_a_row_and_nothing_else_does(tmp_path: Path, model: Model) -> None:
    files = pictures(tmp_path / "p", range(2))
    named = [files[0].name, "gone.png", "../secret", "", files[1].name, files[0].name]
    (tmp_path / "secret").write_text("root")
    table = write_csv(tmp_path / "p" / "t.csv", [{"path": name, "n": i} for i, name in enumerate(named)])
    summary = done(table, tmp_path / "out", model)
    assert (summary.images, summary.explained, summary.failed, summary.rows) == (6, 2, 3, 5)
    errors = {Path(row["image"]).name: row["error"] for row in rows(tmp_path / "out")}
    assert errors.pop("000.png") is errors.pop("001.png") is None
    assert "No such file" in errors["gone.png"]
    assert "not an image" in errors["secret"]
    assert "names no image" in errors["t.csv#3"]


def test_shards_before_and_after_a_broken_one_are_done(tmp_path: Path, model: Model) -> None:
    for number in range(3):
        write_tar(tmp_path / f"s-{number:02}.tar", {f"{i}.png": png(3 * number + i) for i in range(2)})
    whole = (tmp_path / "s-01.tar").read_bytes()
    (tmp_path / "s-01.tar").write_bytes(whole[: 2 * len(png(3))])
    summary = done(f"{tmp_path}/s-{{00..03}}.tar", tmp_path / "out", model)
    assert summary.explained == 5
    assert [Path(f["image"]).name for f in summary.failures] == ["s-01.tar#1.png", "s-01.tar", "s-03.tar"]
    assert "cannot be read (this archive is broken: unexpected end of data)" in summary.failures[1]["message"]
    (tmp_path / "s-01.tar").write_bytes(whole)
    assert done(f"{tmp_path}/s-{{00..02}}.tar", tmp_path / "out", model, resume=True).explained == 1


def items(named: Any, **kwargs: Any) -> list[tuple[str, Any]]:
    """Return the names of a source's images, and of those that are none why."""
    listed = source_of(named, **kwargs).items()
    return [(Path(i.uri).name, i.where.reason if isinstance(i.where, Broken) else None) for i in listed]


def test_patterns_know_stars_ranges_and_choices(tmp_path: Path) -> None:
    for name in ("a/01.png", "a/02.png", "b/c/10.png", "b/.hidden.png", ".d/1.png", "a/notes.txt", "a/x.dat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [n for n, _ in items(f"{tmp_path}/**")] == ["01.png", "02.png", "10.png"]
    assert [n for n, _ in items(f"{tmp_path}/**/1*.png")] == ["10.png"]
    assert [n for n, _ in items(f"{tmp_path}/?/*")] == ["01.png", "02.png"]
    assert [n for n, _ in items(f"{tmp_path}/a/*.dat")] == ["x.dat"]
    assert [n for n, _ in items(f"{tmp_path}/a/{{01..03}}.png")] == ["01.png", "02.png", "03.png"]
    assert [n for n, _ in items(f"{tmp_path}/{{a,b/c}}/[12]0.png")] == ["10.png"]
    assert [n for n, _ in items(f"{tmp_path}/a/{{2..1}}.png")] == ["2.png", "1.png"]


def test_links_that_lead_round_are_not_followed(tmp_path: Path) -> None:
    pictures(tmp_path / "a", range(1))
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a")
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    assert len(items(tmp_path)) == len(items(f"{tmp_path}/**/*.png")) == 1
    assert [n for n, _ in items(tmp_path / "linked")] == ["000.png"]
    assert len(items(f"{tmp_path}/l*/*.png")) == 1


def test_many_paths_keep_their_order_and_may_be_of_any_kind(tmp_path: Path) -> None:
    files = pictures(tmp_path / "p", range(2))
    shard = write_tar(tmp_path / "s.tar", {"m.png": png(3)})
    found = [n for n, _ in items([files[1], tmp_path / "gone.png", shard, tmp_path / "p"])]
    assert found == ["001.png", "gone.png", "s.tar#m.png", "000.png", "001.png"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty", None, "holds no images.*tar"),
        ("t.csv", b"path\n", "has no rows"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"cat.png,1\n", "names no columns"),
        ("t.csv", b"a,b\nx,y\n", "name one of a, b with --column"),
        ("t.csv", b"a,b\nx.png,y.png\n", "several columns.*a, b"),
        ("t.tar", b"\0" * 10240, "no images"),
        ("t.tar", b"hello" * 300, "broken"),
        ("t.tar.gz", b"\x1f\x8b", "compressed as a whole"),
        ("t.parquet", b"PAR1", "cannot be read"),
        ("t.txt", b"\n\n", "has no rows"),
    ],
)
def test_a_source_without_images_is_refused(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        source_of(tmp_path / name)
    assert "\n" not in str(error.value)


def test_what_is_not_there_or_has_no_columns_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path / "p", range(1))
    with pytest.raises(InputError, match="no such file"):
        source_of(tmp_path / "q")
    with pytest.raises(InputError, match="fits this pattern"):
        source_of(f"{tmp_path}/*.png")
    with pytest.raises(InputError, match="no paths came"):
        source_of([])
    with pytest.raises(ParameterError, match="is no table"):
        source_of(tmp_path / "p", column="x")


def test_a_name_that_is_no_text_is_still_found(tmp_path: Path, model: Model) -> None:
    (pictures(tmp_path / "p", range(1))[0]).rename(tmp_path / "p" / b"caf\xe9.png".decode("utf-8", "surrogateescape"))
    found: Source = source_of(tmp_path / "p")
    (uri,) = [item.uri for item in found.items()]
    assert uri.startswith("file:///")
    assert uri.endswith("caf%E9.png")
    assert done(found, tmp_path / "out", model).explained == 1
    assert read_original(uri).size == (96, 96)


def test_a_folder_that_cannot_be_read_is_an_image_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "a", range(1))
    pictures(tmp_path / "b", range(1))
    from sightline.batch.sources import reach

    whole = reach.children

    def denied(folder: str) -> reach.Listing:
        if folder.endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return whole(folder)

    monkeypatch.setattr(reach, "children", denied)
    assert items(tmp_path) == [("a", "this folder cannot be listed: Permission denied"), ("000.png", None)]


def test_columns_of_other_names_are_asked_for(tmp_path: Path) -> None:
    data = [png(0)]
    table = write_parquet(tmp_path / "t.parquet", {"left": data, "right": data, "id": [1]})
    with pytest.raises(InputError, match=r"several columns.*left, right, id"):
        source_of(table)
    with pytest.raises(InputError, match=r"no column 'lef'.*Did you mean left"):
        source_of(table, column="lef")
    with pytest.raises(InputError, match="'id' holds int64"):
        source_of(table, column="id")
    assert items(table, column="right") == [("t.parquet#0:right", None)]
    assert read_original(f"{table}#0:right").size == (96, 96)


@pytest.mark.slow
def test_the_command_asks_for_a_column_before_it_loads_the_model(tmp_path: Path) -> None:
    table = write_parquet(tmp_path / "t.parquet", {"left": [png(0)], "right": [png(1)]})
    command = ["batch", str(table), "--model", "demo/honest", "--out", str(tmp_path / "out"), "--workers", "0"]
    failed = sightline(tmp_path, *command)
    assert failed.returncode == 2
    assert "name one of left, right with --column" in failed.stderr
    assert not (tmp_path / "out").exists()
    assert sightline(tmp_path, *command, "--column", "left").returncode == 0
    assert [row["image"] for row in rows(tmp_path / "out")] == [f"{table}#0:left"]
