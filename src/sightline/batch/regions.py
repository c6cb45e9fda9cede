"""Where maps have their mass: boxes, centres, distances and hot regions, of many maps (N, H, W) or (N, L) at once.

Coordinates are fractions of the picture: x from the left, y from the top, 0 to 1. Mass is what a map has above zero,
each pixel as a square that is evenly filled. NaN (never seen) counts as nothing, and where a map has no mass at all
what is said of it is NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sightline.errors import ParameterError

__all__ = ["Region", "border", "centre", "distance", "mass", "peak", "regions", "top_region"]

_MARGIN = 1e-6  # coordinates that were computed may be off by a rounding


class Region(NamedTuple):
    """A box around a hot region, in fractions of the picture, and the region's share of the map's mass."""

    left: float
    top: float
    right: float
    bottom: float
    mass: float


def mass(maps: np.ndarray, left: np.ndarray, top: np.ndarray, right: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return the share of each map's mass inside a box (N,); a pixel that the box's edge cuts counts by its share.

    Of a series only left and right count. Raises ParameterError for a box outside the picture or turned round.

    >>> heat = np.array([[[1.0, 0.0], [0.0, 3.0]]])
    >>> mass(heat, *np.array([[0.5], [0.0], [1.0], [0.75]])).tolist()
    [0.375]
    """
    _check_box("mass", left, top, right, bottom)
    heat = _positive(maps)
    inside = np.einsum("n...w,nw->n...", heat, _overlaps(heat.shape[-1], left, right))
    if heat.ndim == 3:
        inside = np.einsum("nh,nh->n", inside, _overlaps(heat.shape[1], top, bottom))
    return _share(inside, _total(heat)).clip(0, 1)  # sums in another order may differ in the last bit


