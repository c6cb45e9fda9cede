"""From a target to goals: for one batch, a name for each image and a differentiable score for each row of a pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import TargetError
from sightline.forward import Forward
from sightline.labels import Labels
from sightline.models.layouts import find_layout, to_spatial
from sightline.targets import (
    Contrast,
    Joint,
    Output,
    PerImage,
    Region,
    Regression,
    Similarity,
    Target,
    TargetName,
    Unit,
)

__all__ = ["Goal", "answer_goal", "class_scores", "lead_goal", "probabilities", "resolve", "top_count"]

_Score: TypeAlias = Callable[[Forward, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Goal:
    """One target of one batch: a name per image, and ``score(forward, rows) -> (R,)``.

    ``rows`` (R,) says which image of the batch each row of the pass belongs to: a sweep repeats them.
    """

    names: tuple[TargetName, ...]
    score: _Score
    layers: tuple[str, ...] = ()
    classes: Tensor | None = None


def probabilities(forward: Forward) -> Tensor:
    """Return the pass's probabilities (N, K): softmax, or sigmoid for one output and for sigmoid heads."""
    logits = _pooled(forward.logits.detach().float())
    if forward.hidden_head:
        return logits
    if logits.shape[1] == 1 or forward.head in ("sigmoid", "log_sigmoid"):
        return torch.sigmoid(logits)
    return torch.softmax(logits, 1)


def _pooled(logits: Tensor) -> Tensor:
    return logits if logits.ndim == 2 else logits.flatten(2).mean(2)


def class_scores(forward: Forward, output: Output) -> Tensor:
    """Return the differentiable scores (N, K) that the explanation starts from; dense outputs are averaged.

    A single output is given both its sides: class 1 scores z, class 0 scores -z.
    """
    values = _pooled(forward.logits)
    if forward.hidden_head:  # probabilities already; the logits behind them could not be seen
        values = torch.cat((1 - values, values), 1) if values.shape[1] == 1 else values
        return values.log() if output == "log_probability" else values
    values = _both_sides(values)
    if output == "logit":
        return values
    sigmoid = forward.head in ("sigmoid", "log_sigmoid") or forward.logits.shape[1] == 1
    log = F.logsigmoid(values) if sigmoid else F.log_softmax(values, 1)
    return log if output == "log_probability" else log.exp()


def _both_sides(logits: Tensor) -> Tensor:
    return torch.cat((-logits, logits), 1) if logits.shape[1] == 1 else logits


def lead_goal(index: Tensor) -> Goal:
    """Return by how much each image's class (N,) leads: above 0 it is what the model says, below 0 it is not.

    It leads the best of the other classes or, where several classes may hold at once (sigmoids), its own threshold.
    """

    def score(forward: Forward, rows: Tensor) -> Tensor:
        place = index[rows].unsqueeze(1)
        values = class_scores(forward, "logit")
        own = values.gather(1, place).squeeze(1)
        if forward.head in ("sigmoid", "log_sigmoid") and forward.logits.shape[1] > 1:
            return own
        return own - values.scatter(1, place, -torch.inf).amax(1)

    return Goal((TargetName(None, "lead"),) * len(index), score, classes=index)


def answer_goal(images: int) -> Goal:
    """Return which class the model gives: its index as a score (N,), which has no gradient."""
    names = (TargetName(None, "answer"),) * images
    return Goal(names, lambda f, rows: class_scores(f, "logit").detach().argmax(1))


_TOP = re.compile(r"top[-_ ]?(\d+)?", re.IGNORECASE)


def resolve(target: Target, forward: Forward, labels: Labels, output: Output) -> list[Goal]:
    """Turn what the caller said into goals for this batch: one, or k for ``top-k``.

    Raises TargetError for a class or label that the model does not have, with the closest ones.
    """
    k = top_count(target, labels)
    return [_goal(target, forward, labels, output)] if k is None else _top(k, forward, labels, output)


def top_count(target: Target, labels: Labels) -> int | None:
    """Return k of ``top-k``, or None for anything else, such as a class of that name."""
    top = _TOP.fullmatch(target.strip()) if isinstance(target, str) and not labels.has(target) else None
    return None if top is None else int(top[1] or 1)


