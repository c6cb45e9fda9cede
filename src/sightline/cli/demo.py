"""``sightline demo``: an honest and a cheating model explained, with how much of each map lies where it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, print_json, progress

if TYPE_CHECKING:
    from sightline.demo.story import Row, Story

__all__ = ["EXAMPLES", "demo_command"]

EXAMPLES = """\b
Examples:
  sightline demo
  sightline demo --out my-demo --json
"""


def demo_command(out: opt.Out = Path("demo-output"), seed: opt.Seed = 0, json: opt.Json = False) -> None:
    """Explain two embedded models, one honest and one that cheats, on scenes whose objects are known. No network."""
    from sightline.demo.story import METHODS, tell

    with progress(len(METHODS)) as bar:
        story = tell(seed, bar.done)
    picture = story.save(out)
    if json:
        print_json(
            {"models": story.models, "scenes": story.scenes, "rows": story.to_rows(), "files": {"png": str(picture)}}
        )
    else:
        _print(story, picture)
    raise typer.Exit(0)


def _print(story: Story, picture: Path) -> None:
    screen = console()
    for line in story.lines:
        screen.print(line)
    screen.print(_table(story.rows))
    screen.print("control = the share of the picture that the object or the watermark covers: what chance would give.")
    screen.print(f"The picture: {picture}")
    screen.print("Next: sightline explain PHOTO --model resnet50, or sightline methods.")


def _table(rows: list[Row]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title="How much of each map's mass lies where", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("method")
    for who in ("honest", "cheating"):
        for where in ("object", "watermark"):
            table.add_column(f"{who}:\n{where}", justify="right")
    for row in rows:
        table.add_row(row.method, *[f"{share:.0%}" for share in row.shares])
    return table
