"""What lies in a folder of data: its folders and files by name, hidden ones left out, links to folders told of."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from sightline.errors import ImageError, InputError
from sightline.paths import DENIED, check_file, is_picture, shown

__all__ = ["Level", "Walk", "check_folder", "counted"]

_JUNK = ("__MACOSX", "__pycache__", "@eaDir", "lost+found")


def counted(count: int, noun: str = "image") -> str:
    """Return a count with its noun.

    >>> counted(2)
    '2 images'
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def check_folder(folder: Path) -> None:
    """Raise InputError unless this is a folder."""
    said = shown(str(folder))
    if folder.is_file():
        raise InputError(f"{said} is a file; wanted a folder that holds a folder of images for each class.")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"{said} is no folder; wanted one that holds a folder of images for each class.")
    if not os.path.isdir(folder):
        check_file(folder, said, "folder", "")


@dataclass(frozen=True)
class Level:
    """The names in one folder, sorted: folders, images by their suffix, other files."""

    folders: tuple[str, ...]
    pictures: tuple[str, ...]
    others: tuple[str, ...]


@dataclass
class Walk:
    """Reads folders below ``root``; all paths are relative to it, with / between names.

    ``stray`` collects the files that are left out, ``notes`` what must be said of links.
    """

    root: Path
    stray: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def level(self, folder: str = "", *, links: bool = True) -> Level:
        """Return what one folder holds; links to folders are followed or not. Raises ImageError where it is locked."""
        names = [n for n in _names(self.root / folder) if not n.startswith(".") and n not in _JUNK]
        inside = {n for n in names if os.path.isdir(self.root / folder / n)}
        files = [n for n in names if n not in inside]
        pictures, others = (tuple(n for n in files if is_picture(Path(n)) == wanted) for wanted in (True, False))
        return Level(tuple(n for n in sorted(inside) if self._entered(_joined(folder, n), links)), pictures, others)

    def below(self, folder: str) -> list[str]:
        """Return the images of a folder and of all folders in it, links left out, sorted; other files are stray."""
        level = self.level(folder, links=False)
        self.stray += [_joined(folder, n) for n in level.others]
        found = [_joined(folder, n) for n in level.pictures]
        for name in level.folders:
            found += self.below(_joined(folder, name))
        return sorted(found)

    def _entered(self, folder: str, links: bool) -> bool:
        """Say whether a folder is read, and tell of it where it is a link."""
        path = self.root / folder
        if not path.is_symlink():
            return True
        to, root = Path(os.path.realpath(path)), Path(os.path.realpath(self.root))
        inside = to == root or to in root.parents or root in to.parents
        said = f"'{shown(folder)}' is a link to {shown(str(to))}"
        if inside or not links:
            reason = "which holds or belongs to these data" if inside else "and links inside a class are not followed"
            self._note(f"{said}, {reason}: it was left out.")
            return False
        self._note(f"{said}, whose images were read.")
        return True

    def _note(self, said: str) -> None:
        self.notes += [said] * (said not in self.notes)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except PermissionError:
        raise ImageError(f"{shown(str(folder))} {DENIED}") from None


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
