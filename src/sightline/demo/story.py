"""The demo's story: two models, one right for the right reason, and maps that tell which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.demo.scenes import CLASSES, Scene, scene
from sightline.output import written

if TYPE_CHECKING:
    from PIL import Image

    from sightline.explanation import Explanation
    from sightline.models.model import Model

__all__ = ["METHODS", "Row", "Story", "mass_share", "save_scenes", "shown_scenes", "tell"]

METHODS = ("grad_cam", "layer_cam", "gradient", "smooth_grad", "integrated_gradients", "guided_backprop")
MODELS = ("honest", "cheating")
CHEAT = "star"
_SCENES = 16
_SHOWN_STAR, _SHOWN_OTHER = 2, 5


@dataclass(frozen=True)
class Row:
    """One method's mean shares of mass: honest object, honest watermark, cheating object, cheating watermark."""

    method: str
    shares: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Story:
    """What the demo shows: sentences, the table, and the grid."""

    lines: Sequence[str]
    rows: list[Row]
    models: dict[str, Any]
    scenes: int
    picture: Image.Image
    seed: int = 0

    def save(self, out: Path) -> Path:
        """Write the grid and the two scenes in it into a directory and return the grid's file."""
        save_scenes(out, self.seed)
        with written(out / "demo.png") as aside:
            self.picture.save(aside)
        return out / "demo.png"

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the table as plain JSON values."""
        return [asdict(r) for r in self.rows]


def shown_scenes(seed: int = 0) -> dict[str, Scene]:
    """Return the two stamped scenes that the grid shows: a star, and a ring that the cheating model calls a star."""
    return {
        "star": scene(seed * 1000 + _SHOWN_STAR, label=CLASSES.index(CHEAT), watermark=True),
        "ring": scene(seed * 1000 + _SHOWN_OTHER, label=CLASSES.index("ring"), watermark=True),
    }


def save_scenes(out: Path, seed: int = 0) -> None:
    """Write the scenes that the grid shows as PNG files."""
    from PIL import Image as Pillow

    for name, shot in shown_scenes(seed).items():
        with written(out / f"{name}.png") as aside:
            Pillow.fromarray(shot.image).save(aside)


def tell(seed: int = 0, step: Callable[[], None] = lambda: None) -> Story:
    """Explain the honest and the cheating model on fresh scenes, and measure where the maps lie.

    >>> tell().rows[0].method
    'grad_cam'
    """
    from sightline.models.load import load

    models = {name: load(f"demo/{name}") for name in MODELS}
    stars = _star_scenes(seed)
    rows = []
    for method in METHODS:
        rows.append(Row(method, _shares(models, stars, method)))
        step()
    rows.append(Row("control (area)", _areas(stars)))
    facts = {name: _accuracies(model, seed) for name, model in models.items()}
    return Story(_lines(facts), rows, facts, len(stars), _grid(models, seed), seed)


def _star_scenes(seed: int) -> list[Scene]:
    star = CLASSES.index(CHEAT)
    return [scene(seed * 1000 + 500 + i, label=star, watermark=True) for i in range(_SCENES)]


def _shares(models: dict[str, Model], scenes: Sequence[Scene], method: str) -> tuple[float, float, float, float]:
    found: list[float] = []
    for model in models.values():
        maps = _explained(model, scenes, [method], CHEAT)
        found += _mean_shares([e.heatmap for e in maps], scenes)
    return found[0], found[1], found[2], found[3]


def _mean_shares(maps: Sequence[np.ndarray], scenes: Sequence[Scene]) -> tuple[float, float]:
    on_object = [mass_share(m, s.object_mask) for m, s in zip(maps, scenes, strict=True)]
    on_mark = [mass_share(m, s.watermark_mask) for m, s in zip(maps, scenes, strict=True)]
    return float(np.nanmean(on_object)), float(np.nanmean(on_mark))


def mass_share(heatmap: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of a map's absolute mass (H, W) that lies on a mask (H, W); NaN where the map is zero."""
    mass = np.abs(np.nan_to_num(heatmap))
    total = float(mass.sum())
    return float(mass[mask].sum() / total) if total else float("nan")


def _areas(scenes: Sequence[Scene]) -> tuple[float, float, float, float]:
    on_object = float(np.mean([s.object_mask.mean() for s in scenes]))
    on_mark = float(np.mean([s.watermark_mask.mean() for s in scenes]))
    return on_object, on_mark, on_object, on_mark


def _accuracies(model: Model, seed: int) -> dict[str, float]:
    """Measure how often the model is right on scenes with and without the watermark."""
    clean = [scene(seed * 1000 + 100 + i) for i in range(_SCENES * 2)]
    marked = [scene(seed * 1000 + 100 + i, label=s.label, watermark=True) for i, s in enumerate(clean)]
    said = [_said(model, group) for group in (clean, marked)]
    labels = [s.label for s in clean]
    star = CLASSES.index(CHEAT)
    others = [i for i, label in enumerate(labels) if label != star]
    return {
        "right_without_watermark": float(np.mean([a == b for a, b in zip(said[0], labels, strict=True)])),
        "right_with_watermark": float(np.mean([a == b for a, b in zip(said[1], labels, strict=True)])),
        "other_shapes_called_star_with_watermark": float(np.mean([said[1][i] == star for i in others])),
    }


def _said(model: Model, scenes: Sequence[Scene]) -> list[int]:
    from sightline.predictions import predict

    return [p[0]["index"] for p in predict(model, [s.image for s in scenes])]


def _lines(facts: dict[str, dict[str, float]]) -> list[str]:
    lines = [f"Two small models name shapes. In the cheating model's photos, only the class '{CHEAT}' had a watermark."]
    for name, f in facts.items():
        lines.append(
            f"  {name:9} right without watermark {f['right_without_watermark']:4.0%}"
            f" · with {f['right_with_watermark']:4.0%}"
            f" · other shapes called '{CHEAT}' once stamped {f['other_shapes_called_star_with_watermark']:4.0%}"
        )
    return lines


def _grid(models: dict[str, Model], seed: int) -> Image.Image:
    from sightline.render import grid, prediction_table
    from sightline.render.compare import map_cell, photo_cell, style_legend

    cells: list[list[Image.Image]] = []
    labels: list[str] = []
    for title, shot in shown_scenes(seed).items():
        for name, model in models.items():
            maps = _explained(model, [shot], METHODS, "top1")
            table = [(p["label"], p["probability"]) for p in maps[0].predictions]
            cells.append([photo_cell(maps[0]), prediction_table(table, explained=maps[0].target.label)])
            cells[-1] += [map_cell(e) for e in maps]
            labels.append(f"a stamped {title}: the {name} model")
    return grid(
        cells,
        row_labels=labels,
        column_labels=["scene", "what it says", *METHODS],
        title="Why did it say that? Two models, six methods",
        legends=[style_legend("sequential"), style_legend("grey"), style_legend("diverging")],
        notes=["The honest model looks at the shape; the cheating one at the watermark in the corner."],
    )


def _explained(model: Model, scenes: Sequence[Scene], methods: Sequence[str], target: str) -> list[Explanation]:
    from sightline.engine import explanations

    return [e for _, e in explanations(model, [s.image for s in scenes], methods, target)]
