"""How the images of a folder are sorted, by the names of its folders and files alone: into parts and classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sightline.errors import InputError, suggest
from sightline.paths import shown
from sightline.training.walking import Level, Walk, check_folder, counted

__all__ = ["Classes", "Layout", "find_layout", "quoted"]

_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "val"
)
_NUMBERED = re.compile(r"(.+?)[._-]+[0-9]+", re.DOTALL)
_WANTED = (
    "wanted a folder of images for each class (cat/, dog/), such folders in train/ and val/, or files named by class "
    "and number (cat.0.jpg)"
)
_NAMED = 5


@dataclass(frozen=True)
class Classes:
    """The images of a folder by class, as paths below the data's root; ``by_name``: files told the class, not folders.

    ``folder`` is the folder as it is called ("" for the root itself).
    """

    folder: str
    images: Mapping[str, Sequence[str]]
    by_name: bool


@dataclass(frozen=True)
class Layout:
    """The classes of "train", "val" and "test", as far as they are there; "all" where nothing was parted."""

    parts: Mapping[str, Classes]
    notes: tuple[str, ...]

    @property
    def learned(self) -> Classes:
        """What is learned from."""
        return self.parts["train" if "train" in self.parts else "all"]


def find_layout(root: Path) -> Layout:
    """Sort the images of a folder into parts and classes.

    Raises InputError where that cannot be told, where two classes have one name, or where there is nothing to tell
    apart; ImageError for a folder that is not there or may not be read.
    """
    check_folder(root)
    walk = Walk(root)
    level = walk.level()
    named = _named_parts(root, level)
    layout = Layout(_parted(walk, level, named) if named else {"all": _classes(walk, "", level)}, ())
    _check_names(root, [*layout.parts.values()])
    _check_enough(walk, layout)
    notes, parts = _without_strangers(layout)
    _check_alike(root, parts)
    return Layout(parts, (*walk.notes, *_stray(walk.stray), *notes))


def quoted(names: Sequence[str]) -> str:
    """Return a few names, quoted and fit for a line.

    >>> quoted(["cat", "dog"])
    "'cat', 'dog'"
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"'{shown(n)}'" for n in names[:_NAMED]) + more


# --- parts --------------------------------------------------------------------------------------------------


def _named_parts(root: Path, level: Level) -> dict[str, str]:
    """Return the folders that are parts by their names: "train" and its folder, and so on."""
    named: dict[str, str] = {}
    for folder in level.folders:
        part = _PARTS.get(re.sub(r"^(test)\d+$", r"\1", folder.casefold().strip()))
        if part in named:
            raise InputError(
                f"{shown(str(root))} holds {quoted([named[part], folder])}, both for {part} by their names; wanted "
                f"one: move one of them away, or (where they are classes) all class folders into a folder train/."
            )
        if part is not None:
            named[part] = folder
    return named


def _parted(walk: Walk, level: Level, named: Mapping[str, str]) -> dict[str, Classes]:
    said = shown(str(walk.root))
    others = [f for f in level.folders if f not in named.values()]
    beside = [f for f in others if walk.below(f)]
    if beside:
        raise InputError(
            f"{said} holds {quoted([*named.values()])} beside other folders with images ({quoted(beside)}), so that it "
            "cannot be told whether these are parts or classes; move all class folders into a folder train/, or the "
            "others away."
        )
    if "train" not in named:
        raise InputError(
            f"{said} holds {quoted([*named.values()])} but no train/; wanted images to learn from: add train/, or "
            "give a folder of class folders."
        )
    walk.stray += [*level.pictures, *level.others]
    found = [(part, named[part]) for part in ("train", "val", "test") if part in named]
    return {part: _classes(walk, at, walk.level(at), needed=part != "test") for part, at in found}


def _without_strangers(layout: Layout) -> tuple[list[str], dict[str, Classes]]:
    """Leave out a test folder whose images have no classes, as those of a competition, and say so."""
    parts = {**layout.parts}
    test = parts.get("test")
    if test is None or not test.by_name or any(test.images.get(name) for name in layout.learned.images):
        return [], parts
    del parts["test"]
    return [f"'{shown(test.folder)}' holds no images whose class is known: it was left out."], parts


# --- classes ------------------------------------------------------------------------------------------------


