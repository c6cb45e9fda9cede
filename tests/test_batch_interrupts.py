"""Ctrl-C, a full disk and what else stops a run: what was whole is kept, one line says what happened, it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import sightline
from batches import HERE, children_of, done, images, job_of, left_over, lives, rows, same, scenes
from sightline.batch import run as running
from sightline.batch.interrupting import uninterrupted
from sightline.batch.run import How, run
from sightline.errors import InputError

RESUME = dataclasses.replace(HERE, resume=True)


@pytest.fixture(scope="module")
def honest() -> sightline.Model:
    return sightline.load("demo/honest")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes(tmp_path_factory.mktemp("photos"), 22)


@pytest.fixture(scope="module")
def unbroken(photos: Path, honest: sightline.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "s"
    done(photos, job_of(honest), out)
    return out


def interrupt_at(line: int, seen: list[int], where: str = running.__file__) -> Callable[..., Any]:
    """Return a tracer that presses Ctrl-C before the n-th line of a file is run."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != where:
            return None
        if event == "line":
            seen.append(1)
            if len(seen) == line:
                signal.raise_signal(signal.SIGINT)
        return trace

    return trace


def test_ctrl_c_before_any_line_loses_no_row_and_leaves_no_half(
    photos: Path, honest, unbroken: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(running, "_PART_ROWS", 8)
    seen: list[int] = []
    sys.settrace(interrupt_at(0, seen))
    done(photos, job_of(honest), tmp_path / "counted")
    sys.settrace(None)
    kept = []
    for number, line in enumerate(np.random.default_rng(0).integers(1, len(seen), 12)):
        out = tmp_path / str(number)
        sys.settrace(interrupt_at(int(line), []))
        try:
            with pytest.raises(KeyboardInterrupt):
                done(photos, job_of(honest), out)
        finally:
            sys.settrace(None)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        kept.append(len(rows(out)) if (out / "store.json").exists() else 0)
        done(photos, job_of(honest), out, RESUME)
        assert same(rows(out), rows(unbroken))
        assert images(out) == images(unbroken)
        assert not left_over(out)
    assert len(set(kept)) > 3
    assert all(count % 4 == 0 or count == 22 for count in kept)  # whole batches


def test_what_was_explained_is_kept_at_ctrl_c_and_a_second_one_waits_for_it(
    photos: Path, honest, unbroken: Path, tmp_path: Path, monkeypatch
) -> None:
    counted, sync = [0], os.fsync

    def press(taken: int) -> None:
        counted[0] += taken
        if counted[0] >= 12:
            signal.raise_signal(signal.SIGINT)

    def impatient(handle: int) -> None:
        if counted[0]:
            counted[0] = 0
            signal.raise_signal(signal.SIGINT)
        sync(handle)

    monkeypatch.setattr(os, "fsync", impatient)
    with pytest.raises(KeyboardInterrupt):
        run(photos, job_of(honest), tmp_path / "s", HERE, on_images=press)
    assert counted[0] == 0
    assert len(rows(tmp_path / "s")) == 12
    done(photos, job_of(honest), tmp_path / "s", RESUME)
    assert same(rows(tmp_path / "s"), rows(unbroken))


def test_the_first_ctrl_c_waits_and_the_second_does_not() -> None:
    passed = []

    @uninterrupted()
    def pressed(presses: int) -> None:
        for _ in range(presses):
            signal.raise_signal(signal.SIGINT)
        passed.append(presses)

    for presses in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            pressed(presses)
    assert passed == [1]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup does
    with uninterrupted():
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_a_run_in_a_thread(photos: Path, honest, tmp_path: Path) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(done(photos, job_of(honest), tmp_path / "s")))
    thread.start()
    thread.join()
    assert found[0].explained == 22


def command(photos: Path, out: Path, *more: str) -> list[str]:
    code = "from sightline.cli.main import main; main()"
    usual = ["--model", "demo/honest", "--out", str(out), "--workers", "2", "--batch-size", "4", "--heatmap-size", "8"]
    return [sys.executable, "-c", code, "batch", str(photos), *usual, *more]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


