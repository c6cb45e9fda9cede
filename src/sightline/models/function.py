"""Functions and runtimes as models: whatever maps a batch (N, C, *S) to scores (N, K)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.models.adapted import Adapted, Named

__all__ = ["FunctionNet", "check_names", "for_batch", "with_call"]


class FunctionNet(nn.Module):
    """A function of a batch as a module; one that leaves torch gives scores without a gradient.

    >>> FunctionNet(lambda x: x.numpy().mean((2, 3)))(torch.ones(1, 2, 4, 4, requires_grad=True))
    tensor([[1., 1.]])
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.leaves_torch = False
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """Return the function's scores for ``x`` (N, C, *S)."""
        if self.leaves_torch:
            return _tensor(self.function(x.detach()), x)
        try:
            return _tensor(self.function(x), x)
        except (RuntimeError, TypeError) as error:
            if not x.requires_grad or "requires grad" not in str(error):
                raise
        self.leaves_torch = True
        return _tensor(self.function(x.detach()), x)


def _tensor(scores: Any, x: Tensor) -> Any:
    if isinstance(scores, Mapping):
        return {name: _tensor(part, x) for name, part in scores.items()}
    listed = isinstance(scores, list) and not any(isinstance(s, Tensor) for s in scores)
    if isinstance(scores, np.ndarray) or listed:
        return torch.as_tensor(np.asarray(scores, dtype=np.float32), device=x.device)
    return scores


def check_names(fixed: Any, inputs: list[str], model: str) -> None:
    """Raise ModelError unless ``fixed`` is a mapping whose names are all inputs of the model."""
    wrong = [str(n) for n in fixed if n not in inputs] if isinstance(fixed, Mapping) else ["a tuple"]
    if wrong:
        raise ModelError(
            f"fixed= holds {wrong[0]}; {model} has the inputs {', '.join(inputs) or '(none named)'}: give each by name."
        )


def with_call(
    module: nn.Module, output: str | int | None, fixed: Mapping[str, Any] | tuple[Any, ...] | None
) -> nn.Module:
    """Return the module with its other inputs fixed and one of its outputs chosen, its layers' names unchanged."""
    if output is None and not fixed:
        return module

    def call(inner: Any, x: Tensor) -> Any:
        others = fixed or ()
        positional = () if isinstance(others, Mapping) else tuple(for_batch(v, x) for v in others)
        named = {k: for_batch(v, x) for k, v in others.items()} if isinstance(others, Mapping) else {}
        found = inner(x, *positional, **named)
        return found if output is None else _chosen(found, output)

    return Adapted(module, call, channels_last=isinstance(module, Named) and module.channels_last)


def for_batch(value: Any, x: Tensor) -> Any:
    """Return a further input for a batch: an array becomes a tensor, and one row becomes a row for each image."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        return value
    given = value.to(x.device)
    return given.expand(len(x), *given.shape[1:]) if given.ndim and len(given) == 1 else given


def _chosen(found: Any, output: Any) -> Any:
    if isinstance(found, (tuple, list)) and str(output).isdigit():
        output = int(output)
    try:
        return found[output] if isinstance(found, (Mapping, tuple, list)) else getattr(found, str(output))
    except (KeyError, IndexError, AttributeError, TypeError):
        raise ModelError(f"output={output!r}: the model returned {_listed(found)}; name one of those.") from None


def _listed(found: Any) -> str:
    kind = type(found).__name__
    if isinstance(found, Tensor):
        return "one tensor and nothing else"
    if isinstance(found, Mapping):
        return f"a {kind} with {', '.join(map(repr, found))}"
    if isinstance(found, (tuple, list)):
        return f"a {kind} with 0 to {len(found) - 1}"
    return f"a {kind} with {', '.join(repr(n) for n in getattr(found, '__dict__', {})) or 'no parts'}"