def _top(k: int, forward: Forward, labels: Labels, output: Output) -> list[Goal]:
    scores = class_scores(forward, "logit").detach()
    if not 1 <= k <= scores.shape[1]:
        raise TargetError(f"top{k}: the model has {scores.shape[1]} classes; give top1 to top{scores.shape[1]}.")
    best = scores.topk(k, dim=1).indices
    return [_class_goal(best[:, i], labels, output) for i in range(k)]


def _goal(target: Target, forward: Forward, labels: Labels, output: Output) -> Goal:
    n = len(forward.x)
    if isinstance(target, (str, int, np.integer)):
        return _said_goal(target, forward, labels, output)
    match target:
        case Contrast(wanted, other):
            return _difference(*(_goal(t, forward, labels, output) for t in (wanted, other)))
        case Joint(parts):
            return _sum([_goal(p, forward, labels, output) for p in parts])
        case PerImage(parts):
            return _each([_goal(p, forward, labels, output) for p in parts], n)
        case Regression(index):
            return _regression_goal(index, forward)
        case Region():
            return _region_goal(target, forward, labels)
        case Unit():
            return _unit_goal(target, n)
        case Similarity(embedding):
            return _similarity_goal(embedding, forward)
    if callable(target):
        return _callable_goal(target, n)
    raise TargetError(
        f"target {target!r}: wanted 'top1', 'top3', a class index, a label, a target object such as "
        "sightline.targets.contrast(a, b), or a function from logits to one score per image."
    )


def _said_goal(said: str | int, forward: Forward, labels: Labels, output: Output) -> Goal:
    """Return the one class that a text or number means."""
    if isinstance(said, bool):
        raise TargetError(f"target {said}: wanted a class index, a label, 'top1' or a target object.")
    k = top_count(said, labels)
    if k is not None:
        goals = _top(k, forward, labels, output)
        if len(goals) != 1:
            raise TargetError(f"{said} is several classes; wanted one here (top1, an index or a label).")
        return goals[0]
    index = labels.find(said, class_scores(forward, "logit").shape[1])
    return _class_goal(torch.full((len(forward.x),), index, device=forward.x.device), labels, output)


def _class_goal(index: Tensor, labels: Labels, output: Output) -> Goal:
    index = index.detach()
    names = tuple(TargetName(i, labels.name(i)) for i in index.tolist())

    def score(forward: Forward, rows: Tensor) -> Tensor:
        return class_scores(forward, output).gather(1, index[rows].unsqueeze(1)).squeeze(1)

    return Goal(names, score, classes=index)


def _difference(a: Goal, b: Goal) -> Goal:
    names = tuple(
        TargetName(x.index, f"{x.label} rather than {y.label}") for x, y in zip(a.names, b.names, strict=True)
    )
    return Goal(names, lambda f, rows: a.score(f, rows) - b.score(f, rows), a.layers + b.layers)


def _sum(goals: list[Goal]) -> Goal:
    if not goals:
        raise TargetError("joint target: no classes were given; wanted at least one.")
    names = tuple(TargetName(None, " + ".join(g.names[i].label for g in goals)) for i in range(len(goals[0].names)))
    layers = tuple(name for g in goals for name in g.layers)
    return Goal(names, lambda f, rows: torch.stack([g.score(f, rows) for g in goals]).sum(0), layers)


def _each(goals: list[Goal], n: int) -> Goal:
    if len(goals) != n:
        raise TargetError(f"{len(goals)} targets came for {n} images; wanted one for each image.")
    layers = tuple(name for g in goals for name in g.layers)

    def score(forward: Forward, rows: Tensor) -> Tensor:
        return torch.stack([g.score(forward, rows) for g in goals])[rows, torch.arange(len(rows), device=rows.device)]

    classes = [g.classes[i] for i, g in enumerate(goals) if g.classes is not None]
    names = tuple(g.names[i] for i, g in enumerate(goals))
    return Goal(names, score, layers, torch.stack(classes) if len(classes) == n else None)


def _regression_goal(index: int, forward: Forward) -> Goal:
    outputs = forward.output.shape[1]
    if not 0 <= index < outputs:
        raise TargetError(f"output {index}: the model has {outputs} outputs, numbered from 0.")
    names = (TargetName(index, f"output {index}"),) * len(forward.x)
    return Goal(names, lambda f, rows: _pooled(f.output)[:, index])


