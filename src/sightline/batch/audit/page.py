"""The page of an audit: what the template needs, computed; pictures as data within it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sightline.batch.audit.clusters import Cluster, Clustering
from sightline.batch.audit.results import Audit, Audited, Found
from sightline.batch.audit.sheets import examples_of, mean_picture, pair
from sightline.batch.audit.words import kinds_text, place_text
from sightline.evaluation.report.page import data_uri, facts, undirected, write_page

__all__ = ["save_page"]

_SHOWN, _SIDE = 6, 150
_CLUSTERS = 60


def save_page(audit: Audit, file: Path) -> Path:
    """Write the audit as one HTML file that loads nothing."""
    return write_page("audit.html.j2", file, **_values(audit))


def _values(audit: Audit) -> dict[str, Any]:
    done = [c for c in audit.classes if c.clusters]
    shown = _within(done)
    return {
        "title": f"What {undirected(audit.settings['model'])} looks at",
        "findings": [undirected(line) for line in audit.findings],
        "alarm": len(audit.shortcuts),
        "unchecked": any(f.verdict == "too few" for f in audit.found),
        "strategies": [_strategy(audit, f) for f in audit.found],
        "classes": [_class(audit, c, c.clustering) for c in shown if c.clustering is not None],
        "left": len(done) - len(shown),
        "sections": _sections(bool(audit.found)),
        "lost": [(Path(image).name, undirected(reason)) for image, reason in list(audit.pictures.lost.items())[:50]],
        "facts": facts({k.replace("_", " "): v for k, v in audit.settings.items()}),
        "notes": audit.notes,
        "settings": audit.settings,
    }


def _within(done: list[Audited]) -> list[Audited]:
    """Return the classes whose pictures the page has room for, those with something odd first."""
    found: list[Audited] = []
    count = 0
    for c in sorted(done, key=lambda c: not c.found):
        count += len(c.clusters)
        if count <= _CLUSTERS or not found:
            found.append(c)
    return found


def _sections(odd: bool) -> list[tuple[str, str]]:
    every = [
        ("strategies", "What is odd", odd),
        ("classes", "Class by class", True),
        ("made", "How this was made", True),
    ]
    return [(anchor, name) for anchor, name, there in every if there]


def _strategy(audit: Audit, f: Found) -> dict[str, Any]:
    s = f.strategy
    rows = np.unique(np.linspace(0, len(s.rows) - 1, min(len(s.rows), 2 * _SHOWN)).round().astype(int))
    return {
        "label": s.label,
        "kinds": kinds_text(f),
        "place": place_text(s.box),
        "count": len(s.rows),
        "verdict": f.verdict,
        "likeness": None if s.mark is None else s.mark.likeness,
        "check": f.check,
        "mark": None if s.mark is None else data_uri(_mark_picture(s.mark.template)),
        "pictures": [data_uri(pair(audit, int(r), s.box, _SIDE)) for r in s.rows[rows]],
        "names": [audit.maps.images[int(r)].rpartition("/")[2] for r in s.rows[rows]],
    }


def _mark_picture(template: np.ndarray) -> Any:
    from PIL import Image

    found = Image.fromarray(np.rint(template).astype(np.uint8))
    times = max(1, round(160 / found.width))
    return found.resize((found.width * times, found.height * times), Image.Resampling.NEAREST)


def _class(audit: Audit, a: Audited, found: Clustering) -> dict[str, Any]:
    return {
        "label": a.group.label,
        "count": len(a.group.rows),
        "gap": found.gap,
        "agreement": found.agreement,
        "density": found.density,
        "bars": _bars(found.eigenvalues),
        "split": len(found.clusters),
        "clusters": [_cluster(audit, a, k) for k in found.clusters],
    }


def _bars(eigenvalues: np.ndarray) -> list[float]:
    top = max(float(eigenvalues.max()), 1e-9)
    return [100 * max(0.0, float(v)) / top for v in eigenvalues]


def _cluster(audit: Audit, a: Audited, k: Cluster) -> dict[str, Any]:
    odd = next((f for f in a.found if k.number in f.strategy.clusters), None)
    box = None if odd is None else odd.strategy.box
    return {
        "number": k.number,
        "count": len(k.rows),
        "separation": k.separation,
        "border": 100 * k.border,
        "overlap": 100 * k.overlap,
        "place": place_text(k.hot),
        "odd": None if odd is None else f"{kinds_text(odd)}: {odd.verdict}",
        "alarm": odd is not None and odd.verdict == "shortcut",
        "mean": data_uri(mean_picture(k, _SIDE)),
        "pictures": [data_uri(pair(audit, r, box, _SIDE)) for r in examples_of(audit, k, _SHOWN)],
    }
