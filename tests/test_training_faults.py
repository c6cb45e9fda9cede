"""Trainings that are broken off: killed, interrupted, out of space, lost in NaN. What was learned is kept."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sightline.errors import InputError, ModelError
from sightline.training import run
from sightline.training.data import DataSet, Part
from sightline.training.history import Row
from sightline.training.job import Told
from sightline.training.presets import PRESETS
from sightline.training.run import Training
from sightline.training.series import mnist1d_data
from sightline.training.settings import TrainSettings

train = partial(run.train, report=False)
# A schedule that remembers, an optimizer that remembers, and patience: all that a checkpoint has to hold.
ASKED = replace(PRESETS["mnist1d"], epochs=5, patience=3, optimizer="adamw", lr=3e-3, schedule="plateau")


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def digits() -> DataSet:
    made = mnist1d_data()
    sizes = {"train": 320, "val": 64, "test": 64}
    return replace(made, **{n: Part(p.images[: sizes[n]], p.labels[: sizes[n]]) for n, p in made.parts.items()})


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
    steep = replace(PRESETS["mnist1d"], lr=1e6, epochs=30)
    with pytest.raises(ModelError, match=r"at a learning rate of 1e\+06 steps may be too long; try --lr 0.001"):
        train(digits, out=tmp_path / "steep", settings=steep)


def test_the_best_epoch_outlives_a_loss_that_is_not_finite(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline.training import lesson

    plain, seen = lesson.cross_entropy, []

    def broken(*given: object, **more: object) -> torch.Tensor:
        seen.append(1)
        return plain(*given, **more) * (float("nan") if len(seen) > 60 else 1.0)

    monkeypatch.setattr(lesson, "cross_entropy", broken)
    found = train(digits, out=tmp_path / "run", settings=ASKED)
    assert found.fitted.ended == "loss not finite"
    assert "step" in found.fitted.why
    assert found.fitted.rows
    assert (tmp_path / "run" / "sightline.json").is_file()


# --- another process ----------------------------------------------------------------------------------------

_COMMAND = "from sightline.cli.main import main; main()"
TYPED = replace(
    PRESETS["mnist1d"], epochs=12, steps_per_epoch=40, optimizer="adamw", lr=0.003, schedule="plateau", seed=3
)
_ASKED = [
    "--epochs",
    "12",
    "--steps-per-epoch",
    "40",
    "--optimizer",
    "adamw",
    "--lr",
    "0.003",
    "--schedule",
    "plateau",
    "--seed",
    "3",
]


def started(out: Path, *more: str, limit: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", limit + _COMMAND, "train", "mnist1d", *_ASKED, "--no-report", "--out", str(out)]
    # What runs in a shell's background is born deaf to Ctrl-C, and so are its children.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        [*command, *more], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=heard
    )


def stopped_after(out: Path, epoch: int, how: signal.Signals) -> tuple[int, str, str]:
    process = started(out)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"epoch {epoch:3d}"):
            break
    time.sleep(0.1)  # into the next epoch, of which there are ten more: a busy machine is late
    process.send_signal(how)
    said, told = process.communicate(timeout=120)
    return process.returncode, said, told


def rows(out: Path) -> list[list[str]]:
    return [line.split(",")[:-1] for line in (out / "history.csv").read_text().splitlines()]


@pytest.mark.slow
def test_a_killed_training_resumed_ends_with_the_metrics_of_an_unbroken_one(tmp_path: Path) -> None:
    assert stopped_after(tmp_path / "killed", 2, signal.SIGKILL)[0] == -signal.SIGKILL
    assert not (tmp_path / "killed" / "sightline.json").exists()
    process = started(tmp_path / "killed", "--resume")
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    train("mnist1d", out=tmp_path / "whole", settings=TYPED)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    files = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("killed", "whole")]
    assert files[0] == files[1]


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_and_says_how_to_go_on(tmp_path: Path) -> None:
    code, said, _ = stopped_after(tmp_path / "run", 2, signal.SIGINT)
    assert code == 130
    assert "--resume" in said
    assert "interrupted" in said
    assert (tmp_path / "run" / "sightline.json").is_file()
    assert not list((tmp_path / "run").rglob(".*part*"))
    train("mnist1d", out=tmp_path / "run", settings=TYPED, resume=True)
    assert len(rows(tmp_path / "run")) == 13


@pytest.mark.slow
def test_no_space_left_keeps_the_last_whole_checkpoint(tmp_path: Path) -> None:
    """Files may grow to 40 kB: the first checkpoint, of 60 kB and more, does not fit."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); "
    process = started(tmp_path / "run", limit=limit)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "error: " in told
    assert "cannot be written" in told
    assert "Traceback" not in told
    assert not list((tmp_path / "run").rglob("*.ckpt"))
