"""One forward pass: what was put in, what came out, and the layers tapped on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from sightline.errors import LayerError, ModelError, suggest
from sightline.models.adapted import find_layer, is_channels_last, main_part, named_layers
from sightline.models.session import called, is_scripted, undisturbed

__all__ = ["Forward", "Head", "Precision", "find_logits", "layer_call", "layer_of", "run_forward"]

Head = Literal["none", "softmax", "log_softmax", "sigmoid", "log_sigmoid"]
Precision = Literal["model", "float64", "float32", "bfloat16", "float16", "auto"]

_HEADS: Mapping[Callable[..., Any], Head] = {
    F.softmax: "softmax",
    torch.softmax: "softmax",
    Tensor.softmax: "softmax",
    torch.special.softmax: "softmax",
    F.log_softmax: "log_softmax",
    torch.log_softmax: "log_softmax",
    Tensor.log_softmax: "log_softmax",
    torch.special.log_softmax: "log_softmax",
    torch.sigmoid: "sigmoid",
    Tensor.sigmoid: "sigmoid",
    F.sigmoid: "sigmoid",
    torch.special.expit: "sigmoid",
    torch.sigmoid_: "sigmoid",
    Tensor.sigmoid_: "sigmoid",
    F.logsigmoid: "log_sigmoid",
}
_MOST_HEADS = 8
_NAMES = ("logits", "out", "output", "scores", "predictions")  # as transformers and torchvision call class scores
_CASTS = frozenset({Tensor.to, Tensor.float, Tensor.half, Tensor.double, Tensor.bfloat16, Tensor.type})
_IN_PLACE = (torch.sigmoid_, Tensor.sigmoid_)


@dataclass(eq=False)
class Forward:
    """The readings of one pass: input (N, C, *S), logits (N, K, ...), output as the model gave it, tapped layers."""

    x: Tensor
    logits: Tensor
    output: Tensor
    head: Head
    taps: dict[str, Tensor]
    bytes_per_sample: int
    hidden_head: bool = False
    channels_last: frozenset[str] = frozenset()


@dataclass(eq=False)
class _End:
    """A softmax or sigmoid that may be the model's last op: what it was given and what it made of it."""

    head: Head
    given: Tensor
    result: Tensor


