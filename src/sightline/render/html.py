"""The explanation as a fragment of HTML for notebooks, and the PNG within it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from PIL import Image

from sightline.render.table import Prediction, probability_text

__all__ = ["explanation_html", "png_bytes"]


def png_bytes(image: Image.Image) -> bytes:
    """Return an image as an RGB PNG that holds pixels and nothing else: no EXIF, dates, profiles or comments.

    >>> png_bytes(Image.new("RGB", (2, 2)))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    plain = image.convert("RGB")
    plain.info = {}
    with io.BytesIO() as file:
        plain.save(file, "PNG")
        return file.getvalue()


def explanation_html(
    card_png: bytes,
    predictions: Iterable[Prediction] = (),
    *,
    title: str,
    subtitle: str = "",
    notes: Sequence[str] = (),
    alt: str | None = None,
) -> str:
    """Return a card and what it says in words as one self-contained HTML fragment; all text is escaped.

    The image is a data URI, nothing is loaded from elsewhere and nothing runs. ``alt`` describes the image;
    unless given it is put together from the other texts.

    >>> "&lt;b&gt;" in explanation_html(b"", [("<b>", 0.5)], title="grad_cam")
    True
    """
    rows = list(predictions)
    said = ", ".join(f"{label} {probability_text(value)}" for label, value in rows[:3])
    words = alt or ". ".join(part for part in (title, subtitle, said, *notes) if part)
    source = base64.b64encode(card_png).decode("ascii")
    return (
        '<figure style="margin:0;max-width:1100px">'
        f'<img alt="{_safe(words)}" src="data:image/png;base64,{source}" style="max-width:100%;height:auto">'
        f"{_details(title, subtitle, rows, notes)}</figure>"
    )


def _safe(text: str) -> str:
    return escape(text.encode("utf-8", "replace").decode("utf-8"))


def _details(title: str, subtitle: str, rows: Sequence[Prediction], notes: Sequence[str]) -> str:
    lines = "".join(f"<p>{_safe(text)}</p>" for text in (subtitle, *notes) if text)
    return f'<details style="font-size:0.85em"><summary>{_safe(title)}</summary>{lines}{_table(rows)}</details>'


def _table(rows: Sequence[Prediction]) -> str:
    cells = "".join(
        f'<tr><td style="text-align:left">{_safe(label)}</td><td>{_safe(probability_text(value))}</td></tr>'
        for label, value in rows
    )
    return f"<table><tr><th>label</th><th>probability</th></tr>{cells}</table>" if rows else ""
