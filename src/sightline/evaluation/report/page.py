"""The page of every report: templates filled with escaped text, and texts that are safe to be shown to anybody."""

from __future__ import annotations

import base64
import io
import math
import re
import shlex
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sightline.output import written
from sightline.render.text import compact

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL import Image

__all__ = ["data_uri", "facts", "file_name", "number_text", "p_text", "rendered", "undirected", "write_page"]

# A path of two parts or more that begins at a root, a drive or a home, and not within a word.
_PATH = re.compile(r"(?<![\w.:/\\-])(?:~|[A-Za-z]:)?[\\/](?:[^\\/:*?\"<>|\s]+[\\/])+(?=[^\\/\s])")

_LARGE = 40_000


def write_page(template: str, file: Path, **values: Any) -> Path:
    """Fill a template of this package and write it whole or not at all; return the file."""
    with written(file) as aside:
        aside.write_text(rendered(template, **values), encoding="utf-8", errors="replace")
    return file


def rendered(template: str, **values: Any) -> str:
    """Return a template of this package filled with values: each escaped, and a value that is missing an error."""
    return _environment().get_template(template).render(version=metadata.version("sightline"), **values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("sightline.evaluation.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": number_text, "p": p_text, "undirected": undirected, "plain": plain}
    found.filters |= {"md": markdown, "quoted": shlex.quote}
    return found


def number_text(value: float | None, digits: int | None = None, signed: bool = False) -> str:
    """Return a number with so many decimals, or in three digits, and "–" where there is none.

    >>> [number_text(v) for v in (0.83124, float("nan"), None, -12.0)], number_text(0.5, 2, signed=True)
    (['0.831', '–', '–', '−12'], '+0.50')
    """
    if value is None or not math.isfinite(value):
        return "–"
    text = compact(float(value)) if digits is None or abs(value) >= 1e6 else f"{value:.{digits}f}".replace("-", "−")
    return f"+{text}" if signed and value > 0 else text


def p_text(value: float | None) -> str:
    """Return a p-value.

    >>> [p_text(p) for p in (0.00001, 0.0312, 0.5, float("nan"))]
    ['< 0.001', '0.031', '0.50', '–']
    """
    if value is None or not math.isfinite(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def plain(text: Any) -> str:
    """Return a docstring's sentence without its marks of code.

    >>> plain("the ``score`` of it")
    'the score of it'
    """
    return str(text).replace("``", "")


def markdown(text: Any) -> str:
    r"""Return a text as Markdown shows it, on one line, within a table too.

    >>> markdown("a|b *c*")
    'a\\|b \\*c\\*'
    """
    return re.sub(r"([\\`*|<>\[\]])", r"\\\1", " ".join(str(text).split()))


def file_name(path: Any) -> str:
    r"""Return the last part of a path of any system.

    >>> file_name("/home/ann/a photo.png"), file_name(r"C:\photos\b.png"), file_name("c.png")
    ('a photo.png', 'b.png', 'c.png')
    """
    return PurePosixPath(str(path).replace("\\", "/")).name or str(path)


def undirected(text: Any) -> str:
    """Return a text in which paths from a root have lost their directories.

    >>> undirected("/home/ann/photos/x.png is no image; wanted 3/4 of km/h or a/b")
    'x.png is no image; wanted 3/4 of km/h or a/b'
    """
    return _PATH.sub("", str(text))


def data_uri(image: Image.Image) -> str:
    """Return a picture within an address, pixels and nothing else: a PNG, or a JPEG where that would be large.

    Six photographs under fourteen maps are 15 MB of PNGs, and 4 MB so; colours keep the full resolution.
    """
    from sightline.render.html import png_bytes

    exact = png_bytes(image)
    kind, data = ("png", exact) if len(exact) <= _LARGE else ("jpeg", _jpeg_bytes(image))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _jpeg_bytes(image: Image.Image) -> bytes:
    plain = image.convert("RGB")
    plain.info = {}
    with io.BytesIO() as file:
        plain.save(file, "JPEG", quality=88, subsampling=0)
        return file.getvalue()


def facts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as texts without directories, leaving out those that say nothing.

    >>> facts({"weights": "/nets/a.pt", "seed": 0, "hash": None})
    {'weights': 'a.pt', 'seed': '0'}
    """
    return {k: undirected(v) for k, v in values.items() if v not in (None, "", [], {}, ())}
