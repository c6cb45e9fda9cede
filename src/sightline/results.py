"""From an attribution and its recording to the frozen result."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.completeness import Completeness
from sightline.explanation import Explanation, Prediction
from sightline.forward import Forward
from sightline.goals import probabilities
from sightline.methods import METHODS, Method
from sightline.models.model import Model
from sightline.plan import Plan
from sightline.recording import Recording
from sightline.samples import Sample

__all__ = ["best_classes", "chances_of", "explanation_of", "predictions_of", "versions"]

_TOP = 5
_GAP = 0.05
_HIDDEN = "the model gives probabilities and its logits cannot be seen, so the probability is explained"


def explanation_of(
    plan: Plan, view: Recording, method: Method, attribution: Tensor, row: int, sample: Sample
) -> Explanation:
    """Freeze one row of a batch's attribution into a result."""
    values = attribution[row].detach().cpu().float().numpy().copy()
    completeness = view.reports.get("completeness")
    error = view.reports.get("standard_error")
    parameters = dict(plan.parameters[method.name])
    found = Explanation(
        attribution=values,
        method=method.name,
        target=view.goal.names[row],
        score=float(view.scores[row]),
        parameters=parameters,
        predictions=predictions_of(view.shared.forward, plan.model, row),
        input_size=tuple(sample.x.shape[1:]),
        style=_style(method, values, parameters),
        per_channel="reduction" in method.parameters,
        layer="+".join(plan.layers_for(method, view.x)) or None,
        image=sample.pixels,
        signal=sample.signal,
        geometry=sample.geometry,
        coverage=view.coverages[0] if view.coverages else None,
        completeness=completeness[row] if completeness else None,
        standard_error=float(error[row].abs().mean()) if error is not None else None,
        precision=_precision(plan),
        provenance=_provenance(plan, sample),
    )
    notes = (_HIDDEN,) if view.shared.forward.hidden_head and plan.options.output == "logit" else ()
    own = tuple(t for n in view.reports.get("notes", ()) if (t := n if isinstance(n, str) else n[row]))
    agreement = tuple(str(a) for a in (view.reports.get("agreement"),) if a is not None)
    said = (*notes, *own, *_notes(found, told=bool(own), asked_layers=bool(plan.layers)))
    return replace(found, notes=(*agreement, *said))


def _precision(plan: Plan) -> str:
    asked = plan.options.precision
    return asked if asked in ("bfloat16", "float16") else str(plan.model.dtype).removeprefix("torch.")


def _style(method: Method, values: np.ndarray, parameters: Mapping[str, Any]) -> Any:
    """Draw what is signed with a diverging map, whatever the method's usual style."""
    signed = bool((values < 0).any())
    reduction = parameters.get("reduction")
    if reduction in ("max-abs", "sum-abs", "l2"):
        return "grey" if method.style == "diverging" else method.style
    return "diverging" if signed else ("sequential" if method.style == "grey" else method.style)


def _notes(e: Explanation, *, told: bool, asked_layers: bool) -> tuple[str, ...]:
    notes = []
    if not told and not e.attribution.any():
        notes.append("the map is zero everywhere: nothing here speaks for this target by this method")
    elif not told and _is_constant(e.reduced) and METHODS[e.method].family != "control":
        notes.append("the map is the same everywhere, so it tells no place from another")
    if e.layer is None and asked_layers and "layer" not in METHODS[e.method].reads:
        notes.append("layer= changes nothing here: this method reads no layer")
    if e.completeness is not None and e.completeness.gap > _GAP:
        notes.append(_unbalanced(e, e.completeness))
    if e.coverage is not None and e.coverage.unchanged:
        kept = ", ".join(
            f"{n} {name.removesuffix('0').removesuffix('Backward')}" for name, n in e.coverage.unchanged.items()
        )
        notes.append(f"{e.coverage.changed} ReLUs changed; left as they are: {kept}")
    if e.coverage is not None and e.coverage.unseen:
        notes.append(f"could not see into: {', '.join(e.coverage.unseen)}")
    return tuple(notes)


def _is_constant(values: np.ndarray) -> bool:
    return values.size > 1 and float(np.ptp(values)) <= 1e-5 * float(np.abs(values).max())


def _unbalanced(e: Explanation, sums: Completeness) -> str:
    if METHODS[e.method].family == "relevance":
        return f"the relevance adds up to {sums.total:.3g} of a score of {sums.expected:.3g}; biases hold the rest"
    if e.method == "full_grad":
        return (
            f"the input and the biases add up to {sums.total:.3g} of a score of {sums.expected:.3g}; products, norms "
            "and softmaxes hold the rest"
        )
    if e.layer is not None:
        return (
            f"incomplete: the sum is {sums.gap:.0%} off f(x) - f(baseline); take more steps, or another layer where "
            "something passes this one by"
        )
    more = "steps" if "steps" in e.parameters else "samples"
    return f"incomplete: the sum is {sums.gap:.0%} off f(x) - f(baseline); take more {more}"


def predictions_of(forward: Forward, model: Model, row: int) -> list[Prediction]:
    """Return one row's best classes, best first, with logit and probability."""
    logits, chances = _scores_of_classes(forward, row)
    return best_classes(model, None if forward.hidden_head else logits, chances)


def chances_of(forward: Forward, row: int) -> Tensor:
    """Return one row's probability of every class (K,); one output has two sides."""
    return _scores_of_classes(forward, row)[1]


def best_classes(model: Model, logits: Tensor | None, chances: Tensor) -> list[Prediction]:
    """Return the classes of the highest probabilities (K,), best first; by the logits, which tell equal ones apart."""
    best = (chances if logits is None else logits).topk(min(_TOP, len(chances))).indices.tolist()
    return [
        Prediction(
            index=i,
            label=model.labels.name(i),
            id=model.labels.id(i),
            logit=None if logits is None else float(logits[i]),
            probability=float(chances[i]),
        )
        for i in best
    ]


def _scores_of_classes(forward: Forward, row: int) -> tuple[Tensor, Tensor]:
    alone = replace(forward, logits=forward.logits[row : row + 1])  # each row asks: not for all rows each time
    chances = probabilities(alone)[0].cpu()
    logits = alone.logits.detach().float()[0].cpu()
    logits = logits.flatten(1).mean(1) if logits.ndim > 1 else logits
    if len(chances) == 1:  # one output has two sides
        return torch.cat((-logits, logits)), torch.cat((1 - chances, chances))
    return logits, chances


@cache
def versions() -> dict[str, str]:
    """Return the versions that decide what comes out."""
    from importlib.metadata import version

    return {
        "sightline": version("sightline"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _provenance(plan: Plan, sample: Sample) -> dict[str, Any]:
    model = plan.model
    return {
        "model": model.name,
        "weights": model.weights,
        "weights_hash": model.weights_hash,
        "preprocessing": sample.how,
        "image": sample.name,
        "image_hash": sample.hash,
        "output": plan.options.output,
        "seed": plan.options.seed,
        "device": str(model.device),
        "versions": versions(),
    }
