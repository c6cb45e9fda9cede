"""One training under way: what is trained on what, where it is written, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sightline.models.model import Model
from sightline.training.batches import Examples, weights_of_classes
from sightline.training.data import DataSet, Part
from sightline.training.history import Row
from sightline.training.settings import TrainSettings

__all__ = ["Ended", "Fitted", "Job", "NotFiniteError", "Told", "told_plan"]


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

    @property
    def untrained(self) -> bool:
        """Whether the weights are random."""
        return self.model.weights == "random"

    @property
    def freeze(self) -> str:
        """What keeps its weights: where that is left open, the features, unless they are random."""
        asked = str(self.settings.freeze)
        return asked if asked != "auto" else "none" if self.untrained else "features"

    @property
    def lr(self) -> float:
        """The learning rate: where that is left open, a lower one where trained weights change throughout."""
        return self.settings.lr or (1e-4 if self.freeze != "features" and not self.untrained else 1e-3)

    def examples(self, part: Part) -> Examples:
        """Return a part as the model takes it, without augmentation."""
        model = self.model
        return Examples(
            part, model.preprocessing, model.input_dims, seed=self.settings.seed, max_pixels=model.max_pixels
        )

    def about(self, heads: Sequence[str], frozen: int, layers: int, cached: bool) -> dict[str, Any]:
        """Return what was made of the settings."""
        return {
            "heads": tuple(heads),
            "freeze": self.freeze,
            "frozen_layers": frozen,
            "layers": layers,
            "lr": self.lr,
            "features_cached": cached,
            "class_weights": self.class_weights,
        }

    @property
    def class_weights(self) -> list[float] | None:
        """What each class weighs in the loss, or None where all weigh the same."""
        return weights_of_classes(self.data.train.counts(len(self.data.classes)), self.settings.class_weights)

    def frozen_notes(self, frozen: int) -> Iterator[str]:
        """Say where layers stay as they are that may never have learned anything."""
        if frozen and self.untrained:
            yield f"{frozen} layers are frozen with random weights; --freeze none would let them learn."
        if frozen and self.settings.freeze == "auto" and self.model.weights == "as given":
            yield (
                f"the weights came with the network and are taken as trained: {frozen} layers stay as they are; "
                "--freeze none lets them learn."
            )


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
