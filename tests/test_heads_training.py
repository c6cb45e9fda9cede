"""Trainings from one folder to the next: the head is kept where the question is the same."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.forward import find_logits
from sightline.models.load import load
from sightline.training.data import DataSet, Part
from trainings import undrawn

_undrawn = pytest.fixture(autouse=True)(undrawn)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("lightning") is None, reason="lightning is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def data(classes: tuple[str, ...] = ("dark", "light"), side: int = 32) -> DataSet:
    labels = np.arange(12, dtype=np.int64) % len(classes)
    noise = np.random.default_rng(0).integers(0, 60, (12, side, side, 3))
    images = (noise + 90 * labels[:, None, None, None]).astype(np.uint8)
    return DataSet("made", classes, Part(images, labels), Part(images[:6], labels[:6]), None, "as made")


def trained(model: str, found: DataSet, out: Path, **asked: object) -> torch.nn.Module:
    from sightline.training.run import train
    from sightline.training.settings import TrainSettings

    settings = TrainSettings.from_dict({"model": model, "epochs": 1, "batch_size": 4, **asked})
    return train(found, out=out, settings=settings, device="cpu", report=False).model.module


def head(module: torch.nn.Module) -> torch.Tensor:
    return module.get_parameter("head.weight")


def test_the_head_is_kept_for_the_same_classes_and_made_anew_for_others(tmp_path: Path) -> None:
    first = trained("small-cnn", data(), tmp_path / "first", weights=None)
    still = {"freeze": "features", "lr": 1e-12, "optimizer": "sgd"}  # as good as nothing is learned
    again = trained(str(tmp_path / "first"), data(), tmp_path / "again", **still)
    torch.testing.assert_close(head(again), head(first), atol=1e-6, rtol=0)
    other = trained(str(tmp_path / "first"), data(("light", "dark")), tmp_path / "other", seed=7, **still)
    assert (head(other) - head(first)).abs().max() > 0.01
    torch.testing.assert_close(next(other.parameters()), next(first.parameters()))
    opened = load(tmp_path / "other", device="cpu")
    assert tuple(opened.labels) == ("light", "dark")
    assert torch.equal(head(opened.module), head(other))


@pytest.mark.parametrize("name", ["googlenet", "timm/deit_tiny_distilled_patch16_224"])
def test_several_heads_train_and_open_again(name: str, tmp_path: Path) -> None:
    side = 32 if name == "googlenet" else 224
    net = trained(name, data(side=32), tmp_path / "run", weights=None, freeze="features", image_size=side)
    again = load(tmp_path / "run", device="cpu")
    with torch.no_grad():
        x = again.example_input()
        assert torch.equal(find_logits(again.module(x), 1), find_logits(net(x), 1))
