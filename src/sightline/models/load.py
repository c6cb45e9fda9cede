"""`load`: from a name, a file, a factory or a module to a `Model`."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sightline.errors import ModelError, SightlineError, suggest
from sightline.geometry import Preprocessing
from sightline.images import MAX_PIXELS
from sightline.labels import Labels, read_labels
from sightline.models import files, keras, keras_zoo, zoo
from sightline.models.model import Model, guess_channels

__all__ = ["Device", "load", "split_models"]

Device = Literal["auto", "cpu", "cuda", "mps"]
Fit = Literal["crop", "squash", "pad"]

_LOG = logging.getLogger("sightline")
_DEMO = {"demo/honest": "honest", "demo/cheating": "cheating"}
_WEIGHTS_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class _Asked:
    weights: str | os.PathLike[str] | None
    trust: bool
    seed: int
    custom_objects: Mapping[str, Any] = field(default_factory=dict)


def load(
    what: str | nn.Module | Model,
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
) -> Model:
    """Load a classifier to be explained.

    ``what`` is a torchvision name ("resnet152"), ``NAME@FILE`` (a name with its weights file), an embedded model
    ("demo/honest", "demo/cheating"), a factory ("file.py:function", "package.module:function"), a pickled module
    (with ``trust``), or an `nn.Module`. ``weights`` is the name of published weights, a file, or None for random
    ones. ``labels`` are class names or a file of them; ``fit`` is "crop", "squash" or "pad"; ``device`` is "auto",
    "cpu", "cuda" or "mps" (a module of your own stays where it is unless one is named).

    Raises ModelError where the model or its weights cannot be had, TrustError where a file would run code.

    >>> load("demo/honest").name
    'demo/honest'
    """
    if isinstance(what, Model):
        model = what
    elif keras.is_keras(what):
        model = keras.from_keras(what)
    elif isinstance(what, nn.Module):
        model = _from_module(what, weights)
    else:
        model = _named(str(what), _Asked(weights, trust, seed, custom_objects or {}))
    model = _with_overrides(model, labels, preprocessing, fit, max_pixels)
    model = _on_device(model, device, own=isinstance(what, (Model, nn.Module)))
    for note in model.notes:
        _LOG.warning("%s: %s", model.name, note)
    return model


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


def _from_module(module: nn.Module, weights: Any) -> Model:
    if weights not in ("default", None):
        raise ModelError(
            "weights= came with a module; load them into it yourself (module.load_state_dict): Sightline does not "
            "change your module."
        )
    return Model(module, type(module).__name__, _usual_preprocessing(module), assumed=True)


def _usual_preprocessing(module: nn.Module) -> Preprocessing:
    """Return what most models want, for one that does not say: ImageNet's, or -1 to 1 for other channel counts."""
    channels = guess_channels(module)
    how = Preprocessing()
    return how if channels == 3 else replace(how, mean=(0.5,) * channels, std=(0.5,) * channels)


def _named(what: str, asked: _Asked) -> Model:
    name, at, file = what.partition("@")
    if at:
        return _named(name, replace(asked, weights=file))
    if what in _DEMO:
        return _demo(what)
    if what.startswith(keras_zoo.PREFIX):
        return keras_zoo.keras_application(what.removeprefix(keras_zoo.PREFIX), asked.weights, asked.seed)
    path = Path(what)
    if path.suffix in keras.SUFFIXES:
        return _from_keras_file(path, asked)
    if path.suffix in _WEIGHTS_FILES:
        return _from_file(path, asked)
    if ":" in what:
        return _from_factory(what, asked)
    return _from_zoo(what, asked)


def _demo(name: str) -> Model:
    from sightline.demo.nets import DEMO_MEAN, DEMO_STD, load_demo
    from sightline.demo.scenes import CLASSES, SIZE

    how = Preprocessing(resize=SIZE, crop=SIZE, mean=DEMO_MEAN, std=DEMO_STD)
    module = load_demo("honest" if name == "demo/honest" else "cheating")
    return Model(module, name, how, Labels(CLASSES), weights="embedded")


def _from_file(path: Path, asked: _Asked) -> Model:
    if path.suffix == ".safetensors":
        raise ModelError(
            f"{path} holds weights without an architecture; name both: --model NAME@{path.name}, or "
            f"--model FACTORY.py:FUNCTION --weights {path.name}."
        )
    module = files.read_module(path, asked.trust)
    return Model(module, path.stem, _usual_preprocessing(module), weights=path.name, assumed=True)


