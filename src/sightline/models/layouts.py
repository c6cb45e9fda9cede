"""Where the positions of an activation lie: channels first, channels last, or tokens with a prefix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

__all__ = ["Layout", "channels_last_hint", "find_layout", "from_spatial", "to_spatial"]

_MOST_PREFIX_TOKENS = 16


@dataclass(frozen=True)
class Layout:
    """How an activation (N, ...) is laid out: its kind, spatial grid and number of prefix tokens."""

    kind: Literal["channels_first", "channels_last", "tokens", "tokens_last"]
    grid: tuple[int, ...]
    prefix: int = 0

    @property
    def positions(self) -> int:
        """The number of spatial positions."""
        return math.prod(self.grid)


def channels_last_hint(module: nn.Module | None) -> bool:
    """Say whether the layer's type puts channels last. (Subclasses of LayerNorm may put them first.)"""
    if type(module) is nn.LayerNorm:
        return len(module.normalized_shape) == 1
    return isinstance(module, (nn.Linear, nn.Embedding))


def find_layout(shape: tuple[int, ...], spatial: tuple[int, ...], *, channels_last: bool = False) -> Layout | None:
    """Infer the layout of an activation of ``shape`` (N, ...) for an input of ``spatial`` size, or None.

    ``channels_last`` is a hint from the layer's type (a linear or layer-norm output has its channels last).

    >>> find_layout((1, 512, 7, 7), (224, 224))
    Layout(kind='channels_first', grid=(7, 7), prefix=0)
    >>> find_layout((1, 7, 7, 768), (224, 224))
    Layout(kind='channels_last', grid=(7, 7), prefix=0)
    >>> find_layout((1, 197, 768), (224, 224))
    Layout(kind='tokens', grid=(14, 14), prefix=1)
    """
    if len(shape) == len(spatial) + 2:
        return _dense_layout(shape, spatial, channels_last)
    if len(shape) == 3 and len(spatial) > 1:
        return _token_layout(shape, spatial)
    return None


def _dense_layout(shape: tuple[int, ...], spatial: tuple[int, ...], channels_last: bool) -> Layout | None:
    first, last = shape[2:], shape[1:-1]
    if _fits(last, spatial) and (channels_last or not _fits(first, spatial)):
        return Layout("channels_last", last)
    return Layout("channels_first", first) if _fits(first, spatial) or _is_stretched(first, spatial) else None


def _is_stretched(grid: tuple[int, ...], spatial: tuple[int, ...]) -> bool:
    """Say whether each side is the input's divided by a whole number of its own: tokens by heads are no map."""
    wholes = [max(1, round(s / max(1, g))) for g, s in zip(grid, spatial, strict=True)]
    return all(abs(g - s / k) <= max(2.0, 0.1 * g) for g, s, k in zip(grid, spatial, wholes, strict=True))


def _fits(grid: tuple[int, ...], spatial: tuple[int, ...]) -> bool:
    """Say whether a grid is the input's size divided by one common factor, give or take a border."""
    if any(g < 1 or g > s + 8 for g, s in zip(grid, spatial, strict=True)):
        return False
    factors = [s / g for g, s in zip(grid, spatial, strict=True)]
    mean = math.prod(factors) ** (1 / len(factors))
    return all(abs(g - s / mean) <= max(1.0, 0.1 * g) for g, s in zip(grid, spatial, strict=True))


def _token_layout(shape: tuple[int, ...], spatial: tuple[int, ...]) -> Layout | None:
    tokens = _token_grid(shape[1], spatial)
    if tokens is not None:
        return Layout("tokens", tokens[1], tokens[0])
    flat = _token_grid(shape[2], spatial)
    return Layout("tokens_last", flat[1]) if flat is not None and flat[0] == 0 else None


def _token_grid(count: int, spatial: tuple[int, ...]) -> tuple[int, tuple[int, ...]] | None:
    """Find the fewest prefix tokens that leave a grid of the input's shape, patches of one whole size first."""
    most = min(_MOST_PREFIX_TOKENS, (count - 1) // 2)  # fewer than there are positions
    options = [(p, g) for p in range(most + 1) for g in _grids(count - p, spatial)]
    exact = [o for o in options if _whole_patches(o[1], spatial)]
    near = [o for o in options if o[0] <= 2]
    return next(iter(exact or near), None)


def _grids(count: int, spatial: tuple[int, ...]) -> list[tuple[int, ...]]:
    factor = (math.prod(spatial) / count) ** (1 / len(spatial))
    grid = tuple(max(1, round(s / factor)) for s in spatial)
    return [grid] if count > 1 and math.prod(grid) == count and _fits(grid, spatial) else []


def _whole_patches(grid: tuple[int, ...], spatial: tuple[int, ...]) -> bool:
    return len({s / g for g, s in zip(grid, spatial, strict=True)}) == 1 and spatial[0] % grid[0] == 0


def to_spatial(values: Tensor, layout: Layout) -> Tensor:
    """Bring an activation (N, ...) of the given layout to (N, C, *S), prefix tokens dropped."""
    if layout.kind == "channels_first":
        return values
    if layout.kind == "channels_last":
        return values.movedim(-1, 1)
    tokens = values if layout.kind == "tokens" else values.transpose(1, 2)
    spatial: Tensor = tokens[:, layout.prefix :].transpose(1, 2).unflatten(2, layout.grid)
    return spatial


def from_spatial(values: Tensor, layout: Layout, like: Tensor) -> Tensor:
    """Bring (N, C, *S) back to the layout of ``like``; prefix tokens keep the values of ``like``."""
    if layout.kind == "channels_first":
        return values
    if layout.kind == "channels_last":
        return values.movedim(1, -1)
    tokens = like.clone() if layout.kind == "tokens" else like.transpose(1, 2).clone()
    tokens[:, layout.prefix :] = values.flatten(2).transpose(1, 2)
    return tokens if layout.kind == "tokens" else tokens.transpose(1, 2)
