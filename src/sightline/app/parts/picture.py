"""Choose a picture: an example, or one of the visitor's own, which lives in the session and goes with it."""

from __future__ import annotations

import hashlib
import io

import streamlit as st
from PIL import Image

from sightline.app.examples import EXAMPLES
from sightline.app.parts.share import unknown_in_link
from sightline.app.parts.work import plain
from sightline.app.settings import settings
from sightline.app.subject import Subject
from sightline.app.uploads import OWN, belongings, drop_file, keep, short
from sightline.errors import SightlineError
from sightline.images import read_upload
from sightline.paths import shown

__all__ = ["chosen_picture", "keep_picture"]

FORMATS = ["jpg", "jpeg", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif"]
_MOST_OWN = 6


def chosen_picture() -> Subject:
    """Draw the choice of a picture and return it."""
    own = belongings().pictures
    gone = st.session_state.setdefault("picture_gone", _is_gone(own))  # asked once: the URL forgets it next
    place = st.container()
    st.file_uploader(
        "Drop a photo here",
        type=FORMATS,
        key=_uploader(),
        on_change=_taken,
        help=f"Up to {settings().upload_mb} MB. It stays on this machine and is forgotten when you leave.",
    )
    if refused := st.session_state.get("refused_picture"):
        st.error(plain(refused), icon=":material/error:")
    if own:
        st.button("Forget my photos", on_click=_forget, icon=":material/delete:", key="forget_pictures")
    if gone and not own:
        st.info(
            "Your photo is gone: what you bring is forgotten when the page is closed or loaded again. Drop it again."
        )
    with place:
        unknown_in_link("picture", [*EXAMPLES, *own, *_gone_names()], "picture")
    name = place.selectbox(
        "Picture",
        [*EXAMPLES, *own],  # the default, which the URL leaves out, stays the same for all
        key="picture",
        bind="query-params",
        help="Examples are drawn by the app itself, so what is in them is known. The mark is a logo in a corner.",
    )
    return own[name] if name in own else example(name or next(iter(EXAMPLES)))


def _gone_names() -> list[str]:
    """Return the pictures of earlier sessions that the address names: what became of them is said already."""
    return [name for name in st.session_state["link"].get("picture", ()) if name.startswith(OWN)]


def _uploader() -> str:
    """Return the key of the uploader, another one for each file: what was taken is not shown as waiting."""
    return f"dropped {st.session_state.setdefault('dropped_files', 0)}"


def _is_gone(own: dict[str, Subject]) -> bool:
    """Say whether the URL names a picture of an earlier session."""
    wanted = st.query_params.get("picture", "")
    return wanted.startswith(OWN) and wanted not in own


def example(name: str) -> Subject:
    """Return one of the pictures that come with the app."""
    picture = Image.fromarray(EXAMPLES[name].draw().image)
    picture.filename = name  # type: ignore[attr-defined]
    return Subject(picture, name, f"example {name}")


def _taken() -> None:
    """Take the dropped file into the session, or say why it is none."""
    st.session_state["refused_picture"] = None
    file = st.session_state[_uploader()]
    if file is None:
        return
    drop_file(file)
    st.session_state["dropped_files"] += 1
    try:
        found = subject_of(file.getvalue(), file.name)
    except SightlineError as error:
        st.session_state["refused_picture"] = str(error)
        return
    st.session_state["picture"] = keep_picture(found)


def keep_picture(found: Subject) -> str:
    """Keep a picture among the visitor's own, the oldest forgotten first, and return its name there."""
    return keep(belongings().pictures, found.name, found, _MOST_OWN)


def _forget() -> None:
    belongings().pictures.clear()
    st.session_state["refused_picture"] = None
    st.session_state["picture"] = next(iter(EXAMPLES))


def subject_of(data: bytes, name: str) -> Subject:
    """Decode what was uploaded; its name is only ever shown. Raises ImageError for what is no picture."""
    said = shown(name)
    picture = read_upload(io.BytesIO(data), said, max_pixels=settings().max_pixels)
    picture.filename = said  # type: ignore[attr-defined]
    return Subject(picture, f"{OWN}{short(said)}", hashlib.sha256(data).hexdigest()[:16], private=True)
