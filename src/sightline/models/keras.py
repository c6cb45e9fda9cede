"""Keras 3 models: files, `keras.applications` by name, and models from Python, on Keras' torch backend.

Layers are read by forward hooks, never by sub-models, which break on reloaded Sequentials. On another backend the
gradients come through `sightline.models.bridge`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from sightline.errors import ModelError, TrustError
from sightline.geometry import Preprocessing
from sightline.models.adapted import Adapted
from sightline.models.function import check_names, for_batch
from sightline.models.model import Model

__all__ = [
    "SUFFIXES",
    "copied",
    "from_keras",
    "import_keras",
    "is_keras",
    "keras_layers",
    "load_weights",
    "quiet",
    "read_keras",
]

SUFFIXES = (".keras", ".h5", ".hdf5")
_LOG = logging.getLogger("sightline")
_CHANNELS_FIRST = "channels_first"
_SERIES = {"Conv1D", "SeparableConv1D", "DepthwiseConv1D", "Conv1DTranspose", "LSTM", "GRU", "SimpleRNN", "RNN"} | {
    "Bidirectional",
    "MultiHeadAttention",
    "TimeDistributed",
}
_ARITHMETIC = {"TrueDivide", "Divide", "Subtract", "Multiply", "Add"}


def import_keras() -> ModuleType:
    """Import Keras, on its torch backend unless it is imported already or KERAS_BACKEND says otherwise.

    Raises ModelError where Keras is not installed, or where its backend is not.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import keras
    except ModuleNotFoundError as error:
        missing = error.name or "keras"
        if missing.partition(".")[0] == "keras":
            raise ModelError(
                "Keras models need keras, which is not installed: pip install 'sightline[keras]'."
            ) from None
        raise ModelError(
            f"Keras wants {missing} (KERAS_BACKEND={os.environ['KERAS_BACKEND']}), which is not installed; set "
            "KERAS_BACKEND=torch."
        ) from None
    return keras  # type: ignore[no-any-return]


def is_keras(what: object) -> bool:
    """Say whether something is a Keras model, without importing Keras."""
    keras = sys.modules.get("keras")
    return keras is not None and hasattr(keras, "Model") and isinstance(what, keras.Model)


def from_keras(net: Any, name: str | None = None, *, weights: str = "as given", fixed: Any = None) -> Model:
    """Make a `Model` of a Keras model: (N, C, *S) tensors go in, channels last where it wants them so.

    ``fixed`` gives the other inputs of a model that takes several, by name. Raises ModelError where they are missing,
    and for a model that takes no pictures, series or volumes.
    """
    last = _is_channels_last(net)
    shape = _input_shape(net, fixed or {})
    grey = shape is not None and len(shape) == 2 and not _kinds(net) & _SERIES
    shape = (*shape, 1) if grey and shape is not None else shape
    how = _preprocessing(net, shape, last)
    spatial = _spatial(shape, last)
    return Model(
        _adapted(net, last, grey, fixed or {}),
        name or net.name,
        how,
        weights=weights,
        assumed=True,
        input_size=_known(spatial),
        dims=len(spatial) if spatial else None,
        fixed=bool(fixed),
    )


def _adapted(net: Any, last: bool, grey: bool, fixed: Mapping[str, Any]) -> nn.Module:
    if import_keras().backend.backend() != "torch":
        from sightline.models.bridge import bridged

        if grey or fixed:
            raise ModelError(f"{net.name}: inputs without channels and further inputs need Keras on torch.")
        return bridged(net, last, keras_layers(net))

    def call(inner: Any, x: Tensor) -> Any:
        given = x[:, 0] if grey else x.movedim(1, -1) if last else x
        with import_keras().device(x.device.type):  # Keras moves inputs to its own default device
            _built(inner, given)
            return _named_outputs(inner, inner(_with_others(inner, given, fixed), training=False))

    return Adapted(net, call, layers=keras_layers, channels_last=last, precisions=())


def _built(net: Any, x: Tensor) -> None:
    """Build a model that was never called, unheard by the hooks of whoever counts its layers' calls."""
    if net.built:
        return
    parts = list(net._flatten_layers())
    kept = [(p, dict(p._forward_hooks), dict(p._forward_pre_hooks)) for p in parts]
    for part in parts:
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    try:
        net(x.detach(), training=False)
    finally:
        for part, after, before in kept:
            part._forward_hooks.update(after)
            part._forward_pre_hooks.update(before)


