"""Shuffle a model layer by layer and see whether the map notices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import streamlit as st

from sightline.app.parts.charts import Line, line_chart
from sightline.app.parts.trust import plain_map
from sightline.app.parts.work import stoppable
from sightline.app.subject import Asked, Chosen, Subject, explained
from sightline.app.trials import Shuffle, ShuffledMap, Similarity, is_tried, tried
from sightline.evaluation.checking import SIMILAR_MODEL
from sightline.evaluation.shuffling import Shuffled, layers_to_shuffle
from sightline.explanation import Explanation

__all__ = ["randomised"]

_INTRO = (
    "What a model learned is in its weights. Here they are **shuffled**, layer by layer from the output down, until "
    "the model knows nothing; a map that tells the model's reasons must change with it. If the map hardly changes "
    "although the model knows nothing any more, it shows the picture's edges, not the model's reasons."
)
_SIMILARITY = (
    "Similarity: the rank correlation (Spearman) of the two maps, whatever their signs. 1 is the same map, 0 has "
    f"nothing in common. On the grey ground, from {SIMILAR_MODEL.no:g} on, a map counts as much the same."
)
_ORDERS = {"cascading": "This layer and all above", "independent": "This layer alone"}
_MOST_POINTS = 12
_MOST_NAMES = 8


def randomised(chosen: Chosen, subject: Subject, asked: Asked, control: Asked) -> None:
    """Show the trained model's map beside a shuffled one's, and how alike both stay, layer by layer."""
    st.markdown(_INTRO)
    e = explained(chosen, subject, asked)
    names = layers_to_shuffle(chosen.model, e)
    how = _shuffle(names)
    st.markdown(_which(names, how))
    left, right = st.columns(2)
    with left, st.container(border=True):
        _shown(e, "Trained model", "trained")
    with right, st.container(border=True):
        found = _tried(chosen, subject, ShuffledMap(asked, how))
        if found is not None:
            _shown(found.explanation, _title(names, how), "shuffled")
    if found is not None:
        _said(found, names, how)
    _chart(chosen, subject, [asked, control], names, how)


def _shuffle(names: Sequence[str]) -> Shuffle:
    """Draw the choice of layers and return it."""
    last = len(names)
    if st.session_state.get("shuffled", 0) > last:  # kept from a model with more layers
        st.session_state["shuffled"] = last
    count = st.slider(
        "Layers shuffled, counted from the output", 0, last, last, key="shuffled", bind="query-params",
        help="0 is the trained model. The last number is the layer nearest the picture.",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order: Any = st.segmented_control(
            "Shuffle",
            list(_ORDERS),
            format_func=_ORDERS.__getitem__,
            default="cascading",
            required=True,
            key="shuffle_order",
            bind="query-params",
        )
        seed = st.number_input(
            "Seed of the shuffling", 0, 9999, 0, key="shuffle_seed", bind="query-params", width=180,
            help="Another seed shuffles otherwise; a finding that holds for one seed only is none.",
        )  # fmt: skip
    return Shuffle(count, order or "cascading", seed)


def _named(name: str) -> str:
    return f"`{name or 'weights outside of any layer'}`"


def _which(names: Sequence[str], how: Shuffle) -> str:
    """Name the layers that are shuffled and those that are not."""
    if not how.count:
        return f"Nothing is shuffled. From the output to the picture: {_listed(names)}."
    chosen = names[how.count - 1 : how.count] if how.order == "independent" else names[: how.count]
    kept = [n for n in names if n not in chosen]
    said = f"Shuffled: {_listed(chosen)}."
    return f"{said} Still trained: {_listed(kept)}." if kept else f"{said} No layer is left as trained."


def _listed(names: Sequence[str]) -> str:
    """Name layers, of many the first and the last."""
    said = [_named(n) for n in names]
    if len(said) > _MOST_NAMES:
        said[3:-2] = [f"… {len(said) - 5} more …"]
    return ", ".join(said)


def _title(names: Sequence[str], how: Shuffle) -> str:
    if not how.count:
        return "Nothing shuffled yet"
    if how.order == "independent":
        return f"Layer {how.count} of {len(names)} shuffled"
    return f"{how.count} of {len(names)} layers shuffled"


def _shown(e: Explanation, title: str, key: str) -> None:
    st.markdown(f"**{title}**")
    plain_map(e, key)
    st.markdown("It says: " + ", ".join(f"{p['label']} {p['probability']:.0%}" for p in e.predictions[:3]))


def _tried(chosen: Chosen, subject: Subject, trial: ShuffledMap) -> Shuffled | None:
    if not is_tried(chosen, subject, trial) and not stoppable(
        "Shuffling", f"shuffle-{hash(trial)}", lambda tick: tried(chosen, subject, trial, tick)
    ):
        return None
    return tried(chosen, subject, trial)


def _said(found: Shuffled, names: Sequence[str], how: Shuffle) -> None:
    """Say in a sentence what the similarity means."""
    value, all_of_it = found.similarity, how.order == "cascading" and how.count == len(names)
    if not how.count:
        st.info("Both maps are the same, as nothing is shuffled. Move the slider.", icon=":material/swipe:")
        return
    if math.isnan(value):
        st.info("One of the two maps is the same everywhere, so that they cannot be compared.", icon=":material/help:")
        return
    number = f"**Similarity {value:.2f}.**".replace("-", "−")
    match SIMILAR_MODEL.verdict(value):
        case "yes":
            st.info(f"{number} The map is quite another: it depends on what was shuffled.", icon=":material/check:")
        case "partly":
            st.info(f"{number} The map is partly the same.", icon=":material/contrast:")
        case _ if all_of_it:
            st.warning(
                f"{number} The map hardly changes although the model knows nothing any more. If it does so for other "
                "seeds too, it shows the picture rather than the model's reasons.",
                icon=":material/warning:",
            )
        case _:
            st.info(
                f"{number} The map is much the same so far. That speaks against it only if it stays so when all "
                "layers are shuffled.",
                icon=":material/info:",
            )


def _chart(chosen: Chosen, subject: Subject, asked: Sequence[Asked], names: Sequence[str], how: Shuffle) -> None:
    """Draw the similarity over the number of layers, of the map and of the control."""
    counts = _counts(len(names), how.count)
    trials = {(one.method, k): Similarity(one, Shuffle(k, how.order, how.seed)) for k in counts for one in asked}
    if not all(is_tried(chosen, subject, t) for t in trials.values()) and not stoppable(
        "Shuffling layer by layer",
        f"similarities-{hash(tuple(trials.values()))}",
        lambda tick: _try_all(chosen, subject, list(trials.values()), tick),
    ):
        return
    found = {at: tried(chosen, subject, t) for at, t in trials.items()}
    lines = [_line(one.method, counts, found, names, how) for one in {one.method: one for one in asked}.values()]
    st.markdown("**How alike the map stays**")
    axes = ("layers shuffled, from the output", "similarity to the trained model's map")
    if how.order == "independent":
        axes = ("the layer that is shuffled, counted from the output", axes[1])
    line_chart(lines, axes=axes, alt=_alt(lines), key="similarities", band=SIMILAR_MODEL.no)
    st.caption(_SIMILARITY)


def _counts(layers: int, chosen: int) -> list[int]:
    """Return the numbers of layers that the chart is made of: all of few, and of many some, with the chosen one."""
    points = min(layers, _MOST_POINTS)
    return sorted({round(layers * i / points) for i in range(points + 1)} | {chosen})


def _try_all(chosen: Chosen, subject: Subject, trials: Sequence[Similarity], tick: Any) -> None:
    for trial in trials:
        tried(chosen, subject, trial, tick)
        tick(1)


def _line(method: str, counts: Sequence[int], found: Any, names: Sequence[str], how: Shuffle) -> Line:
    values = [found[method, k] for k in counts]
    said = [f"{method}: {v:.2f}, {names[k - 1] if k else 'trained'}" for k, v in zip(counts, values, strict=True)]
    return Line(method, counts, values, said, counts.index(how.count))


def _alt(lines: Sequence[Line]) -> str:
    ends = "; ".join(f"{line.name} ends at {line.y[-1]:.2f}" for line in lines)
    return f"Similarity of the map while layers are shuffled, 1 at the trained model: {ends}."
