"""A model's errors as files: numbers, one row an image, pictures of the worst confusions, and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.evaluation.mistakes.results import Example, ModelErrors, Worst
from sightline.output import file_part, written

if TYPE_CHECKING:
    from PIL.Image import Image

    from sightline.explanation import Explanation

__all__ = ["confusion_picture", "save_errors"]


def save_errors(found: ModelErrors, folder: Path) -> dict[str, Any]:
    """Write everything into a folder, each file whole or not at all; return the paths."""
    from sightline.evaluation.report.errors_page import save_page

    pictures = [_save_picture(found, n, w, folder) for n, w in enumerate(found.worst, 1)]
    drawn = [None if p is None else p.name for p in pictures]
    return {
        "pictures": [None if p is None else str(p) for p in pictures],
        "parquet": str(_save_table(found, folder / "predictions.parquet")),
        "json": str(_save_json(found, drawn, folder / "errors.json")),
        "report": str(save_page(found, folder / "report.html")),
    }


def _save_json(found: ModelErrors, pictures: Sequence[str | None], file: Path) -> Path:
    data = found.to_dict()
    data["worst"] = [w | {"picture": name} for w, name in zip(data["worst"], pictures, strict=True)]
    with written(file) as aside:
        aside.write_text(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return file


def _save_table(found: ModelErrors, file: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with written(file) as aside:
        pq.write_table(pa.Table.from_pylist(found.table()), aside)
    return file


def _save_picture(found: ModelErrors, number: int, worst: Worst, folder: Path) -> Path | None:
    """Write the picture of one confusion, unless the method refused to explain all of it."""
    picture = confusion_picture(found, worst)
    if picture is None:
        return None
    true, predicted = (file_part(found.labels[c]) for c in (worst.confusion.true, worst.confusion.predicted))
    file = folder / f"{number}.{true}-as-{predicted}.png"
    with written(file) as aside:
        picture.save(aside)
    return file


def confusion_picture(found: ModelErrors, worst: Worst) -> Image | None:
    """Draw the wrong answers of one confusion: the photo, why the predicted class, and why the true one."""
    from sightline.render import grid
    from sightline.render.compare import photo_cell

    explained = [e for e in worst.examples if e.predicted is not None or e.true is not None]
    maps = [m for e in explained for m in (e.predicted, e.true) if m is not None]
    if not maps:
        return None
    true, predicted = found.labels[worst.confusion.true], found.labels[worst.confusion.predicted]
    times = "once" if worst.confusion.count == 1 else f"{worst.confusion.count} times"
    return grid(
        [[photo_cell(e.predicted or e.true or maps[0]), _cell(e.predicted), _cell(e.true)] for e in explained],
        row_labels=[_row_label(e, true, predicted) for e in explained],
        column_labels=[
            "image" if maps[0].heatmap.ndim == 2 else "input",
            f"why it says {predicted}",
            f"what would speak for {true}, its class",
        ],
        title=f"{true}, taken for {predicted} {times}",
        legends=_legends(maps),
        notes=[f"{maps[0].method} of {found.settings['model']}; each map is coloured by its own largest value"],
    )


def _legends(maps: Sequence[Explanation]) -> list[Image]:
    from sightline.render.compare import style_legend

    unseen = any(bool((m.heatmap != m.heatmap).any()) for m in maps)
    styles = list(dict.fromkeys(m.style for m in maps))
    return [style_legend(s, not_seen=unseen and s == styles[0], series=maps[0].heatmap.ndim == 1) for s in styles]


def _cell(e: Explanation | None) -> Image | str:
    from sightline.render.compare import map_cell

    return "refused" if e is None else map_cell(e)


def _row_label(e: Example, true: str, predicted: str) -> str:
    name = Path(e.answer.file).name
    return f"{name}: {predicted} {e.answer.probability:.2f}, {true} {e.answer.true_probability:.2f}"
