"""The paths of what is to be explained: checked before they are opened, and said so that they fit on one line."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

from sightline.errors import ImageError, suggest

__all__ = ["DENIED", "check_file", "files_below", "image_files", "image_tree", "is_picture", "shown", "why"]

DENIED = "cannot be read: permission denied; change its rights, or copy it to where you may read it."

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_LISTED = 5000
_PICTURES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".heic", ".heif", ".avif", ".jp2", ".ppm", ".pgm", ".npy", ".npz"),
)


def shown(name: str) -> str:
    """Return a file's name fit for one line of a terminal."""
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return plain if len(plain) <= 300 else f"...{plain[-297:]}"


def why(error: BaseException) -> str:
    """Return the first line of what an error says, cut to a readable length."""
    text = (isinstance(error, OSError) and error.strerror) or str(error).partition("\n")[0]
    return shown(text or type(error).__name__)[:120]


def check_file(path: Path, said: str, noun: str = "image", pattern: str = "*.jpg") -> None:
    """Raise ImageError unless ``path`` is a regular file with something in it.

    ``said`` is the path as it is shown, ``noun`` what was hoped for, ``pattern`` what such files are called.
    """
    found = _stat(path, said)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        raise ImageError(f"{said} is a directory; give the {noun} files in it, as {said.rstrip('/')}/{pattern}.")
    if kind != stat.S_IFREG:
        raise ImageError(f"{said} is {_KINDS.get(kind, 'no regular file')}; wanted a file: save the {noun} to one.")
    if not found.st_size:
        raise ImageError(f"{said} is empty (0 bytes); it may not have been copied fully: get it again.")


def image_files(folder: str | os.PathLike[str]) -> list[str]:
    """Return the image files of a folder, by their suffix, sorted by name; a file is a list of itself.

    Hidden files are left out, and folders in it are not searched. Raises ImageError where there are none.
    """
    path, said = Path(os.fsdecode(folder)), shown(os.fsdecode(folder))
    if not stat.S_ISDIR(_stat(path, said).st_mode):
        return [str(path)]
    try:
        inside = sorted(path.iterdir())
    except PermissionError:
        raise ImageError(f"{said} {DENIED}") from None
    found = [str(p) for p in inside if is_picture(p) and not p.name.startswith(".") and p.is_file()]
    if not found:
        deeper = any(p.is_dir() for p in inside)
        hint = "folders in it are not searched: give one of them" if deeper else "give a folder with .jpg or .png files"
        raise ImageError(f"{said} holds no images; {hint}.")
    return found


def image_tree(folder: str | os.PathLike[str]) -> list[str]:
    """Return the image files of a folder and of the folders in it, sorted; a file is a list of itself.

    Hidden files and folders are left out. Raises ImageError where there are none.
    """
    path, said = Path(os.fsdecode(folder)), shown(os.fsdecode(folder))
    if not stat.S_ISDIR(_stat(path, said).st_mode):
        return [str(path)]
    found = [str(p) for p in files_below(path) if is_picture(p)]
    if not found:
        raise ImageError(f"{said} holds no images, nor do the folders in it; give one with .jpg or .png files.")
    return found


def is_picture(path: Path) -> bool:
    """Say whether a file is an image by its suffix."""
    return path.suffix.casefold() in _PICTURES


def files_below(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted, hidden ones left out, without following links to folders."""
    below = []
    for at, folders, files in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        below += [Path(at) / f for f in files if not f.startswith(".")]
    return sorted(p for p in below if p.is_file())


def _refuse_folder(error: OSError) -> None:
    raise ImageError(f"{shown(str(error.filename))} {DENIED}") from None


def _stat(path: Path, said: str) -> os.stat_result:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(f"{said} does not exist.{_instead(path, said)}") from None
    except PermissionError:
        raise ImageError(f"{said} {DENIED}") from None
    except (OSError, ValueError) as error:  # too long, a NUL byte, links in a circle
        raise ImageError(f"{said} is not a usable path ({why(error)}); check it.") from None


def _instead(path: Path, said: str) -> str:
    if "://" in said:
        return " Download it first: wanted a local file."
    return suggest(path.name, _siblings(path), most=2) or " Check the path."


def _siblings(path: Path) -> list[str]:
    try:
        with os.scandir(path.parent) as entries:
            return [shown(e.name) for e in itertools.islice(entries, _LISTED)]
    except (OSError, ValueError):
        return []
