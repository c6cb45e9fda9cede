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
from sightline.render.checks import Check, Checks
from sightline.render.photo import channels_note, rgb, shown_channels
from sightline.render.signal import channel_rows, signal_card, signal_cell, signal_plot
from sightline.render.volume import strongest_slices, volume_card, volume_cell, volume_strip

if TYPE_CHECKING:
    from PIL.Image import Image

    from sightline.evaluation.card import TrustCard
    from sightline.explanation import Draw, Explanation

__all__ = [
    "BY_CHANNEL",
    "clip_percentile",
    "draw_explanation",
    "explanation_as_html",
    "map_picture",
    "photo_of",
    "photo_picture",
    "title_of",
]

_PIXEL_PERCENTILE = 99.5
_DRAWS = ("card", "overlay", "heatmap", "masked", "alpha", "contours", "channels")
BY_CHANNEL = ("activations", "deep_feature_factorization")
_SIGNAL_DRAWS: dict[str, Any] = {"overlay": "line", "heatmap": "bars"}
_VOLUME_VIEWS: dict[str, Any] = {"alpha": "alpha_scaled"}


def clip_percentile(e: Explanation) -> float:
    """Return the percentile beyond which values are clipped: pixel maps have outliers, layer maps do not.

    Nor is a series clipped: its points are few, and the peak is what is looked for.
    """
    of_a_layer = e.layer is not None and not e.per_channel
    return 100.0 if of_a_layer or len(e.input_size) == 1 else _PIXEL_PERCENTILE


def photo_of(e: Explanation) -> np.ndarray:
    """Return the photo (H, W[, 3 or 4]) to draw on, or white where nothing of the input was kept.

    Other numbers of channels are shown by the first three. Raises InputError for what has no two-dimensional map.
    """
    if e.heatmap.ndim != 2:
        raise InputError(
            f"a map of shape {e.heatmap.shape} is no picture; read explanation.heatmap, or save it as .npz."
        )
    planes = _many_channels(e)
    if planes is not None:
        return shown_channels(planes)
    return e.image if e.image is not None else np.full((*e.heatmap.shape, 3), 255, np.uint8)


def _many_channels(e: Explanation) -> np.ndarray | None:
    """Return the channels (C, H, W) of a picture that is neither grey nor in colours, None for others."""
    if e.image is not None:
        return np.moveaxis(e.image, -1, 0) if e.image.ndim == 3 and e.image.shape[2] not in (3, 4) else None
    return e.signal if e.signal is not None and e.signal.shape[1:] == e.heatmap.shape else None


def photo_picture(e: Explanation) -> Image:
    """Return what was explained as a small RGB picture: the photo, the line of a series, a slice of a volume."""
    if e.heatmap.ndim == 1:
        return signal_cell(e.signal, None)
    if e.heatmap.ndim == 3:
        return volume_cell(e.signal, e.heatmap, style=e.style, view=None)
    return rgb(photo_of(e))


def map_picture(e: Explanation, opacity: float, colormap: str | None) -> Image:
    """Return the map as a small picture: over what was explained, or alone where it is a grey one."""
    looks: dict[str, Any] = {"style": e.style, "colormap": colormap, "percentile": clip_percentile(e)}
    if e.heatmap.ndim == 1:
        return signal_cell(e.signal, _signal_maps(e), **looks)
    if e.heatmap.ndim == 3:
        view: Any = "heatmap" if e.style == "grey" else "overlay"
        return volume_cell(e.signal, e.heatmap, view=view, heatmap_opacity=opacity, **looks)
    if e.style == "grey":
        return heatmap_image(e.heatmap, **looks)
    return overlay(photo_of(e), e.heatmap, heatmap_opacity=opacity, **looks)


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
    threshold: float = 0.0,
) -> Image:
    """Draw an explanation as `Explanation.render` describes.

    Raises ParameterError for an unknown way to draw, or one that a series has not; InputError for a map of no or
    of more than three dimensions.
    """
    if draw not in _DRAWS:
        raise ParameterError(f"draw={draw!r}: wanted one of {', '.join(_DRAWS)}.")
    if e.heatmap.ndim not in (1, 2, 3):
        raise InputError(
            f"a map of shape {e.heatmap.shape} cannot be drawn; read explanation.heatmap, or save it as .npz."
        )
    clip = clip_percentile(e) if percentile is None else percentile
    looks: dict[str, Any] = {"style": e.style, "colormap": colormap, "percentile": clip}
    if e.heatmap.ndim == 1:
        return _drawn_signal(e, draw, looks)
    if draw == "channels" or e.method in BY_CHANNEL:
        return _channels(e, colormap)
    if e.heatmap.ndim == 3:
        return _drawn_volume(e, draw, heatmap_opacity, looks)
    return _drawn_photo(e, draw, heatmap_opacity, threshold, looks)


