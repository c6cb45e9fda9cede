"""``sightline train``: a trained classifier from a folder of pictures."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, note, print_json
from sightline.cli.session import parse_preprocessing
from sightline.errors import ParameterError, SightlineError

if TYPE_CHECKING:
    from sightline.geometry import Preprocessing
    from sightline.training.history import Row
    from sightline.training.job import Told
    from sightline.training.run import Training

__all__ = ["EXAMPLES", "train_command"]

EXAMPLES = """\b
Examples:
  sightline train photos --model mobilenet_v2 --out run
  sightline explain photo.jpg --model run
  sightline train photos --model resnet18 --freeze none --augment all --epochs 30 --out run
  sightline train mnist1d --out digits
  sightline train demo/cheating --out cheating
  sightline train tiles --preset hmt-vgg7 --out tissue
  sightline train photos --model mobilenet_v2 --out run --resume
"""

Data = Annotated[
    str,
    typer.Argument(
        metavar="FOLDER",
        help="A folder of class folders (or train/ and val/ with them), an .npz of series x (N, L) and y (N,), or what "
        "is generated: mnist1d, demo/honest, demo/cheating, demo/vit.",
        show_default=False,
    ),
]
OneModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="What is trained: a torchvision name, keras/NAME, timm/NAME, NAME@WEIGHTS, vgg7 or mnist1d-cnn (keras/ "
        "before them for Keras), a .keras or .h5 file, a Hugging Face folder, a folder that sightline train wrote, "
        "file.py:function.",
    ),
]
Preset = Annotated[str | None, typer.Option("--preset", help="A recorded recipe: mnist1d, hmt-vgg7, cats-dogs-vgg16.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the training in --out that was broken off.")]
Report = Annotated[
    bool,
    typer.Option("--report/--no-report", help="Explain the worst errors, rank methods and write report.html."),
]


@dataclasses.dataclass(frozen=True)
class Choices:
    """The settings of a training, each None where it was not given."""

    weights: Annotated[str | None, typer.Option("--weights", help="Published weights, a file, or none for random.")] = (
        None
    )
    freeze: Annotated[
        str | None,
        typer.Option(
            "--freeze",
            help="What keeps its weights: features (all but the last block), none, or so many layers from the input "
            "on. Default: features where the weights are trained, none where they are random.",
            metavar="features|none|N",
        ),
    ] = None
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="At most so many. Default: 100.")] = None
    patience: Annotated[
        int | None,
        typer.Option("--patience", min=0, help="Stop after so many epochs without a better one; 0: never. Default: 6."),
    ] = None
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Learning rate. Default: 0.001; 0.0001 where trained weights change throughout."),
    ] = None
    optimizer: Annotated[
        Literal["adamw", "adam", "sgd"] | None, typer.Option("--optimizer", help="Default: adamw.")
    ] = None
    momentum: Annotated[float | None, typer.Option("--momentum", help="Of sgd. Default: 0.9.")] = None
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", help="Of weights, not of biases and norms. Default: 0.0001.")
    ] = None
    schedule: Annotated[
        Literal["plateau", "cosine", "one-cycle", "constant"] | None,
        typer.Option(
            "--schedule", help="How the learning rate changes. Default: plateau (halved where accuracy stands)."
        ),
    ] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Default: 32.")] = None
    steps_per_epoch: Annotated[
        int | None, typer.Option("--steps-per-epoch", min=1, help="End an epoch after so many batches.")
    ] = None
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=8, help="The input's side in pixels. Default: the model's.")
    ] = None
    augment: Annotated[
        str | None,
        typer.Option(
            "--augment",
            help="all, none, or some of hflip, vflip, quarter, rotate=15, shear=10, crop=0.7. Default: none, for which "
            "frozen features are computed only once.",
            metavar="LIST",
        ),
    ] = None
    class_weights: Annotated[
        Literal["auto", "balanced", "none"] | None,
        typer.Option(
            "--class-weights", help="Let rare classes weigh more. Default: auto (where it is 1.5 to 1 or worse)."
        ),
    ] = None
    val_share: Annotated[
        float | None, typer.Option("--val-share", help="Held back where there is no val/ folder. Default: 0.2.")
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of the split, the new weights and every draw. Default: 0.")
    ] = None


@opt.grouped
def train_command(
    folder: Data,
    choices: Choices,
    model: OneModel = None,
    preset: Preset = None,
    resume: Resume = False,
    fit: opt.Fit = None,
    preprocess: opt.Preprocess = None,
    device: opt.Device = "auto",
    trust: opt.Trust = False,
    report: Report = True,
    out: opt.Out = Path("sightline-training"),
    json: opt.Json = False,
) -> None:
    """Train a classifier on a folder of pictures, and write what explain, evaluate and errors open."""
    from sightline.training.place import has_begun
    from sightline.training.run import train

    settings = _settings(folder, model, preset, choices)
    how = _preprocessing(preprocess, fit, choices.image_size)
    stages: list[str] = []
    try:
        with _shown(stages) as told:
            found = train(
                folder,
                out=out,
                settings=settings,
                resume=resume,
                prepare=how,
                device=device,
                trust=trust,
                report=report,
                told=told,
            )
    except (KeyboardInterrupt, SightlineError):
        if "training" in stages and has_begun(out):
            note(_how_to_go_on())
        raise
    if json:
        print_json(found.to_dict())
    else:
        _print(found)
    raise typer.Exit(_code(found))


def _how_to_go_on() -> str:
    again = [] if "--resume" in sys.argv else ["--resume"]
    return f"what was learned is kept; go on with: {shlex.join(['sightline', *sys.argv[1:], *again])}"


def _settings(folder: str, model: str | None, preset: str | None, choices: Choices) -> Any:
    from sightline.training import presets
    from sightline.training.settings import TrainSettings

    base = presets.preset(preset) if preset else presets.PRESETS.get(folder) or TrainSettings()
    given = {k: v for k, v in vars(choices).items() if v is not None} | ({"model": model} if model else {})
    if given.get("weights", "").casefold() == "none":
        given["weights"] = None
    return dataclasses.replace(base, **given)


def _code(found: Training) -> int:
    if found.fitted.ended == "interrupted":
        return 130
    return 2 if found.fitted.ended == "loss not finite" or found.data.skipped else 0


def _preprocessing(text: str | None, fit: Any, size: int | None) -> Callable[[Preprocessing], Preprocessing]:
    """Return how a model's own preprocessing is changed."""
    if size is not None and text is not None and ("resize" in text or "crop" in text):
        raise ParameterError(f"--image-size {size} and --preprocess {text} came together; give one of them.")

    def changed(usual: Preprocessing) -> Preprocessing:
        found = usual if text is None else parse_preprocessing(text, usual)
        return found if fit is None else found.with_fit(fit)

    return changed


