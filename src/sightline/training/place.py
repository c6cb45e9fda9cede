"""The folder of a training: what may be written where, and whether what is there can be gone on with."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.output import written

__all__ = ["check_place", "has_begun", "prepared"]

_RUN = "run.json"


def has_begun(folder: Path) -> bool:
    """Say whether a whole epoch is kept there; without one there is nothing to lose, and nothing to go on with."""
    return any((folder / "checkpoints").glob("last*"))


def check_place(folder: Path, data: Any, resume: bool) -> None:
    """Raise InputError where a training may not be written, before anything is read."""
    if isinstance(data, (str, Path)) and Path(data).is_dir() and Path(data).resolve() in folder.resolve().parents:
        raise InputError(
            f"--out {folder} lies in the folder that is learned from, where its pictures would become a class; name "
            "one beside it."
        )
    ours = (folder / _RUN).is_file()
    if not ours and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is no training's folder; name a new one with --out DIR.")
    if not ours and resume:
        raise InputError(f"{folder} holds no training that could be resumed; leave --resume out.")
    if has_begun(folder) and not resume:
        raise InputError(
            f"{folder} holds a training already; add --resume to go on with it, or name another --out DIR."
        )


def prepared(folder: Path, facts: Mapping[str, Any]) -> Path:
    """Make the run's folder and say in it what the run is of, or check that it says the same."""
    file = folder / _RUN
    if has_begun(folder):
        _check_same(folder, _said(file), facts)
    with written(file) as aside:
        aside.write_text(json.dumps({**facts, "versions": _versions()}, indent=2) + "\n", encoding="utf-8")
    return folder


def _said(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} is not what a training writes, so it cannot be gone on with; name another --out DIR.")
    return found


def _check_same(folder: Path, before: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    plain = json.loads(json.dumps(facts))
    for part in facts:
        if before.get(part) == plain[part]:
            continue
        names = [k for k in plain[part] if before.get(part, {}).get(k) != plain[part][k]]
        raise InputError(
            f"{folder} was begun with other {part} ({', '.join(names)}); resume with the same, or name another --out."
        )


def _versions() -> dict[str, str]:
    listed = ("sightline", "torch", "torchvision", "lightning", "keras", "timm", "numpy", "pillow")
    found = {"python": platform.python_version()}
    for name in listed:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
