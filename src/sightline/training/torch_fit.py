"""Train a torch network with Lightning: early stopping, the best and the last checkpoint, exact resumption."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from sightline.errors import ModelError
from sightline.output import written
from sightline.training.augment import read_augmentation
from sightline.training.features import features_of, tail_of
from sightline.training.heads import find_heads, with_heads
from sightline.training.history import SCORE, Row, event_log, is_over, row_of, write_history
from sightline.training.job import Ended, Fitted, Job, NotFiniteError, told_plan
from sightline.training.lesson import Lesson, steps_in_epoch
from sightline.training.trunk import Trunk, freeze

__all__ = ["fit"]

LAST, BEST = "last.ckpt", "best.ckpt"


def fit(job: Job) -> Fitted:
    """Train the job's model, which is changed, and return it with its best weights.

    Raises ModelError where the network has no head to replace, or where not one epoch ended.
    """
    model, asked = job.model, job.settings
    heads = find_heads(model.module, model.example_input().to(model.device, model.dtype))
    if tuple(model.labels) != job.data.classes:  # else it goes on from what it knows of the same question
        with_heads(model.module, heads, len(job.data.classes), asked.seed)
    trunk = freeze(model, heads, job.freeze)
    net, train, val, cached = _examples(job, trunk)
    priced = None if job.data.train.price is None else job.data.train.price.layer
    weights, tell = job.class_weights, job.told.step
    lesson = Lesson(net, train, val, asked, job.lr, kept=trunk.resting, weights=weights, priced=priced, on_step=tell)
    about = job.about(heads, trunk.frozen, trunk.layers, cached)
    notes = (*_folded(job, trunk), *job.frozen_notes(trunk.frozen))
    told_plan(job, about, notes)
    rows, ended, why = _run(job, lesson)
    _load_best(job, net, why)
    trained = replace(model, weights=job.out.name, notes=(), _layers={}, _copies={}, _shuffled={})
    model.module.eval()
    for parameter in model.module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return Fitted(trained, tuple(rows), ended, why, notes, about)


def _folded(job: Job, trunk: Trunk) -> Iterator[str]:
    if trunk.folded:
        yield (
            f"{len(trunk.folded)} batch norms of {job.model.name} were folded into their neighbours (their statistics "
            "are 0 and 1): they stay in evaluation mode."
        )


def _examples(job: Job, trunk: Trunk) -> tuple[nn.Module, Any, Any, bool]:
    """Return the net that is trained with its examples: the tail on kept features where that is exact."""
    augmentation = read_augmentation(job.settings.augment)
    train, val = (job.examples(p) for p in (job.data.train, job.data.val))
    cacheable = augmentation.is_none and job.data.train.price is None  # a price may lie on what is not kept
    tail = tail_of(job.model, trunk.learned) if cacheable else None
    if tail is None:
        return job.model.module, replace(train, augmentation=augmentation), val, False
    job.told.stage("features", len(train) + len(val))
    kept = [
        features_of(job.model, trunk.learned, e, job.out / "work" / f"{n}.f32", job.settings.batch_size, job.told.step)
        for n, e in (("train", train), ("val", val))
    ]
    return tail, kept[0], kept[1], True


# --- Lightning ----------------------------------------------------------------------------------------------


class _Whole(TorchCheckpointIO):
    """Checkpoints written aside and then put in their place: a kill or a full disk leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, *_: Any, **__: Any) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with written(Path(path)) as aside:
            aside.write_bytes(buffer.getbuffer())


class _History(lightning.Callback):
    """Keep every epoch, in the checkpoint too, and tell of it."""

    def __init__(self, job: Job, add: Callable[[Row], None], rows: list[Row]) -> None:
        self.job, self.add, self.rows, self.began = job, add, rows, time.perf_counter()

    def on_train_epoch_start(self, *_: Any) -> None:
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        found = {k: float(v) for k, v in trainer.callback_metrics.items()}
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        row = row_of(
            found | {"epoch": trainer.current_epoch + 1, "lr": rate, "seconds": time.perf_counter() - self.began}
        )
        self.rows = [*[r for r in self.rows if r.epoch < row.epoch], row]
        write_history(self.rows, self.job.out / "history.csv")
        self.add(row)
        self.job.told.epoch(row)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [asdict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [row_of(row) for row in state_dict["rows"]]


def _run(job: Job, lesson: Lesson) -> tuple[list[Row], Ended, str]:
    again = job.checkpoints / LAST if job.resume and (job.checkpoints / LAST).is_file() else None
    before = [] if again is None else _rows_of(again)
    steps = steps_in_epoch(len(lesson.train_examples), job.settings)
    job.told.stage("training", steps * job.settings.epochs)
    job.told.step(steps * len(before))
    with event_log(job.out / "tensorboard", len(before) + 1) as add, _quiet(), torch.random.fork_rng():
        history = _History(job, add, before)
        trainer = _trainer(job, history)
        try:
            if not is_over(before, job.settings.epochs, job.settings.patience):
                trainer.fit(lesson, ckpt_path=again, weights_only=True)
        except NotFiniteError as error:
            return history.rows, "loss not finite", str(error)
        except SystemExit:
            if not trainer.interrupted:  # somebody else's exit, not what Lightning makes of Ctrl-C
                raise
            return history.rows, "interrupted", ""
    early = len(history.rows) < job.settings.epochs
    return history.rows, "stopped early" if early else "finished", ""


def _rows_of(checkpoint: Path) -> list[Row]:
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
    return [row_of(row) for row in kept[_History.__qualname__]["rows"]]


def _trainer(job: Job, history: _History) -> lightning.Trainer:
    kept = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(job.checkpoints, "best", monitor=SCORE, mode="max", **kept)
    last = ModelCheckpoint(job.checkpoints, "last", **kept)  # for save_last writes only where the best is written too
    watched: list[lightning.Callback] = [history, best, last]
    if job.settings.patience:
        watched.append(EarlyStopping(SCORE, 0.0, job.settings.patience, mode="max", check_on_train_epoch_end=True))
    gpu = job.model.device.type == "cuda"
    return lightning.Trainer(
        accelerator="gpu" if gpu else job.model.device.type,
        devices=1,
        precision=("bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed") if gpu else "32-true",
        max_epochs=job.settings.epochs,
        callbacks=watched,
        logger=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=job.out,
        deterministic="warn" if gpu else None,
        plugins=[_Whole()],
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's own reports off the screen, and give Ctrl-C back, which it takes away when it has seen one."""
    before = signal.getsignal(signal.SIGINT)
    logs = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        with contextlib.suppress(ValueError):  # only the main thread may, and only there it was taken
            signal.signal(signal.SIGINT, before)


def _load_best(job: Job, net: nn.Module, why: str) -> None:
    file = job.checkpoints / (BEST if job.settings.restore_best else LAST)
    if not file.is_file():
        raise ModelError(f"{why or 'interrupted'}; not one epoch had ended, so there is nothing to keep.")
    state = torch.load(file, map_location=job.model.device, weights_only=True)["state_dict"]
    net.load_state_dict({k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")})
