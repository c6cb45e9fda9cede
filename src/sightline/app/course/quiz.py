"""The quiz at the end of the course."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from sightline.app.course.lesson import Lesson, mark_solved
from sightline.app.course.parts import text
from sightline.app.course.question import Question
from sightline.app.course.questions import questions

__all__ = ["QUIZ", "score_of"]

SLUG = "quiz"
_PASSED = 0.8
_GIVEN = "quiz_given"


def score_of(asked: Sequence[Question], given: Mapping[str, str | None]) -> int:
    """Return how many questions are answered right; ``given`` has the text that was chosen for each."""
    return sum(given.get(q.slug) == q.right.text for q in asked)


def draw() -> None:
    """Draw the quiz."""
    asked = questions()
    text(
        f"{len(asked)} questions, one answer each. The pictures and numbers are computed by the same code as the "
        "lessons. You see your score, and why, when you hand in; you may repeat it as often as you like."
    )
    given: dict[str, str | None] | None = st.session_state.get(_GIVEN)
    with st.form("quiz", border=False):
        for number, question in enumerate(asked, 1):
            _ask(number, question, given)
        if st.form_submit_button("Hand in", type="primary", disabled=given is not None):
            _hand_in({q.slug: st.session_state[_key(q)] for q in asked})
    if given is not None:
        _scored(asked, given)


def _hand_in(given: dict[str, str | None]) -> None:
    """Take the answers where there is one to each question: before that, no answer is told."""
    left = [number for number, text in enumerate(given.values(), 1) if text is None]
    if left:
        st.info(f"Not answered yet: {', '.join(map(str, left))}.", icon=":material/edit:")
        return
    st.session_state[_GIVEN] = given
    st.rerun()


def _ask(number: int, q: Question, given: Mapping[str, str | None] | None) -> None:
    with st.container(border=True):
        st.markdown(f"**{number}.** {q.asked}")
        q.show()
        texts = [o.text for o in q.options]
        st.radio(
            f"Answers to question {number}",
            texts,
            index=None,
            key=_key(q),
            label_visibility="collapsed",
            disabled=given is not None,
        )
        if given is not None:
            _told(q, given[q.slug])


def _told(q: Question, chosen: str | None) -> None:
    if chosen == q.right.text:
        st.success(f"Right. {q.right.why}", icon=":material/check_circle:")
        return
    why = next((f"{o.why} " for o in q.wrong if o.text == chosen), "Not answered. ")
    st.warning(f"{why}The answer is “{q.right.text}”. {q.right.why}", icon=":material/cancel:")


def _scored(asked: Sequence[Question], given: Mapping[str, str | None]) -> None:
    right = score_of(asked, given)
    passed = right >= _PASSED * len(asked)
    if passed:
        mark_solved(SLUG)
    word = "You can read a map, and doubt it." if passed else "Read the answers above, go back, and try again."
    st.markdown(f"### {right} of {len(asked)} right")
    st.write(word)
    st.button("Start the quiz again", on_click=_again, args=([_key(q) for q in asked],), icon=":material/replay:")


def _again(keys: Sequence[str]) -> None:
    st.session_state.pop(_GIVEN, None)
    for key in keys:
        st.session_state[key] = None


def _key(q: Question) -> str:
    return f"quiz-{q.slug}"


QUIZ = Lesson(SLUG, "Quiz", "Quiz: can you read a map?", draw)
