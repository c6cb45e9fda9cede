"""Images whose classes are known: a folder for each class, or a table of files, matched to a model's classes."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from sightline.errors import InputError, ParameterError, TargetError, suggest
from sightline.labels import Labels
from sightline.paths import image_tree, shown, why

__all__ = ["Labelled", "labelled_images"]

_UNKNOWN_COUNT = 1 << 30  # classes of a model that names none: what is beyond them is seen at the first prediction


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images, each with the index of its class; ``names`` are the classes' own, as they were given.

    ``given`` is what the model reads (paths or arrays), ``files`` what each is called, ``source`` what all are called.
    ``in_order`` is how many classes the model must have where they were taken in alphabetical order.
    """

    source: str
    given: tuple[Any, ...]
    files: tuple[str, ...]
    truths: tuple[int, ...]
    names: Mapping[int, str]
    notes: tuple[str, ...] = ()
    in_order: int | None = None

    def only(self, numbers: Sequence[int]) -> Labelled:
        """Return some of the images."""
        files, truths = tuple(self.files[i] for i in numbers), tuple(self.truths[i] for i in numbers)
        return replace(self, given=tuple(self.given[i] for i in numbers), files=files, truths=truths)

    def check_classes(self, count: int) -> None:
        """Raise TargetError unless a model with ``count`` classes has those of the images."""
        if self.in_order is not None and self.in_order != count:
            raise TargetError(
                f"{self.in_order} folders came in alphabetical order for a model of {count} classes; wanted one folder "
                "for each, empty ones too: or name them with --labels FILE or --map FOLDER=CLASS."
            )
        beyond = sorted({c for c in self.truths if c >= count})
        if beyond:
            said = self.names.get(beyond[0], str(beyond[0]))
            raise TargetError(
                f"'{said}' is class {beyond[0]}, but the model has {count} classes, numbered 0 to {count - 1}; "
                "map it with --map NAME=CLASS."
            )


@dataclass(frozen=True)
class _Entry:
    """One image: its file, its class as it is matched, and as it is shown."""

    file: str
    said: str
    name: str


def labelled_images(
    folder: str | os.PathLike[str],
    labels: Labels,
    *,
    table: str | os.PathLike[str] | None = None,
    mapping: Mapping[str, str] | None = None,
    in_order: bool = False,
) -> Labelled:
    """List the images of a folder with the indices of their classes.

    Each folder in it is a class: by its label (case, spaces and underscores do not matter), its id, or its index.
    ``table`` is a CSV with the columns file and class (or class_name, class_index) instead. ``mapping`` says which
    class a folder is, where its name does not. ``in_order`` takes the folders, in alphabetical order, for the classes.

    Raises ImageError for a folder without images, InputError for a table that is none, TargetError for a folder that
    matches no class, ParameterError for a mapping of a folder that is not there.
    """
    root = Path(os.fsdecode(folder))
    if root.is_file():
        raise InputError(f"{shown(str(root))} is a file; wanted a folder that holds one folder for each class.")
    if in_order and mapping:
        raise ParameterError("--sorted and --map came together; the folders' order or their names say the classes.")
    entries, notes = _from_folders(root) if table is None else _from_table(root, Path(table))
    said = dict.fromkeys(e.said for e in entries)
    _refuse_strangers(mapping or {}, [*said])
    if in_order:
        listed = _class_folders(root) if table is None else sorted(said)
        found = {name: number for number, name in enumerate(listed)}
    else:
        within = {e.said: PurePath(e.file).parts[1:-1] for e in entries} if table is None else None
        found = _matched([*said], labels, mapping or {}, within)
    names = {found[e.said]: e.name for e in reversed(entries)}
    names |= {number: name for name, number in found.items()} if in_order else {}
    files, truths = tuple(e.file for e in entries), tuple(found[e.said] for e in entries)
    given = tuple(str(root / f) for f in files)
    return Labelled(root.resolve().name, given, files, truths, names, tuple(notes), len(found) if in_order else None)


# --- folders ------------------------------------------------------------------------------------------------


def _from_folders(root: Path) -> tuple[list[_Entry], list[str]]:
    files = [PurePath(f).relative_to(root) for f in image_tree(root)]
    loose = [f for f in files if len(f.parts) == 1]
    if len(loose) == len(files):
        raise InputError(
            f"{shown(str(root))} holds {len(files)} images but no folder for each class; put them into such folders, "
            "or give --classes FILE.csv with the columns file and class."
        )
    notes = [f"left out: {_images(len(loose))} beside the class folders, in none of them"] if loose else []
    return [_Entry(f.as_posix(), f.parts[0], f.parts[0]) for f in files if len(f.parts) > 1], notes


