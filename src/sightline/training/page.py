"""The page of a training: what it came to in sentences, curves, errors with explanations, a ranking of methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.evaluation.mistakes.results import ModelErrors
from sightline.evaluation.report.errors_page import error_values
from sightline.evaluation.report.page import facts, write_page
from sightline.evaluation.report.verdicts import headline, verdicts
from sightline.evaluation.report.write import evaluation_values
from sightline.training.curves import charts, rate_changes
from sightline.training.history import Row

if TYPE_CHECKING:
    from sightline.evaluation.results import Evaluation
    from sightline.training.run import Training

__all__ = ["Ranked", "write_training_page"]

_GAP = 0.05  # by which accuracy in training is above that in validation before it is mentioned


@dataclass(frozen=True, eq=False)
class Ranked:
    """What measuring methods on some of the validation images found, or why nothing could be measured."""

    found: Evaluation | None
    asked: int
    reason: str = ""

    @property
    def measured(self) -> int:
        """On how many images there are values."""
        return int(self.found.cost["measured"]) if self.found else 0

    @property
    def findings(self) -> list[str]:
        """What it came to, in one sentence."""
        if self.found is None:
            return []
        said = headline(verdicts(self.found))
        return [f"Which explanations can be believed, measured on {self.measured} of the validation part? {said}"]


def write_training_page(
    run: Training, found: Mapping[str, ModelErrors], ranked: Ranked, card: Mapping[str, Any], file: Path
) -> Path:
    """Write the page, which loads nothing; errors are shown of the test part, where there is none of validation."""
    part = "test" if "test" in found else "validation"
    values = {
        "title": _right(found[part], part),
        "name": run.out.resolve().name,
        "findings": list(_findings(run, found, ranked)),
        "part": part,
        "noun": found[part].noun,
        "parts_found": found,
        "errors": error_values(found[part]),
        "charts": charts(run.fitted.rows, run.best),
        "marked": _marked(run),
        "ranked": ranked,
        "trust": None if ranked.found is None else evaluation_values(ranked.found),
        "card": card,
        "settings": facts(_settings(card)),
        "files": [(f, said) for f, said in _FILES.items() if (run.out / f).exists()],
    }
    return write_page("training.html.j2", file, sections=_sections(values), **values)


_FILES = {
    "model-card.md": "what is known of the model, to read",
    "model-card.json": "the same for programs",
    "curves.png": "loss, accuracy and learning rate, to project",
    "history.csv": "every epoch",
    "validation/report.html": "errors on the validation part",
    "validation/roc.png": "its ROC curves",
    "validation/predictions.parquet": "every answer on it",
    "validation/errors.json": "all its numbers",
    "test/report.html": "errors on the test part",
    "test/roc.png": "its ROC curves",
    "test/predictions.parquet": "every answer on it",
    "test/errors.json": "all its numbers",
    "methods/report.html": "methods measured on some of the validation part",
    "tensorboard": "for tensorboard --logdir",
}


def _sections(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    every = [
        ("curves", "How it learned", True),
        ("confusions", "What is taken for what", True),
        ("worst", "The worst errors", True),
        ("classes", "Class by class", True),
        ("roc", "ROC curves", bool(values["errors"]["curves"])),
        ("sure", "How sure it is", True),
        ("methods", "Which explanations to believe", True),
        ("limits", "Limits", True),
        ("on", "How to go on", True),
        ("made", "How this was made", True),
    ]
    return [(anchor, name) for anchor, name, there in every if there]


def _settings(card: Mapping[str, Any]) -> dict[str, Any]:
    data, training = card["data"], card["training"]
    known = {k.replace("_", " "): v for k, v in {**training["settings"], **training["used"]}.items()}
    return known | {
        "data": f"{data['name']} (hash {data['hash']})",
        "split": data["split"],
        "started from": f"{card['model']['started_from']['weights']} (hash {card['model']['started_from']['hash']})",
        "weights hash": card["model"]["weights_hash"],
        "input": card["model"]["input"],
        "hardware": card["made"]["hardware"],
        "date": card["made"]["date"],
        "versions": ", ".join(f"{k} {v}" for k, v in card["made"]["versions"].items()),
    }


# --- in sentences -------------------------------------------------------------------------------------------


def _right(found: ModelErrors, part: str) -> str:
    a = found.accuracy
    interval = f"95 % interval {100 * a.low:.0f} to {100 * a.high:.0f} %"
    return f"Right on {a.right} of {a.total} {part} {found.noun} ({100 * a.share:.1f} %; {interval})"


def _findings(run: Training, found: Mapping[str, ModelErrors], ranked: Ranked) -> Iterator[str]:
    chosen = run.settings.restore_best and len(run.fitted.rows) > 1
    if "test" in found:
        by = ", by which the weights were chosen" if chosen else ""
        yield f"What the title counts played no part in the training. {_right(found['validation'], 'validation')}{by}."
    else:
        yield (
            "The weights were chosen by these, so on new ones expect a little less; there is no test part that could "
            "say how much less."
            if chosen
            else "There is no test part: nothing here was measured on what played no part in the training."
        )
    yield from found["test" if "test" in found else "validation"].findings[1:]
    yield _ended(run)
    yield from ranked.findings


def _ended(run: Training) -> str:
    rows, best = run.fitted.rows, run.best
    count = f"{len(rows)} epoch{'' if len(rows) == 1 else 's'}"
    said = {
        "finished": f"It learned for {count}, as asked",
        "stopped early": f"It stopped after {count}, the last {len(rows) - best.epoch} without a better one",
        "interrupted": f"It was interrupted after {count}",
        "loss not finite": f"It stopped after {count} because the loss was no longer finite",
    }[run.fitted.ended]
    return f"{said}; the weights of epoch {best.epoch} were kept.{_gap(best)}"


def _gap(best: Row) -> str:
    if best.accuracy - best.val_accuracy < _GAP:
        return ""
    return (
        f" In that epoch it was right on {100 * best.accuracy:.0f} % of what it learned from and on "
        f"{100 * best.val_accuracy:.0f} % in validation: part of what it learned does not carry over."
    )


def _marked(run: Training) -> str:
    """Say what the lines across the charts are."""
    changes: Sequence[Row] = rate_changes(run.fitted.rows)
    kept = f"The upright line is epoch {run.best.epoch}, whose weights were kept."
    rows = run.fitted.rows
    if not changes:
        return f"{kept} The learning rate was {rows[0].lr:.2g} throughout."
    if len(changes) > 3:
        return f"{kept} The learning rate went from {rows[0].lr:.2g} to {rows[-1].lr:.2g}."
    steps = ", ".join(f"{r.lr:.2g} after epoch {r.epoch}" for r in changes)
    return f"{kept} Dotted: another learning rate ({rows[0].lr:.2g} at first, {steps})."
