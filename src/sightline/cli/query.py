"""``sightline query``: SQL over a store of explanations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, print_json

if TYPE_CHECKING:
    import pyarrow as pa

    from sightline.batch.querying import Asked

__all__ = ["EXAMPLES", "StoreName", "query_command", "waiting"]

EXAMPLES = """\b
Examples:
  sightline query store "SELECT method, count(*), avg(probability) FROM explanations GROUP BY method"
  sightline query store "SELECT image, prediction_label FROM explanations WHERE border(heatmap, 0.1) > 0.8"
  sightline query store "SELECT image, mass(heatmap, 0, 0.9, 0.3, 1) AS corner FROM explanations ORDER BY corner DESC"
  sightline query store "SELECT image, error FROM explanations WHERE error IS NOT NULL" --json
  sightline query store "DESCRIBE explanations"
\b
Tables: explanations, images. Functions on heatmaps, in fractions of the picture (x to the right, y down):
  mass(heatmap, left, top, right, bottom)   the share of what is above zero inside a box
  border(heatmap, width)                    the share of it within that width of an edge
  centre(heatmap), peak(heatmap)            {x, y} of its centre, and of the hottest pixel
  top_region(heatmap, share)                {left, top, right, bottom, mass} of the hottest region
  distance(a, b)                            0: two maps alike, 1: nowhere the same
"""

_SHOWN = 40
_WIDEST = 60

StoreName = Annotated[
    str, typer.Argument(metavar="STORE", help="A folder or URL that sightline batch wrote.", show_default=False)
]
Sql = Annotated[
    str, typer.Argument(metavar="SQL", help="One statement of DuckDB's SQL that reads.", show_default=False)
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Show so many rows; by default 40, with --json all.")]
Heatmaps = Annotated[
    bool, typer.Option("--heatmaps", help="With --json, print heatmaps and bytes too, not only name them.")
]


def query_command(
    store: StoreName, sql: Sql, limit: Limit = None, heatmaps: Heatmaps = False, json: opt.Json = False
) -> None:
    """Answer SQL over a store; nothing can be written."""
    from sightline.batch.querying import asking

    most = limit if json else limit or _SHOWN
    with waiting("asking the store"), asking(store) as asked:
        table, count = _answer(asked, sql, most)
        shape = asked.store.settings.heatmap
    if json:
        print_json(_object(table, count, heatmaps))
    else:
        _print(table, count, shape)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on stderr that something goes on whose end is not known, on a terminal only."""
    screen = console(err=True)
    if not screen.is_terminal:
        yield
        return
    with screen.status(what):
        yield


def _answer(asked: Asked, sql: str, most: int | None) -> tuple[pa.Table, int]:
    """Return the first rows of an answer, and how many there are; the others are not kept."""
    import pyarrow as pa

    with asked.batches(sql) as (schema, batches):
        kept, count = [], 0
        for batch in batches:
            if most is None or count < most:
                kept.append(batch if most is None else batch.slice(0, most - count))
            count += len(batch)
        return pa.Table.from_batches(kept, schema), count


def _object(table: pa.Table, count: int, heatmaps: bool) -> dict[str, Any]:
    names = _names(table)
    large = [] if heatmaps else [n for n, f in enumerate(table.schema) if _is_large(f.type)]
    kept = [n for n in range(len(names)) if n not in large]
    columns = {names[n]: [_plain(v) for v in table.column(n).to_pylist()] for n in kept}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"columns": [names[n] for n in kept], "rows": rows, "count": count, "left_out": [names[n] for n in large]}


def _names(table: pa.Table) -> list[str]:
    """Return the columns' names, each its own: a join may bring one twice."""
    found: list[str] = []
    for name in table.column_names:
        same = sum(name == other for other in table.column_names[: len(found)])
        found.append(f"{name}_{same + 1}" if same else name)
    return found


def _is_large(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or (pa.types.is_list(kind) and pa.types.is_float32(kind.value_type)))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; NaN and what is infinite are null there."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        pairs = value and all(isinstance(v, tuple) for v in value)  # so Arrow gives a MAP
        return {str(k): _plain(v) for k, v in value} if pairs else [_plain(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, (date, time, timedelta, tuple)) else value


def _print(table: pa.Table, count: int, shape: Sequence[int]) -> None:
    screen = console()
    names = _names(table)
    rows = [[_cell(v, shape) for v in row.values()] for row in table.rename_columns(_numbers(names)).to_pylist()]
    if names[:1] == ["explain_key"]:
        screen.print("\n".join(row[1] for row in rows))
        return
    fits = sum(min(_WIDEST, max(map(len, cells))) + 3 for cells in zip(names, *rows, strict=True)) <= screen.width
    screen.print(_grid(table, names, rows) if fits or not rows else _records(names, rows))
    more = f", {len(rows)} shown; --limit {count} shows all" if len(rows) < count else ""
    screen.print(f"{count:,} row{'' if count == 1 else 's'}{more}")


def _numbers(names: Sequence[str]) -> list[str]:
    return [str(n) for n in range(len(names))]


def _grid(table: pa.Table, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    import pyarrow as pa
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = Table(box=box.SIMPLE_HEAD)
    for name, field in zip(names, table.schema, strict=True):
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        found.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for row in rows:
        found.add_row(*map(Text, row))
    return found


def _records(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """Lay wide rows out one under the other: a line for each column."""
    from rich.table import Table
    from rich.text import Text

    found = Table(box=None, show_header=False, pad_edge=False)
    found.add_column(style="bold", no_wrap=True)
    found.add_column(overflow="fold")
    for row in rows:
        for name, cell in zip(names, row, strict=True):
            found.add_row(name, Text(cell))
        found.add_row()
    return found


def _cell(value: Any, shape: Sequence[int]) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list) and len(value) == math.prod(shape):
        return f"{'x'.join(map(str, shape))} map"
    plain = _plain(value)
    if isinstance(plain, dict):
        return ", ".join(f"{k} {_cell(v, shape)}" for k, v in plain.items())
    return ", ".join(_cell(v, shape) for v in plain) if isinstance(plain, list) else str(plain)
