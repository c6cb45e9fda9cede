"""Evaluations made by hand for the tests of their report, and what reads a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import numpy as np

from sightline.demo.scenes import scene
from sightline.evaluation.results import CurveRow, Evaluation, Row
from sightline.explanation import Explanation, Prediction
from sightline.targets import TargetName

METHODS = ("grad_cam", "gradient", "random", "edges", "centre", "constant")
VOID = {"meta", "link", "img", "br", "wbr", "input"}


@dataclass(frozen=True)
class Answer:
    """Stands in for an answer of a trust card."""

    question: str
    verdict: str
    value: float | None
    sentence: str


@dataclass(frozen=True)
class Checked:
    """Stands in for a trust card."""

    headline = "Can this map be believed? 1 of 2 checks passed, 1 not checked."
    answers: Sequence[Answer]


def made(
    methods: Sequence[str] = METHODS,
    images: int = 8,
    metrics: Sequence[str] = ("insertion@1", "deletion@1", "single_deletion@1"),
    name: str = "photo",
    **given: object,
) -> Evaluation:
    """Return an evaluation by hand in which earlier methods are better than later ones; the last value is NaN."""
    rng = np.random.default_rng(0)
    names = [f"{name} {i}.png" for i in range(images)]
    rows = [
        Row(image, f"hash{i}", "star", method, metric, _value(rng, metric, place, len(methods)))
        for place, method in enumerate(methods)
        for metric in metrics
        for i, image in enumerate(names)
    ]
    rows[-1:] = [replace(r, value=float("nan")) for r in rows[-1:]]
    curves = [
        CurveRow(image, method, metric.partition("@")[0], share, _score(metric, share, place, i))
        for place, method in enumerate(methods)
        for metric in metrics
        if not metric.startswith("single")
        for i, image in enumerate(names)
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    settings = {"model": "net", "weights": "trained", "target": "top1", "methods": {m: {} for m in methods}, "seed": 0}
    settings["metrics"] = {m: {"score": "probability", "fill": "blur"} for m in metrics}
    cost = {"asked": images, "measured": images, "seconds": 1.0, "forward_passes": 9, "seconds_by_method": {}}
    return replace(Evaluation(rows, curves, [], settings, cost), **given)  # type: ignore[arg-type]


def _value(rng: np.random.Generator, metric: str, place: int, places: int) -> float:
    good = 1 - place / places
    return float((good if not metric.startswith("deletion") else 1 - good) + rng.normal(0, 0.02))


def _score(metric: str, share: float, place: int, image: int) -> float:
    risen = share ** (1 + place / 3) * 0.8 + 0.1 + 0.01 * image
    return risen if metric.startswith("insertion") else 1 - risen


def explained(
    method: str = "grad_cam", name: str = "photo 0.png", target: str = "star", **given: object
) -> Explanation:
    """Return an explanation of a scene by hand."""
    rng = np.random.default_rng(1)
    e = Explanation(
        attribution=rng.random((12, 12), dtype=np.float32),
        method=method,
        target=TargetName(0, target),
        score=1.0,
        parameters={},
        predictions=[Prediction(index=0, label=target, id=None, logit=1.0, probability=0.9)],
        input_size=(96, 96),
        style="sequential",
        per_channel=False,
        image=scene(0).image,
        provenance={"image": name, "image_hash": "hash0"},
    )
    return replace(e, **given)  # type: ignore[arg-type]


class Page(HTMLParser):
    """What is on a page: its tags in order, all attributes, and its text; tags that do not match are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += " " + " ".join(data.split())

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of all tags of a name."""
        return [attrs for name, attrs in self.tags if name == tag]
