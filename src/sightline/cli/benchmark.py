"""``sightline benchmark``: methods on models and pictures whose right answer is known. No network, no images needed."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, note, print_json, timed_progress

if TYPE_CHECKING:
    from sightline.evaluation.truth.suite import Outcome, Suite

__all__ = ["EXAMPLES", "benchmark_command"]

EXAMPLES = """\b
Examples:
  sightline benchmark
  sightline benchmark --method grad_cam,layer_cam,rise --out benchmark
  sightline benchmark --json
"""
_METHODS = (
    "grad_cam,hires_cam,layer_cam,gradient,input_x_gradient,smooth_grad,integrated_gradients,guided_backprop,lrp,"
    "occlusion"
)

Methods = Annotated[
    str, typer.Option("--method", "-M", help="Methods, separated by commas (sightline methods); controls are added.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="A directory for benchmark.json and every value.", metavar="DIR")
]


def benchmark_command(method: Methods = _METHODS, out: Out = None, seed: opt.Seed = 0, json: opt.Json = False) -> None:
    """Test methods where the right answer is known: scenes, mosaics, tetrominoes, a watermark, nets made by hand."""
    from sightline.evaluation.truth.suite import CONTROLS, TESTS, Sizes, benchmark, explanations_of
    from sightline.methods import find_methods

    named = {m.name for m in find_methods(method)} | set(CONTROLS)
    note(f"cost: {explanations_of(Sizes(), len(named)):,} maps by {len(named)} methods, of small models: a few minutes")
    with timed_progress("testing", len(TESTS)) as advance:
        suite = benchmark(method, seed=seed, on_step=lambda _: advance(1))
    if out is not None:
        _save(suite, out)
    if json:
        print_json(suite.to_dict())
    else:
        _print(suite, out)
    raise typer.Exit(0)


def _save(suite: Suite, out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sightline.output import written

    with written(out / "benchmark.json") as aside:
        aside.write_text(json_module.dumps(suite.to_dict(), indent=1) + "\n", encoding="utf-8")
    rows = [
        {"test": o.name, "method": method, "number": number, "value": float(value)}
        for o in suite.outcomes
        for method, values in o.values.items()
        for number, value in enumerate(values)
    ]
    with written(out / "benchmark.parquet") as aside:
        pq.write_table(pa.Table.from_pylist(rows), aside)


def _print(suite: Suite, out: Path | None) -> None:
    screen = console()
    for sentence in suite.sentences:
        screen.print(sentence)
    screen.print(_table(suite))
    screen.print("All: more is better. ± is the standard error over maps; * beats every control (p < 0.05).")
    for outcome in suite.outcomes:
        screen.print(f"{outcome.name}: {outcome.what}")
    for fact in suite.facts:
        screen.print(f"found first: {fact}")
    for line in _missing(suite):
        screen.print(line)
    screen.print(f"{suite.seconds:.0f} s" + (f" → {out}" if out is not None else ""))


def _missing(suite: Suite) -> list[str]:
    """Say which values are missing, and why."""
    refused = [f"skipped: {o.name} · {m}: {why}" for o in suite.outcomes for m, why in o.refused.items()]
    empty = [
        f"undefined: {o.name} · {m}: {s.undefined} of {s.undefined + s.count} maps, which mark nothing"
        for o in suite.outcomes
        for m in suite.methods
        if (s := o.summary(m)) is not None and s.undefined and m not in o.refused
    ]
    return [*empty, *refused]


def _table(suite: Suite) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("method")
    for outcome in suite.outcomes:
        table.add_column(outcome.name.replace(", ", ",\n").replace("_", "\n"), justify="right")
    table.add_column("s", justify="right")
    for method in suite.methods:
        cells = [_cell(o, method) for o in suite.outcomes]
        style = "dim" if method in ("random", "edges", "centre", "constant") else None
        table.add_row(method, *cells, f"{suite.seconds_of(method):.1f}", style=style)
    table.add_row("chance", *[f"{o.chance:.2f}" for o in suite.outcomes], "", style="dim")
    return table


def _cell(outcome: Outcome, method: str) -> str:
    summary = outcome.summary(method)
    if summary is None or not summary.count:
        return "–"
    star = "*" if outcome.beats_controls(method) else " "
    return f"{summary.mean:.2f}±{summary.error:.2f}{star}"
