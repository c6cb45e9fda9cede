"""What a training leaves beside its bundle: curves, the classes' numbers, a model card, and a page that says it all."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from sightline.errors import SightlineError
from sightline.evaluation.mistakes.confusions import errors_of
from sightline.evaluation.mistakes.labelled import Labelled
from sightline.evaluation.mistakes.results import ModelErrors
from sightline.evaluation.mistakes.saving import save_errors
from sightline.evaluation.report.page import undirected
from sightline.training.card import card_facts, write_card
from sightline.training.curves import draw_curves, draw_roc
from sightline.training.data import DataSet, Part
from sightline.training.job import Told
from sightline.training.page import Ranked, write_training_page

if TYPE_CHECKING:
    from sightline.training.run import Training

__all__ = ["labelled_part", "write_results"]

_METHOD, _WORST = "grad_cam", 6
# About 110 forward passes an image: two idle cores measure about ten in this time on a net of a laptop's size.
_RANKED, _BUDGET = 16, 30.0
_METRICS = "single_deletion,insertion,random_logit"
_SET = {"insertion.steps": 6}


def write_results(run: Training, told: Told, *, report: bool = True) -> Training:
    """Write what a training came to beside its bundle, and return the training with its test accuracy.

    curves.png, model-card.md, model-card.json, and for the validation part and the test part in a folder of its own:
    errors.json, predictions.parquet, roc.png and report.html. With ``report``, unless the training was interrupted,
    the worst errors are explained, methods are ranked on some validation images, and report.html says it all; what
    refuses the model is named there. Each file is written whole or not at all.
    """
    whole = report and run.fitted.ended != "interrupted"
    title = f"{run.out.resolve().name}: {len(run.data.classes)} classes learned from {len(run.data.train)} examples"
    draw_curves(run.fitted.rows, run.best, run.out / "curves.png", title)
    parts = {"validation": run.data.val} | ({"test": run.data.test} if run.data.test else {})
    found = {name: _errors(run, name, part, told, _WORST if whole else 0) for name, part in parts.items()}
    for name, errors in found.items():
        save_errors(errors, run.out / name)
        draw_roc(errors.classes, run.out / name / "roc.png", f"Each class against the rest, {name} part")
    begun = json.loads((run.out / "run.json").read_text(encoding="utf-8"))
    facts = card_facts(run, found, begun)
    write_card(facts, run.out)
    if whole:
        write_training_page(run, found, _ranked(run, told), facts, run.out / "report.html")
    return replace(run, test_accuracy=found["test"].accuracy.share if "test" in found else None)


# --- errors -------------------------------------------------------------------------------------------------


def labelled_part(data: DataSet, name: str, part: Part) -> Labelled:
    """Return a part of a data set as images of known classes; those in an array are called by their number."""
    if isinstance(part.images, np.ndarray):
        names = [f"number {n}" for n in range(len(part))]
    else:
        names = [_below(data.folder, file) for file in part.images]
    return Labelled(
        f"{data.name}, {name}",
        tuple(part.images),
        tuple(names),
        tuple(int(n) for n in part.labels),
        dict(enumerate(data.classes)),
    )


def _below(folder: str | None, file: str) -> str:
    return PurePath(os.path.relpath(file, folder)).as_posix() if folder else PurePath(file).name


def _errors(run: Training, name: str, part: Part, told: Told, worst: int) -> ModelErrors:
    """Predict a part and explain its worst errors; a method that refuses the model is told, and the numbers stay."""
    return errors_of(
        run.model,
        labelled_part(run.data, name, part),
        method=_METHOD,
        worst=worst,
        seed=run.settings.seed,
        on_failure=lambda failure: told.note(f"{name}: {failure.error}"),
        on_count=lambda count: told.stage(name, count),
        on_step=told.step,
    )


# --- which methods can be believed --------------------------------------------------------------------------


def _ranked(run: Training, told: Told) -> Ranked:
    """Measure a few methods and the controls on some validation images, for so long; write its own report too."""
    from sightline.evaluation.run import evaluate

    part = run.data.val
    count = min(_RANKED, len(part))
    told.stage("methods", count)
    try:
        found = evaluate(
            run.model,
            list(part.images),
            metric=_METRICS,
            limit=count,
            seed=run.settings.seed,
            budget=_BUDGET,
            batch_size=2,  # so that little is begun that the budget would not have
            cards=0,
            parameters=_SET,
            on_failure=lambda failure: told.note(f"methods: {failure.error}"),
            on_step=told.step,
        )
    except SightlineError as error:
        told.note(f"methods: {error}")
        return Ranked(None, count, undirected(error))
    found.report(run.out / "methods" / "report.html")
    return Ranked(found, count)
