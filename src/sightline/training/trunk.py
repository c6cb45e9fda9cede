"""What of a network keeps its weights while the rest learns, and in which mode each part then runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from sightline.errors import ParameterError
from sightline.models.model import Model
from sightline.training.heads import started

__all__ = ["Trunk", "folded_norms", "freeze", "set_modes"]

_NORMS = (nn.modules.batchnorm._BatchNorm,)
_FEATURES = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase)
_ATTENTION = re.compile("attention|attn", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Trunk:
    """What is learned: ``learned`` holds all of it, "" being the whole; ``frozen`` of ``layers`` with weights stay.

    ``resting`` are the parts that run in evaluation mode while the rest learns; ``folded`` names the batch norms among
    them that would learn, had they not been folded into their neighbours.
    """

    learned: str
    frozen: int
    layers: int
    resting: frozenset[nn.Module] = frozenset()
    folded: tuple[str, ...] = ()


def freeze(model: Model, heads: Sequence[str], asked: str | int) -> Trunk:
    """Let the layers that are to stay carry no gradient, and say where learning begins.

    "features" learns the largest block around the head that holds no other convolution, recurrence or attention, with
    the linear layers just before it; "none" all; a number leaves so many layers with weights as they are, from the
    input on. Weights that belong to no layer, such as a class token, stay wherever anything stays; so does what two
    layers share and one of them keeps.
    Raises ParameterError where nothing would be learned.
    """
    module = model.module
    order = started(module, model.example_input().to(model.device, model.dtype))
    layers = [m for m in order if m is not module and _has_weights(m)]
    learned, name = _learned(module, layers, heads, asked)
    for parameter, learns in _flags(module, set(layers), learned, all_=len(learned) == len(layers)).items():
        parameter.requires_grad_(learns and parameter.is_floating_point())
    if not any(p.requires_grad for p in module.parameters()):
        raise ParameterError(
            f"freeze={asked}: the network has {len(layers)} layers with weights, so nothing would be learned."
        )
    folded = {m: n for n, m in folded_norms(module).items() if any(p.requires_grad for p in m.parameters())}
    resting = frozenset(_resting(module, order, learned)) | frozenset(folded)
    return Trunk(name, len(layers) - len(learned), len(layers), resting, tuple(folded.values()))


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None or "parametrizations" in module._modules


def _learned(
    module: nn.Module, layers: list[nn.Module], heads: Sequence[str], asked: str | int
) -> tuple[Collection[nn.Module], str]:
    """Return the layers that learn, and the name of the part that holds them all."""
    names = {m: n for n, m in module.named_modules()}
    if asked != "features":
        found = layers[0 if asked == "none" else int(asked) :]
        return found, "" if len(found) == len(layers) else _common([names[m] for m in found])
    blocks = [_block(module, head, len(layers)) for head in heads]
    inside = {m for block in blocks for m in module.get_submodule(block).modules()}
    before = _linear_before(module, layers, inside, blocks[0])
    learned = [m for m in layers if m in inside or m in before]
    return learned, blocks[0] if len(blocks) == 1 and not before else _common([names[m] for m in learned])


def _block(module: nn.Module, head: str, most: int) -> str:
    """Name the largest part around the head, short of the whole, that holds nothing that makes features."""
    block = head
    while "." in block:
        around = module.get_submodule(block.rpartition(".")[0])
        inner = [m for m in around.modules() if m is not module.get_submodule(head)]
        if any(_makes_features(m) for m in inner) or sum(map(_has_weights, around.modules())) >= most:
            break
        block = block.rpartition(".")[0]
    return block


def _makes_features(module: nn.Module) -> bool:
    return isinstance(module, _FEATURES) or _ATTENTION.search(type(module).__name__) is not None


def _linear_before(
    module: nn.Module, layers: list[nn.Module], inside: Collection[nn.Module], block: str
) -> list[nn.Module]:
    """Return the linear layers beside the last block that run just before it, where something before makes features."""
    first = next((i for i, m in enumerate(layers) if m in inside), len(layers))
    beside = set(module.get_submodule(block.rpartition(".")[0])._modules.values())
    begin = first
    while begin and isinstance(layers[begin - 1], nn.Linear) and layers[begin - 1] in beside:
        begin -= 1
    return layers[begin:first] if any(map(_makes_features, layers[:begin])) else []


def _common(names: list[str]) -> str:
    """Return the smallest part that holds all of the named ones.

    >>> _common(["classifier.0", "classifier.3"]), _common(["head"]), _common(["a.b", "c"])
    ('classifier', 'head', '')
    """
    shared = []
    for parts in zip(*(n.split(".") for n in names), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _flags(
    module: nn.Module, layers: set[nn.Module], learned: Collection[nn.Module], *, all_: bool
) -> dict[nn.Parameter, bool]:
    """Say of each weight whether it learns: all of the layers that use it have to."""
    flags: dict[nn.Parameter, bool] = {}
    for parameter, layer in _owned(module, layers, None):
        flags[parameter] = flags.get(parameter, True) and (all_ or layer in learned)
    return flags


def _owned(
    module: nn.Module, layers: set[nn.Module], layer: nn.Module | None
) -> Iterator[tuple[nn.Parameter, nn.Module | None]]:
    """Give each weight with the layer that uses it: the nearest around it that runs, as attention runs its output."""
    yield from ((p, layer) for p in module._parameters.values() if p is not None)
    for part in module._modules.values():
        if part is not None:
            yield from _owned(part, layers, part if part in layers else layer)


def _resting(module: nn.Module, order: list[nn.Module], learned: Collection[nn.Module]) -> Iterator[nn.Module]:
    """Give what holds a weight that stays, and what has no weights and runs before the first layer that learns.

    A frozen batch norm would otherwise go on following the batches, and a dropout would blur frozen features.
    """
    if all(p.requires_grad for p in module.parameters() if p.is_floating_point()):
        return
    before = set(order[: min(order.index(m) for m in learned)])
    for part in module.modules():
        weights = [p for p in part.parameters() if p.is_floating_point()]
        if not all(p.requires_grad for p in weights) or (not weights and part in before):
            yield part


def folded_norms(module: nn.Module) -> dict[str, nn.Module]:
    """Return the batch norms that were folded into their neighbours: with statistics of 0 and 1, which no data has."""
    return {n: m for n, m in module.named_modules() if isinstance(m, _NORMS) and _is_identity(m)}


def _is_identity(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None:
        return False
    fresh = norm.bias is None or bool((norm.bias == 0).all())  # as it is made, before it has seen anything
    return not fresh and bool((mean == 0).all()) and bool((var - 1).abs().max() < 1e-3)


def set_modes(module: nn.Module, resting: Collection[nn.Module] = frozenset()) -> None:
    """Put a network into training mode, and each part that rests into evaluation mode."""
    module.train()
    for part in module.modules():
        if part in resting:
            part.training = False
