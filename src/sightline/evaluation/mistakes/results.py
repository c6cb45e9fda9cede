"""What a model got wrong: its answers over labelled images, what they come to, and that in sentences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sightline.evaluation.mistakes.classification import Calibration, ClassNumbers, Confusion, Means, Share
from sightline.explanation import Explanation

__all__ = ["Answer", "Example", "ModelErrors", "Worst"]

_ONE = {"images": "image", "volumes": "volume"}
_ENOUGH = 5  # images of a class, from which on it is said how many of them are found


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
    {"image", "reason"}. ``noun`` is what they are called: images, series or volumes.
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
    noun: str = "images"

    @property
    def one(self) -> str:
        """What one of them is called."""
        return _ONE.get(self.noun, self.noun)

    @property
    def findings(self) -> list[str]:
        """What it comes to, in sentences."""
        return [_right(self), *_most_often(self), *_weakest(self), _how_sure(self)]

    def save(self, folder: str | os.PathLike[str]) -> dict[str, Any]:
        """Write errors.json, predictions.parquet, a picture of each of the worst confusions, and report.html.

        Returns their paths: {"json", "parquet", "pictures", "report"}.
        """
        from sightline.evaluation.mistakes.saving import save_errors

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


def _percent(share: float) -> str:
    """Return a share in whole percent; what is not all, or not nothing, is not said to be.

    >>> _percent(0.4251), _percent(0.999), _percent(1.0)
    ('43 %', '99 %', '100 %')
    """
    whole = round(100 * share)
    return f"{whole if whole not in (0, 100) or share in (0, 1) else min(max(whole, 1), 99)} %"


def _right(found: ModelErrors) -> str:
    a = found.accuracy
    interval = f"95 % interval {100 * a.low:.0f} to {_percent(a.high)}"
    return f"Right on {a.right} of {a.total} {found.noun} ({_percent(a.share)}; {interval})."


def _most_often(found: ModelErrors) -> list[str]:
    if not found.confusions:
        return [f"It made no mistake on these {found.noun}."]
    first = found.confusions[0]
    of = next(c.support for c in found.classes if c.index == first.true)
    name, said = found.labels[first.true], found.labels[first.predicted]
    if len(found.confusions) > 1 and first.count == 1:
        return [f"No two of its errors are alike; the surest is to take {name} for {said}."]
    times = {1: "once", 2: "twice"}.get(first.count, f"{first.count} times")
    return [f"Most often it takes {name} for {said} ({times}, of {of} {found.noun} of {name})."]


def _weakest(found: ModelErrors) -> list[str]:
    """Name the class that is found least, and the one that is said most wrongly: where classes have enough images."""
    if len(found.classes) < 2 or not found.confusions or max(c.support for c in found.classes) < _ENOUGH:
        return []
    least = min(found.classes, key=lambda c: (c.recall, -c.support))
    said = [
        f"It finds {_percent(least.recall) if least.recall else 'none'} of {least.label}, the least of all classes."
    ]
    wrong = min((c for c in found.classes if c.predicted), key=lambda c: (c.precision, -c.predicted), default=None)
    if wrong is not None and wrong.precision < 1:
        said.append(_called(wrong, found))
    return [" ".join(said)]


def _called(c: ClassNumbers, found: ModelErrors) -> str:
    if c.predicted == 1:
        return f"The one {found.one} that it calls {c.label} is none."
    share = "none" if c.precision == 0 else _percent(c.precision)
    return f"Of the {c.predicted} {found.noun} that it calls {c.label}, {share} are."


def _how_sure(found: ModelErrors) -> str:
    sure, always = _percent(found.calibration.confidence), _percent(found.majority)
    share = _percent(found.accuracy.share)
    said = f"It is {sure} sure on average, and right in {share}"
    if len(found.rows) == 1:
        return f"{said}."
    if found.accuracy.low <= found.majority:
        return f"{said}: not clearly better than always saying the most frequent class, which is right in {always}."
    return f"{said}; always saying the most frequent class would be right in {always}."
