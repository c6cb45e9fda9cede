"""The tables: by source and family, what is wrong, and the default layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from .cells import BAD, OUTCOMES, Cell, Result

PEERS = ("captum", "grad-cam")


def report(results: Sequence[Result], console: Console) -> None:
    """Print everything."""
    ordered = sorted(results, key=lambda r: (r.source, r.family, r.name))
    console.print(_families(ordered))
    console.print(_methods(ordered))
    console.print(_layers(ordered))
    _list(console, "Refusals", ((r, c) for r in ordered for c in r.cells if c.outcome == "refused"), grouped=True)
    _list(console, "Not measured", ((r, c) for r in ordered for c in r.cells if c.outcome == "not measured"))
    _list(console, "Wrong", ((r, c) for r in ordered for c in r.cells if c.outcome in BAD))
    for result in ordered:
        if result.failed:
            _say(console, f"{result.source}/{result.name} could not be built: {result.failed}")


def markdown(results: Sequence[Result]) -> str:
    """The counts by source and by method, as Markdown tables."""
    by_source = {
        s: [c for r in results if r.source == s for c in r.cells] for s in dict.fromkeys(r.source for r in results)
    }
    measured = Counter(r.source for r in results if not r.failed)
    every = [c for r in results for c in r.cells]
    sources = [(f"{s} ({measured[s]} networks)", cells) for s, cells in by_source.items()]
    methods = [(m, [c for c in every if c.method == m]) for m in dict.fromkeys(c.method for c in every)]
    return "\n".join(
        [*_marked("source", [*sources, (f"all ({measured.total()} networks)", every)]), "", *_marked("method", methods)]
    )


def _marked(what: str, rows: Iterable[tuple[str, list[Cell]]]) -> Iterator[str]:
    columns = (what, *OUTCOMES, *(f"{p}: right / wrong / raised" for p in PEERS))
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for name, cells in rows:
        counts = Counter(c.outcome for c in cells)
        yield f"| {' | '.join((name, *(str(counts[o]) for o in OUTCOMES), *(_of(p, cells) for p in PEERS)))} |"


def _families(results: Sequence[Result]) -> Table:
    table = Table(title="Cells by family (peers: right / wrong / raised)")
    for column in ("source", "family", "networks", *OUTCOMES, *PEERS):
        table.add_column(column, justify="left" if column in ("source", "family") else "right")
    for source, of_source in groupby(results, key=lambda r: r.source):
        listed = list(of_source)
        for family, members in groupby(listed, key=lambda r: r.family):
            _row(table, "", family, list(members))
        _row(table, source, "all", listed, end=True)
    _row(table, "all", "", list(results), end=True)
    return table


def _row(table: Table, source: str, family: str, results: list[Result], *, end: bool = False) -> None:
    cells = [c for r in results for c in r.cells]
    counts = Counter(c.outcome for c in cells)
    measured = sum(not r.failed for r in results)
    shown = [str(counts[o]) for o in OUTCOMES]
    style = "bold red" if any(counts[b] for b in BAD) else "bold" if end else None
    table.add_row(
        source, family, f"{measured}/{len(results)}", *shown, *(_of(p, cells) for p in PEERS), style=style,
        end_section=end,
    )  # fmt: skip


def _of(peer: str, cells: Iterable[Cell]) -> str:
    counts = Counter(c.peers[peer] for c in cells if peer in c.peers)
    return f"{counts['right']} / {counts['wrong']} / {counts['raised']}" if counts else ""


def _methods(results: Sequence[Result]) -> Table:
    table = Table(title="Cells by method (peers: right / wrong / raised)")
    for column in ("method", *OUTCOMES, *PEERS):
        table.add_column(column, justify="left" if column == "method" else "right")
    every = [c for r in results for c in r.cells]
    for method in dict.fromkeys(c.method for c in every):
        cells = [c for c in every if c.method == method]
        counts = Counter(c.outcome for c in cells)
        table.add_row(method, *(str(counts[o]) for o in OUTCOMES), *(_of(p, cells) for p in PEERS))
    return table


def _layers(results: Sequence[Result]) -> Table:
    table = Table(title="The default layer")
    for column in ("network", "input", "layer", "type", "grid", ""):
        table.add_column(column)
    for r in results:
        if not r.failed:
            grid = " x ".join(map(str, r.grid))
            table.add_row(f"{r.source}/{r.name}", str(r.size), r.layer, r.kind, grid, r.question)
    return table


def _list(console: Console, title: str, found: Iterable[tuple[Result, Cell]], *, grouped: bool = False) -> None:
    lines = [(f"{r.source}/{r.name}", c) for r, c in found]
    console.print(f"\n{title}: {len(lines)}", style="bold")
    if grouped:
        kinds = Counter((c.method, c.why.partition(";")[0].partition("(")[0].partition("'")[0]) for _, c in lines)
        for (method, why), count in sorted(kinds.items()):
            _say(console, f"  {count:4} {method}: {why}")
        return
    for name, cell in lines:
        _say(console, f"  {name} {cell.method}: {cell.outcome}: {cell.why}")


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
