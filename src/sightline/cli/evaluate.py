"""``sightline evaluate`` and ``metrics``: which methods can be trusted for a model, measured over a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, note, print_json, timed_progress
from sightline.cli.session import load_model, parse_parameters
from sightline.errors import ParameterError

if TYPE_CHECKING:
    from sightline.evaluation.objects.reading import Truths
    from sightline.evaluation.registry import Metric
    from sightline.evaluation.results import Evaluation
    from sightline.evaluation.run import Cost
    from sightline.models.model import Model
    from sightline.samples import Failure

__all__ = ["EXAMPLES", "evaluate_command", "metrics_command", "seconds_of"]

EXAMPLES = """\b
Examples:
  sightline evaluate photos --model mobilenet_v2 --method grad_cam,layer_cam,occlusion
  sightline evaluate photos --model resnet50 --metric single_deletion,insertion --limit 100 --budget 10m
  sightline evaluate photos --model resnet50 --boxes boxes.csv --metric pointing_game --json
  sightline evaluate demo/scenes --model demo/cheating --metric single_deletion,grid_pointing_game
  sightline evaluate photos --model net.h5 --labels names.txt --set deletion.steps=14 --out report
"""
_METHODS = "grad_cam,layer_cam,gradient,input_x_gradient,guided_backprop"
_METRICS = (
    "single_deletion,insertion,deletion,parameter_randomization,random_logit; with --boxes also "
    "pointing_game,energy_pointing_game"
)
_NAMED = 5
_COLUMNS = 4

Methods = Annotated[
    str, typer.Option("--method", "-M", help="Methods, separated by commas (sightline methods); controls are added.")
]
Metrics = Annotated[
    str | None,
    typer.Option("--metric", help="Metrics, separated by commas (sightline metrics).", show_default=_METRICS),
]
Boxes = Annotated[
    Path | None,
    typer.Option(
        "--boxes",
        help="Where the objects are: boxes as .csv, COCO .json, Pascal VOC .xml or a folder of these, or a folder of "
        "masks named as the images.",
        metavar="FILE",
    ),
]
Target = Annotated[
    str, typer.Option("--target", "-t", help="What is explained in each image: top1, an index or a label.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Take so many of the images, drawn by the seed.")]
Budget = Annotated[str | None, typer.Option("--budget", help="Take no longer than this: 90s, 10m, 1h.", metavar="TIME")]


@opt.grouped
def evaluate_command(
    folder: opt.Folder,
    model: opt.Models,
    loading: opt.Loading,
    method: Methods = _METHODS,
    metric: Metrics = None,
    boxes: Boxes = None,
    target: Target = "top1",
    limit: Limit = None,
    budget: Budget = None,
    layer: opt.Layer = None,
    precision: opt.Precision = "model",
    set_: opt.Set = None,
    out: opt.Out = Path("sightline-evaluation"),
    json: opt.Json = False,
) -> None:
    """Measure over a folder of images which methods can be trusted for a model, beside controls that know nothing."""
    from sightline.evaluation.objects.reading import read_truths
    from sightline.evaluation.registry import find_metrics
    from sightline.methods import find_methods

    find_methods(method), find_metrics(metric or "single_deletion")
    given, seconds = parse_parameters(set_), seconds_of(budget)
    files = _files(folder)
    truth = None if boxes is None else read_truths(boxes, files)
    loaded = load_model(model, loading)
    found = _evaluated(
        loaded, files, method, metric, truth, target, limit, seconds, layer, precision, given, loading.seed, out
    )
    report = found.report(out / "report.html")
    if json:
        print_json(found.to_dict() | {"report": str(report)})
    else:
        _print(found, report)
    raise typer.Exit(2 if _failed(found) else 0)


def _files(given: list[str]) -> list[str] | str:
    from sightline.evaluation.truth.scenes import SOURCE
    from sightline.paths import image_tree

    if given == [SOURCE]:
        return SOURCE
    return [file for one in given for file in image_tree(one)]


def _evaluated(
    model: Model,
    files: list[str] | str,
    method: str,
    metric: str | None,
    truth: Truths | None,
    target: str,
    limit: int | None,
    budget: float | None,
    layer: str | None,
    precision: Any,
    given: Mapping[str, Any],
    seed: int,
    out: Path,
) -> Evaluation:
    from sightline.evaluation.run import evaluate
    from sightline.evaluation.truth.scenes import COUNT

    known = limit or COUNT if isinstance(files, str) else len(files)
    with _resumable(out), timed_progress("measuring", min(known, limit or known)) as advance:
        return evaluate(
            model,
            files,
            method,
            metric,
            target=target,
            truth=truth,
            layer=layer.split(",") if layer else None,
            precision=precision,
            seed=seed,
            limit=limit,
            budget=budget,
            out=out,
            parameters=given,
            on_failure=_tell,
            on_cost=_say,
            on_step=advance,
        )


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Say on Ctrl-C what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"stopped; what was measured is kept in {out}: the same command goes on from there")
        raise


def _tell(failure: Failure) -> None:
    note(f"error: {failure.error}")


def _say(cost: Cost) -> None:
    cards = "; trust cards of the first images come on top" if cost.what == "image" else ""
    note(
        f"cost: {cost.forwards_each} forward passes and {cost.seconds_each:.2f} s for one {cost.what}, so about "
        f"{_duration(cost.seconds)} for {cost.images}{cards}"
    )


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def seconds_of(text: str | None) -> float | None:
    """Read a time such as 90s, 10m or 1.5h, in seconds; ParameterError for anything else.

    >>> seconds_of("1.5m")
    90.0
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().casefold())
    if found is None or float(found[1]) <= 0:
        raise ParameterError(f"--budget {text}: wanted a time, as 90s, 10m or 1h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _failed(found: Evaluation) -> bool:
    return any(s["image"] is not None and s["metric"] is None for s in found.skipped)


def _print(found: Evaluation, report: Path) -> None:
    from sightline.evaluation.findings import comparison_of

    screen = console()
    for line in found.findings:
        screen.print(line)
    for metrics in _in_tables(found):
        screen.print(_table(found, metrics))
        for metric in metrics:
            if said := comparison_of(found, metric):
                screen.print(said)
    screen.print("↑ more is better, ↓ less is; ± is the standard error over images. * beats every control (p < 0.05).")
    if begun := found.start("insertion"):
        screen.print(f"insertion starts at {begun.mean:.3f} ± {begun.error:.3f}, the score of what it shows things on.")
    for line in _skipped(found):
        screen.print(line)
    screen.print(f"{found.cost['measured']} of {found.cost['asked']} images → {report}")


def _skipped(found: Evaluation) -> list[str]:
    """Say what has no value; images that share a reason share a line."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for s in found.skipped:
        rest = (*(str(v) for v in (s["method"], s["metric"]) if v), s["reason"])
        alike.setdefault(rest, []).append(s["image"] or "")
    return [
        f"skipped: {' · '.join([_listed(images), *rest[:-1]]).strip(' ·')}: {rest[-1]}"
        for rest, images in alike.items()
    ]


def _listed(images: list[str]) -> str:
    more = f" and {len(images) - _NAMED} more" if len(images) > _NAMED else ""
    return ", ".join(images[:_NAMED]) + more


def _in_tables(found: Evaluation) -> list[list[Metric]]:
    """Put the metrics into tables that fit a terminal, those of a family together."""
    tables: list[list[Metric]] = []
    for metric in found.metrics:
        if not tables or len(tables[-1]) == _COLUMNS or tables[-1][-1].family != metric.family:
            tables.append([])
        tables[-1].append(metric)
    return tables


def _table(found: Evaluation, metrics: list[Metric]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=metrics[0].family, title_justify="left", title_style="bold")
    table.add_column("method")
    for metric in metrics:
        arrow = {"higher": "↑", "lower": "↓", "neither": ""}[metric.better]
        table.add_column(f"{metric.versioned} {arrow}".strip(), justify="right")
    table.add_column("s an image", justify="right")
    for name in found.methods:
        cells = [_cell(found, m.name, name) for m in metrics]
        seconds = found.cost["seconds_by_method"].get(name, 0.0) / max(1, found.cost["measured"])
        table.add_row(name, *cells, f"{seconds:.3f}", style="dim" if name in found.controls else None)
    return table


def _cell(found: Evaluation, metric: str, method: str) -> str:
    summary = found.summary(metric).get(method)
    if summary is None or not summary.count:
        return "–"
    star = " *" if found.beats_controls(metric, method) else "  "
    undefined = f" ({summary.undefined} undefined)" if summary.undefined else ""
    error = f" ± {summary.error:.3f}" if summary.count > 1 else ""
    return f"{summary.mean:.3f}{error}{star}{undefined}"


def metrics_command(json: opt.Json = False) -> None:
    """List the metrics, which way is good, and where they come from."""
    from sightline.evaluation import METRICS
    from sightline.evaluation.registry import FAMILIES

    listed = [
        {
            "name": m.name,
            "version": m.version,
            "family": m.family,
            "better": m.better,
            "needs": sorted(m.needs),
            "summary": m.summary.replace("``", ""),
            "parameters": {p.name: p.default for p in m.parameters.values()},
            "cite": m.cite,
        }
        for family in FAMILIES
        for m in METRICS.values()
        if m.family == family
    ]
    if json:
        print_json({"metrics": listed})
        return
    _print_metrics(listed)


def _print_metrics(listed: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    screen = console()
    for family in dict.fromkeys(m["family"] for m in listed):
        table = Table(title=family, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for heading in ("metric", "good", "what it says", "from"):
            table.add_column(heading, overflow="fold")
        for m in (m for m in listed if m["family"] == family):
            good = {"higher": "↑", "lower": "↓", "neither": "describes"}[m["better"]]
            table.add_row(f"{m['name']}@{m['version']}", good, m["summary"], m["cite"])
        screen.print(table)
    screen.print("Parameters and their defaults: sightline metrics --json; set them with --set METRIC.NAME=VALUE.")
