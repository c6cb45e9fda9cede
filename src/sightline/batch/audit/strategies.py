"""From clusters to strategies that are odd: mass on a mark, at one constant place, at the border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sightline.batch.audit.clusters import BORDER, Box, Cluster, Clustering, hot_box, mass_in
from sightline.batch.audit.content import Mark, find_mark, mark_scores, places_like
from sightline.batch.audit.pictures import Pictures
from sightline.batch.audit.reading import Maps

__all__ = ["Kind", "Strategy", "find_strategies"]

Kind = Literal["watermark", "constant location", "border"]

_SAMPLE = 80
"""Images of a cluster whose pixels are compared."""
_FEWEST = 8
_DENSE = 1.5
"""Times the mass that a box of its size holds by chance: what a mark must hold for the map to lie on it."""
_TIGHT = 0.025
"""Deviation of the centres of mass, in shares of the side, below which a location is constant."""
_LARGE = 0.25  # of the picture, above which a hot box is no place
_AT_BORDER = 0.6
_OVERLAP = 0.5
_MINE = 0.5


@dataclass(frozen=True, eq=False)
class Strategy:
    """Something odd that a class's maps show: its kinds, the main one first, where, and the rows that show it.

    ``near`` are the rows of other classes in which the same mark was looked for, ``marked`` those that have it.
    """

    label: str
    group: int
    kinds: tuple[Kind, ...]
    clusters: tuple[int, ...]
    box: Box
    rows: np.ndarray
    held: float
    mark: Mark | None = None
    limit: float = float("nan")


def find_strategies(
    maps: Maps, found: Clustering, others: np.ndarray | None, pictures: Pictures, seed: int
) -> list[Strategy]:
    """Return the odd strategies of one class; clusters that show one at the same place are one strategy.

    ``others`` is the mean map (32, 32) of the images that are not of the class, None where there are none.
    """
    odd: list[Strategy] = []
    for cluster in found.clusters:
        strategy = _of_cluster(maps, found, cluster, others, pictures, seed)
        if strategy is not None and not any(_same(strategy, s) for s in odd):
            odd.append(strategy)
        elif strategy is not None:
            odd = [_joined(s, strategy) if _same(strategy, s) else s for s in odd]
    return [s for s in (_with_rows(maps, found, s, pictures, seed) for s in odd) if len(s.rows)]


def _same(a: Strategy, b: Strategy) -> bool:
    return a.kinds[0] == b.kinds[0] and (a.kinds[0] == "border" or _common(a.box, b.box) >= _OVERLAP)


def _joined(a: Strategy, b: Strategy) -> Strategy:
    """Keep the strategy of the larger cluster, and say that the other shows it too."""
    large, small = (a, b) if len(a.rows) >= len(b.rows) else (b, a)
    return replace(large, clusters=tuple(sorted({*large.clusters, *small.clusters})))


def _common(a: Box, b: Box) -> float:
    """Return what two boxes have in common, as a share of the smaller one."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, wide) * max(0.0, high) / min(_area(a), _area(b))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _of_cluster(
    maps: Maps, found: Clustering, cluster: Cluster, others: np.ndarray | None, pictures: Pictures, seed: int
) -> Strategy | None:
    kinds: list[Kind] = []
    box, mark = cluster.hot, _mark(cluster, others, pictures, seed)
    if mark is not None:
        kinds.append("watermark")
        box = mark.box
    if len(cluster.rows) >= _FEWEST and cluster.spread <= _TIGHT and _area(cluster.hot) <= _LARGE:
        kinds.append("constant location")
    if cluster.border >= _AT_BORDER:
        kinds.append("border")
    if not kinds:
        return None
    label = found.group.label
    return Strategy(label, found.group.index, tuple(kinds), (cluster.number,), box, cluster.rows, cluster.held, mark)


def _mark(cluster: Cluster, others: np.ndarray | None, pictures: Pictures, seed: int) -> Mark | None:
    """Return the mark that the cluster's images have where its maps are hot, or hotter than those of other classes."""
    rows = np.random.default_rng(seed).permutation(cluster.rows)
    _, seen = pictures.some(rows, _SAMPLE)
    if len(seen) < _FEWEST:
        return None
    for hot in _hot_places(cluster, others):
        mark = find_mark(seen, hot)
        if mark is not None and mass_in(cluster.mean[None], mark.box)[0] >= _DENSE * _area(mark.box):
            return mark
    return None


def _hot_places(cluster: Cluster, others: np.ndarray | None) -> Sequence[Box]:
    if others is None:
        return [cluster.hot]
    more = (cluster.mean - others).clip(min=0)
    return [cluster.hot, hot_box(more)] if more.any() else [cluster.hot]


def _with_rows(maps: Maps, found: Clustering, s: Strategy, pictures: Pictures, seed: int) -> Strategy:
    """Say of each image of the class whether it shows the strategy, by its own map and pixels."""
    rows = found.group.rows
    mass = maps.mass(rows)
    if s.mark is not None:
        limit = _limit(s.mark, s.rows, pictures, seed)
        hot = rows[mass_in(mass, s.mark.box) >= _area(s.mark.box)]
        shown = [r for r, scores in pictures.each(hot, s.mark) if scores <= limit]
        return replace(s, rows=np.array(shown, np.int64), limit=limit)
    if s.kinds[0] == "border":
        inner = mass_in(mass, (BORDER, BORDER, 1 - BORDER, 1 - BORDER))
        return replace(s, rows=rows[inner <= 1 - _MINE])
    return replace(s, rows=rows[mass_in(mass, s.box) >= _MINE * s.held])


def _limit(mark: Mark, rows: np.ndarray, pictures: Pictures, seed: int) -> float:
    """Return how far from the mark an image may be that shows it.

    The geometric mean of how far most images of the cluster are (90th percentile) and how near other places of these
    images come to it by chance (1st).
    """
    _, seen = pictures.some(np.random.default_rng(seed).permutation(rows), _SAMPLE)
    own = float(np.quantile(mark_scores(seen, mark), 0.9))
    places = places_like(mark.box, seed=seed)
    chance = np.concatenate([mark_scores(seen, mark, place) for place in places]) if places else np.ones(1)
    return float(np.sqrt(max(own, 1e-3) * np.quantile(chance, 0.01)))
