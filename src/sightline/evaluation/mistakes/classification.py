"""The numbers of a classifier over labelled images: accuracy, precision, recall, ROC, calibration, confusions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = [
    "Bin",
    "Calibration",
    "ClassNumbers",
    "Confusion",
    "Means",
    "Share",
    "calibration",
    "class_numbers",
    "confusion_matrix",
    "confusions",
    "means",
    "ranks",
    "wilson",
]

_BINS = 10


def _plain(value: Any) -> Any:
    """Return a number as JSON has it: null where it does not exist."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Share:
    """``right`` of ``total`` with the Wilson interval at 95 %."""

    right: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """The share itself."""
        return self.right / self.total

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values."""
        return {"right": self.right, "total": self.total, "share": self.share, "low": self.low, "high": self.high}


@dataclass(frozen=True, eq=False)
class ClassNumbers:
    """One class against the rest; NaN where a number is undefined.

    ``support`` images are of it, ``predicted`` are said to be; ``roc`` holds false (2, P) and true positive rates.
    """

    index: int
    label: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float
    auc: float
    average_precision: float
    roc: np.ndarray = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values; undefined ones are null."""
        names = ("index", "label", "support", "predicted", "precision", "recall", "f1", "auc", "average_precision")
        curve = {"false_positive_rate": self.roc[0].tolist(), "true_positive_rate": self.roc[1].tolist()}
        return {n: _plain(getattr(self, n)) for n in names} | {"roc": curve}


@dataclass(frozen=True)
class Means:
    """Means over the classes, each over those for which the number is defined."""

    precision: float
    recall: float
    f1: float
    auc: float
    average_precision: float

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values; undefined ones are null."""
        return {n: _plain(v) for n, v in vars(self).items()}


@dataclass(frozen=True)
class Bin:
    """The images whose predicted class has a probability from ``low`` to ``high``: how many of them are right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values; those of an empty bin are null."""
        return {n: _plain(v) for n, v in vars(self).items()}


@dataclass(frozen=True)
class Calibration:
    """Whether the model is right as often as it is sure: mean probability, expected calibration error, and its bins."""

    confidence: float
    error: float
    bins: Sequence[Bin]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values."""
        return {
            "mean_confidence": self.confidence,
            "expected_calibration_error": self.error,
            "bins": [b.to_dict() for b in self.bins],
        }


@dataclass(frozen=True)
class Confusion:
    """``count`` images of the class ``true`` were taken for ``predicted``; ``rows`` are theirs, the surest first."""

    true: int
    predicted: int
    count: int
    rows: tuple[int, ...]


def wilson(right: int, total: int) -> Share:
    """Return a share with Wilson's interval at 95 % (Wilson 1927).

    >>> wilson(10, 10).high
    1.0
    """
    from scipy.stats import binomtest

    interval = binomtest(right, total).proportion_ci(0.95, method="wilson")
    return Share(right, total, float(interval.low), float(interval.high))


def class_numbers(
    truths: np.ndarray, said: np.ndarray, chances: np.ndarray, labels: Mapping[int, str]
) -> list[ClassNumbers]:
    """Return each named class's numbers against the rest: truths and said (N,), the classes' probabilities (N, K)."""
    from sklearn.metrics import precision_recall_fscore_support

    found = precision_recall_fscore_support(truths, said, average=None, labels=[*labels], zero_division=np.nan)
    numbers = []
    for (index, label), precision, recall, f1, support in zip(labels.items(), *found, strict=True):
        curve, auc, average = _ranked(truths == index, chances[:, index])
        scores = float(precision), float(recall), float(f1), auc, average
        numbers.append(ClassNumbers(index, label, int(support), int((said == index).sum()), *scores, curve))
    return numbers


def _ranked(wanted: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return ROC curve, the area under it and average precision: undefined without positives or without negatives."""
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    if not wanted.any() or wanted.all():
        return np.empty((2, 0)), math.nan, math.nan
    false, true, _ = roc_curve(wanted, scores)
    return np.stack([false, true]), float(roc_auc_score(wanted, scores)), float(average_precision_score(wanted, scores))


def means(classes: Sequence[ClassNumbers], *, weighted: bool) -> Means:
    """Average over the classes, alike or by their numbers of images."""
    weights = np.array([c.support if weighted else 1.0 for c in classes])
    return Means(*(_mean([getattr(c, n) for c in classes], weights) for n in Means.__dataclass_fields__))


def _mean(values: Sequence[float], weights: np.ndarray) -> float:
    kept = np.isfinite(values)
    return float(np.average(np.asarray(values)[kept], weights=weights[kept])) if kept.any() else math.nan


def calibration(right: np.ndarray, confidences: np.ndarray) -> Calibration:
    """Compare how sure the model is (N,) with how often it is right (N,), in ten bins of equal width.

    The expected calibration error is the bins' mean gap, weighted by their counts (Naeini et al. 2015).
    """
    place = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
    bins = [_bin(n, right[place == n], confidences[place == n]) for n in range(_BINS)]
    gaps = [b.count * abs(b.accuracy - b.confidence) for b in bins if b.count]
    return Calibration(float(confidences.mean()), float(sum(gaps) / len(right)), bins)


def _bin(number: int, right: np.ndarray, confidences: np.ndarray) -> Bin:
    sure, good = (float(v.mean()) if len(v) else math.nan for v in (confidences, right))
    return Bin(number / _BINS, (number + 1) / _BINS, len(right), sure, good)


def confusion_matrix(truths: np.ndarray, said: np.ndarray) -> tuple[list[int], list[int], np.ndarray]:
    """Return the classes of the rows, those of the columns and the counts.

    Rows are the classes with images; columns are the same, then classes without images that were predicted.
    """
    from sklearn.metrics import confusion_matrix as counted

    rows = sorted({*truths.tolist()})
    columns = [*rows, *sorted({*said.tolist()} - {*rows})]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A single label was found", UserWarning)
        counts = counted(truths, said, labels=columns)
    return rows, columns, np.asarray(counts)[: len(rows)]


def confusions(truths: np.ndarray, said: np.ndarray, confidences: np.ndarray) -> list[Confusion]:
    """List the pairs (true, predicted) that were confused, the most frequent first, then the surest."""
    pairs: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero(truths != said).tolist():
        pairs.setdefault((int(truths[row]), int(said[row])), []).append(row)
    found = [
        Confusion(true, predicted, len(rows), tuple(sorted(rows, key=lambda r: -confidences[r])))
        for (true, predicted), rows in pairs.items()
    ]
    return sorted(found, key=lambda c: (-c.count, -confidences[c.rows[0]], c.true, c.predicted))


def ranks(truths: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Return the place (N,) of each image's own class among all by probability, 1 the best; ties go by index.

    >>> ranks(np.array([1]), np.array([[0.2, 0.3, 0.5]]))
    array([2])
    """
    order = np.argsort(-chances, axis=1, kind="stable")
    return np.asarray(np.argmax(order == truths[:, None], axis=1) + 1)
