"""What the commands print: tables for people on stdout, one JSON object for machines, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from sightline.output import file_part

if TYPE_CHECKING:
    from rich.console import Console

    from sightline.explanation import Prediction

__all__ = [
    "Meter",
    "console",
    "counted_progress",
    "file_part",
    "note",
    "predictions_table",
    "print_json",
    "progress",
    "timed_progress",
]

_BAR = 20


def console(*, err: bool = False) -> Console:
    """Return a Rich console; colour only on a terminal, no wrapping of paths in a pipe, brackets left as they are."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else 160
    return Console(stderr=err, width=width, markup=False, highlight=False, soft_wrap=not stream.isatty())


def print_json(data: Any) -> None:
    """Print one JSON object on stdout."""
    typer.echo(json.dumps(data, ensure_ascii=False, allow_nan=False))


def note(text: str) -> None:
    """Print a line for people on stderr."""
    typer.echo(text, err=True)


class Meter:
    """A progress bar that counts explanations, and the passes of the one under way."""

    def __init__(self, advance: Any = None, describe: Any = None) -> None:
        self._advance, self._describe, self._passes = advance, describe, 0

    def done(self) -> None:
        """Count one explanation."""
        if self._advance is not None:
            self._advance()

    def tick(self, points: int) -> None:
        """Count points of a sweep."""
        self._passes += points
        if self._describe is not None:
            self._describe(f"explaining ({self._passes} extra passes)")


@contextmanager
def progress(total: int) -> Iterator[Meter]:
    """Show a bar on stderr while the block runs, on a terminal only."""
    if not sys.stderr.isatty():
        yield Meter()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(err=True), transient=True) as bar:
        task = bar.add_task("explaining", total=total)
        yield Meter(lambda: bar.advance(task), lambda text: bar.update(task, description=text))


@contextmanager
def timed_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left on stderr while the block runs, on a terminal only; what is given counts."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Progress(*columns, console=console(err=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def counted_progress(what: str) -> Iterator[tuple[Callable[[int | None], None], Callable[[int], None]]]:
    """Show a bar as `timed_progress` does, whose total (None: unknown) is told when it is known: (begin, advance)."""
    if not sys.stderr.isatty():
        yield lambda total: None, lambda count: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    left = (TimeRemainingColumn(compact=True), TextColumn("left"))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *left)
    with Progress(*columns, console=console(err=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda total: bar.update(task, total=total), lambda count: bar.advance(task, count)


def predictions_table(title: str, predictions: Sequence[Mapping[str, Any]] | Sequence[Prediction]) -> Any:
    """Return a Rich table of predictions: index, label, probability as a bar, logit."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    table.add_column("index", justify="right")
    table.add_column("class")
    table.add_column("probability")
    table.add_column("logit", justify="right")
    for p in predictions:
        filled = round(_BAR * p["probability"])
        bar = Text("█" * filled + "░" * (_BAR - filled), style="cyan") + Text(f" {p['probability']:.3f}")
        table.add_row(str(p["index"]), Text(p["label"]), bar, "" if p["logit"] is None else f"{p['logit']:.2f}")
    return table