def border(maps: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return the share of each map's mass within ``width`` (0 to 0.5) of an edge of the picture (N,).

    >>> border(np.ones((1, 4, 4)), np.array([0.25])).tolist()
    [0.75]
    """
    _check_range("border", "width", width, 0.5)
    return np.asarray(1 - mass(maps, width, width, 1 - width, 1 - width))


def centre(maps: np.ndarray) -> np.ndarray:
    """Return x and y of each map's centre of mass (N, 2); y of a series is 0.5.

    >>> centre(np.array([[[0.0, 1.0], [0.0, 1.0]]])).tolist()
    [[0.75, 0.5]]
    """
    heat = _positive(maps)
    total = _total(heat)
    places = [_share((_along(heat, axis) * _middles(heat.shape[axis])).sum(1), total) for axis in range(1, heat.ndim)]
    return np.stack(_x_and_y(places), 1)


def peak(maps: np.ndarray) -> np.ndarray:
    """Return x and y of the middle of each map's hottest pixel (N, 2), the first of several; y of a series is 0.5.

    >>> peak(np.array([[[0.0, 1.0], [0.0, 2.0]]])).tolist()
    [[0.75, 0.75]]
    """
    heat = _positive(maps)
    hottest = np.unravel_index(heat.reshape(len(heat), -1).argmax(1), heat.shape[1:])
    places = [(at + 0.5) / size for at, size in zip(hottest, heat.shape[1:], strict=True)]
    found = np.stack(_x_and_y(places), 1)
    found[_total(heat) == 0] = np.nan
    return found


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return half the L1 difference of each two maps' masses, both brought to 1 (N,): 0 the same, 1 nowhere the same.

    >>> distance(np.array([[2.0, 2.0]]), np.array([[0.0, 7.0]])).tolist()
    [0.5]
    """
    shares = [_share(heat.reshape(len(heat), -1), _total(heat)[:, None]) for heat in map(_positive, (a, b))]
    return np.asarray(np.abs(shares[0] - shares[1]).sum(1) / 2)


def top_region(maps: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return left, top, right, bottom and mass (N, 5) of the connected region with the most mass of each map.

    A region's pixels are at least ``share`` (above 0, at most 1) of the map's maximum, and touch by their sides.
    Of a series top is 0 and bottom 1.

    >>> top_region(np.array([[[0.0, 8.0], [1.0, 1.0]]]), np.array([0.5])).tolist()
    [[0.5, 0.0, 1.0, 0.5, 0.8]]
    """
    heat = _positive(maps)
    labels, masses, owners = _labelled(heat, share)
    best, order = np.zeros(len(heat), int), np.argsort(masses, kind="stable")
    best[owners[order]] = order + 1  # of several regions of a map the last stays: the one with the most
    found = np.stack(_box(labels == best.reshape(-1, *[1] * (heat.ndim - 1))), 1)
    held = _share(np.append(np.nan, masses)[best], _total(heat))
    return np.where(best[:, None] > 0, np.column_stack([found, held]), np.nan)


def regions(heatmap: np.ndarray, least: float) -> list[Region]:
    """Return all connected regions of one map that are at least ``least`` of its maximum, the largest mass first.

    >>> [r.left for r in regions(np.array([[9.0, 0.0, 6.0]]), 0.5)]
    [0.0, 0.6666666666666666]
    """
    heat = _positive(heatmap[None])
    labels, masses, _ = _labelled(heat, np.array([least]))
    order = np.argsort(-masses, kind="stable")
    boxes = (np.concatenate(_box(labels == label + 1)) for label in order)
    held = masses[order] / heat.sum()
    return [Region._make([*box.tolist(), float(share)]) for box, share in zip(boxes, held, strict=True)]


def _positive(maps: np.ndarray) -> np.ndarray:
    if maps.ndim not in (2, 3):
        size = "x".join(map(str, maps.shape[1:]))
        raise ParameterError(f"maps of {size} came; wanted those of pictures (H, W) or series (L).")
    values = maps.astype(np.result_type(maps, np.float32), copy=False)
    return np.asarray(np.where(values > 0, values, values.dtype.type(0)))


def _total(heat: np.ndarray) -> np.ndarray:
    return np.asarray(heat.reshape(len(heat), -1).sum(1))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))


def _along(heat: np.ndarray, axis: int) -> np.ndarray:
    """Return the mass (N, size) of each step along an axis."""
    return np.asarray(heat.sum(tuple(a for a in range(1, heat.ndim) if a != axis)))


def _middles(size: int) -> np.ndarray:
    return (np.arange(size) + 0.5) / size


def _overlaps(size: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return (N, size): the share of each pixel that lies between low and high."""
    starts = np.arange(size)
    ends = np.minimum(starts + 1, high[:, None] * size)
    return np.asarray((ends - np.maximum(starts, low[:, None] * size)).clip(min=0))


def _x_and_y(places: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Order (y, x) of pictures and (x,) of series."""
    x = places[-1]
    y = places[0] if len(places) == 2 else np.where(np.isnan(x), np.nan, 0.5)
    return x, y


def _labelled(heat: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the hot regions of all maps from 1; return the numbers, each region's mass and each region's map."""
    from scipy import ndimage

    strange = share[~((share > 0) & (share <= 1))]
    if len(strange):
        raise ParameterError(f"a share of {strange[0]:g} came; wanted one above 0 and at most 1.")
    per_map = (-1, *[1] * (heat.ndim - 1))
    highest = heat.reshape(len(heat), -1).max(1)
    hot = (heat >= (share * highest).reshape(per_map)) & (heat > 0)
    labels, count = ndimage.label(hot, _touching(heat.ndim))
    masses = np.bincount(labels.ravel(), heat.ravel(), count + 1)[1:]
    owners = np.zeros(count, int)
    owners[labels[hot] - 1] = np.nonzero(hot)[0]
    return labels, masses, owners


def _touching(dims: int) -> np.ndarray:
    """Return which neighbours are one region: those beside a pixel in its own map, never those of the next map."""
    from scipy import ndimage

    within = ndimage.generate_binary_structure(dims - 1, 1)
    nothing = np.zeros_like(within)
    return np.stack([nothing, within, nothing])


def _box(inside: np.ndarray) -> list[np.ndarray]:
    """Return left, top, right and bottom (N,) of what is inside."""
    tall = inside if inside.ndim == 3 else inside[:, None]
    columns, rows = np.asarray(tall.any(1)), np.asarray(tall.any(2))
    firsts = [edge.argmax(1) / edge.shape[1] for edge in (columns, rows)]
    lasts = [(edge.shape[1] - edge[:, ::-1].argmax(1)) / edge.shape[1] for edge in (columns, rows)]
    return [*firsts, *lasts]


def _check_box(what: str, left: np.ndarray, top: np.ndarray, right: np.ndarray, bottom: np.ndarray) -> None:
    for name, values in zip(("left", "top", "right", "bottom"), (left, top, right, bottom), strict=True):
        _check_range(what, name, values, 1.0)
    for low, high, said in ((left, right, "left"), (top, bottom, "top")):
        turned = np.flatnonzero(low > high)
        if len(turned):
            n = int(turned[0])
            other = {"left": "right", "top": "bottom"}[said]
            raise ParameterError(
                f"{what}: {said} is {low[n]:g} and {other} {high[n]:g}; wanted (heatmap, left, top, right, bottom)."
            )


def _check_range(what: str, name: str, values: np.ndarray, most: float) -> None:
    outside = values[(values < -_MARGIN) | (values > most + _MARGIN)]
    if len(outside):
        raise ParameterError(
            f"{what}: {name} is {outside[0]:g}; wanted a fraction of the picture, 0 to {most:g}: divide pixels by "
            "width and height."
        )
