"""``sightline show``: rows of a store as a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, print_json, timed_progress
from sightline.cli.query import StoreName, waiting
from sightline.output import written

if TYPE_CHECKING:
    from sightline.batch.sheet import Shown

__all__ = ["EXAMPLES", "show_command"]

EXAMPLES = """\b
Examples:
  sightline show store
  sightline show store "probability < 0.5" --order probability
  sightline show store "prediction_label = 'tench' AND method = 'grad_cam'" --limit 60 --columns 10
  sightline show store "WHERE border(heatmap, 0.1) > 0.8" --order "border(heatmap, 0.1) DESC" --out border.png
"""

Condition = Annotated[
    str | None, typer.Argument(metavar="[WHERE]", help="Which rows, in SQL (sightline query -h); all without.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Show so many rows.")]
Order = Annotated[
    str | None, typer.Option("--order", help="Which rows first, in SQL; else as they are.", metavar="SQL")
]
SheetDraw = Annotated[
    Literal["overlay", "heatmap"], typer.Option("--draw", help="The heatmap over the original, or alone.")
]
Columns = Annotated[int | None, typer.Option("--columns", min=1, help="So many tiles side by side; by default 6.")]
OutSheet = Annotated[Path, typer.Option("--out", "-o", help="The picture to write.", metavar="FILE.png")]


def show_command(
    store: StoreName,
    condition: Condition = None,
    limit: Limit = 24,
    order: Order = None,
    draw: SheetDraw = "overlay",
    columns: Columns = None,
    out: OutSheet = Path("sheet.png"),
    json: opt.Json = False,
) -> None:
    """Draw rows of a store on one contact sheet: originals with the heatmaps over them."""
    from sightline.batch.sheet import contact_sheet

    rows, count = _rows(store, condition, order, limit)
    shown = f"{len(rows)} of {count:,} rows" if len(rows) < count else f"{count:,} row{'' if count == 1 else 's'}"
    title = f"{Path(store).name} · {condition}" if condition else Path(store).name
    with timed_progress("drawing", len(rows)) as tick, written(out) as aside:
        contact_sheet(rows, title=title, subtitle=shown, draw=draw, columns=columns, tick=tick).save(aside, "PNG")
    if json:
        print_json({"file": str(out), "rows": [_entry(s) for s in rows], "count": count})
    else:
        console().print(f"{shown} → {out}")


def _rows(store: str, condition: str | None, order: str | None, limit: int) -> tuple[list[Shown], int]:
    from sightline.batch.querying import asking, statement
    from sightline.batch.sheet import COLUMNS, rows_of
    from sightline.errors import InputError

    with waiting("asking the store"), asking(store) as asked:
        table = asked.table(statement(COLUMNS, condition, order, limit))
        count = asked.table(statement(["count(*) AS n"], condition))["n"][0].as_py()
        rows = list(rows_of(table, asked.store.settings.heatmap))
    if not rows:
        raise InputError(f"{store} has no rows{f' where {condition}' if condition else ''}; ask for others.")
    return rows, int(count)


def _entry(shown: Shown) -> dict[str, Any]:
    return {k: shown.row[k] for k in ("image", "model", "method", "asked", "target_label", "prediction_label", "error")}
