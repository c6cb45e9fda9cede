"""Words of others on a page: shown as they are, whatever marks of a text language are in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import streamlit as st

from sightline.paths import shown

__all__ = ["as_text", "sentences"]

_MARKS = re.compile(r"([!-/:-@\[-`{-~])")


def as_text(text: object) -> str:
    r"""Return a text on one line as Markdown shows it: no picture, link, colour or formula comes of it.

    >>> as_text("a_b ![x](y) $z$")
    'a\\_b \\!\\[x\\]\\(y\\) \\$z\\$'
    """
    return _MARKS.sub(r"\\\1", shown(" ".join(str(text).split())))


def sentences(said: Iterable[object], title: str = "") -> None:
    """Draw sentences as a list, under a title; nothing where there is none."""
    lines = [f"- {as_text(text)}" for text in said]
    if lines:
        st.markdown("\n".join([f"**{title}**\n"] * bool(title) + lines))
