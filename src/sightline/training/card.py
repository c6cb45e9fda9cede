"""The model card: what is known of a trained classifier, as sentences and tables to read and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.evaluation.mistakes.results import ModelErrors
from sightline.evaluation.report.page import rendered, undirected
from sightline.output import written
from sightline.training.history import best_row

if TYPE_CHECKING:
    import torch

    from sightline.training.run import Training

__all__ = ["card_facts", "limits", "write_card"]

_FEW, _FEW_OF_CLASS = 200, 20


def write_card(facts: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Write model-card.json and model-card.md, each whole or not at all; return both by their kind."""
    files = {"json": folder / "model-card.json", "md": folder / "model-card.md"}
    with written(files["json"]) as aside:
        text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
        aside.write_text(text + "\n", encoding="utf-8")
    with written(files["md"]) as aside:
        aside.write_text(rendered("model-card.md.j2", by_class=_by_class(facts), **facts), encoding="utf-8")
    return files


def _by_class(facts: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """Return each class with how many images each part has of it."""
    counts = zip(*facts["data"]["images_by_class"].values(), strict=True)
    return [(label, list(row)) for label, row in zip(facts["model"]["classes"], counts, strict=True)]


def card_facts(run: Training, found: Mapping[str, ModelErrors], begun: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that is known of a training as plain JSON: ``found`` holds its parts' errors, ``begun`` its run.json.

    Texts have lost the directories in them; what is not known is left out, and nothing is claimed of its use.
    """
    return {
        "name": run.out.resolve().name,
        "made": {
            "with": f"sightline {begun['versions'].get('sightline', '')}".strip(),
            "date": datetime.now(UTC).date().isoformat(),
            "hardware": _hardware(run.model.device),
            "versions": dict(begun["versions"]),
        },
        "model": _model(run, begun["start"]),
        "data": _data(run) | {"called": next(iter(found.values())).noun},
        "training": _training(run),
        "results": {name: _result(errors) for name, errors in found.items()},
        "limits": list(limits(run, found)),
    }


def _model(run: Training, start: Mapping[str, Any]) -> dict[str, Any]:
    model = run.model
    return {
        "architecture": (run.settings.model or model.name).partition("@")[0],
        "classes": list(run.data.classes),
        "parameters": sum(p.numel() for p in model.module.parameters()),
        "weights_hash": model.weights_hash,
        "started_from": {"weights": undirected(start["weights"]), "hash": start["hash"]},
        "input": model.preprocessing.describe(),
        "preprocessing": model.preprocessing.to_dict(),
    }


def _data(run: Training) -> dict[str, Any]:
    data, classes = run.data, len(run.data.classes)
    return {
        "name": data.name,
        "hash": data.hash,
        "split": undirected(data.split),
        "images": {name: len(part) for name, part in data.parts.items()},
        "images_by_class": {name: part.counts(classes) for name, part in data.parts.items()},
        "skipped": [{k: undirected(v) for k, v in s.items()} for s in data.skipped],
        "notes": [undirected(n) for n in data.notes],
    }


def _training(run: Training) -> dict[str, Any]:
    settings = run.settings.to_dict()
    return {
        "settings": settings | {"model": undirected(settings["model"]), "weights": undirected(settings["weights"])},
        "used": dict(run.fitted.about),
        "epochs": len(run.fitted.rows),
        "kept_epoch": run.best.epoch,
        "ended": run.fitted.ended,
        "why": undirected(run.fitted.why),
        "seconds": round(sum(r.seconds for r in run.fitted.rows), 1),
        "notes": [undirected(n) for n in run.fitted.notes],
    }


def _result(found: ModelErrors) -> dict[str, Any]:
    macro = found.macro.to_dict()
    return {
        "images": found.accuracy.total,
        "accuracy": found.accuracy.to_dict(),
        "majority": found.majority,
        "macro": macro,
        "expected_calibration_error": found.calibration.error,
        "mean_confidence": found.calibration.confidence,
        "findings": [undirected(f) for f in found.findings],
        "classes": [{k: v for k, v in c.to_dict().items() if k not in ("roc", "index")} for c in found.classes],
    }


def _hardware(device: torch.device) -> str:
    """Return the kind of machine: a GPU's name, or what processor with how many threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    kind = "CPU" if device.type == "cpu" else device.type.upper()
    return f"{kind}, {platform.machine()}, {threads} thread{'' if threads == 1 else 's'}"


# --- what it cannot be relied on for ------------------------------------------------------------------------


def limits(run: Training, found: Mapping[str, ModelErrors]) -> Iterator[str]:
    """Yield in plain words what limits the trust in the model and in its numbers, as far as it can be known here."""
    yield from _of_the_choice(run)
    for name, errors in found.items():
        yield from _of_size(name, errors)
    yield from _of_the_end(run)
    yield f"It knows {len(run.data.classes)} classes and says one of them of everything, also of what is none of them."
    if run.data.skipped:
        count = len(run.data.skipped)
        yield f"Skipped, without a part in the training: {count} file{'' if count == 1 else 's'}, listed under Data."


def _of_the_choice(run: Training) -> Iterator[str]:
    epochs = len(run.fitted.rows)
    if run.settings.restore_best and epochs > 1:
        yield (
            f"The weights are those of the best of {epochs} epochs by validation accuracy, so that accuracy is "
            "optimistic" + (": quote the one on the test part." if run.data.test else ".")
        )
    if run.data.test is None:
        yield (
            "There is no test part: no number here comes from data that played no part in the training. "
            "Measure on such data with sightline errors before relying on it."
        )


def _of_size(name: str, found: ModelErrors) -> Iterator[str]:
    total, accuracy = found.accuracy.total, found.accuracy
    if total < _FEW:
        yield (
            f"{_called(name)} has {total} {found.noun}: one of them is {100 / total:.1f} points of accuracy, and the "
            f"95 % interval reaches from {100 * accuracy.low:.0f} to {100 * accuracy.high:.0f} %."
        )
    least = min(found.classes, key=lambda c: c.support)
    if least.support < _FEW_OF_CLASS:
        count = f"{least.support} {found.one if least.support == 1 else found.noun}"
        yield f"{_called(name)} has as few as {count} of a class ({least.label}): what is said of it is rough."
    if accuracy.low <= found.majority:
        yield (
            f"On {name} it is not clearly better than always saying the most frequent class "
            f"({100 * found.majority:.0f} %)."
        )


def _called(name: str) -> str:
    return f"The {name} part"


def _of_the_end(run: Training) -> Iterator[str]:
    rows, ended = run.fitted.rows, run.fitted.ended
    if ended == "finished" and len(rows) > 1 and best_row(rows).epoch == rows[-1].epoch:
        yield "The last epoch was the best: it may not have learned all it could; more epochs may help."
    if ended == "interrupted":
        yield "The training was interrupted, and may not have learned all it could."
    if ended == "loss not finite":
        yield f"The training stopped where its loss was no longer finite ({undirected(run.fitted.why).rstrip('.')})."
    if run.fitted.about.get("frozen_layers") and _has_norms(run):
        yield (
            "Batch norms in the frozen layers keep the statistics of the data that those layers were trained on "
            "(they stay in evaluation mode); data of another kind may want --freeze none."
        )


def _has_norms(run: Training) -> bool:
    return any("BatchNorm" in type(m).__name__ for m in run.model.module.modules())
