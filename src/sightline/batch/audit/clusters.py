"""The clusters of a class's maps, how separate they are, and what is odd about where their mass lies."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sightline.batch.audit.reading import SIDE, Group, Maps
from sightline.batch.audit.spectral import Spectrum, features, spectrum

__all__ = ["BORDER", "Box", "Cluster", "Clustering", "clustered", "mass_in"]

Box = tuple[float, float, float, float]
"""A box in shares of the picture: left, top, right, bottom."""

BORDER = 3 / 32
"""The border is this share of the picture's sides, all around."""
_SPECTRAL = 3000  # maps of a class; more are given to the cluster of their nearest
_HALF = 0.5
_ALIKE = 0.9


@dataclass(frozen=True, eq=False)
class Cluster:
    """Maps of one class that are alike: rows of `Maps`, and where their mass lies.

    ``mean`` (32, 32) has mass 1; ``border`` is the mean share of mass at the border, ``overlap`` the mean share that a
    map has in common with ``mean``, ``spread`` the deviation of the centres of mass in shares of the picture's side,
    ``hot`` the box around the place where ``mean`` is at least half of its largest, ``held`` the median share of mass
    in it. ``separation`` is the mean silhouette, -1 to 1, and NaN for a class of one cluster.
    """

    number: int
    rows: np.ndarray
    mean: np.ndarray
    border: float
    overlap: float
    elsewhere: float
    spread: float
    hot: Box
    held: float
    separation: float


@dataclass(frozen=True, eq=False)
class Clustering:
    """A class with its clusters, the most separate first; ``agreement`` is the adjusted Rand index with HDBSCAN's."""

    group: Group
    eigenvalues: np.ndarray
    gap: float
    clusters: tuple[Cluster, ...]
    agreement: float
    density: int
    noise: float


def clustered(maps: Maps, group: Group, seed: int = 0) -> Clustering:
    """Cluster the maps of one class."""
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(group.rows))[:_SPECTRAL])
    x = features(maps.heat[group.rows[drawn]])
    found = spectrum(x, seed)
    some = _told_apart(maps.mass(group.rows[drawn]), _kmeans(found, seed))
    silhouettes = _silhouettes(x, some)
    agreement, density, noise = _by_density(found, some, maps.mass(group.rows[drawn]))
    all_of = some if len(drawn) == len(group.rows) else _nearest(x, some, features(maps.heat[group.rows]))
    mass = maps.mass(group.rows)
    clusters = [_cluster(group.rows, mass, all_of, c, silhouettes[c]) for c in range(len(silhouettes))]
    ranked = sorted(clusters, key=lambda c: -len(c.rows) if np.isnan(c.separation) else -c.separation)
    numbered = tuple(_numbered(c, n) for n, c in enumerate(ranked, 1))
    return Clustering(group, found.eigenvalues, found.gap, numbered, agreement, density, noise)


def _numbered(c: Cluster, number: int) -> Cluster:
    return replace(c, number=number)


def _kmeans(found: Spectrum, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    if found.clusters == 1:
        return np.zeros(len(found.embedding), int)
    x = _unit(found.embedding[:, : found.clusters])
    return np.asarray(KMeans(found.clusters, n_init=10, random_state=seed).fit_predict(x))


def _told_apart(mass: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Make clusters one whose mean maps have nearly all in common: they differ in nothing that anybody would see."""
    from scipy.sparse.csgraph import connected_components

    means = np.stack([mass[labels == c].mean(0) for c in range(labels.max() + 1)]).reshape(labels.max() + 1, -1)
    common = np.minimum(means[:, None], means).sum(-1)
    return np.asarray(connected_components(common >= _ALIKE)[1][labels])


def _unit(x: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(np.divide(x, lengths, out=np.zeros_like(x), where=lengths > 0))


def _by_density(found: Spectrum, mine: np.ndarray, mass: np.ndarray) -> tuple[float, int, float]:
    """Return how far HDBSCAN on the same embedding agrees, how many clusters it finds, and its share of noise."""
    from sklearn.cluster import HDBSCAN
    from sklearn.metrics import adjusted_rand_score

    x = _unit(found.embedding[:, : max(2, found.clusters)])
    least = max(5, len(x) // 20)
    labels = HDBSCAN(min_cluster_size=least, allow_single_cluster=True, copy=True).fit_predict(x)
    known = labels >= 0
    if not known.any():
        return 0.0, 0, 1.0
    theirs = _told_apart(mass[known], labels[known])
    return float(adjusted_rand_score(mine[known], theirs)), int(theirs.max()) + 1, float(1 - known.mean())


def _silhouettes(x: np.ndarray, labels: np.ndarray) -> list[float]:
    from sklearn.metrics import silhouette_samples

    kinds = int(labels.max()) + 1
    if kinds == 1:
        return [float("nan")]
    each = silhouette_samples(x, labels)
    return [float(each[labels == c].mean()) for c in range(kinds)]


def _nearest(x: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    from sklearn.neighbors import KNeighborsClassifier

    return np.asarray(KNeighborsClassifier(5).fit(x, labels).predict(others))


def _cluster(rows: np.ndarray, mass: np.ndarray, labels: np.ndarray, which: int, separation: float) -> Cluster:
    mine, rest = mass[labels == which], mass[labels != which]
    mean = mine.mean(0)
    hot = hot_box(mean)
    return Cluster(
        which,
        rows[labels == which],
        mean,
        float(_border_share(mine).mean()),
        float(np.minimum(mine, mean).sum((1, 2)).mean()),
        float(np.minimum(rest, mean).sum((1, 2)).mean()) if len(rest) else float("nan"),
        spread_of(mine),
        hot,
        float(np.median(mass_in(mine, hot))),
        separation,
    )


def _border_share(mass: np.ndarray) -> np.ndarray:
    return 1 - mass_in(mass, (BORDER, BORDER, 1 - BORDER, 1 - BORDER))


def spread_of(mass: np.ndarray) -> float:
    """Return how far the centres of maps (N, 32, 32) lie from one another: the deviation along both sides together.

    The centre is that of the squared mass, so that faint mass all over does not draw it to the middle.
    """
    weights = mass**2 / (mass**2).sum((1, 2), keepdims=True)
    places = (np.arange(SIDE) + 0.5) / SIDE
    down, across = (weights.sum(2) * places).sum(1), (weights.sum(1) * places).sum(1)
    return float(np.sqrt((down.var() + across.var()) / 2))


def hot_box(mean: np.ndarray) -> Box:
    """Return the box around the place of the largest value where the map is at least half of it."""
    from scipy import ndimage

    parts, _ = ndimage.label(mean >= _HALF * mean.max())
    rows, columns = np.nonzero(parts == parts.ravel()[mean.argmax()])
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SIDE
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def mass_in(mass: np.ndarray, box: Box) -> np.ndarray:
    """Return the share of each map's mass (N, 32, 32) in a box; cells that it cuts count by their share."""
    left, top, right, bottom = box
    down, across = _covered(top, bottom), _covered(left, right)
    return np.asarray(np.einsum("nyx,y,x->n", mass, down, across))


def _covered(low: float, high: float) -> np.ndarray:
    edges = np.arange(SIDE + 1) / SIDE
    covered = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.asarray(SIDE * covered.clip(min=0), np.float32)
