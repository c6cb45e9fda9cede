"""The blocks of a transformer: for each attention of a pass, the outermost module that holds this one and no other."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from sightline.forward import find_logits
from sightline.models.adapted import main_part, named_layers
from sightline.models.session import called, is_scripted, undisturbed

__all__ = ["BlockTrace", "trace_blocks"]


@dataclass(frozen=True)
class _Call:
    """One call of one module: when it began and ended, in the order of autograd's nodes, and what it gave."""

    name: str
    begin: int
    end: int
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class BlockTrace:
    """Every call of a pass of one image, and the node of its scores."""

    calls: tuple[_Call, ...]
    root: Node | None

    def around(self, nodes: list[Node], tokens: int) -> list[str] | None:
        """Return for each node the outermost call around it alone that gives (1, tokens, D), or None without one."""
        times = [n._sequence_nr() for n in nodes]
        found = [self._outermost(t, times, tokens) for t in times]
        names = [c.name for c in found if c is not None]
        alike = {c.shape for c in found if c is not None}
        return names if len(names) == len(nodes) and len(alike) == 1 else None

    def _outermost(self, time: int, times: list[int], tokens: int) -> _Call | None:
        around = [
            c
            for c in self.calls
            if [t for t in times if c.begin < t < c.end] == [time] and len(c.shape) == 3 and c.shape[1] == tokens
        ]
        return max(around, key=lambda c: c.end - c.begin, default=None)


def trace_blocks(module: nn.Module, x: Tensor) -> BlockTrace:
    """Run the first of ``x`` (N, C, *S) and note when each module begins and ends."""
    calls: list[_Call] = []
    with undisturbed(module), torch.enable_grad(), ExitStack() as stack:
        owner, begun, counts = threading.get_ident(), [], {}  # type: ignore[var-annotated]

        def begin(_: nn.Module, __: Any) -> None:
            if threading.get_ident() == owner:
                begun.append(_now())

        def end(name: str) -> Any:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                if threading.get_ident() != owner:
                    return
                counts[name] = count = counts.get(name, 0) + 1
                part, _place = main_part(output)
                shape = tuple(part.shape) if isinstance(part, Tensor) else ()
                calls.append(_Call(f"{name}@{count}" if count > 1 else name, begun.pop(), _now(), shape))

            return hook

        seen: set[nn.Module] = set()
        for name, layer in named_layers(module).items():
            if layer not in seen and not is_scripted(layer):
                seen.add(layer)
                stack.callback(layer.register_forward_pre_hook(begin).remove)
                stack.callback(layer.register_forward_hook(end(name)).remove)
        leaf = x[:1].detach().contiguous().requires_grad_(True)
        output = find_logits(called(module, leaf + 0), 1)
    return BlockTrace(tuple(calls), output.grad_fn)


def _now() -> int:
    """Return the number that autograd gives the next node."""
    with torch.enable_grad():
        probe = torch.zeros((), requires_grad=True) * 1
    return int(probe.grad_fn._sequence_nr()) if probe.grad_fn is not None else 0
