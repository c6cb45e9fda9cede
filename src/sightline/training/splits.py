"""Holding out a share of every class: by seed and name alone, with copies of one picture always on one side."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sightline.errors import InputError, ParameterError
from sightline.paths import shown
from sightline.training.walking import counted

__all__ = ["Item", "by_hash", "check_share", "contradicted", "held_out"]


@dataclass(frozen=True)
class Item:
    """One image or series: its name below the data's root, the index of its class and the SHA-256 of its content."""

    name: str
    label: int
    hash: str


def check_share(val_share: Any) -> None:
    """Raise ParameterError unless a share lies between 0 and 1."""
    number = isinstance(val_share, (int, float)) and not isinstance(val_share, bool)
    if not number or not 0 < val_share < 1:  # NaN is refused too
        raise ParameterError(
            f"val_share={val_share!r}: wanted the share of images to hold out for validation, above 0 and below 1, "
            "as 0.2."
        )


def by_hash(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Return the items of each content, in their order."""
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.hash, []).append(item)
    return found


def contradicted(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Return the items of each content that is under two classes or more."""
    return {h: alike for h, alike in by_hash(items).items() if len({i.label for i in alike}) > 1}


def held_out(
    items: Sequence[Item], classes: Sequence[str], *, val_share: float, seed: int, noun: str = "image"
) -> tuple[list[Item], list[Item]]:
    """Part items (of each class at least two) into those to learn from and those to check by, in their order.

    Of each class the share is held out whose SHA-256 of seed and name is lowest, so that another image changes little
    and order, machine and library nothing. Copies stay together; what is under two classes is never held out.

    >>> items = [Item(f"cat/{i}.jpg", 0, f"a{i}") for i in range(10)]
    >>> [len(part) for part in held_out(items, ["cat"], val_share=0.2, seed=0)]
    [8, 2]
    """
    check_share(val_share)
    unclear = contradicted(items)
    of_class: list[list[Item]] = [[] for _ in classes]
    for item in items:
        of_class[item.label].append(item)
    names: set[str] = set()
    for own, name in zip(of_class, classes, strict=True):
        groups = [alike for h, alike in by_hash(own).items() if h not in unclear]
        _check_parts(own, groups, shown(name), noun)
        names |= _held(sorted(groups, key=lambda g: _rank(seed, g[0].name)), len(own), val_share)
    return [i for i in items if i.name not in names], [i for i in items if i.name in names]


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0".encode() + os.fsencode(name)).digest()


def _held(groups: Sequence[Sequence[Item]], size: int, share: float) -> set[str]:
    """Return the names in the first groups that fit into the share, or those of the smallest group."""
    room = min(max(1, math.floor(share * size + 0.5)), size - 1)
    held: set[str] = set()
    for group in groups:
        held |= {i.name for i in group} if len(held) + len(group) <= room else set()
    return held or {i.name for i in min(groups, key=len)}


def _check_parts(own: Sequence[Item], groups: Sequence[Sequence[Item]], name: str, noun: str) -> None:
    """Raise InputError for a class that cannot be both learned from and checked."""
    said = f"the class '{name}' has {counted(len(own), noun)}"
    wanted = f"wanted at least two different ones, one to learn from and one to check by: add {noun}s, or remove it"
    if len(own) == 1:
        raise InputError(f"{said}; {wanted}.")
    if len(by_hash(own)) == 1:
        raise InputError(f"{said}, which are copies of one ('{shown(own[0].name)}'); {wanted}.")
    if not groups:
        raise InputError(f"{said}, and each is also in another class; {wanted}.")
