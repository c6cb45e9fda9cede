"""The callback for Keras 3."""

from __future__ import annotations

from typing import Any

import keras

from sightline.training.callbacks.watching import Watch

__all__ = ["KerasWatch"]


class KerasWatch(keras.callbacks.Callback):
    """Calls a watch at Keras' epochs."""

    def __init__(self, watch: Watch, model: Any) -> None:
        super().__init__()
        self.watch = watch
        self.explained = model
        self._begun = False
        self._done = 0

    def on_train_begin(self, *_: Any) -> None:
        """Begin anew, as `fit` may be called again."""
        self._begun = False

    def on_epoch_begin(self, epoch: int, *_: Any) -> None:
        """Draw what the net looks at before it learns."""
        if not self._begun:
            self._begun, self._done = True, epoch
            self.watch.draw(self._explained, epoch)

    def on_epoch_end(self, epoch: int, *_: Any) -> None:
        """Draw where it is time, and the last epoch before anybody puts older weights back."""
        self._done = epoch + 1
        last = self._done == self.params.get("epochs") or self.model.stop_training
        (self.watch.draw if last else self.watch)(self._explained, self._done)

    def on_train_end(self, *_: Any) -> None:
        """Draw the last epoch, if it was not."""
        if self._begun and self.watch.last != self._done:
            self.watch.draw(self._explained, self._done)
        self.watch.close()

    @property
    def _explained(self) -> Any:
        return self.model if self.explained is None else self.explained
