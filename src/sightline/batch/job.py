"""What is asked of every image of a run, in a form that any process can be given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sightline.batch.names import digest
from sightline.errors import ParameterError
from sightline.forward import Precision
from sightline.methods import Method
from sightline.models.model import Model
from sightline.plan import Plan, make_plan
from sightline.targets import Output

__all__ = ["Ask", "Job", "asks_of", "plan_of"]


@dataclass(frozen=True)
class Ask:
    """One method and target of a job for one model: ``hash`` tells it from any other."""

    hash: str
    method: str
    target: str
    parameters: str


@dataclass(frozen=True, eq=False)
class Job:
    """The model, by the function that opens it in whatever process it is needed, and what is asked of it.

    ``name`` is the model's as it was given. ``heatmap`` is the side of the maps in the store; ``raw`` keeps the
    attributions too.
    """

    open_model: Callable[[], Model]
    name: str
    methods: tuple[str, ...]
    targets: tuple[str | int, ...]
    contrast: str | int | None = None
    layers: tuple[str, ...] = ()
    output: Output = "logit"
    precision: Precision = "model"
    seed: int = 0
    chunk: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    metric_parameters: Mapping[str, Any] = field(default_factory=dict)
    heatmap: int = 64
    raw: bool = False


def plan_of(job: Job, model: Model) -> Plan:
    """Return the engine's plan of a job; raises what `make_plan` does, and ParameterError for a target asked twice."""
    if len(set(map(str, job.targets))) < len(job.targets):
        raise ParameterError(f"target={list(job.targets)}: one came twice; each is a row of its own.")
    return make_plan(
        model,
        list(job.methods),
        list(job.targets),
        contrast=job.contrast,
        layer=list(job.layers) or None,
        output=job.output,
        precision=job.precision,
        seed=job.seed,
        chunk=job.chunk,
        parameters=job.parameters,
        tick=None,
    )


def asks_of(job: Job, plan: Plan) -> list[Ask]:
    """Return a job's asks: each method with each target."""
    return [_ask(job, plan, method, str(target)) for method in plan.methods for target in job.targets]


def _ask(job: Job, plan: Plan, method: Method, target: str) -> Ask:
    own = {k: _plain(v) for k, v in plan.parameters[method.name].items()}
    how = {
        **own,
        "layer": "+".join(job.layers) or None,
        "output": job.output,
        "precision": job.precision,
        "seed": job.seed,
        "contrast": job.contrast,
        "preprocessing": plan.model.preprocessing.describe(),
    } | ({"metrics": [list(job.metrics), dict(job.metric_parameters)]} if job.metrics else {})
    said = json.dumps(how, sort_keys=True)
    return Ask(digest(plan.model.weights_hash, method.name, said, target), method.name, target, said)


def _plain(value: Any) -> Any:
    """Return a parameter as JSON has it: an array by its shape and a hash of its values."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = np.ascontiguousarray(torch.as_tensor(value).detach().cpu().numpy())
        return f"array {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    return value
