"""What a training left in its folder, read again, also while it runs or after it was broken off."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sightline.errors import InputError
from sightline.saved import read_object, refusing
from sightline.training.history import Row, best_row, read_history

__all__ = ["State", "TrainingRun", "read_training"]

State = Literal["finished", "running", "broken off"]

_RUN, _HISTORY, _CARD = "run.json", "history.csv", "model-card.json"
_WRITER = "sightline train"
_QUIET, _QUIET_AT_FIRST, _EPOCHS = 60.0, 600.0, 4.0


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A training as it stands: what was asked, of what, every epoch so far, and its model card where it ended.

    ``state`` is "running" while files still come, judged by how long its epochs take; ``changed`` is when the last one
    came, in seconds since 1970. ``card`` is empty before the end.
    """

    folder: Path
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, str]
    rows: tuple[Row, ...]
    card: Mapping[str, Any]
    state: State
    changed: float

    @property
    def best(self) -> Row | None:
        """The epoch whose weights were kept, or the best so far; None before the first has ended."""
        kept = self.card["training"]["kept_epoch"] if self.card else None
        named = [r for r in self.rows if r.epoch == kept]
        return named[0] if named else best_row(self.rows) if self.rows else None

    @property
    def ended(self) -> str:
        """How it ended, or how far it is, in words."""
        asked = self.settings.get("epochs", "?")
        if self.state == "finished":
            return f"{self.card['training']['ended']} after {len(self.rows)} of {asked} epochs"
        return f"{self.state}, {len(self.rows)} of {asked} epochs done"

    @property
    def notes(self) -> list[str]:
        """What was said in the training."""
        return [*self.card["data"]["notes"], *self.card["training"]["notes"]] if self.card else []


def read_training(folder: str | os.PathLike[str], now: float | None = None) -> TrainingRun:
    """Read a folder that `train` writes or wrote, as it is at ``now`` (seconds since 1970, by default the present).

    Raises InputError for files that are damaged, foreign or of a newer version.
    """
    place = Path(folder)
    about = read_object(place / _RUN)
    with refusing(place / _RUN, _WRITER):
        settings, data = dict(about["settings"]), dict(about["data"])
        versions = {str(k): str(v) for k, v in about.get("versions", {}).items()}
        data = {"name": str(data["name"]), "classes": [str(c) for c in data["classes"]]}
    rows, changed = _rows(place / _HISTORY), _changed(place)
    card = _card(place)
    since = (time.time() if now is None else now) - changed
    state: State = "finished" if card else "running" if since < _patience(rows) else "broken off"
    return TrainingRun(place, settings, data, versions, rows, card, state, changed)


def _rows(file: Path) -> tuple[Row, ...]:
    """Return the epochs so far; there is no file before the first has ended."""
    if not file.is_file():
        return ()
    with refusing(file, _WRITER):
        try:
            rows = read_history(file)
        except (OSError, csv.Error) as error:
            raise ValueError(str(error)) from None
        if sorted({r.epoch for r in rows}) != [r.epoch for r in rows]:
            raise ValueError("epochs that do not follow one another")
        return tuple(rows)


def _card(place: Path) -> dict[str, Any]:
    """Return the model card; one that is older than the epochs is of the run that was gone on with."""
    file, history = place / _CARD, place / _HISTORY
    if not file.is_file() or (history.is_file() and history.stat().st_mtime > file.stat().st_mtime):
        return {}
    card = read_object(file)
    with refusing(file, _WRITER):
        _check(card)
        return card


def _check(card: Mapping[str, Any]) -> None:
    training, data, model = card["training"], card["data"], card["model"]
    _ = int(training["kept_epoch"]), float(training["seconds"]), str(training["ended"]), card["made"]["date"]
    _ = [str(n) for n in (*training["notes"], *data["notes"], *data["skipped"], *card["limits"])]
    _ = int(model["parameters"]), model["architecture"], model["input"], model["weights_hash"], data["split"]
    _ = {k: int(v) for k, v in data["images"].items()}
    for result in card["results"].values():
        _ = [float(result["accuracy"][k]) for k in ("right", "total", "share", "low", "high")]


def _changed(place: Path) -> float:
    """Return when a file last came or grew."""
    try:
        return max(f.stat().st_mtime for f in _files(place))
    except OSError as error:
        raise InputError(f"{place.name} cannot be read ({error.strerror}); look at its rights.") from None


def _files(place: Path) -> Iterator[Path]:
    yield place / _RUN
    for pattern in (_HISTORY, "checkpoints/*", "tensorboard/*", "validation/*", "test/*", "work/*"):
        yield from place.glob(pattern)


def _patience(rows: tuple[Row, ...]) -> float:
    """Return for how long a training that runs may be silent: several times its longest epoch."""
    return max(_QUIET, _EPOCHS * max(r.seconds for r in rows)) if rows else _QUIET_AT_FIRST
