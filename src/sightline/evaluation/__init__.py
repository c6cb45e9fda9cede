"""Measuring explanations: metrics, controls, ground truth, and what they say together.

`registry` holds the metrics; each is one function over a `Case`, in a file of `metrics`.
"""

from sightline.evaluation.metrics import (
    axioms,
    bound,
    cells,
    complexity,
    confidence,
    curves,
    localization,
    marked,
    pic,
    randomization,
    regions,
    road,
    robustness,
)
from sightline.evaluation.registry import METRICS, Metric, find_metric, find_metrics
from sightline.evaluation.truth import pointing

__all__ = ["METRICS", "Metric", "find_metric", "find_metrics"]