@pytest.mark.slow
@pytest.mark.parametrize(("presses", "by"), [(1, signal.SIGINT), (3, signal.SIGINT), (1, signal.SIGTERM)])
def test_ctrl_c_in_a_terminal_and_a_scheduler_end_all_processes_and_leave_one_line(
    photos: Path, honest, unbroken: Path, tmp_path: Path, presses: int, by: signal.Signals
) -> None:
    out = tmp_path / "s"
    with subprocess.Popen(
        command(photos, out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        process_group=0,
    ) as process:
        while not (out / "lock").exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(np.random.default_rng(presses).uniform(0.05, 1.5))
        started = [p for p in children_of(process.pid) if lives(p)]
        for _ in range(presses):
            os.killpg(process.pid, by) if by == signal.SIGINT else process.send_signal(by)
            time.sleep(0.02)
        said = process.communicate(timeout=120)
    assert process.returncode in ((130,) if presses == 1 else (130, -signal.SIGINT)), said
    assert said == ("", "interrupted\n") or (presses > 1 and said == ("", ""))
    until = time.monotonic() + 30
    while any(map(lives, started)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(lives, started))
    done(photos, job_of(honest), out, RESUME)
    assert same(rows(out), rows(unbroken))


@pytest.mark.parametrize("step", ["fsync", "replace", "link", "mkdir", "write"])
def test_a_full_disk_leaves_nothing_half_written(photos: Path, honest, tmp_path: Path, monkeypatch, step: str) -> None:
    """Whichever call is the first to find the disk full, and none is let through after."""
    monkeypatch.setattr(running, "_PART_ROWS", 8)
    done(photos, job_of(honest), tmp_path / "unbroken")
    for number in range(1, 9):
        out = tmp_path / f"{step}{number}"
        with monkeypatch.context() as patch:
            full = patch_full(patch, step, number)
            said = ""
            with contextlib.suppress(InputError):
                said = str(done(photos, job_of(honest), out))
            assert bool(said) == (not full[0])  # it ended well, or was refused
        if (out / "store.json").exists():
            assert len(rows(out)) in (0, 8, 16, 22)
        done(photos, job_of(honest), out, RESUME)
        assert same(rows(out), rows(tmp_path / "unbroken"))
        assert not left_over(out)


def patch_full(patch: pytest.MonkeyPatch, step: str, number: int) -> list[int]:
    calls, refused = [0], [0]

    def full(usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] >= number:
                refused[0] += 1
                raise OSError(errno.ENOSPC, "No space left on device")
            return usual(*args, **kwargs)

        return call

    if step == "write":
        opened = Path.open

        def open_(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            stream = opened(self, mode, *args, **kwargs)
            if mode != "wb":
                return stream
            return Full(stream, full)

        patch.setattr(Path, "open", open_)
    else:
        patch.setattr(os, step, full(getattr(os, step)))
    return refused


class Full:
    """A file that takes half of what it is given."""

    def __init__(self, stream: Any, full: Callable[..., Any]) -> None:
        self.stream, self.full = stream, full

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def write(self, data: bytes) -> None:
        self.stream.write(data[: len(data) // 2])
        self.full(lambda: self.stream.write(data[len(data) // 2 :]))()

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return int(self.stream.fileno())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "most", "said"),
    [(resource.RLIMIT_FSIZE, 4000, "File too large"), (resource.RLIMIT_NOFILE, 10, "Too many open files")],
)
def test_limits_of_the_system_end_the_run_in_one_line(
    photos: Path, honest, tmp_path: Path, what: int, most: int, said: str
) -> None:
    out = tmp_path / "s"
    limit = f"import resource as r; r.setrlimit({what}, ({most}, {most})); "
    code = "import sightline.cli.main as m, sightline.batch.run, sightline.models.load; " + limit + "m.main()"
    whole = [*command(photos, out)[:2], code, *command(photos, out)[3:]]
    found = subprocess.run(whole, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert found.returncode == 2, found
    assert said in found.stderr
    assert "Traceback" not in found.stderr
    done(photos, job_of(honest), out)
    assert sum(r["error"] is None for r in rows(out)) == 22


def test_a_store_that_may_not_be_written(photos: Path, honest, tmp_path: Path, monkeypatch) -> None:
    opened = Path.open

    def refuse(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode != "r" and mode != "rb":
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        return opened(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\); name another --out"):
        done(photos, job_of(honest), tmp_path / "s")


def test_how_is_checked() -> None:
    for wrong in (How(workers=-1), How(batch_size=0), How(batch_size="x"), How(batch_size=1.5), How(engine="dask")):
        with pytest.raises(InputError, match="wanted"):
            running._check(wrong)
