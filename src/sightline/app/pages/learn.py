"""Learn: from a gradient to a cheating model, one lesson at a time."""

from __future__ import annotations

from typing import Literal, TypeAlias

import streamlit as st

from sightline.app.course.lesson import Lesson, solved
from sightline.app.course.listed import LESSONS
from sightline.app.course.parts import column
from sightline.app.course.quiz import QUIZ
from sightline.app.course.top import scroll_to_top
from sightline.app.parts.work import told

__all__ = ["page"]

_ALL: dict[str, Lesson] = {lesson.slug: lesson for lesson in (*LESSONS, QUIZ)}
_KEY = "lesson"

Kind: TypeAlias = Literal["primary", "secondary", "tertiary"]


def page() -> None:
    """Draw the page."""
    lesson = _ALL[_current()]
    beside = st.sidebar.container()
    with column():
        progress = st.container()
        st.title(lesson.title)
        with told():
            lesson.draw()
        _around(lesson.slug)
    with beside:
        _list(lesson.slug)
    with progress:
        _progress(lesson.slug)
    scroll_to_top(lesson.slug)


def _current() -> str:
    """Return the lesson in the URL, or else the last one that was open."""
    asked = st.query_params.get(_KEY) or st.session_state.get("open_lesson", "")
    found = asked if asked in _ALL else LESSONS[0].slug
    st.session_state["open_lesson"] = found
    return found


def _go(slug: str) -> None:
    st.query_params[_KEY] = slug


def _named(slug: str) -> str:
    place = list(_ALL).index(slug) + 1
    return _ALL[slug].name if slug == QUIZ.slug else f"{place}. {_ALL[slug].name}"


def _list(current: str) -> None:
    st.markdown("**Lessons**")
    for slug in _ALL:
        done = slug in solved()
        icon = ":material/check_circle:" if done else ":material/circle:"
        words = "Solved" if done else "Not solved yet"
        kind: Kind = "primary" if slug == current else "tertiary"
        st.button(_named(slug), key=f"to-{slug}", icon=icon, type=kind, on_click=_go, args=(slug,), help=words)
    st.caption("A tick means that the exercise is solved. Progress is kept until you close or reload the page.")


def _progress(current: str) -> None:
    number = len(solved() & {lesson.slug for lesson in LESSONS})
    place = "Quiz" if current == QUIZ.slug else f"Lesson {list(_ALL).index(current) + 1} of {len(LESSONS)}"
    st.progress(number / len(LESSONS), f"{place} · {number} of {len(LESSONS)} exercises solved")


def _around(current: str) -> None:
    """Draw the ways to the previous and the next lesson."""
    slugs = list(_ALL)
    at = slugs.index(current)
    st.divider()
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        if at:
            _way("Previous", slugs[at - 1], ":material/arrow_back:")
        if at + 1 < len(slugs):
            _way("Next", slugs[at + 1], ":material/arrow_forward:")


def _way(name: str, slug: str, icon: str) -> None:
    kind: Kind = "primary" if name == "Next" else "secondary"
    st.button(f"{name}: {_named(slug)}", key=name.lower(), icon=icon, type=kind, on_click=_go, args=(slug,))
