"""Models of which a class score can see one cell of a mosaic only: by their input, or from a layer on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ModelError, RefusedError
from sightline.forward import find_logits, layer_call, layer_of, run_forward
from sightline.models.adapted import Adapted, is_channels_last, main_part
from sightline.models.layouts import Layout, find_layout, from_spatial, to_spatial
from sightline.models.model import Model
from sightline.models.session import called, undisturbed

__all__ = ["STITCHED", "alone", "cell_of", "joined", "pooled", "split", "stitched"]

STITCHED = "stitched"
_Made = Callable[[Tensor], Tensor]
_Cut = Callable[[Tensor, nn.Module], Tensor]


def cell_of(maps: Tensor, cells: int, cell: int) -> Tensor:
    """Return one cell (N, C, h, w) of maps (N, C, H, W); where sides do not divide, by the middles of positions."""
    row, column = (_part(side, cells, at) for side, at in zip(maps.shape[-2:], divmod(cell, cells), strict=True))
    return maps[..., row, column]


def _part(side: int, cells: int, at: int) -> slice:
    starts = [-(-(2 * side * i - cells) // (2 * cells)) for i in range(cells + 1)]  # the first whose middle is inside
    return slice(starts[at], starts[at + 1])


def split(x: Tensor, cells: int) -> Tensor:
    """Cut (N, C, n·h, n·w) into its cells (n²·N, C, h, w), cell by cell."""
    return torch.cat([cell_of(x, cells, cell) for cell in range(cells**2)])


def joined(parts: Tensor, cells: int) -> Tensor:
    """Put cells (n²·N, C, h, w) together again: (N, C, n·h, n·w)."""
    grid = parts.unflatten(0, (cells, cells, -1))
    return torch.cat([torch.cat(list(row), -1) for row in grid], -2)


def alone(model: Model, cells: int, cell: int) -> Model:
    """Return the model run on one cell of its input: the score does not depend on any other, and nothing leaks in."""

    def call(inner: Any, x: Tensor) -> Any:
        return called(inner, cell_of(x, cells, cell).contiguous())

    return _derived(model, call, {})


def stitched(model: Model, layer: str, cells: int, cell: int, x: Tensor) -> Model:
    """Return the model run on every cell of inputs like ``x`` by itself; the score is that of one cell, as in `alone`.

    The layer "stitched" holds what a layer made of all cells, side by side: what a CAM reads. Where all goes through
    that layer only the one cell goes on; where something passes by it, all go on, and one cell's score is taken.
    Raises RefusedError where that score would be of probabilities.
    """

    def apart(whole: Tensor) -> Tensor:
        return split(whole, cells)

    def together(maps: Tensor) -> Tensor:
        return joined(maps, cells)

    cut = _cut_at(model, layer, apart, lambda maps, stitch: cell_of(stitch(together(maps)), cells, cell), cell)
    if not _passes_by(cut, x):
        return cut
    through = _cut_at(model, layer, apart, lambda maps, stitch: apart(stitch(together(maps))), cell, through=True)
    if run_forward(through.module, x, grad=False).hidden_head:
        raise RefusedError(
            f"something passes by the layer '{layer}', and the model ends in probabilities; name a layer that all goes "
            "through with --layer."
        )
    return through


def pooled(model: Model, layer: str, cells: int, cell: int, x: Tensor) -> Model:
    """Return the model run on the whole of inputs like ``x`` up to a layer, and from there on one cell of it only.

    Receptive fields before the layer cross from cell to cell. Raises RefusedError where something passes by the layer.
    """
    cut = _cut_at(model, layer, lambda whole: whole, lambda maps, stitch: cell_of(stitch(maps), cells, cell), cell)
    if _passes_by(cut, x):
        raise RefusedError(
            f"something passes by the layer '{layer}', so a score cannot be kept to one cell there; name a layer that "
            "all goes through with --layer."
        )
    return cut


def _cut_at(model: Model, layer: str, before: _Made, cut: _Cut, cell: int, *, through: bool = False) -> Model:
    stitch = nn.Identity()

    def call(inner: Any, x: Tensor) -> Any:
        parts = before(x)
        with _replaced(inner, layer, tuple(parts.shape[2:]), lambda maps: cut(maps, stitch).contiguous(), cell):
            raw = called(inner, parts)
        return find_logits(raw, len(parts)).unflatten(0, (-1, len(x)))[cell] if through else raw

    return _derived(model, call, {STITCHED: stitch})


def _derived(model: Model, call: Callable[[Any, Tensor], Any], layers: dict[str, nn.Module]) -> Model:
    module = Adapted(model.module, call, layers=lambda _: layers)
    return replace(model, module=module, input_size=None, _layers={}, _copies={})


@contextmanager
def _replaced(module: nn.Module, layer: str, spatial: tuple[int, ...], cut: _Made, cell: int) -> Iterator[None]:
    """While the block runs, let the layer hand on only what ``cut`` makes of its maps (N, C, *S)."""
    owner, (name, call), calls = threading.get_ident(), layer_call(layer), iter(range(1, 1 << 30))
    part = layer_of(module, name)
    last = is_channels_last(module, part)

    def hook(_: nn.Module, __: Any, given: Any) -> Any:
        if threading.get_ident() != owner or next(calls) != call:
            return None
        output, place = main_part(given)
        kept = _cut_output(output, _layout(output, spatial, layer, last), cut, cell)
        return kept if place is None else type(given)((*given[:place], kept, *given[place + 1 :]))

    handle = part.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _layout(output: Tensor, spatial: tuple[int, ...], layer: str, last: bool) -> Layout:
    found = find_layout(tuple(output.shape), spatial, channels_last=last)
    if found is None or found.positions < 2:
        raise RefusedError(
            f"the layer '{layer}' gives {tuple(output.shape)}, which has no positions to cut; name another (--layer)."
        )
    return found


def _cut_output(output: Tensor, layout: Layout, cut: _Made, cell: int) -> Tensor:
    maps = cut(to_spatial(output, layout))
    if layout.prefix and maps.shape[2:].numel() != layout.positions:
        raise RefusedError(
            "its class token has seen the whole mosaic, so no score can be made of one cell; use difull, where each "
            "cell is run by itself."
        )
    own = output if len(output) == len(maps) else output.unflatten(0, (-1, len(maps)))[cell]
    flat = maps.flatten(2) if layout.kind == "tokens_last" else maps.flatten(2).transpose(1, 2)
    return from_spatial(maps, replace(layout, grid=tuple(maps.shape[2:])), own if layout.prefix else flat)


def _passes_by(model: Model, x: Tensor) -> bool:
    """Say whether the scores of a model cut at a layer follow from more than that layer."""
    stop = layer_of(model.module, STITCHED).register_forward_hook(lambda _, __, output: output.detach())
    try:
        with undisturbed(model.module), torch.enable_grad():
            scores = find_logits(model.module(x.detach().clone().requires_grad_()), len(x))
        return scores.requires_grad
    except ModelError:  # what passes by has another size
        return True
    finally:
        stop.remove()
