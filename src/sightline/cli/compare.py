"""``sightline compare``: one labelled picture of methods × models × targets on one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, file_part, predictions_table, print_json, progress
from sightline.cli.explain import Asked, asked_for, entry
from sightline.cli.session import Report, load_models
from sightline.errors import SightlineError
from sightline.output import written

if TYPE_CHECKING:
    from sightline.models.model import Model
    from sightline.render.compare import Comparison

__all__ = ["EXAMPLES", "compare_command"]

EXAMPLES = """\b
Examples:
  sightline compare photo.jpg --model resnet18,resnet152 --method grad_cam,guided_backprop
  sightline compare photo.jpg --model resnet50 --target "doormat,tiger cat" --out why.png
"""


@opt.grouped
def compare_command(
    image: opt.Image,
    model: opt.Models,
    asking: opt.Asking,
    loading: opt.Loading,
    method: opt.Methods = "grad_cam,guided_backprop,integrated_gradients",
    heatmap_opacity: opt.Opacity = 0.5,
    colormap: opt.Colormap = None,
    out: opt.OutPicture = Path("sightline-output"),
    json: opt.Json = False,
) -> None:
    """Lay the maps of several methods, models and targets for one image out in one labelled picture."""
    asked = asked_for(method, asking, loading)
    models = load_models(model, loading)
    found = _compare(models, image, asked, heatmap_opacity, colormap)
    file = out if out.suffix.casefold() == ".png" else out / f"{file_part(Path(image).stem)}.compare.png"
    with written(file) as aside:
        found.picture.save(aside)
    report = _report(image, found, file)
    if json:
        print_json(report.to_dict())
    else:
        _print(report, file)
    raise typer.Exit(report.exit_code)


def _compare(models: dict[str, Model], image: str, asked: Asked, opacity: float, colormap: str | None) -> Comparison:
    from sightline.render.compare import compare
    from sightline.targets import split_targets

    labels = next(iter(models.values())).labels
    with progress(1) as bar:
        return compare(
            models,
            image,
            asked.methods,
            split_targets(asked.targets, labels),
            heatmap_opacity=opacity,
            colormap=colormap,
            parameters=asked.parameters,
            tick=bar.tick,
            contrast=asked.contrast,
            layer=asked.layer.split(",") if asked.layer else None,
            output=asked.output,
            precision=asked.precision,
            seed=asked.seed,
        )


def _report(image: str, found: Comparison, file: Path) -> Report:
    report = Report()
    for name, e in found.explanations:
        report.predictions.setdefault(name, {}).setdefault(image, [dict(p) for p in e.predictions])
        report.explanations.append(entry(name, image, e) | {"files": {"png": str(file), "npz": None}})
    for name, _, error in found.refused:
        report.fail(image, SightlineError(f"{name}: {error}"))
    return report


def _print(report: Report, file: Path) -> None:
    screen = console()
    for name, images in report.predictions.items():
        for image, predictions in images.items():
            screen.print(predictions_table(f"{image} · {name}", predictions))
    screen.print(f"{len(report.explanations)} maps → {file}")
