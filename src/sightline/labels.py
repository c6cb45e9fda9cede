"""Class names: finding one by index or by text, and reading them from a file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import InputError, TargetError, suggest

__all__ = ["Labels", "read_labels"]


_NUMBER = re.compile(r"\s*-?[0-9]+\s*")


@dataclass(frozen=True)
class Labels:
    """The names of a model's classes, by index, and their ids (such as WordNet's) where there are any.

    >>> Labels(("crane", "tiger cat")).find("Tiger_Cat", classes=2)
    1
    """

    names: tuple[str, ...] = ()
    ids: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    def name(self, index: int) -> str:
        """Return the name of a class, or ``class 7`` where it has none."""
        return self.names[index] if 0 <= index < len(self.names) else f"class {index}"

    def id(self, index: int) -> str | None:
        """Return the id of a class, or None."""
        return self.ids[index] if 0 <= index < len(self.ids) else None

    def indices(self, text: str) -> list[int]:
        """Return every index that the text names: the whole name, else one of its synonyms, else the id.

        Case and underscores do not matter; synonyms are what the commas of a name separate.
        """
        wanted = _fold(text)
        whole = [i for i, name in enumerate(self.names) if _fold(name) == wanted]
        synonym = [i for i, name in enumerate(self.names) if wanted in map(_fold, name.split(","))]
        return whole or synonym or [i for i, known in enumerate(self.ids) if known and _fold(known) == wanted]

    def has(self, text: str) -> bool:
        """Say whether the text is the name or the id of a class."""
        return bool(self.indices(text))

    def find(self, said: str | int, classes: int) -> int:
        """Return the index of the class that was meant: an index, a name, an id, ``label:7`` or ``index:7``.

        Raises TargetError for an index out of range, an unknown name (with close ones) and an ambiguous one
        (with its indices).
        """
        if not isinstance(said, str):
            return _in_range(int(said), classes)
        kind, _, rest = said.strip().partition(":")
        if kind.casefold() == "label" and rest:
            return self._by_name(rest, classes)
        if kind.casefold() == "index" and _NUMBER.fullmatch(rest):
            return _in_range(int(rest), classes)
        if _NUMBER.fullmatch(said):
            return _in_range(int(said), classes)
        return self._by_name(said, classes)

    def _by_name(self, text: str, classes: int) -> int:
        found = self.indices(text)
        shown = re.fullmatch(r"class (\d{1,9})", _fold(text))  # as a class without a name is shown
        if not found and shown:
            return _in_range(int(shown[1]), classes)
        if len(found) == 1:
            return _in_range(found[0], classes)
        if found:
            options = " or ".join(str(i) for i in found)
            raise TargetError(f"label '{text}' stands for several classes; give the index: {options}.")
        if not self.names:
            raise TargetError(f"label '{text}': this model has no class names; give an index or --labels FILE.")
        close = self._close(text)
        raise TargetError(f"the model has no label '{text}'.{close or ' Give an index, or see its labels.'}")

    def _close(self, text: str) -> str:
        by_word = [n for n in self.names if re.search(rf"\b{re.escape(_fold(text))}\b", _fold(n))]
        if by_word:
            names = list(dict.fromkeys(by_word))[:3]
            return f" Did you mean {' or '.join(names)}?"
        return suggest(_fold(text), {_fold(n): n for n in self.names}) or suggest(text, self.names)


def _fold(text: str) -> str:
    return " ".join(text.replace("_", " ").replace(",", ", ").casefold().split())


def _in_range(index: int, classes: int) -> int:
    if not 0 <= index < classes:
        raise TargetError(f"class {index}: the model has {classes} classes, numbered 0 to {classes - 1}.")
    return index


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read class names from JSON or from text with one name a line.

    JSON is a list of names, a mapping from index to name, or Keras' mapping from index to ``[id, name]``.
    Raises InputError where the file is missing or is neither.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"labels file {path}: cannot be read ({_reason(error)}); wanted JSON or one name a line."
        ) from None
    if not text.strip():
        raise InputError(f"labels file {path} is empty; wanted JSON or one name a line.")
    if text.lstrip()[0] in "[{":
        return _from_json(text, path)
    return Labels(tuple(line.strip() for line in text.splitlines() if line.strip()))


def _reason(error: Exception) -> str:
    return error.strerror or "unreadable" if isinstance(error, OSError) else "not text"


def _from_json(text: str, path: str | os.PathLike[str]) -> Labels:
    try:
        data: Any = json.loads(text)
        entries = data if isinstance(data, list) else [data[str(i)] for i in range(len(data))]
    except (json.JSONDecodeError, KeyError, RecursionError) as error:
        raise InputError(
            f"labels file {path}: {error} is missing or wrong; wanted a list of names, or a mapping "
            "{'0': name, '1': name, ...} without gaps."
        ) from None
    pairs = [e if isinstance(e, list) and len(e) == 2 else (None, e) for e in entries]
    names = tuple(str(name) for _, name in pairs)
    ids = tuple(None if known is None else str(known) for known, _ in pairs)
    return Labels(names, ids if any(ids) else ())
