"""Choose a series: a drawn digit, a file or numbers of the visitor's own, which live in the session and go with it."""

from __future__ import annotations

import hashlib
import io
import re

import numpy as np
import streamlit as st

from sightline.app.parts.work import plain
from sightline.app.series import DIGITS, Series, drawn_series
from sightline.app.settings import settings
from sightline.arrays import read_upload
from sightline.errors import SightlineError
from sightline.paths import shown

__all__ = ["chosen_series"]

FORMATS = ["csv", "tsv", "txt", "npy", "npz"]
PASTED = "your numbers"
_FIRST = 7
_MOST_SEED = 2**31
_MOST_OWN = 6
_MOST_NUMBERS = 100_000


def chosen_series() -> Series:
    """Draw the choice of a series and return it."""
    own: dict[str, Series] = st.session_state.setdefault("own_series", {})
    digits = {f"digit {d}": int(d) for d in DIGITS}
    place = st.container()
    _upload()
    _paste()
    if refused := st.session_state.get("refused_series"):
        st.error(plain(refused), icon=":material/error:")
    with place:
        name = st.selectbox(
            "Series",
            [*digits, *own],
            index=_FIRST,
            key="series",
            bind="query-params",
            help="Digits are drawn by the app itself as in MNIST-1D: a short shape, stretched, moved and tilted, with "
            "noise around it. So it is known where the digit lies.",
        )
        return own[name] if name in own else drawn_series(digits.get(name or "", _FIRST), _seed())


def _seed() -> int:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        seed = st.number_input(
            "Drawing",
            0,
            _MOST_SEED,
            3,
            key="drawing",
            bind="query-params",
            help="The seed of place, stretch, tilt and noise: one number hides every digit in the same way.",
        )
        st.button("Another one", icon=":material/casino:", on_click=_another)
    return int(seed)


def _another() -> None:
    st.session_state["drawing"] = (int(st.session_state["drawing"]) + 1) % _MOST_SEED


def _upload() -> None:
    st.file_uploader(
        "Drop a series here",
        type=FORMATS,
        key="dropped_series",
        on_change=_taken,
        help=f"Numbers, one a line or one line of them; a column is a channel. Up to {settings().upload_mb} MB. "
        "It stays on this machine and is forgotten when you leave.",
    )


def _paste() -> None:
    with st.expander("Paste numbers", icon=":material/content_paste:"):
        st.text_area(
            "Numbers",
            key="pasted",
            max_chars=20 * _MOST_NUMBERS,
            placeholder="0.1, 0.4, 1.2, ...",
            help="With commas, blanks or line breaks between them, and a point before the decimals.",
        )
        st.button("Explain these numbers", on_click=_pasted)


def _taken() -> None:
    file = st.session_state["dropped_series"]
    if file is not None:
        _keep(file.getvalue(), f"your {shown(file.name)}", shown(file.name))


def _pasted() -> None:
    numbers = [part for part in re.split(r"[\s,;]+", st.session_state["pasted"].strip(" \t\r\n[]()")) if part]
    _keep("\n".join(numbers).encode(), PASTED, "what was pasted")


def _keep(data: bytes, name: str, said: str) -> None:
    """Take what a visitor brought into the session, or say why it is no series."""
    st.session_state["refused_series"] = None
    try:
        values = _one_series(read_upload(io.BytesIO(data), said, _MOST_NUMBERS))
    except SightlineError as error:
        st.session_state["refused_series"] = str(error)
        return
    own: dict[str, Series] = st.session_state["own_series"]
    own.pop(name, None)
    own[name] = Series(values, name, hashlib.sha256(data).hexdigest()[:16], private=True)
    while len(own) > _MOST_OWN:
        own.pop(next(iter(own)))
    st.session_state["series"] = name


def _one_series(values: np.ndarray) -> np.ndarray:
    """Return the values without axes of length 1: a row or a column of a table is one series."""
    squeezed = np.squeeze(values)
    return squeezed if squeezed.ndim else values.reshape(-1)
