"""What `ModelErrors.save` wrote, read again: the numbers, every answer, and where the pictures are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.saved import read_object, read_table, refusing

__all__ = ["FILE", "SavedAnswer", "SavedErrors", "SavedWorst", "read_errors"]

FILE = "errors.json"
_TABLE = "predictions.parquet"
_COLUMNS = ("file", "true", "predicted", "probability", "true_probability", "rank", "correct")


@dataclass(frozen=True)
class SavedAnswer:
    """What the model said of one image, classes by their names; ``rank`` is the place of the true class, 1 the best."""

    file: str
    true: str
    predicted: str
    probability: float
    true_probability: float
    rank: int
    correct: bool


@dataclass(frozen=True)
class SavedWorst:
    """One of the worst confusions: how often, the files that were explained, and the picture that shows why."""

    true: str
    predicted: str
    count: int
    files: tuple[str, ...]
    picture: Path | None


@dataclass(frozen=True, eq=False)
class SavedErrors:
    """A model's errors as they were saved; ``accuracy``, ``classes`` and ``calibration`` are plain JSON values.

    ``matrix`` counts images: a row for each of ``rows`` (true classes), a column for each of ``columns`` (predicted).
    """

    folder: Path
    findings: tuple[str, ...]
    accuracy: Mapping[str, Any]
    majority: float
    classes: Sequence[Mapping[str, Any]]
    calibration: Mapping[str, Any]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    confusions: tuple[tuple[str, str, int], ...]
    worst: tuple[SavedWorst, ...]
    answers: tuple[SavedAnswer, ...]
    settings: Mapping[str, Any]
    notes: tuple[str, ...]
    skipped: tuple[Mapping[str, Any], ...]

    @property
    def wrong(self) -> list[SavedAnswer]:
        """The wrong answers, the surest first."""
        return sorted((a for a in self.answers if not a.correct), key=lambda a: (-a.probability, a.file))

    def explained(self, answer: SavedAnswer) -> SavedWorst | None:
        """Return the confusion whose picture shows this answer; None where it was not among the worst."""
        return next((w for w in self.worst if answer.file in w.files and w.predicted == answer.predicted), None)


def read_errors(folder: str | os.PathLike[str]) -> SavedErrors:
    """Read a folder that `ModelErrors.save`, ``sightline errors`` or ``sightline train`` wrote.

    Raises InputError for files that are damaged, foreign or of a newer version.
    """
    place = Path(folder)
    about = read_object(place / FILE)
    with refusing(place / _TABLE, "sightline errors"):
        answers = tuple(_answer(*row) for row in read_table(place / _TABLE, _COLUMNS))
    with refusing(place / FILE, "sightline errors"):
        return _errors(place, about, answers)


def _answer(file: Any, true: Any, predicted: Any, sure: Any, true_sure: Any, rank: Any, correct: Any) -> SavedAnswer:
    return SavedAnswer(str(file), str(true), str(predicted), float(sure), float(true_sure), int(rank), bool(correct))


def _errors(place: Path, about: Mapping[str, Any], answers: tuple[SavedAnswer, ...]) -> SavedErrors:
    matrix = about["confusion_matrix"]
    rows, columns = _texts(matrix["true"]), _texts(matrix["predicted"])
    counts = tuple(tuple(int(n) for n in row) for row in matrix["counts"])
    if len(counts) != len(rows) or any(len(row) != len(columns) for row in counts):
        raise ValueError("a confusion matrix of another shape than its classes")
    return SavedErrors(
        place,
        _texts(about["findings"]),
        {k: float(about["accuracy"][k]) for k in ("right", "total", "share", "low", "high")},
        float(about["majority"]),
        [_class(c) for c in about["classes"]],
        {k: float(about["calibration"][k]) for k in ("mean_confidence", "expected_calibration_error")},
        rows,
        columns,
        counts,
        tuple((str(c["true"]), str(c["predicted"]), int(c["count"])) for c in about["confusions"]),
        tuple(_worst(place, w) for w in about["worst"]),
        answers,
        dict(about["settings"]),
        _texts(about["notes"]),
        tuple(dict(s) for s in about["skipped"]),
    )


def _texts(listed: Any) -> tuple[str, ...]:
    return tuple(str(text) for text in listed)


def _class(c: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a class without its curve; undefined ones are None."""
    shares = {k: None if c[k] is None else float(c[k]) for k in ("precision", "recall", "f1", "auc")}
    return {"label": str(c["label"]), "support": int(c["support"]), "predicted": int(c["predicted"]), **shares}


def _worst(place: Path, w: Mapping[str, Any]) -> SavedWorst:
    files = _texts(e["file"] for e in w["examples"])
    return SavedWorst(str(w["true"]), str(w["predicted"]), int(w["count"]), files, _picture(place, w.get("picture")))


def _picture(place: Path, name: Any) -> Path | None:
    """Return a picture of the folder itself: a name that leads elsewhere is none of ours."""
    if not isinstance(name, str) or Path(name).name != name or not name.endswith(".png"):
        return None
    return place / name if (place / name).is_file() and not (place / name).is_symlink() else None
