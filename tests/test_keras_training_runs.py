"""A Keras training that is broken off, goes on, ends badly, or is opened again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import keras_jobs as made
import sightline
from keras_jobs import arrays, breaking, data, job, sequential
from sightline.errors import InputError, ModelError
from sightline.models.adapted import bare
from sightline.models.keras import quiet
from sightline.training.history import read_history
from sightline.training.job import Fitted, Told
from sightline.training.keras_fit import fit
from sightline.training.keras_state import Keeper
from sightline.training.run import train
from sightline.training.settings import TrainSettings

RULES = {
    "plateau": {"schedule": "plateau", "lr": 1e-6, "patience": 6, "momentum": 0.9, "augment": "hflip,crop"},
    "cosine": {"schedule": "cosine", "optimizer": "adamw", "freeze": "none", "lr": 0.01},
    "kept features": {"schedule": "one-cycle", "freeze": "features", "steps_per_epoch": 2},
}
EPOCHS = 6


class Broken(Exception):
    """A machine that stops."""


def stop() -> None:
    raise Broken


def end_of(learned: Fitted) -> tuple:
    rows = [{k: v for k, v in vars(row).items() if k != "seconds"} for row in learned.rows]
    return learned.ended, rows, [w.tobytes() for w in arrays(bare(learned.model.module))]


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_run_ends_as_an_unbroken_one(tmp_path, rule):
    asked = {"epochs": EPOCHS} | RULES[rule]
    want = end_of(fit(job(sequential(), tmp_path / "whole", **asked)))
    steps = asked.get("steps_per_epoch", 3)
    with pytest.raises(Broken):
        fit(job(sequential(), tmp_path / "broken", told=breaking(4 * steps + 2, stop), **asked))
    assert len(read_history(tmp_path / "broken" / "history.csv")) == 4
    torch.manual_seed(99)
    assert end_of(fit(job(sequential(), tmp_path / "broken", resume=True, **asked))) == want


def test_a_run_broken_while_it_wrote_goes_on_from_the_epoch_before(tmp_path, monkeypatch):
    want = end_of(fit(job(sequential(), tmp_path / "whole", lr=0.2, freeze="none")))
    tidy = Keeper._tidy

    def broken(self) -> None:
        if len(self.rows) == 2:
            raise Broken
        tidy(self)

    monkeypatch.setattr(Keeper, "_tidy", broken)
    with pytest.raises(Broken):
        fit(job(sequential(), tmp_path / "broken", lr=0.2, freeze="none"))
    monkeypatch.setattr(Keeper, "_tidy", tidy)
    (tmp_path / "broken" / "checkpoints" / "best-0003.weights.h5").write_bytes(b"half")
    assert end_of(fit(job(sequential(), tmp_path / "broken", resume=True, lr=0.2, freeze="none"))) == want


def test_a_run_that_ended_is_not_gone_on_with(tmp_path):
    asked = {"epochs": 9, "patience": 2, "lr": 1e-12}
    want = end_of(fit(job(sequential(), tmp_path, **asked)))
    told: list[int] = []
    again = fit(job(sequential(), tmp_path, resume=True, told=Told(epoch=lambda row: told.append(row.epoch)), **asked))
    assert end_of(again) == want
    assert want[0] == "stopped early"
    assert not told


def test_an_interruption_keeps_the_best(tmp_path):
    def interrupt(row) -> None:
        if row.epoch == 2:
            raise KeyboardInterrupt

    learned = fit(job(sequential(), tmp_path / "a", told=Told(epoch=interrupt), freeze="none"))
    assert (learned.ended, len(learned.rows)) == ("interrupted", 2)
    want = end_of(fit(job(sequential(), tmp_path / "b", freeze="none")))
    assert end_of(fit(job(sequential(), tmp_path / "a", resume=True, freeze="none"))) == want


def test_a_loss_that_is_not_finite_stops_and_keeps_the_best(tmp_path):
    def spoil(row) -> None:
        if row.epoch == 2:
            net = started.model.module.inner
            with torch.no_grad():
                net.layers[0].kernel.value[:] = float("nan")

    started = job(sequential(classes=3), tmp_path / "a", told=Told(epoch=spoil), weights="random", freeze="none")
    learned = fit(started)
    assert (learned.ended, len(learned.rows)) == ("loss not finite", 2)
    assert learned.why.startswith("the loss became nan in epoch 3, step 1: at a learning rate of 0.05")
    assert all(np.isfinite(w).all() for w in arrays(bare(learned.model.module)))
    with pytest.raises(ModelError, match=r"epoch 1, step .* not one epoch had ended"):
        fit(job(sequential(), tmp_path / "b", lr=1e30, freeze="none"))


def test_a_full_disk_is_a_sentence_and_costs_no_epoch(tmp_path, monkeypatch):
    save, saved = made.keras.Sequential.save_weights, []

    def full(self, file, **options) -> None:
        if saved:
            raise OSError(28, "No space left on device")
        saved.append(file)
        save(self, file, **options)

    asked = {"epochs": 6, "freeze": "none", "optimizer": "adam", "lr": 0.03}
    monkeypatch.setattr(made.keras.Sequential, "save_weights", full)
    with pytest.raises(InputError, match=r"best-.* cannot be written \(No space left on device\); make room"):
        fit(job(sequential(rate=0.0), tmp_path / "a", **asked))
    monkeypatch.undo()
    want = end_of(fit(job(sequential(rate=0.0), tmp_path / "b", **asked)))
    assert end_of(fit(job(sequential(rate=0.0), tmp_path / "a", resume=True, **asked))) == want


def test_its_events_are_read_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    learned = fit(job(sequential(), tmp_path))
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("accuracy/validation")
    assert [(e.step, pytest.approx(e.value)) for e in found] == [(r.epoch, r.val_accuracy) for r in learned.rows]


# --- the whole way --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    with quiet():
        sequential().save(folder / "start.keras")
    asked = TrainSettings(model=str(folder / "start.keras"), epochs=2, batch_size=8, optimizer="sgd", lr=0.05)
    train(data(), out=folder / "run", settings=asked, report=False)
    return folder / "run"


def test_a_bundle_opens_with_its_classes_and_preprocessing(bundle):
    found = sightline.load(bundle)
    assert tuple(found.labels) == made.CLASSES
    assert found.name == "run"
    assert found.input_size == (12, 12)
    about = json.loads((bundle / "sightline.json").read_text())
    assert about["kind"] == "keras"
    assert about["heads"][0] == "head"
    picture = data().val.images[0]
    explanation = sightline.explain(found, picture, method="grad_cam")
    assert explanation.predictions[0]["label"] in made.CLASSES
    examples = np.concatenate([v.ravel() for v in arrays(bare(found.module))])
    assert np.isfinite(examples).all()


def test_the_command_line_explains_it(bundle, tmp_path):
    from PIL import Image

    Image.fromarray(data().val.images[0]).save(tmp_path / "one.png")
    command = ["explain", str(tmp_path / "one.png"), "--model", str(bundle), "--out", str(tmp_path / "maps")]
    done = subprocess.run(
        [sys.executable, "-c", "from sightline.cli.main import main; main()", *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert list((tmp_path / "maps").glob("*.png"))


# --- kill -9 --------------------------------------------------------------------------------------------------

ASKED = {"epochs": 5, "freeze": "none", "augment": "all", "schedule": "plateau", "batch_size": 4}
PROGRAM = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from keras_jobs import breaking, job, sequential
from sightline.training.keras_fit import fit
told = breaking(3 * 6 + 2, lambda: os.kill(os.getpid(), {how}))
fit(job(sequential(), Path({out!r}), told=told, **{asked}))
"""


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path):
    text = PROGRAM.format(
        tests=str(Path(__file__).parent), out=str(tmp_path / "killed"), how=int(signal.SIGKILL), asked=ASKED
    )
    assert subprocess.run([sys.executable, "-c", text], timeout=300).returncode == -signal.SIGKILL
    assert len(read_history(tmp_path / "killed" / "history.csv")) == 3
    fit(job(sequential(), tmp_path / "killed", resume=True, **ASKED))
    fit(job(sequential(), tmp_path / "whole", **ASKED))
    whole, killed = (read_history(tmp_path / n / "history.csv") for n in ("whole", "killed"))
    assert [replace(r, seconds=0.0) for r in whole] == [replace(r, seconds=0.0) for r in killed]
    lasts = [np.load(tmp_path / n / "checkpoints" / "last.npz") for n in ("whole", "killed")]
    names = [n for n in lasts[0].files if n != "about"]
    assert len(names) > 20
    assert all(np.array_equal(lasts[0][n], lasts[1][n]) for n in names)
    bests = [sorted(f.name for f in (tmp_path / n / "checkpoints").glob("best*")) for n in ("whole", "killed")]
    assert bests[0] == bests[1]
    assert len(bests[0]) == 1
