"""The methods: importing this package registers them all."""

from sightline.methods import attention, cam, control, gradient, perturbation, relevance, score_cam, surrogate
from sightline.methods.registry import (
    METHODS,
    Method,
    Parameter,
    Range,
    find_method,
    find_methods,
    method,
    resolve_parameters,
)

__all__ = [
    "METHODS",
    "Method",
    "Parameter",
    "Range",
    "attention",
    "cam",
    "control",
    "find_method",
    "find_methods",
    "gradient",
    "method",
    "perturbation",
    "relevance",
    "resolve_parameters",
    "score_cam",
    "surrogate",
]
