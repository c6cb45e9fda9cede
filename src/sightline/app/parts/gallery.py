"""Errors as pictures: filtered, sorted, a page at a time; one of them large, and on to the page that explains it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from PIL import Image

from sightline.app.parts.model import model_names
from sightline.app.parts.picture import keep_picture, subject_of
from sightline.app.parts.words import as_text
from sightline.app.reports import Report, Search, find_picture
from sightline.app.settings import settings
from sightline.app.store import store_of
from sightline.errors import SightlineError
from sightline.evaluation.mistakes.reading import SavedAnswer, SavedErrors, SavedWorst
from sightline.images import read_upload

__all__ = ["filtered", "gallery"]

_PAGE, _WIDTH, _SIDE = 12, 168, 320
_ALL = "all classes"
_SORTS = ("surest first", "least sure first", "by file")


def gallery(search: Search, report: Report, found: SavedErrors) -> None:
    """Draw the errors of a report; a click shows one large."""
    wrong = found.wrong
    if not wrong:
        st.caption("There is none.")
        return
    listed = _asked(wrong)
    pages = max(1, -(-len(listed) // _PAGE))
    if st.session_state.get("error_page", 1) > pages:
        st.session_state["error_page"] = 1
    st.caption(f"{len(listed):,} of {len(wrong):,} errors" if listed else "No error is like that; loosen the filters.")
    if listed and _picture_of(search, found, listed[0]) is None:
        st.caption(
            ":material/hide_image: The pictures are not below the folder that the app was started with, or were made "
            "on the spot; what was explained can be seen nevertheless."
        )
    place = st.container()
    page = st.pagination(pages, key="error_page", bind="query-params") if pages > 1 else 1
    with place:
        _cards(search, found, listed[(page - 1) * _PAGE : page * _PAGE])
    _opened(search, report, found)


def _asked(wrong: Sequence[SavedAnswer]) -> list[SavedAnswer]:
    """Draw the filters and return the errors that they let through."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        true = _class("It is", "error_true", (a.true for a in wrong))
        said = _class("It says", "error_said", (a.predicted for a in wrong))
        order = st.selectbox("Order", _SORTS, key="error_order", bind="query-params", width=_WIDTH)
        text = st.text_input("Search", key="error_text", bind="query-params", placeholder="file or class", width=_WIDTH)
    return filtered(wrong, true, said, order, text)


def _class(label: str, key: str, names: Any) -> str | None:
    options = [_ALL, *sorted(set(names))]
    if st.session_state.get(key, _ALL) not in options:
        st.session_state[key] = _ALL
    picked = st.selectbox(label, options, key=key, bind="query-params", width=_WIDTH)
    return None if picked == _ALL else picked


def filtered(
    wrong: Sequence[SavedAnswer], true: str | None, said: str | None, order: str, text: str
) -> list[SavedAnswer]:
    """Return the errors of a true and a predicted class (None: any) with a text in file or class, in an order."""
    sought = text.strip().casefold()
    kept = [
        a
        for a in wrong
        if true in (None, a.true)
        and said in (None, a.predicted)
        and sought in f"{a.file}\n{a.true}\n{a.predicted}".casefold()
    ]
    if order == _SORTS[2]:
        return sorted(kept, key=lambda a: a.file)
    return kept[::-1] if order == _SORTS[1] else kept


def _cards(search: Search, found: SavedErrors, listed: Sequence[SavedAnswer]) -> None:
    with st.container(horizontal=True, gap="small"):
        for answer in listed:
            with st.container(border=True, width=_WIDTH, height="stretch", gap="xsmall"):
                _card(search, found, answer)


def _card(search: Search, found: SavedErrors, a: SavedAnswer) -> None:
    file = _picture_of(search, found, a)
    small = None if file is None else _thumbnail(file)
    if small is not None:
        st.image(small, alt=f"{a.file}: {a.true}, taken for {a.predicted}", width="stretch")
    elif file is not None:
        st.caption(":material/broken_image: cannot be read")
    st.markdown(f"{as_text(a.true)} → **{as_text(a.predicted)}**")
    explained = " · explained" if found.explained(a) else ""
    st.caption(f"{a.probability:.0%} sure · {as_text(Path(a.file).name)}{explained}")
    st.button("Look closer", key=f"open-{a.file}", on_click=_open, args=(a.file,), width="stretch")


def _open(file: str) -> None:
    st.query_params["error"] = file


def _close() -> None:
    st.query_params.pop("error", None)


def _opened(search: Search, report: Report, found: SavedErrors) -> None:
    """Show the error that the URL names, if the report has it."""
    asked = st.query_params.get("error")
    answer = next((a for a in found.answers if a.file == asked and not a.correct), None) if asked else None
    if answer is None:
        _close()
        return
    st.dialog(f"{as_text(answer.true)}, taken for {as_text(answer.predicted)}", width="large", on_dismiss=_close)(
        _large
    )(search, report, found, answer)


def _large(search: Search, report: Report, found: SavedErrors, a: SavedAnswer) -> None:
    st.markdown(
        f"{as_text(a.file)}: {a.probability:.1%} sure of **{as_text(a.predicted)}**, {a.true_probability:.1%} of "
        f"**{as_text(a.true)}**, its class, which came in place {a.rank}."
    )
    file, worst = _picture_of(search, found, a), found.explained(a)
    if worst is not None and worst.picture is not None:
        _explained(worst)
    elif file is not None and (small := _thumbnail(file, 2 * _SIDE)) is not None:
        st.image(small, alt=f"{a.file}: {a.true}, taken for {a.predicted}")
    if file is not None and st.button(
        "Explain this picture", key="explain-error", type="primary", icon=":material/visibility:"
    ):
        _explain(file, found)


def _explained(w: SavedWorst) -> None:
    from sightline.app.parts.mistakes import worst_picture

    worst_picture(w)
    st.caption("Left the picture, then the map for what the model said, then the map for the true class.")


def _explain(file: Path, found: SavedErrors) -> None:
    """Take the picture into the session, with the report's model where it can be chosen, and go to its page."""
    from sightline.app.pages import explain

    try:
        subject = subject_of(file.read_bytes(), file.name)
    except (OSError, SightlineError) as error:
        st.error(as_text(error), icon=":material/error:")
        return
    asked = {"picture": keep_picture(subject)}
    asked |= {"model": model} if (model := str(found.settings.get("model"))) in model_names() else {}
    st.session_state.update(asked)
    st.switch_page(st.Page(explain.page, default=True), query_params=asked)


def _picture_of(search: Search, found: SavedErrors, a: SavedAnswer) -> Path | None:
    folder = str(found.settings.get("folder", "")).partition(", ")[0]
    return find_picture(search, folder, a.file)


def _thumbnail(file: Path, side: int = _SIDE) -> Image.Image | None:
    """Return a picture made small, or None where it cannot be read; remembered."""
    try:
        stamp = file.stat().st_mtime_ns
    except OSError:
        return None
    key = ("thumbnail", str(file), stamp, side)
    kept = store_of(private=False).get(key, lambda: (_small(file, side),), lambda _: 4 * side * side)
    found: Image.Image | None = kept[0]
    return found


def _small(file: Path, side: int) -> Image.Image | None:
    try:
        if file.stat().st_size > settings().upload_mb << 20:
            return None
        picture = read_upload(io.BytesIO(file.read_bytes()), file.name, max_pixels=settings().max_pixels)
    except (OSError, SightlineError):
        return None
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    return small
