"""The register of methods: a decorated function is a method, and its signature is its only schema."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from torch import Tensor

from sightline.errors import ParameterError, suggest
from sightline.points import NoiseScale
from sightline.schema import Parameter, Range, checked, fold, schema_of

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

    @property
    def text(self) -> str:
        """The method's docstring: what it shows, and what its parameters do."""
        return (inspect.getdoc(self.compute) or "").partition(">>>")[0].replace("``", "`").strip()


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
        own = schema_of(compute, skip=1)
        common = schema_of(_common_any) | schema_of(_COMMON[place])
        if family == "gradient" and place == "input":
            common |= schema_of(_common_gradient)
        if reduction is not None:
            common["reduction"] = Parameter("reduction", reduction, (str,), typing.get_args(Reduction))
        drawn: Style = style or ("sequential" if place == "layer" else "diverging")
        parameters = own | common | own  # in that order, and its own where both have the name
        METHODS[name] = Method(name, compute, family, cite, read, place, drawn, parameters, frozenset(own), fuses)
        return compute

    return register


def find_method(name: str) -> Method:
    """Return the method of that name, in any usual spelling: grad_cam, GradCAM, grad-cam, gradcam++.

    Raises ParameterError for an unknown one, with close names.

    >>> find_method("GradCAM++").name
    'grad_cam_plus_plus'
    """
    folded = fold(name)
    for known in METHODS.values():
        if fold(known.name) == folded:
            return known
    if folded in _SPELLINGS:
        return METHODS[_SPELLINGS[folded]]
    hint = suggest(name, METHODS) or suggest(folded, {fold(n): n for n in METHODS})
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
            resolved[owner.name][name] = checked(value, owner.parameters[name], owner.name)
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
