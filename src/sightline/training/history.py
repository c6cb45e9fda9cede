"""What happened epoch by epoch: kept as rows, written as a table and as TensorBoard's events."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sightline.output import written

__all__ = ["SCORE", "Row", "best_row", "event_log", "is_over", "read_history", "row_of", "score", "write_history"]


SCORE = "val_score"  # what Lightning's and Keras' own callbacks find the score of an epoch by


@dataclass(frozen=True)
class Row:
    """One epoch, from 1: mean cross-entropy and accuracy in training and validation, learning rate at its end, time."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float


def score(accuracy: float, loss: float) -> float:
    """Return what epochs are compared by: validation accuracy, and among equals the lower loss.

    A few hundred images give accuracies in steps, on which a net that still learns would seem to stand.

    >>> score(0.9, 0.5) > score(0.9, 0.6) > score(0.8999, 0.1) > score(0.8, float("nan"))
    True
    """
    return accuracy - 1e-9 * (min(loss, 1e3) if loss == loss else 1e3)


def best_row(rows: Sequence[Row]) -> Row:
    """Return the first epoch of the highest score."""
    return max(rows, key=lambda r: (score(r.val_accuracy, r.val_loss), -r.epoch))


def is_over(rows: Sequence[Row], epochs: int, patience: int) -> bool:
    """Say whether nothing is left to do after these epochs: all are there, or the patience (0: endless) is at its end.

    >>> is_over([], epochs=5, patience=2)
    False
    """
    waited = len(rows) - best_row(rows).epoch if rows else 0
    return len(rows) >= epochs or bool(patience and waited >= patience)


def write_history(rows: Sequence[Row], file: Path) -> None:
    """Write the epochs as a CSV, whole or not at all."""
    with written(file) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow([f.name for f in fields(Row)])
        table.writerows([[getattr(row, f.name) for f in fields(Row)] for row in rows])


def read_history(file: Path) -> list[Row]:
    """Read what `write_history` wrote."""
    with file.open(newline="", encoding="utf-8") as stream:
        return [row_of(values) for values in csv.DictReader(stream)]


def row_of(values: Mapping[str, Any]) -> Row:
    """Return a row from its values by name."""
    numbers = {f.name: float(values[f.name]) for f in fields(Row)}
    return Row(**numbers | {"epoch": int(numbers["epoch"])})  # type: ignore[arg-type]


@contextmanager
def event_log(folder: Path, first: int) -> Iterator[Callable[[Row], None]]:
    """Yield what adds an epoch to TensorBoard's event files; epochs from ``first`` on that are there are taken back."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=first) as writer:

        def add(row: Row) -> None:
            for name, value in _scalars(row).items():
                writer.add_scalar(name, value, row.epoch)
            writer.flush()

        yield add


def _scalars(row: Row) -> dict[str, float]:
    return {
        "loss/train": row.loss,
        "loss/validation": row.val_loss,
        "accuracy/train": row.accuracy,
        "accuracy/validation": row.val_accuracy,
        "learning_rate": row.lr,
    }
