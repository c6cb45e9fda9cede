"""``sightline concepts`` and ``sightline tcav``: what a class is made of, and whether it depends on given concepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, file_part, print_json, progress
from sightline.cli.session import Report, load_model
from sightline.errors import ParameterError

if TYPE_CHECKING:
    from sightline.concept.results import Concepts, Tcav

__all__ = ["EXAMPLES", "TCAV_EXAMPLES", "concepts_command", "tcav_command"]

EXAMPLES = """\b
Examples:
  sightline concepts photos/zebra --model resnet50
  sightline concepts tiles/tumor --model net.h5 --labels names.txt --target tumor --count 6 --out results
  sightline concepts photos/zebra --model vgg16 --crops resized --json
"""
TCAV_EXAMPLES = """\b
Examples:
  sightline tcav photos/zebra --model googlenet --target zebra --concept stripes=textures/striped \\
      --concept dots=textures/dotted --random photos/others
  sightline tcav photos/zebra --model googlenet --target zebra --concept stripes=striped --concept dots=dotted --json
"""

Count = Annotated[int, typer.Option("--count", min=1, help="How many concepts.")]
Crops = Annotated[
    Literal["in_place", "resized"],
    typer.Option("--crops", help="Read the layer where the crop lies in the image, or resize the crop to an image."),
]
Window = Annotated[float, typer.Option("--window", help="The crops' size, below 1 as a share of each side.")]
Stride = Annotated[float, typer.Option("--stride", help="The step between crops, below 1 as a share of each side.")]
Samples = Annotated[int, typer.Option("--samples", min=2, help="Random masks for each Sobol index.")]
Rectify = Annotated[bool, typer.Option("--rectify", help="Cut off negative activations instead of refusing the layer.")]
ClassTarget = Annotated[
    str, typer.Option("--target", "-t", help="The class; top1 is the one that most of the images are said to be.")
]
OneClass = Annotated[str, typer.Option("--target", "-t", help="The class: an index or a label.", show_default=False)]
OneLayer = Annotated[str | None, typer.Option("--layer", "-l", help="The layer to read (sightline layers MODEL).")]
OneModel = Annotated[str, typer.Option("--model", "-m", help=f"One model: {opt.MODEL_HELP}.", show_default=False)]
Given = Annotated[
    list[str],
    typer.Option(
        "--concept", metavar="NAME=DIR", help="A concept and a folder with pictures of it; repeat.", show_default=False
    ),
]
Random = Annotated[
    list[str] | None,
    typer.Option(
        "--random", metavar="DIR", help="Images of anything else; without, concepts are told from each other."
    ),
]
Runs = Annotated[int, typer.Option("--runs", min=2, help="Directions learnt for each concept.")]
Positions = Annotated[
    Literal["mean", "flat"],
    typer.Option("--positions", help="Average activations over positions, or take each by itself as the paper does."),
]
Out = opt.Out
_HERE = Path("sightline-output")


@opt.grouped
def concepts_command(
    folder: opt.Folder,
    model: OneModel,
    loading: opt.Loading,
    target: ClassTarget = "top1",
    layer: OneLayer = None,
    count: Count = 10,
    crops: Crops = "in_place",
    window: Window = 0.3,
    stride: Stride = 0.24,
    samples: Samples = 32,
    rectify: Rectify = False,
    output: opt.Output = "logit",
    precision: opt.Precision = "model",
    out: Out = _HERE,
    json: opt.Json = False,
) -> None:
    """Find the concepts that a model makes a class of, and how much its score depends on each: a contact sheet."""
    from sightline.concept.craft import concepts
    from sightline.paths import image_files

    images = [file for given in folder for file in image_files(given)]
    loaded, report = load_model(model, loading), Report()
    with progress(1) as bar:
        found = concepts(
            loaded,
            images,
            target=target,
            layer=layer,
            count=count,
            crops=crops,
            window=window,
            stride=stride,
            samples=samples,
            rectify=rectify,
            output=output,
            precision=precision,
            seed=loading.seed,
            on_failure=lambda failure: report.fail(failure.image, failure.error),
            tick=bar.tick,
        )
    _finish(found, out / f"{file_part(Path(folder[0]).stem)}.{file_part(found.target)}.concepts", report, json)


@opt.grouped
def tcav_command(
    folder: opt.Folder,
    model: OneModel,
    target: OneClass,
    concept: Given,
    loading: opt.Loading,
    random: Random = None,
    layer: OneLayer = None,
    runs: Runs = 30,
    positions: Positions = "mean",
    output: opt.Output = "logit",
    precision: opt.Precision = "model",
    out: Out = _HERE,
    json: opt.Json = False,
) -> None:
    """Test whether a class depends on concepts given as folders of pictures: scores, p-values and a bar chart."""
    from sightline.concept.tcav import tcav
    from sightline.paths import image_files

    folders = _named(concept)
    sets = {name: image_files(given) for name, given in folders.items()}
    others = [file for given in random for file in image_files(given)] if random else None
    images = [file for given in folder for file in image_files(given)]
    loaded, report = load_model(model, loading), Report()
    with progress(1) as bar:
        found = tcav(
            loaded,
            images,
            sets,
            target=target,
            random=others,
            layer=layer,
            runs=runs,
            positions=positions,
            output=output,
            precision=precision,
            seed=loading.seed,
            on_failure=lambda failure: report.fail(failure.image, failure.error),
            tick=bar.tick,
        )
    _finish(found, out / f"{file_part(Path(folder[0]).stem)}.{file_part(found.target)}.tcav", report, json)


def _named(given: Sequence[str]) -> Mapping[str, str]:
    """Read NAME=DIR settings."""
    found: dict[str, str] = {}
    for setting in given:
        name, equals, folder = setting.partition("=")
        if not equals or not name.strip() or not folder:
            raise ParameterError(f"--concept {setting}: wanted NAME=DIR, as in --concept stripes=photos/stripes.")
        if name.strip() in found:
            raise ParameterError(
                f"--concept {setting}: a concept '{name.strip()}' came before; give each its own name."
            )
        found[name.strip()] = folder
    return found


def _finish(found: Concepts | Tcav, base: Path, report: Report, json: bool) -> None:
    files = {kind: str(found.save(base.with_name(f"{base.name}.{kind}"))) for kind in ("png", "npz")}
    if json:
        print_json({**found.to_dict(), "files": files, "errors": report.errors})
    else:
        _print(found, files["png"])
    raise typer.Exit(report.exit_code)


def _print(found: Concepts | Tcav, picture: str) -> None:
    from sightline.concept.results import Tcav

    screen = console()
    title = f"{found.target} · {found.provenance['model']} · layer {found.layer} · {found.images} images"
    screen.print(_tcav_table(title, found) if isinstance(found, Tcav) else _concepts_table(title, found))
    for text in found.notes:
        screen.print(f"  note: {text}")
    screen.print(f"  → {picture}")


def _concepts_table(title: str, found: Concepts) -> Any:
    table = _table(title, "concept", "importance", "standard error", "effect on the score", "best crop in")
    for c in found.concepts:
        best = Path(c.crops[0].image).name if c.crops[0].image else f"image {c.crops[0].number}"
        table.add_row(
            c.name, f"{c.importance:.3f}", "" if c.error is None else f"{c.error:.3f}", f"{c.effect:+.3g}", best
        )
    return table


def _tcav_table(title: str, found: Tcav) -> Any:
    table = _table(title, "concept", "score", "spread", "p-value", "significant", "told right")
    for c in found.concepts:
        said = "yes" if c.significant else "no" if c.represented else "not represented"
        table.add_row(c.name, f"{c.score:.2f}", f"{c.error:.2f}", f"{c.p_value:.2g}", said, f"{c.accuracy:.0%}")
    control = found.random
    table.add_row("random", f"{control.score:.2f}", f"{control.error:.2f}", "", "control", f"{control.accuracy:.0%}")
    return table


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for n, column in enumerate(columns):
        table.add_column(column, justify="left" if n == 0 else "right")
    return table
