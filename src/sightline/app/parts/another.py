"""Another model than the listed ones: a known architecture, or a file of the visitor's own. All of it on request."""

from __future__ import annotations

import hashlib
from typing import Any

import streamlit as st

from sightline.app.catalogue import Entry, architectures, loaded, random_entry
from sightline.app.parts.work import told
from sightline.app.settings import settings
from sightline.app.subject import Chosen
from sightline.app.trial import SUFFIXES, WITHOUT_ARCHITECTURE, ModelFile, loaded_safely, suffix_of
from sightline.app.uploads import OWN, admit, belongings, drop_file, keep, short
from sightline.models.architectures import ARCHITECTURES
from sightline.models.cached import download_megabytes
from sightline.models.keras_architectures import KERAS_ARCHITECTURES
from sightline.paths import shown

__all__ = ["another_model"]

_MOST_OWN = 2
_USUAL = "resnet18"
_KNOWN, _FILE = "By name", "My file"
_PUBLISHED, _RANDOM = "published weights", "random weights"
_IN_FILE = "the file holds it"
_UNPUBLISHED = (*ARCHITECTURES, *(f"keras/{name}" for name in KERAS_ARCHITECTURES))


def another_model() -> None:
    """Draw the ways to a model that is not listed."""
    opened = st.expander("Another model", icon=":material/add:", key="another", on_change="rerun")
    if not opened.open:
        return
    with opened:
        way = st.segmented_control(
            "Which", [_KNOWN, _FILE], default=_KNOWN, required=True, key="another_way", label_visibility="collapsed"
        )
        with told():
            if way == _KNOWN:
                _known()
            else:
                _of_ones_own()


def _choose(name: str) -> None:
    """Choose a model on the next run: its widget is drawn already in this one."""
    st.session_state["next_model"] = name
    st.rerun()


def _known() -> None:
    names = architectures()
    usual = names.index(_USUAL) if _USUAL in names else 0
    name = st.selectbox("Architecture", names, usual, key="known_name", help="Type to search.")
    ways = [_RANDOM] if name in _UNPUBLISHED else [_PUBLISHED, _RANDOM]
    weights = st.radio("Weights", ways, key="known_weights", horizontal=True)
    if weights == _RANDOM:
        st.caption("With random weights it knows nothing. That makes a control: its maps show the architecture alone.")
        if st.button("Take it", key="known_random"):
            st.session_state["random_models"][:] = dict.fromkeys([*st.session_state["random_models"], name])
            _choose(random_entry(name).shown)
        return
    size = download_megabytes(name)
    said = "14 to 550 MB" if size is None else f"{size:,.0f} MB"
    st.caption(f"{said} will be downloaded to this machine and kept, unless they are there already.")
    if st.button("Download and take it", key="known_download", icon=":material/download:"):
        with st.spinner(f"Downloading {said} …"):
            loaded(name, "default", None)
        _choose(Entry(name, name).shown)


def _of_ones_own() -> None:
    number = st.session_state.setdefault("model_file_number", 0)
    file = st.file_uploader(
        "The model, or its weights",
        key=f"model_file {number}",
        help=f"{', '.join(SUFFIXES)}; up to {settings().upload_mb} MB. Files that would run code (pickles: .pt, .pth, "
        ".pkl) are refused. It is forgotten when you leave.",
    )
    st.caption(f"{', '.join(SUFFIXES)}. Never a pickle (.pt, .pth, .pkl): those can run code.")
    labels = st.file_uploader(
        "Class names, if you have them", key=f"model_labels {number}", help=".txt with one name a line, or .json"
    )
    if file is None:
        return
    architecture = _architecture(suffix_of(file.name))
    if st.button("Check and take it", key="own_take", type="primary"):
        names = (labels.getvalue(), labels.name) if labels else (None, "")
        _take(ModelFile(file.getvalue(), shown(file.name), architecture, *names))
        for taken in filter(None, (file, labels)):
            drop_file(taken)
        st.session_state["model_file_number"] += 1  # a new widget: the file itself is forgotten
        st.rerun()


def _architecture(suffix: str) -> str:
    if suffix not in WITHOUT_ARCHITECTURE:
        return ""
    known = [a for a in architectures() if suffix == ".safetensors" or a.startswith("keras/")]
    first = [_IN_FILE] if suffix == ".h5" else []
    found = st.selectbox(
        "Its architecture",
        [*first, *known],
        index=0 if first else None,
        placeholder="choose one",
        key=f"own_architecture {suffix}",
        help="What the weights were saved from: the file holds numbers only, and not what they are multiplied with.",
    )
    return "" if found in (None, _IN_FILE) else str(found)


def _take(given: ModelFile) -> None:
    key = hashlib.sha256(b"\0".join((given.data, given.architecture.encode(), given.labels or b""))).hexdigest()[:16]
    own = belongings().models
    name = next((n for n, known in own.items() if known.key == key), None)
    if name is None:
        place: Any = st.empty()
        model = loaded_safely(
            given, settings(), lambda s: place.caption(f"Trying it in a process of its own: {s:.0f} s")
        )
        admit(model)
        name = keep(own, f"{OWN}{short(given.name)}", Chosen(model, key, private=True), _MOST_OWN)
    st.session_state["next_model"] = name
