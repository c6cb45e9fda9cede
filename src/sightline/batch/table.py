"""The table ``explanations``: one row for each image, method and target."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["IMAGES", "UNREAD", "as_parquet", "heatmaps_of", "schema", "table_of"]

_GROUP = 64
UNREAD = "unread"  # the stamp of an image that could not be fetched
IMAGES = pa.schema([("image", pa.string()), ("size", pa.int64()), ("stamp", pa.string()), ("image_hash", pa.string())])


def schema(shape: Sequence[int], *, raw: bool) -> pa.Schema:
    """Return the columns of ``explanations``; docs/batch.md says what each holds.

    ``heatmap`` is float16 of ``shape``, of magnitude 1 at most; times ``heatmap_scale`` it is the attribution.
    """
    fields = [
        ("key", pa.string()),
        ("image", pa.string()),
        ("image_hash", pa.string()),
        ("about", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("model", pa.string()),
        ("weights_hash", pa.string()),
        ("method", pa.string()),
        ("layer", pa.string()),
        ("parameters", pa.string()),
        ("asked", pa.string()),
        ("target", pa.int64()),
        ("target_label", pa.string()),
        ("score", pa.float64()),
        ("prediction", pa.int64()),
        ("prediction_label", pa.string()),
        ("probability", pa.float64()),
        ("heatmap", pa.fixed_shape_tensor(pa.float16(), list(shape))),
        ("heatmap_scale", pa.float32()),
        ("completeness", pa.struct([("total", pa.float64()), ("expected", pa.float64()), ("gap", pa.float64())])),
        (
            "coverage",
            pa.struct(
                [
                    ("changed", pa.int64()),
                    ("unchanged", pa.map_(pa.string(), pa.int64())),
                    ("unseen", pa.list_(pa.string())),
                ]
            ),
        ),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("notes", pa.list_(pa.string())),
        ("error", pa.string()),
    ]
    return pa.schema(fields + ([("raw", pa.binary())] if raw else []))


def table_of(rows: Sequence[Mapping[str, Any]], columns: pa.Schema) -> pa.Table:
    """Return rows as a table; a row without a heatmap (None) has failed."""
    arrays = [
        _tensors([row["heatmap"] for row in rows], field.type)
        if field.name == "heatmap"
        else pa.array([row.get(field.name) for row in rows], field.type)
        for field in columns
    ]
    return pa.Table.from_arrays(arrays, schema=columns)


def heatmaps_of(table: pa.Table) -> np.ndarray:
    """Return the column ``heatmap`` of a table as float32 (N, *shape); NaN where a row has none.

    >>> rows = [{"heatmap": np.ones((2, 2), np.float16)}, {"heatmap": None}]
    >>> heatmaps_of(table_of(rows, schema((2, 2), raw=False)))[:, 0, 0]
    array([ 1., nan], dtype=float32)
    """
    column = table["heatmap"].combine_chunks()
    found = np.full((len(table), *column.type.shape), np.nan, np.float32)
    known = np.asarray(column.is_valid())
    found[known] = column.drop_null().to_numpy_ndarray() if known.any() else 0
    return found


def as_parquet(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    stream = io.BytesIO()
    # A dictionary of a map's values is no smaller than they are, and takes as long to write and three times to read.
    repeated = [name for name in table.column_names if name != "heatmap"]
    # Each group of rows is held three times over while it is written.
    pq.write_table(table, stream, compression="zstd", use_dictionary=repeated, row_group_size=_GROUP)
    return stream.getvalue()


def _tensors(maps: Sequence[np.ndarray | None], kind: Any) -> pa.Array:
    empty = np.zeros(kind.shape, np.float16)
    values = np.stack([empty if m is None else np.asarray(m, np.float16) for m in maps] or [empty])[: len(maps)]
    storage = pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)), kind.storage_type.list_size, mask=pa.array([m is None for m in maps], pa.bool_())
    )
    return pa.ExtensionArray.from_storage(kind, storage)
