"""The models that a visitor can choose by name, and how each is loaded. Nothing is downloaded unasked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from sightline.app.settings import settings
from sightline.app.subject import Chosen
from sightline.errors import ModelError
from sightline.models import keras_zoo, zoo
from sightline.models.architectures import ARCHITECTURES
from sightline.models.cached import cached_models
from sightline.models.load import load

__all__ = ["EMBEDDED", "RANDOM", "Entry", "architectures", "catalogue", "loaded", "named", "random_entry"]

EMBEDDED = {
    "demo/honest": "a small CNN that looks at the shape",
    "demo/cheating": "the same CNN, trained where a mark gave the answer away",
    "demo/vit": "a small vision transformer",
}
RANDOM = " (random weights)"
_MOST_KEPT = 6


@dataclass(frozen=True)
class Entry:
    """A model as the list and the URL say it, as `load` takes it, and one line on it."""

    shown: str
    name: str
    weights: str | None = "default"
    line: str = ""
    labels: str | None = None

    def load(self) -> Chosen:
        """Return the model, loaded once for all visitors. Raises ModelError where it cannot be had."""
        return loaded(self.name, self.weights, self.labels)


@st.cache_resource(max_entries=_MOST_KEPT, show_spinner="Loading the model …")
def loaded(name: str, weights: str | None, labels: str | None) -> Chosen:
    """Load a model by name or file and keep it, the least recently used forgotten first."""
    model = load(name, weights=weights, labels=labels)
    return Chosen(model, f"{name} {model.weights_hash}")


def catalogue() -> Mapping[str, Entry]:
    """Return the models that everybody can choose, by what is shown."""
    embedded = [Entry(name, name, line=line) for name, line in EMBEDDED.items()]
    return {entry.shown: entry for entry in (*named(), *embedded, *_on_this_machine())}


def named() -> list[Entry]:
    """Return the models that the app was started with: files by the last part of their path, where that tells."""
    names = settings().models
    short = [_short(name) for name in names]
    shown = [s if short.count(s) == 1 else name for s, name in zip(short, names, strict=True)]
    line = "named when the app was started"
    return [Entry(s, name, line=line, labels=settings().labels) for s, name in zip(shown, names, strict=True)]


def _short(name: str) -> str:
    """Return a name without the directories of its files: where they lie is nobody's business."""
    network, at, file = name.partition("@")
    if at:
        return f"{network}@{Path(file).name}"
    factory, colon, function = name.rpartition(".py:")
    if colon:
        return f"{Path(factory).name}{colon}{function}"
    return Path(name).name if Path(name).exists() else name


def _on_this_machine() -> list[Entry]:
    line = "published weights, on this machine already"
    return [
        Entry(c.name if c.weights == "default" else f"{c.name} ({c.weights})", c.name, c.weights, line)
        for c in cached_models()
    ]


def random_entry(name: str) -> Entry:
    """Return an architecture with random weights."""
    return Entry(f"{name}{RANDOM}", name, None, "it knows nothing: a control, whose maps show the architecture alone")


@st.cache_resource(show_spinner="Listing what is known …")
def architectures() -> tuple[str, ...]:
    """List the architectures for pictures that are known by name; imports the libraries that have them."""
    own = [name for name, known in ARCHITECTURES.items() if known.dims == 2]
    return (*_names_of(zoo.names), *(f"{keras_zoo.PREFIX}{n}" for n in _names_of(keras_zoo.names)), *own)


def _names_of(source: Callable[[], list[str]]) -> list[str]:
    try:
        return source()
    except ModelError:  # the library is not installed, and so there are none of it
        return []
