"""Find what Sightline wrote below the folder that the app was started with, and pictures in it; never anything else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from sightline.paths import is_picture, shown

__all__ = ["Kind", "Report", "Search", "find_picture", "search"]

Kind = Literal["errors", "evaluation", "training"]

_DEPTH, _FOLDERS, _ENTRIES, _REPORTS = 6, 3000, 100_000, 300
_LEFT_OUT = frozenset({"node_modules", "__pycache__", "site-packages", "venv", "env", "parts", "checkpoints"})


@dataclass(frozen=True)
class Report:
    """A folder with a report: what it is called below the one that is searched, where it is, and when it was made."""

    kind: Kind
    name: str
    folder: Path
    changed: float


@dataclass(frozen=True)
class Search:
    """The reports below a folder, newest first; the folders seen, and why some were not looked at, in sentences."""

    root: Path
    reports: tuple[Report, ...]
    folders: tuple[Path, ...]
    remarks: tuple[str, ...] = ()

    def of(self, *kinds: Kind) -> dict[str, Report]:
        """Return the reports of some kinds by their names."""
        return {r.name: r for r in self.reports if r.kind in kinds}


def search(root: Path) -> Search:
    """Search below a folder: hidden folders, environments and links are left out, and depth and number are bounded."""
    remarks: dict[str, None] = {}
    found: list[Report] = []
    folders: list[Path] = []
    entries = 0
    for folder, names in _walked(root, remarks):
        folders.append(folder)
        entries += len(names)
        if (kind := _kind(folder, names)) is not None:
            found.append(Report(kind, _name(folder, root), folder, _changed(folder)))
        if len(folders) >= _FOLDERS or entries >= _ENTRIES or len(found) >= _REPORTS:
            remarks[
                f"Only the first {len(folders):,} folders were searched; start the app with --reports DIR nearer "
                "to the reports."
            ] = None
            break
    found.sort(key=lambda r: (-r.changed, r.name))
    return Search(root, tuple(found), tuple(folders), tuple(remarks))


def _walked(root: Path, remarks: dict[str, None]) -> Iterator[tuple[Path, set[str]]]:
    """Yield folders and the names in them, those near the root first."""
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop(0)
        try:
            with os.scandir(folder) as listed:
                entries = [e for e, _ in zip(listed, range(_ENTRIES), strict=False)]
        except OSError as error:
            remarks[f"{_name(folder, root)} cannot be looked at: {(error.strerror or 'no reason given').lower()}."] = (
                None
            )
            continue
        yield folder, {e.name for e in entries}
        if depth < _DEPTH:
            waiting += [(folder / e.name, depth + 1) for e in sorted(entries, key=lambda e: e.name) if _enters(e)]


def _enters(entry: os.DirEntry[str]) -> bool:
    """Say whether a folder is searched: no link, nothing hidden, no environment."""
    if entry.name.startswith(".") or entry.name in _LEFT_OUT or not entry.is_dir(follow_symlinks=False):
        return False
    return not os.path.lexists(os.path.join(entry.path, "pyvenv.cfg"))


def _kind(folder: Path, names: set[str]) -> Kind | None:
    """Say what wrote a folder, by the files that it writes; a run.json alone is told by what it speaks of."""
    if "errors.json" in names:
        return "errors"
    if "run.json" not in names:
        return None
    if {"results.parquet", "parts", "evaluation.json"} & names:
        return "evaluation"
    if {"history.csv", "model-card.json", "sightline.json"} & names:
        return "training"
    return "training" if b'"settings"' in (head := _head(folder / "run.json")) and b'"data"' in head else None


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(1 << 16) if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else b""
    except OSError:
        return b""


def _name(folder: Path, root: Path) -> str:
    """Return a folder's name below the root, as it is shown and as it stands in the URL."""
    below = folder.relative_to(root).as_posix()
    return shown(root.name or "/") if below == "." else shown(below)


def _changed(folder: Path) -> float:
    files = (folder / name for name in ("model-card.json", "evaluation.json", "errors.json", "history.csv", "run.json"))
    return next((f.lstat().st_mtime for f in files if os.path.lexists(f)), 0.0)


def find_picture(found: Search, folder: str, file: str) -> Path | None:
    """Return the picture that a report calls ``file`` in ``folder``, if it still lies below the searched one.

    ``folder`` is the last part of the path that the command was given, all that a report keeps of it.
    """
    below = PurePosixPath(file)
    if below.is_absolute() or ".." in below.parts or not is_picture(Path(file)):
        return None
    root = found.root.resolve()
    for place in (f for f in found.folders if f.name == folder or (f == found.root and root.name == folder)):
        if (picture := _inside(place / below, root)) is not None:
            return picture
    return None


def _inside(path: Path, root: Path) -> Path | None:
    """Return a file's own path unless links lead it out of the root, or to what is hidden."""
    try:
        own = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None
    if not own.is_relative_to(root) or not own.is_file():
        return None
    return None if any(part.startswith(".") for part in own.relative_to(root).parts) else own
