"""Where the objects of photographs are, read from a file of boxes or a folder of masks and found by the file's name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sightline.errors import InputError
from sightline.evaluation.objects.annotations import Marks, read_marks
from sightline.evaluation.objects.marks import Mark, Size, by
from sightline.paths import is_picture, shown
from sightline.samples import Sample

__all__ = ["Truths", "read_truths"]

Parts: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Truths:
    """The masks of photographs: call it with a `Sample` for the mask (H, W) of its original, None where there is none.

    Several boxes of one image are one mask; those that are marked as difficult are left out.
    """

    marks: Marks
    index: Mapping[str, Sequence[str]]
    assigned: Mapping[str, str | None] = field(default_factory=dict)

    def __call__(self, sample: Sample) -> np.ndarray | None:
        """Return the mask; InputError for a mark that lies outside the picture, or is of another picture's size."""
        path = _path(sample.given) or sample.name
        name = None if path is None else self.assigned[path] if path in self.assigned else self.entry(path)
        marks = self.marks.named[name] if name is not None else ()
        if not marks:
            return None
        if sample.geometry is None:
            raise InputError(f"{self.marks.source} marks pictures, and the input was given as a tensor; give files.")
        return _painted(marks, sample.geometry.original)

    def describe(self) -> str:
        """Return the file's name and a digest of what is in it."""
        return f"{Path(self.marks.source).name} {self.marks.digest}"

    def entry(self, path: str) -> str | None:
        """Return the name under which the file has an image, None where it has not.

        That of the same file name; where several have it, the one whose folders agree best. InputError for two alike.
        """
        names = [*self.index.get(_parts(path)[-1], ()), *self.index.get(_stem(path), ())]
        fitting = names if len(names) == 1 else [n for n in names if _agreement(path, n) >= 0]
        best = max((_agreement(path, n) for n in fitting), default=0)
        found = [n for n in fitting if _agreement(path, n) == best]
        if len(found) > 1:
            raise InputError(
                f"{self.marks.source} has both {shown(found[0])} and {shown(found[1])}, and either may be "
                f"{shown(path)}; give the images with their folders."
            )
        return found[0] if found else None

    def among(self, images: Sequence[str]) -> Truths:
        """Return the same for these images alone: each entry belongs to the one whose folders agree best.

        InputError where two agree alike, or where no image has an entry.
        """
        entries = {path: self.entry(path) for path in dict.fromkeys(images)}
        claims: dict[str, list[str]] = {}
        for path, name in entries.items():
            if name is not None:
                claims.setdefault(name, []).append(path)
        if not claims:
            raise InputError(self._stranger(images))
        for name, paths in claims.items():
            best = max(_agreement(path, name) for path in paths)
            close = [path for path in paths if _agreement(path, name) == best]
            if len(close) > 1:
                raise InputError(
                    f"{self.marks.source}: {shown(name)} may be {shown(close[0])} or {shown(close[1])}; name it with "
                    "its folder."
                )
            entries |= {path: None for path in paths if path not in close}
        return replace(self, assigned=entries)

    def _stranger(self, images: Sequence[str]) -> str:
        has = shown(next(iter(self.marks.named)))
        came = f"the first of them is {shown(_parts(images[0])[-1])}" if images else "they have no file names"
        return (
            f"{self.marks.source} names none of the images: it names {has}, and {came}; wanted the images' file names."
        )


def read_truths(path: str | os.PathLike[str], images: Any = None) -> Truths:
    """Read boxes (.csv, COCO .json, Pascal VOC .xml or a folder of these) or a folder of masks.

    Masks are images named as the photographs, not 0 where the object is. ``images`` are those that will be measured,
    as `evaluate` takes them: then it is said at once where none of them is named, or which is meant is unclear.

    Raises InputError, in one line, for a file that is none of these, and for lines in it that are wrong.
    """
    marks = read_marks(Path(os.fsdecode(path)))
    found = Truths(marks, _indexed(marks.named))
    if images is None:
        return found
    listed: Iterable[Any] = images if isinstance(images, (list, tuple)) else [images]
    return found.among([p for p in map(_path, listed) if p is not None])


def _indexed(names: Iterable[str]) -> dict[str, list[str]]:
    """List the names by their last part; those without an image's suffix stand for any."""
    index: dict[str, list[str]] = {}
    for name in names:
        last = _parts(name)[-1]
        index.setdefault(last if is_picture(Path(last)) else f"{last}.*", []).append(name)
    return index


def _path(given: Any) -> str | None:
    if isinstance(given, (str, os.PathLike)):
        return os.fsdecode(given)
    filename = getattr(given, "filename", None)  # a PIL image's
    return filename if isinstance(filename, str) and filename else None


def _parts(path: str) -> Parts:
    """Return the folders and the name; accents are one character, whatever the file system makes of them."""
    split = unicodedata.normalize("NFC", path).replace("\\", "/").split("/")
    return tuple(p for p in split if p not in ("", ".")) or ("",)


def _stem(path: str) -> str:
    return f"{Path(_parts(path)[-1]).stem}.*"


def _agreement(path: str, name: str) -> int:
    """Return how many folders next to the file agree: -1 for a name whose folders are others."""
    ours, theirs = _parts(path)[:-1][::-1], _parts(name)[:-1][::-1]
    alike = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    return -1 if alike == 0 else min(len(ours), len(theirs)) if alike is None else alike


def _painted(marks: Sequence[Mark], size: Size) -> np.ndarray:
    canvas = np.zeros(size, bool)
    for mark in marks:
        _refuse_other(mark, size)
        mark.paint(canvas)
    return canvas


def _refuse_other(mark: Mark, size: Size) -> None:
    if mark.size is not None and mark.size != size:
        raise InputError(
            f"{mark.where} is of a picture of {by(mark.size)}, and the image has {by(size)}; wanted boxes of the "
            "image as it is, turned upright."
        )
    if mark.extent is None:
        return
    left, top, right, bottom = mark.extent
    if left >= size[1] or top >= size[0] or right <= 0 or bottom <= 0:
        raise InputError(
            f"{mark.where}: {left:g},{top:g},{right:g},{bottom:g} lies wholly outside the image of {by(size)}; wanted "
            "pixels of the original image."
        )
