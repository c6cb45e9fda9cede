"""The last layer of a network, made anew for other classes, and what of the rest is learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.errors import ModelError, ParameterError
from sightline.forward import run_forward
from sightline.models.model import Model
from sightline.models.session import undisturbed

__all__ = ["Trunk", "find_head", "folded_norms", "freeze", "set_modes", "with_head"]

_NO_BLOCK = (nn.Conv1d, nn.Conv3d, nn.MultiheadAttention)
_NORMS = (nn.modules.batchnorm._BatchNorm,)


def find_head(module: nn.Module, x: Tensor) -> str:
    """Return the dotted name of the last layer with weights that runs, which makes the logits of ``x`` (N, C, *S).

    Raises ModelError where the module ends in a softmax, or in no linear layer or convolution with the logits' number.
    """
    found = run_forward(module, x, grad=False)
    if found.head != "none":
        raise ModelError(
            f"the network ends in {found.head}; training wants logits, for the loss has its own: leave that layer out."
        )
    name = _ran(module, x)[-1] if _ran(module, x) else ""
    layer = module.get_submodule(name)
    outputs = getattr(layer, "out_features", getattr(layer, "out_channels", None))
    if not isinstance(layer, (nn.Linear, nn.Conv2d, nn.Conv1d)) or outputs != found.logits.shape[1]:
        raise ModelError(
            f"the last layer with weights is '{name}' ({type(layer).__name__}), which does not make the "
            f"{found.logits.shape[1]} logits; wanted a network that ends in a linear layer or a convolution."
        )
    return name


def _ran(module: nn.Module, x: Tensor) -> list[str]:
    """Name the layers that own weights in the order in which they run."""
    heard: dict[str, None] = {}
    owners = [(n, m) for n, m in module.named_modules() if n and next(m.parameters(recurse=False), None) is not None]
    handles = [m.register_forward_hook(lambda *_, n=n: heard.setdefault(n)) for n, m in owners]
    try:
        with undisturbed(module), torch.no_grad():
            module(x)
    finally:
        for handle in handles:
            handle.remove()
    return list(heard)


def with_head(module: nn.Module, name: str, classes: int, seed: int = 0) -> nn.Module:
    """Put a new layer of ``classes`` outputs in the place of ``name``, its weights drawn from a seed.

    The biases begin at 0, the weights as torch draws them.
    """
    old = module.get_submodule(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = _made(old, classes)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, made.to(next(old.parameters()).device, next(old.parameters()).dtype))
    return module


def _made(old: nn.Module, classes: int) -> nn.Linear | nn.Conv1d | nn.Conv2d:
    biased = getattr(old, "bias", None) is not None
    if isinstance(old, (nn.Conv1d, nn.Conv2d)):
        return type(old)(old.in_channels, classes, old.kernel_size, old.stride, old.padding, bias=biased)  # type: ignore[arg-type]
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, classes, bias=biased)
    raise ModelError(f"the last layer is a {type(old).__name__}; wanted a linear layer or a convolution.")


@dataclass(frozen=True)
class Trunk:
    """What of a network is learned: ``learned`` holds all of it, "" being the whole; ``frozen`` layers stay."""

    learned: str
    frozen: int
    layers: int


def freeze(model: Model, head: str, asked: str) -> Trunk:
    """Let the layers that are to stay carry no gradient, and say where learning begins.

    "features" learns the largest block around the head that holds no other convolution or attention, "none" all,
    a number leaves so many layers with weights as they are, from the input on.
    Raises ParameterError where nothing would be learned.
    """
    module = model.module
    ran = _ran(module, model.example_input().to(model.device, model.dtype))
    block = _block(module, head)
    within = [n for n in ran if n == block or n.startswith(f"{block}.")]
    stay = len(ran) - len(within) if asked == "features" else 0 if asked == "none" else int(asked)
    if stay >= len(ran):
        raise ParameterError(
            f"freeze={asked}: the network has {len(ran)} layers with weights, so nothing would be learned."
        )
    learned = set(ran[stay:])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(stay == 0 or name.rpartition(".")[0] in learned)
    return Trunk(_common([*learned]), stay, len(ran))


def _block(module: nn.Module, head: str) -> str:
    """Name the largest part around the head, short of the whole, without another convolution or attention."""
    block = head
    while "." in block:
        around = block.rpartition(".")[0]
        others = (m for n, m in module.get_submodule(around).named_modules() if f"{around}.{n}" != head)
        if any(isinstance(m, (*_NO_BLOCK, nn.Conv2d)) for m in others):
            break
        block = around
    return block


def _common(names: list[str]) -> str:
    """Return the smallest part that holds all of the named ones.

    >>> _common(["classifier.0", "classifier.3"]), _common(["head"]), _common(["a.b", "c"])
    ('classifier', 'head', '')
    """
    split = [n.split(".") for n in names]
    shared = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def folded_norms(module: nn.Module) -> list[str]:
    """Name the batch norms that were folded into their neighbours: their statistics are 0 and 1, which no data has."""
    return [n for n, m in module.named_modules() if isinstance(m, _NORMS) and _is_identity(m)]


def _is_identity(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None:
        return False
    fresh = norm.bias is None or bool((norm.bias == 0).all())  # as it is made, before it has seen anything
    return not fresh and bool((mean == 0).all()) and bool((var - 1).abs().max() < 1e-3)


def set_modes(module: nn.Module, kept: frozenset[str] = frozenset()) -> None:
    """Put what is learned into training mode and what is frozen, or in ``kept``, into evaluation mode.

    A frozen batch norm would otherwise go on following the batches, and a frozen dropout would blur its features.
    """
    module.train()
    for name, part in module.named_modules():
        weights = list(part.parameters())
        if name in kept or (weights and not any(p.requires_grad for p in weights)):
            part.eval()
