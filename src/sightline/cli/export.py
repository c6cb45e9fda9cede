"""``sightline export``: rows of a store as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, counted_progress, note, print_json
from sightline.cli.query import StoreName

if TYPE_CHECKING:
    from sightline.batch.exports import Exported

__all__ = ["EXAMPLES", "export_command"]

EXAMPLES = """\b
Examples:
  sightline export store --to png --where "probability < 0.5" --out pictures
  sightline export store --to npz --out arrays
  sightline export store --to coco --where "method = 'grad_cam'" --threshold 0.5 --out boxes
  sightline export store --to huggingface --out dataset
"""

To = Annotated[
    Literal["png", "npz", "coco", "huggingface", "fiftyone"],
    typer.Option(
        "--to",
        help="A picture for each row; arrays; boxes of hot regions; or a data set of a library that is installed.",
        show_default=False,
    ),
]
Where = Annotated[str | None, typer.Option("--where", help="Which rows, in SQL (sightline query -h).", metavar="SQL")]
Threshold = Annotated[
    float, typer.Option("--threshold", help="A region is hotter than this share of its map's maximum (coco, fiftyone).")
]
RowDraw = Annotated[
    Literal["overlay", "heatmap"], typer.Option("--draw", help="The heatmap over the original, or alone (png).")
]


def export_command(
    store: StoreName,
    to: To,
    out: opt.Out,
    where: Where = None,
    threshold: Threshold = 0.5,
    draw: RowDraw = "overlay",
    json: opt.Json = False,
) -> None:
    """Write rows of a store as pictures, arrays, boxes or a data set of another library."""
    with counted_progress("exporting") as (begin, advance):
        from sightline.batch.exports import export

        found = export(store, to, out, where=where, threshold=threshold, draw=draw, on_begin=begin, on_rows=advance)
    if json:
        print_json({"out": str(out)} | vars(found))
    else:
        _print(found, out)
    raise typer.Exit(2 if found.failed else 0)


def _print(found: Exported, out: Path) -> None:
    for failure in found.failures:
        note(f"error: {failure['message']}")
    if found.failed > len(found.failures):
        note(f"error: {found.failed - len(found.failures):,} more could not be exported.")
    if found.without:
        failed = "1 row has" if found.without == 1 else f"{found.without:,} rows have"
        note(f"note: {failed} an error and no map, and cannot be exported.")
    rows = f"{found.rows:,} row{'' if found.rows == 1 else 's'}"
    console().print(f"{rows} in {found.files:,} file{'' if found.files == 1 else 's'} → {out}")
