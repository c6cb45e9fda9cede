"""The functions on heatmaps that SQL has here: `sightline.batch.regions`, a column of Arrow at a time."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sightline.batch import regions
from sightline.errors import ParameterError

__all__ = ["FUNCTIONS", "add_functions", "maps_of", "signature"]


class Function(NamedTuple):
    """A function in SQL: of maps and then of numbers, whose answer is a number or has named fields."""

    compute: Callable[..., np.ndarray]
    maps: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


FUNCTIONS = {
    "mass": Function(regions.mass, ("heatmap",), ("left", "top", "right", "bottom")),
    "border": Function(regions.border, ("heatmap",), ("width",)),
    "centre": Function(regions.centre, ("heatmap",), fields=("x", "y")),
    "peak": Function(regions.peak, ("heatmap",), fields=("x", "y")),
    "distance": Function(regions.distance, ("a", "b")),
    "top_region": Function(regions.top_region, ("heatmap",), ("share",), regions.Region._fields),
}


def signature(name: str) -> str:
    """Return how a function is called.

    >>> signature("border")
    'border(heatmap, width)'
    """
    return f"{name}({', '.join((*FUNCTIONS[name].maps, *FUNCTIONS[name].numbers))})"


def add_functions(connection: Any, shape: Sequence[int]) -> None:
    """Give a DuckDB connection the functions, for heatmaps of a shape."""
    for name, function in FUNCTIONS.items():
        takes = ["FLOAT[]"] * len(function.maps) + ["DOUBLE"] * len(function.numbers)
        fields = ", ".join(f'"{field}" DOUBLE' for field in function.fields)  # quoted: left and right are words of SQL
        gives = f"STRUCT({fields})" if fields else "DOUBLE"
        called = _of_columns(function, shape)
        connection.create_function(name, called, takes, gives, type="arrow", null_handling="special")


def maps_of(column: pa.Array, shape: Sequence[int]) -> np.ndarray:
    """Return heatmaps that came as lists of numbers as float32 (N, *shape); NaN where there is none.

    Raises ParameterError for lists of another length.
    """
    found = np.full((len(column), *shape), np.nan, np.float32)
    known, size = np.asarray(column.is_valid()), math.prod(shape)
    if known.any():
        lists = column.drop_null() if column.null_count else column
        lengths = np.asarray(lists.value_lengths())
        if (lengths != size).any():
            raise ParameterError(f"a list of {lengths[lengths != size][0]} numbers came as a heatmap; wanted {size}.")
        found[known] = np.asarray(lists.flatten(), np.float32).reshape(-1, *shape)
    return found


def _of_columns(function: Function, shape: Sequence[int]) -> Callable[..., pa.Array]:
    """Return the function of Arrow columns; where anything is missing, or nothing can be said, NULL comes out."""

    def called(*columns: pa.ChunkedArray) -> pa.Array:
        plain = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns]
        known = np.logical_and.reduce([np.asarray(c.is_valid()) for c in plain])
        given = [_values(c if known.all() else c.filter(pa.array(known)), shape) for c in plain]
        found = np.full((len(known), *([len(function.fields)] if function.fields else [])), np.nan)
        if known.any():
            found[known] = function.compute(*given)
        return _arrow(found, function.fields)

    # DuckDB counts the parameters.
    listed = [inspect.Parameter(p, inspect.Parameter.POSITIONAL_ONLY) for p in (*function.maps, *function.numbers)]
    called.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    return called


def _values(column: pa.Array, shape: Sequence[int]) -> np.ndarray:
    return np.asarray(column) if pa.types.is_floating(column.type) else maps_of(column, shape)


def _arrow(found: np.ndarray, fields: Sequence[str]) -> pa.Array:
    if not fields:
        return pa.array(found, mask=np.isnan(found))
    columns = [pa.array(np.ascontiguousarray(found[:, n])) for n in range(len(fields))]
    return pa.StructArray.from_arrays(columns, list(fields), mask=pa.array(np.isnan(found).any(1)))
