"""What a training did, drawn: loss, accuracy and learning rate by epoch, and ROC curves; as pictures and for pages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.evaluation.mistakes.classification import ClassNumbers
from sightline.evaluation.report.scales import Scale, scale_of
from sightline.output import written
from sightline.training.history import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Chart", "charts", "draw_curves", "draw_roc", "rate_changes"]

# Okabe and Ito's colours, told apart by colour-blind readers; training is dashed too, for prints in grey.
_TRAIN, _VAL, _MARK, _INK, _GRID = "#c95400", "#0072b2", "#1f2328", "#3d444d", "#dee1e5"
_CLASSES = ("#0072b2", "#c95400", "#008a65", "#b0568b", "#a87900", "#2a8fc7", "#6a51a3", "#5c6f00")
_DASHES = ("-", "--", ":")
_NAMED = 8
_FEW_EPOCHS = 25
_STEPS_MARKED = 8


def rate_changes(rows: Sequence[Row]) -> list[Row]:
    """Return the epochs that ended with another learning rate than the one before."""
    return [b for a, b in itertools.pairwise(rows) if not math.isclose(a.lr, b.lr, rel_tol=1e-6)]


# --- pictures -----------------------------------------------------------------------------------------------


def draw_curves(rows: Sequence[Row], best: Row, file: Path, title: str) -> Path:
    """Write loss, accuracy and (where it changes) learning rate over the epochs as a PNG; the kept epoch is marked."""
    changes = rate_changes(rows)
    drawn = _sheet(title, (12.8, 9.6 if changes else 8.2))
    ratios = [4.0, 4.0, 1.4] if changes else [1.0, 1.0]
    axes = drawn.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    _draw_pair(axes[0], rows, "loss", "val_loss", "cross-entropy")
    _draw_pair(axes[1], rows, "accuracy", "val_accuracy", "accuracy")
    axes[1].plot([best.epoch], [best.val_accuracy], "o", ms=13, mfc="none", mec=_MARK, mew=2.2, zorder=4)
    for ax in axes:
        ax.axvline(best.epoch, color=_MARK, lw=1.4, zorder=1)
        for row in changes if len(changes) <= _STEPS_MARKED else ():
            ax.axvline(row.epoch, color=_INK, lw=1.2, ls=":", zorder=1)
    if changes:
        _draw_rate(axes[2], rows)
    _number_epochs(axes[-1], rows)
    _name_best(axes[0], best, rows)
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=16, frameon=False)
    return _saved(drawn, file)


def _sheet(title: str, size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.14)
    drawn = Figure(figsize=size, dpi=120, facecolor="#fcfcfa", layout=layout)
    drawn.suptitle(title.replace("$", r"\$"), x=0.012, ha="left", fontsize=19, color=_MARK)
    return drawn


def _draw_pair(ax: Axes, rows: Sequence[Row], train: str, val: str, name: str) -> None:
    epochs = [r.epoch for r in rows]
    dot = "o" if len(rows) <= _FEW_EPOCHS else ""
    ax.plot(epochs, [getattr(r, train) for r in rows], color=_TRAIN, ls="--", lw=2.6, marker=dot, label="training")
    ax.plot(epochs, [getattr(r, val) for r in rows], color=_VAL, lw=3.2, marker=dot, label="validation")
    _plain(ax, name)


def _name_best(ax: Axes, best: Row, rows: Sequence[Row]) -> None:
    """Say above the panels which epoch was kept."""
    share = _across(best.epoch, rows)
    ax.annotate(
        f"kept: epoch {best.epoch}, validation accuracy {100 * best.val_accuracy:.1f} %",
        (best.epoch, 1),
        (0, 7),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="left" if share < 0.25 else "right" if share > 0.75 else "center",
        fontsize=15,
        color=_MARK,
    )


def _draw_rate(ax: Axes, rows: Sequence[Row]) -> None:
    ax.step([r.epoch for r in rows], [r.lr for r in rows], where="post", color=_INK, lw=2.2)
    ax.set_yscale("log")
    _plain(ax, "learning rate")


def _number_epochs(ax: Axes, rows: Sequence[Row]) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("epoch", fontsize=16, color=_INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    ax.set_xlim(rows[0].epoch - 0.5, rows[-1].epoch + 0.5)


def _plain(ax: Axes, name: str) -> None:
    ax.set_ylabel(name, fontsize=16, color=_INK)
    ax.set_facecolor("white")
    ax.tick_params(labelsize=14, colors=_INK)
    ax.grid(axis="y", color=_GRID)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(_GRID)


def _saved(drawn: Figure, file: Path) -> Path:
    with written(file) as aside:
        drawn.savefig(aside, format="png", metadata={"Software": None})
    return file


def draw_roc(classes: Sequence[ClassNumbers], file: Path, title: str) -> Path | None:
    """Write each class's ROC curve against the rest as a PNG, the lowest named; None where none is defined."""
    defined = sorted((c for c in classes if not math.isnan(c.auc)), key=lambda c: c.auc)
    if not defined:
        return None
    drawn = _sheet(title, (12.0, 8.2))
    ax = drawn.subplots()
    ax.plot([0, 1], [0, 1], color=_INK, lw=1.2, ls=":")
    for c in defined[_NAMED:]:
        ax.plot(*c.roc, color="#b8bfc7", lw=1.2, zorder=1)
    for n, c in enumerate(defined[:_NAMED]):
        style = _DASHES[n % len(_DASHES)]
        ax.plot(*c.roc, color=_CLASSES[n], ls=style, lw=2.8, label=f"{_short(_drawable(c))}   {c.auc:.3f}")
    _plain(ax, "found of the class (true positives)")
    ax.set_xlabel("false alarms among the others (false positives)", fontsize=16, color=_INK)
    ax.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
    ax.grid(axis="x", color=_GRID)
    left = len(defined) - _NAMED
    heading = f"AUC, the lowest {_NAMED}; grey: {left} higher" if left > 0 else "AUC, the lowest first"
    legend = ax.legend(title=heading, loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=15, frameon=False)
    legend.get_title().set_fontsize(15)
    return _saved(drawn, file)


