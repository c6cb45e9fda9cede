"""A folder of pictures, read as a data set: parts and classes by names, every image opened once, a share held out."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.errors import InputError
from sightline.images import MAX_PIXELS
from sightline.paths import shown
from sightline.training import remarks
from sightline.training.data import DataSet, Part
from sightline.training.layouts import Classes, Layout, find_layout, quoted
from sightline.training.pictures import Checked, check_images
from sightline.training.splits import Item, check_share, held_out
from sightline.training.walking import counted

__all__ = ["read_folder"]


def read_folder(
    folder: str | os.PathLike[str],
    *,
    val_share: float = 0.2,
    seed: int = 0,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    on_count: Callable[[int], None] = lambda images: None,
    on_step: Callable[[int], None] = lambda images: None,
) -> DataSet:
    """Read the images of a folder with their classes, and hold out ``val_share`` of each class where there is no val/.

    Recognised, in this order: ``train/`` with ``val/`` (or valid, validation) and ``test/``, as far as they are there;
    a folder for each class; files named by class and number, as ``cat.0.jpg``, ``cat_0.jpg`` or ``cat-0.jpg``. Folders
    inside a class belong to it; hidden ones do not count. Classes stand in the order of their names as text, which is
    torchvision's and Keras'. The split depends on ``seed`` and the files' names and contents, on nothing else.

    Each image is decoded once: what cannot be read is in ``skipped`` and in no part. ``on_count`` is told the number
    of images, ``on_step`` of each that is done.

    Raises InputError for a folder whose classes cannot be told, one class, a class without readable images or with one
    where a share is held out, names that clash, and classes that train/ and val/ do not share; ParameterError (an
    InputError) for a share outside 0 to 1; ImageError for a folder that is not there.
    """
    check_share(val_share)
    if not os.fspath(folder):
        raise InputError("an empty path came; wanted a folder that holds a folder of images for each class.")
    root = Path(os.fsdecode(folder))
    layout = find_layout(root)
    reading = _read(root, layout, channels, max_pixels, on_count, on_step)
    classes = tuple(sorted(layout.learned.images))
    found = {name: reading.items(part, classes) for name, part in layout.parts.items()}
    split, parts = _split(layout, found, classes, val_share, seed)
    made = {name: _part(root, items) for name, items in parts.items()}
    hashes = {str(root / i.name): i.hash for items in parts.values() for i in items}
    notes = (*layout.notes, *reading.notes(channels), *_absent(found, classes), *remarks.of_order(classes))
    return DataSet(
        _name(root),
        classes,
        made["train"],
        made["val"],
        made.get("test"),
        split,
        folder=str(root),
        hashes=hashes,
        skipped=reading.skipped,
        notes=(*notes, *remarks.of_parts(parts, classes)),
    )


@dataclass(frozen=True)
class _Reading:
    """What opening the files gave, by their paths below the root."""

    root: Path
    checked: Mapping[str, Checked]

    @property
    def skipped(self) -> tuple[dict[str, str], ...]:
        bad = {name: one.reason for name, one in self.checked.items() if one.reason is not None}
        return tuple({"image": str(self.root / name), "reason": reason} for name, reason in bad.items())

    def notes(self, channels: int) -> list[str]:
        return remarks.of_traits([c.traits for c in self.checked.values() if c.reason is None], channels)

    def items(self, part: Classes, classes: Sequence[str]) -> list[Item]:
        """Return what can be read of a part, class by class and by name."""
        return [
            Item(file, label, self.checked[file].hash)
            for label, name in enumerate(classes)
            for file in sorted(part.images.get(name, ()), key=_order)
            if self.checked[file].reason is None
        ]


def _order(name: str) -> tuple[str, str]:
    return unicodedata.normalize("NFC", name), name  # some file systems store letters apart from their accents


def _read(
    root: Path,
    layout: Layout,
    channels: int,
    max_pixels: int,
    on_count: Callable[[int], None],
    on_step: Callable[[int], None],
) -> _Reading:
    files = [f for part in layout.parts.values() for images in part.images.values() for f in images]
    on_count(len(files))
    paths = [str(root / f) for f in files]
    checked = check_images(paths, channels=channels, max_pixels=max_pixels, on_step=on_step)
    reading = _Reading(root, dict(zip(files, checked, strict=True)))
    for kind, part in layout.parts.items():
        if kind != "test":
            _check_readable(part, reading)
    return reading


def _check_readable(part: Classes, reading: _Reading) -> None:
    """Raise InputError for a class none of whose images can be read."""
    for name, files in part.images.items():
        reasons = [r for f in files if (r := reading.checked[f].reason) is not None]
        if len(reasons) == len(files):
            where = f" in {shown(part.folder)}/" if part.folder else ""
            raise InputError(
                f"the class '{shown(name)}'{where} has {counted(len(files))} and none can be read; wanted some that "
                f"can: replace them, or remove the class. The first: {reasons[0]}"
            )


def _split(
    layout: Layout, parts: dict[str, list[Item]], classes: Sequence[str], val_share: float, seed: int
) -> tuple[str, dict[str, list[Item]]]:
    """Return how the images are parted, in words, and the parts; a test part that is empty is none."""
    test = {"test": parts["test"]} if parts.get("test") else {}
    also = f"; {shown(layout.parts['test'].folder)}/ is the test, as it came" if test else ""
    named = " Classes by file names." if layout.learned.by_name else " Classes by folders."
    if "val" in parts:
        train, val = (shown(layout.parts[name].folder) for name in ("train", "val"))
        return f"{train}/ and {val}/ as they came{also}.{named}", {"train": parts["train"], "val": parts["val"]} | test
    train_items, val_items = held_out(next(iter(parts.values())), classes, val_share=val_share, seed=seed)
    at = f" of {shown(layout.learned.folder)}/" if layout.learned.folder else ""
    said = (
        f"{100 * val_share:.3g} % of each class{at} held out for validation by seed {seed} ({len(train_items):,} and "
        f"{counted(len(val_items))}){also}.{named}"
    )
    return said, {"train": train_items, "val": val_items} | test


def _absent(parts: Mapping[str, Sequence[Item]], classes: Sequence[str]) -> list[str]:
    """Return a sentence for the classes that a test part does not have."""
    if "test" not in parts:
        return []
    there = {i.label for i in parts["test"]}
    if not there:
        return ["None of the test's images can be read: there is no test."]
    missing = [name for label, name in enumerate(classes) if label not in there]
    return [f"The test has no images of {quoted(missing)} and says nothing of them."] if missing else []


def _part(root: Path, items: Sequence[Item]) -> Part:
    return Part([str(root / i.name) for i in items], np.array([i.label for i in items], np.int64))


def _name(root: Path) -> str:
    return shown(root.resolve().name) or "data"