def _from_keras_file(path: Path, asked: _Asked) -> Model:
    net = keras.read_keras(path, trust=asked.trust, custom_objects=asked.custom_objects)
    return keras.from_keras(net, path.stem, weights=path.name)


def _from_zoo(name: str, asked: _Asked) -> Model:
    known = zoo.names()
    if name not in known:
        raise ModelError(
            f"there is no model '{name}'.{suggest(name, [*known, *_DEMO])} Wanted a torchvision name (sightline "
            "models), NAME@WEIGHTS, file.py:function, package.module:function, demo/honest or demo/cheating."
        )
    if asked.weights is None or str(asked.weights).casefold() == "none":
        how, labels = zoo.metadata(name)
        note = "random weights, as asked: the maps show the architecture, not anything learned"
        return Model(zoo.build(name, seed=asked.seed), name, how, labels, weights="random", notes=(note,))
    if _is_file(asked.weights):
        return _from_zoo_file(name, asked)
    published = zoo.pretrained(name, str(asked.weights))
    how, labels = zoo.metadata(name, published)
    return Model(zoo.download(name, published), name, how, labels, weights=published.name)


def _is_file(weights: str | os.PathLike[str]) -> bool:
    path = Path(weights)
    return path.suffix in _WEIGHTS_FILES or path.exists() or len(path.parts) > 1


def _from_zoo_file(name: str, asked: _Asked) -> Model:
    file = Path(asked.weights or "")
    state = files.read_state(file, trust=asked.trust)
    module = zoo.build(name, state)
    files.fit_weights(module, state, name, str(file))
    how, labels = zoo.metadata(name)
    usual = zoo.fine_tuned_classes(name, state) is None
    return Model(module, name, how, labels if usual else Labels(), weights=file.name)


def _from_factory(what: str, asked: _Asked) -> Model:
    where, _, function = what.rpartition(":")
    made = _call(_find_function(where, function), what)
    if isinstance(made, Model):
        return made
    if keras.is_keras(made):
        return _from_keras_factory(made, what, asked)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{what} returned a {type(made).__name__}; wanted a torch.nn.Module or a sightline Model.")
    model = Model(made, function, _usual_preprocessing(made), assumed=True)
    if asked.weights in ("default", None) or str(asked.weights).casefold() == "none":
        return model
    files.fit_weights(made, files.read_state(asked.weights or "", trust=asked.trust), what, str(asked.weights))
    return replace(model, weights=Path(asked.weights or "").name, _layers={}, _copies={})


def _from_keras_factory(net: Any, what: str, asked: _Asked) -> Model:
    if asked.weights in ("default", None) or str(asked.weights).casefold() == "none":
        return keras.from_keras(net)
    file = Path(asked.weights or "")
    keras.load_weights(net, file, what)
    return keras.from_keras(net, weights=file.name)


def _find_function(where: str, function: str) -> Callable[[], Any]:
    if importlib.util.find_spec("torchvision") is not None:
        zoo.import_torchvision()  # so that the user's own import of it works where its compiled ops do not fit
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    found = getattr(module, function, None)
    if not callable(found):
        raise ModelError(f"{where} has no function '{function}'.{suggest(function, vars(module))}")
    return found  # type: ignore[no-any-return]


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"{path} does not exist; wanted a Python file, as in --model {path.name}:function.")
    spec = importlib.util.spec_from_file_location(f"sightline_factory_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        _guarded(lambda: spec.loader.exec_module(module), str(path))  # type: ignore[union-attr]
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _import_module(name: str) -> Any:
    sys.path.insert(0, os.getcwd())
    try:
        return _guarded(lambda: importlib.import_module(name), name)
    finally:
        sys.path.remove(os.getcwd())


def _call(function: Callable[[], Any], what: str) -> Any:
    return _guarded(function, what)


def _guarded(run: Callable[[], Any], what: str) -> Any:
    """Run somebody else's code and say whose it was when it fails."""
    try:
        return run()
    except SightlineError:
        raise
    except Exception as error:
        raise ModelError(f"{what}: its code failed with {type(error).__name__}: {error}") from error


def split_models(text: str) -> list[str]:
    """Split a comma-separated list of models, as ``resnet18@a.safetensors,resnet152@b.safetensors``."""
    return [m.strip() for m in text.split(",") if m.strip()]
