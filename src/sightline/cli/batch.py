"""``sightline batch``: explanations of a data set, in a store that survives being killed."""

from __future__ import annotations

import dataclasses
import shlex
import signal
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, counted_progress, note, print_json
from sightline.cli.session import load_model, parse_parameters
from sightline.errors import ParameterError

if TYPE_CHECKING:
    from sightline.batch.job import Job
    from sightline.batch.run import How
    from sightline.batch.sources import Source
    from sightline.batch.summary import Summary
    from sightline.models.model import Model

__all__ = ["EXAMPLES", "batch_command"]

EXAMPLES = """\b
Examples:
  sightline batch photos --model resnet50 --out store
  sightline batch photos --model resnet50 --out store --resume
  sightline batch 'tiles/**/*.png' --model net.h5 --labels names.txt --method grad_cam,lrp --target top3 --out store
  sightline batch list.csv --model resnet50 --metrics single_deletion --out store
  sightline batch 'train-*.parquet' --column image --model resnet50 --out store
  sightline batch 's3://bucket/shards/{000..099}.tar' --model resnet50 --out s3://bucket/store --engine ray
"""

SourceName = Annotated[
    str,
    typer.Argument(
        help="A folder, a pattern, a CSV or Parquet table (of paths or bytes), tar shards, or a URL of such.",
        metavar="SOURCE",
    ),
]
Column = Annotated[
    str | None,
    typer.Option(
        "--column", help="The table's column of paths, URLs or bytes, where it cannot be told.", metavar="NAME"
    ),
]
OneModel = Annotated[str, typer.Option("--model", "-m", help=f"The model: {opt.MODEL_HELP}.", show_default=False)]
OutStore = Annotated[str, typer.Option("--out", "-o", help="The store: a folder, or a URL.", metavar="STORE")]
EngineName = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="This machine, or a Ray cluster (also a local one).")
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Processes that decode (0: none); with Ray, actors that explain."),
]
BatchSize = Annotated[
    str, typer.Option("--batch-size", help="Images in one pass, or auto: as many as are fastest.", metavar="N")
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Know images again by name, size and time, unread; otherwise by their content."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while another run writes the store.")]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", help="A running cluster; without it one is started.", metavar="ADDRESS")
]
Metrics = Annotated[
    str | None, typer.Option("--metrics", help="Measure each map too (sightline metrics); costs passes.")
]
HeatmapSize = Annotated[int, typer.Option("--heatmap-size", min=8, max=1024, help="The side of the maps kept.")]
Raw = Annotated[bool, typer.Option("--raw", help="Keep the attributions too, as they are, in float32.")]


@dataclasses.dataclass(frozen=True)
class Running:
    """The options of how a run is done."""

    engine: EngineName = "local"
    workers: Workers = None
    batch_size: BatchSize = "auto"
    resume: Resume = False
    wait: Wait = False
    ray_address: RayAddress = None


@opt.grouped
def batch_command(
    source: SourceName,
    model: OneModel,
    out: OutStore,
    asking: opt.Asking,
    loading: opt.Loading,
    running: Running,
    method: opt.Methods = "grad_cam",
    column: Column = None,
    metrics: Metrics = None,
    heatmap_size: HeatmapSize = 64,
    raw: Raw = False,
    json: opt.Json = False,
) -> None:
    """Explain every image of a data set into a store; what is there already is not done again."""
    from sightline.batch.sources import source_of

    found = source_of(source, column=column)
    asked = {"model": model, "method": method, "metrics": metrics, "size": heatmap_size, "raw": raw, "asking": asking}
    _check(out, running)
    summary = _finished(found, out, running, asked | dataclasses.asdict(loading))
    if summary is None:
        job, opened = _job(model, method, metrics, asking, loading, heatmap_size, raw)
        summary = _ran(found, out, job, opened, _how(running, asked | dataclasses.asdict(loading)))
    if json:
        print_json(summary.to_dict())
    else:
        _print(summary)
    raise typer.Exit(2 if summary.failed or summary.failed_before else 0)


