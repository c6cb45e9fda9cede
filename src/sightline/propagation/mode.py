"""The pass under a forward rule: a function mode with a table from operations to what replaces them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sightline.backward import gradients_of
from sightline.errors import RefusedError
from sightline.forward import Forward, Precision, run_forward
from sightline.goals import Goal
from sightline.graph import Coverage, find_nodes
from sightline.models.session import is_scripted, parts, undisturbed
from sightline.propagation.nodes import unseen

__all__ = ["Call", "ForwardRule", "Intercept", "Pass", "Propagated"]

_NO_HOOKS = "the model uses checkpointing, whose second pass no rule can reach"

Op = Callable[["Pass", "Call"], Any]

_IN_PLACE = {"iadd": "add", "isub": "sub", "imul": "mul", "idiv": "div", "itruediv": "div", "ipow": "pow"}
_ALIASES = {
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "rtruediv": "rdiv",
    "multiply": "mul",
    "rmul": "mul",
    "radd": "add",
    "subtract": "sub",
    "absolute": "abs",
    "clip": "clamp",
    "expit": "sigmoid",
    "special_expit": "sigmoid",
    "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
}


@dataclass(frozen=True)
class ForwardRule:
    """A forward rule as data: its name, and for each operation's name the function that replaces it.

    ``allowed`` are the autograd nodes whose own gradient the rule wants. A ``paired`` rule compares the pass with
    one over a baseline. ``settings`` is what its operations need to know; without what it ``needs``, or
    with what it ``lacks``, it means nothing.
    """

    name: str
    table: Mapping[str, Op]
    allowed: frozenset[str]
    paired: bool = False
    settings: Any = None
    needs: str | None = None
    lacks: str | None = None

    def __hash__(self) -> int:
        return id(self)


class Intercept(NamedTuple):
    """What an operation adds to its output by itself: the ``constant`` broadcasts to the output.

    ``is_bias`` tells a layer's bias from where an activation's tangent meets zero.
    """

    constant: Tensor
    is_bias: bool
    channels_last: bool


class Propagated(NamedTuple):
    """What a rule gave: multipliers (N, C, *S) at the input, the scores (N,), and the baseline's scores (N,).

    ``parts`` are the intercepts that the rule kept, each with d score / d output.
    """

    multiplier: Tensor
    scores: Tensor
    at_baseline: Tensor | None
    parts: tuple[tuple[Tensor, Intercept], ...] = ()


@dataclass(frozen=True)
class Call:
    """One call of a torch function, without its in-place part."""

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def run(self) -> Any:
        """Return what torch itself computes."""
        return self.func(*self.args, **self.kwargs)

    def get(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument by its place or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    @property
    def tensors(self) -> list[Tensor]:
        """The arguments that are tensors, lists of tensors looked into."""
        return list(_tensors((*self.args, *self.kwargs.values())))

    @property
    def varying(self) -> list[Tensor]:
        """The tensors that depend on the input."""
        return [t for t in self.tensors if t.requires_grad]

    def swapped(self, old: Tensor, new: Tensor) -> Call:
        """Return the same call with one of its tensors replaced."""
        args = tuple(new if a is old else a for a in self.args)
        return replace(self, args=args, kwargs={k: new if v is old else v for k, v in self.kwargs.items()})

    @property
    def at(self) -> Callable[[Tensor], Any]:
        """The call as a function of its one varying argument."""
        (varied,) = self.varying
        return lambda v: self.swapped(varied, v).run()


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


class Pass(TorchFunctionMode):
    """One model's pass under a forward rule, from which multipliers are read for any target.

    Raises RefusedError where the rule could not see what the model computes.
    """

    def __init__(self, rule: ForwardRule, module: nn.Module, x: Tensor, baseline: Tensor | None = None) -> None:
        super().__init__()
        _refuse_scripted(rule, module)
        self.rule, self.module = rule, module
        self.x, self.baseline = x, baseline
        self.changed: Counter[str] = Counter()
        self.tape: list[tuple[Tensor, ...]] = []
        self.intercepts: list[Intercept] = []
        self._reached: dict[int, Tensor] = {}
        self.marks: dict[str, Any] = {}
        self.linear_layers = 0
        self._recording = False
        self._cursor = 0
        self._length = 0
        self._layers = 0
        self.forward: Forward
        self.reference: Forward | None = None

    def run(self, layers: tuple[str, ...] = (), precision: Precision = "model") -> Pass:
        """Run the model, over the baseline first where the rule compares with one."""

        def go(x: Tensor) -> Forward:
            return run_forward(self.module, x, layers=layers, precision=precision, call=self._call_module)

        if self.baseline is not None:
            self._recording = True
            self.reference = go(self.baseline)
            self._recording = False
            self._length = len(self.tape)
            self.changed.clear()
        self.forward = go(self.x)
        self._layers = len(self.intercepts)
        if self.rule.needs is not None and not self.changed[self.rule.needs]:
            raise RefusedError(
                f"{self.rule.name}: no {self.rule.needs} was seen in this model, and without it the method is plain "
                "LRP; use lrp."
            )
        if self.rule.lacks is not None and self.changed[self.rule.lacks]:
            raise RefusedError(
                f"{self.rule.name} is made for positive activations, as ReLUs give, and has no rule for this model's "
                f"{self.rule.lacks}; use attn_lrp or lrp."
            )
        return self

    def _call_module(self, x: Tensor) -> Any:
        self.mark("raw", x, True)
        try:
            with torch.autograd.graph.disable_saved_tensors_hooks(_NO_HOOKS), self:
                return self.module(x)
        except RuntimeError as error:
            if _NO_HOOKS not in str(error):
                raise
            raise RefusedError(f"{self.rule.name}: {_NO_HOOKS}; switch it off, or use integrated_gradients.") from None

    def multipliers(self, goal: Goal, rows: Tensor) -> tuple[Propagated, Coverage]:
        """Return the rule's multipliers for one target: d score / d input with the rule's gradients."""
        with undisturbed(self.module), torch.enable_grad():
            reference = self._reference_score(goal, rows)
            del self.intercepts[self._layers :]  # those of another target
            with self:
                score = goal.score(self.forward, rows)
            if not score.requires_grad:
                raise _no_path(self.rule, goal, differentiable=self.forward.logits.requires_grad)
            coverage = self._coverage(score)
            found = self._gradient(score, goal)
        parts = tuple((self._reached.pop(number), self.intercepts[number]) for number in sorted(self._reached))
        return Propagated(found, score.detach(), reference, parts), coverage

    def _reference_score(self, goal: Goal, rows: Tensor) -> Tensor | None:
        if self.reference is None:
            return None
        del self.tape[self._length :]
        self._recording = True
        with self:
            score = goal.score(self.reference, rows)
        self._recording, self._cursor = False, self._length
        return score.detach()

    def _coverage(self, score: Tensor) -> Coverage:
        nodes = find_nodes(score.grad_fn)
        hidden = unseen(nodes, self.rule.allowed)
        if any("_BridgeBackward" in name for name in hidden):
            raise RefusedError(
                f"{self.rule.name}: the model runs on another backend than torch, where its operations cannot be "
                "seen; set KERAS_BACKEND=torch, or use integrated_gradients."
            )
        return Coverage(self.rule.name, sum(self.changed.values()), {}, hidden)

    def _gradient(self, score: Tensor, goal: Goal) -> Tensor:
        try:
            (found,) = gradients_of(score, [self.forward.x])
        except RuntimeError as error:
            raise RefusedError(
                f"{self.rule.name}: torch cannot go back through this pass ({' '.join(str(error).split())[:120]}); "
                "give the model without checkpointing and in-place operations, or use integrated_gradients."
            ) from error
        if found is None:
            raise _no_path(self.rule, goal)
        return found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, in_place = _said(func)
        op = self.rule.table.get(name)
        call = Call(name, func, _constant(args), {k: _constant(v) for k, v in (kwargs or {}).items()})
        if op is None or not call.varying:
            return call.run()
        if not in_place and not call.kwargs.get("inplace"):
            return op(self, call)
        result = op(self, _out_of_place(call))
        args[0].copy_(result)
        return result

    def paired(self, name: str, *values: Tensor) -> tuple[Tensor, ...] | None:
        """Return what these values were in the pass over the baseline; None in that pass itself."""
        if self._recording:
            self.tape.append(tuple(v.detach().clone() for v in values))
            return None
        if self._cursor >= len(self.tape) or [v.shape for v in values] != [v.shape for v in self.tape[self._cursor]]:
            raise RefusedError(
                f"{self.rule.name}: the model computes something else for the image than for the baseline (at {name}), "
                "so they cannot be compared; use another baseline, or integrated_gradients."
            )
        self._cursor += 1
        return self.tape[self._cursor - 1]

    def keep(self, output: Tensor, intercept: Intercept) -> None:
        """Keep an intercept, for which the gradient that arrives at the output will be read."""
        # By a hook, which an operation in place after it does not disturb; it must not hold the pass, which holds it.
        output.register_hook(partial(self._reached.__setitem__, len(self.intercepts)))
        self.intercepts.append(intercept)

    def mark(self, kind: str, values: Tensor, what: Any) -> None:
        """Remember something of a tensor for as long as it lives unchanged."""
        book = self.marks.setdefault(kind, torch.utils.weak.WeakTensorKeyDictionary())
        book[values] = (values._version, what)

    def marked(self, kind: str, values: Any) -> Any:
        """Return what was remembered of a tensor, or None."""
        version, what = self.marks.get(kind, {}).get(values, (None, None)) if isinstance(values, Tensor) else (0, None)
        return what if what is not None and version == values._version else None


def _constant(value: Any) -> Any:
    """Return weights that nobody froze, as a function's hidden ones, as the constants that they are here."""
    if isinstance(value, nn.Parameter):
        return value.detach()
    return type(value)(map(_constant, value)) if type(value) in (tuple, list) else value


