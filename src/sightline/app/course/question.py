"""What a question of the quiz is, and in which order its answers stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Option", "Question"]


def _nothing() -> None: ...


@dataclass(frozen=True)
class Option:
    """An answer to choose, and what is said to who chose it."""

    text: str
    why: str


@dataclass(frozen=True)
class Question:
    """A question: its word, what is asked, the right answer, the wrong ones, and what draws its pictures."""

    slug: str
    asked: str
    right: Option
    wrong: tuple[Option, ...]
    show: Callable[[], None] = _nothing

    @property
    def options(self) -> tuple[Option, ...]:
        """The answers in an order that is always the same and does not tell which is right."""
        found = (self.right, *self.wrong)
        order = np.random.default_rng(list(self.slug.encode())).permutation(len(found))
        return tuple(found[i] for i in order)
