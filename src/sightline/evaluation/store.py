"""Where an evaluation is kept while it runs: parts, each written whole, so that it can be interrupted and resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.evaluation.results import CurveRow, Row
from sightline.output import written

__all__ = ["Store", "read_rows"]

_SETTINGS = "run.json"


class Store:
    """A directory of parts, or nothing but memory where no directory is named.

    Raises InputError where the directory holds another run, or something that is none.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        self.curves: list[CurveRow] = []
        self.done: set[str] = set()
        self.skipped: list[dict[str, Any]] = []
        if folder is not None:
            self._open(folder, settings)

    def _open(self, folder: Path, settings: Mapping[str, Any]) -> None:
        file, said = folder / _SETTINGS, json.loads(json.dumps(settings))
        if not file.exists():
            with written(file) as aside:
                aside.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
            return
        kept = _read_json(file)
        if kept != said:
            changed = sorted(k for k in {*kept, *said} if kept.get(k) != said.get(k))
            raise InputError(
                f"{folder} holds a run with other settings ({', '.join(changed)}); name another --out, or remove it."
            )
        for part in sorted((folder / "parts").glob("*.json")):
            self._take(_read_json(part))

    def add(self, images: Sequence[str], rows: Sequence[Row], curves: Sequence[CurveRow], skipped: Any) -> None:
        """Keep what came of some images; with a directory it is on disk when this returns."""
        part = {
            "images": list(images),
            "rows": [list(asdict(r).values()) for r in rows],
            "curves": [list(asdict(c).values()) for c in curves],
            "skipped": list(skipped),
        }
        if self.folder is not None:
            number = len(list((self.folder / "parts").glob("*.json")))
            with written(self.folder / "parts" / f"{number:06}.json") as aside:
                aside.write_text(json.dumps(part), encoding="utf-8")
        self._take(part)

    def _take(self, part: Mapping[str, Any]) -> None:
        self.done.update(part["images"])
        self.rows += [Row(*values) for values in part["rows"]]
        self.curves += [CurveRow(*values) for values in part["curves"]]
        self.skipped += [s for s in part["skipped"] if s not in self.skipped]

    def save_tables(self) -> None:
        """Write all rows and curves as Parquet."""
        if self.folder is not None:
            _write_parquet(self.folder / "results.parquet", Row, self.rows)
            _write_parquet(self.folder / "curves.parquet", CurveRow, self.curves)


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


def read_rows(file: Path) -> list[Row]:
    """Read the rows of a results.parquet."""
    import pyarrow.parquet as pq

    return [Row(**row) for row in pq.read_table(file).to_pylist()]
