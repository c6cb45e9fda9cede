"""From an evaluation to its report."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from sightline.evaluation.findings import comparison_of
from sightline.evaluation.registry import Metric
from sightline.evaluation.report.dots import colours, dot_plots
from sightline.evaluation.report.lines import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, curve_plots
from sightline.evaluation.report.page import facts, file_name, undirected, write_page
from sightline.evaluation.report.pictures import legends, shown_images
from sightline.evaluation.report.verdicts import FEWEST, LEVEL, best_control, headline, verdicts, worded
from sightline.evaluation.results import Evaluation
from sightline.evaluation.stats import Paired
from sightline.methods import METHODS

__all__ = ["evaluation_values", "write_report"]

_VERSIONS = ("sightline", "torch", "torchvision", "numpy", "scipy", "scikit-image", "pillow")

_APART = ("methods", "metrics", "versions")
_FIRM = 30
"""Fewer images than this come with a word of caution."""


def write_report(found: Evaluation, file: Path) -> Path:
    """Write what an evaluation found as one HTML page that loads nothing; return the file."""
    return write_page("evaluation.html.j2", Path(file), **evaluation_values(found))


def evaluation_values(found: Evaluation) -> dict[str, Any]:
    """Return what the templates of an evaluation are filled with."""
    judged = verdicts(found)
    shown, plots = shown_images(found), dot_plots(found, judged)
    parts: dict[str, Any] = {
        "found": found,
        "verdicts": judged,
        "headline": headline(judged),
        "plots": plots,
        "curves": curve_plots(found),
        "digits": {p.metric.name: p.digits for p in plots},
        "shown": shown,
        "legends": legends(found),
        "skipped": _skipped(found.skipped),
    }
    return parts | _about(found) | {"sections": _sections(parts), "title": _title(found)}


def _about(found: Evaluation) -> dict[str, Any]:
    return {
        "colours": colours(found),
        "worded": worded,
        "numbers": {m.name: _differences(found, m) for m in found.metrics},
        "settings": facts({k: v for k, v in found.settings.items() if k not in _APART}),
        "asked": _asked(found),
        "times": _times(found),
        "box": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        "images": int(found.cost.get("measured", len(found.images))),
        "places": _places(found),
        "target": _target(str(found.settings.get("target", "top1"))),
        "versions": _versions(),
        "about_methods": {name: METHODS[name] for name in found.methods},
        "best_controls": {m.name: best_control(found, m) for m in found.metrics},
        "comparisons": {m.name: comparison_of(found, m) for m in found.metrics},
        "fewest": FEWEST,
        "firm": _FIRM,
        "level": LEVEL,
    }


def _places(found: Evaluation) -> str:
    """Return what the positions of an input are called."""
    shown = next((e for image in found.shown for e in image), None)
    return {1: "points", 3: "voxels"}.get(shown.heatmap.ndim, "pixels") if shown else "pixels"


def _target(asked: str) -> str:
    return "each image’s most likely class" if asked == "top1" else f"the class “{asked}” in each image"


def _title(found: Evaluation) -> str:
    return f"Which explanations of {undirected(found.settings.get('model', 'the model'))} can be believed?"


def _sections(parts: Mapping[str, Any]) -> list[tuple[str, str]]:
    every = [
        ("verdicts", "Verdicts", True),
        ("ranking", "Ranking", parts["plots"]),
        ("curves", "Curves", parts["curves"]),
        ("pictures", "Pictures", parts["shown"]),
        ("trust", "Trust cards", any(s.cards for s in parts["shown"])),
        ("skipped", "Skipped", True),
        ("numbers", "Numbers", True),
        ("made", "How it was made", True),
        ("reading", "How to read this", True),
    ]
    return [(anchor, name) for anchor, name, there in every if there]


def _skipped(listed: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return each reason with what was skipped for it; texts have lost their directories."""
    by_reason: dict[str, list[str]] = {}
    for s in listed:
        image = None if s.get("image") is None else file_name(s["image"])
        reason = undirected(str(s["reason"]).replace(str(s.get("image")), image or ""))
        what = " · ".join(str(part) for part in (image, s.get("method"), s.get("metric")) if part)
        by_reason.setdefault(reason, []).append(what or "everything")
    return list(by_reason.items())


def _differences(found: Evaluation, metric: Metric) -> dict[str, Paired]:
    """Return each method's comparison with the best control."""
    best = best_control(found, metric)
    return found.against(metric.name, best) if best else {}


def _times(found: Evaluation) -> dict[str, Any]:
    """Return what it took: a sentence, and each method's seconds an image with its share of the longest."""
    cost, images = found.cost, max(1, int(found.cost.get("measured", 0)))
    each = {m: s / images for m, s in dict(cost.get("seconds_by_method", {})).items()}
    longest = max(each.values(), default=0.0) or 1.0
    said = [f"{cost['seconds']:.0f} s"] if "seconds" in cost else []
    said += [f"{cost['forward_passes']} forward passes"] if "forward_passes" in cost else []
    ordered = sorted(each.items(), key=lambda item: -item[1])
    return {"total": ", ".join(said), "methods": [(m, s, s / longest) for m, s in ordered]}


def _asked(found: Evaluation) -> dict[str, str]:
    """Return the parameters of methods and metrics as texts."""
    named = {**found.settings.get("methods", {}), **found.settings.get("metrics", {})}
    return {name: undirected(", ".join(f"{k} {v}" for k, v in given.items())) for name, given in named.items()}


def _versions() -> dict[str, str]:
    there = {d.name.lower() for d in map(_distribution, _VERSIONS) if d is not None}
    return {"python": platform.python_version()} | {n: metadata.version(n) for n in _VERSIONS if n in there}


def _distribution(name: str) -> metadata.Distribution | None:
    return next(iter(metadata.Distribution.discover(name=name)), None)
