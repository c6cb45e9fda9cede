"""The options that several commands share, each described once, and groups of them as dataclasses."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

__all__ = [
    "MODEL_HELP",
    "Asking",
    "Blocks",
    "Check",
    "Classes",
    "Colormap",
    "Contrast",
    "Device",
    "Dims",
    "Draw",
    "Fit",
    "Folder",
    "Image",
    "Images",
    "Json",
    "LabelsFile",
    "Layer",
    "Loading",
    "MaxPixels",
    "Methods",
    "ModelName",
    "Models",
    "Most",
    "Opacity",
    "Other",
    "OtherClass",
    "Out",
    "OutPicture",
    "Output",
    "OutputKey",
    "Pairs",
    "Parametrization",
    "Precision",
    "Preprocess",
    "Seed",
    "Set",
    "Size",
    "Steps",
    "SwapLayer",
    "Targets",
    "Tiling",
    "Transforms",
    "Trust",
    "Units",
    "Weights",
    "grouped",
]

MAX_PIXELS = 179_000_000
_KEYWORD = inspect.Parameter.KEYWORD_ONLY

MODEL_HELP = (
    "torchvision name, keras/NAME, timm/NAME, Hugging Face folder or hub name, a folder that sightline train wrote, "
    "a .keras, .h5, .onnx, .pt2 or TorchScript file, NAME@WEIGHTS, file.py:function, package.module:function, "
    "demo/honest, demo/cheating, demo/vit, or demo/mnist1d for series"
)

Images = Annotated[
    list[str],
    typer.Argument(
        help="Image files (JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC), arrays (.npy, .npz or FILE.npz:KEY), or series for "
        "models that take them (also .csv, .tsv, .txt).",
        show_default=False,
    ),
]
Folder = Annotated[
    list[str],
    typer.Argument(metavar="FOLDER", help="A folder with images of the class, or the image files.", show_default=False),
]
Image = Annotated[str, typer.Argument(help="An image file.", show_default=False)]
Models = Annotated[
    str,
    typer.Option("--model", "-m", help=f"One or more, separated by commas: {MODEL_HELP}.", show_default=False),
]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help=f"The model: {MODEL_HELP}.", show_default=False)]
Classes = Annotated[
    str | None,
    typer.Option("--target", "-t", help="An index or a label; several separated by commas.", metavar="CLASS"),
]
Units = Annotated[
    list[str] | None,
    typer.Option("--unit", "-u", help="A channel of a layer, as features.5:12; may be repeated.", metavar="LAYER:N"),
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="How many steps of gradient ascent.")]
Size = Annotated[
    int | None, typer.Option("--size", min=1, help="The picture's side in pixels; by default the model's.")
]
Parametrization = Annotated[
    Literal["fourier", "pixel"],
    typer.Option("--parametrization", help="What is changed: a picture's frequencies, or its pixels."),
]
Transforms = Annotated[
    bool, typer.Option("--transforms/--no-transforms", help="See the picture a little moved at each step.")
]
Other = Annotated[str, typer.Argument(metavar="OTHER", help="An image of another class.", show_default=False)]
OtherClass = Annotated[
    str, typer.Option("--target", "-t", help="The class to reach: what the model says of OTHER, an index or a label.")
]
SwapLayer = Annotated[
    str | None,
    typer.Option("--layer", "-l", help="The layer whose cells are swapped (sightline layers MODEL)."),
]
Most = Annotated[int | None, typer.Option("--most", min=1, help="Give up after so many swaps.")]
Pairs = Annotated[int, typer.Option("--pairs", min=1, help="Try no more pairs of cells than this at each step.")]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        "-w",
        help="A weights file, the name of published weights, or none for random ones.",
        metavar="FILE",
    ),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option("--labels", help="Class names: JSON, or text with one name a line.", metavar="FILE"),
]
Methods = Annotated[str, typer.Option("--method", "-M", help="One or more, separated by commas (sightline methods).")]
Targets = Annotated[
    str,
    typer.Option("--target", "-t", help="top1, top3, an index, a label or label:7; several separated by commas."),
]
Contrast = Annotated[
    str | None,
    typer.Option("--contrast", "-c", help="Explain why the target rather than this class.", metavar="CLASS"),
]
Layer = Annotated[
    str | None,
    typer.Option("--layer", "-l", help="The layer that CAMs read (sightline layers MODEL); several are fused."),
]
OutputKey = Annotated[
    str | None,
    typer.Option("--output-key", help="Which of a model's several outputs are the class scores.", metavar="KEY"),
]
Dims = Annotated[
    int | None,
    typer.Option("--dims", min=1, max=3, help="1 for series, 2 for pictures, 3 for volumes, if the model hides it."),
]
Blocks = Annotated[bool, typer.Option("--blocks", help="Only the last layer of each map size.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="A method's parameter, name=value or method.name=value; may be repeated."),
]
Output = Annotated[
    Literal["logit", "probability", "log_probability"],
    typer.Option("--output", help="The score that is explained."),
]
Precision = Annotated[
    Literal["model", "float64", "float32", "bfloat16", "float16", "auto"],
    typer.Option(
        "--precision",
        help="The numbers' precision; model is that of the weights. auto sweeps in bfloat16 where that is faster and "
        "the scores agree.",
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", "-d", help="Where to compute.")]
Fit = Annotated[
    Literal["crop", "squash", "pad"] | None,
    typer.Option("--fit", help="How a photo meets the model's input size; by default as the weights ask."),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="SPEC",
        help="Override the preprocessing, as resize=256,crop=224,mean=0.5/0.5/0.5,std=0.5/0.5/0.5.",
    ),
]
MaxPixels = Annotated[int, typer.Option("--max-pixels", help="Refuse larger images.", min=1)]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="The seed of everything random.")]
Trust = Annotated[bool, typer.Option("--trust", help="Load a file that runs code; only if you know who made it.")]
Tile = Annotated[
    int | None,
    typer.Option("--tile", min=8, metavar="PIXELS", help="Explain large pictures in tiles of this side, put together."),
]
Overlap = Annotated[
    float, typer.Option("--overlap", min=0.0, max=0.9, help="The share of a tile that it has in common with the next.")
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Ask of each map whether it can be believed: five checks, about eleven more explanations and 10 passes.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The directory for the results.", metavar="DIR")]
OutPicture = Annotated[Path, typer.Option("--out", "-o", help="A directory, or a name that ends in .png.")]
Draw = Annotated[
    Literal["card", "overlay", "heatmap", "masked", "alpha", "contours", "channels"],
    typer.Option("--draw", help="What the PNG shows; card has the photo, the overlay, a legend and the predictions."),
]
Opacity = Annotated[
    float,
    typer.Option("--heatmap-opacity", min=0.0, max=1.0, help="The heatmap's opacity; 1 hides the photo."),
]
Colormap = Annotated[str | None, typer.Option("--colormap", help="Any of matplotlib's, such as turbo or viridis.")]


@dataclasses.dataclass(frozen=True)
class Loading:
    """The options with which models are loaded."""

    weights: Weights = "default"
    labels: LabelsFile = None
    trust: Trust = False
    device: Device = "auto"
    fit: Fit = None
    preprocess: Preprocess = None
    output_key: OutputKey = None
    dims: Dims = None
    max_pixels: MaxPixels = MAX_PIXELS
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class Asking:
    """The options of what is explained, but for the methods, whose default is each command's own."""

    target: Targets = "top1"
    contrast: Contrast = None
    layer: Layer = None
    set_: Set = None
    output: Output = "logit"
    precision: Precision = "model"


@dataclasses.dataclass(frozen=True)
class Tiling:
    """The options with which large pictures are cut into tiles."""

    tile: Tile = None
    overlap: Overlap = 0.25


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of options: each of their fields becomes an option of its own."""
    hints = typing.get_type_hints(command, include_extras=True)
    listed = inspect.signature(command).parameters.values()
    groups = {p.name: hints[p.name] for p in listed if dataclasses.is_dataclass(hints[p.name])}
    plain = [p.replace(kind=_KEYWORD, annotation=hints[p.name]) for p in listed if p.name not in groups]
    needed = [p for p in plain if p.default is p.empty]
    optional = [p for p in plain if p.default is not p.empty]
    grown = [*needed, *optional[:1], *(f for g in groups.values() for f in _fields(g)), *optional[1:]]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        made = {n: g(**{f.name: given.pop(f.name) for f in dataclasses.fields(g)}) for n, g in groups.items()}
        command(**made, **given)

    del run.__wrapped__
    run.__signature__ = inspect.Signature(grown)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in grown}
    return run


def _fields(group: type[Any]) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(f.name, _KEYWORD, default=f.default, annotation=hints[f.name])
        for f in dataclasses.fields(group)
    ]