def _with_others(net: Any, x: Tensor, fixed: Mapping[str, Any]) -> Any:
    if not fixed:
        return x
    return [x if i.name not in fixed else for_batch(fixed[i.name], x) for i in net.inputs]


def _named_outputs(net: Any, found: Any) -> Any:
    names = getattr(net, "output_names", None)
    several = isinstance(found, (list, tuple)) and names is not None and len(names) == len(found) > 1
    return dict(zip(names or (), found, strict=True)) if several else found


def keras_layers(net: Any) -> dict[str, Any]:
    """Return a model's layers, nested ones too, by name; ``outer.inner`` where inner names are not unique."""
    found = list(_walk(net, ""))
    names = [layer.name for _, layer in found]
    return {layer.name if names.count(layer.name) == 1 else path: layer for path, layer in found}


def _walk(owner: Any, prefix: str, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    seen = set() if seen is None else seen
    for layer in owner._flatten_layers(include_self=False, recursive=False):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        path = f"{prefix}{layer.name}"
        yield path, layer
        yield from _walk(layer, f"{path}.", seen)


def _input_shape(net: Any, fixed: Mapping[str, Any]) -> tuple[int | None, ...] | None:
    """Return the shape of the one free input without the batch, or None for a subclassed model or one not built."""
    inputs = getattr(net, "inputs", None)
    check_names(fixed, [i.name for i in inputs or ()], net.name)
    if not inputs:
        return None
    free = [i for i in inputs if i.name not in fixed]
    if len(free) != 1:
        names = ", ".join(f"{i.name} {tuple(i.shape[1:])}" for i in inputs)
        raise ModelError(
            f"{net.name} takes {len(inputs)} inputs ({names}); give all but the picture: load(..., fixed="
            f"{{'{inputs[-1].name}': value}})."
        )
    shape = tuple(free[0].shape[1:])
    if len(shape) < 2:
        raise ModelError(
            f"{net.name} takes vectors {shape}, neither pictures nor series; put a keras.layers.Flatten before it, in "
            "a keras.Sequential with the picture's Input."
        )
    return shape


def _kinds(net: Any) -> set[str]:
    return {type(layer).__name__ for layer in keras_layers(net).values()}


def _is_channels_last(net: Any) -> bool:
    formats = [f for layer in keras_layers(net).values() if (f := getattr(layer, "data_format", None)) is not None]
    return str(formats[0] if formats else import_keras().config.image_data_format()) != _CHANNELS_FIRST


def _spatial(shape: tuple[int | None, ...] | None, last: bool) -> tuple[int | None, ...] | None:
    if shape is None or len(shape) < 2:
        return None
    return shape[:-1] if last else shape[1:]


def _begins_with_arithmetic(net: Any) -> bool:
    """Say whether a functional model first calculates with its input, as ``preprocess_input`` in the graph does."""
    inside = [o for o in getattr(net, "operations", ()) if type(o).__name__ not in ("InputLayer", "GetItem", "Flip")]
    return bool(inside) and type(inside[0]).__name__ in _ARITHMETIC


def _known(size: tuple[int | None, ...] | None) -> tuple[int, ...] | None:
    found = tuple(s for s in size or () if s is not None)
    return found if size and len(found) == len(size) else None


def _preprocessing(net: Any, shape: tuple[int | None, ...] | None, last: bool) -> Preprocessing:
    """Return what a Keras model usually wants: its own size, and 0 to 1 unless it rescales by itself."""
    channels = 3 if shape is None else (shape[-1] if last else shape[0]) or 3
    scale = 1.0 if _kinds(net) & {"Rescaling", "Normalization"} or _begins_with_arithmetic(net) else 255.0
    size = _spatial(shape, last)
    known = size is not None and len(size) == 2 and None not in size
    side: Any = size if known else 224
    return Preprocessing(
        resize=side,
        crop=None if known else 224,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        scale=scale,
        fit="squash",
    )


def _is_builtin(config: Mapping[str, Any], kind: str) -> bool:
    if config.get("module"):
        return str(config["module"]).partition(".")[0] == "keras"
    if "module" in config or "name" not in config["config"]:
        return "module" not in config  # Keras 2 names no modules; what has no name is no layer
    keras = import_keras()
    return kind == "Functional" or hasattr(keras, kind) or hasattr(keras.layers, kind)


def read_keras(path: Path, *, trust: bool = False, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Read a ``.keras`` or ``.h5`` file, also one that Keras 2 wrote.

    Raises TrustError for Lambda layers without ``trust``, ModelError for custom classes that were not given, for
    weights without an architecture and for damaged files.
    """
    config = _config(path)
    if config is None:
        raise ModelError(
            f"{path} holds weights without an architecture; name both: --model FACTORY.py:FUNCTION --weights "
            f"{path.name}."
        )
    lambdas = [name for kind, name, _ in _classes(config) if kind == "Lambda"]
    if lambdas and not trust:
        raise TrustError(
            f"{path}: the Lambda layer '{lambdas[0]}' holds Python code that would run, so it is refused; say --trust "
            "(trust=True) if you know who made it."
        )
    keras = import_keras()
    given = dict(custom_objects or {})
    missing = [kind for kind, _, own in _classes(config) if own and not _is_known(keras, own, kind, given)]
    if missing:
        raise ModelError(
            f"{path} needs your own class '{missing[0]}'; give it: load({path.name!r}, custom_objects="
            f"{{'{missing[0]}': {missing[0]}}}) in Python, or name a factory: --model FACTORY.py:FUNCTION --weights "
            f"{path.name}."
        )
    with _reading(str(path)):
        return keras.models.load_model(path, custom_objects=given, compile=False, safe_mode=not trust)


def _is_known(keras: Any, registered: str, kind: str, given: Mapping[str, Any]) -> bool:
    return kind in given or registered in given or keras.saving.get_registered_object(registered) is not None


def _config(path: Path) -> Any:
    """Return the architecture that a file holds, or None where it holds only weights."""
    if not path.is_file():
        raise ModelError(f"model file {path} does not exist; wanted a .keras or .h5 file.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json")) if "config.json" in archive.namelist() else None
    import h5py

    if not h5py.is_hdf5(path):
        raise ModelError(f"{path} is no Keras file, whatever its name says; wanted .keras or .h5.")
    try:
        with h5py.File(path) as file:
            found = file.attrs.get("model_config")
    except OSError:
        raise ModelError(f"{path} is a damaged or truncated .h5 file; get it again.") from None
    return None if found is None else json.loads(found)


def _classes(config: Any) -> Iterator[tuple[str, str, str | None]]:
    """Yield (class, layer's name, registered name of a class of the user's own or None) of all parts of a config."""
    if isinstance(config, Mapping):
        inner = config.get("config")
        if "class_name" in config and isinstance(inner, Mapping):
            kind = str(config["class_name"])
            own = None if _is_builtin(config, kind) else config.get("registered_name") or kind
            yield kind, str(inner.get("name", "")), own
        for value in config.values():
            yield from _classes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _classes(value)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Keras' own warnings, of NumPy's and its own older ways, to itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"keras\..*")
        warnings.filterwarnings("ignore", "Do not pass an `input_shape`")  # as files of Keras 2 do
        yield


@contextmanager
def _reading(said: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise ModelError(f"{said}: Keras cannot read it ({type(error).__name__}: {text[:200]}).") from None


def copied(net: Any) -> Any:
    """Return a copy of a Keras model with its weights; raise ModelError for one of a class of one's own."""
    try:
        with quiet():
            made = import_keras().models.clone_model(net)
            made.set_weights(net.get_weights())
    except (ValueError, TypeError, NotImplementedError) as error:
        text = " ".join(str(error).split())
        raise ModelError(
            f"{net.name} cannot be copied to be trained ({text[:160]}); name what makes it: --model FILE.py:FUNCTION."
        ) from None
    return made


def load_weights(net: Any, path: Path, name: str) -> None:
    """Load a weights file into a Keras model of our own making.

    Raises ModelError where they do not fit, with what differs first.
    """
    if not path.is_file():
        raise ModelError(f"weights file {path} does not exist; wanted a .h5 or .weights.h5 file.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            net.load_weights(path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            text = " ".join(str(error).split()).partition(" Target variable:")[0]
            raise ModelError(
                f"the weights in {path.name} do not fit {name}: {text[:300]}. Name the architecture that they were "
                "saved from."
            ) from None
