"""Choose a picture: an example, or one of the visitor's own, which lives in the session and goes with it."""

from __future__ import annotations

import hashlib
import io

import streamlit as st
from PIL import Image

from sightline.app.examples import EXAMPLES
from sightline.app.settings import settings
from sightline.app.subject import Subject
from sightline.errors import SightlineError
from sightline.images import read_upload
from sightline.paths import shown

__all__ = ["chosen_picture"]

FORMATS = ["jpg", "jpeg", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif"]
_OWN = "your "
_MOST_OWN = 6


def chosen_picture() -> Subject:
    """Draw the choice of a picture and return it."""
    own: dict[str, Subject] = st.session_state.setdefault("own_pictures", {})
    place = st.container()
    st.file_uploader(
        "Drop a photo here",
        type=FORMATS,
        key="dropped",
        on_change=_taken,
        help=f"Up to {settings().upload_mb} MB. It stays on this machine and is forgotten when you leave.",
    )
    if refused := st.session_state.get("refused_picture"):
        st.error(refused, icon=":material/error:")
    name = place.selectbox(
        "Picture",
        [*own, *EXAMPLES],
        key="picture",
        bind="query-params",
        help="Examples are drawn by the app itself, so what is in them is known. The mark is a logo in a corner.",
    )
    return own[name] if name in own else example(name or next(iter(EXAMPLES)))


def example(name: str) -> Subject:
    """Return one of the pictures that come with the app."""
    picture = Image.fromarray(EXAMPLES[name].draw().image)
    picture.filename = name  # type: ignore[attr-defined]
    return Subject(picture, name, f"example {name}")


def _taken() -> None:
    """Take the dropped file into the session, or say why it is none."""
    st.session_state["refused_picture"] = None
    file = st.session_state["dropped"]
    if file is None:
        return
    try:
        found = subject_of(file.getvalue(), file.name)
    except SightlineError as error:
        st.session_state["refused_picture"] = str(error)
        return
    own: dict[str, Subject] = st.session_state["own_pictures"]
    own[found.name] = found
    while len(own) > _MOST_OWN:
        own.pop(next(iter(own)))
    st.session_state["picture"] = found.name


def subject_of(data: bytes, name: str) -> Subject:
    """Decode what was uploaded; its name is only ever shown. Raises ImageError for what is no picture."""
    said = shown(name)
    picture = read_upload(io.BytesIO(data), said, max_pixels=settings().max_pixels)
    picture.filename = said  # type: ignore[attr-defined]
    return Subject(picture, f"{_OWN}{said}", hashlib.sha256(data).hexdigest()[:16], private=True)
