"""One labelled picture for methods × models × targets on one image, with the prediction tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sightline.errors import ParameterError, RefusedError, SightlineError
from sightline.render import grid, legend, prediction_table

if TYPE_CHECKING:
    from PIL import Image

    from sightline.explanation import Explanation, Style
    from sightline.models.model import Model

__all__ = ["Comparison", "compare", "map_cell", "photo_cell", "style_legend"]

_NOUNS = {1: "series", 3: "volume"}


@dataclass(frozen=True, eq=False)
class Comparison:
    """The picture, the explanations in it, and what was refused with the reason."""

    picture: Image.Image
    explanations: Sequence[tuple[str, Explanation]]
    refused: Sequence[tuple[str, str, SightlineError]]


def compare(
    models: Any,
    image: Any,
    method: str | Sequence[str] = "grad_cam",
    target: Any = "top1",
    *,
    heatmap_opacity: float = 0.5,
    colormap: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    tick: Callable[[int], None] | None = None,
    **options: Any,
) -> Comparison:
    """Explain one image by several methods, models and targets and lay the maps out in one labelled grid.

    ``models`` is a model, a name or a mapping from names to models; ``options`` are those of `explain` (layer,
    contrast, output, precision, seed, ...). Raises what `explain` raises, but for a refusal, which fills its cell.

    >>> from sightline.demo.scenes import scene
    >>> compare("demo/honest", scene(0).image, "grad_cam,gradient").picture.mode
    'RGB'
    """
    from sightline.engine import explanations

    found: list[tuple[str, Explanation]] = []
    refused: list[tuple[str, str, SightlineError]] = []
    for name, model in _loaded(models).items():

        def on_failure(failure: Any, name: str = name) -> None:
            if not isinstance(failure.error, RefusedError):
                raise failure.error
            refused.append((name, failure.method, failure.error))

        run = explanations(
            model, [image], method, target, parameters=parameters, on_failure=on_failure, tick=tick, **options
        )
        found += [(name, e) for _, e in run]
    if not found:
        raise refused[0][2] if refused else ParameterError("nothing was asked for.")
    return Comparison(_picture(found, refused, heatmap_opacity, colormap), found, refused)


def _loaded(models: Any) -> dict[str, Model]:
    from sightline.models.load import load

    if isinstance(models, Mapping):
        return {str(name): load(m) for name, m in models.items()}
    one = load(models)
    return {one.name: one}


def _picture(
    found: Sequence[tuple[str, Explanation]],
    refused: Sequence[tuple[str, str, SightlineError]],
    opacity: float,
    colormap: str | None,
) -> Image.Image:
    rows = list(dict.fromkeys((name, e.target.label) for name, e in found))
    methods = list(dict.fromkeys([e.method for _, e in found] + [m for _, m, _ in refused]))
    cells = {(name, e.target.label, e.method): map_cell(e, opacity, colormap) for name, e in found}
    reasons = {(name, m): f"refused: {error}" for name, m, error in refused}
    first = {(name, label): e for name, e in reversed(found) for label in [e.target.label]}
    short = _short_names(found)
    body = [
        [
            photo_cell(first[row]),
            _table(first[row]),
            *[cells.get((*row, m)) or reasons.get((row[0], m)) for m in methods],
        ]
        for row in rows
    ]
    return grid(
        body,
        row_labels=[f"{short[name]}: {label}" if len(short) > 1 else label for name, label in rows],
        column_labels=[_NOUNS.get(found[0][1].heatmap.ndim, "photo"), "predictions", *methods],
        title=_title(found, short),
        legends=_legends([e for _, e in found], colormap),
    )


def _short_names(found: Sequence[tuple[str, Explanation]]) -> dict[str, str]:
    """Name each model without its files' directories; models of one name are told apart by their weights."""
    names = {given: str(e.provenance.get("model")) for given, e in found}
    weights = {given: str(e.provenance.get("weights")) for given, e in found}
    twice = {n for n in names.values() if list(names.values()).count(n) > 1}
    return {given: f"{name} {weights[given]}" if name in twice else name for given, name in names.items()}


def _title(found: Sequence[tuple[str, Explanation]], short: Mapping[str, str]) -> str:
    models = " · ".join(dict.fromkeys(f"{short[name]} ({e.provenance.get('weights')})" for name, e in found))
    image = found[0][1].provenance.get("image")
    return f"{image} · {models}" if image else models


def photo_cell(e: Explanation) -> Image.Image:
    """Return what was explained as an RGB picture: the photo, the line of a series, a slice of a volume."""
    from sightline.render.explanation import photo_picture

    return photo_picture(e)


def _table(e: Explanation) -> Image.Image:
    return prediction_table([(p["label"], p["probability"]) for p in e.predictions], explained=e.target.label)


def map_cell(e: Explanation, opacity: float = 0.5, colormap: str | None = None) -> Image.Image:
    """Draw an explanation's map for a cell: over what was explained, or alone where it is a grey one."""
    from sightline.render.explanation import map_picture

    return map_picture(e, opacity, colormap)


def _legends(found: Sequence[Explanation], colormap: str | None) -> list[Image.Image]:
    styles: list[Style] = list(dict.fromkeys(e.style for e in found))
    unseen = any(bool((e.heatmap != e.heatmap).any()) for e in found)
    series = any(e.heatmap.ndim == 1 for e in found)
    return [style_legend(s, colormap, not_seen=unseen and s == styles[0], series=series) for s in styles]


def style_legend(
    style: Style, colormap: str | None = None, *, not_seen: bool = False, series: bool = False
) -> Image.Image:
    """Draw the legend of a style's cells; pixel maps are clipped at a percentile, and it says so."""
    clipped = style != "sequential" and not series
    signed = style == "diverging"
    return legend(
        (-1.0, 1.0) if signed else (0.0, 1.0),
        style=style,
        width=320,
        colormap=colormap,
        share_of="the 99.5th percentile" if clipped else "the largest value",
        beyond=(signed and clipped, clipped),
        not_seen=not_seen,
    )
