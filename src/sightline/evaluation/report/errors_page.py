"""The page of a model's errors: what the template needs, computed; pictures as data within it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.evaluation.mistakes.classification import Bin, ClassNumbers
from sightline.evaluation.mistakes.results import Example, ModelErrors, Worst
from sightline.evaluation.report.page import facts, write_page

if TYPE_CHECKING:
    from PIL import Image


__all__ = ["error_values", "save_page"]

_MATRIX, _TABLE, _CURVES, _PAIRS = 40, 60, 24, 15
_GRID = 200  # curves are drawn no finer than this
_SIDE = 320
_FEW = 5  # images of a class, below which a bar of its share says nothing


def save_page(found: ModelErrors, file: Path) -> Path:
    """Write the errors as one HTML file that loads nothing."""
    return write_page("errors.html.j2", file, **error_values(found))


def error_values(found: ModelErrors) -> dict[str, Any]:
    """Return what the templates of errors are filled with."""
    classes = sorted(found.classes, key=lambda c: c.f1) if len(found.classes) > _TABLE else found.classes
    maps = [m for w in found.worst for e in w.examples for m in (e.predicted, e.true) if m is not None]
    curves = sorted((c for c in found.classes if not math.isnan(c.auc)), key=lambda c: c.auc)
    drawn = [c for c in curves if c.auc < 1 or len(curves) <= _CURVES][:_CURVES]
    return {
        "title": f"What {found.settings['model']} gets wrong",
        "found": found,
        "sections": _sections(found, bool(drawn)),
        "matrix": _matrix(found),
        "pairs": _pairs(found),
        "worst": [_worst(found, w) for w in found.worst],
        "legends": [_legend(style) for style in dict.fromkeys(m.style for m in maps)],
        "unseen": any(bool(np.isnan(m.heatmap).any()) for m in maps),
        "bars": max(c.support for c in found.classes) >= _FEW,
        "classes": classes[:_TABLE],
        "curves": [_curve(c) for c in drawn],
        "curves_left": len(curves) - len(drawn),
        "bins": [_bar(b) for b in found.calibration.bins],
        "facts": facts({k.replace("_", " "): v for k, v in found.settings.items()}),
    }


def _sections(found: ModelErrors, curves: bool) -> list[tuple[str, str]]:
    present = {
        ("confusions", "What is taken for what"): True,
        ("worst", "The worst confusions"): bool(found.worst),
        ("classes", "Class by class"): True,
        ("roc", "ROC curves"): curves,
        ("sure", "How sure it is"): True,
        ("made", "How this was made"): True,
    }
    return [section for section, there in present.items() if there]


# --- what is taken for what ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Square:
    """One square of the matrix: its count, its share of the row, whether it is right, and what it says."""

    count: int
    percent: float
    right: bool
    said: str

    @property
    def dark(self) -> bool:
        """Whether its number must be light to be read."""
        return self.percent > 55


def _matrix(found: ModelErrors) -> dict[str, Any] | None:
    """Return headings and rows; the classes without images become one column where they are many."""
    if len(found.rows) > _MATRIX:
        return None
    size = len(found.rows)
    counts, heads = found.matrix, [found.labels[c] for c in found.columns]
    if len(heads) > min(_MATRIX, size + 6):
        counts = np.column_stack([counts[:, :size], counts[:, size:].sum(1)])
        heads = [*heads[:size], "another class"]
    rows = [
        _matrix_row(found.labels[c], n, row, heads, found.noun)
        for n, (c, row) in enumerate(zip(found.rows, counts, strict=True))
    ]
    return {"heads": heads, "rows": rows, "size": "many tiny" if len(heads) > 24 else "many" if len(heads) > 14 else ""}


def _matrix_row(label: str, number: int, counts: np.ndarray, heads: Sequence[str], noun: str) -> dict[str, Any]:
    total = int(counts.sum())
    squares = [
        _Square(
            int(n),
            100 * int(n) / total,
            place == number,
            f"{n} of {total} {noun} of {label} ({n / total:.0%}) "
            + ("are found" if place == number else f"are taken for {head}"),
        )
        for place, (n, head) in enumerate(zip(counts, heads, strict=True))
    ]
    return {"label": label, "total": total, "squares": squares}


def _pairs(found: ModelErrors) -> list[dict[str, Any]]:
    """Return the most frequent confusions, each as a share of the images of its class."""
    support = {c.index: c.support for c in found.classes}
    return [
        {
            "true": found.labels[c.true],
            "predicted": found.labels[c.predicted],
            "count": c.count,
            "of": support[c.true],
            "percent": 100 * c.count / support[c.true],
        }
        for c in found.confusions[:_PAIRS]
    ]


# --- the worst, explained -----------------------------------------------------------------------------------


def _worst(found: ModelErrors, worst: Worst) -> dict[str, Any]:
    c = worst.confusion
    support = next(k.support for k in found.classes if k.index == c.true)
    return {
        "true": found.labels[c.true],
        "predicted": found.labels[c.predicted],
        "count": c.count,
        "of": support,
        "examples": [_example(e) for e in worst.examples],
    }


def _example(e: Example) -> dict[str, Any]:
    from sightline.render.compare import map_cell, photo_cell

    any_map = e.predicted or e.true
    return {
        "file": e.answer.file,
        "probability": e.answer.probability,
        "true_probability": e.answer.true_probability,
        "photo": None if any_map is None else _data(photo_cell(any_map)),
        "predicted": None if e.predicted is None else _data(map_cell(e.predicted)),
        "true": None if e.true is None else _data(map_cell(e.true)),
        "notes": list(dict.fromkeys(n for m in (e.predicted, e.true) if m is not None for n in m.notes)),
    }


def _data(picture: Image.Image) -> str:
    """Return a picture, made small, as a JPEG within an address: pixels and nothing else."""
    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    small.info = {}
    with io.BytesIO() as file:
        small.save(file, "JPEG", quality=88)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _legend(style: Any) -> dict[str, Any]:
    """Return the colours of a style as stops of a gradient, with what its ends mean."""
    from sightline.render.palette import colour_table

    table = colour_table(None, style)
    stops = ", ".join(
        "rgb({}, {}, {})".format(*table[i]) for i in np.linspace(0, len(table) - 1, 9).round().astype(int)
    )
    ends = ("speaks against the class", "speaks for it") if style == "diverging" else ("counted little", "counted most")
    return {"stops": stops, "ends": ends}


# --- curves and bars ----------------------------------------------------------------------------------------


def _curve(c: ClassNumbers) -> dict[str, Any]:
    """Return one class's ROC curve as the path of a drawing 100 wide and high."""
    points = dict.fromkeys(map(tuple, (np.round(c.roc.T * _GRID) * (100 / _GRID)).tolist()))
    return {"label": c.label, "auc": c.auc, "path": "M" + " L".join(f"{x:g},{100 - y:g}" for x, y in points)}


def _bar(b: Bin) -> dict[str, Any]:
    return {
        "low": b.low,
        "high": b.high,
        "count": b.count,
        "accuracy": b.accuracy,
        "confidence": b.confidence,
    }