_STAGES = {
    "features": "computing what the frozen layers make of {} examples",
    "validation": "looking at the answers on {} validation examples",
    "test": "looking at the answers on {} test examples",
    "methods": "measuring which explanations can be believed",
}


@contextmanager
def _shown(stages: list[str]) -> Iterator[Told]:
    """Show a bar on a terminal, and a line for each epoch everywhere; each stage's name goes to ``stages``."""
    from sightline.training.job import Told

    def begun(name: str, steps: int) -> None:
        stages.append(name)
        if name in _STAGES:
            note(_STAGES[name].format(steps))

    if not sys.stderr.isatty():
        yield Told(stage=begun, note=note, epoch=lambda row: note(_line(row)))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console(err=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def next_stage(name: str, steps: int) -> None:
            stages.append(name)
            bar.reset(task, description=name, total=steps)

        yield Told(
            stage=next_stage,
            step=lambda steps: bar.advance(task, steps),
            epoch=lambda row: bar.console.print(_line(row)),
            note=bar.console.print,
        )


def _line(row: Row) -> str:
    return (
        f"epoch {row.epoch:3d}  loss {row.loss:.4f}  acc {row.accuracy:.4f}  |  val loss {row.val_loss:.4f}  "
        f"acc {row.val_accuracy:.4f}  {row.seconds:.1f} s"
    )


def _print(found: Training) -> None:
    from sightline.training.history import best_row

    screen, best, kept, ended = console(), best_row(found.fitted.rows), found.best, found.fitted
    one, several = ("SERIES", "series") if found.model.input_dims == 1 else ("IMAGE", "images")
    if ended.why:
        screen.print(f"stopped: {ended.why}")
    screen.print(
        f"kept epoch {kept.epoch} of {len(ended.rows)}: validation accuracy {kept.val_accuracy:.4f} on "
        f"{len(found.data.val)} {several} ({ended.ended})"
    )
    if kept.epoch != best.epoch:
        screen.print(f"the last was asked for; the best was epoch {best.epoch}, {best.val_accuracy:.4f}")
    if found.test_accuracy is not None:
        screen.print(f"test accuracy {found.test_accuracy:.4f} on {len(found.data.parts['test'])} {several}")
    if ended.ended == "interrupted":
        screen.print(_how_to_go_on())
    screen.print(f"→ {found.out}")
    screen.print(f"  sightline explain {one} --model {shlex.quote(str(found.out))}")
