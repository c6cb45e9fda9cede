"""A folder with all that a trained classifier is: weights, architecture, classes, preprocessing. No code in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sightline.errors import InputError, ModelError, TrustError
from sightline.geometry import Preprocessing
from sightline.images import MAX_PIXELS
from sightline.labels import Labels
from sightline.models import files, hub, keras
from sightline.models.adapted import bare
from sightline.models.head import drop_auxiliary, outputs_of, with_heads
from sightline.models.model import Model
from sightline.output import written

__all__ = ["FILE", "Opening", "is_bundle", "read_bundle", "write_bundle"]

FILE = "sightline.json"
_FORMAT = 1
_WEIGHTS = {"torch": "model.safetensors", "keras": "model.keras"}


def is_bundle(folder: str | os.PathLike[str]) -> bool:
    """Say whether a folder holds a trained classifier."""
    return (Path(folder) / FILE).is_file()


# --- writing ------------------------------------------------------------------------------------------------


def write_bundle(model: Model, architecture: str, folder: Path, *, heads: Sequence[str] = ()) -> Path:
    """Write a model so that `load(folder)` opens it: the weights first, then the file that makes it a bundle.

    ``architecture`` is the name that `load` made the untrained network of, a bundle's folder where a training went on
    from one, or "" for a module of one's own; ``heads`` are the layers that were made anew for the classes.
    Raises InputError where nothing can be written there.
    """
    own = bare(model.module)
    kind = "keras" if keras.is_keras(own) else "torch"
    name = _WEIGHTS[kind]
    with written(folder / name) as aside:
        _save(own, kind, aside)
    about = {
        "format": _FORMAT,
        "kind": kind,
        "name": model.name,
        **_origin(own, architecture, tuple(model.labels)),
        "heads": list(heads),
        "weights": name,
        "sha256": _hash(folder / name),
        "classes": list(model.labels),
        "preprocessing": model.preprocessing.to_dict(),
        "input_size": model.input_size,
        "dims": model.dims,
    }
    with written(folder / FILE) as aside:
        aside.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder / FILE


def _save(own: Any, kind: str, file: Path) -> None:
    if kind == "keras":
        with keras.quiet():
            own.save(file)
        return
    state = {k: v.detach().cpu().contiguous().clone() for k, v in own.state_dict().items() if isinstance(v, Tensor)}
    file.write_bytes(save(state))


def _origin(own: nn.Module, architecture: str, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return what the untrained network is made of: a name, or the settings of a Hugging Face model."""
    if architecture and is_bundle(architecture):
        before = _about(Path(architecture))
        return {k: before[k] for k in ("architecture", "config", "options")}
    options = {k: v for k in ("transform_input",) if isinstance(v := getattr(own, k, None), bool)}
    config = hub.config_of(own, classes)
    name = "" if config is not None else _placed(architecture)
    return {"architecture": name, "config": config, "options": options}


def _placed(architecture: str) -> str:
    """Return a factory with its file's whole path, for the bundle is opened from other folders too."""
    where, colon, function = architecture.rpartition(":")
    return f"{os.path.abspath(where)}:{function}" if colon and where.endswith(".py") else architecture


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opening:
    """How a bundle is opened: who makes an untrained network of its name, and what the caller allows.

    ``own`` is a network of the caller's own, or what makes one, in the place of what the bundle names.
    """

    build: Callable[[str], Model]
    trust: bool = False
    custom_objects: Mapping[str, Any] | None = None
    own: Callable[[], Model] | None = None


def read_bundle(folder: Path, how: Opening) -> Model:
    """Open what `write_bundle` wrote; the global random state is left alone.

    Raises ModelError for a damaged or newer one, TrustError where its network is made by code that is not Sightline's.
    """
    about = _about(folder)
    weights = folder / about["weights"]
    if not weights.is_file() or _hash(weights) != about["sha256"]:
        raise ModelError(
            f"{weights} is missing, or is not what was written with {FILE}; train again, or copy the folder anew."
        )
    with torch.random.fork_rng(devices=[]):
        model = _read_keras(weights, about, how) if about["kind"] == "keras" else _read_torch(folder, about, how)
    return replace(
        model,
        name=folder.resolve().name,
        preprocessing=about["how"],
        labels=Labels(tuple(about["classes"])),
        weights=weights.name,
        input_size=None if about["input_size"] is None else tuple(about["input_size"]),
        dims=about["dims"],
        notes=(),
        assumed=False,
        _layers={},
    )


def _read_keras(weights: Path, about: Mapping[str, Any], how: Opening) -> Model:
    net = keras.read_keras(weights, trust=how.trust, custom_objects=how.custom_objects or {})
    return keras.from_keras(net, about["name"])


