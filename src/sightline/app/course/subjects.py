"""The pictures and models of the course."""

from __future__ import annotations

import hashlib

import numpy as np
import streamlit as st
from PIL import Image

from sightline.app.examples import EXAMPLES
from sightline.app.parts.picture import example
from sightline.app.subject import Asked, Chosen, Subject, explained
from sightline.demo.linear import linear_model
from sightline.demo.scenes import CLASSES, Scene
from sightline.demo.story import mass_share
from sightline.explanation import Explanation
from sightline.models.load import load

__all__ = ["ask", "chosen_scene", "drawn", "model", "percent", "pictured", "share_on"]

SCENES = ("ring", "star", "cross", "disc", "square", "triangle")


@st.cache_resource(max_entries=4, show_spinner="Loading the model …")
def model(name: str) -> Chosen:
    """Return a model of the course: "linear", "honest", "cheating" or "vit"."""
    found = linear_model() if name == "linear" else load(f"demo/{name}")
    return Chosen(found, f"demo/{name} {found.weights_hash}")


def pictured(image: np.ndarray, name: str) -> Subject:
    """Return pixels as something to explain."""
    return Subject(Image.fromarray(image), name, f"course {hashlib.sha256(image.tobytes()).hexdigest()[:16]}")


def drawn(name: str) -> Scene:
    """Return one of the app's example scenes with its masks."""
    return EXAMPLES[name].draw()


def chosen_scene(key: str, among: tuple[str, ...] = SCENES) -> Subject:
    """Draw the choice of a scene and return it."""
    return example(st.selectbox("Picture", among, key=key, bind="query-params"))


def ask(chosen: Chosen, subject: Subject, method: str, target: str = "top1", **parameters: object) -> Explanation:
    """Return an explanation, remembered; ``target`` is a class's name."""
    aim = str(CLASSES.index(target)) if target in CLASSES else target
    return explained(chosen, subject, Asked(method, aim, tuple(sorted(parameters.items()))))


def share_on(values: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of a map's mass that lies on a mask; 0 of an empty map."""
    return float(np.nan_to_num(mass_share(values, mask)))


def percent(share: float) -> str:
    """Write a share as per cent."""
    return f"{share:.0%}".replace("%", " %")
