"""What an evaluation left in its folder: written at its end, and read again, also while it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.evaluation.card import MARKS, TrustCard
from sightline.evaluation.findings import findings_of
from sightline.evaluation.registry import METRICS
from sightline.evaluation.report.page import file_name
from sightline.evaluation.results import CurveRow, Evaluation, Row
from sightline.evaluation.shortcuts import CellRow
from sightline.evaluation.store import SETTINGS, TABLES, Store
from sightline.methods import METHODS
from sightline.output import written
from sightline.saved import read_object, read_table, refusing

__all__ = ["SUMMARY", "SavedCard", "SavedEvaluation", "read_evaluation", "write_summary"]

SUMMARY = "evaluation.json"
_WRITER = "sightline evaluate"


@dataclass(frozen=True)
class SavedCard:
    """The trust card of one method's map of one image."""

    image: str
    method: str
    card: TrustCard


@dataclass(frozen=True, eq=False)
class SavedEvaluation:
    """An evaluation as it is kept, its trust cards, and whether it came to its end."""

    found: Evaluation
    cards: Sequence[SavedCard]
    finished: bool


def write_summary(found: Evaluation, folder: Path) -> Path:
    """Write evaluation.json: findings, cost, what was skipped, and the trust cards; whole or not at all."""
    data = {
        "findings": list(found.findings),
        "cost": dict(found.cost),
        "skipped": [dict(s) for s in found.skipped],
        "cards": [
            {"image": file_name(e.provenance.get("image") or ""), "method": e.method, "card": e.check.to_dict()}
            for image in found.shown
            for e in image
            if e.check is not None
        ],
    }
    with written(folder / SUMMARY) as aside:
        aside.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder / SUMMARY


def read_evaluation(folder: str | os.PathLike[str]) -> SavedEvaluation:
    """Read what `evaluate` keeps in ``out``, also while it runs or after it was interrupted.

    The maps that its report shows are not kept. Raises InputError for files that are damaged, foreign or of a newer
    version, and where nothing was measured yet.
    """
    place = Path(folder)
    settings = read_object(place / SETTINGS)
    finished = (place / SUMMARY).is_file()
    about = read_object(place / SUMMARY) if finished else {}
    with refusing(place / SETTINGS, _WRITER):
        store = _kept(place, finished)
        _check_known(store.rows)
        cost: dict[str, Any] = {"asked": int(settings["images"]), "measured": len({r.image for r in store.rows})}
        cost |= {"seconds_by_method": store.seconds} | dict(about.get("cost", {}))
        rows = sorted(store.rows, key=lambda r: METHODS[r.method].family == "control")
        findings = tuple(map(str, about["findings"])) if about else findings_of(store.cells, rows)
        skipped = about.get("skipped", store.skipped)
        found = Evaluation(rows, store.curves, [_skipped(s) for s in skipped], settings, cost, findings)
        return SavedEvaluation(found, [_card(c) for c in about.get("cards", ())], finished)


def _kept(place: Path, finished: bool) -> Store:
    """Return the tables of one that ended, or the parts of one that did not."""
    store = Store(None)
    if finished:
        for name, (kind, file) in TABLES.items():
            getattr(store, name).extend(_rows(place / file, kind))
        return store
    for part in sorted((place / "parts").glob("*.json")):
        with refusing(part, _WRITER):
            store.take(read_object(part))
    return store


def _rows(file: Path, kind: type[Any]) -> list[Any]:
    names = [f.name for f in fields(kind)]
    rows = [kind(*row) for row in read_table(file, names)]
    numbers = {Row: ("value",), CurveRow: ("share", "score"), CellRow: ()}[kind]
    if any(not isinstance(getattr(row, name), float) for row in rows for name in numbers):
        raise ValueError(f"{file.name} holds what is no number")
    return rows


def _check_known(rows: Sequence[Row]) -> None:
    if not rows:
        raise InputError("nothing was measured in it yet; the command that made it goes on where it ended.")
    strange = {r.method for r in rows} - METHODS.keys()
    strange |= {r.metric.partition("@")[0] for r in rows} - METRICS.keys()
    if strange:
        raise InputError(
            f"it measures {', '.join(sorted(map(str, strange)))}, which this version does not know; update sightline."
        )


def _skipped(s: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if s.get(k) is None else str(s[k]) for k in ("image", "method", "metric")} | {
        "reason": str(s["reason"])
    }


def _card(c: Mapping[str, Any]) -> SavedCard:
    card = TrustCard.from_dict(c["card"])
    if any(a.verdict not in MARKS for a in card.answers):
        raise ValueError("a trust card with an unknown verdict")
    return SavedCard(str(c["image"]), str(c["method"]), card)
