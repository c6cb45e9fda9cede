"""The methods: importing this package registers them all."""

from sightline.methods import (
    anchors,
    attention,
    attention_flow,
    cam,
    control,
    eigen,
    factorization,
    flip,
    full_gradient,
    gradient,
    layers,
    legrad,
    opti_cam,
    optimization,
    owen,
    paths,
    perturbation,
    refined_cam,
    regions,
    relevance,
    score_cam,
    sise,
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
    "find_method",
    "find_methods",
    "method",
    "resolve_parameters",
]
