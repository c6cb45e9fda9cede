"""Every choice of a training is checked before anything is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import ParameterError
from sightline.training.presets import PRESETS
from sightline.training.settings import TrainSettings


@pytest.mark.parametrize(
    "settings", [TrainSettings(), TrainSettings(model="resnet18", lr=0.1, image_size=64), *PRESETS.values()]
)
def test_settings_are_what_they_were_after_json(settings: TrainSettings) -> None:
    assert TrainSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    ("given", "kept"), [(3, "3"), ("12", "12"), (0, "none"), ("0", "none"), ("features", "features"), ("auto", "auto")]
)
def test_freeze_is_a_word_or_a_number(given: Any, kept: str) -> None:
    assert TrainSettings(freeze=given).freeze == kept


def test_models_and_weights_may_be_paths() -> None:
    found = TrainSettings(model=Path("a") / "net.py:make", weights=Path("w.safetensors"))  # type: ignore[arg-type]
    assert (found.model, found.weights) == (str(Path("a") / "net.py:make"), "w.safetensors")
    assert TrainSettings(weights=None).weights is None


WRONG = [
    ("optimizer", "adamW", "wanted adamw, adam, sgd. Did you mean adamw"),
    ("optimizer", ["sgd"], "wanted adamw"),
    ("schedule", "cosin", "Did you mean cosine"),
    ("class_weights", None, "wanted auto, balanced, none"),
    ("freeze", "feature", "Did you mean features"),
    ("freeze", -1, "wanted features, none, auto, or how many"),
    ("freeze", 1.5, "freeze=1.5"),
    ("freeze", True, "freeze=True"),
    ("freeze", "²", "freeze"),
    ("freeze", None, "freeze=None"),
    ("epochs", 0, "epochs=0: wanted a whole number, at least 1"),
    ("epochs", 2.5, "epochs=2.5"),
    ("epochs", True, "epochs=True"),
    ("epochs", None, "epochs=None"),
    ("epochs", float("nan"), "epochs=nan"),
    ("patience", -1, "patience=-1"),
    ("batch_size", "32", "batch_size='32'"),
    ("steps_per_epoch", 0, "steps_per_epoch=0"),
    ("image_size", 7, "from 8 to 16384"),
    ("image_size", 10**9, "from 8 to 16384"),
    ("seed", -1, "seed=-1"),
    ("seed", 1 << 64, "wanted a whole number"),
    ("lr", 0, "lr=0: wanted a finite number above 0"),
    ("lr", float("inf"), "lr=inf"),
    ("lr", "0.1", "lr='0.1'"),
    ("momentum", 1, "momentum=1: wanted 0 to less than 1"),
    ("momentum", None, "momentum=None"),
    ("weight_decay", -1e-4, "weight_decay"),
    ("label_smoothing", 1.0, "label_smoothing=1.0"),
    ("label_smoothing", float("nan"), "label_smoothing=nan"),
    ("val_share", 1.0, "a share between 0 and 1"),
    ("restore_best", "yes", "wanted true or false"),
    ("augment", None, "wanted a text"),
    ("augment", "flip", "augment: 'flip'"),
    ("model", 3, "model=3: wanted a name or a file"),
    ("weights", 1.0, "weights=1.0"),
]


@pytest.mark.parametrize(("name", "value", "said"), WRONG, ids=[f"{n}={v}" for n, v, _ in WRONG])
def test_what_does_not_fit_is_said(name: str, value: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=said.replace(".", r"\.")):
        TrainSettings.from_dict({name: value})


def test_a_name_that_is_none_is_said_with_a_close_one() -> None:
    with pytest.raises(ParameterError, match=r"'epoch' is unknown.*Did you mean epochs"):
        TrainSettings.from_dict({"epoch": 3})
