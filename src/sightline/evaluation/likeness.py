"""How alike two explanations are."""

from __future__ import annotations

from typing import Literal

import torch

from sightline.errors import InputError
from sightline.evaluation.metrics.randomization import alike
from sightline.explanation import Explanation

__all__ = ["likeness"]


def likeness(
    a: Explanation, b: Explanation, similarity: Literal["spearman", "spearman_abs", "ssim"] = "spearman"
) -> float:
    """Return how alike two explanations' maps are on the model's input: 1 is the same map, 0 no relation.

    Rank correlation of the values or of their magnitudes, or the structural similarity (SSIM) of two-dimensional maps
    as they are; NaN where one map is constant. Raises InputError for maps of two sizes.

    >>> from sightline import explain
    >>> from sightline.demo.scenes import scene
    >>> e = explain("demo/honest", scene(0).image)
    >>> likeness(e, e)
    1.0
    """
    if a.input_size != b.input_size:
        raise InputError(f"maps of {a.input_size} and {b.input_size} came; wanted two of one size.")
    first, second = (torch.tensor(e.at_input())[None] for e in (a, b))
    return float(alike(first, second, similarity))
