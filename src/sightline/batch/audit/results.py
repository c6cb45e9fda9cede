"""What an audit found: its classes, their clusters, their odd strategies, and what the check said of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.batch.audit.check import Check, Flips
from sightline.batch.audit.clusters import Cluster, Clustering
from sightline.batch.audit.pictures import Pictures
from sightline.batch.audit.reading import Group, Maps
from sightline.batch.audit.strategies import Strategy

__all__ = ["Audit", "Audited", "Found"]


@dataclass(frozen=True, eq=False)
class Found:
    """An odd strategy, and what covering it did; None where no model was asked."""

    strategy: Strategy
    check: Check | None

    @property
    def verdict(self) -> str:
        """``shortcut``, ``no effect``, ``too few`` or ``not checked``."""
        return "not checked" if self.check is None else self.check.verdict


@dataclass(frozen=True, eq=False)
class Audited:
    """One class: how it clusters, None where its images are too few, and what is odd."""

    group: Group
    clustering: Clustering | None
    found: tuple[Found, ...] = ()

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The clusters, the most separate first; none where the images are too few."""
        return self.clustering.clusters if self.clustering else ()


@dataclass(frozen=True, eq=False)
class Audit:
    """What the model looks at, class by class, and what of that is a shortcut.

    ``maps`` and ``pictures`` are what the sheets are drawn from.
    """

    maps: Maps
    classes: tuple[Audited, ...]
    pictures: Pictures
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())

    @property
    def found(self) -> list[Found]:
        """Every odd strategy, the shortcuts first."""
        every = [f for c in self.classes for f in c.found]
        return sorted(every, key=lambda f: (f.verdict != "shortcut", -len(f.strategy.rows)))

    @property
    def shortcuts(self) -> list[Found]:
        """The strategies whose covering changes predictions more often than the controls do."""
        return [f for f in self.found if f.verdict == "shortcut"]

    def images(self, found: Found) -> list[str]:
        """Return the images that show a strategy."""
        return [self.maps.images[r] for r in found.strategy.rows.tolist()]

    @property
    def findings(self) -> list[str]:
        """What was found, in sentences."""
        from sightline.batch.audit.words import findings

        return findings(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but maps as plain JSON values."""
        return {
            "findings": self.findings,
            "settings": dict(self.settings),
            "classes": [_class(self, c) for c in self.classes],
            "strategies": [_found(self, f) for f in self.found],
            "unreadable": [{"image": image, "reason": reason} for image, reason in self.pictures.lost.items()],
            "notes": list(self.notes),
        }

    def save(self, folder: Path) -> dict[str, Any]:
        """Write a contact sheet for each cluster, the images of each strategy, audit.json and report.html."""
        from sightline.batch.audit.saving import save_audit

        return save_audit(self, folder)


def _class(audit: Audit, c: Audited) -> dict[str, Any]:
    found = c.clustering
    return {
        "class": c.group.label,
        "index": c.group.index,
        "images": len(c.group.rows),
        "zero_maps": c.group.zero,
        "too_few": found is None,
        "eigenvalues": None if found is None else [round(float(v), 6) for v in found.eigenvalues],
        "eigengap": None if found is None else plain(found.gap),
        "hdbscan": None
        if found is None
        else {"agreement": plain(found.agreement), "clusters": found.density, "noise": plain(found.noise)},
        "clusters": [_cluster(audit, k) for k in c.clusters],
    }


def _cluster(audit: Audit, k: Cluster) -> dict[str, Any]:
    return {
        "number": k.number,
        "size": len(k.rows),
        "separation": plain(k.separation),
        "border": plain(k.border),
        "spread": plain(k.spread),
        "overlap": plain(k.overlap),
        "overlap_of_others": plain(k.elsewhere),
        "hot_box": [round(side, 4) for side in k.hot],
        "mass_in_hot_box": plain(k.held),
        "images": [audit.maps.images[r] for r in k.rows.tolist()],
    }


def _found(audit: Audit, f: Found) -> dict[str, Any]:
    s, c = f.strategy, f.check
    return {
        "class": s.label,
        "index": s.group,
        "kinds": list(s.kinds),
        "verdict": f.verdict,
        "clusters": list(s.clusters),
        "box": [round(side, 4) for side in s.box],
        "likeness": None if s.mark is None else plain(s.mark.likeness),
        "check": None
        if c is None
        else {
            "covered": _flips(c.here),
            "other_places": _flips(c.elsewhere),
            "other_images": _flips(c.others),
            "stamped": _flips(c.stamped),
            "blank": _flips(c.blank),
            "p": c.p,
            "p_stamped": c.p_stamped,
            "predictions_moved": c.moved,
        },
        "images": audit.images(f),
    }


def _flips(f: Flips) -> dict[str, int]:
    return {"changed": f.changed, "of": f.of}


def plain(value: float) -> float | None:
    """Return a number as JSON takes it, null where it does not exist."""
    return round(float(value), 6) if math.isfinite(value) else None
