"""Series as data sets: MNIST-1D, made afresh."""

from __future__ import annotations

import numpy as np

from sightline.demo.mnist1d import make_mnist1d
from sightline.training.data import DataSet, Part

__all__ = ["mnist1d_data"]

_HELD = 400


def mnist1d_data(seed: int = 42) -> DataSet:
    """Return MNIST-1D: 3600 series to learn from, the last 400 of the 4000 to stop by, 1000 to test on."""
    made = make_mnist1d(seed=seed)
    x, x_test = made.x.astype(np.float32), made.x_test.astype(np.float32)
    train, val = Part(x[:-_HELD], made.y[:-_HELD]), Part(x[-_HELD:], made.y[-_HELD:])
    split = f"{len(train)} series, the last {_HELD} of {len(x)} held back, {len(x_test)} to test on"
    return DataSet("mnist1d", tuple(map(str, range(10))), train, val, Part(x_test, made.y_test), split)