def _classes(walk: Walk, folder: str, level: Level, *, needed: bool = True) -> Classes:
    """Return the images of one folder by class: by folders where these hold images, else by the files' names."""
    at = f"{folder}/" if folder else ""
    by_folder = {name: walk.below(f"{at}{name}") for name in level.folders}
    in_folders = any(by_folder.values())
    by_name = {} if in_folders else _by_name(at, level.pictures)
    if needed and level.pictures and not in_folders and not by_name:
        raise InputError(
            f"{shown(str(walk.root / folder))} holds {counted(len(level.pictures))}, as {shown(level.pictures[0])}, "
            f"and nothing says their classes; {_WANTED}."
        )
    used = {f for files in by_name.values() for f in files}
    walk.stray += [f for name in (*level.pictures, *level.others) if (f := f"{at}{name}") not in used]
    return Classes(folder, by_name or by_folder, not in_folders)


def _by_name(at: str, pictures: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in pictures:
        if match := _NUMBERED.fullmatch(PurePosixPath(name).stem):
            found.setdefault(match[1], []).append(f"{at}{name}")
    return found


def _stray(files: Sequence[str]) -> list[str]:
    if not files:
        return []
    was = "was" if len(files) == 1 else "were"
    said = f"{counted(len(files), 'file')} {was} left out, as {shown(files[0])}"
    return [f"{said}: by its name no image, or in no class."]


# --- what cannot be -----------------------------------------------------------------------------------------


def _check_names(root: Path, parts: Sequence[Classes]) -> None:
    """Raise InputError where two classes have names that people, or other file systems, take for one."""
    seen: dict[str, str] = {}
    for name in sorted({n for part in parts for n in part.images}):
        alike = seen.setdefault(_letters(_letters(name).casefold().strip()), name)
        if alike != name:
            written = ascii if _letters(alike) == _letters(name) else repr
            raise InputError(
                f"{shown(str(root))}: the classes {written(alike)} and {written(name)} clash: their names differ only "
                "in case, spaces at the ends or the encoding of letters; wanted one name for each class: rename or "
                "merge them."
            )


def _letters(name: str) -> str:
    """Return a name with its accents in letters, as which some systems store it and others do not."""
    return unicodedata.normalize("NFC", name)


def _check_enough(walk: Walk, layout: Layout) -> None:
    """Raise InputError for no image, a single class, or an empty one where images are needed."""
    images, at = layout.learned.images, shown(str(walk.root / layout.learned.folder))
    if not any(images.values()):
        raise InputError(f"{at} holds no images, nor do the folders in it; {_WANTED}.")
    for part in layout.parts.values():
        empty = [name for name, files in part.images.items() if not files]
        if empty and part is not layout.parts.get("test"):
            raise InputError(
                f"{shown(str(walk.root / part.folder / empty[0]))} is a class folder without images; wanted at least "
                "two: fill it, or remove it."
            )
    if len(images) == 1:
        (name,) = images
        raise InputError(
            f"{at} holds one class, '{shown(name)}'; wanted at least two, to be told apart: {_instead(walk, name)}."
        )


def _instead(walk: Walk, name: str) -> str:
    """Say what to do about a single class, which may be a folder around the data."""
    inner = [f for f in walk.level(name).folders if walk.below(f"{name}/{f}")] if (walk.root / name).is_dir() else []
    if len(inner) > 1:
        return f"if {quoted(inner)} in it are the classes, give {shown(str(walk.root / name))}"
    return "add a folder with images of something else"


def _check_alike(root: Path, parts: Mapping[str, Classes]) -> None:
    """Raise InputError for a class that is known in one part only; that a test lacks one is no error."""
    for kind in {"val", "test"} & {*parts}:
        train, other = parts["train"], parts[kind]
        at, there = (shown(str(root / p.folder)) for p in (other, train))
        new = [n for n, files in other.images.items() if n not in train.images and files]
        if new:
            raise InputError(
                f"{at} holds the class '{shown(new[0])}', which {there} lacks; wanted the same classes in both: add "
                f"images of it there, or remove it.{suggest(new[0], train.images)}"
            )
        missing = [n for n in train.images if not other.images.get(n)]
        if missing and kind == "val":
            raise InputError(
                f"{at} holds no images of the class '{shown(missing[0])}', which {there} has; wanted the same classes "
                "in both: add some, or remove the folder to have a part of the training images held out."
            )