def _said(func: Any) -> tuple[str, bool]:
    """Return an operation's plain name, and whether it writes into its first argument.

    >>> _said(torch.relu_), _said(Tensor.__rmul__)
    (('relu', True), ('mul', False))
    """
    raw = getattr(func, "__name__", "").partition(".")[0]
    name = raw.strip("_")
    if raw.startswith("__"):
        return (_IN_PLACE[name], True) if name in _IN_PLACE else (_ALIASES.get(name, name), False)
    return _ALIASES.get(name, name), raw.endswith("_")


def _out_of_place(call: Call) -> Call:
    if call.kwargs.get("inplace"):
        return replace(call, kwargs={**call.kwargs, "inplace": False})
    plain = next(getattr(where, call.name) for where in (torch, F, Tensor) if hasattr(where, call.name))
    return replace(call, func=plain)


def _refuse_scripted(rule: ForwardRule, module: nn.Module) -> None:
    if is_scripted(module) or any(is_scripted(part) for part in parts(module)):
        raise RefusedError(
            f"{rule.name}: TorchScript's operations cannot be seen from Python, so no rule can be applied to them; "
            "give the original module, or use integrated_gradients."
        )


def _no_path(rule: ForwardRule, goal: Goal, *, differentiable: bool = True) -> RefusedError:
    if not differentiable:
        return RefusedError(
            f"{rule.name}: the model's scores do not depend on its input through anything that can be differentiated, "
            "for it leaves torch, or detaches; use a method that needs only scores (occlusion, rise, kernel_shap)."
        )
    return RefusedError(
        f"{rule.name}: the target '{goal.names[0].label}' does not depend on the input through anything that can be "
        "differentiated; choose another target, or a method that needs only scores."
    )
