"""Train a Keras model with Keras' own `fit`: early stopping, the best and the last checkpoint, exact resumption."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from sightline.errors import InputError, ModelError
from sightline.models.adapted import bare
from sightline.models.keras import import_keras, quiet
from sightline.training.augment import read_augmentation
from sightline.training.features import features_of
from sightline.training.history import SCORE, Row, best_row, event_log, is_over
from sightline.training.job import Ended, Fitted, Job, NotFiniteError, told_plan
from sightline.training.keras_batches import Batches, layout_of
from sightline.training.keras_heads import Trunk, freeze, logits_only, sized, stilled, tail_of, with_head
from sightline.training.keras_lesson import compiled, decayed
from sightline.training.keras_state import LAST, Keeper, Progress, best_file, read_last

__all__ = ["fit"]

keras: Any = import_keras()


def fit(job: Job) -> Fitted:
    """Train the job's model, whose layers are changed, and return it with its best weights.

    Raises ModelError where Keras is not on torch, where the model has no head to replace, or where not one epoch ended.
    """
    _check(job)
    model, asked = job.model, job.settings
    model, end = with_head(sized(model), len(job.data.classes), asked.seed)
    job = replace(job, model=model)
    with quiet(), logits_only(end.closing), freeze(model, job.freeze) as trunk, keras.device(model.device.type):
        lesson = _lesson(job, trunk)
        about = job.about([end.head], trunk.frozen, trunk.layers, lesson.cached)
        notes = (*job.frozen_notes(trunk.frozen), *_baked(lesson))
        told_plan(job, about, notes)
        rows, ended, why = _run(job, lesson)
        _load_best(job, lesson, rows, why)
    trained = replace(model, weights=job.out.name, notes=(), _layers={}, _copies={}, _shuffled={})
    return Fitted(trained, tuple(rows), ended, why, notes, about)


def _check(job: Job) -> None:
    if keras.backend.backend() != "torch":
        raise ModelError(
            f"Keras models are trained on its torch backend, and Keras runs on {keras.backend.backend()} here; set "
            "KERAS_BACKEND=torch before Keras is imported."
        )
    if job.model.fixed:
        raise ModelError(f"{job.model.name} takes further inputs, which no folder gives; wanted a model of one input.")


def _baked(lesson: _Lesson) -> Iterator[str]:
    if lesson.baked:
        yield (
            f"{lesson.baked} weights came with regularisers of their own, which were left out: the weight decay of the "
            "settings took their place."
        )


# --- what is trained ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Lesson:
    """The net whose weights are learned, all or the end, compiled with its examples."""

    net: Any
    trunk: Trunk
    train: Batches
    val: Batches
    learner: Any
    cached: bool
    baked: int


def _lesson(job: Job, trunk: Trunk) -> _Lesson:
    asked, model = job.settings, job.model
    net, train, val, cached = _examples(job, trunk)
    lay = (lambda x: x) if cached else layout_of(model)
    norms = any(isinstance(part, keras.layers.BatchNormalization) and part.trainable for part in net._flatten_layers())
    given = Batches(train, asked, lay, model.device, weights=job.class_weights, shuffled=True, paired=norms)
    held = Batches(val, asked, lay, model.device)
    baked = len({v.path for v in net.trainable_variables if v.regularizer is not None})
    learner = compiled(net, asked, job.lr, len(job.data.classes), len(given), model.device)
    return _Lesson(net, trunk, given, held, learner, cached, baked)


def _examples(job: Job, trunk: Trunk) -> tuple[Any, Any, Any, bool]:
    """Return the net that is trained with its examples: the learned end on kept features where that is exact."""
    augmentation = read_augmentation(job.settings.augment)
    train, val = (job.examples(p) for p in (job.data.train, job.data.val))
    tail = tail_of(job.model, trunk) if augmentation.is_none else None
    if tail is None:
        return bare(job.model.module), replace(train, augmentation=augmentation), val, False
    job.told.stage("features", len(train) + len(val))
    first, size = trunk.learned[0], job.settings.batch_size
    kept = [
        features_of(job.model, first, e, job.out / "work" / f"{n}.f32", size, job.told.step)
        for n, e in (("train", train), ("val", val))
    ]
    return tail, kept[0], kept[1], True


# --- Keras' fit -----------------------------------------------------------------------------------------------


def _run(job: Job, lesson: _Lesson) -> tuple[list[Row], Ended, str]:
    asked, last = job.settings, job.checkpoints / LAST
    kept = read_last(last) if job.resume and last.is_file() else None
    before = () if kept is None else kept.rows
    job.told.stage("training", len(lesson.train) * asked.epochs)
    job.told.step(len(lesson.train) * len(before))
    with contextlib.ExitStack() as stack:
        add = stack.enter_context(event_log(job.out / "tensorboard", len(before) + 1))
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(decayed(lesson.net, asked))
        stack.enter_context(contextlib.nullcontext() if lesson.cached else stilled(job.model, lesson.trunk))
        others = _callbacks(job)
        keeper = Keeper(job, lesson.net, others, add, kept)
        try:
            if not is_over(before, asked.epochs, asked.patience):
                _fit(lesson, [Progress(job, lesson.train), *others.values(), keeper], len(before), asked.epochs)
        except NotFiniteError as error:
            return keeper.rows, "loss not finite", str(error)
        except KeyboardInterrupt:
            return keeper.rows, "interrupted", ""
    return keeper.rows, "stopped early" if len(keeper.rows) < asked.epochs else "finished", ""


def _fit(lesson: _Lesson, callbacks: list[Any], first: int, epochs: int) -> None:
    lesson.learner.fit(
        lesson.train,
        validation_data=lesson.val,
        initial_epoch=first,
        epochs=epochs,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )


class _BestNet(keras.callbacks.ModelCheckpoint):
    """The best weights of the net alone: the optimizer's state would double the file."""

    def set_model(self, model: Any) -> None:
        """Watch the net, not the learner around it."""
        super().set_model(model.net)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the weights if they are the best; the file of an older best stays until that is done."""
        try:
            super().on_epoch_end(epoch, logs)
        except OSError as error:
            raise InputError(
                f"{self.filepath} cannot be written ({error.strerror or error}); make room, or name another --out DIR."
            ) from None


def _callbacks(job: Job) -> dict[str, Any]:
    """Return Keras' own callbacks that count something, by name."""
    watched, asked = {"monitor": SCORE, "mode": "max"}, job.settings
    file = str(job.checkpoints / "best-{epoch:04d}.weights.h5")
    found = {
        "best": _BestNet(file, **watched, save_best_only=True, save_weights_only=True),
    }
    if asked.patience:
        found["early"] = keras.callbacks.EarlyStopping(**watched, patience=asked.patience)
    if asked.schedule == "plateau":
        found["plateau"] = keras.callbacks.ReduceLROnPlateau(**watched, factor=0.5, patience=3, min_delta=0.0)
    for counting in found.values():
        counting.monitor_op = operator.gt  # Keras' own compares in float32, where scores of equal accuracy are the same
    return found


def _load_best(job: Job, lesson: _Lesson, rows: list[Row], why: str) -> None:
    if not rows:
        raise ModelError(f"{why or 'interrupted'}; not one epoch had ended, so there is nothing to keep.")
    best = best_file(job.checkpoints, best_row(rows).epoch)
    if job.settings.restore_best:
        lesson.net.load_weights(best)
    else:
        lesson.net.set_weights(read_last(job.checkpoints / LAST).weights)
