"""Trainings that are broken off: killed, interrupted, out of space, lost in NaN. What was learned is kept."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sightline.cli.main import main
from sightline.errors import InputError, ModelError
from sightline.training import run
from sightline.training.data import DataSet, Part
from sightline.training.history import Row
from sightline.training.job import Told
from sightline.training.run import Training
from sightline.training.settings import TrainSettings
from trainings import DIGITS, few_digits, undrawn

train = partial(run.train, report=False)
_undrawn = pytest.fixture(autouse=True)(undrawn)
# A schedule that remembers, an optimizer that remembers, and patience: all that a checkpoint has to hold.
ASKED = replace(DIGITS, epochs=5, patience=3, optimizer="adamw", lr=3e-3, schedule="plateau")


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return few_digits()


def broken_in(epoch: int) -> Told:
    """Raise when the epoch's row is there and its checkpoint is not."""

    def stop(row: Row) -> None:
        if row.epoch == epoch:
            raise StopError

    return Told(epoch=stop)


def same(a: Training, b: Training) -> None:
    for name, value in load_file(a.out / "model.safetensors").items():
        assert torch.equal(value, load_file(b.out / "model.safetensors")[name]), name
    assert [replace(r, seconds=0) for r in a.fitted.rows] == [replace(r, seconds=0) for r in b.fitted.rows]
    assert (a.fitted.ended, a.test_accuracy) == (b.fitted.ended, b.test_accuracy)


@pytest.mark.parametrize(("epoch", "schedule"), [(1, "plateau"), (3, "plateau"), (4, "one-cycle")])
def test_a_resumed_training_ends_as_an_unbroken_one(digits: DataSet, tmp_path: Path, epoch: int, schedule: str) -> None:
    asked = replace(ASKED, schedule=schedule)
    whole = train(digits, out=tmp_path / "whole", settings=asked)
    with pytest.raises(StopError):
        train(digits, out=tmp_path / "broken", settings=asked, told=broken_in(epoch))
    same(whole, train(digits, out=tmp_path / "broken", settings=asked, resume=True))


def test_a_training_that_stands_still_resumes_with_its_patience_and_its_rate(digits: DataSet, tmp_path: Path) -> None:
    asked = replace(ASKED, lr=1e-12, patience=4, epochs=9)
    whole = train(digits, out=tmp_path / "whole", settings=asked)
    assert [row.lr for row in whole.fitted.rows] == pytest.approx([1e-12] * 3 + [5e-13] * 2)
    for epoch in (3, 5):
        out = tmp_path / f"broken{epoch}"
        with pytest.raises(StopError):
            train(digits, out=out, settings=asked, told=broken_in(epoch))
        same(whole, train(digits, out=out, settings=asked, resume=True))


def test_what_has_ended_is_not_trained_again(digits: DataSet, tmp_path: Path) -> None:
    whole = train(digits, out=tmp_path / "run", settings=replace(ASKED, epochs=2))
    told: list[Row] = []
    again = train(
        digits, out=tmp_path / "run", settings=replace(ASKED, epochs=2), resume=True, told=Told(epoch=told.append)
    )
    same(whole, again)
    assert told == []


def test_dropout_and_augmentation_resume_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (24, 32, 32, 3), np.uint8), np.arange(24) % 3
    part = Part(images, labels)
    data = DataSet("noise", ("a", "b", "c"), part, part, None, "noise")
    factory = tmp_path / "net.py"
    factory.write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),\n"
        "        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))\n"
    )
    asked = TrainSettings(model=f"{factory}:net", freeze="none", epochs=4, batch_size=8, augment="all", image_size=32)
    torch.manual_seed(0)
    whole = train(data, out=tmp_path / "whole", settings=asked, trust=True)
    torch.manual_seed(0)
    with pytest.raises(StopError):
        train(data, out=tmp_path / "broken", settings=asked, told=broken_in(3), trust=True)
    torch.manual_seed(0)
    same(whole, train(data, out=tmp_path / "broken", settings=asked, resume=True, trust=True))


