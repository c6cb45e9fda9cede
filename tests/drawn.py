"""Folders of tiny pictures, each another one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def picture(file: Path, key: str | None = None, mode: str = "RGB") -> None:
    """Write a small picture that is another for every name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    seed = hashlib.sha256((key or str(file)).encode()).digest()
    values = np.random.default_rng([*seed]).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(file)


def pictures(root: Path, counts: Mapping[str, int]) -> Path:
    for name, count in counts.items():
        for n in range(count):
            picture(root / name / f"{n}.png", f"{name}{n}")
    return root
