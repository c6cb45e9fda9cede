"""Searches that decide from the answers so far what to ask next, one for each image, asked side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

__all__ = ["Search", "side_by_side"]

T = TypeVar("T")
Search: TypeAlias = Generator[Tensor, Tensor, T]


def side_by_side(
    searches: Sequence[Search[T]], ask: Callable[[Iterator[Tensor]], Iterator[Tensor]], everything: Tensor
) -> list[T]:
    """Run a search for each image to its end and return what they found.

    A search yields maps (K, *S) of what is kept of its image and is sent the K answers. ``ask`` turns maps (N, *S)
    into answers (N,), and ``everything`` (*S) is asked where an image has no more questions than others.
    """
    found: dict[int, T] = {}
    questions = _advanced(dict.fromkeys(range(len(searches))), searches, found)
    while questions:
        longest = max(map(len, questions.values()))
        answers = torch.stack(list(ask(_rounds(questions, len(searches), longest, everything)))).double().cpu()
        sent = {i: answers[: len(maps), i] for i, maps in questions.items()}
        questions = _advanced(sent, searches, found)
    return [found[i] for i in range(len(searches))]


def _advanced(answers: dict[int, Any], searches: Sequence[Search[T]], found: dict[int, T]) -> dict[int, Tensor]:
    """Send each search its answers and collect its next questions, or what it found."""
    questions = {}
    for i, sent in answers.items():
        try:
            questions[i] = searches[i].send(sent)
        except StopIteration as stop:
            found[i] = stop.value
    return questions


def _rounds(questions: dict[int, Tensor], images: int, longest: int, everything: Tensor) -> Iterator[Tensor]:
    for k in range(longest):
        asked = (questions[i][k] if i in questions and k < len(questions[i]) else everything for i in range(images))
        yield torch.stack([maps.to(everything) for maps in asked])
