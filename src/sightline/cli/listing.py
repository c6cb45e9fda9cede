"""``sightline methods``, ``models`` and ``layers``: what there is to choose from."""

from __future__ import annotations

from typing import Any

from sightline.cli import options as opt
from sightline.cli.console import console, note, print_json
from sightline.cli.session import Loading, load_models
from sightline.errors import ModelError

__all__ = ["LAYERS_EXAMPLES", "layers_command", "methods_command", "models_command"]

LAYERS_EXAMPLES = """\b
Examples:
  sightline layers resnet50 --weights none
  sightline layers demo/honest --json
"""


def methods_command(json: opt.Json = False) -> None:
    """List the methods, with their parameters and where they come from."""
    from sightline.methods import METHODS

    listed = [_method(m) for m in METHODS.values()]
    if json:
        print_json({"methods": listed})
        return
    _print_methods(listed)


def _method(m: Any) -> dict[str, Any]:
    return {
        "name": m.name,
        "family": m.family,
        "summary": m.summary,
        "reads": list(m.reads),
        "attribution": "input" if m.at == "input" else "layer",
        "parameters": {
            p.name: {"default": p.default, "choices": list(p.choices) or None, "low": p.low, "high": p.high}
            for p in m.parameters.values()
        },
        "cite": m.cite,
    }


def _print_methods(listed: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    screen = console()
    for family in dict.fromkeys(m["family"] for m in listed):
        table = Table(title=family, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for heading in ("method", "what it shows", "from"):
            table.add_column(heading, overflow="fold")
        for m in (m for m in listed if m["family"] == family):
            table.add_row(m["name"], m["summary"], m["cite"])
        screen.print(table)
    screen.print("Parameters and their defaults: sightline methods --json, or docs/methods.md.")


def models_command(json: opt.Json = False) -> None:
    """List the models that can be loaded by name."""
    listed = {"embedded": ["demo/honest", "demo/cheating"], "torchvision": _torchvision_names()}
    if json:
        print_json({"models": listed})
        return
    screen = console()
    for source, known in listed.items():
        screen.print(f"[bold]{source}[/bold]")
        screen.print("  " + (", ".join(known) or "none"))
    screen.print(
        "\nAlso: NAME@WEIGHTS, file.py:function, package.module:function, and any torch.nn.Module from Python."
    )


def _torchvision_names() -> list[str]:
    from sightline.models.zoo import names

    try:
        return names()
    except ModelError as error:
        note(f"note: {error}")
        return []


def layers_command(
    model: opt.ModelName,
    weights: opt.Weights = "default",
    labels: opt.LabelsFile = None,
    trust: opt.Trust = False,
    device: opt.Device = "auto",
    fit: opt.Fit = None,
    preprocess: opt.Preprocess = None,
    max_pixels: opt.MaxPixels = opt.MAX_PIXELS,
    seed: opt.Seed = 0,
    json: opt.Json = False,
) -> None:
    """List a model's layers in execution order, with shapes; the default layer of CAMs is marked."""
    loading = Loading(weights, labels, trust, device, fit, preprocess, max_pixels, seed)
    found = {name: _layers(m) for name, m in load_models(model, loading).items()}
    if json:
        print_json({"models": found})
        return
    for name, about in found.items():
        _print_layers(name, about)


def _layers(model: Any) -> dict[str, Any]:
    layers = [
        {
            "name": layer.name,
            "type": layer.kind,
            "shape": list(layer.shape[1:]),
            "map": list(layer.spatial) if layer.spatial else None,
            "default": layer.default,
        }
        for layer in model.layers()
    ]
    return {
        "weights": model.weights,
        "preprocessing": model.preprocessing.describe(),
        "classes": len(model.labels) or None,
        "labels": list(model.labels.names),
        "layers": layers,
    }


def _print_layers(name: str, about: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(title=f"{name} · weights {about['weights']}", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("layer", "type", "output", "map"):
        table.add_column(heading, overflow="fold")
    for layer in about["layers"]:
        size = "x".join(map(str, layer["map"])) if layer["map"] else ""
        mark = " ← default" if layer["default"] else ""
        table.add_row(layer["name"], layer["type"], "x".join(map(str, layer["shape"])), size + mark)
    screen = console()
    screen.print(table)
    screen.print(f"preprocessing: {about['preprocessing']}", markup=False)
    screen.print(f"class names: {about['classes'] or 'none'}", markup=False)
