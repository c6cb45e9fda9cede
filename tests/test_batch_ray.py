"""The Ray engine: the same rows as the local one, whatever of it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from sightline.batch.cluster import Actors, actors_of, connected
from sightline.batch.feeding import Feed
from sightline.batch.job import Job
from sightline.batch.run import How, Summary, run
from sightline.batch.sources import Source, source_of
from sightline.batch.store import open_store
from sightline.batch.table import heatmaps_of
from sightline.demo.scenes import scenes
from sightline.errors import InputError, ModelError, ParameterError, SightlineError
from sightline.models.load import load
from sightline.models.model import Model

pytest.importorskip("ray.data", reason="Ray is not installed")
pytestmark = pytest.mark.slow

IMAGES = 44
UNIT = 4
DECODER = "multiprocessing.forkserver"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray, as the engine starts it; runs in this process use it."""
    with connected(None, 2) as (ray, own):
        assert own
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield ray


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, one of them twice, one that lies on its side by its EXIF, and one that is no picture."""
    at = tmp_path_factory.mktemp("scenes")
    for number, scene in enumerate(scenes(IMAGES - 2, seed=3)):
        Image.fromarray(scene.image).save(at / f"{number:02}.png")
    (at / "twice.png").write_bytes((at / "00.png").read_bytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scenes(1, seed=9)[0].image).save(at / "01.jpg", exif=exif)
    (at / "02.png").write_bytes(b"\x89PNG and no more")
    return at


@pytest.fixture(scope="module")
def store(cluster: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a Ray run that nothing befell."""
    out = tmp_path_factory.mktemp("unbroken") / "store"
    found = explained(folder, out)
    assert (found.explained, found.duplicates, found.failed) == (IMAGES - 2, 1, 1)
    return out


@pytest.fixture(scope="module")
def unbroken(store: Path) -> pa.Table:
    return open_store(store).read()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one unit each, as where a unit takes long."""
    monkeypatch.setattr("sightline.batch.feeding._SECONDS", 0.0)


HONEST = partial(load, "demo/honest")
RAY = How("ray", 1, UNIT)


def explained(
    folder: Path | Source,
    out: Path,
    how: How = RAY,
    opened: Callable[[], Model] = HONEST,
    on_images: Callable[[int], None] = lambda images: None,
) -> Summary:
    job = Job(opened, "demo/honest", ("grad_cam",), ("top1",))
    return run(folder, job, out, how, model=HONEST(), on_images=on_images)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descendants(parent: int) -> dict[int, str]:
    """Return the processes below one, each with its command line."""
    found: dict[int, str] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid = int(stat.parent.name)
            if parent_of(pid) == parent:
                found[pid] = (stat.parent / "cmdline").read_text().replace("\0", " ")
                found |= descendants(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class Killer:
    """Kills all processes of a kind, of another with each outcome that comes; one not there yet is waited for."""

    def __init__(self, *kinds: str) -> None:
        self.left, self.killed = list(kinds), []

    def __call__(self, images: int) -> None:
        until = time.monotonic() + 20
        while self.left and not self._kill(self.left[0]) and time.monotonic() < until:
            time.sleep(0.05)
        self.left = self.left[1:]

    def _kill(self, kind: str) -> bool:
        found = descendants(os.getpid())
        # A process that decodes is its server's child, and called as that is.
        mine = [
            pid
            for pid, line in found.items()
            if kind in line and (kind != DECODER or DECODER in found.get(parent_of(pid), ""))
        ]
        for pid in mine:
            os.kill(pid, signal.SIGKILL)
            self.killed.append(kind)
        return bool(mine)


def test_local_and_ray_give_the_same_rows(unbroken: pa.Table, folder: Path, tmp_path: Path) -> None:
    explained(folder, tmp_path / "local", How("local", 1, UNIT))
    local = open_store(tmp_path / "local").read()
    exact = [name for name in local.schema.names if name not in ("heatmap", "heatmap_scale", "score", "probability")]
    assert local.select(exact).drop_columns("completeness") == unbroken.select(exact).drop_columns("completeness")
    np.testing.assert_allclose(heatmaps_of(local), heatmaps_of(unbroken), atol=1e-3, rtol=0)
    for name in ("heatmap_scale", "score", "probability"):
        np.testing.assert_allclose(*(t[name].to_numpy() for t in (local, unbroken)), rtol=1e-4)


@pytest.mark.usefixtures("short")
def test_killed_processes_change_no_row(unbroken: pa.Table, folder: Path, tmp_path: Path) -> None:
    kinds = DECODER, "ray::MapWorker", "ray::MapBatches(fed)", "ray::Feed"
    killer = Killer(*kinds)
    found = explained(folder, tmp_path / "store", on_images=killer)
    assert set(killer.killed) == set(kinds)
    assert found.images == IMAGES
    assert open_store(tmp_path / "store").read().equals(unbroken)


def test_two_actors_give_the_same_rows_in_the_same_order(unbroken: pa.Table, folder: Path, tmp_path: Path) -> None:
    explained(folder, tmp_path / "store", How("ray", 2, UNIT))
    assert open_store(tmp_path / "store").read().equals(unbroken)


@pytest.mark.usefixtures("cluster", "short")
def test_units_are_cut_as_they_are_wanted(folder: Path, tmp_path: Path) -> None:
    listed, most = 0, 0

    def items() -> Iterator[Any]:
        nonlocal listed
        for item in source_of(folder).items():
            listed += 1
            yield item

    def watch(images: int) -> None:
        nonlocal most
        most = max(most, listed)
        if images and most == listed and not seen:
            seen.append(listed)

    seen: list[int] = []
    explained(Source("scenes", items), tmp_path / "store", on_images=watch)
    assert UNIT < seen[0] < IMAGES - UNIT
    assert most == IMAGES


def noting(file: Path) -> Model:
    """Return the honest model, which notes each pass."""

    def note(*_: object) -> None:
        with file.open("a") as stream:
            stream.write("pass\n")

    model = load("demo/honest")
    model.module.register_forward_hook(note)
    return model


def test_what_a_store_holds_is_not_explained_again(
    unbroken: pa.Table, store: Path, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(store, tmp_path / "store")
    again = explained(folder, tmp_path / "store", opened=partial(noting, tmp_path / "passes"))
    assert (again.explained, again.rows, again.already, again.failed) == (0, 0, IMAGES - 1, 1)
    assert open_store(tmp_path / "store").read().equals(unbroken)
    assert not (tmp_path / "passes").exists()


def unopened() -> Model:
    raise ModelError("demo/honest: its file is not here.")


def other() -> Model:
    return load("demo/cheating")


@pytest.mark.parametrize(
    ("opened", "said"),
    [(unopened, "its file is not here"), (other, "other weights")],
)
def test_what_no_image_could_make_right_ends_the_run_in_one_line(
    cluster: Any, folder: Path, tmp_path: Path, opened: Callable[[], Model], said: str
) -> None:
    with pytest.raises(SightlineError, match=said) as raised:
        explained(folder, tmp_path / "store", opened=opened)
    assert "\n" not in str(raised.value)
    assert not open_store(tmp_path / "store").parts


def test_a_unit_is_handed_on_however_often_it_is_asked_for_and_its_tries_are_counted() -> None:
    async def handed() -> list[Any]:
        feed = Feed()
        early, late = asyncio.ensure_future(feed.take(0)), asyncio.ensure_future(feed.take(1))
        numbers = [await feed.wanted(), await feed.wanted()]
        for number in (1, 0, 0):
            await feed.give(number, bytes([number]))
        found = [numbers, await early, await late]
        again = asyncio.ensure_future(feed.take(0))  # as a task does that is done again
        found.append(await feed.wanted())
        await feed.give(0, None)
        await feed.end()
        return [*found, await again, await feed.wanted(), [await feed.tried(n) for n in (7, 7, 8)]]

    assert asyncio.run(handed()) == [[0, 1], b"\x00", b"\x01", 0, None, None, [1, 2, 1]]


def opened_by(pid: int) -> list[str]:
    """Return what a process has open, nothing if it ended in the meantime."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            found.append(os.readlink(fd))
    return found


