"""From what a user names or gives to a `Model`: modules, functions, names and files, each by its own way."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from torch import nn

from sightline.demo.nets import DEMO_MEAN, DEMO_STD, DemoName, load_demo, with_embedded_weights
from sightline.demo.scenes import CLASSES, SIZE
from sightline.errors import ModelError, suggest
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models import bundle, exported, factory, files, hub, keras, keras_zoo, onnx, zoo
from sightline.models.adapted import bare
from sightline.models.architectures import ARCHITECTURES, mnist1d_cnn
from sightline.models.function import FunctionNet
from sightline.models.model import Model, guess_channels, usual_preprocessing

__all__ = ["Asked", "from_function", "from_keras_object", "from_module", "named"]

_DEMO: Mapping[str, DemoName] = {f"demo/{name}": name for name in get_args(DemoName)}
_WEIGHTS_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class Asked:
    """The options of `load` that a source needs."""

    weights: str | os.PathLike[str] | None
    trust: bool
    seed: int
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    fixed: Any = None

    @property
    def nothing(self) -> bool:
        """Whether random weights were asked for."""
        return zoo.wants_random(self.weights)

    @property
    def file(self) -> Path | None:
        """The weights file that was named, or None."""
        return None if self.nothing or self.weights == "default" else Path(self.weights or "")


def from_module(module: nn.Module, weights: Any) -> Model:
    """Wrap a user's module, with the preprocessing and class names that it carries with it, if any.

    Where ``weights`` is a trained classifier's folder, a copy of the module gets them. Raises ModelError for others.
    """
    if isinstance(weights, (str, os.PathLike)) and bundle.is_bundle(weights):
        return _opened(Path(weights), Asked(None, False, 0), lambda: from_module(copy.deepcopy(bare(module)), None))
    if weights not in ("default", None):
        raise ModelError(
            "weights= came with a module; load them into it yourself (module.load_state_dict): Sightline does not "
            "change your module."
        )
    how = hub.known_preprocessing(module)
    usual = usual_preprocessing(guess_channels(module)) if how is None else how
    return Model(module, type(module).__name__, usual, hub.known_labels(module), assumed=how is None)


def from_keras_object(net: Any, weights: Any, fixed: Any) -> Model:
    """Wrap a user's Keras model; raise ModelError where weights came too."""
    if weights not in ("default", None):
        raise ModelError(
            "weights= came with a model; load them into it yourself (model.load_weights): Sightline does not change it."
        )
    return keras.from_keras(net, fixed=fixed)


def from_function(function: Callable[..., Any], name: str | None = None) -> Model:
    """Wrap a function of a batch (N, C, H, W), by default float RGB from 0 to 1, that returns scores (N, K)."""
    how = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3)
    said = name or str(getattr(function, "__name__", type(function).__name__))
    return Model(FunctionNet(function), said, how, assumed=True)


def named(what: str, asked: Asked) -> Model:
    """Load what a text means: ``NAME@WEIGHTS``, a name of one of the zoos, a file, a factory, a folder or hub name.

    Raises ModelError or TrustError, each with what would work.
    """
    name, at, file = what.partition("@")
    if at:
        return named(name, replace(asked, weights=file))
    if asked.file is not None and bundle.is_bundle(asked.file) and not bundle.is_bundle(what):
        return _opened(asked.file, asked, lambda: named(what, replace(asked, weights=None)))
    if what in _EMBEDDED or what in ARCHITECTURES:
        return _EMBEDDED[what]() if what in _EMBEDDED else _own(what, asked)
    if bundle.is_bundle(what):
        return _from_bundle(what, asked)
    if what.startswith((keras_zoo.PREFIX, hub.TIMM)):
        return _prefixed(what, asked)
    read = _FILES.get(Path(what).suffix.lower())
    if read is not None:
        return read(Path(what), asked)
    if ":" in what:
        return _from_factory(what, asked)
    if hub.is_hub_name(what) and not what.startswith("demo/"):
        _refuse_weights(what, asked)
        return hub.from_hub(what, asked.weights, asked.seed, trust=asked.trust)
    if Path(what).is_dir():
        raise ModelError(
            f"{what} is a folder without a config.json; wanted what save_pretrained wrote, or a model's file."
        )
    return _from_zoo(what, asked)


