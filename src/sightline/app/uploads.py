"""What a visitor brought: it lives in the session, under names that are only shown, and goes with it."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import streamlit as st
from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from sightline.app.settings import settings
from sightline.app.subject import Chosen, Subject
from sightline.errors import ModelError
from sightline.geometry import Preprocessing
from sightline.models.adapted import tensors_of
from sightline.models.model import Model

__all__ = ["OWN", "Belongings", "admit", "belongings", "drop_file", "forget_the_gone", "free_name", "keep", "short"]

OWN = "your "
_GB = 1 << 30
_LONGEST = 60
_BETWEEN = 5.0


@dataclass(eq=False)
class Belongings:
    """The pictures and models of one session, the oldest first, and when its page was last seen open."""

    session: str
    pictures: dict[str, Subject] = field(default_factory=dict)
    models: dict[str, Chosen] = field(default_factory=dict)
    prepared: dict[tuple[str, Preprocessing], Chosen] = field(default_factory=dict)
    seen: float = field(default_factory=time.monotonic)

    def forget(self) -> None:
        """Forget all of it."""
        self.pictures.clear()
        self.forget_models()

    def forget_models(self) -> None:
        """Forget the models."""
        self.models.clear()
        self.prepared.clear()


def belongings() -> Belongings:
    """Return what the visitor brought in this session."""
    found: Belongings | None = st.session_state.get("belongings")
    if found is None:
        context = get_script_run_ctx()
        found = st.session_state["belongings"] = Belongings(context.session_id if context else "")
        _everybodys().add(found)
    return found


@st.cache_resource(show_spinner=False)
def _everybodys() -> weakref.WeakSet[Belongings]:
    """Return what all visitors brought; a thread forgets what is of pages that were closed."""
    every: weakref.WeakSet[Belongings] = weakref.WeakSet()
    most = settings().keep_seconds
    server = runtime.get_instance()

    def watch() -> None:
        while True:
            time.sleep(min(_BETWEEN, most))
            for session in forget_the_gone(list(every), server.is_active_session, time.monotonic(), most):
                server.clear_user_info_for_session(session)  # which closes it, from any thread

    threading.Thread(target=watch, name="sightline-forget", daemon=True).start()
    return every


def forget_the_gone(every: list[Belongings], active: Callable[[str], bool], now: float, most: float) -> list[str]:
    """Forget what is of sessions whose page has been closed for ``most`` seconds, and return these sessions.

    Streamlit itself would keep them until another visitor leaves.
    """
    gone = []
    for one in every:
        if active(one.session):
            one.seen = now
        elif now - one.seen >= most:
            one.forget()
            gone.append(one.session)
    return gone


def drop_file(file: Any) -> None:
    """Forget the bytes of an uploaded file, which Streamlit would keep as long as the session."""
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, file.file_id)


class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


_K = TypeVar("_K", bound=_Keyed)


def keep(own: dict[str, _K], name: str, thing: _K, most: int) -> str:
    """Keep a thing, the oldest forgotten first, and return its name: the one it has already, or a free one."""
    known = next((n for n, other in own.items() if other.key == thing.key), None)
    if known is not None:
        return known
    free = free_name(name, own)
    own[free] = thing
    while len(own) > most:
        own.pop(next(iter(own)))
    return free


def short(name: str) -> str:
    """Return a name that fits where names are chosen: its beginning and its end."""
    return name if len(name) <= _LONGEST else f"{name[:40]}…{name[-15:]}"


def free_name(name: str, taken: Mapping[str, Any]) -> str:
    """Return the name, with a number where another thing has it.

    >>> free_name("a.png", {"a.png": 1})
    'a.png (2)'
    """
    numbered = (name, *(f"{name} ({i})" for i in range(2, len(taken) + 2)))
    return next(n for n in numbered if n not in taken)


@st.cache_resource(show_spinner=False)
def _all_uploaded() -> weakref.WeakSet[Model]:
    return weakref.WeakSet()


def admit(model: Model) -> None:
    """Count a visitor's model among those of all visitors; raise ModelError where they would take too much memory."""
    there = _all_uploaded()
    held = sum(map(_bytes, list(there)))
    most = settings().model_gb
    if held + _bytes(model) > most * _GB:
        raise ModelError(
            f"the models that visitors uploaded take {held / _GB:.1f} of {most:g} GB, and this one would take "
            f"{_bytes(model) / _GB:.1f} more; try again later, or start the app with a larger --model-gb."
        )
    there.add(model)


def _bytes(model: Model) -> int:
    return sum(v.numel() * v.element_size() for v in tensors_of(model.module).values())
