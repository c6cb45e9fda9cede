"""Bad input and faults: what cannot be explained is a row that says why, and everything else comes out as it should."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from batches import HERE, done, errors, images, job_of, rows, same, scenes
from sightline.batch import decoding
from sightline.batch.decoding import Decoders, reader_of
from sightline.batch.run import How, run
from sightline.batch.sources import Source, file_item, source_of
from sightline.batch.store import open_store
from sightline.demo.scenes import scene
from sightline.errors import SightlineError

TWO = How(workers=2, batch_size=4)


@pytest.fixture(scope="module")
def honest() -> sightline.Model:
    return sightline.load("demo/honest")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return scenes(tmp_path / "photos", 8)


def listed(*paths: Path) -> Source:
    return Source("a list", lambda: (file_item(str(p)) for p in paths))


def spoil(photos: Path) -> dict[str, str]:
    """Put files that are no pictures among the scenes, and return what is to be said of each."""
    whole = (photos / "000.png").read_bytes()
    (photos / "001_empty.png").write_bytes(b"")
    (photos / "002_text.jpg").write_text("I am no image")
    (photos / "003_cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "004_huge.png").write_bytes(bomb())
    os.mkfifo(photos / "005_pipe.png")
    (photos / "006_device.png").symlink_to("/dev/zero")
    (photos / "007_lost.png").symlink_to(photos / "nowhere")
    (photos / "007_round.png").symlink_to(photos / "007_round.png")
    (photos / "007_array.npy").write_bytes(b"\x93NUMPY\x01\x00\xff")
    return {
        "001_empty.png": "is empty",
        "002_text.jpg": "002_text.jpg is",
        "003_cut.png": "damaged or truncated",
        "004_huge.png": "pixels",
        "005_pipe.png": "no regular file",
        "006_device.png": "no regular file",
        "007_lost.png": "cannot be read (No such file",
        "007_round.png": "cannot be read (Too many levels",
        "007_array.npy": "damaged or truncated",
    }


def bomb() -> bytes:
    """Return a PNG whose head claims 60,000 by 60,000 pixels."""
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    data = b"IDAT" + zlib.compress(bytes(1000))
    return start + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_no_picture_is_a_row_with_its_reason(photos: Path, tmp_path: Path, honest, workers: int) -> None:
    done(photos, job_of(honest), tmp_path / "clean", HERE)
    wanted = spoil(photos)
    (photos / "folder.jpg").mkdir()
    shutil.copy(photos / "000.png", photos / "folder.jpg" / "again.png")
    (photos / "folder.jpg" / "round").symlink_to(photos)
    summary = done(photos, job_of(honest), tmp_path / "s", dataclasses.replace(HERE, workers=workers))
    found = errors(tmp_path / "s")
    assert found.keys() == wanted.keys()
    assert not {name for name, said in wanted.items() if said not in found[name] or "\n" in found[name]}
    assert (summary.images, summary.explained, summary.failed, summary.duplicates) == (18, 8, 9, 1)
    assert {f["image"].rpartition("/")[2] for f in summary.failures} == wanted.keys()
    kept = [r for r in rows(tmp_path / "s") if r["error"] is None]
    assert [r["key"] for r in kept] == [r["key"] for r in rows(tmp_path / "clean")]
    close = [
        np.abs(np.subtract(a["heatmap"], b["heatmap"])).max()
        for a, b in zip(kept, rows(tmp_path / "clean"), strict=True)
    ]
    assert max(close) <= 1e-3  # of other batches, for what fails divides them
    again = done(photos, job_of(honest), tmp_path / "s", HERE)
    assert (again.rows, again.failed, again.already, again.parts) == (0, 9, 9, 0)
    resumed = done(photos, job_of(honest), tmp_path / "s", dataclasses.replace(HERE, resume=True))
    assert resumed.failed_before == 5
    assert (resumed.rows, resumed.failed, resumed.already) == (0, 4, 14)  # what could not be fetched is tried again


def test_any_name_that_a_file_can_have(tmp_path: Path, honest) -> None:
    names = [
        "a b.png",
        "line\nbreak.png",
        "tab\t'\"\\.png",
        "日本🐈.png",
        "100%25#x?.png",
        "caf\udce9.png",
        "x" * 240 + ".png",
    ]
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(scene(number).image).save(folder / "plain.png")
        os.rename(os.fsencode(folder / "plain.png"), os.fsencode(str(folder / name)))
    (folder / "bad\udcff\n.png").write_text("no")
    summary = done(folder, job_of(honest), tmp_path / "s", TWO)
    assert (summary.explained, summary.failed) == (7, 1)
    uris = {r["image"] for r in rows(tmp_path / "s") if r["error"] is None}
    assert {f"{folder}/{n}" for n in names if "\udce9" not in n} < uris
    assert f"{folder.as_uri()}/caf%E9.png" in uris
    assert "\n" not in summary.failures[0]["message"]
    assert done(folder, job_of(honest), tmp_path / "s", dataclasses.replace(TWO, resume=True)).already == 8


def test_one_content_is_one_row_whatever_it_is_called(photos: Path, tmp_path: Path, honest) -> None:
    shutil.copy(photos / "000.png", photos / "000_again.png")  # in one batch
    shutil.copy(photos / "001.png", photos / "999.png")  # in another
    (photos / "link.png").symlink_to(photos / "002.png")
    for name in ("empty1.png", "empty2.png"):
        (photos / name).write_bytes(b"")
    summary = done(photos, job_of(honest), tmp_path / "s")
    found = rows(tmp_path / "s")
    assert (summary.images, summary.explained, summary.duplicates, summary.failed) == (13, 8, 3, 2)
    assert len({r["key"] for r in found}) == len(found) == 10
    assert len(images(tmp_path / "s")) == 13
    both = {i[3] for i in images(tmp_path / "s") if i[0].rpartition("/")[2] in ("000.png", "000_again.png")}
    assert len(both) == 1
    assert done(photos, job_of(honest), tmp_path / "s", dataclasses.replace(HERE, resume=True)).already == 13


@pytest.mark.parametrize("resume", [False, True])
def test_a_list_that_names_a_file_twice(photos: Path, tmp_path: Path, honest, resume: bool) -> None:
    (photos / "bad.png").write_bytes(b"no")
    names = ("000", "000", "bad", "bad", "001", "002", "003", "004", "000", "bad")
    source = listed(*(photos / f"{n}.png" for n in names))
    how = dataclasses.replace(HERE, resume=resume)
    summary = run(source, job_of(honest), tmp_path / "s", how)
    assert len(rows(tmp_path / "s")) == len({r["key"] for r in rows(tmp_path / "s")}) == summary.rows == 6
    assert summary.images == summary.explained + summary.duplicates + summary.already + summary.failed == 10
    assert run(source, job_of(honest), tmp_path / "s", how).rows == 0
    assert len(rows(tmp_path / "s")) == 6


def test_files_that_change_between_runs(photos: Path, tmp_path: Path, honest) -> None:
    resume = dataclasses.replace(HERE, resume=True)
    done(photos, job_of(honest), tmp_path / "s")
    before = rows(tmp_path / "s")
    os.utime(photos / "000.png", (1, 1))  # touched
    Image.fromarray(scene(50).image).save(photos / "001.png")  # another picture
    (photos / "002.png").unlink()
    (photos / "003.png").rename(photos / "moved.png")
    summary = done(photos, job_of(honest), tmp_path / "s", resume)
    assert (summary.images, summary.explained, summary.already, summary.duplicates) == (7, 1, 6, 0)
    after = rows(tmp_path / "s")
    assert len(after) == 9
    assert same([r for r in after if r["key"] in {b["key"] for b in before}], before)
    assert done(photos, job_of(honest), tmp_path / "s", resume).rows == 0


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_that_comes_right_later_is_explained_then(photos: Path, tmp_path: Path, honest, resume: bool) -> None:
    how = dataclasses.replace(HERE, resume=resume)
    (photos / "000.png").write_bytes(b"half")
    assert done(photos, job_of(honest), tmp_path / "s", how).failed == 1
    Image.fromarray(scene(0).image).save(photos / "000.png")
    assert done(photos, job_of(honest), tmp_path / "s", how).explained == 1
    assert done(photos, job_of(honest), tmp_path / "s", how).rows == 0
    assert sum(r["image"].endswith("000.png") and r["error"] is None for r in rows(tmp_path / "s")) == 1


@pytest.mark.parametrize("resume", [False, True])
def test_what_could_not_be_reached_is_tried_again(photos: Path, tmp_path: Path, honest, resume: bool) -> None:
    how = dataclasses.replace(HERE, resume=resume)
    away, stat = photos / "000.png", os.stat(photos / "000.png")
    item = file_item(str(away))
    source = Source("a list", lambda: iter([item]))
    away.rename(tmp_path / "kept.png")  # vanished between listing and reading
    assert run(source, job_of(honest), tmp_path / "s", how).rows == 1
    again = run(source, job_of(honest), tmp_path / "s", how)
    assert (again.rows, again.failed, again.parts) == (0, 1, 0)
    (tmp_path / "kept.png").rename(away)
    assert stat.st_mtime_ns == away.stat().st_mtime_ns
    assert run(source, job_of(honest), tmp_path / "s", how).explained == 1
    last = run(source, job_of(honest), tmp_path / "s", how)
    assert (last.rows, last.failed, last.failed_before, last.already) == (0, 0, 0, 1)


class Killer:
    """Bytes that end the process that fetches them, or kill it from outside."""

    def __init__(self, path: Path, by: signal.Signals, marker: Path | None = None) -> None:
        self.path, self.by, self.marker = path, by, marker

    def fetch(self) -> bytes:
        if self.marker is None or not self.marker.exists():
            if self.marker is not None:
                self.marker.touch()
            os.kill(os.getpid(), self.by)
        return self.path.read_bytes()


@pytest.fixture
def faulted() -> Iterator[None]:
    """Let no file of memory be written where a process is ended by a fault of its own."""
    import faulthandler
    import resource

    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    on = faulthandler.is_enabled()
    yield
    resource.setrlimit(resource.RLIMIT_CORE, limits)
    assert faulthandler.is_enabled() == on


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV])
def test_an_image_that_ends_its_decoder_is_a_row_and_no_other_is_lost(
    photos: Path, tmp_path: Path, honest, by: signal.Signals, faulted
) -> None:
    scenes(photos, 12, first=8)
    done(photos, job_of(honest), tmp_path / "clean", TWO)
    items = list(source_of(photos).items())
    items[5] = dataclasses.replace(items[5], where=Killer(photos / "005.png", by))
    items[17] = dataclasses.replace(items[17], where=Killer(photos / "017.png", by, tmp_path / "once"))
    summary = run(Source("x", lambda: iter(items)), job_of(honest), tmp_path / "s", TWO)
    assert (summary.explained, summary.failed) == (19, 1)
    assert errors(tmp_path / "s").keys() == {"005.png"}
    assert "ended the process" in errors(tmp_path / "s")["005.png"]
    left = [r["key"] for r in rows(tmp_path / "s") if r["error"] is None]
    assert left == [r["key"] for r in rows(tmp_path / "clean") if not r["image"].endswith("005.png")]


@pytest.mark.slow
def test_decoders_killed_from_outside_lose_nothing(photos: Path, tmp_path: Path, honest) -> None:
    scenes(photos, 16, first=8)
    done(photos, job_of(honest), tmp_path / "clean", TWO)
    units = [list(source_of(photos).items())[i : i + 4] for i in range(0, 24, 4)]
    draw = np.random.default_rng(8)
    with Decoders(reader_of(honest), 2) as decoders:
        found = []
        for unit in decoders.map(iter(units)):
            found.append([one.item.uri for one in unit])
            assert all(one.error is None for one in unit)
            process = decoders.workers[draw.integers(2)].process
            if process is not None and len(found) < 5:
                time.sleep(draw.uniform(0, 0.05))  # also while it sends what it has found
                process.kill()
    assert found == [[item.uri for item in unit] for unit in units]


def test_workers_that_cannot_begin_are_said_and_make_no_rows(photos: Path, tmp_path: Path, honest, monkeypatch) -> None:
    monkeypatch.setattr(
        decoding, "_decode_all", os.abort
    )  # takes no argument: the worker ends with whatever it is asked
    with pytest.raises(
        SightlineError, match="end as soon as they have begun; decode in this process, with --workers 0"
    ):
        done(photos, job_of(honest), tmp_path / "s", TWO)
    assert not open_store(tmp_path / "s").commits
