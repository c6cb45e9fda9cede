"""The network as Lightning trains it: steps, optimizer, learning rate, and what a checkpoint has to hold of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from sightline.forward import find_logits
from sightline.models.session import called
from sightline.training.batches import order, step_seed
from sightline.training.history import SCORE, score
from sightline.training.job import NotFiniteError
from sightline.training.price import charged
from sightline.training.settings import TrainSettings
from sightline.training.trunk import set_modes

__all__ = ["Lesson", "steps_in_epoch"]

_PLATEAU = {"mode": "max", "factor": 0.5, "patience": 2, "threshold": 0.0}
_SCHEDULE = "plateau_schedule"


def steps_in_epoch(count: int, asked: TrainSettings) -> int:
    """Return how many batches an epoch has."""
    return asked.steps_per_epoch or -(-count // asked.batch_size)


def _right(answers: Tensor, target: Tensor) -> Tensor:
    """Return how right each answer is, 0 to 1: whether it is the label, or the share that was asked for it."""
    return answers == target if target.ndim == 1 else target.gather(1, answers[:, None])


class Lesson(lightning.LightningModule):
    """Cross-entropy of a network's logits over examples that are found by (epoch, number).

    ``priced`` names the layer that examples with costs put a price on.
    """

    def __init__(
        self,
        net: nn.Module,
        train: Any,
        val: Any,
        asked: TrainSettings,
        lr: float,
        *,
        kept: frozenset[nn.Module] = frozenset(),
        weights: Sequence[float] | None = None,
        priced: str | None = None,
        on_step: Callable[[int], None] = lambda steps: None,
    ) -> None:
        super().__init__()
        self.net, self.train_examples, self.val_examples = net, train, val
        self.priced = priced
        self.asked, self.rate, self.kept, self.on_step = asked, lr, kept, on_step
        self.norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.plateau: lr_scheduler.ReduceLROnPlateau | None = None
        found = None if weights is None else torch.tensor(weights)
        self.register_buffer("class_weights", found, persistent=False)

    # --- examples -------------------------------------------------------------------------------------------

    def train_dataloader(self) -> Any:
        """Return this epoch's examples in this epoch's order; Lightning asks anew for each."""
        most = None if self.asked.steps_per_epoch is None else self.asked.steps_per_epoch * self.asked.batch_size
        keys = order(len(self.train_examples), self.current_epoch, self.asked.seed, most)
        alone = len(keys) % self.asked.batch_size == 1 and len(keys) > 1 and self.norms
        return self._loader(self.train_examples, keys[:-1] if alone else keys)  # a batch norm needs two examples

    def val_dataloader(self) -> Any:
        """Return the validation examples in their own order."""
        return self._loader(self.val_examples, [(0, n) for n in range(len(self.val_examples))])

    def _loader(self, examples: Any, keys: list[tuple[int, int]]) -> Any:
        return DataLoader(examples, self.asked.batch_size, sampler=keys)

    # --- steps ----------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Set the modes, which a validation has changed."""
        set_modes(self.net, self.kept)

    def on_train_batch_start(self, _: Any, number: int) -> None:
        """Draw what a step draws, such as dropout, from a seed of its own: loaders draw too, at times of their own."""
        torch.manual_seed(step_seed(self.asked.seed, self.current_epoch, number))

    def training_step(self, batch: Sequence[Tensor], number: int) -> Tensor:
        """Return the loss of a batch: inputs, labels (N,) or shares (N, K), and perhaps what activity costs."""
        x, target, *costs = batch
        with charged(self.net, self.priced, costs) as charges:
            logits = find_logits(called(self.net, x), len(x)).float()
        loss = cross_entropy(logits, target, self.class_weights, label_smoothing=self.asked.label_smoothing)
        loss = sum(charges, start=loss)
        if not math.isfinite(loss.item()):
            raise NotFiniteError(self._reason(loss, x, number))
        self._note(logits, target, "")
        self.on_step(1)
        return loss

    def validation_step(self, batch: Sequence[Tensor], _: int) -> None:
        """Add a batch to the validation's loss and accuracy."""
        x, target, *_costs = batch
        self._note(find_logits(self.net(x), len(x)).float(), target, "val_")

    def _note(self, logits: Tensor, target: Tensor, which: str) -> None:
        right = _right(logits.argmax(1), target).double().mean()
        found = {f"{which}loss": cross_entropy(logits, target).double(), f"{which}accuracy": right}
        self.log_dict(found, on_step=False, on_epoch=True, batch_size=len(target))

    def _reason(self, loss: Tensor, x: Tensor, number: int) -> str:
        where = f"the loss became {loss.item()} in epoch {self.current_epoch + 1}, step {number + 1}"
        if not bool(torch.isfinite(x).all()):
            return f"{where}: an example of that batch holds NaN or infinity; look at its file and at --preprocess"
        return f"{where}{self._steep()}"

    def _steep(self) -> str:
        rate = self.optimizers().param_groups[0]["lr"]
        return f": at a learning rate of {rate:.3g} steps may be too long; try --lr {min(rate / 10, 1e-3):.3g}"

    # --- optimizer ------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Return the optimizer, with a schedule that steps with it where one is asked for that follows the steps."""
        optimizer = self._optimizer()
        total = self.asked.epochs * steps_in_epoch(len(self.train_examples), self.asked)
        schedule: Any = None
        if self.asked.schedule == "cosine":
            schedule = lr_scheduler.CosineAnnealingLR(optimizer, total)
        elif self.asked.schedule == "one-cycle":
            cycled = self.asked.optimizer != "sgd" or self.asked.momentum > 0
            schedule = lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=total, cycle_momentum=cycled)
        elif self.asked.schedule == "plateau":
            self.plateau = lr_scheduler.ReduceLROnPlateau(optimizer, **_PLATEAU)  # type: ignore[arg-type]
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _optimizer(self) -> torch.optim.Optimizer:
        learned = [p for p in self.net.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": self.asked.weight_decay},
            {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if self.asked.optimizer == "sgd":
            return torch.optim.SGD(groups, self.rate, momentum=self.asked.momentum)
        kind = torch.optim.Adam if self.asked.optimizer == "adam" else torch.optim.AdamW
        return kind(groups, self.rate)

    def on_validation_epoch_end(self) -> None:
        """Score the epoch, and lower the rate where nothing gets better: before the checkpoint is written."""
        accuracy, loss = (self.trainer.callback_metrics[f"val_{name}"].item() for name in ("accuracy", "loss"))
        if not math.isfinite(loss):
            raise NotFiniteError(f"the validation loss became {loss} in epoch {self.current_epoch + 1}{self._steep()}")
        found = score(accuracy, loss)
        self.log(SCORE, torch.tensor(found, dtype=torch.float64))
        if self.plateau is not None:
            self.plateau.step(found)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the schedule that is ours."""
        if self.plateau is not None:
            checkpoint[_SCHEDULE] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the schedule up again."""
        self.kept_schedule = checkpoint.get(_SCHEDULE)

    def on_train_start(self) -> None:
        """Set the schedule to where it was, now that there is one."""
        if self.plateau is not None and getattr(self, "kept_schedule", None) is not None:
            self.plateau.load_state_dict(self.kept_schedule)  # type: ignore[arg-type]
