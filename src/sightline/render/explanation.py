"""Draw an `Explanation`: the bridge from the result to the pictures, which know only numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.errors import InputError, ParameterError
from sightline.render import (
    activation_grid,
    alpha_scaled,
    card,
    contours,
    explanation_html,
    heatmap_image,
    masked,
    overlay,
    png_bytes,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from sightline.explanation import Draw, Explanation

__all__ = ["clip_percentile", "draw_explanation", "explanation_as_html", "photo_of", "title_of"]

_PIXEL_PERCENTILE = 99.5
_DRAWS = ("card", "overlay", "heatmap", "masked", "alpha", "contours", "channels")


def clip_percentile(e: Explanation) -> float:
    """Return the percentile beyond which values are clipped: pixel maps have outliers, layer maps do not."""
    return 100.0 if e.layer is not None and not e.per_channel else _PIXEL_PERCENTILE


def photo_of(e: Explanation) -> np.ndarray:
    """Return the photo (H, W[, C]) to draw on, or white where the input is no picture.

    Raises InputError for what has no two-dimensional map, such as a signal.
    """
    if e.heatmap.ndim != 2:
        raise InputError(
            f"a map of shape {e.heatmap.shape} is no picture; read explanation.heatmap, or save it as .npz."
        )
    return e.image if e.image is not None else np.full((*e.heatmap.shape, 3), 255, np.uint8)


def title_of(e: Explanation) -> str:
    """Return the question that the explanation answers, with the score or probability."""
    said = (e.target.index, e.target.label)
    chance = next((p["probability"] for p in e.predictions if (p["index"], p["label"]) == said), None)
    number = f"{chance:.2f}" if chance is not None else f"score {e.score:.3g}"
    return f"{e.method} · why “{e.target.label}” ({number})?"


def draw_explanation(
    e: Explanation,
    draw: Draw,
    *,
    heatmap_opacity: float = 0.5,
    colormap: str | None = None,
    percentile: float | None = None,
) -> Image:
    """Draw an explanation as `Explanation.render` describes.

    Raises ParameterError for an unknown way to draw.
    """
    if draw not in _DRAWS:
        raise ParameterError(f"draw={draw!r}: wanted one of {', '.join(_DRAWS)}.")
    if draw == "channels" or e.method == "activations":
        maps = e.attribution if e.attribution.ndim == 3 else e.attribution[None]
        return activation_grid(maps, title=f"{e.method} · {e.layer or 'input'}", colormap=colormap)
    photo, clip = photo_of(e), clip_percentile(e) if percentile is None else percentile
    looks: dict[str, Any] = {"style": e.style, "colormap": colormap, "percentile": clip}
    if draw == "overlay":
        return overlay(photo, e.heatmap, heatmap_opacity=heatmap_opacity, **looks)
    if draw == "heatmap":
        return heatmap_image(e.heatmap, **looks)
    if draw == "masked":
        return masked(photo, e.heatmap, percentile=clip)
    if draw == "alpha":
        return alpha_scaled(photo, e.heatmap, percentile=clip)
    if draw == "contours":
        return contours(photo, e.heatmap, **looks)
    return _card(e, photo, heatmap_opacity, looks)


def _card(e: Explanation, photo: np.ndarray, heatmap_opacity: float, looks: dict[str, Any]) -> Image:
    label = e.target.label
    return card(
        photo,
        e.heatmap,
        title=title_of(e),
        subtitle=_subtitle(e),
        notes=_card_notes(e),
        predictions=[(p["label"], p["probability"]) for p in e.predictions],
        explained=label,
        heatmap_opacity=heatmap_opacity,
        ends=(f"against “{label}”", f"for “{label}”") if e.style == "diverging" else None,
        **looks,
    )


def _card_notes(e: Explanation) -> list[str]:
    return [n for n in e.notes if "zero everywhere" not in n]  # the card says that by itself


def _subtitle(e: Explanation) -> str:
    about = e.provenance
    parts = [
        about.get("image"),
        f"{about.get('model')} ({about.get('weights')})",
        f"layer {e.layer}" if e.layer else None,
        None if e.completeness is None else f"completeness gap {e.completeness.gap:.1%}",
    ]
    return " · ".join(p for p in parts if p)


def explanation_as_html(e: Explanation) -> str:
    """Return the explanation as a fragment of HTML for notebooks."""
    if e.heatmap.ndim != 2:
        return f"<pre>{np.array2string(e.heatmap, threshold=20)}</pre>"
    return explanation_html(
        png_bytes(draw_explanation(e, "card")),
        [(p["label"], p["probability"]) for p in e.predictions],
        title=title_of(e),
        subtitle=_subtitle(e),
        notes=e.notes,
    )
