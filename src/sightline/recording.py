"""A recording: one batch through one model, read on demand, remembered.

Methods are functions over a recording. What two methods, five classes or three layers ask alike is computed once:
one forward pass for all, one backward pass for each (target, rule).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from sightline.backward import gradients_of, no_path
from sightline.completeness import Completeness
from sightline.errors import LayerError, ModelError, RefusedError
from sightline.forward import Forward, Precision, run_forward
from sightline.goals import Goal, resolve
from sightline.graph import RULES, Coverage, applied
from sightline.models.layouts import Layout, find_layout, from_spatial, to_spatial
from sightline.models.model import Model
from sightline.models.session import undisturbed
from sightline.propagation import ForwardRule, Pass, Propagated
from sightline.quick import swept
from sightline.targets import Output, Target, layers_of

__all__ = ["Options", "Recording", "record"]

T = TypeVar("T")

# More would not be faster on a CPU: beyond this, fresh memory costs more than larger batches save.
_CHUNK_BYTES = int(os.environ.get("SIGHTLINE_CHUNK_BYTES", 1 << 28))
_MOST_POINTS = 64


@dataclass(eq=False)
class _Pass:
    """What all views of one recording share: the pass, and what was read from it."""

    model: Model
    forward: Forward
    options: Options
    gradients: dict[tuple[int, str], tuple[dict[str, Tensor | None], Coverage | None]] = field(default_factory=dict)
    memo: dict[Hashable, Any] = field(default_factory=dict)
    goals: dict[int, Goal] = field(default_factory=dict)
    passes: list[int] = field(default_factory=lambda: [1, 0])


@dataclass(frozen=True)
class Options:
    """How passes are made: what autograd starts at, which layers are tapped, and how large a chunk may be."""

    layers: tuple[str, ...] = ()
    from_input: bool = True
    output: Output = "logit"
    precision: Precision = "model"
    seed: int = 0
    chunk: int | None = None
    tick: Callable[[int], None] | None = None


@dataclass(frozen=True, eq=False)
class Recording:
    """A view of one pass for one target and one layer, or several: the object that every method reads.

    Shapes: N images, C channels, S the spatial size (H, W), (L,) or (D, H, W). Layers come as (N, C, *S) whatever
    their layout in the model.
    """

    shared: _Pass
    goal: Goal
    rows: Tensor
    layers: tuple[str, ...] = ()
    coverages: list[Coverage] = field(default_factory=list)
    reports: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        """The model that was run."""
        return self.shared.model

    @property
    def x(self) -> Tensor:
        """The batch (N, C, *S) as the model got it."""
        return self.shared.forward.x.detach()

    @property
    def layer(self) -> str | None:
        """The layer that this view is about, the first of several."""
        return self.layers[0] if self.layers else None

    @property
    def seed(self) -> int:
        """The seed from which the noise of sampled methods is drawn."""
        return self.shared.options.seed

    @property
    def scores(self) -> Tensor:
        """The target's score for each image (N,)."""
        with torch.no_grad():
            return self.score().detach()

    def score(self) -> Tensor:
        """Return the target's score for each image (N,), differentiable where the pass was."""
        return self.goal.score(self.shared.forward, self.rows)

    def activation(self, layer: str | None = None) -> Tensor:
        """Return the layer's output (N, C, *S), by default of the layer that this recording is about.

        Raises LayerError where the layer has no spatial extent.
        """
        name = self._layer_name(layer)
        return _readable(to_spatial(self._tap(name).detach(), self._layout(name)))

    def gradient(self, at: str = "input", rule: str = "standard") -> Tensor:
        """Return d score / d ``at``: (N, C, *S) of the input or of a layer, under a backward rule.

        ``at`` is "input", "layer" (the one this recording is about) or a layer's name; ``rule`` is "standard",
        "guided" or "deconv". Raises RefusedError where the rule finds nothing to change.
        """
        where = self._layer_name(None) if at == "layer" else at
        gradients, coverage = self._gradients(rule)
        if coverage is not None and coverage not in self.coverages:
            self.coverages.append(coverage)
        found = gradients.get(where)
        if found is None:
            raise no_path(where, self.goal)
        return _readable(found if where == "input" else to_spatial(found, self._layout(where)))

    def memo(self, compute: Callable[..., T], **parameters: Hashable) -> T:
        """Return ``compute(recording, **parameters)``, computed once for this target, layer and parameters."""
        key = (compute, id(self.goal), self.layers, tuple(sorted(parameters.items())))
        self._keep_goal()
        if key not in self.shared.memo:
            self.shared.memo[key] = compute(self, **parameters)
        found: T = self.shared.memo[key]
        return found

    def children(self, points: Iterable[Tensor], *, grad: bool = True) -> Iterator[tuple[Recording, int]]:
        """Run other inputs, each (N, C, *S), in chunks of k, and yield a recording of k·N rows and k for each chunk.

        The rows lie point by point. A chunk's graph is freed before the next one is made.
        """
        source = iter(points)
        size = self._chunk(grad=grad)
        while chunk := list(islice(source, size)):
            child = self._child(torch.cat(chunk), len(chunk), grad)
            yield child, len(chunk)
            child.close()
            self.tick(len(chunk))

    def gradients_at(self, points: Iterable[Tensor], rule: str = "standard") -> Iterator[Tensor]:
        """Yield d score / d input (N, C, *S) at each of the points, in their order; lazy, chunked by memory."""
        for child, size in self.children(points):
            yield from child.gradient("input", rule).unflatten(0, (size, -1)).unbind(0)

    def scores_at(self, points: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the target's scores (N,) at each of the points, in their order; lazy, chunked by memory."""
        return swept(self, points, Recording._scores_at)

    def _scores_at(self, points: Iterable[Tensor]) -> Iterator[Tensor]:
        for child, size in self.children(points, grad=False):
            yield from child.scores.unflatten(0, (size, -1)).unbind(0)

    def scores_after(self, outputs: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the scores (N,) with the layer's output replaced by each of the ``outputs`` (N, C, *S), in order.

        What comes before the layer runs once for a chunk, where nothing passes by the layer.
        """
        return swept(self, outputs, Recording._scores_after)

    def _scores_after(self, outputs: Iterable[Tensor]) -> Iterator[Tensor]:
        source, after = iter(outputs), self.memo(_bytes_after)
        size = self._chunk(after, grad=False)
        while chunk := list(islice(source, size)):
            forward = self._replaced(torch.cat(chunk), len(chunk), alone=after is not None)
            scores = self.goal.score(forward, self.rows.repeat(len(chunk)))
            yield from scores.unflatten(0, (len(chunk), -1)).unbind(0)
            self.tick(len(chunk))

    def tick(self, points: int) -> None:
        """Say that so many points of a sweep are done."""
        if self.shared.options.tick is not None:
            self.shared.options.tick(points)

    def _replaced(self, outputs: Tensor, copies: int, *, alone: bool) -> Forward:
        """Run the model with its layer's outputs (copies N, C, *S) given, and before it on N or copies N rows."""
        name = self._layer_name(None)
        tap = self._tap(name).detach()
        values = from_spatial(outputs, self._layout(name), tap.repeat(copies, *[1] * (tap.ndim - 1))).to(tap.dtype)
        x = self.x if alone else self.x.repeat(copies, *[1] * (self.x.ndim - 1))
        options = replace(self.shared.options, layers=self.goal.layers)
        self.shared.passes[0] += 1
        return _run(self.model, x, options, grad=False, replaced={name: values.contiguous()})

    def propagate(self, rule: ForwardRule, baseline: Tensor | None = None) -> Propagated:
        """Return a rule's multipliers at the input (N, C, *S), or raise RefusedError where it cannot see the model."""
        options, kept = self.shared.options, self.shared.memo
        run: Pass | None = kept.get(("propagate", rule)) if baseline is None else None
        if run is None:
            run = Pass(rule, self.model.module, self.x, baseline).run(options.layers, options.precision)
            self.shared.passes[0] += 1 if baseline is None else 2
        if baseline is None:  # the same for every target
            kept["propagate", rule] = run
        found, coverage = run.multipliers(self.goal, self.rows)
        self.shared.passes[1] += 1
        self.coverages.extend(c for c in (coverage,) if c not in self.coverages)
        return found

    def promise(self, attribution: Tensor, expected: Tensor) -> None:
        """Report how well an attribution (N, ...) adds up to what it promises (N,)."""
        totals = attribution.flatten(1).sum(1).tolist()
        self.reports["completeness"] = [Completeness(t, e) for t, e in zip(totals, expected.tolist(), strict=True)]

    def sampled(self, standard_error: Tensor) -> None:
        """Report the Monte-Carlo standard error of each value (N, C, *S)."""
        self.reports["standard_error"] = standard_error

    def note(self, text: str | Sequence[str]) -> None:
        """Say something that the reader of the result should know; of a list each image gets its text, if not empty."""
        self.reports.setdefault("notes", []).append(text)

    def refuse(self, row: int, text: str) -> None:
        """Say why there is no answer for one image of the batch; the others keep theirs."""
        self.reports.setdefault("refused", {})[row] = RefusedError(text)

    def for_target(self, goal: Goal) -> Recording:
        """Return a view of the same pass for another target."""
        return replace(self, goal=goal, coverages=[], reports={})

    def for_layer(self, layer: str | None) -> Recording:
        """Return a view of the same pass for another layer."""
        return replace(self, layers=() if layer is None else (layer,), coverages=[], reports={})

    def close(self) -> None:
        """Free the graph and everything that was read."""
        self.shared.gradients.clear()
        self.shared.memo.clear()
        self.shared.forward.taps.clear()
        self.shared.forward.logits = self.shared.forward.logits.detach()
        self.shared.forward.output = self.shared.forward.output.detach()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _child(self, x: Tensor, copies: int, grad: bool) -> Recording:
        options = self.shared.options
        forward = _run(self.model, x, replace(options, layers=options.layers if grad else self.goal.layers), grad)
        self.shared.passes[0] += 1
        shared = _Pass(self.model, forward, options, passes=self.shared.passes)
        return Recording(shared, self.goal, self.rows.repeat(copies), self.layers, self.coverages)

    def _keep_goal(self) -> None:
        """Keep the goal alive, so that its id is not given to another while readings are kept under it."""
        self.shared.goals[id(self.goal)] = self.goal

    def _chunk(self, each: int | None = None, *, grad: bool = True) -> int:
        options = self.shared.options
        if self.model.batch is not None:
            return 1  # it takes this many rows and no others
        if options.chunk is not None:
            return max(1, options.chunk)
        # With gradients all activations are kept, and as much again goes back; without, few live at a time.
        bytes_each = (2.0 if grad else 0.5) * (each or self.shared.forward.bytes_per_sample) * len(self.rows)
        return max(1, min(_MOST_POINTS, int(_budget(self.x.device) / max(1.0, bytes_each))))

    def _layer_name(self, layer: str | None) -> str:
        name = layer if layer is not None else self.layer
        if name is None:
            raise LayerError("no layer was chosen; give layer=NAME (sightline layers MODEL lists them).")
        return name

    def _tap(self, name: str) -> Tensor:
        if name not in self.shared.forward.taps:
            raise LayerError(f"layer '{name}' was not tapped when this recording was made.")
        return self.shared.forward.taps[name]

    def _layout(self, name: str) -> Layout:
        tap = self._tap(name)
        last = name in self.shared.forward.channels_last
        layout = find_layout(tuple(tap.shape), tuple(self.x.shape[2:]), channels_last=last)
        if layout is None or layout.positions < 2 or len(tap) != len(self.x):
            raise LayerError(
                f"layer '{name}' gives {tuple(tap.shape)}, which has no spatial extent to draw; choose one with "
                "positions (sightline layers MODEL lists them and marks the default)."
            )
        return layout

    def _gradients(self, rule: str) -> tuple[dict[str, Tensor | None], Coverage | None]:
        key = (id(self.goal), rule)
        if key not in self.shared.gradients:
            self._keep_goal()
            self.shared.gradients[key] = self._backward(rule)
            self.shared.passes[1] += 1
        return self.shared.gradients[key]

    def _backward(self, rule: str) -> tuple[dict[str, Tensor | None], Coverage | None]:
        # Undisturbed as the forward pass was, for checkpointed parts of the model run again here.
        with undisturbed(self.model.module), torch.enable_grad():
            return self._read_gradients(rule)

    def _read_gradients(self, rule: str) -> tuple[dict[str, Tensor | None], Coverage | None]:
        forward = self.shared.forward
        score = self.score()
        if not score.requires_grad:
            raise no_path("anything that was read", self.goal, differentiable=forward.logits.requires_grad)
        places = {name: t for name, t in {"input": forward.x, **forward.taps}.items() if t.requires_grad}
        if rule == "standard":
            return dict(zip(places, gradients_of(score, list(places.values())), strict=True)), None
        with applied(RULES[rule], score.grad_fn) as coverage:
            return dict(zip(places, gradients_of(score, list(places.values())), strict=True)), coverage


def _readable(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _budget(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * 0.5)
    return _CHUNK_BYTES


def _bytes_after(rec: Recording) -> int | None:
    """Return how much memory an image takes after the layer, or None where the layer alone does not decide the scores.

    Tried with two copies of what the layer computed, which must give the scores twice.
    """
    copies = rec.activation().repeat(2, *[1] * (rec.x.ndim - 1))
    try:
        twice = rec._replaced(copies, 2, alone=True)
        scores = rec.goal.score(twice, rec.rows.repeat(2))
    except (ModelError, RuntimeError):  # something passes by the layer and does not fit two copies
        return None
    if len(scores) != len(copies) or not torch.allclose(scores, rec.scores.repeat(2), rtol=1e-3, atol=1e-4):
        return None
    return max(1, twice.bytes_per_sample - rec.shared.forward.bytes_per_sample)


def _run(
    model: Model, x: Tensor, options: Options, grad: bool = True, replaced: Mapping[str, Tensor] | None = None
) -> Forward:
    return run_forward(
        model.module,
        x,
        layers=options.layers,
        from_input=options.from_input,
        grad=grad,
        precision=options.precision,
        replaced=replaced,
    )


def record(model: Model, x: Tensor, options: Options, target: Target = 0) -> Recording:
    """Run ``x`` (N, C, *S) through the model once and return a recording to read.

    Raises ModelError where the output holds NaN, TargetError for a target that the model does not have.
    """
    tapped = tuple(dict.fromkeys((*options.layers, *layers_of(target))))
    options = replace(options, layers=tapped)
    forward = _run(model, x, options)
    _refuse_nan(forward, model)
    shared = _Pass(model, forward, options)
    goal = resolve(target, forward, model.labels, options.output)[0]
    return Recording(shared, goal, torch.arange(len(x), device=x.device))


def _refuse_nan(forward: Forward, model: Model) -> None:
    bad = (~torch.isfinite(forward.logits.detach())).flatten(1).any(1)
    if bad.any():
        share = f"{int(bad.sum())} of {len(bad)} images"
        cause = model.broken_weights
        why = f"its weights hold NaN or infinity ({', '.join(cause[:3])})" if cause else "its weights are finite"
        raise ModelError(
            f"the model's output is NaN or infinite for {share}; {why}: "
            + ("load other weights." if cause else "check the preprocessing, the input's range and the precision.")
        )