@dataclass(eq=False)
class _Watch(TorchFunctionMode):
    """See every op of the pass: remember the last softmaxes and sigmoids with their input, and count memory."""

    ends: list[_End] = field(default_factory=list)
    bytes: int = field(default=0)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _HEADS:
            return self._end(func, args, kwargs or {})
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.bytes += result.nbytes
            if func in _CASTS:
                self._cast(args[0], result)
        return result

    def _cast(self, old: Any, new: Tensor) -> None:
        """Follow a head through a change of type, such as mixed precision makes after its softmax."""
        end = next((e for e in self.ends if e.result is old), None)
        if end is not None:
            self._ended(_End(end.head, end.given, new))

    def _end(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = args[0] if args else kwargs["input"]
        given = given.clone() if func in _IN_PLACE else given
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self.bytes += result.nbytes
            self._ended(_End(_HEADS[func], given, result))
        return result

    def _ended(self, end: _End) -> None:
        # A model may return several heads. Attention's softmaxes have more dimensions: only the last is kept of those.
        self.ends = [*[e for e in self.ends if e.result.ndim <= 2][-_MOST_HEADS:], end]

    def moved(self, old: Tensor, new: Tensor) -> None:
        for end in self.ends:
            if _same_memory(old, end.result):
                end.result = new

    def end_of(self, output: Tensor) -> _End | None:
        return next((e for e in reversed(self.ends) if _same_memory(e.result, output)), None)

    def is_part_of_end(self, output: Tensor) -> bool:
        """Say whether some of a head's probabilities are shown: their logits alone would mean something else."""
        place = output.untyped_storage().data_ptr()
        return any(
            e.head in ("softmax", "sigmoid") and e.result.untyped_storage().data_ptr() == place for e in self.ends
        )


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.numel() == b.numel() and a.data_ptr() == b.data_ptr() and a.numel() > 0


def layer_call(name: str) -> tuple[str, int]:
    """Split ``relu@2`` into the layer and the number of its call, from 1.

    >>> layer_call("layer4.1.relu@2")
    ('layer4.1.relu', 2)
    """
    base, at, call = name.rpartition("@")
    return (base, int(call)) if at and call.isdigit() else (name, 1)


def run_forward(
    module: nn.Module,
    x: Tensor,
    *,
    layers: Sequence[str] = (),
    from_input: bool = True,
    grad: bool = True,
    precision: Precision = "model",
    call: Callable[[Tensor], Any] | None = None,
    replaced: Mapping[str, Tensor] | None = None,
) -> Forward:
    """Run the module once on ``x`` (N, C, *S) and return what was read.

    ``replaced`` gives layers' outputs that take the place of what they compute, of any number of rows.
    With ``from_input=False`` autograd starts at the earliest tapped layer: the trunk costs inference only.
    Raises LayerError for a layer that does not exist or never ran, ModelError for an output that has no logits.
    """
    watch = _Watch()
    with ExitStack() as stack:
        stack.enter_context(undisturbed(module))
        # In one order, so that how an image lies in memory changes nothing.
        order = _memory_order(x, precision, grad)
        leaf = (x.clone() if x.is_inference() else x).detach().contiguous(memory_format=order)
        leaf.requires_grad_(grad and from_input)
        stack.enter_context(torch.set_grad_enabled(grad))
        stack.enter_context(_autocast(x.device, precision))
        _replace(module, replaced or {}, stack)
        taps = stack.enter_context(_tapped(module, layers, watch, leaf_allowed=grad))
        stack.enter_context(watch)
        raw = called(call or module, leaf + 0)
    output = find_logits(raw, len(next(iter(replaced.values()))) if replaced else len(x))
    last = frozenset(n for n in taps if is_channels_last(module, find_layer(module, layer_call(n)[0])))
    return replace(_finish(leaf, output, watch, _all_ran(layers, taps)), channels_last=last)


def _finish(leaf: Tensor, output: Tensor, watch: _Watch, taps: dict[str, Tensor]) -> Forward:
    per_sample = max(1, watch.bytes // max(1, len(leaf)))
    end = watch.end_of(output)
    if end is not None:
        logits = _seen_alike(end.given, end.result, output)
        return Forward(leaf, _two_dims(logits), _two_dims(output), end.head, taps, per_sample)
    hidden = watch.is_part_of_end(output) or _looks_like_probabilities(output)
    return Forward(leaf, _two_dims(output), _two_dims(output), "none", taps, per_sample, hidden)


def _seen_alike(given: Tensor, result: Tensor, output: Tensor) -> Tensor:
    """Return ``given`` with its elements in the order in which ``output``, a view of ``result``, shows them."""
    if output.is_contiguous() and result.is_contiguous():
        return given.reshape(output.shape)
    if output.shape == result.shape and output.stride() == result.stride():
        return given
    places = torch.empty_strided(result.shape, result.stride(), dtype=torch.long, device=result.device)
    places.copy_(torch.arange(result.numel(), device=result.device).reshape(result.shape))
    return given.flatten()[places.as_strided(output.shape, output.stride()).flatten()].reshape(output.shape)


def _two_dims(values: Tensor) -> Tensor:
    if values.ndim == 1:
        return values.unsqueeze(1)
    return values.flatten(1) if values[0, 0].numel() == 1 else values


@torch.no_grad()
def _looks_like_probabilities(output: Tensor) -> bool:
    if output.ndim != 2 or output.shape[1] < 2:
        return False
    sums = output.float().sum(1)
    return bool((output >= 0).all() and (sums - 1).abs().max() < 1e-3)


def _memory_order(x: Tensor, precision: Precision, grad: bool) -> torch.memory_format:
    """Lay channels last where only speed is wanted: half precision without gradients."""
    fast = x.ndim == 4 and precision in ("bfloat16", "float16") and not grad
    return torch.channels_last if fast else torch.contiguous_format


@contextmanager
def _autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    if precision not in ("bfloat16", "float16"):
        yield
        return
    with torch.autocast(device.type, dtype=getattr(torch, precision)):
        yield


@contextmanager
def _tapped(
    module: nn.Module, layers: Sequence[str], watch: _Watch, *, leaf_allowed: bool
) -> Iterator[dict[str, Tensor]]:
    """Keep the outputs of the named layers. What flows on is a clone, for an in-place op may follow."""
    taps: dict[str, Tensor] = {}
    wanted: dict[nn.Module, dict[int, list[str]]] = {}
    for name in dict.fromkeys(layers):
        base, call = layer_call(name)
        wanted.setdefault(layer_of(module, base), {}).setdefault(call, []).append(name)
    with ExitStack() as stack:
        for layer, calls in wanted.items():
            handle = _tap(layer, calls, taps, watch, leaf_allowed)
            stack.callback(handle.remove)
        yield taps


def _replace(module: nn.Module, replaced: Mapping[str, Tensor], stack: ExitStack) -> None:
    for name, values in replaced.items():
        base, call = layer_call(name)
        stack.callback(layer_of(module, base).register_forward_hook(_giving(values, call)).remove)


def _giving(values: Tensor, call: int) -> Callable[..., Any]:
    owner, count = threading.get_ident(), iter(range(1, 1 << 30))

    def give(_: nn.Module, __: Any, output: Any) -> Any:
        if threading.get_ident() != owner or next(count) != call:
            return None
        _, place = main_part(output)
        return values if place is None else _with_part(output, place, values)

    return give


def layer_of(module: nn.Module, name: str) -> nn.Module:
    """Return the layer of that name; LayerError where there is none, with close ones, or where it cannot be read."""
    found = find_layer(module, name)
    if is_scripted(module) or (found is not None and is_scripted(found)):
        raise LayerError(
            f"layer '{name}': TorchScript runs without hooks, so its layers cannot be read; give the original "
            "module, or use a method that reads the input (gradient, integrated_gradients)."
        )
    if found is None:
        hint = suggest(name, named_layers(module))
        raise LayerError(f"there is no layer '{name}'.{hint} See: sightline layers MODEL.")
    return found


def _tap(
    layer: nn.Module,
    calls: Mapping[int, list[str]],
    taps: dict[str, Tensor],
    watch: _Watch,
    leaf_allowed: bool,
) -> RemovableHandle:
    owner, count = threading.get_ident(), iter(range(1, 1 << 30))

    def keep(_: nn.Module, __: Any, given: Any) -> Any:
        if threading.get_ident() != owner or (call := next(count)) not in calls:
            return None
        output, place = main_part(given)
        if not isinstance(output, Tensor):
            raise LayerError(
                f"layer '{calls[call][0]}' returns a {type(output).__name__}, not one tensor; "
                "choose a layer inside it or after it (sightline layers MODEL lists them)."
            )
        kept = output.detach().requires_grad_() if leaf_allowed and not output.requires_grad else output
        taps.update(dict.fromkeys(calls[call], kept))
        flows_on = kept.clone()
        watch.moved(output, flows_on)
        return flows_on if place is None else _with_part(given, place, flows_on)

    return layer.register_forward_hook(keep)


def _with_part(given: Any, place: int, part: Tensor) -> Any:
    parts = [*given[:place], part, *given[place + 1 :]]
    return type(given)(*parts) if hasattr(given, "_fields") else type(given)(parts)


def _all_ran(layers: Sequence[str], taps: dict[str, Tensor]) -> dict[str, Tensor]:
    for name in layers:
        if name not in taps:
            base, call = layer_call(name)
            when = "no call" if call == 1 else f"no call number {call}"
            raise LayerError(f"layer '{base}' has {when} in this model's forward pass; see: sightline layers MODEL.")
    return taps


def find_logits(output: Any, batch: int) -> Tensor:
    """Return the score tensor (N, K, ...) in what a model returned: a tensor, tuple, mapping or dataclass.

    Raises ModelError where there is none, where there are several to choose from, or where the first dimension is
    not the batch.
    """
    found = _scores_in(output)
    if found is None:
        raise ModelError(f"the model returned {_kind(output)}, in which there is no tensor of class scores.")
    if found.ndim == 0 or found.shape[0] != batch:
        raise ModelError(
            f"the model returned a tensor of shape {tuple(found.shape)} for {batch} inputs; wanted ({batch}, classes)."
        )
    if not found.is_floating_point():
        raise ModelError(f"the model returned {found.dtype} values, not scores: it must return logits, not classes.")
    return found


def _scores_in(output: Any) -> Tensor | None:
    if isinstance(output, Tensor) or output is None:
        return output
    parts = _parts(output)
    named = next((parts[k] for k in _NAMES if k in parts), None)
    if named is not None:
        return _scores_in(named)
    tensors = dict(_leaves(parts))
    scores = {k: v for k, v in tensors.items() if v.ndim == 2} or tensors
    if len({tuple(v.shape) for v in scores.values()}) > 1:
        listed = ", ".join(f"{k} {tuple(v.shape)}" for k, v in scores.items())
        raise ModelError(
            f"the model returned {_kind(output)} with {listed}; say which are the class scores: output= in load, "
            "--output-key on the command line."
        )
    return next(iter(scores.values()), None)


def _leaves(parts: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, part in parts.items():
        if isinstance(part, Tensor) and part.is_floating_point():
            yield f"{above}{name!r}", part
        elif isinstance(part, (Mapping, tuple, list)):
            yield from _leaves(_parts(part), f"{above}{name!r}.")


def _parts(output: Any) -> Mapping[Any, Any]:
    """Return what a structure holds, by name or number."""
    if isinstance(output, Mapping):
        return output
    if isinstance(output, (tuple, list)):
        named = getattr(output, "_fields", None)
        return dict(zip(named, output, strict=True)) if named else dict(enumerate(output))
    return dict(vars(output)) if hasattr(output, "__dict__") else {}


def _kind(output: Any) -> str:
    return f"a {type(output).__name__}"
