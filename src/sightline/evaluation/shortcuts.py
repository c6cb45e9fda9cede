"""Does the model lean on a place where the object is not? Asked of the model by covering, not of any map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["CELLS", "CellRow", "Shortcut", "find_shortcut", "shortcut_sentence"]

CELLS = 4
_FEWEST = 8  # images in which a place is off the object, below which nothing is said of it
_LEAST = 0.1  # of the images must change their answer
_TIMES = 3.0  # as often as at other places
_LEVEL = 0.001


@dataclass(frozen=True)
class CellRow:
    """What covering one cell did to one image: the target's drop in probability, and whether the answer changed.

    ``on_object`` is the share of the cell that the object covers, NaN where that is not known.
    """

    image: str
    target: str
    cell: int
    drop: float
    flips: bool
    on_object: float


@dataclass(frozen=True)
class Shortcut:
    """A place whose covering changes answers far more often than covering other places off the object does."""

    cells: tuple[int, ...]
    flips: int
    images: int
    elsewhere: float
    label: str
    label_flips: int
    known: bool


def find_shortcut(rows: Sequence[CellRow]) -> Shortcut | None:
    """Return the places off the object that change answers more often than others, or None.

    A place counts where covering it changes the answer in a tenth of the images at least, three times as often as the
    median of the other places, and more often than chance by a binomial test (p < 0.001, Bonferroni over the places).
    Where objects are not known, only places at the border are compared.
    """
    known = any(r.on_object == r.on_object for r in rows)
    off = [r for r in rows if (r.on_object == 0 if known else _at_border(r.cell))]
    counts = {cell: _of(off, cell) for cell in sorted({r.cell for r in off})}
    counts = {cell: found for cell, found in counts.items() if found[1] >= _FEWEST}
    odd = [cell for cell in counts if _stands_out(cell, counts)]
    if not odd:
        return None
    there = [r for r in off if r.cell in odd]
    changed = {r.image: r.target for r in there if r.flips}
    label, times = Counter(changed.values()).most_common(1)[0]
    return Shortcut(tuple(odd), len(changed), len({r.image for r in there}), _usual(odd, counts), label, times, known)


def _of(rows: Sequence[CellRow], cell: int) -> tuple[int, int]:
    here = [r.flips for r in rows if r.cell == cell]
    return sum(here), len(here)


def _usual(cells: Sequence[int], counts: dict[int, tuple[int, int]]) -> float:
    """Return the median rate of answers changed at the other places, 0 where there are none."""
    others = [flips / images for cell, (flips, images) in counts.items() if cell not in cells]
    return float(np.median(others)) if others else 0.0


def _stands_out(cell: int, counts: dict[int, tuple[int, int]]) -> bool:
    from scipy.stats import binomtest

    flips, images = counts[cell]
    usual = _usual([cell], counts)
    if len(counts) < 2 or flips / images < max(_LEAST, _TIMES * usual):
        return False
    expected = max(usual, 0.5 / images)  # nothing is impossible that was not seen once
    return bool(binomtest(flips, images, expected, alternative="greater").pvalue < _LEVEL / len(counts))


def _at_border(cell: int) -> bool:
    row, column = divmod(cell, CELLS)
    return row in (0, CELLS - 1) or column in (0, CELLS - 1)


def place_of(cells: Sequence[int]) -> str:
    """Name a place of the 4 x 4 grid in words.

    >>> place_of([15]), place_of([0, 1]), place_of([5])
    ('lower right corner', 'upper left', 'middle')
    """
    rows, columns = (np.mean([divmod(c, CELLS)[axis] for c in cells]) for axis in (0, 1))
    down = "upper" if rows < 1 else "lower" if rows > 2 else ""
    across = "left" if columns < 1 else "right" if columns > 2 else ""
    words = " ".join(w for w in (down, across) if w) or "middle"
    return (
        f"{words} corner" if len(cells) == 1 and cells[0] in (0, CELLS - 1, CELLS**2 - CELLS, CELLS**2 - 1) else words
    )


def shortcut_sentence(rows: Sequence[CellRow]) -> str | None:
    """Say what covering places shows of the model, or nothing where too little was covered to say it."""
    if len({r.image for r in rows}) < _FEWEST:
        return None
    found = find_shortcut(rows)
    known = any(r.on_object == r.on_object for r in rows)
    if found is None:
        where = "off the object" if known else "at the border"
        return (
            f"No shortcut found: no place {where} changes the model's answer more often than the others when covered."
        )
    told = (
        f"covering the {place_of(found.cells)} changes its answer in {found.flips} of {found.images} images"
        f"{' where the object is elsewhere' if found.known else ''}; the other places "
        f"{'off the object' if found.known else 'at the border'} do so in {found.elsewhere:.0%}"
    )
    mostly = f" It then gives up '{found.label}' in {found.label_flips} of {found.flips}."
    verdict = "The model takes a shortcut" if found.known else "The model may take a shortcut"
    look = "" if found.known else " Look at what lies there: if it is no part of what the class is, the model cheats."
    return f"{verdict}: {told}.{mostly}{look}"
