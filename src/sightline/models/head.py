"""The last layers of a network, which make its logits, made anew for other classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from sightline.errors import ModelError

__all__ = ["drop_auxiliary", "outputs_of", "places_of", "with_heads"]

_AUXILIARY = ("aux1", "aux2", "AuxLogits")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def outputs_of(layer: nn.Module) -> int | None:
    """Return how many values a linear layer or convolution makes for each place, None for another layer.

    >>> outputs_of(nn.Conv1d(3, 7, 1)), outputs_of(nn.ReLU())
    (7, None)
    """
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, _CONVOLUTIONS) else None


def with_heads(module: nn.Module, names: Sequence[str], classes: int, seed: int = 0) -> nn.Module:
    """Put new layers of ``classes`` outputs in the places of the named ones, everywhere where those stand.

    The weights are drawn from the seed as torch draws them, the biases begin at 0. Raises ModelError for a name that
    is no linear layer or convolution. The module is changed, and returned.

    >>> with_heads(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), ["1"], 2)(torch.ones(1, 3, 2, 2)).shape
    torch.Size([1, 2])
    """
    old = [_named(module, name) for name in names]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = [_made(layer, classes) for layer in old]
    for before, after in zip(old, made, strict=True):
        for parent, own in places_of(module, before):
            parent._modules[own] = after.train(before.training)
    if isinstance(getattr(module, "num_classes", None), int):  # as timm's and some of torchvision's nets keep it
        vars(module)["num_classes"] = classes
    return module


def _named(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError:
        raise ModelError(f"there is no layer '{name}' whose place a new last layer could take.") from None


def places_of(module: nn.Module, layer: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return every place where a layer stands, as its owner and its name there."""
    return list(_places(module, layer))


def _places(module: nn.Module, layer: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for parent in module.modules():
        yield from ((parent, own) for own, part in parent._modules.items() if part is layer)


def _made(old: nn.Module, classes: int) -> nn.Module:
    made = _like(old, classes)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    weight = next(old.parameters())
    return made.to(weight.device, weight.dtype)


def _like(old: nn.Module, classes: int) -> nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d:
    biased = getattr(old, "bias", None) is not None
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, classes, bias=biased)
    for kind in _CONVOLUTIONS:
        if isinstance(old, kind):
            mode, shape = old.padding_mode, (old.kernel_size, old.stride, old.padding, old.dilation)
            return kind(old.in_channels, classes, *shape, bias=biased, padding_mode=mode)  # type: ignore[arg-type]
    raise ModelError(f"a {type(old).__name__} came as the last layer; wanted a linear layer or a convolution.")


def drop_auxiliary(module: nn.Module) -> None:
    """Take the heads away that GoogLeNet and Inception have for training alone, as torchvision itself does."""
    for part in module.modules():
        if getattr(part, "aux_logits", False) is True:
            vars(part)["aux_logits"] = False
            part._modules.update({name: None for name in _AUXILIARY if name in part._modules})
