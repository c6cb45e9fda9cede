"""Text on pictures: fonts that are always there, lines that wrap, labels that end in an ellipsis.

The fonts are the DejaVu that matplotlib carries. Scripts they lack (Chinese, most emoji) come out as boxes.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from sightline.render.palette import INK, PAPER, RGB

__all__ = ["compact", "ellipsis", "text_block", "wrap"]

Align = Literal["left", "center", "right"]

# Longer texts are cut before they are measured: nobody reads them on a picture, and measuring is slow.
MOST_CHARACTERS = 600


@lru_cache(maxsize=64)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans in ``size`` pixels."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), max(size, 1))


def compact(number: float) -> str:
    """Return a number in few characters, with a true minus sign: for ticks and tables.

    >>> [compact(x) for x in (0.0, 0.8312, -12.0, 999.96, 48213.0, 0.000021, float("nan"))]
    ['0', '0.831', '−12', '1000', '4.82e4', '2.1e−5', 'nan']
    """
    if number == 0 or not math.isfinite(number):
        return f"{number + 0.0:g}".replace("-", "−")
    mantissa, _, power = f"{number:.2e}".partition("e")
    text = f"{float(mantissa):g}e{int(power)}"
    if -3 <= int(power) < 4:
        text = f"{number:.0f}" if int(power) == 3 else f"{float(f'{number:.3g}'):g}"
    return text.replace("-", "−")


def ellipsis(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the text, or as much of its beginning as fits ``width`` pixels and an ellipsis.

    >>> ellipsis("a very long label", font(12), 60)
    'a very l…'
    """
    text = printable(text)
    if face.getlength(text) <= width:
        return text
    return text[: _fitting(text, face, width - face.getlength("…"))].rstrip() + "…"


def wrap(text: str, face: ImageFont.FreeTypeFont, width: float, most_lines: int) -> list[str]:
    """Return at most ``most_lines`` lines of ``width`` pixels; what is left over ends in an ellipsis.

    Words that are wider than a line are broken.

    >>> wrap("one two three four", font(12), 50, 2)
    ['one two', 'three…']
    """
    rest, lines = printable(text), list[str]()
    while rest and len(lines) < most_lines - 1:
        line, rest = _first_line(rest, face, width)
        lines.append(line)
    return [*lines, ellipsis(rest, face, width)] if rest else lines


def text_block(
    text: str,
    *,
    width: int,
    size: int,
    bold: bool = False,
    colour: RGB = INK,
    background: RGB = PAPER,
    align: Align = "left",
    most_lines: int = 3,
) -> Image.Image | None:
    """Return the text as an RGB picture ``width`` pixels wide and as high as its lines, None for no text.

    >>> text_block("grad_cam", width=120, size=12).size
    (120, 16)
    """
    face = font(size, bold)
    lines = wrap(text, face, width, most_lines)
    if not lines:
        return None
    step = round(size * 1.36)
    block = Image.new("RGB", (max(width, 1), step * len(lines)), background)
    draw, (x, anchor) = ImageDraw.Draw(block), _anchor(align, width)
    for n, line in enumerate(lines):
        draw.text((x, n * step + round(size * 1.02)), line, colour, face, anchor)
    return block


def printable(text: str) -> str:
    """Return the text on one line, without control characters and halves of surrogate pairs."""
    text = " ".join(text[: 4 * MOST_CHARACTERS].split())[:MOST_CHARACTERS]
    return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs"))


def _anchor(align: Align, width: int) -> tuple[float, str]:
    return {"left": (0.0, "ls"), "center": (width / 2, "ms"), "right": (float(width), "rs")}[align]


def _fitting(text: str, face: ImageFont.FreeTypeFont, width: float) -> int:
    return bisect_right(range(1, len(text) + 1), width, key=lambda n: face.getlength(text[:n]))


def _first_line(text: str, face: ImageFont.FreeTypeFont, width: float) -> tuple[str, str]:
    fits = max(_fitting(text, face, width), 1)
    if fits == len(text):
        return text, ""
    space = text.rfind(" ", 0, fits + 1)
    cut = space if space > 0 else fits
    return text[:cut], text[cut:].lstrip()
