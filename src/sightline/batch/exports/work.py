"""What every export works on: pieces of an answer, where to write, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from sightline.batch.sheet import Draw, Shown, rows_of
from sightline.errors import InputError, ParameterError

__all__ = ["Exported", "Work", "flat"]

_SHOWN = 20


@dataclass(eq=False)
class Exported:
    """What was written: rows, files, rows without a map (they have an error), and rows that could not be exported."""

    rows: int = 0
    files: int = 0
    without: int = 0
    failed: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)

    def fail(self, image: str, error: InputError) -> None:
        """Note a row that could not be exported; the first ones with the reason."""
        self.failed += 1
        if len(self.failures) < _SHOWN:
            self.failures.append({"image": image, "message": str(error)})


@dataclass(frozen=True, eq=False)
class Work:
    """An export under way: its pieces, ``names`` of the metrics in them, and how they are to be written."""

    pieces: Iterator[pa.RecordBatch]
    shape: tuple[int, ...]
    metrics: Sequence[str]
    out: Path
    draw: Draw
    threshold: float
    found: Exported

    def rows(self, piece: pa.RecordBatch) -> Iterator[Shown]:
        """Yield the rows of a piece that have a map; the others are counted."""
        for shown in rows_of(piece, self.shape):
            if shown.heatmap is None:
                self.found.without += 1
            else:
                yield shown

    def needs_pictures(self, what: str) -> None:
        """Raise ParameterError for a store of series or volumes."""
        if len(self.shape) != 2:
            size = "x".join(map(str, self.shape))
            raise ParameterError(f"{what} is of pictures and the store's maps are {size}; use --to npz.")


def flat(piece: pa.RecordBatch, metrics: Sequence[str]) -> dict[str, tuple[pa.DataType, list[Any]]]:
    """Return the columns of a piece but for maps and bytes, as text, whole numbers or numbers.

    completeness becomes three columns, metrics one for each; coverage and notes become JSON.
    """
    found: dict[str, tuple[pa.DataType, list[Any]]] = {}
    for column in piece.schema:
        values = piece.column(column.name)
        if column.name == "metrics":
            rows = [dict(v or ()) for v in values.to_pylist()]
            found |= {f"metrics_{m}": (pa.float64(), [r.get(m) for r in rows]) for m in metrics}
        elif column.name == "completeness":
            rows = [v or {} for v in values.to_pylist()]
            parts = [f.name for f in column.type]
            found |= {f"completeness_{p}": (pa.float64(), [r.get(p) for r in rows]) for p in parts}
        elif column.name in ("coverage", "notes"):
            found[column.name] = (pa.string(), [None if v is None else json.dumps(v) for v in values.to_pylist()])
        elif column.name not in ("heatmap", "raw"):
            found[column.name] = (column.type, values.to_pylist())
    return found
