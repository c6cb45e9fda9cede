"""One training under way: what is trained on what, where it is written, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sightline.models.model import Model
from sightline.training.data import DataSet
from sightline.training.history import Row
from sightline.training.settings import TrainSettings

__all__ = ["Fitted", "Job", "NotFiniteError", "Told", "told_plan"]


@dataclass(frozen=True)
class Told:
    """Who is told of progress: a stage with its number of steps, steps done, an epoch that ended, a note."""

    stage: Callable[[str, int], None] = lambda name, steps: None
    step: Callable[[int], None] = lambda steps: None
    epoch: Callable[[Row], None] = lambda row: None
    note: Callable[[str], None] = lambda text: None


@dataclass(frozen=True, eq=False)
class Job:
    """``model`` is to learn ``data`` as ``settings`` say, in ``out``; ``resume`` goes on with what is there."""

    model: Model
    data: DataSet
    settings: TrainSettings
    out: Path
    resume: bool = False
    told: Told = field(default_factory=Told)

    @property
    def checkpoints(self) -> Path:
        """Where the best and the last state are kept."""
        return self.out / "checkpoints"


Ended = Literal["finished", "stopped early", "interrupted", "loss not finite"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """The trained model, every epoch, how it ended, and what a reader should know."""

    model: Model
    rows: tuple[Row, ...]
    ended: Ended
    why: str = ""
    notes: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)


def told_plan(job: Job, about: Mapping[str, Any], notes: Sequence[str]) -> None:
    """Tell what is about to be learned, from what, and how, and what is to be known of it."""
    frozen = f"{about['frozen_layers']} of {about['layers']} layers stay as they are"
    kept = ", what they make is computed once" if about["features_cached"] else ""
    learned = f"{frozen}{kept}" if about["frozen_layers"] else f"all {about['layers']} layers are learned"
    sizes = " + ".join(f"{len(part)} {name}" for name, part in job.data.parts.items())
    job.told.note(
        f"{job.model.name}: {len(job.data.classes)} classes, {sizes}; {learned}; {job.settings.optimizer}, learning "
        f"rate {about['lr']:g}"
    )
    if about["class_weights"]:
        weights = ", ".join(f"{w:.2f}" for w in about["class_weights"])
        job.told.note(f"note: classes of different size weigh {weights} in the loss.")
    for text in notes:
        job.told.note(f"note: {text}")


class NotFiniteError(Exception):
    """The loss became NaN or infinite; the text says where."""
