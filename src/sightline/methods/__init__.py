"""The methods: importing this package registers them all."""

from sightline.methods import cam, gradient, perturbation, surrogate
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
    "cam",
    "find_method",
    "find_methods",
    "gradient",
    "method",
    "perturbation",
    "resolve_parameters",
    "surrogate",
]
