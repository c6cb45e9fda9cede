"""Trainings made by hand for the tests of what they leave: a net that reads grey levels, and epochs that never ran."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightline.demo.mnist1d import make_mnist1d
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models.load import load
from sightline.models.model import Model
from sightline.training.data import DataSet, Part
from sightline.training.history import Row
from sightline.training.job import Fitted
from sightline.training.presets import PRESETS
from sightline.training.run import Training
from sightline.training.settings import TrainSettings

DIGITS = replace(PRESETS["mnist1d"], epochs=1)
CLASSES = ("black", "grey", "white")
WHOLE = Preprocessing(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)
BEGUN = {"start": {"weights": "random", "hash": "0123456789abcdef"}, "versions": {"sightline": "0.1.0", "torch": "2"}}


def undrawn() -> Iterator[None]:
    """Leave out the curves, which take longer than a small training; test_training_report.py looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_curves", "draw_roc"):
            patch.setattr(f"sightline.training.report.{name}", lambda *_: None)
        yield


def few_digits(train: int = 128, others: int = 32) -> DataSet:
    """Return MNIST-1D with few series; an epoch has four steps of the recipe, where that is not asked otherwise."""
    made = make_mnist1d(samples=(train + others) * 5 // 4 // 10 * 10)
    x, x_test = made.x.astype(np.float32), made.x_test.astype(np.float32)
    val = Part(x[train : train + others], made.y[train : train + others])
    parts = Part(x[:train], made.y[:train]), val, Part(x_test[:others], made.y_test[:others])
    return DataSet("mnist1d", tuple("0123456789"), *parts, "made for tests")


class Greys(nn.Module):
    """Says which of the levels 0, 0.5, 1 a picture, or the mean of a series, is nearest."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        kind = nn.Conv2d if dims == 2 else nn.Conv1d
        self.conv = kind(3 if dims == 2 else 1, 3, 1)
        for weights in (self.conv.weight, self.conv.bias):
            nn.init.zeros_(weights)
        levels = torch.linspace(0, 1, 3)
        with torch.no_grad():
            self.conv.weight += (16 * levels).reshape(3, *[1] * (self.conv.weight.ndim - 1)) / self.conv.in_channels
            self.conv.bias -= 8 * levels**2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).flatten(2).mean(2)


class Flat(nn.Module):
    """No layer with positions: methods that read one refuse it."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3 * 8 * 8, 3)
        torch.nn.init.zeros_(self.line.weight)
        torch.nn.init.zeros_(self.line.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x.flatten(1))


def pictures(levels: Sequence[int], labels: Sequence[int]) -> Part:
    """Return pictures of single grey levels, their left halves a little darker."""
    made = np.repeat(np.array(levels, np.uint8)[:, None, None, None], 8, 1).repeat(8, 2).repeat(3, 3)
    made[:, :, :4] = made[:, :, :4] // 8 * 7
    return Part(made, np.array(labels, np.int64))


def series(levels: Sequence[float], labels: Sequence[int]) -> Part:
    """Return series of 12 points around a level."""
    wave = 0.1 * np.sin(np.arange(12))
    return Part((np.array(levels)[:, None] + wave).astype(np.float32), np.array(labels, np.int64))


def epochs(count: int, best: int | None = None, lr: float = 0.01) -> tuple[Row, ...]:
    """Return rows whose validation accuracy is highest at ``best``; the learning rate is halved in the middle."""
    peak = best or count
    return tuple(
        Row(e, 2 / e, 1 - 0.5 / e, 2.2 / e, 0.8 - 0.05 * abs(e - peak), lr if e <= count / 2 else lr / 2, 1.5)
        for e in range(1, count + 1)
    )


def training(
    out: Path, val: Part, test: Part | None = None, *, module: nn.Module | None = None, **given: Any
) -> Training:
    """Return a training in ``out`` that has ended; ``given`` replaces rows, ended, why, data, folder or settings."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "run.json").write_text(json.dumps(BEGUN))
    dims = 1 if np.asarray(val.images).ndim == 2 and not isinstance(val.images, list) else 2
    model: Model = load(
        module or Greys(dims), preprocessing=WHOLE if dims == 2 else _OF_SERIES, labels=Labels(CLASSES), dims=dims
    )
    data = DataSet(
        "shades", CLASSES, val, val, test, "as they came", given.get("folder"), given.get("hashes"), **_notes(given)
    )
    fitted = Fitted(model, given.get("rows", epochs(4, 3)), given.get("ended", "finished"), given.get("why", ""))
    settings = given.get("settings", TrainSettings(model="greys@/home/ann/nets/greys.pt"))
    return Training(model, data, settings, fitted, None, out)


_OF_SERIES = Preprocessing(resize=None, crop=None, mean=(0.0,), std=(1.0,), scale=1.0)


def _notes(given: dict[str, Any]) -> dict[str, Any]:
    return {k: given[k] for k in ("skipped", "notes") if k in given}