def _refuse_weights(what: str, asked: Asked) -> None:
    if asked.file is not None:
        raise ModelError(
            f"weights ({asked.file}) came with {what}, which holds its own; give one of them, or an architecture's "
            "name or factory with the weights."
        )


def _demo(name: str) -> Model:
    how = Preprocessing(resize=SIZE, crop=SIZE, mean=DEMO_MEAN, std=DEMO_STD)
    module = load_demo(_DEMO[name])
    return Model(module, name, how, Labels(CLASSES), weights="embedded")


def _mnist1d() -> Model:
    known = ARCHITECTURES["mnist1d-cnn"]
    return Model(
        with_embedded_weights(mnist1d_cnn, "mnist1d"),
        "demo/mnist1d",
        known.preprocessing,
        Labels(tuple("0123456789")),
        weights="embedded",
        input_size=known.input_size,
        dims=known.dims,
    )


_EMBEDDED: Mapping[str, Callable[[], Model]] = {
    **{name: partial(_demo, name) for name in _DEMO},
    "demo/mnist1d": _mnist1d,
}


def _prefixed(what: str, asked: Asked) -> Model:
    if what.startswith(hub.TIMM):
        return hub.timm_model(what.removeprefix(hub.TIMM), asked.weights, asked.seed, trust=asked.trust)
    return keras_zoo.keras_application(what.removeprefix(keras_zoo.PREFIX), asked.weights, asked.seed)


def _from_bundle(folder: str, asked: Asked) -> Model:
    _refuse_weights(folder, asked)
    return _opened(Path(folder), asked, None)


def _opened(folder: Path, asked: Asked, own: Callable[[], Model] | None) -> Model:
    plain = replace(asked, weights=None)
    how = bundle.Opening(lambda name: _untrained(name, plain, folder), asked.trust, asked.custom_objects, own)
    return bundle.read_bundle(folder, how)


def _untrained(name: str, asked: Asked, folder: Path) -> Model:
    """Make what a bundle says that it was trained from, which may be an architecture's name and nothing else."""
    if name in _EMBEDDED or name in ARCHITECTURES or name.startswith(hub.TIMM) or ":" in name or name in zoo.names():
        return named(name, asked)
    raise ModelError(
        f"{folder} says that it was trained from {name!r}, which is no architecture that is known here; update "
        f"sightline, or name what makes the network: --model FILE.py:FUNCTION@{folder}."
    )


def _own(name: str, asked: Asked) -> Model:
    """Build an architecture of Sightline's own, with as many classes as its weights have."""
    known = ARCHITECTURES[name]
    state = {} if asked.file is None else files.read_state(asked.file, trust=asked.trust)
    classes = next((len(v) for k, v in state.items() if k == "head.weight"), None)
    module = known.build(classes, asked.seed)
    if state:
        files.fit_weights(module, state, name, str(asked.file))
    notes = () if state else (zoo.RANDOM,)
    said = "random" if asked.file is None else asked.file.name
    return Model(
        module, name, known.preprocessing, weights=said, notes=notes, input_size=known.input_size, dims=known.dims
    )


def _from_weights_file(path: Path, asked: Asked) -> Model:
    if path.suffix == ".safetensors":
        raise ModelError(
            f"{path} holds weights without an architecture; name both: --model NAME@{path.name}, or "
            f"--model FACTORY.py:FUNCTION --weights {path.name}."
        )
    _refuse_weights(str(path), asked)
    module = files.read_module(path, asked.trust)
    return Model(module, path.stem, usual_preprocessing(guess_channels(module)), weights=path.name, assumed=True)