def _check(out: str, running: Running) -> None:
    """Refuse what would be refused later, before the model is loaded."""
    from sightline.batch.store import refuse_strange

    said = running.batch_size
    if said != "auto" and not (said.isdecimal() and int(said)):
        raise ParameterError(f"--batch-size {said}: wanted a whole number from 1 on, or auto.")
    if running.ray_address is not None and running.engine != "ray":
        raise ParameterError(f"--ray-address {running.ray_address}: it is for --engine ray; add that, or leave it out.")
    refuse_strange(out)


def _finished(source: Source, out: str, running: Running, asked: dict[str, Any]) -> Summary | None:
    """Say at once that nothing is left, where that can be known without torch and the model."""
    if not running.resume:
        return None
    from sightline.batch.finished import fingerprint, if_finished

    return if_finished(source, out, fingerprint(asked))


def _ran(source: Source, out: str, job: Job, model: Model, how: How) -> Summary:
    from sightline.batch.interrupting import interrupted
    from sightline.batch.memory import keep_freed_memory
    from sightline.batch.run import run

    keep_freed_memory()
    signal.signal(signal.SIGTERM, interrupted)  # a scheduler ends a run so, also one that Ctrl-C does not reach
    with counted_progress("explaining") as (begin, advance):
        return run(source, job, out, how, model=model, on_begin=begin, on_images=advance)


def _job(
    model: str, method: str, metrics: str | None, asking: opt.Asking, loading: opt.Loading, size: int, raw: bool
) -> tuple[Job, Model]:
    """Return what is asked for, and the model; unknown methods and parameters are refused before it is loaded."""
    from sightline.batch.job import Job
    from sightline.evaluation.registry import find_metrics
    from sightline.methods import find_methods, resolve_parameters
    from sightline.targets import split_targets

    methods, parameters = find_methods(method), parse_parameters(asking.set_)
    resolve_parameters(methods, parameters)
    measured = tuple(m.name for m in find_metrics(metrics)) if metrics else ()
    opened = load_model(model, loading)
    job = Job(
        open_model=partial(load_model, model, loading),
        name=model,
        methods=tuple(m.name for m in methods),
        targets=tuple(split_targets(asking.target, opened.labels)),
        contrast=asking.contrast,
        layers=tuple(asking.layer.split(",")) if asking.layer else (),
        output=asking.output,
        precision=asking.precision,
        seed=loading.seed,
        parameters=parameters,
        metrics=measured,
        heatmap=size,
        raw=raw,
    )
    return job, opened


def _how(running: Running, asked: dict[str, Any]) -> How:
    from sightline.batch.finished import fingerprint
    from sightline.batch.run import How

    said = running.batch_size
    return How(
        running.engine,
        running.workers,
        "auto" if said == "auto" else int(said),
        running.resume,
        running.wait,
        running.ray_address,
        fingerprint(asked),
    )


def _print(summary: Summary) -> None:
    screen = console()
    screen.print(_sentence(summary))
    for failure in summary.failures:
        note(f"error: {failure['message']}")
    if summary.failed > len(summary.failures):
        note(f"error: {summary.failed - len(summary.failures):,} more failed; see the column error of the store.")
    screen.print(
        f'{summary.seconds:.1f} s → {summary.store}   (sightline query {shlex.quote(summary.store)} "SELECT ...")'
    )


def _sentence(s: Summary) -> str:
    counts = {
        "explained": s.explained,
        "there already": s.already,
        f"duplicate{'' if s.duplicates == 1 else 's'} of others": s.duplicates,
        "failed": s.failed,
        "failed before (see the column error)": s.failed_before,
    }
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count or what == "explained")
    return f"{s.images:,} image{'' if s.images == 1 else 's'}: {said}; {s.rows:,} new row{'' if s.rows == 1 else 's'}"
