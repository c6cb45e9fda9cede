"""The snippets of docs/callbacks.md, run as they stand on a small net of each kind."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nets import ConvNet
from sightline.models.keras import import_keras
from sightline.models.zoo import import_torchvision
from watching import HOW, images, learned

if importlib.util.find_spec("torchvision") is not None:
    import_torchvision()
lightning = pytest.importorskip("lightning", reason="lightning is not installed")
keras = import_keras()

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT = (DOCS / "callbacks.md").read_text(encoding="utf-8")
MADE, *LOOPS = re.findall(r"```python\n(.+?)```", TEXT, re.DOTALL)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = ConvNet()

    def forward(self, x: Any) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, number: int) -> Any:
        return self.net(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def model() -> Any:
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ]
    )
    net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return net


def names() -> dict[str, Any]:
    x = np.random.default_rng(0).random((8, 16, 16, 3), dtype=np.float32)
    return {
        "images": images(2),
        "classes": [1, 4],
        "how": HOW,
        "epochs": 2,
        "net": ConvNet(),
        "train": learned,
        "module": Module(),
        "batches": torch.utils.data.DataLoader(torch.rand(8, 3, 16, 16), 4),
        "model": model(),
        "x": x,
        "y": np.arange(8) % 5,
    }


@pytest.mark.parametrize("loop", LOOPS, ids=["torch", "lightning", "keras"])
def test_a_snippet_draws_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    monkeypatch.chdir(tmp_path)
    given = names()
    exec(MADE + loop, given)
    assert len(list((tmp_path / "watched").glob("epoch_*.png"))) == 3
    assert len(list((tmp_path / "watched").glob("strip_*.png"))) == 2


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (DOCS / target).exists(), target
