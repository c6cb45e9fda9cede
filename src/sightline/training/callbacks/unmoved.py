"""Leave a training as it was found: generators of random numbers, and what modules count."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["unmoved"]


@contextmanager
def unmoved(module: nn.Module) -> Iterator[None]:
    """Put back afterwards: torch's, numpy's and Python's generators, the module's buffers and its whole numbers.

    Modes, gradients and flags are kept by whoever runs the module (`sightline.models.session.undisturbed`).
    """
    kept = [(t, t.detach().clone()) for t in _counters(module)]
    python, arrays = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        _put_back(kept)


def _counters(module: nn.Module) -> list[Tensor]:
    # Keras keeps the seeds of its dropouts among the parameters, as whole numbers.
    return [*module.buffers(), *(p for p in module.parameters() if not p.is_floating_point())]


def _put_back(kept: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for tensor, before in kept:
            if not torch.equal(tensor, before):
                tensor.copy_(before)
