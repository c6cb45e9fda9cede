"""The autograd graph: its nodes, and backward rules as hooks on them.

Node names and ``_saved_*`` attributes are private to torch. They are read here and nowhere else, through the
tables below; ``tests/test_graph.py`` pins them for the torch version in use.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import Node

from sightline.errors import RefusedError

__all__ = ["RULES", "Coverage", "GraphRule", "applied", "find_nodes", "sound_batch_norms"]

_GradientHook = Callable[[Tensor | None, Tensor | None], Tensor | None]


@dataclass(frozen=True)
class GraphRule:
    """A backward rule: what replaces the gradient that leaves a rectifier, given what enters it.

    ``change`` maps (gradient leaving, gradient entering) to the new gradient leaving.
    ``smooth`` extends the rule to activations that are not rectifiers, which its paper does not define.
    """

    name: str
    change: _GradientHook
    smooth: bool = False


@dataclass(frozen=True)
class Coverage:
    """How many nodes a rule changed, which activations it left alone, and which nodes it could not see into."""

    rule: str
    changed: int
    unchanged: Mapping[str, int] = field(default_factory=dict)
    unseen: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return the coverage as plain JSON values."""
        return {
            "rule": self.rule,
            "changed": self.changed,
            "unchanged": dict(self.unchanged),
            "unseen": dict(self.unseen),
        }


def _guided(leaving: Tensor | None, entering: Tensor | None) -> Tensor | None:
    return None if leaving is None else leaving.clamp(min=0)


def _deconv(leaving: Tensor | None, entering: Tensor | None) -> Tensor | None:
    return None if entering is None else entering.clamp(min=0)  # a function that passes no gradient on gives None


RULES: Mapping[str, GraphRule] = {
    r.name: r
    for r in (
        GraphRule("guided", _guided),
        GraphRule("deconv", _deconv),
        GraphRule("guided_smooth", _guided, smooth=True),
        GraphRule("deconv_smooth", _deconv, smooth=True),
    )
}

_Consumers = Mapping[Node, Sequence[Node]]
_Test = Callable[[Node, _Consumers], bool]


def _always(node: Node, consumers: _Consumers) -> bool:
    return True


def _from_zero(node: Node, consumers: _Consumers) -> bool:
    low = getattr(node, "_saved_min", None)
    return low is not None and _is_all(low, 0.0) and not _is_gate(node, getattr(node, "_saved_max", None), consumers)


def _threshold_zero(node: Node, consumers: _Consumers) -> bool:
    return float(getattr(node, "_saved_threshold", 1.0)) == 0.0


def _hardtanh_from_zero(node: Node, consumers: _Consumers) -> bool:
    low, high = getattr(node, "_saved_min_val", -1.0), getattr(node, "_saved_max_val", None)
    return float(low) == 0.0 and not _is_gate(node, high, consumers)


def _is_all(bound: float | Tensor, value: float) -> bool:
    return bool((torch.as_tensor(bound) == value).all())


def _is_gate(node: Node, high: float | Tensor | None, consumers: _Consumers) -> bool:
    """Recognise a hard sigmoid written out, which gates and does not rectify.

    That is ``relu6(x + 3) / 6``, with or without a factor in between, and ``clamp(a x + b, 0, 1)`` as a factor.
    """
    source = node.next_functions[0][0]
    shifted = source is not None and source.name().startswith("AddBackward") and _has_constant(source)
    if high is None or not shifted or torch.as_tensor(high).numel() != 1:
        return False
    top, users = float(high), consumers.get(node, ())
    if top == 1.0:
        return bool(users) and all(_is_product(n) for n in users)
    return bool(users) and all(_divides(n, top) or _is_scaled_product(n, top, consumers) for n in users)


def _has_constant(node: Node) -> bool:
    return any(source is None for source, _ in node.next_functions)


def _is_product(node: Node) -> bool:
    return node.name().startswith("MulBackward")


def _is_scaled_product(node: Node, top: float, consumers: _Consumers) -> bool:
    users = consumers.get(node, ())
    return _is_product(node) and bool(users) and all(_divides(n, top) for n in users)


def _divides(node: Node, top: float) -> bool:
    """Say whether the node divides by the constant ``top``, or multiplies by its inverse."""
    if not node.name().startswith(("DivBackward", "MulBackward")) or not _has_constant(node):
        return False
    constant = node._saved_other  # type: ignore[attr-defined]
    if constant is None or constant.numel() != 1:
        return False
    return abs(float(constant) * (1 / top if node.name().startswith("Div") else top) - 1) < 1e-2


RECTIFIERS: Mapping[str, _Test] = {
    "ReluBackward0": _always,
    "HardtanhBackward0": _hardtanh_from_zero,
    "ClampBackward0": _from_zero,
    "ClampBackward1": _from_zero,
    "ClampMinBackward0": _from_zero,
    "ClampMinBackward1": _from_zero,
    "ThresholdBackward0": _threshold_zero,
    "ThresholdBackward1": _threshold_zero,
}

