"""Learn."""

from __future__ import annotations

import streamlit as st

__all__ = ["page"]


def page() -> None:
    """Draw the page."""
    st.title("From a gradient to a cheating model")
