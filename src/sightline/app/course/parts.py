"""What lessons are made of: text, an experiment, a prompt with its answer, an exercise, and what to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import streamlit as st

from sightline.app.course.lesson import Verdict, mark_solved, solved

__all__ = ["column", "exercise", "experiment", "facts", "look", "read_more", "text"]

_WIDTH = 860


@contextmanager
def column() -> Iterator[None]:
    """Keep lines short enough to be read, on a projector too."""
    with st.container(width=_WIDTH):
        yield


def text(*paragraphs: str) -> None:
    """Write paragraphs."""
    for paragraph in paragraphs:
        st.markdown(paragraph)


@contextmanager
def experiment(title: str) -> Iterator[None]:
    """Frame what can be tried."""
    with st.container(border=True):
        st.markdown(f"**:material/science: Try it: {title}**")
        yield


def facts(found: Mapping[str, str]) -> None:
    """Show what the experiment measured."""
    with st.container(horizontal=True, gap="small"):
        for name, value in found.items():
            st.metric(name, value, width="content", border=True)


def look(*answer: str) -> None:
    """Ask what can be seen; the answer unfolds."""
    with st.expander("What do you see? Look and decide first, then unfold.", icon=":material/visibility:"):
        text(*answer)


def exercise(slug: str, task: str, judge: Callable[[], Verdict]) -> None:
    """Set a task that is solved on the controls of the experiment, and judge what is set when asked to."""
    with st.container(border=True):
        st.markdown(f"**:material/edit: Exercise.** {task}")
        if st.button("Check what I have set", key=f"check-{slug}", type="primary"):
            _judged(slug, judge())
        elif slug in solved():
            st.caption(":material/check_circle: You have solved this one.")


def _judged(slug: str, verdict: Verdict) -> None:
    if verdict.right:
        mark_solved(slug)
        st.success(f"Right. {verdict.said}", icon=":material/check_circle:")
    else:
        st.warning(f"Not yet. {verdict.said}", icon=":material/replay:")


def read_more(*papers: str) -> None:
    """Name the papers, and the methods as they are called here."""
    st.caption("**Where to read more.** " + " · ".join(papers))
