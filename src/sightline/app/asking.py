"""What becomes of a model's answer when a region is covered; remembered like explanations are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sightline.app.store import store_of
from sightline.app.subject import Chosen, Subject, as_target
from sightline.covering import Region, RegionAnswer, RegionFill, ask_region

__all__ = ["Trial", "answer_known", "answered", "changed_subject"]


@dataclass(frozen=True)
class Trial:
    """What is done to the picture, and which class is watched; equal ones have equal answers."""

    box: Region
    target: str
    fill: RegionFill = "mean"
    reveal: bool = False
    draws: int = 0


def answered(chosen: Chosen, subject: Subject, trial: Trial, tick: Callable[[int], None] | None = None) -> RegionAnswer:
    """Return what became of the answer; remembered. Raises what `ask_region` raises."""

    def make() -> RegionAnswer:
        return ask_region(
            chosen.model,
            subject.image,
            trial.box,
            as_target(trial.target),
            fill=trial.fill,
            reveal=trial.reveal,
            draws=trial.draws,
            tick=tick,
        )

    store = store_of(private=chosen.private or subject.private)
    found: RegionAnswer = store.get((chosen.key, subject.key, trial), make, _bytes)
    return found


def answer_known(chosen: Chosen, subject: Subject, trial: Trial) -> bool:
    """Say whether the answer is remembered."""
    return (chosen.key, subject.key, trial) in store_of(private=chosen.private or subject.private)


def changed_subject(subject: Subject, answer: RegionAnswer) -> Subject:
    """Return the changed picture as one that can be explained."""
    how = "alone" if answer.reveal else "covered"
    key = f"{subject.key} {answer.box} {how} {answer.fill}"
    return Subject(answer.image, f"{subject.name}, {how}", key, subject.private)


def _bytes(answer: RegionAnswer) -> int:
    width, height = answer.image.size
    return 3 * width * height + answer.before.nbytes + answer.after.nbytes + (1 << 12)
