"""Does the model lean on a place where the object is not? Asked of the model by covering, not of any map."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["CELLS", "CellRow", "Shortcut", "find_shortcut", "shortcut_sentence"]

CELLS = 4
_FEWEST = 8  # images in which a place is off the object, below which nothing is said of it
_LEAST = 0.1  # of the images must change their answer
_TIMES = 3.0  # as often as at other places
_LEVEL = 0.01
_ENOUGH = 20  # images, below which finding nothing says nothing


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
    median of the other places, and more often than chance by a binomial test (p < 0.01, Bonferroni over the places).
    Where the objects of fewer than half of the images are known, only places at the border are compared.
    """
    known, counts = _counts(rows)
    odd = [cell for cell in counts if _stands_out(cell, counts) and _is_sure(cell, counts)]
    if not odd:
        return None
    there = [r for r in _looked_at(rows, known=known) if r.cell in odd]
    changed = {r.image: r.target for r in there if r.flips}
    label, times = Counter(changed.values()).most_common(1)[0]
    return Shortcut(tuple(odd), len(changed), len({r.image for r in there}), _usual(odd, counts), label, times, known)


def _counts(rows: Sequence[CellRow]) -> tuple[bool, dict[int, tuple[int, int]]]:
    """Return whether objects are known, and how often each place changed the answer, of how many images."""
    marked = {r.image for r in rows if not math.isnan(r.on_object)}
    known = 2 * len(marked) >= len({r.image for r in rows}) and bool(marked)
    off = _looked_at(rows, known=known)
    return known, {cell: _of(off, cell) for cell in sorted({r.cell for r in off})}


def _looked_at(rows: Sequence[CellRow], *, known: bool) -> list[CellRow]:
    """Return the rows of places off the object, or at the border where objects are not known."""
    return [r for r in rows if (r.on_object == 0 if known else _at_border(r.cell))]


def _of(rows: Sequence[CellRow], cell: int) -> tuple[int, int]:
    here = [r.flips for r in rows if r.cell == cell]
    return sum(here), len(here)


def _usual(cells: Sequence[int], counts: dict[int, tuple[int, int]]) -> float:
    """Return the median rate of answers changed at the other places, 0 where there are none."""
    others = [flips / images for cell, (flips, images) in counts.items() if cell not in cells]
    return float(np.median(others)) if others else 0.0


def _stands_out(cell: int, counts: dict[int, tuple[int, int]]) -> bool:
    flips, images = counts[cell]
    return len(counts) > 1 and flips > 2 and flips / images >= max(_LEAST, _TIMES * _usual([cell], counts))


def _is_sure(cell: int, counts: dict[int, tuple[int, int]]) -> bool:
    from scipy.stats import binomtest

    flips, images = counts[cell]
    expected = max(_usual([cell], counts), 0.5 / images)  # nothing is impossible that was not seen once
    p = binomtest(flips, images, expected, alternative="greater").pvalue
    return images >= _FEWEST and bool(p < _LEVEL / len(counts))


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
    """Say what covering places shows of the model; None where nothing was covered."""
    if not rows:
        return None
    known, counts = _counts(rows)
    images = len({r.image for r in rows})
    found = find_shortcut(rows) if images >= _FEWEST else None
    if found is not None:
        return _told(found)
    where = "off the object" if known else "at the border"
    worst = max(counts, key=lambda cell: counts[cell][0] / counts[cell][1], default=None)
    if worst is None:
        return f"Whether the model takes a shortcut was not seen: no place is {where}."
    flips, of = counts[worst]
    most = f"the {place_of([worst])} changes the answer in {flips} of {of} images when covered"
    others = f"{_usual([worst], counts):.0%} at the median of the other places {where}"
    if _stands_out(worst, counts):
        return f"Too few images to say whether the model takes a shortcut, and one place to look at: {most}, {others}."
    if images < _ENOUGH:
        return f"Too few images ({images}) to say whether the model takes a shortcut; {_ENOUGH} or more would tell."
    return f"No shortcut found in {images} images: of the places {where} {most}; {others}."


def _told(found: Shortcut) -> str:
    where = "off the object" if found.known else "at the border"
    told = (
        f"covering the {place_of(found.cells)} changes its answer in {found.flips} of {found.images} images"
        f"{' where the object is elsewhere' if found.known else ''}, the other places {where} in {found.elsewhere:.0%} "
        f"(median). It then gives up “{found.label}” in {found.label_flips} of {found.flips}."
    )
    verdict = "The model takes a shortcut" if found.known else "The model may take a shortcut"
    look = "" if found.known else " Look at what lies there: if it is no part of what the class is, the model cheats."
    return f"{verdict}: {told}{look}"
