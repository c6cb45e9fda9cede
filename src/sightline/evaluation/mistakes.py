"""What a model got wrong: its answers over labelled images, what they come to, and that in sentences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sightline.evaluation.classification import Calibration, ClassNumbers, Confusion, Means, Share
from sightline.explanation import Explanation

__all__ = ["Answer", "Example", "ModelErrors", "Worst"]


@dataclass(frozen=True)
class Answer:
    """What the model said of one image; ``rank`` is the place of its true class, 1 the best."""

    file: str
    true: int
    predicted: int
    probability: float
    true_probability: float
    rank: int

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.true == self.predicted


@dataclass(frozen=True, eq=False)
class Example:
    """A wrong answer with the explanations of the predicted and of the true class; none where they were refused."""

    answer: Answer
    predicted: Explanation | None
    true: Explanation | None


@dataclass(frozen=True, eq=False)
class Worst:
    """One of the worst confusions, with its surest wrong answers."""

    confusion: Confusion
    examples: Sequence[Example]


@dataclass(frozen=True, eq=False)
class ModelErrors:
    """A model's answers over labelled images, and what they come to.

    ``matrix`` counts images by true class (``rows``) and predicted class (``columns``: the rows', then those that were
    predicted without having images). ``labels`` names every class that occurs. ``majority`` is the accuracy of always
    saying the most frequent class, ``top5`` the share whose class is among the best five (None for fewer than eleven
    classes). ``skipped`` lists images without an answer, and why the method refused to explain (image None):
    {"image", "reason"}.
    """

    answers: Sequence[Answer]
    accuracy: Share
    majority: float
    top5: float | None
    classes: Sequence[ClassNumbers]
    macro: Means
    weighted: Means
    rows: Sequence[int]
    columns: Sequence[int]
    matrix: np.ndarray
    calibration: Calibration
    confusions: Sequence[Confusion]
    labels: Mapping[int, str]
    settings: Mapping[str, Any]
    skipped: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    worst: Sequence[Worst] = field(default=(), repr=False)

    @property
    def findings(self) -> list[str]:
        """What it comes to, in sentences."""
        return [_right(self), *_most_often(self), *_weakest(self), _how_sure(self)]

    def save(self, folder: str | os.PathLike[str]) -> dict[str, Any]:
        """Write errors.json, predictions.parquet, a picture of each of the worst confusions, and report.html.

        Returns their paths: {"json", "parquet", "pictures", "report"}.
        """
        from sightline.evaluation.confusion_files import save_errors

        return save_errors(self, Path(folder))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but pictures and single answers as plain JSON values; undefined numbers are null."""
        return {
            "findings": self.findings,
            "accuracy": self.accuracy.to_dict(),
            "majority": self.majority,
            "top5": self.top5,
            "classes": [c.to_dict() for c in self.classes],
            "macro": self.macro.to_dict(),
            "weighted": self.weighted.to_dict(),
            "confusion_matrix": {
                "true": [self.labels[c] for c in self.rows],
                "predicted": [self.labels[c] for c in self.columns],
                "counts": self.matrix.tolist(),
            },
            "calibration": self.calibration.to_dict(),
            "confusions": [self._pair(c) for c in self.confusions],
            "worst": [
                self._pair(w.confusion) | {"examples": [self._example(e) for e in w.examples]} for w in self.worst
            ],
            "skipped": [dict(s) for s in self.skipped],
            "notes": list(self.notes),
            "settings": dict(self.settings),
        }

    def _pair(self, c: Confusion) -> dict[str, Any]:
        return {"true": self.labels[c.true], "predicted": self.labels[c.predicted], "count": c.count}

    def _example(self, e: Example) -> dict[str, Any]:
        about = asdict(e.answer)
        explained = {"predicted": e.predicted, "true": e.true}
        notes = {k: list(v.notes) for k, v in explained.items() if v is not None and v.notes}
        return {k: about[k] for k in ("file", "probability", "true_probability", "rank")} | {"notes": notes}

    def table(self) -> list[dict[str, Any]]:
        """Return one row an image: file, true, predicted, probability, correct, rank of the true class."""
        return [
            {
                "file": a.file,
                "true": self.labels[a.true],
                "predicted": self.labels[a.predicted],
                "probability": a.probability,
                "correct": a.correct,
                "rank": a.rank,
                "true_probability": a.true_probability,
                "true_index": a.true,
                "predicted_index": a.predicted,
            }
            for a in self.answers
        ]


# --- in sentences -------------------------------------------------------------------------------------------


def _right(found: ModelErrors) -> str:
    a = found.accuracy
    return f"Right on {a.right} of {a.total} images ({a.share:.0%}, 95 % interval {100 * a.low:.0f} to {a.high:.0%})."


def _most_often(found: ModelErrors) -> list[str]:
    if not found.confusions:
        return ["It made no mistake on these images."]
    first = found.confusions[0]
    of = next(c.support for c in found.classes if c.index == first.true)
    times = "once" if first.count == 1 else "twice" if first.count == 2 else f"{first.count} times"
    name = found.labels[first.true]
    return [f"Most often it takes {name} for {found.labels[first.predicted]} ({times}, of {of} images of {name})."]


def _weakest(found: ModelErrors) -> list[str]:
    said = []
    if len(found.classes) > 1 and found.confusions:
        least = min(found.classes, key=lambda c: (c.recall, -c.support))
        said.append(f"It finds {least.recall:.0%} of {least.label}, the least of all classes.")
        wrong = min((c for c in found.classes if c.predicted), key=lambda c: (c.precision, -c.predicted), default=None)
        if wrong is not None and wrong.precision < 1:
            said.append(f"Of what it calls {wrong.label}, {wrong.precision:.0%} is.")
    return said


def _how_sure(found: ModelErrors) -> str:
    return (
        f"It is {found.calibration.confidence:.0%} sure on average and right in {found.accuracy.share:.0%}; always "
        f"saying the most frequent class would be right in {found.majority:.0%}."
    )