def _drawable(c: ClassNumbers) -> str:
    """Return a class's name, or its number where the name is in a script that the font has not; pages show all."""
    from matplotlib import font_manager, ft2font

    known = ft2font.FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return c.label if all(ord(letter) in known for letter in c.label) else f"class {c.index}"


def _short(label: str, most: int = 26) -> str:
    """Cut a long name; a dollar would begin a formula."""
    cut = label if len(label) <= most else f"{label[: most - 1]}…"
    return cut.replace("$", r"\$")


# --- for a page ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chart:
    """One quantity over the epochs, from 0 to 1 across and up: lines by name, the scale, and what is marked."""

    name: str
    scale: Scale
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]]
    epochs: Sequence[tuple[float, int]]
    best: tuple[float, float] | None
    changes: Sequence[float]
    said: str


def charts(rows: Sequence[Row], best: Row) -> list[Chart]:
    """Return what a page draws of the epochs: loss and accuracy, in training and in validation."""
    return [
        _chart("Loss (cross-entropy)", "loss", "val_loss", rows, best),
        _chart("Accuracy", "accuracy", "val_accuracy", rows, best),
    ]


def _chart(name: str, train: str, val: str, rows: Sequence[Row], best: Row) -> Chart:
    scale = scale_of([getattr(r, key) for r in rows for key in (train, val)])
    changes = rate_changes(rows)
    kept = getattr(best, val)
    first, last = rows[0], rows[-1]
    return Chart(
        name,
        scale,
        [(said, _places(rows, key, scale)) for said, key in (("training", train), ("validation", val))],
        _epochs(rows),
        (_across(best.epoch, rows), scale.at(kept)) if math.isfinite(kept) else None,
        [_across(r.epoch, rows) for r in changes] if len(changes) <= _STEPS_MARKED else [],
        f"{name}: from {getattr(first, val):.3f} to {getattr(last, val):.3f} in validation, "
        f"{kept:.3f} at the epoch that was kept",
    )


def _across(epoch: float, rows: Sequence[Row]) -> float:
    span = rows[-1].epoch - rows[0].epoch
    return (epoch - rows[0].epoch) / span if span else 0.5


def _places(rows: Sequence[Row], key: str, scale: Scale) -> list[tuple[float, float]]:
    values: list[tuple[int, Any]] = [(r.epoch, getattr(r, key)) for r in rows]
    return [(_across(e, rows), scale.at(v)) for e, v in values if math.isfinite(v)]


def _epochs(rows: Sequence[Row], most: int = 6) -> list[tuple[float, int]]:
    """Return round epochs with their places, the first and the last among them where they fit."""
    step = next(s for s in (n * 10**p for p in range(9) for n in (1, 2, 5)) if (len(rows) - 1) / s <= most)
    found = [e for e in range(rows[0].epoch, rows[-1].epoch + 1) if e % step == 0]
    return [(_across(e, rows), e) for e in found]
