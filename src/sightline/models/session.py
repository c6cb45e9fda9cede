"""Run somebody's module and leave it as it was found: mode, flags, hooks, gradients, compiler stance."""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ModelError, SightlineError
from sightline.models.adapted import bare

__all__ = ["called", "is_compiled", "is_scripted", "lock_of", "parts", "undisturbed"]

_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_GUARD = threading.Lock()
_STANCE = threading.RLock()


def lock_of(module: nn.Module) -> threading.RLock:
    """Return the one lock of a module, the same for every `Model` that wraps it.

    Forward hooks fire for every thread that uses a module, so two recordings of one module must not overlap.
    """
    with _GUARD:
        return _LOCKS.setdefault(bare(module), threading.RLock())


def called(module: Callable[[Tensor], Any], x: Tensor) -> Any:
    """Call a model on ``x`` (N, C, *S) and say in one line what came when its own code fails on it."""
    try:
        return module(x)
    except SightlineError:
        raise
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"the device ran out of memory on an input of shape {tuple(x.shape)}; give fewer images at once "
            "(batch_size=, chunk=) or --device cpu."
        ) from error
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the model's own forward pass fails on an input of shape {tuple(x.shape)} ({type(error).__name__}: "
            f"{reason}); check its size and channels: --preprocess, or preprocessing= in Python."
        ) from error


def is_scripted(module: nn.Module) -> bool:
    """Say whether the module is TorchScript, whose inside Python hooks cannot see."""
    return isinstance(bare(module), torch.jit.ScriptModule)


def is_compiled(module: nn.Module) -> bool:
    """Say whether any part of the module runs through ``torch.compile``."""
    return _any_compiled(parts(module))


def _any_compiled(every: Sequence[nn.Module]) -> bool:
    return any("_orig_mod" in m._modules or m.__dict__.get("_compiled_call_impl") is not None for m in every)


def parts(module: nn.Module) -> list[nn.Module]:
    """Return the module and all its parts, each once: `nn.Module.modules` without the names, at a tenth of the time."""
    found = {module: None}
    stack = [module]
    while stack:
        for part in stack.pop()._modules.values():
            if part is not None and part not in found:
                found[part] = None
                stack.append(part)
    return list(found)


@contextlib.contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Hold the module's lock, in eval mode and with frozen parameters, and put everything back afterwards.

    Parameters are frozen only for the pass, so that autograd builds no graph for weights that nobody asks about.
    The caller's inference mode and autocast do not reach into it: both would change what is measured.
    """
    with lock_of(module), contextlib.ExitStack() as stack:
        _leave_modes(stack)
        every = parts(module)
        _set_eval(every, stack)
        _freeze(every, stack)
        if _any_compiled(every):
            stack.enter_context(_eager())
        if is_scripted(module):
            stack.enter_context(_plain_script())
        yield


def _leave_modes(stack: contextlib.ExitStack) -> None:
    if torch.is_inference_mode_enabled():
        stack.enter_context(torch.inference_mode(False))
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            stack.enter_context(torch.autocast(device, enabled=False))


def _set_eval(every: Sequence[nn.Module], stack: contextlib.ExitStack) -> None:
    training = [m for m in every if m.training]
    stack.callback(_set_training, training, True)
    _set_training(training, False)


def _set_training(modules: Sequence[nn.Module], training: bool) -> None:
    for module in modules:
        module.training = training


def _freeze(every: Sequence[nn.Module], stack: contextlib.ExitStack) -> None:
    found = {p for m in every for p in m._parameters.values() if p is not None}
    # The flags of inference tensors and of computed ones cannot be set back.
    learning = [p for p in found if p.requires_grad and p.is_leaf and not p.is_inference()]
    stack.callback(_set_learning, learning, True)
    _set_learning(learning, False)


def _set_learning(parameters: Sequence[nn.Parameter], learning: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(learning)


@contextlib.contextmanager
def _eager() -> Iterator[None]:
    # The stance is process-wide, so only one compiled model is recorded at a time.
    with _STANCE, torch.compiler.set_stance("force_eager"):
        yield


@contextlib.contextmanager
def _plain_script() -> Iterator[None]:
    # The optimising executor fuses nodes into one that hides the ReLUs from the backward rules.
    jit = sys.modules["torch.jit"]
    with jit.optimized_execution(False):
        yield
