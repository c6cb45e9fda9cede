"""Begin a lesson at its top: where one ended, the next would otherwise be opened at its end."""

from __future__ import annotations

import streamlit as st

from sightline.app.parts.viewer import asset

__all__ = ["scroll_to_top"]

_TOP = st.components.v2.component("sightline_top", html="<span></span>", js=asset("top.js"))


def scroll_to_top(lesson: str) -> None:
    """Scroll the page to its top whenever the lesson is another one."""
    _TOP(key="top", data={"lesson": lesson})
