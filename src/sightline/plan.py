"""What a call asks for, checked once before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import LayerError, ParameterError, TargetError
from sightline.forward import Precision, layer_call, layer_of
from sightline.methods import Method, find_methods, resolve_parameters
from sightline.models.adapted import named_layers
from sightline.models.model import Model
from sightline.recording import Options
from sightline.targets import Contrast, Output, PerImage, Target

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """The model, the methods with their parameters, the targets and layers, and how passes are made."""

    model: Model
    methods: Sequence[Method]
    parameters: Mapping[str, Mapping[str, Any]]
    targets: Sequence[Target]
    layers: tuple[str, ...]
    options: Options
    images: int = 1
    check: bool = False

    def layers_for(self, method: Method, x: Tensor) -> tuple[str, ...]:
        """Return the layers that a method reads: none, those that were named, or what tracing found."""
        if "layer" not in method.reads:
            return ()
        return self.layers or (self.model.last_layers(x) if method.fuses else (self.model.default_layer(x),))


def make_plan(
    model: Model,
    method: str | Sequence[str],
    target: Target | Sequence[Target],
    *,
    contrast: Target | None,
    layer: Any,
    output: Output,
    precision: Precision | torch.dtype,
    seed: int,
    chunk: int | None,
    parameters: Mapping[str, Any],
    tick: Callable[[int], None] | None,
) -> Plan:
    """Check what was asked for and return it as a plan.

    Raises ParameterError, LayerError, or ModelError where the weights are broken.
    """
    methods = find_methods(method)
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ParameterError(f"seed={seed!r}: wanted a whole number from 0 to 2**63 - 1.")
    if chunk is not None and chunk < 1:
        raise ParameterError(f"chunk={chunk}: wanted at least 1 point, or None.")
    exact: Precision = _one_of("precision", str(precision).removeprefix("torch."), Precision)
    said: Output = _one_of("output", output, Output)
    plan = Plan(
        model=model.in_precision(exact),
        methods=methods,
        parameters=resolve_parameters(methods, parameters),
        targets=_targets(target, contrast),
        layers=_layer_names(model, layer),
        options=Options(output=said, precision=exact, seed=seed, chunk=chunk, tick=tick),
    )
    plan.model.check_weights()
    return plan


def _one_of(name: str, value: Any, choices: Any) -> Any:
    if value not in choices.__args__:
        raise ParameterError(f"{name}={value!r}: wanted one of {', '.join(choices.__args__)}.")
    return value


def _targets(target: Target | Sequence[Target], contrast: Target | None) -> list[Target]:
    listed: list[Target] = list(target) if isinstance(target, (list, tuple)) else [_per_image(target)]
    if not listed:
        raise ParameterError("target=[]: wanted at least one target.")
    return listed if contrast is None else [Contrast(t, contrast) for t in listed]


def _per_image(target: Any) -> Target:
    """Read a tensor or array of indices as one target for each image."""
    if not isinstance(target, (Tensor, np.ndarray)):
        return target  # type: ignore[no-any-return]
    indices = np.asarray(target).reshape(-1)
    if not np.issubdtype(indices.dtype, np.integer):
        raise TargetError(f"targets of {indices.dtype} came; wanted whole numbers, one class index for each image.")
    return PerImage(tuple(indices.tolist()))


def _layer_names(model: Model, layer: Any) -> tuple[str, ...]:
    listed = () if layer is None else tuple(layer) if isinstance(layer, (list, tuple)) else (layer,)
    wrong = next((one for one in listed if not isinstance(one, (str, nn.Module))), None)
    if wrong is not None:
        raise LayerError(f"layer={wrong!r}: wanted a layer's name or module (sightline layers MODEL lists them).")
    names = tuple(_name_of(model, one) if isinstance(one, nn.Module) else one for one in listed)
    for name in names:
        layer_of(model.module, layer_call(name)[0])
    return names


def _name_of(model: Model, wanted: nn.Module) -> str:
    for name, layer in named_layers(model.module).items():
        if layer is wanted:
            return name
    raise LayerError(f"the {type(wanted).__name__} given as a layer is not part of {model.name}.")