SMOOTH_ACTIVATIONS = frozenset({
    "GeluBackward0",
    "SiluBackward0",
    "HardswishBackward0",
    "MishBackward0",
    "EluBackward0",
    "EluBackward1",
    "CeluBackward0",
    "LeakyReluBackward0",
    "LeakyReluBackward1",
    "RreluWithNoiseBackward0",
    "PreluKernelBackward0",
    "SoftplusBackward0",
})  # fmt: skip

_BATCH_NORM = "NativeBatchNormBackward0"

OPAQUE = (
    "CompiledFunctionBackward",
    "CopySlices",
    "CheckpointFunctionBackward",
    "DifferentiableGraphBackward",
)


def find_nodes(*roots: Node | None) -> list[Node]:
    """Return every node that the roots lead to, each once, roots first."""
    found: dict[Node, None] = {}
    stack = [r for r in roots if r is not None]
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found[node] = None
        stack.extend(n for n, _ in node.next_functions if n is not None)
    return list(found)


def _consumers(nodes: Sequence[Node]) -> dict[Node, list[Node]]:
    consumers: dict[Node, list[Node]] = {}
    for node in nodes:
        for source, _ in node.next_functions:
            if source is not None:
                consumers.setdefault(source, []).append(node)
    return consumers


def _is_custom(node: Node) -> bool:
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def _choose(nodes: Sequence[Node], rule: GraphRule) -> tuple[list[Node], Coverage]:
    consumers = _consumers(nodes)
    chosen = [
        n
        for n in nodes
        if (n.name() in RECTIFIERS and RECTIFIERS[n.name()](n, consumers))
        or (rule.smooth and n.name() in SMOOTH_ACTIVATIONS)
    ]
    kept = Counter(n.name() for n in nodes if n.name() in SMOOTH_ACTIVATIONS and not rule.smooth)
    unseen = Counter(n.name() for n in nodes if _is_custom(n))
    return chosen, Coverage(rule.name, len(chosen), dict(kept), dict(unseen))


def _refuse_opaque(nodes: Sequence[Node], rule: GraphRule) -> None:
    hidden = sorted({n.name() for n in nodes if any(o in n.name() for o in OPAQUE)})
    if hidden:
        raise RefusedError(
            f"{rule.name}: the model's graph has parts that cannot be looked into ({', '.join(hidden)}), so some "
            "ReLUs would be missed; give the model without torch.compile, checkpointing or ReLU on slices, "
            "or use gradient."
        )


def _refuse_empty(coverage: Coverage) -> None:
    if coverage.changed:
        return
    if coverage.unseen:
        raise RefusedError(
            f"{coverage.rule}: the model's ReLUs cannot be seen (they may be in {', '.join(coverage.unseen)}), so the "
            "result would be the plain gradient; use gradient, integrated_gradients or smooth_grad."
        )
    others = ", ".join(f"{count} {name}" for name, count in coverage.unchanged.items())
    way = " or set smooth_activations=True, an extension beyond the paper" if others else ""
    raise RefusedError(
        f"{coverage.rule}: this model has no ReLU to change{f' (it has {others})' if others else ''}, so the "
        f"result would be the plain gradient; use gradient, integrated_gradients or smooth_grad{way}."
    )


@contextlib.contextmanager
def sound_batch_norms(root: Node | None, rows: int) -> Iterator[None]:
    """Let the batch norms below ``root`` read the gradients that enter them as they are while the context is open.

    For a single image on a CPU torch 2.13 reads a gradient that is not contiguous in the wrong order, as it comes back
    from ``flatten(2).transpose(1, 2)``: the gradients of LeViT, XCiT and other hybrids are then wrong, with no warning.
    """
    found = [n for n in find_nodes(root) if n.name() == _BATCH_NORM] if rows == 1 else []
    with contextlib.ExitStack() as stack:
        for node in found:
            stack.callback(node.register_prehook(_contiguous).remove)
        yield


def _contiguous(entering: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(g if g is None else g.contiguous() for g in entering)


@contextlib.contextmanager
def applied(rule: GraphRule, root: Node | None) -> Iterator[Coverage]:
    """Hook the rule onto every rectifier below ``root``, and unhook it afterwards.

    Raises RefusedError where a node hides what lies in it, and where there is nothing to change.
    """
    nodes = find_nodes(root)
    _refuse_opaque(nodes, rule)
    chosen, coverage = _choose(nodes, rule)
    _refuse_empty(coverage)
    with contextlib.ExitStack() as stack:
        for node in chosen:
            stack.callback(node.register_hook(_as_hook(rule.change)).remove)
        yield coverage


def _as_hook(change: _GradientHook) -> Callable[..., tuple[Tensor | None, ...]]:
    def hook(leaving: tuple[Tensor | None, ...], entering: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        return (change(leaving[0], entering[0]), *leaving[1:])

    return hook