def _read_torch(folder: Path, about: Mapping[str, Any], how: Opening) -> Model:
    state = files.read_state(folder / about["weights"])
    model = _untrained(folder, about, how, state)
    net = bare(model.module)
    drop_auxiliary(net)
    for name in about["heads"]:
        _check_head(net, name, state, len(about["classes"]), folder)
    with_heads(net, about["heads"], len(about["classes"]))
    for name, value in about["options"].items():
        setattr(net, name, value)
    files.fit_weights(net.float(), state, about["architecture"] or about["name"], str(folder / about["weights"]))
    return replace(model, module=net.eval(), _copies={}, _shuffled={})


def _check_head(net: nn.Module, name: str, state: Mapping[str, Tensor], classes: int, folder: Path) -> None:
    """See that the weights have as many rows as there are classes before so large a layer is made."""
    layer = dict(net.named_modules()).get(name)
    rows = state.get(f"{name}.weight")
    if layer is None or outputs_of(layer) is None or rows is None or rows.ndim < 2 or len(rows) != classes:
        raise ModelError(
            f"{folder / FILE} names '{name}' as the layer of its {classes} classes, which does not fit its network or "
            "weights; copy the folder anew, or train again."
        )


def _untrained(folder: Path, about: Mapping[str, Any], how: Opening, state: Mapping[str, Tensor]) -> Model:
    name = about["architecture"]
    if how.own is not None:
        return how.own()
    if about["config"] is not None:
        net = hub.from_config(about["config"], state, str(folder))
        return Model(net, about["name"], about["how"])
    if not name:
        raise ModelError(
            f"{folder} was trained from a module of your own ({about['name']}), whose code is not in it; give it: "
            f"load(module, weights='{folder}') in Python, or --model FILE.py:FUNCTION@{folder}."
        )
    if ":" in name and not how.trust:
        raise TrustError(
            f"{folder} was trained from {name}, which is code that would run, so it is refused; say --trust "
            f"(trust=True) if you know who made it, or name the code yourself: --model FILE.py:FUNCTION@{folder}."
        )
    return how.build(name)


# --- what came ----------------------------------------------------------------------------------------------

_MOST = 1 << 16  # the longest side of an input


def _about(folder: Path) -> dict[str, Any]:
    """Read the file that makes a folder a bundle; everything in it is checked, for it may come from anybody."""
    file = folder / FILE
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError):
        raise ModelError(f"{file} cannot be read as JSON; copy the folder anew, or train again.") from None
    given = about.get("format") if isinstance(about, dict) else None
    if isinstance(given, int) and given > _FORMAT:
        raise ModelError(f"{folder} is of format {given} and this version reads {_FORMAT}; update sightline.")
    wrong = "format" if given != _FORMAT or isinstance(given, bool) else _wrong(about)
    if wrong is not None:
        raise ModelError(
            f"{file} is not what sightline train writes: its '{wrong}' is missing or wrong; copy the folder anew, or "
            "train again."
        )
    try:
        return {**about, "how": Preprocessing.from_dict(about["preprocessing"])}
    except InputError as error:
        raise ModelError(f"{file}: {error}") from None


def _wrong(about: Mapping[str, Any]) -> str | None:
    return next((name for name, fits in _FITS.items() if name not in about or not fits(about[name])), None) or (
        None if about["weights"] == _WEIGHTS[about["kind"]] else "weights"
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _is_size(value: Any) -> bool:
    whole = isinstance(value, list) and 1 <= len(value) <= 3 and all(type(v) is int and 0 < v <= _MOST for v in value)
    return value is None or (whole and _product(value) <= MAX_PIXELS)


def _product(sizes: Sequence[int]) -> int:
    found = 1
    for size in sizes:
        found *= size
    return found


def _is_options(value: Any) -> bool:
    return isinstance(value, dict) and all(k == "transform_input" and isinstance(v, bool) for k, v in value.items())


def _is_preprocessing(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    sizes = [s if isinstance(s, list) else [s, s] for s in (value.get("resize"), value.get("crop")) if s is not None]
    return all(_is_size(s) for s in sizes)


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "kind": lambda v: isinstance(v, str) and v in _WEIGHTS,
    "name": lambda v: isinstance(v, str),
    "architecture": lambda v: isinstance(v, str),
    "config": lambda v: v is None or isinstance(v, dict),
    "options": _is_options,
    "heads": _is_texts,
    "weights": lambda v: isinstance(v, str),
    "sha256": lambda v: isinstance(v, str),
    "classes": lambda v: _is_texts(v) and len(v) > 0,
    "preprocessing": _is_preprocessing,
    "input_size": _is_size,
    "dims": lambda v: v is None or (type(v) is int and v in (1, 2, 3)),
}
