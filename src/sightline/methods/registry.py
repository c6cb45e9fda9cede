"""The register of methods: a decorated function is a method, and its signature is its only schema."""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from torch import Tensor

from sightline.errors import ParameterError, suggest
from sightline.points import Colour, NoiseScale

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

Reads = Literal["input", "layer", "scores"]
Style = Literal["sequential", "diverging", "grey"]
Reduction = Literal["max-abs", "sum-abs", "sum", "l2", "mean"]
Upsampling = Literal["bilinear", "bicubic", "nearest", "spline"]
Fusion = Literal["mean", "max", "product"]


@dataclass(frozen=True)
class Range:
    """The closed range that a numeric parameter may take."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, as its signature says."""

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


@dataclass(frozen=True, eq=False)
class Method:
    """A registered method: ``compute(recording, **parameters)`` gives (N, C, *S) or, for CAMs, (N, *S of the layer)."""

    name: str
    compute: Callable[..., Tensor]
    family: str
    cite: str
    reads: tuple[Reads, ...]
    at: Reads
    style: Style
    parameters: Mapping[str, Parameter]
    own: frozenset[str]
    fuses: bool = False

    @property
    def summary(self) -> str:
        """The first sentence of the method's docstring."""
        return (inspect.getdoc(self.compute) or "").partition("\n")[0]


METHODS: dict[str, Method] = {}

_SPELLINGS = {
    "saliency": "gradient",
    "vanillagradient": "gradient",
    "vanillagradients": "gradient",
    "gradients": "gradient",
    "gradientsinputs": "input_x_gradient",
    "gradientxinput": "input_x_gradient",
    "gradxinput": "input_x_gradient",
    "ixg": "input_x_gradient",
    "ig": "integrated_gradients",
    "guidedbackpropagation": "guided_backprop",
    "gbp": "guided_backprop",
    "deconvolution": "deconvnet",
    "deconv": "deconvnet",
    "gradcampp": "grad_cam_plus_plus",
    "smoothgradcampp": "smooth_grad_cam_plus_plus",
    "gradientshap": "expected_gradients",
    "extractactivations": "activations",
    "shapleyvaluesampling": "shapley_sampling",
    "partitionshap": "owen",
    "partitionexplainer": "owen",
    "anchor": "anchors",
    "rollout": "attention_rollout",
    "gradsam": "attention_gradient",
    "meaningfulperturbations": "meaningful_perturbation",
    "extremalperturbations": "extremal_perturbation",
    "minimalflip": "smallest_flip",
    "minimumflip": "smallest_flip",
    "sobel": "edges",
    "center": "centre",
    "gradcamelementwise": "elementwise_grad_cam",
    "fullgradient": "full_grad",
    "fullgradients": "full_grad",
    "blurintegratedgradients": "blur_ig",
    "guidedintegratedgradients": "guided_ig",
    "gig": "guided_ig",
    "layerconductance": "conductance",
    "gradientxactivation": "layer_gradient_x_activation",
    "layergradientactivation": "layer_gradient_x_activation",
    "dff": "deep_feature_factorization",
    "deepfeaturefactorisation": "deep_feature_factorization",
}


def _common_input(reduction: Reduction = "sum") -> None: ...


def _common_layer(upsampling: Upsampling = "bilinear") -> None: ...


def _common_scores() -> None: ...


def _common_gradient(low_pass: Annotated[float, Range(0, 1)] = 1.0) -> None: ...


def _common_any(
    fuse: Fusion = "mean",
    smooth_samples: Annotated[int, Range(0)] = 0,
    smooth_noise: Annotated[float, Range(0)] = 0.15,
    smooth_scale: NoiseScale = "relative",
) -> None: ...


_COMMON: Mapping[Reads, Callable[..., None]] = {
    "input": _common_input,
    "layer": _common_layer,
    "scores": _common_scores,
}


