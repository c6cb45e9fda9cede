"""What an audit found, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightline.batch.audit.check import Check, Flips
from sightline.batch.audit.clusters import Box
from sightline.batch.audit.results import Audit, Audited, Found

__all__ = ["findings", "kinds_text", "place_text", "told"]

_ALL = 60  # per cent of the picture, above which a place is none
_NAMES = {
    "watermark": "on a watermark",
    "constant location": "on a constant location",
    "border": "at the border",
}


def findings(audit: Audit) -> list[str]:
    """Return what was found: shortcuts, what is odd and was not one, what could not be judged."""
    done = [c for c in audit.classes if c.clusters]
    found = [_shortcut(audit, f, f.check) for f in audit.shortcuts if f.check is not None]
    found = found or [_nothing(audit, done)]
    found += [_odd(f) for f in audit.found if f.verdict != "shortcut"]
    return found + _left_out(audit)


def _nothing(audit: Audit, done: Sequence[Audited]) -> str:
    if not done:
        return "Nothing can be said: no class has enough images whose maps are not zero."
    seen, clusters = sum(len(c.group.rows) for c in done), sum(len(c.clusters) for c in done)
    if not audit.settings["check"]:
        return (
            f"Nothing is called a shortcut, for the model was not asked ({_many(len(audit.found), 'odd strategy')} in "
            f"{_many(clusters, 'cluster')} of {seen} images); leave --check 0 out to ask it."
        )
    unchecked = [f for f in audit.found if f.verdict == "too few"]
    if unchecked:
        return (
            f"Not known: {_many(len(unchecked), 'odd strategy')} could not be checked, for too few images can be "
            "covered; see below."
        )
    return (
        f"No shortcut found in {_many(clusters, 'cluster')} of {seen} images by {audit.settings['method']}. That is no "
        "proof that there is none: only marks at one place, constant places and borders were looked for, where these "
        "maps are hot; colours, and marks that move, are not seen."
    )


_LOOK = {
    "watermark": "",
    "constant location": " If what makes the class always lies there, this is no shortcut: look at the sheet.",
    "border": " Look at what lies there.",
}


def _shortcut(audit: Audit, f: Found, check: Check) -> str:
    s = f.strategy
    of = next(len(a.group.rows) for a in audit.classes if a.group.index == s.group)
    called = " that it calls so" if audit.settings["by"] == "class" else ""
    label = s.label if audit.settings["by"] != "none" else _usual_answer(audit, f)
    return (
        f"The model takes a shortcut for “{label}”: {kinds_text(f)}, {place_text(s.box)}, in {len(s.rows)} of {of} "
        f"images{called}. {told(check)}{_LOOK[s.kinds[0]]}"
    )


def _usual_answer(audit: Audit, f: Found) -> str:
    """Return what the model says of most of a strategy's images."""
    said, counts = np.unique(audit.maps.prediction[f.strategy.rows], return_counts=True)
    return audit.maps.called[int(said[counts.argmax()])]


def _odd(f: Found) -> str:
    s = f.strategy
    start = f"“{s.label}”: {kinds_text(f)}, {place_text(s.box)}, in {_many(len(s.rows), 'image')}"
    if f.check is None:
        return f"{start}; not checked."
    if f.verdict == "too few":
        return f"{start}; too few to check ({f.check.here.of})."
    return f"{start}; no shortcut: {told(f.check)[:1].lower()}{told(f.check)[1:]}"


def told(c: Check) -> str:
    """Say what covering did, with the controls."""
    text = f"Covering it changes {_counted(c.here)} predictions"
    controls = []
    if c.elsewhere.of:
        controls.append(f"covering as much elsewhere {_counted(c.elsewhere)}")
    if c.others.of:
        controls.append(f"covering the same place in other images {_counted(c.others)}")
    text += f"; {', '.join(controls)}" if controls else ""
    text += f" (p {_p(c.p)})."
    if c.stamped.of:
        text += f" Put on other images it makes {_counted(c.stamped)} the same class, a patch without it "
        text += f"{_counted(c.blank)} (p {_p(c.p_stamped)})."
    return text


def _counted(f: Flips) -> str:
    return f"{f.changed} of {f.of}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _left_out(audit: Audit) -> list[str]:
    few = [c for c in audit.classes if not c.clusters]
    zero = sum(c.group.zero for c in audit.classes)
    found = []
    if few:
        named = ", ".join(f"{c.group.label} ({len(c.group.rows)})" for c in few[:5]) + (", …" if len(few) > 5 else "")
        found.append(f"Too few images to cluster, so nothing is known of: {named}.")
    if zero:
        found.append(f"{_many(zero, 'map')} of {len(audit.maps.images)} speak for nothing (zero everywhere): left out.")
    moved = [f for f in audit.found if f.check and f.check.moved > 0.02 * (f.check.here.of + f.check.others.of)]
    if moved:
        found.append(
            f"The model now says something else than the store has of {sum(f.check.moved for f in moved if f.check)} "
            "images: is it loaded as it was then (--preprocess, --fit)?"
        )
    if audit.settings["failed"]:
        found.append(f"{_many(audit.settings['failed'], 'row')} of the store failed and hold no map.")
    if audit.pictures.lost:
        found.append(f"{_many(len(audit.pictures.lost), 'image')} could not be read again.")
    return found


def kinds_text(f: Found) -> str:
    """Name what is odd, the main thing first."""
    return f"mass {' and '.join(_NAMES[k] for k in f.strategy.kinds[:2])}"


def place_text(box: Box) -> str:
    """Name where a box lies, and how much of the picture it is.

    >>> place_text((0.72, 0.87, 0.96, 0.96))
    'lower right (2.2 % of the picture)'
    """
    share = 100 * (box[2] - box[0]) * (box[3] - box[1])
    if share > _ALL:
        return f"within {share:.0f} % of the picture"
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    down = "upper" if y < 1 / 3 else "lower" if y > 2 / 3 else ""
    across = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    words = " ".join(w for w in (down, across) if w) or "middle"
    return f"{words} ({share:.2g} % of the picture)"


def _many(count: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count} {noun if count == 1 else plural}"
