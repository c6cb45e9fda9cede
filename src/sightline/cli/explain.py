"""``sightline explain``: pictures and predictions for images, methods, targets and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, file_part, predictions_table, print_json, progress
from sightline.cli.session import Report, load_models, parse_parameters
from sightline.output import written

if TYPE_CHECKING:
    from sightline.explanation import Explanation
    from sightline.models.model import Model

__all__ = ["EXAMPLES", "Asked", "asked_for", "entry", "explain_command", "run", "short_name"]

EXAMPLES = """\b
Examples:
  sightline explain photo.jpg --model resnet50
  sightline explain *.jpg --model resnet50 --method grad_cam,integrated_gradients --target top3 --out results
  sightline explain photo.jpg --model resnet50 --check
  sightline explain tile.png --model net.h5 --labels names.txt
  sightline explain slide.tif --model net.h5 --labels names.txt --tile 224 --overlap 0.25
  sightline explain series.csv --model net.keras --method integrated_gradients
  sightline explain photo.jpg --model resnet18@my.safetensors --labels names.txt --target "tiger cat" --json
"""


@dataclass(frozen=True)
class Asked:
    """What is to be explained, as the options say."""

    methods: str
    targets: str
    contrast: str | None = None
    layer: str | None = None
    output: Any = "logit"
    precision: Any = "model"
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tile: int | None = None
    overlap: float = 0.25
    check: bool = False


@dataclass(frozen=True)
class _Writing:
    out: Path
    draw: Any
    opacity: float
    colormap: str | None
    taken: set[str] = field(default_factory=set)


@opt.grouped
def explain_command(
    images: opt.Images,
    model: opt.Models,
    asking: opt.Asking,
    loading: opt.Loading,
    tiling: opt.Tiling,
    method: opt.Methods = "grad_cam",
    check: opt.Check = False,
    draw: opt.Draw = "card",
    heatmap_opacity: opt.Opacity = 0.5,
    colormap: opt.Colormap = None,
    out: opt.Out = Path("sightline-output"),
    json: opt.Json = False,
) -> None:
    """Show what in each image made the model say that: a picture and the numbers for every method and target."""
    asked = replace(asked_for(method, asking, loading), tile=tiling.tile, overlap=tiling.overlap, check=check)
    report = Report()
    writing = _Writing(out, draw, heatmap_opacity, colormap)
    for name, loaded in load_models(model, loading).items():
        run(name, loaded, images, asked, report, lambda n, given, e: _keep(n, given, e, report, writing))
    if json:
        print_json(report.to_dict())
    else:
        _print(report)
    raise typer.Exit(report.exit_code)


def asked_for(methods: str, asking: opt.Asking, loading: opt.Loading) -> Asked:
    """Return what is asked for; unknown methods and parameters are refused before a model is loaded."""
    from sightline.methods import find_methods, resolve_parameters

    parameters = parse_parameters(asking.set_)
    resolve_parameters(find_methods(methods), parameters)
    how = asking.output, asking.precision, loading.seed
    return Asked(methods, asking.target, asking.contrast, asking.layer, *how, parameters)


def run(name: str, model: Model, images: list[str], asked: Asked, report: Report, keep: Any) -> None:
    """Explain the images with one model: every explanation goes to ``keep``, every failure to the report."""
    from sightline.engine import explanations
    from sightline.methods import find_methods
    from sightline.targets import split_targets

    targets = split_targets(asked.targets, model.labels)
    total = len(images) * len(find_methods(asked.methods)) * len(targets)
    predictions = report.predictions.setdefault(name, {})
    with progress(total) as bar:
        found = explanations(
            model,
            images,
            asked.methods,
            targets,
            contrast=asked.contrast,
            layer=asked.layer.split(",") if asked.layer else None,
            output=asked.output,
            precision=asked.precision,
            seed=asked.seed,
            parameters=asked.parameters,
            tile=asked.tile,
            overlap=asked.overlap,
            check=asked.check,
            on_failure=lambda failure: report.fail(failure.image, failure.error),
            tick=bar.tick,
        )
        for given, explanation in found:
            predictions.setdefault(given, [dict(p) for p in explanation.predictions])
            keep(name, given, explanation)
            bar.done()


def _keep(name: str, given: str, e: Explanation, report: Report, writing: _Writing) -> None:
    stem = _stem(name, given, e, writing.taken)
    png = writing.out / f"{stem}.png"
    with written(png) as aside:
        e.render(writing.draw, heatmap_opacity=writing.opacity, colormap=writing.colormap).save(aside)
    npz = e.save(writing.out / f"{stem}.npz")
    report.explanations.append(entry(name, given, e) | {"files": {"png": str(png), "npz": str(npz)}})


def entry(name: str, given: str, e: Explanation) -> dict[str, Any]:
    """Return what ``--json`` says of one explanation."""
    about = e.to_dict()
    keys = (
        "method",
        "target",
        "score",
        "layer",
        "parameters",
        "coverage",
        "completeness",
        "standard_error",
        "notes",
        "check",
    )
    return {"image": given, "model": name, **{k: about[k] for k in keys}}


def _checks(card: Mapping[str, Any] | None) -> list[str]:
    if card is None:
        return []
    from sightline.evaluation.card import TrustCard

    return str(TrustCard.from_dict(card)).splitlines()


def _stem(name: str, given: str, e: Explanation, taken: set[str]) -> str:
    """Name the files of one explanation; a second one of the same name gets a number."""
    parts = (Path(given).stem, short_name(name), e.method, e.target.label)
    stem = base = ".".join(file_part(p) for p in parts)
    number = 2
    while stem.casefold() in taken:
        stem, number = f"{base}.{number}", number + 1
    taken.add(stem.casefold())
    return stem


def short_name(name: str) -> str:
    """Return a model's name without its weights and, where it is a file or folder, without the folders above it."""
    base = name.partition("@")[0]
    return Path(base).name if Path(base.partition(":")[0]).exists() else base


def _print(report: Report) -> None:
    screen = console()
    for name, images in report.predictions.items():
        for image, predictions in images.items():
            screen.print(predictions_table(f"{image} · {name}", predictions))
            for e in report.explanations:
                if (e["model"], e["image"]) == (name, image):
                    screen.print(f"  {e['method']} · {e['target']['label']} → {e['files']['png']}")
                    for text in (*(f"note: {n}" for n in e["notes"]), *_checks(e["check"])):
                        screen.print(f"    {text}")
            screen.print()
