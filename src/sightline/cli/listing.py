"""``sightline methods``, ``models`` and ``layers``: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sightline.cli import options as opt
from sightline.cli.console import console, note, print_json
from sightline.cli.session import load_models
from sightline.errors import ModelError

if TYPE_CHECKING:
    from sightline.models.layers import Layer
    from sightline.models.model import Model

__all__ = ["LAYERS_EXAMPLES", "layers_command", "methods_command", "models_command"]

LAYERS_EXAMPLES = """\b
Examples:
  sightline layers resnet50 --weights none
  sightline layers net.h5 --blocks
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
        "summary": m.summary.replace("``", ""),
        "reads": list(m.reads),
        "attribution": "layer" if m.at == "layer" else "input",
        "parameters": {p.name: _parameter(p) for p in m.parameters.values()},
        "cite": m.cite,
    }


def _parameter(p: Any) -> dict[str, Any]:
    choices = list(p.choices) or None
    return {"default": p.default, "choices": choices, "colours": p.colours, "low": p.low, "high": p.high}


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
    screen.print("Parameters and their defaults: sightline methods --json, or docs/methods/.")


def models_command(json: opt.Json = False) -> None:
    """List the models that can be loaded by name."""
    listed = {source: _names(source, names) for source, names in _SOURCES.items()}
    if json:
        print_json({"models": listed})
        return
    screen = console()
    for source, known in listed.items():
        screen.print(f"{source} ({len(known)})", style="bold")
        screen.print("  " + (", ".join(known) or "none"))
    screen.print(
        "\nAlso: a folder that sightline train wrote, a Hugging Face folder or hub name, files (.keras, .h5, .onnx,\n"
        ".pt2, TorchScript), NAME@WEIGHTS, file.py:function, package.module:function, and from Python any torch or\n"
        "Keras model or scoring function.",
        markup=False,
    )


def _names(source: str, names: Callable[[], list[str]]) -> list[str]:
    try:
        return names()
    except ModelError as error:
        note(f"note: {source}: {error}")
        return []


def _keras_names() -> list[str]:
    from sightline.models.keras_zoo import PREFIX, names

    return [PREFIX + name for name in names()]


def _timm_names() -> list[str]:
    from sightline.models.hub import TIMM, timm_names

    return [TIMM + name for name in timm_names()]


def _torchvision_names() -> list[str]:
    from sightline.models.zoo import names

    return names()


def _untrained_names() -> list[str]:
    from sightline.models.architectures import ARCHITECTURES

    return [*ARCHITECTURES]


_SOURCES: Mapping[str, Callable[[], list[str]]] = {
    "embedded": lambda: ["demo/honest", "demo/cheating", "demo/vit", "demo/mnist1d"],
    "untrained, for sightline train": _untrained_names,
    "torchvision": _torchvision_names,
    "keras.applications": _keras_names,
    "timm": _timm_names,
}


@opt.grouped
def layers_command(
    model: opt.ModelName, loading: opt.Loading, blocks: opt.Blocks = False, json: opt.Json = False
) -> None:
    """List a model's layers in execution order, with shapes; the default layer of CAMs is marked."""
    found = {name: _layers(m, blocks) for name, m in load_models(model, loading).items()}
    if json:
        print_json({"models": found})
        return
    for name, about in found.items():
        _print_layers(name, about)


def _layers(model: Model, blocks: bool) -> dict[str, Any]:
    layers = [
        {
            "name": layer.name,
            "type": layer.kind,
            "shape": list(layer.shape[1:]),
            "map": list(layer.spatial) if layer.spatial else None,
            "default": layer.default,
        }
        for layer in (last_of_each_size(model.layers()) if blocks else model.layers())
    ]
    return {
        "weights": model.weights,
        "preprocessing": model.preprocessing.describe(),
        "classes": len(model.labels) or None,
        "labels": list(model.labels.names),
        "layers": layers,
    }


def last_of_each_size(layers: Sequence[Layer]) -> list[Layer]:
    """Return the last layer that has each map size, in execution order."""
    last = {layer.spatial: layer for layer in layers if layer.spatial}
    return [layer for layer in layers if layer in last.values()]


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
    screen.print(f"preprocessing: {about['preprocessing']}")
    screen.print(f"class names: {about['classes'] or 'none'}")
