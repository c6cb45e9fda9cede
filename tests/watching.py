"""What the tests of callbacks share: small images, a step of learning, event files read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sightline import Preprocessing

HOW = Preprocessing(resize=16, crop=16, mean=(0.5,) * 3, std=(0.25,) * 3)


def images(count: int) -> list[np.ndarray]:
    """Return noise (16, 16, 3) with a bright square at another place in each."""
    rng = np.random.default_rng(0)
    found = [rng.integers(0, 120, (16, 16, 3), dtype=np.uint8) for _ in range(count)]
    for n, picture in enumerate(found):
        picture[2 + n : 8 + n, 3:9] = 250
    return found


def learned(module: nn.Module) -> nn.Module:
    """Return the module after some steps on noise."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(16, 3, 16, 16, generator=generator), torch.arange(16) % 5
    steps = torch.optim.SGD(module.parameters(), 0.5)
    for _ in range(5):
        steps.zero_grad()
        F.cross_entropy(module(x), y).backward()
        steps.step()
    return module


def tags_of(folder: Path) -> dict[str, list[Any]]:
    """Return the image events below a folder by their tags."""
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={IMAGES: 0})
    events.Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}
