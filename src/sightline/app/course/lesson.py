"""What a lesson is, and which ones a visitor has solved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

__all__ = ["Lesson", "Verdict", "mark_solved", "solved"]


@dataclass(frozen=True)
class Verdict:
    """Whether what is set answers an exercise, and why."""

    right: bool
    said: str


@dataclass(frozen=True)
class Lesson:
    """A lesson: its word in the URL, its name in lists, the question that is its title, and what draws it."""

    slug: str
    name: str
    title: str
    draw: Callable[[], None]


def solved() -> set[str]:
    """Return the words of the lessons whose exercise this visitor has solved."""
    found: set[str] = st.session_state.setdefault("lessons_solved", set())
    return found


def mark_solved(slug: str) -> None:
    """Remember that this visitor has solved a lesson's exercise."""
    solved().add(slug)
