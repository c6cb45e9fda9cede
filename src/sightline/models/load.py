"""`load`: from whatever a user has to a `Model`, with the user's own labels, preprocessing and device."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sightline.errors import ModelError, suggest
from sightline.geometry import Preprocessing
from sightline.images import MAX_PIXELS
from sightline.labels import Labels, read_labels
from sightline.models import keras
from sightline.models.function import with_call
from sightline.models.model import Model
from sightline.models.sources import Asked, from_function, from_keras_object, from_module, named

__all__ = ["Device", "load", "split_models"]

Device = Literal["auto", "cpu", "cuda", "mps"]
Fit = Literal["crop", "squash", "pad"]

_LOG = logging.getLogger("sightline")


def load(
    what: str | os.PathLike[str] | nn.Module | Model | Callable[[Tensor], Any],
    *,
    weights: str | os.PathLike[str] | None = "default",
    labels: str | os.PathLike[str] | list[str] | tuple[str, ...] | Labels | None = None,
    preprocessing: Preprocessing | None = None,
    fit: Fit | None = None,
    device: str = "auto",
    trust: bool = False,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    custom_objects: Mapping[str, Any] | None = None,
    output: str | int | None = None,
    fixed: Mapping[str, Any] | tuple[Any, ...] | None = None,
    dims: int | None = None,
) -> Model:
    """Load a classifier to be explained.

    ``what`` is a torchvision name ("resnet152"), "keras/NAME" or "timm/NAME", a Hugging Face folder or hub name, a
    file (``.keras``, ``.h5``, ``.onnx``; ``.pt2``, TorchScript and pickled modules with ``trust``), ``NAME@FILE`` (a
    name with its weights file), a folder that `train` wrote, an embedded model ("demo/honest", "demo/cheating",
    "demo/vit", and "demo/mnist1d" of series), a factory ("file.py:function", "package.module:function"), an
    `nn.Module`, a Keras model, or a function of a batch (N, C, H, W) in [0, 1] to scores (N, K). ``weights`` is the
    name of published weights, a file, a folder that `train` wrote (of which ``what`` then makes the network), or None
    for random ones.

    ``output`` names the logits among several outputs, ``fixed`` gives the other inputs (by name, or in a tuple by
    place). ``labels`` are class names or a file of them; ``fit`` is "crop", "squash" or "pad"; ``device`` is "auto",
    "cpu", "cuda" or "mps" (a module of your own stays where it is unless one is named). ``custom_objects`` are the
    classes of a Keras file. ``dims`` is 1 for series, 2 for pictures, 3 for volumes, where the model does not show it.

    Raises ModelError where the model or its weights cannot be had, TrustError where a file would run code.

    >>> load("demo/honest").name
    'demo/honest'
    """
    if isinstance(what, Model):
        model = what
    elif keras.is_keras(what):
        model = from_keras_object(what, weights, fixed)
    elif isinstance(what, nn.Module):
        model = from_module(what, weights)
    elif isinstance(what, (str, os.PathLike)):
        model = named(os.fspath(what), Asked(weights, trust, seed, custom_objects or {}, fixed))
    elif callable(what):
        model = from_function(what)
    else:
        raise ModelError(f"a {type(what).__name__} came as a model; wanted a name, a file, a module or a function.")
    others = None if model.fixed else fixed
    if output is not None or others:
        model = replace(model, module=with_call(model.module, output, others), _layers={}, _copies={})
    if dims is not None:
        model = _with_dims(model, dims)
    model = _with_overrides(model, labels, preprocessing, fit, max_pixels)
    model = _on_device(model, device, own=not isinstance(what, (str, os.PathLike)))
    for note in model.notes:
        _LOG.warning("%s: %s", model.name, note)
    return model


def _with_dims(model: Model, dims: int) -> Model:
    if dims not in (1, 2, 3):
        raise ModelError(f"dims={dims!r}: wanted 1 (series), 2 (pictures) or 3 (volumes).")
    return replace(model, dims=dims, _layers={}, _copies={})


def _with_overrides(
    model: Model,
    labels: Any,
    preprocessing: Preprocessing | None,
    fit: Fit | None,
    max_pixels: int,
) -> Model:
    how = preprocessing or model.preprocessing
    if fit is not None:
        how = how.with_fit(fit)
    assumed = model.assumed and preprocessing is None
    names = _labels(labels, model.labels)
    return replace(model, preprocessing=how, labels=names, max_pixels=max_pixels, assumed=assumed)


def _labels(given: Any, known: Labels) -> Labels:
    if given is None:
        return known
    if isinstance(given, Labels):
        return given
    return Labels(tuple(map(str, given))) if isinstance(given, (list, tuple)) else read_labels(given)


def _on_device(model: Model, device: str, own: bool) -> Model:
    if device == "auto":
        if own:
            return model
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise ModelError(f"device '{device}': wanted auto, cpu, cuda or mps.{suggest(kind, ['cpu', 'cuda', 'mps'])}")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[kind]:
        raise ModelError(f"device '{device}' is not available on this machine; use --device auto or cpu.")
    if model.device.type == kind:
        return model
    if own:
        raise ModelError(
            f"the module is on {model.device} and device='{device}' was asked; move it yourself (module.to(...)): "
            "Sightline does not change your module."
        )
    return replace(model, module=model.module.to(device), _layers={}, _copies={})


def split_models(text: str) -> list[str]:
    """Split a comma-separated list of models, as ``resnet18@a.safetensors,resnet152@b.safetensors``."""
    return [m.strip() for m in text.split(",") if m.strip()]
