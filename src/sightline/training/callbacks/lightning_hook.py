"""The callback for Lightning, under whichever of its two names it is installed and used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from sightline.errors import ModelError
from sightline.models.zoo import import_torchvision
from sightline.training.callbacks.watching import Watch

__all__ = ["LightningWatch"]

_NAMES = ("lightning.pytorch", "pytorch_lightning")
_SHARDED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


def _library() -> Any:
    """Return Lightning by the name that is imported already, or else by the one that is installed."""
    for name in _NAMES:
        if sys.modules.get(name) is not None:
            return sys.modules[name]
    if importlib.util.find_spec("torchvision") is not None:
        import_torchvision()  # Lightning does too, and fails where the compiled operators do not fit torch
    try:
        return importlib.import_module(_NAMES[0])
    except ModuleNotFoundError:
        return importlib.import_module(_NAMES[1])


class LightningWatch(_library().Callback):  # type: ignore[misc]
    """Calls a watch at Lightning's epochs, in the first process only."""

    def __init__(self, watch: Watch, model: Any) -> None:
        super().__init__()
        self.watch = watch
        self.model = model

    def setup(self, trainer: Any, *_: Any, **__: Any) -> None:
        """Refuse what cannot be drawn in one process; find the trainer's TensorBoard logger."""
        kind = type(trainer.strategy).__name__
        if kind in _SHARDED:
            raise ModelError(f"{kind} shards the weights, so that no one process can explain; train with ddp instead.")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Draw what the net looks at before it learns."""
        if trainer.is_global_zero:
            self._use_logger(trainer)
            self.watch.draw(self._explained(pl_module), trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Draw where it is time."""
        if trainer.is_global_zero:
            self.watch(self._explained(pl_module), trainer.current_epoch + 1)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Draw the last epoch, if it was not."""
        if trainer.is_global_zero:
            if self.watch.last != trainer.current_epoch:
                self.watch.draw(self._explained(pl_module), trainer.current_epoch)
            self.watch.close()

    def _explained(self, pl_module: Any) -> Any:
        return pl_module if self.model is None else self.model

    def _use_logger(self, trainer: Any) -> None:
        if not self.watch.any_board:
            return
        found = (log.experiment for log in trainer.loggers if type(log).__name__ == "TensorBoardLogger")
        writer = next(found, None)
        if writer is not None:
            self.watch.board.use(writer)
