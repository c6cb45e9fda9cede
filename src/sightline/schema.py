"""A function's signature as its only schema: parameters with defaults, choices and ranges, and how they are checked."""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from torch import Tensor

from sightline.errors import ParameterError, suggest
from sightline.points import Colour

__all__ = ["Parameter", "Range", "checked", "fold", "schema_of"]


@dataclass(frozen=True)
class Range:
    """The closed range that a numeric parameter may take."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method or metric, as its signature says."""

    name: str
    default: Any
    types: tuple[type, ...]
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def colours(self) -> bool:
        """Whether a colour will do too."""
        return Colour in self.types

    @property
    def values(self) -> str:
        """The choices and what else will do, as text."""
        colour = ("a colour (a name, #rrggbb or r,g,b)",) if self.colours else ()
        return ", ".join((*self.choices, *colour)) + (" or an array" if Tensor in self.types else "")


def schema_of(function: Callable[..., Any], skip: int = 0) -> dict[str, Parameter]:
    """Return a function's parameters by name, but for the first ``skip``."""
    hints = typing.get_type_hints(function, include_extras=True)
    listed = list(inspect.signature(function).parameters.values())[skip:]
    return {p.name: _parameter(p.name, p.default, hints[p.name]) for p in listed}


def _parameter(name: str, default: Any, hint: Any) -> Parameter:
    bounds = Range()
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
        bounds = next((e for e in extras if isinstance(e, Range)), bounds)
    kinds = typing.get_args(hint) if _is_union(hint) else (hint,)
    choices = tuple(c for k in kinds if typing.get_origin(k) is Literal for c in typing.get_args(k))
    plain = tuple(str if typing.get_origin(k) is Literal else k for k in kinds)
    return Parameter(name, default, plain, choices, bounds.low, bounds.high)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def fold(name: str) -> str:
    """Return a name without case, dashes, underscores and spaces, ++ written out."""
    return re.sub(r"[-_ ]", "", name.strip().casefold().replace("++", "plusplus"))


def checked(value: Any, parameter: Parameter, owner: str) -> Any:
    """Return the value as the parameter takes it; ParameterError names ``owner`` and says what was wanted."""
    where = f"{owner}.{parameter.name}"
    if isinstance(value, (list, tuple)):
        value = _listed(value, parameter, where)
    if isinstance(value, (Tensor, np.ndarray)):
        if Tensor in parameter.types:
            return value
        raise ParameterError(f"{where}: an array came; wanted {_wanted(parameter)}.")
    converted = _converted(value, parameter)
    if converted is None:
        raise ParameterError(f"{where}={value!r}: wanted {_wanted(parameter)}.{_near(value, parameter)}")
    if _is_number(converted) and not _in_range(converted, parameter):
        raise ParameterError(f"{where}={value}: wanted {_wanted(parameter)}.")
    return converted


def _listed(value: Any, parameter: Parameter, where: str) -> Any:
    """Return a list as the array that it is, or as text with commas."""
    if Tensor not in parameter.types:
        return ",".join(map(str, value))
    try:
        return np.asarray(value)
    except ValueError:
        raise ParameterError(f"{where}: a list that is no array came; wanted {_wanted(parameter)}.") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _in_range(value: float, parameter: Parameter) -> bool:
    low = -math.inf if parameter.low is None else parameter.low
    return math.isfinite(value) and low <= value <= (math.inf if parameter.high is None else parameter.high)


def _near(value: Any, parameter: Parameter) -> str:
    return suggest(str(value), parameter.choices) if parameter.choices else ""


def _converted(value: Any, parameter: Parameter) -> Any:
    """Return the value as the parameter's type, or None; text is read as the command line gives it."""
    if parameter.choices:
        folded = {c.replace("-", "_").casefold(): c for c in parameter.choices}
        chosen = folded.get(str(value).replace("-", "_").casefold())
        return Colour.read(value) if chosen is None and parameter.colours else chosen
    if bool in parameter.types:
        return _as_bool(value)
    if isinstance(value, bool):
        return None
    for kind in (k for k in parameter.types if k in (int, float)):
        try:
            number = kind(value)
        except (TypeError, ValueError):
            continue
        if number == (float(value) if isinstance(value, str) else value):
            return number
    return value if str in parameter.types and isinstance(value, str) else None


def _as_bool(value: Any) -> bool | None:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    return words.get(value.strip().casefold()) if isinstance(value, str) else None


def _wanted(parameter: Parameter) -> str:
    if parameter.choices:
        return f"one of {parameter.values}"
    kind = "true or false" if bool in parameter.types else "a whole number" if int in parameter.types else "a number"
    if parameter.low is not None and parameter.high is not None:
        return f"{kind} from {parameter.low:g} to {parameter.high:g}"
    return f"{kind} of at least {parameter.low:g}" if parameter.low is not None else kind