def _from_keras_file(path: Path, asked: Asked) -> Model:
    net = keras.read_keras(path, trust=asked.trust, custom_objects=asked.custom_objects)
    return _with_keras_weights(net, path.stem, str(path), path.name, asked)


_FILES: Mapping[str, Callable[[Path, Asked], Model]] = {
    **dict.fromkeys(_WEIGHTS_FILES, _from_weights_file),
    **dict.fromkeys(keras.SUFFIXES, _from_keras_file),
    ".onnx": lambda path, asked: _with_own_weights(path, asked, lambda: onnx.read_onnx(path, asked.fixed)),
    ".pt2": lambda path, asked: _with_own_weights(path, asked, lambda: exported.read_exported(path, trust=asked.trust)),
}


def _with_own_weights(path: Path, asked: Asked, read: Callable[[], Model]) -> Model:
    _refuse_weights(str(path), asked)
    return read()


def _from_zoo(name: str, asked: Asked) -> Model:
    known = zoo.names()
    if name not in known:
        close = suggest(name, [*known, *_EMBEDDED, *ARCHITECTURES])
        raise ModelError(
            f"there is no model '{name}'.{close} Wanted a torchvision name, keras/NAME, "
            "timm/NAME (sightline models), a model's file or folder, NAME@WEIGHTS, file.py:function or demo/honest."
        )
    if asked.nothing:
        how, labels = zoo.metadata(name)
        return Model(zoo.build(name, seed=asked.seed), name, how, labels, weights="random", notes=(zoo.RANDOM,))
    if _is_file(str(asked.weights)):
        return _from_zoo_file(name, asked)
    published = zoo.pretrained(name, str(asked.weights))
    how, labels = zoo.metadata(name, published)
    return Model(zoo.download(name, published), name, how, labels, weights=published.name)


def _is_file(weights: str) -> bool:
    path = Path(weights)
    return path.suffix in _WEIGHTS_FILES or path.exists() or len(path.parts) > 1


def _from_zoo_file(name: str, asked: Asked) -> Model:
    file = Path(asked.weights or "")
    state = files.read_state(file, trust=asked.trust)
    module = zoo.build(name, state)
    files.fit_weights(module, state, name, str(file))
    how, labels = zoo.metadata(name)
    usual = zoo.fine_tuned_classes(name, state) is None
    return Model(module, name, how, labels if usual else Labels(), weights=file.name)


def _from_factory(what: str, asked: Asked) -> Model:
    where, _, name = what.rpartition(":")
    function = factory.find_function(where, name)
    if isinstance(function, nn.Module):
        return from_module(function, asked.weights)
    if not factory.is_factory(function):
        return from_function(function, name)
    made = factory.made_by(function, what)
    if isinstance(made, Model):
        return made
    if keras.is_keras(made):
        return _with_keras_weights(made, None, what, "as given", asked)
    if isinstance(made, nn.Module):
        return _with_weights(made, name, what, asked)
    if callable(made):
        return from_function(made, name)
    raise ModelError(
        f"{what} returned a {type(made).__name__}; wanted a torch or Keras model, a function of a batch, or a "
        "sightline Model."
    )


def _with_weights(made: nn.Module, name: str, what: str, asked: Asked) -> Model:
    if asked.file is not None:
        files.fit_weights(made, files.read_state(asked.file, trust=asked.trust), what, str(asked.file))
    model = replace(from_module(made, None), name=name)
    return model if asked.file is None else replace(model, weights=asked.file.name)


def _with_keras_weights(net: Any, name: str | None, what: str, said: str, asked: Asked) -> Model:
    if asked.file is None:
        return keras.from_keras(net, name, weights=said, fixed=asked.fixed)
    keras.load_weights(net, asked.file, what)
    return keras.from_keras(net, name, weights=asked.file.name, fixed=asked.fixed)
