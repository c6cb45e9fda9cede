"""Widgets for parameters, made from their schema: the signature is the only place where they are described."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import streamlit as st

from sightline.schema import Parameter

__all__ = ["changed"]


def changed(owner: str, parameters: Iterable[Parameter]) -> tuple[tuple[str, Any], ...]:
    """Draw a widget for each parameter and return those that are not at their default, sorted by name."""
    found = {p.name: _widget(owner, p) for p in parameters if _can_be_typed(p)}
    defaults = {p.name: p.default for p in parameters}
    return tuple(sorted((name, value) for name, value in found.items() if value != defaults[name]))


def _can_be_typed(parameter: Parameter) -> bool:
    """Say whether a value fits a widget: arrays do not."""
    return bool(parameter.choices) or bool({bool, int, float, str} & set(parameter.types))


def _widget(owner: str, p: Parameter) -> Any:
    look: dict[str, Any] = {"key": f"{owner}.{p.name}", "bind": "query-params"}
    label = p.name.replace("_", " ")
    if p.choices:
        index = p.choices.index(p.default) if p.default in p.choices else None
        return st.selectbox(label, p.choices, index=index, **look)
    if bool in p.types:
        return st.checkbox(label, p.default, **look)
    if int in p.types or float in p.types:
        return _number(label, p, look)
    return st.text_input(label, p.default, **look) or p.default


def _number(label: str, p: Parameter, look: dict[str, Any]) -> Any:
    kind = float if float in p.types else int
    low, high = (None if end is None else kind(end) for end in (p.low, p.high))
    value = None if p.default is None else kind(p.default)
    step = 1 if kind is int else 0.05 if (p.high or 10) <= 1 else 0.1
    found = st.number_input(label, low, high, value, step, placeholder="automatic", **look)
    return p.default if found is None else found