def _region_goal(target: Region, forward: Forward, labels: Labels) -> Goal:
    if forward.logits.ndim < 3:
        raise TargetError(
            f"a region needs a dense output (N, classes, H, W); this model's is {tuple(forward.logits.shape)}."
        )
    inner = _goal(target.target, forward, labels, "logit")
    if inner.classes is None:
        raise TargetError("a region is of one class: give region(class, mask).")
    index, mask = inner.classes, _region_mask(target.mask, forward.logits)

    def score(f: Forward, rows: Tensor) -> Tensor:
        maps = f.logits[torch.arange(len(rows), device=rows.device), index[rows]]
        weights = mask[rows]
        return (maps * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)

    names = tuple(TargetName(name.index, f"{name.label} in the region") for name in inner.names)
    return Goal(names, score, classes=index)


def _region_mask(mask: Any, logits: Tensor) -> Tensor:
    size = logits.shape[2:]
    if mask is None:
        return logits.new_ones((len(logits), *size))
    given = _as_tensor(mask).to(logits)
    given = given if given.ndim == len(size) + 1 else given.expand(len(logits), *given.shape)
    if given.ndim != len(size) + 1 or len(given) != len(logits):
        raise TargetError(f"the region's mask has shape {tuple(given.shape)}; wanted (H, W) or (N, H, W).")
    resized = F.interpolate(given.unsqueeze(1), size=size, mode="area").squeeze(1)
    if (resized.flatten(1).sum(1) == 0).any():
        raise TargetError("the region's mask is empty; wanted at least one position that is not 0.")
    return resized


def _as_tensor(values: Any) -> Tensor:
    return values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))


def _unit_goal(target: Unit, n: int) -> Goal:
    where = f"channel {target.channel}" if target.channel is not None else "mean"
    place = f" at {target.position}" if target.position is not None else ""
    names = (TargetName(target.channel, f"{target.layer} {where}{place}"),) * n
    return Goal(names, lambda f, rows: _unit_score(target, f), (target.layer,))


def _unit_score(target: Unit, forward: Forward) -> Tensor:
    values = forward.taps[target.layer]
    last = target.layer in forward.channels_last
    layout = find_layout(tuple(values.shape), tuple(forward.x.shape[2:]), channels_last=last)
    maps = to_spatial(values, layout) if layout is not None else values
    if target.channel is not None and not 0 <= target.channel < maps.shape[1]:
        raise TargetError(f"channel {target.channel}: {target.layer} has {maps.shape[1]} channels, numbered from 0.")
    channel = maps.mean(1) if target.channel is None else maps[:, target.channel]
    if target.position is None:
        return channel.flatten(1).mean(1) if channel.ndim > 1 else channel
    if len(target.position) != channel.ndim - 1 or any(
        not 0 <= p < s for p, s in zip(target.position, channel.shape[1:], strict=True)
    ):
        raise TargetError(f"position {target.position}: {target.layer} is a map of {tuple(channel.shape[1:])}.")
    for place in target.position:
        channel = channel[:, place]
    return channel


def _similarity_goal(embedding: Any, forward: Forward) -> Goal:
    n, size = len(forward.x), forward.output.flatten(1).shape[1]
    given = _as_tensor(embedding).to(forward.output)
    given = given.expand(n, -1) if given.ndim == 1 else given
    if tuple(given.shape) != (n, size):
        raise TargetError(
            f"the embedding has shape {tuple(given.shape)}; the model's output has {size} values: "
            f"wanted ({size},) or ({n}, {size})."
        )
    names = (TargetName(None, "similarity"),) * n
    return Goal(names, lambda f, rows: F.cosine_similarity(f.output.flatten(1), given[rows], dim=1))


def _callable_goal(function: Callable[[Tensor], Tensor], n: int) -> Goal:
    label = getattr(function, "__name__", type(function).__name__).strip("<>")

    def score(forward: Forward, rows: Tensor) -> Tensor:
        values = function(forward.logits.clone())  # its own copy, should it write in place
        if not isinstance(values, Tensor) or tuple(values.shape) != (len(rows),):
            got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
            raise TargetError(f"the target function returned {got}; wanted one score per image: ({len(rows)},).")
        return values

    return Goal((TargetName(None, label),) * n, score)