def method(
    *,
    family: str,
    cite: str,
    reads: Reads | tuple[Reads, ...],
    at: Reads | None = None,
    style: Style | None = None,
    reduction: Reduction | None = None,
    fuses: bool = False,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a function over a recording as a method.

    ``reads`` says what has to be tapped before the pass, "scores" that nothing has: any function will do. ``at`` says
    where the attribution lies (by default what is read; for scores one value for each position of the input);
    ``reduction`` how channels become one map, and ``style`` how that map is drawn. One that ``fuses`` is called once
    for all layers (``rec.layers``), by default the last of each size, and puts them together itself.
    """
    read: tuple[Reads, ...] = (reads,) if isinstance(reads, str) else reads
    place: Reads = at or read[0]

    def register(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = getattr(compute, "__name__", "")
        own = _schema(compute, skip=1)
        common = _schema(_common_any) | _schema(_COMMON[place])
        if family == "gradient" and place == "input":
            common |= _schema(_common_gradient)
        if reduction is not None:
            common["reduction"] = Parameter("reduction", reduction, (str,), typing.get_args(Reduction))
        drawn: Style = style or ("sequential" if place == "layer" else "diverging")
        parameters = own | common | own  # in that order, and its own where both have the name
        METHODS[name] = Method(name, compute, family, cite, read, place, drawn, parameters, frozenset(own), fuses)
        return compute

    return register


def _schema(function: Callable[..., Any], skip: int = 0) -> dict[str, Parameter]:
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


def _fold(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.strip().casefold().replace("++", "plusplus"))


def find_method(name: str) -> Method:
    """Return the method of that name, in any usual spelling: grad_cam, GradCAM, grad-cam, gradcam++.

    Raises ParameterError for an unknown one, with close names.

    >>> find_method("GradCAM++").name
    'grad_cam_plus_plus'
    """
    folded = _fold(name)
    for known in METHODS.values():
        if _fold(known.name) == folded:
            return known
    if folded in _SPELLINGS:
        return METHODS[_SPELLINGS[folded]]
    hint = suggest(name, METHODS) or suggest(folded, {_fold(n): n for n in METHODS})
    raise ParameterError(f"there is no method '{name}'.{hint} See: sightline methods.")


def find_methods(names: str | Iterable[str]) -> list[Method]:
    """Return the methods of a comma-separated string or a list of names, each once."""
    if not isinstance(names, (str, list, tuple)) or not all(isinstance(n, str) for n in names):
        raise ParameterError(f"method={names!r}: wanted a name or a list of names; see: sightline methods.")
    listed = names.split(",") if isinstance(names, str) else list(names)
    found = [find_method(n) for n in listed if n.strip()]
    if not found:
        raise ParameterError("no method was given; see: sightline methods.")
    return list(dict.fromkeys(found))


def resolve_parameters(methods: Iterable[Method], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every method's parameters, defaults filled in: {method name: {parameter: value}}.

    A name goes to every method that has it; ``method.name`` to one. Raises ParameterError where no method has the
    name, or where the value is of the wrong type, not among the choices or out of range.
    """
    chosen = list(methods)
    resolved = {m.name: {p.name: p.default for p in m.parameters.values()} for m in chosen}
    for key, value in sorted(given.items(), key=lambda item: "." in item[0]):
        for owner in _owners(key, chosen):
            name = key.rpartition(".")[2]
            resolved[owner.name][name] = _checked(value, owner.parameters[name], owner)
    return resolved


def _owners(key: str, methods: list[Method]) -> list[Method]:
    prefix, dot, name = key.rpartition(".")
    among = [m for m in methods if not dot or m is find_method(prefix)]
    if not among:
        raise ParameterError(f"parameter '{key}': {prefix} is not among the methods of this call.")
    owners = [m for m in among if name in m.parameters]
    if not owners:
        known = sorted({p for m in among for p in m.parameters})
        who = " and ".join(m.name for m in among)
        hint = suggest(name, known) or f" It has: {', '.join(known)}."
        raise ParameterError(f"{who} has no parameter '{name}'.{hint}")
    return owners


def _checked(value: Any, parameter: Parameter, owner: Method) -> Any:
    where = f"{owner.name}.{parameter.name}"
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
