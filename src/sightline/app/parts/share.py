"""A link to what is on the page, and where a phone hides what is chosen."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from sightline.app.parts.work import plain

__all__ = ["phone_hint", "remember_link", "share", "unknown_in_link"]

# The address leaves out what is at its default, which another server may have otherwise.
_ALWAYS = ("picture", "model", "method", "map")
_NARROW = """<style>.phone-hint{display:none}@media(max-width:640px){.phone-hint{display:block;opacity:.8}}</style>
<p class="phone-hint">Picture, model and methods are behind » at the top left.</p>"""


def share() -> None:
    """Draw a button that shows the whole link."""
    with st.popover("Link to this", icon=":material/link:", width="stretch"):
        st.caption("It says all that is chosen here. What you uploaded does not travel with it.")
        st.code(link(), language=None, wrap_lines=True)


def link() -> str:
    """Return the page's address with everything that is chosen, defaults too."""
    query = {key: st.query_params.get_all(key) for key in st.query_params}
    query |= {key: st.session_state[key] for key in _ALWAYS if st.session_state.get(key)}
    return urlunsplit((*urlsplit(st.context.url or "")[:3], urlencode(query, doseq=True), ""))


def phone_hint() -> None:
    """Say on a phone where the choices are: its sidebar is folded."""
    st.html(_NARROW)


def remember_link() -> None:
    """Keep what the address asked for when the page was opened: widgets take away from it what they do not know."""
    if "link" not in st.session_state:
        st.session_state["link"] = {key: st.query_params.get_all(key) for key in st.query_params}


def unknown_in_link(key: str, options: Iterable[str], noun: str) -> None:
    """Say which of the things that the address asked for are not offered here, until something else is chosen."""
    asked, known = st.session_state["link"].get(key, ()), set(options)
    missing: list[str] = st.session_state.setdefault(f"missing {key}", [value for value in asked if value not in known])
    now = st.session_state.get(key)
    before = st.session_state.setdefault(f"first {key}", now) if now is not None else None
    if missing and now in (None, before):
        said = ", ".join(f"“{plain(value[:80])}”" for value in missing)
        st.warning(f"The link asks for the {noun} {said}, which is not offered here; this is shown instead.")