def _class_folders(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


# --- a table ------------------------------------------------------------------------------------------------


def _from_table(root: Path, table: Path) -> tuple[list[_Entry], list[str]]:
    rows = _rows(table)
    entries = [e for row in rows if (e := _entry(row, root)) is not None]
    if not entries:
        raise InputError(f"{shown(str(table))} gives no image a class; wanted rows with a file and its class.")
    twice = [f for f, n in Counter(e.file for e in entries).items() if n > 1]
    if twice:
        raise InputError(
            f"{shown(str(table))} lists {shown(twice[0])} more than once; wanted one class for each image."
        )
    return entries, _left_out(root, [_below(root, r["file"]) for r in rows], len(rows) - len(entries))


def _left_out(root: Path, listed: Sequence[str], classless: int) -> list[str]:
    beside = {PurePath(f).relative_to(root).as_posix() for f in image_tree(root)}
    unlisted = len(beside - {*listed})
    said = {"to which the table gives no class": classless, "that the table does not list": unlisted}
    return [f"left out: {_images(count)} {why_not}" for why_not, count in said.items() if count]


def _rows(table: Path) -> list[dict[str, str]]:
    said = shown(str(table))
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            rows = [{(k or "").strip().casefold(): (v or "").strip() for k, v in r.items() if k} for r in reader]
            columns = [c.strip().casefold() for c in reader.fieldnames or ()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{said}: cannot be read ({why(error)}); wanted a CSV with the columns file and class."
        ) from None
    if "file" not in columns or not {"class", "class_name", "class_index"} & {*columns}:
        came = ", ".join(columns) or "nothing"
        raise InputError(
            f"{said}: wanted the columns file and class (or class_name, class_index); came: {shown(came)}."
        )
    return rows


def _entry(row: Mapping[str, str], root: Path) -> _Entry | None:
    """Read one row; an index says more than a name, and -1 means that there is no class."""
    index, name = row.get("class_index", ""), row.get("class") or row.get("class_name") or ""
    if not row["file"] or index.startswith("-") or not (index or name):
        return None
    return _Entry(_below(root, row["file"]), f"index:{index}" if index else name, name or f"class {index}")


def _below(root: Path, file: str) -> str:
    """Return a file's path from the folder on."""
    return PurePath(os.path.relpath(file, root) if os.path.isabs(file) else file).as_posix()


# --- the model's classes ------------------------------------------------------------------------------------


def _refuse_strangers(mapping: Mapping[str, str], said: Sequence[str]) -> None:
    for name in mapping:
        if name not in said:
            raise ParameterError(f"--map {name}={mapping[name]}: no images are of '{name}'.{suggest(name, said)}")


def _matched(
    said: Sequence[str],
    labels: Labels,
    mapping: Mapping[str, str],
    within: Mapping[str, tuple[str, ...]] | None,
) -> dict[str, int]:
    """Return the index of the class that each name means, or say of the first that means none what could be done.

    ``within`` holds for each folder the folders in it, on the way to an image.
    """
    found: dict[str, int] = {}
    failed: dict[str, str] = {}
    for name in said:
        try:
            found[name] = _index(mapping.get(name, name), labels)
        except TargetError as error:
            failed[name] = str(error)
    if failed:
        name, reason = next(iter(failed.items()))
        kind, deeper = ("class", ()) if within is None else ("folder", within[name])
        others = f" (nor do {len(failed) - 1} others)" if len(failed) > 1 else ""
        hint = _hint(name, reason, labels, deeper)
        raise TargetError(f"{kind} '{shown(name)}' matches no class{others}: {hint}")
    return found


def _hint(name: str, error: str, labels: Labels, deeper: Sequence[str]) -> str:
    if any(labels.has(d) for d in deeper):
        return f"the folders in it do ('{shown(deeper[0])}'), so give the folder '{shown(name)}' itself."
    if not len(labels):
        return (
            f"this model has no class names; give --labels FILE, --map {shown(name)}=0, or --sorted where its classes "
            "are the folders in alphabetical order."
        )
    return f"{error} Say which it is with --map '{shown(name)}=CLASS'."


def _index(said: str, labels: Labels) -> int:
    """Find a class by its exact label, then as `Labels.find` does: a label that looks like an index is a label."""
    exact = [i for i, name in enumerate(labels) if name == said]
    return exact[0] if len(exact) == 1 else labels.find(said, len(labels) or _UNKNOWN_COUNT)