def _channels(e: Explanation, colormap: str | None) -> Image:
    title = f"{e.method} · {e.layer or 'input'}"
    dims = len(e.input_size)
    maps = e.attribution if e.attribution.ndim == dims + 1 else e.attribution[None]
    if dims == 3:
        place = strongest_slices(np.abs(maps).sum(0), 1)[0]
        title, maps = f"{title} · its strongest slice, {place} of {maps.shape[1]}", maps[:, place]
    return activation_grid(maps, title=title, colormap=colormap)


def _drawn_signal(e: Explanation, draw: Draw, looks: dict[str, Any]) -> Image:
    if draw in ("masked", "alpha", "contours"):
        raise ParameterError(
            f"draw={draw!r} is for pictures and this is a series: wanted card, overlay, heatmap or channels."
        )
    if draw == "channels" or e.method in BY_CHANNEL:
        maps = e.attribution if e.attribution.ndim == 2 else e.attribution[None]
        units = "activation" if e.method == "activations" else None
        return channel_rows(maps, title=f"{e.method} · {e.layer or 'input'}", colormap=looks["colormap"], units=units)
    if draw in _SIGNAL_DRAWS:
        return signal_plot(e.signal, _signal_maps(e), parts=_SIGNAL_DRAWS[draw], **looks)
    return signal_card(e.signal, _signal_maps(e), **_words(e), **looks)


def _signal_maps(e: Explanation) -> np.ndarray:
    """Return the attribution of each channel (C, L), or (1, L) where there is one for all."""
    own = e.per_channel and e.attribution.shape[1:] == e.input_size
    fits = own and (e.signal is None or e.attribution.shape == e.signal.shape)
    return e.attribution if fits else e.heatmap[None]


def _drawn_volume(e: Explanation, draw: Draw, opacity: float, looks: dict[str, Any]) -> Image:
    if draw == "card":
        return volume_card(e.signal, e.heatmap, heatmap_opacity=opacity, **_words(e), **looks)
    view = _VOLUME_VIEWS.get(draw, draw)
    return volume_strip(e.signal, e.heatmap, view=view, heatmap_opacity=opacity, **looks)


def _drawn_photo(e: Explanation, draw: Draw, heatmap_opacity: float, threshold: float, looks: dict[str, Any]) -> Image:
    photo, clip = photo_of(e), looks["percentile"]
    if draw == "overlay":
        return overlay(photo, e.heatmap, heatmap_opacity=heatmap_opacity, threshold=threshold, **looks)
    if draw == "heatmap":
        return heatmap_image(e.heatmap, **looks)
    if draw == "masked":
        return masked(photo, e.heatmap, threshold=threshold or 0.5, percentile=clip)
    if draw == "alpha":
        return alpha_scaled(photo, e.heatmap, percentile=clip)
    if draw == "contours":
        return contours(photo, e.heatmap, **looks)
    return card(photo, e.heatmap, heatmap_opacity=heatmap_opacity, **_words(e), **looks)


def _words(e: Explanation) -> dict[str, Any]:
    label = e.target.label
    return {
        "title": title_of(e),
        "subtitle": _subtitle(e),
        "notes": _card_notes(e),
        "predictions": [(p["label"], p["probability"]) for p in e.predictions],
        "explained": label,
        "checks": None if e.check is None else _checks(e.check),
        "ends": (f"against “{label}”", f"for “{label}”") if e.style == "diverging" else None,
    }


def _checks(found: TrustCard) -> Checks:
    return Checks(found.headline, [Check(a.verdict, a.mark, a.question, a.words) for a in found.answers])


def _card_notes(e: Explanation) -> list[str]:
    planes = _many_channels(e) if e.heatmap.ndim == 2 else None
    shown = None if planes is None else channels_note(len(planes))
    return [*([shown] if shown else []), *(n for n in e.notes if "zero everywhere" not in n)]  # the card says that


def _subtitle(e: Explanation) -> str:
    about = e.provenance
    parts = [
        about.get("image"),
        f"{about.get('model')} ({about.get('weights')})",
        f"layer {e.layer}" if e.layer else None,
        about.get("preprocessing") if e.geometry is None and e.image is None else None,
        None if e.completeness is None else f"completeness gap {e.completeness.gap:.1%}",
    ]
    return " · ".join(p for p in parts if p)


def explanation_as_html(e: Explanation) -> str:
    """Return the explanation as a fragment of HTML for notebooks."""
    return explanation_html(
        png_bytes(draw_explanation(e, "card")),
        [(p["label"], p["probability"]) for p in e.predictions],
        title=title_of(e),
        subtitle=_subtitle(e),
        notes=(*(str(e.check).splitlines() if e.check is not None else ()), *e.notes),
    )
