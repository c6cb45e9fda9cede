"""Signals."""

from __future__ import annotations

import streamlit as st

__all__ = ["page"]


def page() -> None:
    """Draw the page."""
    st.title("Why did the model say that of this series?")
