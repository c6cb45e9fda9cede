"""Models that know nothing: copies whose weights are shuffled, layer by layer or all at once."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from sightline.errors import LayerError, RefusedError
from sightline.models.adapted import Adapted, bare, named_layers
from sightline.models.model import Model
from sightline.models.session import lock_of

__all__ = ["randomized", "weight_layers"]

_MOST_BYTES = 1 << 30
_MOST = 64
_KEEPING = threading.Lock()


def randomized(model: Model, seed: int = 0, layers: Collection[str] | None = None) -> Model:
    """Return a copy of a model whose weights are shuffled, all of them or those of the layers that are named.

    Each filter (row of a matrix) keeps its values and loses their order, so that activations keep their scale, and
    the biases, normalisations and running statistics of a filter, which stay, still fit it. A filter of equal values
    is drawn from a normal of their size. One generator serves the whole net: layers of one shape get different
    weights, and a layer gets the same whichever others are named. The latest 64 copies are kept with the model, of
    1 GiB at most.

    Raises RefusedError for a model whose weights cannot be reached or copied, LayerError for an unknown layer.

    >>> from sightline.models.load import load
    >>> honest = load("demo/honest")
    >>> randomized(honest, seed=1).module is randomized(honest, seed=1).module
    True
    """
    known = frozenset(_owners(model))
    chosen = known if layers is None else frozenset(layers)
    unknown = sorted(chosen - known)
    if unknown:
        raise LayerError(f"{model.name} has no weights to shuffle in layer '{unknown[0]}'.")
    made = replace(model, module=_kept(model, seed, chosen), _copies={}, _shuffled={})
    # It keeps the original's layers: a dead ReLU of the copy must not move the layer that CAMs read.
    made.__dict__["weights_hash"] = f"shuffled by {seed}"
    return made


def _kept(model: Model, seed: int, chosen: frozenset[str]) -> nn.Module:
    kept = model._shuffled
    module = kept.get((seed, chosen)) or _made(model, seed, chosen)
    with _KEEPING:
        kept.pop((seed, chosen), None)
        kept[seed, chosen] = module
        while len(kept) > 1 and (len(kept) > _MOST or sum(map(_bytes, kept.values())) > _MOST_BYTES):
            kept.pop(next(iter(kept)))
    return module


def weight_layers(model: Model, x: Tensor | None = None) -> list[str]:
    """Name the layers that have weights to shuffle, from the output to the input; "" has those of no layer.

    ``x`` (N, C, *S) is what the model takes, where it takes one size only. Raises RefusedError where there are none.
    """
    owners, runs = _owners(model), _running_order(model, x)
    ordered = sorted(range(len(owners)), key=lambda i: (_place(owners[i], runs), i), reverse=True)
    return [owners[i] for i in ordered]


def _owners(model: Model) -> list[str]:
    found = list(dict.fromkeys(owner for owner, _ in _owned(model.module)))
    if not found:
        raise RefusedError(
            f"{model.name} shows no weights that could be shuffled, so whether a map depends on them cannot be tried; "
            "give the model itself (a torch module, or Keras on torch) rather than a function or runtime."
        )
    return found


def _running_order(model: Model, x: Tensor | None) -> dict[str, int]:
    """Return when each layer first runs; of TorchScript, which shows none, nothing: they count as they are listed."""
    try:
        return {layer.name: i for i, layer in reversed(list(enumerate(model.layers(x))))}
    except LayerError:
        return {}


def _place(owner: str, runs: dict[str, int]) -> int:
    """Return when a layer runs, or else the part around it: a projection inside attention may never be called."""
    while owner and owner not in runs:
        owner = owner.rpartition(".")[0]
    return runs.get(owner, -1)


def _owned(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the weights (matrices and filters, no biases or scales) with the innermost layer that holds each."""
    owner: dict[int, str] = {}
    sized = [(name, list(layer.parameters())) for name, layer in named_layers(module).items()]
    for name, held in sorted(sized, key=lambda pair: -len(pair[1])):
        owner.update(dict.fromkeys(map(id, held), name))
    weights = (p for p in bare(module).parameters() if p.ndim > 1 and p.is_floating_point() and p.numel() > 1)
    return [(owner.get(id(p), ""), p) for p in weights]


def _made(model: Model, seed: int, chosen: frozenset[str]) -> nn.Module:
    module = _copied(model)
    generator = torch.Generator().manual_seed(seed)
    last = _is_keras(module)
    with torch.inference_mode(False), torch.no_grad():
        for owner, weight in _owned(module):
            drawn = _shuffled(weight, generator, filters_last=last)
            if owner in chosen:
                weight.copy_(drawn)
    return module


def _is_keras(module: nn.Module) -> bool:
    return hasattr(bare(module), "get_weights")


def _copied(model: Model) -> nn.Module:
    source = model.module if isinstance(model.module, Adapted) else bare(model.module)
    try:
        with lock_of(model.module), torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras copies by saving, and warns of what it does not save
            return copy.deepcopy(source)
    except Exception as error:  # noqa: BLE001  copying runs the model's own code, which may raise anything
        text = " ".join(str(error).split())[:160]
        raise RefusedError(
            f"{model.name} cannot be copied ({type(error).__name__}: {text}), and its own weights are never touched, "
            "so whether a map depends on them cannot be tried."
        ) from None


def _shuffled(weight: Tensor, generator: torch.Generator, *, filters_last: bool) -> Tensor:
    """Return a weight with the values of each filter in another order, in the memory of the CPU."""
    axis = _filter_axis(weight.shape, filters_last=filters_last)
    values = weight.detach().cpu().movedim(axis, 0)
    rows = values.flatten(1) if len(values) > 1 else values.reshape(1, -1)
    order = torch.rand(rows.shape, generator=generator, dtype=torch.float64).argsort(1)
    noise = torch.randn((len(rows), 1), generator=generator, dtype=torch.float64).to(rows)
    equal = rows.amax(1, keepdim=True) == rows.amin(1, keepdim=True)
    found = torch.where(equal, rows * noise, rows.gather(1, order))
    return found.reshape(values.shape).movedim(0, axis)


def _filter_axis(shape: torch.Size, *, filters_last: bool) -> int:
    """Return the axis that numbers the filters: the first, in Keras the last longer than 1."""
    if not filters_last:
        return 0
    return max((i for i, side in enumerate(shape) if side > 1), default=0)


def _bytes(module: nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())
