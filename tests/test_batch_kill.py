"""A run that is killed, at any moment, and gone on with: in the end the store holds what an unbroken run leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batches import begun_by, images, left_over, rows, same, scenes
from sightline.batch.store import open_store

pytestmark = pytest.mark.slow

# Begun once, with everything imported, and decoders' server running: a run is then a fork, and costs what it does.
SERVER = """
import json, os, signal, sys
import pandas, pyarrow.parquet, scipy.sparse  # what a run imports on its way
from multiprocessing import forkserver
from sightline.batch import run as running
from sightline.batch.decoding import Decoders, reader_of
from sightline.batch.job import Job
from sightline.batch.sources import Source, file_item
from sightline.models.load import load

model = load("demo/honest")
with Decoders(reader_of(model), 1) as decoders:
    decoders.workers[0].ask([])

def work(asked):
    job = Job(lambda: model, "demo/honest", tuple(asked["methods"]), ("top2",), heatmap=8, raw=True)
    how = running.How(workers=asked["workers"], batch_size=3, resume=asked["resume"])
    source = Source("a list", lambda: (file_item(p) for p in asked["paths"]))
    running._PART_ROWS = asked["part"]
    kill_at(asked["call"])
    running.run(source, job, asked["out"], how)

def kill_at(number):
    # Each step of writing a file, before it is done.
    left = [number]
    def counted(done):
        def step(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done(*args, **kwargs)
        return step
    for name in ("fsync", "replace", "link", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))

print("ready", flush=True)
while line := sys.stdin.readline():
    forkserver.ensure_running()  # what is killed while it asks for a worker may end it: it is a run's own elsewhere
    child = os.fork()
    if child == 0:
        try:
            forkserver._forkserver.ensure_running = lambda: None  # it would look for it among its own children
            work(json.loads(line))
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    print(child, flush=True)
    sys.stdin.readline()  # until then its number is nobody else's
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """Runs in processes that can be killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def run(self, asked: dict[str, Any], seconds: float | None = None) -> int:
        """Do a run, killed after some seconds; return its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        child = int(self.line())
        if seconds is not None:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        self.process.stdin.write("end it\n")
        self.process.stdin.flush()
        return int(self.line())

    def orphans(self) -> list[int]:
        """Return the workers that outlived their run by half a minute."""
        until = time.monotonic() + 30
        while found := [p for server in begun_by(self.process.pid) for p in begun_by(server)]:
            if time.monotonic() > until:
                return found
            time.sleep(0.02)
        return []


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    command = [sys.executable, "-W", "ignore", "-c", SERVER]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Scenes, two of them twice, and files that are no pictures between them."""
    folder = scenes(tmp_path_factory.mktemp("killed") / "photos", 36)
    shutil.copy(folder / "004.png", folder / "005_again.png")
    shutil.copy(folder / "001.png", folder / "030_again.png")
    for name in ("007_bad.png", "008_bad.png", "020_bad.png"):
        (folder / name).write_text("no")
    return sorted(map(str, folder.iterdir()))


def asked(paths: list[str], out: Path, **options: Any) -> dict[str, Any]:
    usual = {"methods": ["grad_cam", "gradient"], "workers": 2, "resume": True, "call": 0, "part": 8}
    return {"paths": paths, "out": str(out), **usual, **options}


def begun(server: Server, photos: list[str], out: Path) -> Path:
    """Make a store in which some images, here and there, are done by one of the methods, and some by both."""
    assert server.run(asked(photos[5:20:2], out, methods=["gradient"])) == 0
    assert server.run(asked(photos[24:27], out)) == 0
    return out


def assert_whole(out: Path, unbroken: Path) -> None:
    found = rows(out)
    assert len({row["key"] for row in found}) == len(found)
    assert same(found, rows(unbroken))
    assert images(out) == images(unbroken)
    assert not left_over(out)


def test_20_kills_at_random_moments(server: Server, photos: list[str], tmp_path: Path) -> None:
    unbroken = begun(server, photos, tmp_path / "unbroken")
    started = time.monotonic()
    assert server.run(asked(photos, unbroken)) == 0
    took = time.monotonic() - started
    assert len(rows(unbroken)) == 36 * 4 + 3 * 2
    draw, kills, at_work, stores = np.random.default_rng(20), 0, 0, [begun(server, photos, tmp_path / "0")]
    while kills < 20:
        before = len(open_store(stores[-1]).commits)
        code = server.run(
            asked(
                photos,
                stores[-1],
            ),
            draw.uniform(0, 0.7 * took),
        )
        assert code in (0, -signal.SIGKILL)
        assert not server.orphans()
        kills += code != 0
        at_work += len(open_store(stores[-1]).commits) > before
        if code == 0:
            stores.append(begun(server, photos, tmp_path / str(len(stores))))
    assert at_work  # some were killed after they had committed
    for store in stores:
        assert server.run(asked(photos, store)) == 0
        assert_whole(store, unbroken)
        assert server.run(asked(photos, store, resume=False)) == 0
        assert same(rows(store), rows(unbroken))


def test_kills_before_each_step_of_writing(server: Server, photos: list[str], tmp_path: Path) -> None:
    few = asked([photos[0], photos[8], *photos[1:4]], tmp_path / "unbroken", workers=0, methods=["gradient"], part=3)
    assert server.run(few) == 0
    unbroken = open_store(tmp_path / "unbroken")
    wholes = set(np.cumsum([0, *(commit.rows for commit in unbroken.commits)]))
    assert len(wholes) == 3
    for call in range(1, 200):
        out = tmp_path / str(call)
        code = server.run({**few, "out": str(out), "call": call})
        if (out / "store.json").exists():
            assert len(rows(out)) in wholes  # a part is there whole or not at all
        assert server.run({**few, "out": str(out)}) == 0
        assert_whole(out, tmp_path / "unbroken")
        if code == 0:
            break
    assert 20 < call < 199


def test_a_run_killed_in_the_same_batch_again_and_again_goes_on(
    server: Server, photos: list[str], tmp_path: Path
) -> None:
    """Each run commits at least what it has come to: no kill throws back what was there."""
    out, counts = tmp_path / "s", []
    for call in (40, 60, 60, 60):
        server.run(asked(photos, out, workers=0, call=call))
        counts.append(sum(c.count for c in open_store(out).commits))
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
