"""The store: parts that count once they are whole, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from batches import left_over, rows
from sightline.batch.place import place_of
from sightline.batch.store import Settings, Store, open_store, writing
from sightline.batch.table import IMAGES, heatmaps_of, schema, table_of
from sightline.errors import InputError

EIGHT = Settings((8, 8))
HOLD = """
import sys, time
from sightline.batch.store import Settings, writing
with writing(sys.argv[1], Settings((8, 8))):
    print("held", flush=True)
    sys.stdin.read()
"""


def row(key: str, method: str = "grad_cam", **more: object) -> dict[str, object]:
    heatmap = np.arange(64, dtype=np.float16).reshape(8, 8) / 64
    return {"key": key, "image": f"/{key}.png", "weights_hash": "w", "method": method, "heatmap": heatmap, **more}


def commit(where: object, *keys: str, method: str = "grad_cam") -> Store:
    with writing(str(where), EIGHT) as writer:
        images = pa.Table.from_pylist([{"image": k, "size": 1, "stamp": "1", "image_hash": k} for k in keys], IMAGES)
        table = table_of([row(k, method) for k in keys], writer.store.schema)
        writer.commit(images, table, ["ask"], {})
        return writer.store


def test_what_is_committed_is_read_back_and_never_rewritten(tmp_path: Path) -> None:
    commit(tmp_path / "s", "a", "b")
    before = {p: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in (tmp_path / "s").rglob("*.parquet")}
    store = commit(tmp_path / "s", "c", method="lrp")
    assert [r["key"] for r in rows(tmp_path / "s")] == ["a", "b", "c"]
    assert len(store.parts) == 2
    assert "weights=w/by=lrp/" in store.parts[1]
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before
    assert [c.number for c in store.commits] == [1, 2]
    assert not left_over(tmp_path / "s")


def test_a_commit_of_two_methods_has_a_part_of_each(tmp_path: Path) -> None:
    with writing(tmp_path / "s", EIGHT) as writer:
        table = table_of([row("a"), row("b", "lrp"), row("c", error="no", heatmap=None)], writer.store.schema)
        entry = writer.commit(pa.Table.from_pylist([], IMAGES), table, ["x", "y"], {"engine": "local"})
    assert (len(entry.explanations), entry.rows, entry.failed) == (2, 3, 1)
    found = open_store(tmp_path / "s")
    assert found.commits == (entry,)
    assert np.isnan(heatmaps_of(found.read())).any(axis=(1, 2)).sum() == 1
    assert found.read(["key"]).column_names == ["key"]


def test_heatmaps_come_back_as_they_were() -> None:
    maps = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8)).astype(np.float16)
    maps[2, 0] = np.nan
    table = table_of([row(str(i), heatmap=m) for i, m in enumerate(maps)], schema((8, 8), raw=True))
    assert np.array_equal(heatmaps_of(table), maps.astype(np.float32), equal_nan=True)
    assert table["raw"].null_count == 5
    assert heatmaps_of(table_of([], schema((8, 8), raw=False))).shape == (0, 8, 8)


def test_what_no_entry_names_does_not_count_and_is_removed(tmp_path: Path) -> None:
    store = commit(tmp_path, "a")
    lost = Path(store.parts[0]).with_name("00000002-dead.parquet")
    for file in (lost, tmp_path / "images/x.parquet", tmp_path / "manifest/.00000002.json.7.part"):
        file.write_bytes(b"half")
    (tmp_path / ".store.json.77.part").write_bytes(b"half")
    assert [r["key"] for r in rows(tmp_path)] == ["a"]
    assert len(left_over(tmp_path)) == 4
    commit(tmp_path, "b")
    assert not left_over(tmp_path)
    assert [r["key"] for r in rows(tmp_path)] == ["a", "b"]


def test_a_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    commit(tmp_path / "s", "a")
    commit(tmp_path / "s", "b")
    assert [r["key"] for r in rows(tmp_path / "s")] == ["a", "b"]
    with pytest.raises(FileExistsError):
        place_of(tmp_path / "s").put("manifest/00000001.json", b"", fresh=True)
    assert not left_over(tmp_path / "s")


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    commit(tmp_path, "a")
    said = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps({**said, "format": 2, "unknown": {}}))
    for ask in (lambda: open_store(tmp_path), lambda: commit(tmp_path, "b")):
        with pytest.raises(InputError, match=r"newer version of Sightline \(format 2, this one reads 1\); update"):
            ask()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "x"}', "null", "\0\xff"])
@pytest.mark.parametrize("name", ["store.json", "manifest/00000001.json"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, name: str, text: str) -> None:
    commit(tmp_path, "a")
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    for ask in (lambda: open_store(tmp_path), lambda: commit(tmp_path, "b")):
        with pytest.raises(InputError, match=rf"{name} is damaged; get it back"):
            ask()


@pytest.mark.parametrize("which", ["explanations", "images", "manifest"])
def test_a_missing_part_is_refused(tmp_path: Path, which: str) -> None:
    commit(tmp_path, "a")
    commit(tmp_path, "b")
    next(p for p in sorted((tmp_path / which).rglob("*")) if p.is_file()).unlink()
    for ask in (lambda: open_store(tmp_path), lambda: commit(tmp_path, "c")):
        with pytest.raises(InputError, match=rf"{which}/.*00000001.* is missing; get it back"):
            ask()


@pytest.mark.parametrize("which", ["explanations", "images"])
def test_half_a_part_does_not_count_as_done(tmp_path: Path, which: str) -> None:
    commit(tmp_path, "a")
    part = next(p for p in (tmp_path / which).rglob("*") if p.is_file())
    part.write_bytes(part.read_bytes()[:100])
    for ask in (lambda: open_store(tmp_path), lambda: commit(tmp_path, "c")):
        with pytest.raises(InputError, match=rf"{which}/.*00000001.* is damaged; get it back"):
            ask()


def test_a_part_that_is_cut_off_is_said_when_it_is_read(tmp_path: Path) -> None:
    part = Path(commit(tmp_path, "a").parts[0])
    part.write_bytes(part.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"00000001.*parquet is damaged; get it back"):
        open_store(tmp_path).read()


def test_other_settings_are_refused(tmp_path: Path) -> None:
    commit(tmp_path, "a")
    said = "holds heatmaps of 8x8; heatmaps of 16x16 and raw attributions came"
    with pytest.raises(InputError, match=said), writing(tmp_path, Settings((16, 16), raw=True)):
        pass
    assert [r["key"] for r in rows(tmp_path)] == ["a"]


def test_a_store_is_not_made_among_other_things(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for where, said in (
        (tmp_path, "holds other files"),
        (tmp_path / "mine.txt", "is a file"),
        ("", "an empty name"),
        ("  ", "an empty name"),
        ("/", "holds other files"),
        ("nosuch://a/b", "nosuch"),
        (tmp_path / "mine.txt" / "s", "Not a directory|cannot be written"),
    ):
        with pytest.raises(InputError, match=said), writing(where, EIGHT):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="holds no store; sightline batch SOURCE --out"):
        open_store(tmp_path)
    with pytest.raises(InputError, match="holds no store"):
        open_store(tmp_path / "absent")


def test_an_empty_folder_takes_a_store(tmp_path: Path) -> None:
    assert commit(tmp_path, "a").parts


def test_a_second_writer_is_told_who_holds_it_or_waits(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "s")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(
            InputError, match=rf"written by another run \(process {holder.pid}\); wait for it with --wait"
        ):
            commit(tmp_path / "s", "a")
        assert open_store(tmp_path / "s").commits == ()
        assert holder.stdin is not None
        threading.Timer(0.5, holder.stdin.close).start()
        started = time.monotonic()
        with writing(tmp_path / "s", EIGHT, wait=True) as writer:
            assert time.monotonic() - started > 0.4
            assert writer.store.commits == ()


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "s")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
        holder.wait()
        commit(tmp_path / "s", "a")
    assert [r["key"] for r in rows(tmp_path / "s")] == ["a"]


@pytest.fixture
def bucket() -> str:
    return f"memory://{uuid.uuid4().hex}/store"


def test_an_object_store_has_the_same_protocol(bucket: str) -> None:
    commit(bucket, "a")
    store = commit(bucket, "b")
    assert [r["key"] for r in rows(bucket)] == ["a", "b"]
    assert all(part.startswith(bucket) for part in store.parts)
    fsspec.filesystem("memory").rm(store.parts[0])
    with pytest.raises(InputError, match="is missing"):
        open_store(bucket)
    with pytest.raises(InputError, match="no lock to wait for; leave out --wait"), writing(bucket, EIGHT, wait=True):
        pass


def test_of_two_writers_of_an_object_store_the_second_to_commit_loses(bucket: str) -> None:
    commit(bucket, "a")
    images = pa.Table.from_pylist([], IMAGES)
    with writing(bucket, EIGHT) as one, writing(bucket, EIGHT) as two:
        one.commit(images, table_of([row("one")], one.store.schema), ["ask"], {})
        with pytest.raises(InputError, match="written by another run meanwhile; let it end, then go on with --resume"):
            two.commit(images, table_of([row("two")], two.store.schema), ["ask"], {})
        one.commit(images, table_of([row("three")], one.store.schema), ["ask"], {})
    assert [r["key"] for r in rows(bucket)] == ["a", "one", "three"]


def test_an_object_store_that_cannot_be_written(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = fsspec.filesystem("memory")
    commit(bucket, "a")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "access denied")

    monkeypatch.setattr(type(files), "pipe_file", refuse)
    with pytest.raises(InputError, match=r"memory://.* cannot be written \(access denied\)"):
        commit(bucket, "b")
    monkeypatch.undo()
    assert [r["key"] for r in rows(bucket)] == ["a"]


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    commit(f"file://{tmp_path}/s", "a")
    assert [r["key"] for r in rows(tmp_path / "s")] == ["a"]