def test_other_settings_or_other_data_are_not_gone_on_with(digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        train(digits, out=tmp_path / "run", settings=ASKED, told=broken_in(2))
    with pytest.raises(InputError, match=r"other settings \(lr\)"):
        train(digits, out=tmp_path / "run", settings=replace(ASKED, lr=0.1), resume=True)
    fewer = replace(digits, train=Part(digits.train.images[1:], digits.train.labels[1:]))
    with pytest.raises(InputError, match=r"other data \(hash\)"):
        train(fewer, out=tmp_path / "run", settings=ASKED, resume=True)
    with pytest.raises(InputError, match="no training that could be resumed"):
        train(digits, out=tmp_path / "new", settings=ASKED, resume=True)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_best(digits: DataSet, tmp_path: Path) -> None:
    steep = replace(DIGITS, lr=1e6, epochs=30)
    with pytest.raises(ModelError, match=r"at a learning rate of 1e\+06 steps may be too long; try --lr 0.001"):
        train(digits, out=tmp_path / "steep", settings=steep)


def test_the_best_epoch_outlives_a_loss_that_is_not_finite(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline.training import lesson

    plain, seen = lesson.cross_entropy, []

    def broken(*given: object, **more: object) -> torch.Tensor:
        seen.append(1)
        return plain(*given, **more) * (float("nan") if len(seen) > 20 else 1.0)

    monkeypatch.setattr(lesson, "cross_entropy", broken)
    found = train(digits, out=tmp_path / "run", settings=ASKED)
    assert found.fitted.ended == "loss not finite"
    assert "step" in found.fitted.why
    assert found.fitted.rows
    assert (tmp_path / "run" / "sightline.json").is_file()


# --- another process ----------------------------------------------------------------------------------------

_COMMAND = "from sightline.cli.main import main; main()"
_BROKEN = """
import os
from sightline.training.libraries import import_lightning
import_lightning()
from sightline.training import report
from sightline.training.lesson import Lesson
report.draw_curves = report.draw_roc = lambda *_: None
begin = Lesson.on_train_batch_start
def broken(self, batch, number):
    if (self.current_epoch, number) == (2, 1):
        os.kill(os.getpid(), {how})
    begin(self, batch, number)
Lesson.on_train_batch_start = broken
"""
_OPTIONS = {"model": "mnist1d-cnn", "epochs": 4, "optimizer": "adamw", "lr": 0.003, "schedule": "plateau", "seed": 3}
TYPED = TrainSettings(**_OPTIONS)
_ASKED = ["--no-report", *(word for name, value in _OPTIONS.items() for word in (f"--{name}", str(value)))]


@pytest.fixture
def waves(digits: DataSet, tmp_path: Path) -> Path:
    """Return few series in a file, as the command line takes them."""
    np.savez(tmp_path / "waves.npz", x=digits.train.images, y=digits.train.labels)
    return tmp_path / "waves.npz"


def stopped(waves: Path, out: Path, how: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Train in a process that gets a signal in the middle of its third epoch."""
    command = [sys.executable, "-c", _BROKEN.format(how=int(how)) + _COMMAND, "train", str(waves), *_ASKED]
    # What runs in a shell's background is born deaf to Ctrl-C, and so are its children.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, preexec_fn=heard, timeout=300)


def rows(out: Path) -> list[list[str]]:
    return [line.split(",")[:-1] for line in (out / "history.csv").read_text().splitlines()]


@pytest.mark.slow
def test_a_killed_training_resumed_ends_with_the_metrics_of_an_unbroken_one(waves: Path, tmp_path: Path) -> None:
    assert stopped(waves, tmp_path / "killed", signal.SIGKILL).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "sightline.json").exists()
    assert len(rows(tmp_path / "killed")) == 3
    train(waves, out=tmp_path / "killed", settings=TYPED, resume=True)
    train(waves, out=tmp_path / "whole", settings=TYPED)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    files = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("killed", "whole")]
    assert files[0] == files[1]


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_and_says_how_to_go_on(
    waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(waves, tmp_path / "run", signal.SIGINT)
    assert run.returncode == 130
    assert "--resume" in run.stdout
    assert "interrupted" in run.stdout
    assert (tmp_path / "run" / "sightline.json").is_file()
    assert not list((tmp_path / "run").rglob(".*part*"))
    assert len(rows(tmp_path / "run")) == 3
    assert typed(monkeypatch, waves, tmp_path / "run", "--resume") == 0
    assert len(rows(tmp_path / "run")) == 5


def typed(monkeypatch: pytest.MonkeyPatch, waves: Path, out: Path, *more: str) -> int:
    """Give the command in this process."""
    monkeypatch.setattr(sys, "argv", ["sightline", "train", str(waves), *_ASKED, "--out", str(out), *more])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.mark.slow
def test_no_space_left_keeps_the_last_whole_checkpoint(
    waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files may grow to 40 kB: the first checkpoint, of 60 kB and more, does not fit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        code = typed(monkeypatch, waves, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    told = capsys.readouterr().err
    assert code == 2
    assert "error: " in told
    assert "cannot be written" in told
    assert "Traceback" not in told
    assert not list((tmp_path / "run").rglob("*.ckpt"))
