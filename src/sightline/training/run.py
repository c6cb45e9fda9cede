"""`train`: from a folder and a model's name to a trained classifier that can be explained."""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import InputError, ModelError, ParameterError
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models import keras, zoo
from sightline.models.adapted import bare
from sightline.models.bundle import write_bundle
from sightline.models.load import load
from sightline.models.model import Model
from sightline.training.augment import read_augmentation
from sightline.training.data import DataSet
from sightline.training.folders import read_folder
from sightline.training.heads import trainable
from sightline.training.history import Row, best_row
from sightline.training.job import Fitted, Job, Told
from sightline.training.libraries import import_lightning, import_tensorboard
from sightline.training.place import check_place, prepared
from sightline.training.presets import GENERATED, PRESETS
from sightline.training.series import read_series
from sightline.training.settings import TrainSettings

__all__ = ["Training", "train"]


@dataclass(frozen=True, eq=False)
class Training:
    """A training that ended: the model with its best weights, every epoch, how it ended, and where it all is."""

    model: Model
    data: DataSet
    settings: TrainSettings
    fitted: Fitted
    test_accuracy: float | None
    out: Path

    @property
    def best(self) -> Row:
        """The epoch whose weights were kept."""
        return best_row(self.fitted.rows) if self.settings.restore_best else self.fitted.rows[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return what it came to as plain JSON values."""
        return {
            "out": str(self.out),
            "model": self.settings.model,
            "classes": list(self.data.classes),
            "images": {name: len(part) for name, part in self.data.parts.items()},
            "split": self.data.split,
            "ended": self.fitted.ended,
            "why": self.fitted.why,
            "epochs": len(self.fitted.rows),
            "best": vars(self.best),
            "test_accuracy": self.test_accuracy,
            "notes": [*self.data.notes, *self.fitted.notes],
            "skipped": [dict(s) for s in self.data.skipped],
        }


def train(
    data: str | os.PathLike[str] | DataSet,
    *,
    out: str | os.PathLike[str],
    model: Any = None,
    settings: TrainSettings | None = None,
    resume: bool = False,
    prepare: Callable[[Preprocessing], Preprocessing] | None = None,
    device: str = "auto",
    trust: bool = False,
    report: bool = True,
    told: Told | None = None,
) -> Training:
    """Train a classifier on a folder of class folders and write it to ``out``, where `load(out)` finds it.

    ``data`` is what `read_folder` or `read_series` takes, a name of `GENERATED` ("mnist1d", "demo/honest"), or a
    `DataSet`. ``model`` is what `load` takes, by default that of the settings; an object is copied, never changed.
    ``settings`` are by default those of the generated data's own recipe. ``prepare`` changes the model's own
    preprocessing. ``resume`` goes on where a run in ``out`` was broken off: the epoch that was broken is repeated,
    and since all randomness follows from seed, epoch and example, the end is that of an unbroken run. ``report``
    explains the worst errors, ranks methods and writes report.html beside the curves, the numbers and the model card.

    Raises InputError for images that cannot be learned from, ParameterError for settings that do not fit,
    ModelError for a model that cannot be had or trained.
    """
    from sightline.training.report import write_results

    told = told or Told()
    asked, own = _asked(data, model, settings)
    check_place(Path(out), data, resume)
    model = _starting(asked, own, prepare, device, trust)
    found = _data(data, model, asked, told)
    for text in (*(f"skipped: {s['reason']}" for s in found.skipped), *(f"note: {n}" for n in found.notes)):
        told.note(text)
    _check_kind(model, found)
    folder = prepared(Path(out), _facts(asked, found, model))
    python = random.getstate()  # from which libraries draw as they are imported
    try:
        fitted = _fit(Job(model, found, asked, folder, resume, told))
    finally:
        random.setstate(python)
        shutil.rmtree(folder / "work", ignore_errors=True)
    fitted = replace(fitted, model=replace(fitted.model, labels=Labels(found.classes)))
    architecture = "" if own is not None else (asked.model or "").partition("@")[0]
    write_bundle(fitted.model, architecture, folder, heads=fitted.about.get("heads", ()))
    made = Training(fitted.model, found, asked, fitted, None, folder)
    return write_results(made, told, report=report)


def _asked(data: Any, model: Any, settings: TrainSettings | None) -> tuple[TrainSettings, Any]:
    """Return the settings with the name of the model, and the model itself where an object came."""
    usual = None if isinstance(data, DataSet) else PRESETS.get(str(data))
    asked = settings or usual or TrainSettings()
    if not isinstance(asked, TrainSettings):
        raise ParameterError(f"settings came as a {type(asked).__name__}; wanted sightline.TrainSettings(...).")
    if not isinstance(data, (str, os.PathLike, DataSet)):
        raise InputError(f"a {type(data).__name__} came as data; wanted a folder, an .npz of series or a DataSet.")
    if isinstance(model, (str, os.PathLike)):
        return replace(asked, model=os.fspath(model)), None
    if model is None and asked.model is None:
        raise ParameterError("no model came; name one, as in --model mobilenet_v2, or a preset.")
    return asked, keras.copied(model) if keras.is_keras(model) else model


class _Untold(logging.Filter):
    """Leave out that the weights are random: they are about to be learned."""

    def filter(self, record: logging.LogRecord) -> bool:
        return zoo.RANDOM not in record.getMessage()


@contextmanager
def _untold() -> Iterator[None]:
    log, without = logging.getLogger("sightline"), _Untold()
    log.addFilter(without)
    try:
        yield
    finally:
        log.removeFilter(without)


def _starting(
    asked: TrainSettings,
    own: Any,
    prepare: Callable[[Preprocessing], Preprocessing] | None,
    device: str,
    trust: bool,
) -> Model:
    with _untold():
        given: Any = own if own is not None else asked.model
        model = load(given, weights=asked.weights, device=device, trust=trust, seed=asked.seed)
    if model.input_dims != 2 and not read_augmentation(asked.augment).is_none:
        raise ParameterError(f"augment={asked.augment}: series are not turned or cropped; wanted none.")
    model = trainable(model, asked.seed)
    how = model.preprocessing if asked.image_size is None else _sized(model.preprocessing, asked.image_size)
    how = how if prepare is None else prepare(how)
    if how == model.preprocessing:
        return model
    return replace(model, preprocessing=how, input_size=None, _layers={})


def _sized(how: Preprocessing, side: int) -> Preprocessing:
    """Return the same for inputs of another side, with the same margin around the crop."""
    if how.crop is None or not isinstance(how.resize, int):
        return replace(how, resize=(side, side), crop=None)
    crop = how.crop if isinstance(how.crop, int) else min(how.crop)
    return replace(how, resize=round(side * how.resize / crop), crop=side)


def _data(data: Any, model: Model, asked: TrainSettings, told: Told) -> DataSet:
    if isinstance(data, DataSet):
        return data
    if str(data) in GENERATED and not Path(data).exists():
        return GENERATED[str(data)](asked.seed)
    if str(data).casefold().endswith(".npz") and Path(data).is_file():
        return read_series(data, val_share=asked.val_share, seed=asked.seed)
    return read_folder(
        data,
        val_share=asked.val_share,
        seed=asked.seed,
        channels=model.preprocessing.channels,
        max_pixels=model.max_pixels,
        on_count=lambda count: told.stage("reading", count),
        on_step=told.step,
    )


def _check_kind(model: Model, data: DataSet) -> None:
    """Raise InputError where series came to a network for pictures or the reverse, or series of another length."""
    images = data.train.images
    series = isinstance(images, np.ndarray) and images.dtype != np.uint8
    if series != (model.input_dims != 2):
        takes, came = ("pictures", "series") if series else ("series or volumes", "pictures")
        raise InputError(f"{model.name} takes {takes}, and {data.name} holds {came}; name another model or other data.")
    if series and model.input_size is not None and isinstance(images, np.ndarray):
        points = images.shape[1 : 1 + len(model.input_size)]
        if points != model.input_size:
            have, want = ("x".join(map(str, size)) for size in (points, model.input_size))
            raise InputError(
                f"{model.name} takes {want} points, and those of {data.name} have {have}; cut or resample them, or "
                "name a network of your own: --model FILE.py:FUNCTION."
            )


def _fit(job: Job) -> Fitted:
    if keras.is_keras(bare(job.model.module)):
        if job.data.train.shares is not None or job.data.train.price is not None:
            raise ModelError(f"{job.data.name} asks for shares or prices activity, which Keras' fit does not learn.")
        import_tensorboard()
        from sightline.training import keras_fit

        return keras_fit.fit(job)
    import_lightning()
    from sightline.training.torch_fit import fit

    return fit(job)


def _facts(asked: TrainSettings, data: DataSet, model: Model) -> dict[str, Any]:
    """Return what a run is of: what must be the same for another to go on with it."""
    return {
        "settings": asked.to_dict(),
        "data": {"name": data.name, "hash": data.hash, "classes": list(data.classes)},
        "start": {"weights": model.weights, "hash": model.weights_hash},
        "preprocessing": model.preprocessing.to_dict(),
    }
