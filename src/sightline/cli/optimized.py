"""``sightline maximize`` and ``counterfactual``: pictures that are searched for, not maps of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, file_part, print_json, progress
from sightline.cli.explain import short_name
from sightline.cli.session import Report, load_models
from sightline.errors import ParameterError, SightlineError

if TYPE_CHECKING:
    from sightline.counterfactuals import Counterfactual
    from sightline.maximized import Maximized
    from sightline.models.model import Model
    from sightline.targets import Target

__all__ = ["COUNTERFACTUAL_EXAMPLES", "MAXIMIZE_EXAMPLES", "counterfactual_command", "maximize_command"]

MAXIMIZE_EXAMPLES = """\b
Examples:
  sightline maximize resnet50 --target "tiger cat,doormat"
  sightline maximize mobilenet_v2 --unit features.10:3 --unit features.14:40 --size 160 --out units
  sightline maximize demo/cheating --target star --steps 128 --json
"""

COUNTERFACTUAL_EXAMPLES = """\b
Examples:
  sightline counterfactual dog.jpg cat.jpg --model resnet50
  sightline counterfactual dog.jpg cat.jpg --model resnet50 --layer layer3 --pairs 1000 --out why-not.png --json
"""


@opt.grouped
def maximize_command(
    model: opt.ModelName,
    loading: opt.Loading,
    target: opt.Classes = None,
    unit: opt.Units = None,
    steps: opt.Steps = 256,
    size: opt.Size = None,
    parametrization: opt.Parametrization = "fourier",
    transforms: opt.Transforms = True,
    output: opt.Output = "logit",
    out: opt.Out = Path("sightline-output"),
    json: opt.Json = False,
) -> None:
    """Draw the picture that a class, or a channel of a layer, answers to most: a card and the numbers for each."""
    units = [_unit(text) for text in unit or ()]
    if target is None and not units:
        raise ParameterError("what is to be maximized? Give --target CLASS or --unit LAYER:N.")
    how = {"steps": steps, "size": size, "parametrization": parametrization, "transforms": transforms, "output": output}
    report, made = Report(), list[dict[str, Any]]()
    for name, loaded in load_models(model, loading).items():
        made += _maximized(name, loaded, [*_classes(target, loaded), *units], how | {"seed": loading.seed}, out, report)
    if json:
        print_json({"maximized": made, "errors": report.errors})
    else:
        for entry in made:
            _say(entry["target"]["label"], f"score {entry['score']:.4g}", entry)
    raise typer.Exit(report.exit_code)


def _unit(text: str) -> Target:
    from sightline.targets import unit

    layer, _, channel = text.rpartition(":")
    if not layer or not channel.isdigit():
        raise ParameterError(f"--unit {text}: wanted LAYER:N, a layer and the number of its channel, as features.5:12.")
    return unit(layer, int(channel))


def _classes(said: str | None, model: Model) -> list[str]:
    from sightline.targets import split_targets

    return [] if said is None else split_targets(said, model.labels)


def _maximized(
    name: str, model: Model, targets: list[Target], how: dict[str, Any], out: Path, report: Report
) -> list[dict[str, Any]]:
    from sightline.maximized import maximize

    made = []
    with progress(len(targets)) as bar:
        for target in targets:
            try:
                found = maximize(model, target, tick=bar.tick, **how)
            except SightlineError as error:
                report.fail(None, error)
            else:
                made.append(_kept(name, found, out))
            bar.done()
    return made


def _kept(name: str, found: Maximized, out: Path) -> dict[str, Any]:
    stem = ".".join(file_part(part) for part in (short_name(name), "maximize", found.target.label))
    files = {kind: str(found.save(out / f"{stem}.{kind}")) for kind in ("png", "npz")}
    return found.to_dict() | {"model": name, "files": files}


@opt.grouped
def counterfactual_command(
    image: opt.Image,
    other: opt.Other,
    model: opt.Models,
    loading: opt.Loading,
    target: opt.OtherClass = "top1",
    layer: opt.SwapLayer = None,
    most: opt.Most = None,
    pairs: opt.Pairs = 2500,
    out: opt.OutPicture = Path("sightline-output"),
    json: opt.Json = False,
) -> None:
    """Swap regions of an image for regions of another until the model says what the other is: which parts decide."""
    from sightline.counterfactuals import counterfactual

    report, made = Report(), list[dict[str, Any]]()
    models = load_models(model, loading)
    if out.suffix.casefold() in (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"):
        raise ParameterError(f"--out {out}: the picture is a PNG; wanted a directory, or a name that ends in .png.")
    if len(models) > 1 and out.suffix.casefold() == ".png":
        raise ParameterError(
            f"--out {out}: one picture cannot hold the results of {len(models)} models; give a directory."
        )
    for name, loaded in models.items():
        try:
            with progress(1) as bar:
                found = counterfactual(
                    loaded, image, other, target=target, layer=layer, most=most, pairs=pairs, tick=bar.tick
                )
        except SightlineError as error:
            report.fail(image, error)
        else:
            made.append(_saved(name, (image, other), found, out))
    if json:
        print_json({"counterfactuals": made, "errors": report.errors})
    else:
        for entry in made:
            _say(f"{entry['source']['label']} → {entry['target']['label']}", f"{len(entry['swaps'])} swaps", entry)
    raise typer.Exit(report.exit_code)


def _saved(name: str, images: tuple[str, str], found: Counterfactual, out: Path) -> dict[str, Any]:
    stem = ".".join(file_part(part) for part in (Path(images[0]).stem, Path(images[1]).stem, short_name(name)))
    file = out if out.suffix.casefold() == ".png" else out / f"{stem}.counterfactual.png"
    files = {"png": str(found.save(file)), "json": str(found.save(file.with_suffix(".json")))}
    return found.to_dict() | {"model": name, "image": images[0], "other": images[1], "files": files}


def _say(what: str, how: str, entry: dict[str, Any]) -> None:
    screen = console()
    screen.print(f"{entry['model']} · {what} · {how} → {entry['files']['png']}")
    for text in entry["notes"]:
        screen.print(f"  note: {text}")
