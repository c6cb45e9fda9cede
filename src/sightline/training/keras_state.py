"""What a Keras training keeps at the end of each epoch, in one file, and how another goes on from it.

Keras' `BackupAndRestore` keeps weights and optimizer, but not what `EarlyStopping`, `ReduceLROnPlateau` and
`ModelCheckpoint` have counted, so a run that goes on with it ends elsewhere.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.models.keras import import_keras
from sightline.output import written
from sightline.training.batches import epoch_seed
from sightline.training.history import SCORE, Row, best_row, row_of, score, write_history
from sightline.training.job import Job, NotFiniteError
from sightline.training.keras_batches import Batches

__all__ = ["LAST", "Keeper", "Kept", "Progress", "best_file", "read_last"]

keras: Any = import_keras()

LAST = "last.npz"
_COUNTED = ("best", "wait", "cooldown_counter")


@dataclass(frozen=True, eq=False)
class Kept:
    """Weights, optimizer's state, what each callback has counted, and the epochs so far."""

    weights: Sequence[np.ndarray]
    optimizer: Sequence[np.ndarray]
    counted: Mapping[str, Mapping[str, Any]]
    rows: tuple[Row, ...]


def read_last(file: Path) -> Kept:
    """Read what a `Keeper` wrote."""
    with np.load(file, allow_pickle=False) as data:
        about = json.loads(str(data["about"]))
        weights, optimizer = ([data[f"{k}{n}"] for n in range(about[k])] for k in ("weights", "optimizer"))
    return Kept(weights, optimizer, about["counted"], tuple(row_of(row) for row in about["rows"]))


def _write_last(file: Path, kept: Kept) -> None:
    arrays = {f"weights{n}": v for n, v in enumerate(kept.weights)}
    arrays |= {f"optimizer{n}": v for n, v in enumerate(kept.optimizer)}
    about = {"weights": len(kept.weights), "optimizer": len(kept.optimizer), "counted": kept.counted}
    text = json.dumps(about | {"rows": [asdict(row) for row in kept.rows]})
    with written(file) as aside:
        np.savez(aside, about=np.array(text), **arrays)  # type: ignore[arg-type]


def best_file(folder: Path, epoch: int) -> Path:
    """Name the file of the best weights, which carries its epoch: a broken write touches no older one."""
    return folder / f"best-{epoch:04d}.weights.h5"


def _rounded(value: Any) -> float:
    """Return a number in as many digits as float32 has."""
    return float(f"{float(value):.7g}")


class Progress(keras.callbacks.Callback):
    """Begin each epoch in its own order with its own draws, tell of steps, and stop where the loss is not finite."""

    def __init__(self, job: Job, train: Batches) -> None:
        super().__init__()
        self.job, self.train, self.epoch = job, train, 0

    def on_epoch_begin(self, epoch: int, *_: Any) -> None:
        """Seed what the epoch draws, such as dropout, so that a broken epoch is repeated as it was."""
        self.epoch, seed = epoch, self.job.settings.seed
        self.train.begin(epoch)
        torch.manual_seed(epoch_seed(seed, epoch))
        drawn = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for number, state in enumerate(drawn):
            state.assign([epoch_seed(epoch_seed(seed, epoch), number) & 0x7FFFFFFF, 0])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the mean loss so far, which one loss that is not finite spoils."""
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise NotFiniteError(self._reason(loss, batch))
        self.job.told.step(1)

    def on_epoch_end(self, _: int, logs: Any = None) -> None:
        """Score the epoch, for the callbacks that follow."""
        if not math.isfinite(loss := float(logs["val_cross_entropy"])):
            raise NotFiniteError(f"the validation loss became {loss} in epoch {self.epoch + 1}{self._steep()}")
        logs[SCORE] = score(_rounded(logs["val_accuracy"]), _rounded(logs["val_cross_entropy"]))

    def _reason(self, loss: float, batch: int) -> str:
        where = f"the loss became {loss} in epoch {self.epoch + 1}, step {batch + 1}"
        if not bool(torch.isfinite(self.train[batch][0]).all()):
            return f"{where}: an example of that batch holds NaN or infinity; look at its file and at --preprocess"
        return f"{where}{self._steep()}"

    def _steep(self) -> str:
        rate = float(self.model.optimizer.learning_rate)
        return f": at a learning rate of {rate:.3g} steps may be too long; try --lr {min(rate / 10, 1e-3):.3g}"


class Keeper(keras.callbacks.Callback):
    """Keep each epoch's row and all state when the other callbacks are done with it, and take it up again."""

    def __init__(
        self, job: Job, net: Any, others: Mapping[str, Any], add: Callable[[Row], None], kept: Kept | None
    ) -> None:
        super().__init__()
        self.job, self.net, self.others, self.add, self.kept = job, net, others, add, kept
        self.rows: list[Row] = [] if kept is None else list(kept.rows)
        self.began = time.perf_counter()

    def on_train_begin(self, *_: Any) -> None:
        """Put everything back to where it was; the other callbacks have begun already."""
        if self.kept is None:
            return
        self.net.set_weights(self.kept.weights)
        for variable, value in zip(self.model.optimizer.variables, self.kept.optimizer, strict=True):
            variable.assign(value)
        for name, values in self.kept.counted.items():
            for key, value in values.items():
                setattr(self.others[name], key, value)

    def on_epoch_begin(self, *_: Any) -> None:
        """Look at the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the epoch and the state, then tell."""
        row = self._row(epoch, logs)
        rows = [*self.rows, row]
        _write_last(self.job.checkpoints / LAST, self._state(rows))
        self.rows = rows
        self._tidy()
        write_history(rows, self.job.out / "history.csv")
        self.add(row)
        self.job.told.epoch(row)

    def _tidy(self) -> None:
        """Remove the best weights of earlier epochs, now that those of the best one are known to be whole."""
        best = best_file(self.job.checkpoints, best_row(self.rows).epoch)
        for file in self.job.checkpoints.glob(best_file(Path(), 0).name.replace("0000", "*")):
            if file.name != best.name:
                file.unlink()

    def _row(self, epoch: int, logs: Any) -> Row:
        names = {"loss": "cross_entropy", "accuracy": "accuracy"}
        found = {f"{w}{k}": logs[f"{w}{v}"] for k, v in names.items() for w in ("", "val_")}
        found["lr"] = self.model.optimizer.learning_rate
        plain = {k: _rounded(v) for k, v in found.items()}
        return row_of(plain | {"epoch": epoch + 1, "seconds": time.perf_counter() - self.began})

    def _state(self, rows: Sequence[Row]) -> Kept:
        counted = {
            name: {k: _plain(getattr(other, k)) for k in _COUNTED if hasattr(other, k)}
            for name, other in self.others.items()
        }
        optimizer = [np.asarray(keras.ops.convert_to_numpy(v)) for v in self.model.optimizer.variables]
        return Kept(self.net.get_weights(), optimizer, counted, tuple(rows))


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int) else float(value)
