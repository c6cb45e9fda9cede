"""``sightline errors``: what a model takes for what, over folders of known classes, and what it looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, note, print_json, timed_progress
from sightline.cli.session import load_model, parse_parameters
from sightline.errors import ParameterError

if TYPE_CHECKING:
    from sightline.evaluation.mistakes.results import ModelErrors
    from sightline.samples import Failure

__all__ = ["EXAMPLES", "errors_command"]

EXAMPLES = """\b
Examples:
  sightline errors photos/test --model mobilenet_v2
  sightline errors tiles --model net.h5 --labels names.txt --method layer_cam --worst 10 --out mistakes
  sightline errors tiles --model net.h5 --sorted --limit 200 --json
  sightline errors photos --model resnet50 --classes labels.csv
  sightline errors photos --model resnet50 --map kitty="tiger cat" --map doggy=207
"""
_MOST_SHOWN, _MOST_ROWS = 12, 20

ClassFolder = Annotated[
    str,
    typer.Argument(
        metavar="FOLDER", help="A folder that holds one folder of images for each class.", show_default=False
    ),
]
OneModel = Annotated[str, typer.Option("--model", "-m", help=f"One model: {opt.MODEL_HELP}.", show_default=False)]
OneMethod = Annotated[str, typer.Option("--method", "-M", help="The method that explains the confusions.")]
Worst = Annotated[int, typer.Option("--worst", min=0, help="Explain so many of the worst confusions.")]
Examples = Annotated[int, typer.Option("--examples", min=1, help="How many images of each are explained.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Take so many of the images, drawn by the seed.")]
Table = Annotated[
    Path | None,
    typer.Option("--classes", help="A CSV with the columns file and class, instead of class folders.", metavar="FILE"),
]
Mapped = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help="Which class a folder is, where its name does not say so; repeat.", metavar="FOLDER=CLASS"
    ),
]
Sorted = Annotated[bool, typer.Option("--sorted", help="The folders are the model's classes in alphabetical order.")]
Out = opt.Out


@opt.grouped
def errors_command(
    folder: ClassFolder,
    model: OneModel,
    loading: opt.Loading,
    classes: Table = None,
    map_: Mapped = None,
    sorted_: Sorted = False,
    method: OneMethod = "grad_cam",
    worst: Worst = 6,
    examples: Examples = 2,
    limit: Limit = None,
    layer: opt.Layer = None,
    set_: opt.Set = None,
    out: Out = Path("sightline-errors"),
    json: opt.Json = False,
) -> None:
    """Say what a model gets wrong over images of known classes, and explain its worst confusions."""
    from sightline.evaluation.mistakes.confusions import find_errors
    from sightline.methods import find_methods

    find_methods(method)
    mapping, parameters = _mapping(map_ or ()), parse_parameters(set_)
    loaded = load_model(model, loading)
    with _counted() as (count, step):
        found = find_errors(
            loaded,
            folder,
            classes=classes,
            mapping=mapping,
            in_order=sorted_,
            method=method,
            worst=worst,
            examples=examples,
            layer=layer.split(",") if layer else None,
            parameters=parameters,
            limit=limit,
            seed=loading.seed,
            on_failure=_tell,
            on_count=count,
            on_step=step,
        )
    files = found.save(out)
    if json:
        print_json(found.to_dict() | {"files": files})
    else:
        _print(found, files)
    raise typer.Exit(2 if found.skipped else 0)


def _mapping(given: Sequence[str]) -> dict[str, str]:
    """Read FOLDER=CLASS settings."""
    found: dict[str, str] = {}
    for setting in given:
        name, equals, said = setting.partition("=")
        if not equals or not name.strip() or not said.strip():
            raise ParameterError(f"--map {setting}: wanted FOLDER=CLASS, as in --map kitty='tiger cat'.")
        if found.setdefault(name.strip(), said.strip()) != said.strip():
            raise ParameterError(f"--map {setting}: '{name.strip()}' was mapped before; give each folder one class.")
    return found


def _tell(failure: Failure) -> None:
    note(f"error: {failure.error}")


@contextmanager
def _counted() -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """Show a bar once it is known how many images there are."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        steps: list[Callable[[int], None]] = []
        yield lambda n: steps.append(stack.enter_context(timed_progress("predicting", n))), lambda n: steps[0](n)


def _print(found: ModelErrors, files: dict[str, Any]) -> None:
    screen = console()
    for line in found.findings:
        screen.print(line)
    if len(found.rows) <= _MOST_SHOWN and len(found.columns) <= _MOST_SHOWN:
        screen.print(_matrix(found))
    screen.print(_classes(found))
    if found.confusions:
        screen.print(_confusions(found, files["pictures"]))
    for text in found.notes:
        screen.print(f"note: {text}")
    unread = sum(s["image"] is not None for s in found.skipped)
    if unread:
        screen.print(f"skipped: {unread} image{'s' if unread > 1 else ''}, listed in {files['json']}")
    screen.print(f"{found.accuracy.total} of {found.settings['images']} images → {files['report']}")


def _new_table(title: str, headings: Sequence[str], left: int = 1) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for n, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if n < left else "right", overflow="fold")
    return table


def _matrix(found: ModelErrors) -> Any:
    """Draw the confusion matrix: what is right stands out, what is nothing is a dot."""
    from rich.text import Text

    table = _new_table("what is (rows), what it says (columns)", ["", *(found.labels[c] for c in found.columns)])
    for true, counts in zip(found.rows, found.matrix.tolist(), strict=True):
        cells = [
            Text(str(n) if n else "·", style=("bold green" if true == said else "red") if n else "dim")
            for said, n in zip(found.columns, counts, strict=True)
        ]
        table.add_row(Text(found.labels[true]), *cells)
    return table


def _classes(found: ModelErrors) -> Any:
    from rich.text import Text

    listed = sorted(found.classes, key=lambda c: c.f1) if len(found.classes) > _MOST_ROWS else found.classes
    title = f"the {_MOST_ROWS} classes of the lowest F1, of {len(listed)}" if len(listed) > _MOST_ROWS else "classes"
    table = _new_table(title, ["class", "images", "precision", "recall", "F1", "AUC", "average precision"])
    for c in listed[:_MOST_ROWS]:
        numbers = (c.precision, c.recall, c.f1, c.auc, c.average_precision)
        table.add_row(Text(c.label), str(c.support), *map(_number, numbers))
    table.add_section()
    for name, m in (("mean of the classes", found.macro), ("mean, by images", found.weighted)):
        table.add_row(name, str(found.accuracy.total), *map(_number, vars(m).values()))
    return table


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"


def _confusions(found: ModelErrors, pictures: Sequence[str | None]) -> Any:
    from rich.text import Text

    table = _new_table("worst confusions", ["is", "it says", "times", "picture"], left=2)
    table.columns[3].justify = "left"
    for n, c in enumerate(found.confusions[: max(_MOST_SHOWN, len(pictures))]):
        picture = pictures[n] if n < len(pictures) else None
        table.add_row(Text(found.labels[c.true]), Text(found.labels[c.predicted]), str(c.count), Text(picture or ""))
    return table
