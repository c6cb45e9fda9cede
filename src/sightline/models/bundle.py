"""A folder with all that a trained classifier is: weights, architecture, classes, preprocessing. No code in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from sightline.errors import ModelError
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models import keras
from sightline.models.adapted import bare
from sightline.models.model import Model
from sightline.output import written

__all__ = ["FILE", "is_bundle", "read_bundle", "write_bundle"]

FILE = "sightline.json"
_FORMAT = 1


def is_bundle(folder: str | Path) -> bool:
    """Say whether a folder holds a trained classifier."""
    return (Path(folder) / FILE).is_file()


def write_bundle(model: Model, architecture: str, folder: Path, *, head: str | None = None) -> Path:
    """Write a model so that `load(folder)` opens it: the weights first, then the file that makes it a bundle.

    ``architecture`` is the name that `load` made the untrained network of, ``head`` the layer that was replaced.
    """
    kind = "keras" if keras.is_keras(bare(model.module)) else "torch"
    name = "model.keras" if kind == "keras" else "model.safetensors"
    with written(folder / name) as aside:
        if kind == "keras":
            with keras.quiet():
                bare(model.module).save(aside)  # type: ignore[operator]
        else:
            state = {k: v.detach().cpu().contiguous().clone() for k, v in bare(model.module).state_dict().items()}
            aside.write_bytes(save(state))
    about = {
        "format": _FORMAT,
        "kind": kind,
        "name": model.name,
        "architecture": architecture,
        "head": head,
        "weights": name,
        "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        "classes": list(model.labels),
        "preprocessing": model.preprocessing.to_dict(),
        "input_size": model.input_size,
        "dims": model.dims,
    }
    with written(folder / FILE) as aside:
        aside.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder / FILE


def read_bundle(
    folder: Path,
    untrained: Callable[[str, Path], Model],
    *,
    trust: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
) -> Model:
    """Open what `write_bundle` wrote; ``untrained`` makes a model of an architecture and a weights file.

    ``trust`` and ``custom_objects`` are for a Keras model with Lambda layers or classes of one's own.
    Raises ModelError for a damaged or newer one.
    """
    about = _about(folder)
    weights = folder / Path(about["weights"]).name
    if not weights.is_file() or hashlib.sha256(weights.read_bytes()).hexdigest() != about["sha256"]:
        raise ModelError(
            f"{weights} is missing, or is not what was written with {FILE}; train again, or copy the folder anew."
        )
    if about["kind"] == "keras":
        model = keras.from_keras(keras.read_keras(weights, trust=trust, custom_objects=custom_objects), about["name"])
    else:
        model = untrained(about["architecture"], weights)
    return replace(
        model,
        name=folder.resolve().name,
        preprocessing=Preprocessing.from_dict(about["preprocessing"]),
        labels=Labels(tuple(about["classes"])),
        weights=weights.name,
        input_size=None if about["input_size"] is None else tuple(about["input_size"]),
        dims=about["dims"],
        notes=(),
        assumed=False,
        _layers={},
    )


_KEYS = ("kind", "name", "architecture", "weights", "sha256", "classes", "preprocessing", "input_size", "dims")


def _about(folder: Path) -> Mapping[str, Any]:
    try:
        about = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError):
        raise ModelError(f"{folder / FILE} cannot be read as JSON; copy the folder anew, or train again.") from None
    if not isinstance(about, dict) or any(k not in about for k in _KEYS):
        raise ModelError(f"{folder / FILE} is not what sightline train writes; wanted {', '.join(_KEYS)} in it.")
    if about.get("format") != _FORMAT:
        raise ModelError(
            f"{folder} is of format {about.get('format')!r} and this version reads {_FORMAT}; update sightline."
        )
    return about
