"""The methods: importing this package registers them all."""

from sightline.methods import (
    attention,
    cam,
    control,
    full_gradient,
    gradient,
    layers,
    paths,
    perturbation,
    regions,
    relevance,
    score_cam,
    surrogate,
)
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
    "full_gradient",
    "gradient",
    "layers",
    "method",
    "paths",
    "perturbation",
    "regions",
    "relevance",
    "resolve_parameters",
    "score_cam",
    "surrogate",
]
