"""The files that a path, a pattern or a URL names: in a fixed order, never more at once than the names in a folder."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sightline.batch.sources import reach
from sightline.batch.sources.reach import Listing, Look
from sightline.errors import InputError
from sightline.paths import is_picture, shown, why

__all__ = ["Leaf", "is_pattern", "leaves_of", "suffix_of"]

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Leaf:
    """A file by its path or URL, what a listing said of it, and why there is none where a folder cannot be read."""

    path: str
    look: Look | None = None
    error: str | None = None


def suffix_of(path: str) -> str:
    """Return a path's suffix in small letters; a URL's without what asks for it."""
    return Path(path.partition("?")[0] if reach.is_url(path) else path).suffix.casefold()


def is_pattern(path: str) -> bool:
    """Say whether a path names several files; ``?`` in an HTTP address does not."""
    plain = path.partition("?")[0] if path.startswith("http") else path
    return bool(_MAGIC.search(plain) or _RANGE.search(plain) or _CHOICE.search(plain))


def leaves_of(named: str) -> Iterator[Leaf]:
    """Yield the files that a path, pattern or URL names: of a folder the pictures, also those in folders in it.

    Raises InputError where there is no such file or folder, or the pattern fits none.
    """
    path = named if reach.is_url(named) else os.path.abspath(named)
    found = _found(path)
    if found is not None:
        return iter([found])
    if reach.is_folder(path):
        return _below(path)
    if is_pattern(path):
        return _fitting(path, named)
    raise InputError(f"{shown(named)}: no such file, folder or pattern of files; give a folder of images.")


def _found(path: str) -> Leaf | None:
    """Return the file at a path or URL, if there is one."""
    if not reach.is_url(path):
        return Leaf(path) if os.path.lexists(path) and not os.path.isdir(path) else None
    if path.startswith("http") and (is_pattern(path) or path.endswith("/")):
        return None
    try:
        return None if reach.is_folder(path) else Leaf(path, reach.look(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        said = why(error)
        raise InputError(f"{shown(path)} cannot be reached ({said}); check the address and your rights.") from None


def _below(folder: str) -> Iterator[Leaf]:
    """Yield the pictures below a folder: those of one folder sorted and before those in its folders."""
    found = _children(folder)
    if isinstance(found, Leaf):
        yield found
        return
    yield from _leaves(folder, found, [n for n in found.files if _is_shown(n) and is_picture(Path(n))])
    for name in found.folders:
        if _is_shown(name) and not _is_link(reach.joined(folder, name)):
            yield from _below(reach.joined(folder, name))


def _fitting(pattern: str, named: str) -> Iterator[Leaf]:
    none = True
    for one in _braced(pattern):
        if not _MAGIC.search(one.partition("?")[0] if one.startswith("http") else one):
            none = False
            yield Leaf(one)
            continue
        root, parts = _split(one)
        for leaf in _matching(root, parts):
            none = False
            yield leaf
    if none:
        raise InputError(
            f"{shown(named)}: no file fits this pattern, or no picture where it does not end in a suffix; check it."
        )


def _braced(pattern: str) -> Iterator[str]:
    """Yield what a pattern's ranges {000..099} and choices {a,b} stand for."""
    ranged, chosen = _RANGE.search(pattern), _CHOICE.search(pattern)
    found = ranged or chosen
    if found is None:
        yield pattern
        return
    for option in _numbers(ranged[1], ranged[2]) if ranged else iter(found[1].split(",")):
        yield from _braced(pattern[: found.start()] + option + pattern[found.end() :])


def _numbers(first: str, last: str) -> Iterator[str]:
    step = 1 if int(first) <= int(last) else -1
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    return (str(n).zfill(width) for n in range(int(first), int(last) + step, step))


def _split(pattern: str) -> tuple[str, list[str]]:
    """Return the folder where a pattern begins, and its parts below."""
    head, sep, rest = pattern.partition("://") if reach.is_url(pattern) else ("", "", pattern)
    parts = rest.split("/")
    fixed = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    return f"{head}{sep}{'/'.join(parts[:fixed])}" or "/", [p for p in parts[fixed:] if p]


def _matching(folder: str, parts: list[str], listed: Listing | None = None) -> Iterator[Leaf]:
    """Yield the files below a folder that fit the parts of a pattern."""
    head, rest = parts[0], parts[1:]
    if rest and not _MAGIC.search(head):
        yield from _matching(reach.joined(folder, head), rest)
        return
    found = listed or _children(folder)
    if isinstance(found, Leaf):
        yield found
    elif head == "**":
        yield from _matching(folder, rest or ["*"], found)
        for name in found.folders:
            if _is_shown(name) and not _is_link(reach.joined(folder, name)):
                yield from _matching(reach.joined(folder, name), parts)
    elif rest:
        for name in found.folders:
            if _fits(name, head):
                yield from _matching(reach.joined(folder, name), rest)
    else:
        yield from _leaves(folder, found, [n for n in found.files if _fits(n, head) and _is_meant(n, head)])


def _leaves(folder: str, found: Listing, names: list[str]) -> Iterator[Leaf]:
    return (Leaf(reach.joined(folder, name), found.known.get(name)) for name in names)


def _children(folder: str) -> Listing | Leaf:
    """List a folder; one that cannot be is a leaf that says so, one that is not there is empty."""
    try:
        return reach.children(folder)
    except (FileNotFoundError, NotADirectoryError):
        return Listing([], [])
    except OSError as error:
        return Leaf(folder, error=f"this folder cannot be listed: {why(error)}")


def _fits(name: str, part: str) -> bool:
    return fnmatch.fnmatchcase(name, part) and (_is_shown(name) or part.startswith("."))


def _is_meant(name: str, part: str) -> bool:
    """Say whether a pattern means a file: any where it says the suffix, otherwise pictures."""
    suffix = Path(part).suffix
    return is_picture(Path(name)) or bool(len(suffix) > 1 and not _MAGIC.search(suffix))


def _is_shown(name: str) -> bool:
    return not name.startswith(".")


def _is_link(folder: str) -> bool:
    """Say whether a folder is a link, which might lead round in a circle."""
    return not reach.is_url(folder) and os.path.islink(folder)
