"""A network as one that can learn other classes: a copy of it, and which of its layers make the logits."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sightline.errors import ModelError
from sightline.forward import Forward, find_logits, run_forward
from sightline.models import keras
from sightline.models.adapted import Adapted, bare
from sightline.models.function import FunctionNet
from sightline.models.head import drop_auxiliary, outputs_of, places_of, with_heads
from sightline.models.model import Model
from sightline.models.session import called, is_scripted, lock_of, undisturbed

__all__ = ["find_heads", "started", "trainable", "with_heads"]

_MOST_HEADS = 4
_MORE = 3  # classes than before, for trying whether a new layer is the head


def trainable(model: Model, seed: int = 0) -> Model:
    """Return a model with a copy of the network, in float32, without heads that serve training alone.

    Weights that wait for a first input to know their shapes are drawn from the seed.
    Raises ModelError for what cannot be trained: TorchScript, exported programs, ONNX files and functions.
    """
    own = bare(model.module)
    if keras.is_keras(own):
        return model
    _refuse(model, own)
    net = _copied(own, model.name)
    drop_auxiliary(net)
    ready = replace(model, module=net.eval(), _layers={}, _copies={}, _shuffled={})
    if any(is_lazy(p) for p in [*net.parameters(), *net.buffers()]):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            called(net, ready.example_input().to(model.device))
    for parameter in net.float().parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return ready


def _copied(own: nn.Module, name: str) -> nn.Module:
    with lock_of(own):
        try:
            return copy.deepcopy(own)
        except (RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ModelError(f"{name} cannot be copied to be trained ({type(error).__name__}: {reason}).") from None


def _refuse(model: Model, own: nn.Module) -> None:
    why = _why_not(own)
    if why is None and isinstance(model.module, Adapted):
        why = "it was loaded with output= or fixed=: give a module whose forward takes a batch and returns the logits"
    if why is None and next(own.parameters(), None) is None:
        why = "it has no weights that could be learned: give a network"
    if why is not None:
        raise ModelError(f"{model.name} cannot be trained, for {why}.")


def _why_not(own: nn.Module) -> str | None:
    if is_scripted(own):
        return "TorchScript cannot be changed: give the module that it was made of"
    if isinstance(own, FunctionNet):
        return "a function, or an ONNX file that only its runtime can run, has no weights to learn: give a network"
    kinds = {type(m).__module__.partition(".")[0] for m in own.modules()}
    if "onnx2torch" in kinds:
        return "an ONNX file holds what a training came to, not how it is trained: give the network it was made of"
    if type(own).__module__.startswith("torch.export"):
        return "an exported program always runs as in evaluation: give the module that it was made of"
    return None


def find_heads(module: nn.Module, x: Tensor) -> tuple[str, ...]:
    """Return the dotted names of the layers that make the logits of ``x`` (N, C, *S): one, or several added up.

    The linear layers and convolutions with as many outputs as there are logits are tried from the last that runs on:
    those are the heads with which, made anew for three classes more, the network gives three logits more.
    Raises ModelError for a network that ends in a softmax or sigmoid, that gives scores for each place of an image,
    or whose logits come from something else.
    """
    logits = _checked(run_forward(module, torch.cat([x, -x]), grad=False))
    count = logits.shape[1]
    names = {m: n for n, m in module.named_modules()}
    ran = [m for m in reversed(started(module, x)) if outputs_of(m) == count]
    for most in range(1, min(len(ran), _MOST_HEADS) + 1):
        heads = tuple(names[m] for m in ran[:most])
        if _makes(module, heads, x, count + _MORE):
            return heads
    last = next((f"'{names[m]}' ({type(m).__name__})" for m in reversed(started(module, x)) if _owns(m)), "none")
    raise ModelError(
        f"no layer was found that makes the {count} logits by itself (the last with weights is {last}); wanted a "
        "network that ends in a linear layer or a convolution, as nn.Linear(features, classes)."
    )


def _checked(found: Forward) -> Tensor:
    head = "softmax" if found.hidden_head else found.head
    if head != "none":
        raise ModelError(
            f"the network ends in a {head}, and training wants the logits before it, since the loss has its own; "
            "let its forward return what that last step is given (the same classes win, and explanations want it too)."
        )
    if found.logits.ndim != 2:
        raise ModelError(
            f"the network gives scores of shape {tuple(found.logits.shape)}, one for each place of an image; wanted "
            "one row of scores for each image: a classifier."
        )
    return found.logits


def _owns(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def started(module: nn.Module, x: Tensor) -> list[nn.Module]:
    """Return the modules in the order in which they begin to run for the first time."""
    heard: dict[nn.Module, None] = {}
    handles = [m.register_forward_pre_hook(lambda part, _: heard.setdefault(part)) for m in module.modules()]
    try:
        with undisturbed(module), torch.no_grad():
            called(module, x)
    finally:
        for handle in handles:
            handle.remove()
    return list(heard)


def _makes(module: nn.Module, heads: Sequence[str], x: Tensor, classes: int) -> bool:
    """Say whether the network, with these heads made anew, gives so many logits; it is left as it was."""
    with _replaced(module, heads, classes), undisturbed(module), torch.no_grad():
        try:
            return find_logits(called(module, x), len(x)).shape[1:].numel() == classes
        except ModelError:  # what comes after the layer wants the old number
            return False


@contextmanager
def _replaced(module: nn.Module, heads: Sequence[str], classes: int) -> Iterator[None]:
    kept = [(place, module.get_submodule(n)) for n in heads for place in places_of(module, module.get_submodule(n))]
    said = getattr(module, "num_classes", None)
    try:
        with_heads(module, heads, classes)
        yield
    finally:
        for (parent, own), layer in kept:
            parent._modules[own] = layer
        if isinstance(said, int):
            vars(module)["num_classes"] = said
