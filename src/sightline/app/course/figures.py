"""Pictures side by side in a lesson, each with its caption, its words, and the legend of its colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import streamlit as st
from PIL import Image

from sightline.app.parts.maps import hottest_in_words
from sightline.app.parts.viewer import Legend, data_url, legend_of
from sightline.explanation import Explanation

__all__ = ["Figure", "figures", "map_figure", "photo_figure", "signed"]

_STYLE = """<style>
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 0.9rem; max-width: %dpx; }
.figures figure { margin: 0; }
.figures img { width: 100%%; border-radius: 6px; display: block; }
.figures figcaption { font-size: 0.9rem; line-height: 1.35; padding-top: 0.35rem; }
.figures .bar { height: 8px; border-radius: 4px; margin-top: 0.45rem; }
.figures .ends { display: flex; justify-content: space-between; font-size: 0.75rem; gap: 0.5rem; }
</style>"""
_WIDEST = 275


@dataclass(frozen=True, eq=False)
class Figure:
    """A picture with its caption, its words for those who do not see it, and the legend of its colours."""

    caption: str
    image: Image.Image
    alt: str
    legend: Legend | None = None


def figures(shown: Sequence[Figure]) -> None:
    """Show pictures in a row, on a phone two at a time."""
    found = "".join(map(_html, shown))
    st.html(f'{_STYLE % (_WIDEST * len(shown))}<div class="figures">{found}</div>')


def _html(f: Figure) -> str:
    picture = f'<img src="{data_url(_enlarged(f.image))}" alt="{escape(f.alt)}">'
    return f"<figure>{picture}{_legend(f.legend)}<figcaption>{escape(f.caption)}</figcaption></figure>"


def _enlarged(image: Image.Image, side: int = 384) -> Image.Image:
    """Return a small picture larger: its pixels stay visible where there are few of them."""
    how = Image.Resampling.NEAREST if image.width < 64 else Image.Resampling.BICUBIC
    return image.convert("RGB").resize((side, side * image.height // image.width), how)


def _legend(legend: Legend | None) -> str:
    if legend is None:
        return ""
    bar = f'<div class="bar" style="background: linear-gradient(to right, {", ".join(legend.stops)})"></div>'
    return f'{bar}<div class="ends"><span>{escape(legend.low)}</span><span>{escape(legend.high)}</span></div>'


def photo_figure(image: Image.Image, caption: str, alt: str | None = None) -> Figure:
    """Return a picture as it is."""
    return Figure(caption, image, alt or caption)


def map_figure(e: Explanation, caption: str) -> Figure:
    """Return a map, over its photo or alone where it is as fine as the photo, with its legend."""
    alone = e.style != "sequential" or e.method in ("edges", "random")
    ends = ("lowers the score", "raises the score") if e.style == "diverging" else None
    words = f"{e.method} map for “{e.target.label}”: {hottest_in_words(e)}"
    return Figure(caption, e.render("heatmap" if alone else "overlay"), words, legend_of(e.style, None, ends))


def signed(e: Explanation) -> Explanation:
    """Return an explanation that is drawn with its signs."""
    return replace(e, style="diverging")


def positive(e: Explanation) -> np.ndarray:
    """Return what speaks for the target, (H, W)."""
    found: np.ndarray = np.nan_to_num(e.heatmap).clip(min=0)
    return found
