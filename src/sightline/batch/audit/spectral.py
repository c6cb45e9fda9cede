"""Spectral relevance analysis: which maps of a class are alike (Lapuschkin et al. 2019, arXiv:1902.10178)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

__all__ = ["Spectrum", "features", "spectrum"]

GRID = 16
MOST = 8
"""No more clusters of a class than this are looked for."""
_NEIGHBOURS = 10
_DENSE = 400  # maps, below which all eigenvalues are computed
_FEWEST = 20  # maps for each cluster that is looked for
_GAP = 0.03
_SMALL, _ZERO = 0.1, 1e-9


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The smallest eigenvalues of the normalised Laplacian, how many clusters they say, and the embedding.

    ``embedding`` is (N, MOST + 1): the eigenvectors, each entry divided by the square root of its map's degree.
    """

    eigenvalues: np.ndarray
    clusters: int
    gap: float
    embedding: np.ndarray


def features(heat: np.ndarray) -> np.ndarray:
    """Return the square roots of maps of mass 1 at 16 x 16 cells, float32 (N, 256): distances are Hellinger's.

    ``heat`` is (N, 32, 32), nowhere negative and not zero everywhere.
    """
    n, side, _ = heat.shape
    step = side // GRID
    cells = heat.astype(np.float32).reshape(n, GRID, step, GRID, step).mean((2, 4)).reshape(n, -1)
    return np.asarray(np.sqrt(cells / cells.sum(1, keepdims=True)))


def spectrum(x: np.ndarray, seed: int = 0) -> Spectrum:
    """Return eigenvalues and embedding of the graph that joins each map with its ten nearest.

    The number of clusters is where the eigenvalues make their largest step, above 0.03, after one that is small (0.1 at
    most), for only then few neighbours are in different clusters; else as many as parts that nothing joins. It is no
    more than one for each 20 maps.
    """
    values, vectors, degree = _eigen(_affinity(x), seed)
    gaps = np.diff(values)[: max(1, len(x) // _FEWEST)]
    gaps = np.where(values[: len(gaps)] <= _SMALL, gaps, 0)
    apart = int((values[: len(gaps)] < _ZERO).sum())
    clusters = max(int(gaps.argmax()) + 1 if gaps.max(initial=0) > _GAP else 1, apart)
    gap = float(gaps[clusters - 1]) if len(gaps) else 0.0
    return Spectrum(values, clusters, gap, vectors / np.sqrt(degree)[:, None])


def _affinity(x: np.ndarray) -> csr_array:
    from sklearn.neighbors import kneighbors_graph

    near = kneighbors_graph(x, min(_NEIGHBOURS, len(x) - 1), mode="connectivity", include_self=False)
    return csr_array((near + near.T) / 2)


def _eigen(affinity: csr_array, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the smallest eigenvalues of I - D^-1/2 A D^-1/2, ascending, with their vectors and the degrees."""
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import eigsh

    n, degree = affinity.shape[0], np.asarray(affinity.sum(1)).ravel()
    root = diags_array(1 / np.sqrt(degree))
    alike = csr_array(root @ affinity @ root)
    wanted = min(MOST + 1, n - 1)
    if n <= _DENSE:
        values, vectors = np.linalg.eigh(alike.toarray())
    else:
        start = np.random.default_rng(seed).random(n)
        values, vectors = eigsh(alike, k=wanted, which="LA", v0=start)
    order = np.argsort(-values, kind="stable")[:wanted]
    return 1 - values[order], vectors[:, order], degree
