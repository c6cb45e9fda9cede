"""What an evaluation is asked: the methods with their controls, the metrics, the images drawn, the truth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from sightline.errors import ParameterError
from sightline.evaluation.measuring import Task, Truth
from sightline.evaluation.objects.reading import Truths
from sightline.evaluation.registry import METRICS, find_metrics, metric_parameters
from sightline.forward import Precision
from sightline.methods import find_methods
from sightline.models.model import Model
from sightline.plan import make_plan
from sightline.results import versions
from sightline.targets import Target

__all__ = [
    "CONTROLS",
    "DEFAULT_METHODS",
    "DEFAULT_METRICS",
    "TRUTH_METRICS",
    "drawn_numbers",
    "made_task",
    "root_of",
    "settings_of",
]

CONTROLS = ("random", "edges", "centre", "constant")
DEFAULT_METHODS = "grad_cam,layer_cam,gradient,input_x_gradient,guided_backprop"
DEFAULT_METRICS = "single_deletion,insertion,deletion,parameter_randomization,random_logit"
TRUTH_METRICS = "pointing_game,energy_pointing_game"


def made_task(
    model: Model,
    method: Any,
    metric: Any,
    target: Target,
    truth: Truth | None,
    layer: Any,
    precision: Precision,
    seed: int,
    given: Mapping[str, Any],
) -> Task:
    """Return what is done with each batch; ParameterError for metrics that need a truth that is not there."""
    metrics = find_metrics(metric)
    blind = [m.name for m in metrics if "truth" in m.needs]
    if blind and truth is None:
        raise ParameterError(
            f"{' and '.join(blind)} compare with where the object is; give boxes or masks (--boxes FILE), or leave "
            f"{'them' if len(blind) > 1 else 'it'} out."
        )
    of_metrics = {k: v for k, v in given.items() if k.partition(".")[0] in METRICS}
    plan = make_plan(
        model,
        _with_controls(method),
        target,
        contrast=None,
        layer=layer,
        output="logit",
        precision=precision,
        seed=seed,
        chunk=None,
        parameters={k: v for k, v in given.items() if k not in of_metrics},
        tick=None,
    )
    return Task(plan, metrics, metric_parameters(metrics, of_metrics), truth)


def _with_controls(method: Any) -> list[str]:
    named = [m.name for m in find_methods(method)]
    return [*named, *(c for c in CONTROLS if c not in named)]


def drawn_numbers(images: int, limit: int | None, seed: int) -> list[int]:
    """Return numbers of images in a drawn order, ``limit`` of them: the first of a folder may all be of one class."""
    if limit is not None and limit < 1:
        raise ParameterError(f"limit={limit}: wanted at least 1 image.")
    return [int(i) for i in np.random.default_rng(seed).permutation(images)[:limit]]


def root_of(images: Any) -> str:
    """Return the folder that all image files share."""
    paths = [os.fsdecode(i) for i in images if isinstance(i, (str, os.PathLike))] if isinstance(images, list) else []
    return os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in paths]) if paths else ""


def settings_of(task: Task, seed: int, images: int) -> dict[str, Any]:
    """Return what decides the values, as plain JSON: a run goes on only with the same."""
    plan = task.plan
    return {
        "model": plan.model.name,
        "weights": plan.model.weights,
        "weights_hash": plan.model.weights_hash,
        "preprocessing": plan.model.preprocessing.describe(),
        "target": str(plan.targets[0]),
        "methods": {m.name: {k: _plain(v) for k, v in plan.parameters[m.name].items()} for m in plan.methods},
        "layers": list(plan.layers),
        "metrics": {m.versioned: {k: _plain(v) for k, v in task.parameters[m.name].items()} for m in task.metrics},
        "precision": plan.options.precision,
        "truth": task.truth.describe() if isinstance(task.truth, Truths) else task.truth and "given",
        "versions": versions(),
        "seed": seed,
        "images": images,
    }


def _plain(value: Any) -> Any:
    shape = getattr(value, "shape", None)
    return f"array {tuple(shape)}" if shape is not None else value
