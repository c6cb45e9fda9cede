"""Measuring explanations: metrics, controls, ground truth, and what they say together.

`registry` holds the metrics; each is one function over a `Case`, in the file of its family.
"""

from sightline.evaluation import cells, curves, marked, randomization, robustness
from sightline.evaluation.registry import METRICS, Metric, find_metric, find_metrics

__all__ = [
    "METRICS",
    "Metric",
    "cells",
    "curves",
    "find_metric",
    "find_metrics",
    "marked",
    "randomization",
    "robustness",
]