def test_the_cluster_listens_on_this_machine_alone(cluster: Any) -> None:
    mine = {os.getpid(), *descendants(os.getpid())}
    sockets = {target for pid in mine for target in opened_by(pid)}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = [row[1].rpartition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    assert listening
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:9", "no Ray cluster answers"), ("ray://x", "wanted HOST:PORT"), ("x", "HOST:PORT")],
)
def test_an_address_of_no_cluster_is_refused_soon(folder: Path, tmp_path: Path, address: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match=said):
        explained(folder, tmp_path / "store", How("ray", 1, UNIT, ray_address=address))
    assert time.monotonic() - began < 20


def test_without_ray_the_error_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'sightline\[ray\]'"):
        explained(folder, tmp_path / "store")


class Nodes:
    """As much of Ray as says what machines there are."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self.resources = resources

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": r} for r in self.resources] + [{"Alive": False, "Resources": {"CPU": 99}}]


@pytest.mark.parametrize(
    ("nodes", "asked", "device", "wanted"),
    [
        ([{"CPU": 8}], None, "cpu", Actors(4, 2, 0, 2, 1)),
        ([{"CPU": 2}], None, "cpu", Actors(2, 1, 0, 1, 1)),
        ([{}], None, "cpu", Actors(1, 1, 0, 1, 1)),
        ([{"CPU": 8}], 3, "cpu", Actors(3, 2, 0, 2, 1)),
        ([{"CPU": 16}, {"CPU": 3}, {}], None, "cpu", Actors(7, 2, 0, 2, 1)),
        ([{"CPU": 5}, {"CPU": 5}], 3, "cpu", Actors(3, 2, 0, 2, 1)),
        ([{"CPU": 2}], 5, "cpu", Actors(5, 1, 0, 1, 1)),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 8}], None, "cuda", Actors(4, 5, 1, 5, 2)),
    ],
)
def test_a_cluster_is_shared_between_its_actors(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], asked: int | None, device: str, wanted: Actors
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert actors_of(Nodes(*nodes), asked, device, own=False) == wanted
    assert actors_of(Nodes(*nodes), asked, device, own=True).threads == min(wanted.threads, torch.get_num_threads())


@pytest.mark.parametrize(("asked", "device"), [(0, "cpu"), (2, "cuda"), (0, "cuda")])
def test_actors_that_cannot_be_are_refused(asked: int, device: str) -> None:
    with pytest.raises(ParameterError, match=f"--workers {asked}"):
        actors_of(Nodes({"CPU": 8, "GPU": 1}), asked, device, own=True)
