"""Where an evaluation is kept while it runs: parts, each written whole, so that it can be interrupted and resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.evaluation.results import CurveRow, Row
from sightline.evaluation.shortcuts import CellRow
from sightline.output import written

__all__ = ["SETTINGS", "TABLES", "Store", "open_store"]

SETTINGS = "run.json"
TABLES: Mapping[str, tuple[type[Any], str]] = {
    "rows": (Row, "results.parquet"),
    "curves": (CurveRow, "curves.parquet"),
    "cells": (CellRow, "covering.parquet"),
}


@dataclass(eq=False)
class Store:
    """What an evaluation has found so far; in a directory, or in memory only where none is named."""

    folder: Path | None
    rows: list[Row] = field(default_factory=list)
    curves: list[CurveRow] = field(default_factory=list)
    cells: list[CellRow] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    parts: int = 0

    def add(
        self,
        images: Sequence[str],
        tables: Mapping[str, Sequence[Any]],
        skipped: Sequence[dict[str, Any]],
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        """Keep what came of some images; with a directory it is on disk when this returns."""
        part = {name: [astuple(row) for row in rows] for name, rows in tables.items()}
        whole = {"images": list(images), "skipped": list(skipped), "seconds": dict(seconds or {}), **part}
        if self.folder is not None:
            with written(self.folder / "parts" / f"{self.parts:06}.json") as aside:
                aside.write_text(json.dumps(whole), encoding="utf-8")
        self.take(whole)

    def take(self, part: Mapping[str, Any]) -> None:
        """Add a part as it was written."""
        self.parts += 1
        self.done.update(part["images"])
        for name, (kind, _) in TABLES.items():
            getattr(self, name).extend(kind(*values) for values in part.get(name, ()))
        for method, took in part["seconds"].items():
            self.seconds[method] = self.seconds.get(method, 0.0) + took
        self.skipped += [s for s in part["skipped"] if s not in self.skipped]

    def save_tables(self) -> None:
        """Write all rows, curves and covered cells as Parquet."""
        for name, (kind, file) in TABLES.items():
            if self.folder is not None:
                _write_parquet(self.folder / file, kind, getattr(self, name))


def open_store(folder: Path | None, settings: Mapping[str, Any]) -> Store:
    """Begin a run, or go on with the one of the same settings that the directory holds.

    Raises InputError where the directory holds another run, or something that is none.
    """
    store = Store(folder)
    if folder is None:
        return store
    file, said = folder / SETTINGS, json.loads(json.dumps(settings))
    if not file.exists():
        with written(file) as aside:
            aside.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        return store
    _refuse_other(folder, _read_json(file), said)
    for part in sorted((folder / "parts").glob("*.json")):
        store.take(_read_json(part))
    return store


def _refuse_other(folder: Path, kept: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    changed = sorted(k for k in {*kept, *said} if kept.get(k) != said.get(k))
    if changed:
        raise InputError(
            f"{folder} holds a run with other settings ({', '.join(changed)}); name another --out, or remove it."
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} is no part of an evaluation; name another --out, or remove it.")
    return found


def _write_parquet(file: Path, kind: type[Any], rows: Sequence[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f.name: [getattr(r, f.name) for r in rows] for f in fields(kind)}
    with written(file) as aside:
        pq.write_table(pa.table(columns), aside)
