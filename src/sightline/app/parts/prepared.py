"""How pictures are prepared for a model: said for every one, and set by the visitor where none came with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import streamlit as st

from sightline.app.parts.work import told
from sightline.app.subject import Chosen
from sightline.app.uploads import belongings
from sightline.errors import ParameterError
from sightline.geometry import Preprocessing

__all__ = ["PRESETS", "prepared"]

Fit = Literal["crop", "squash", "pad"]

_ASSUMED = "as assumed"
_OWN = "numbers of my own"
_CAFFE = (103.939, 116.779, 123.68)
_FITS: dict[Fit, str] = {"crop": "cut the centre out", "squash": "squash", "pad": "add borders"}
_MOST_SIDE = 2048
_HELP = "What is done to a picture before the model sees it: its size, then (value / scale − mean) / std."


def _even(mean: float, std: float, scale: float = 255.0) -> Callable[[Preprocessing], Preprocessing]:
    def made(how: Preprocessing) -> Preprocessing:
        return replace(how, mean=(mean,) * how.channels, std=(std,) * how.channels, scale=scale, order="rgb")

    return made


def _imagenet(how: Preprocessing) -> Preprocessing:
    usual = Preprocessing()
    return replace(how, mean=usual.mean, std=usual.std, scale=255.0, order="rgb")


def _caffe(how: Preprocessing) -> Preprocessing:
    return replace(how, mean=_CAFFE, std=(1.0,) * 3, scale=1.0, order="bgr")


PRESETS: dict[str, Callable[[Preprocessing], Preprocessing]] = {
    "0 to 1": _even(0, 1),
    "−1 to 1": _even(0.5, 0.5),
    "0 to 255 (the model rescales)": _even(0, 1, 1.0),
    "ImageNet's mean and std (torchvision)": _imagenet,
    "ImageNet's mean, BGR (VGG16 and ResNet50 of Keras)": _caffe,
}
_FOR_COLOURS = (_imagenet, _caffe)


def prepared(name: str, chosen: Chosen) -> Chosen:
    """Say how pictures are prepared, and return the model with what the visitor set."""
    if not chosen.model.assumed:
        st.caption("Pictures are prepared as it wants.", help=f"{_HELP} Here: {_described(chosen)}.")
        return chosen
    place = st.container()
    with st.expander("How pictures are prepared"), told():
        how = _asked(name, chosen)
    found = chosen if how is None else _with(chosen, how)
    with place:
        if how is None:
            said = f"How it wants pictures did not come with it. **Assumed**: {_described(found)}."
            st.warning(f"{said} If it was trained otherwise, its answers are wrong: set it below.")
        else:
            st.caption(f"Pictures are prepared as you set: {_described(found)}", help=_HELP)
    return found


def _described(chosen: Chosen) -> str:
    return chosen.model.preprocessing.describe()


def _with(chosen: Chosen, how: Preprocessing) -> Chosen:
    """Return the model with another preprocessing, the same one as long as that stays."""
    kept = belongings().prepared
    key = (chosen.key, how)
    if key not in kept:
        kept.clear()
        model = replace(chosen.model, preprocessing=how, assumed=False, _layers={}, _copies={}, _shuffled={})
        kept[key] = Chosen(model, f"{chosen.key} {how!r}", chosen.private)
    return kept[key]


def _asked(name: str, chosen: Chosen) -> Preprocessing | None:
    """Draw the widgets and return what they say, None as long as all is as assumed."""
    usual = chosen.model.preprocessing
    colours = usual.channels == 3
    presets = [p for p, make in PRESETS.items() if colours or make not in _FOR_COLOURS]
    values = st.selectbox("Values", [_ASSUMED, *presets, _OWN], key=f"prepared-values {name}", help=_HELP)
    sized = _sized(name, usual) if chosen.model.input_size is None else _fitted(name, usual)
    if values == _OWN:
        return _own_numbers(name, sized)
    how = sized if values == _ASSUMED else PRESETS[values](sized)
    return None if how == usual and values == _ASSUMED else how


def _fitted(name: str, usual: Preprocessing) -> Preprocessing:
    fit = st.selectbox(
        "Pictures of another shape",
        list(_FITS),
        index=list(_FITS).index(usual.fit),
        format_func=_FITS.__getitem__,
        key=f"prepared-fit {name}",
        help="The model sees pictures of one size. Cut: the middle is kept. Squash: all is kept, its shape is not.",
    )
    return replace(usual, fit=fit)


def _sized(name: str, usual: Preprocessing) -> Preprocessing:
    how = _fitted(name, usual)
    sides = how.crop or how.resize or 224
    side = sides if isinstance(sides, int) else sides[0]
    given = st.number_input("Side that the model sees, in pixels", 8, _MOST_SIDE, side, key=f"prepared-side {name}")
    if given == side:
        return how
    if how.fit == "crop":
        return replace(how, crop=given, resize=given)
    return replace(how, crop=None, resize=(given, given))


def _own_numbers(name: str, how: Preprocessing) -> Preprocessing:
    mean = _numbers("Mean of each channel, of values from 0 to 1", how.mean, f"prepared-mean {name}")
    std = _numbers("Std of each channel", how.std, f"prepared-std {name}")
    return replace(how, mean=mean, std=std, scale=255.0)


def _numbers(label: str, usual: tuple[float, ...], key: str) -> tuple[float, ...]:
    text = st.text_input(label, ", ".join(f"{v:g}" for v in usual), key=key)
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ParameterError(f"{label}: {text!r} came; wanted {len(usual)} numbers with commas between.") from None
    if len(found) != len(usual):
        raise ParameterError(f"{label}: {len(found)} numbers came; wanted {len(usual)}, one for each channel.")
    return found
