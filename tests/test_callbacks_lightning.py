"""The callback in a real Lightning Trainer: what it draws, and that the training never notices."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import sightline
from sightline.errors import ModelError, ParameterError
from sightline.methods import METHODS
from sightline.methods import method as register
from sightline.models.zoo import import_torchvision
from sightline.recording import Recording
from watching import HOW, images, tags_of

if importlib.util.find_spec("torchvision") is not None:
    import_torchvision()  # where its compiled operators do not fit, lightning could not import it either
lightning = pytest.importorskip("lightning", reason="lightning is not installed")
from lightning.pytorch.callbacks import EarlyStopping  # noqa: E402
from lightning.pytorch.loggers import TensorBoardLogger  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*num_workers.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:DeprecationWarning"),
]


class Net(lightning.LightningModule):
    """Batch norm and dropout, which a pass in the wrong mode would move."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3),
            nn.Conv2d(6, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, number: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.02)


class Whole(Net):
    """Has no forward of its own: only its part can be explained."""

    forward = nn.Module.forward

    def training_step(self, batch: Any, number: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])


def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 3, 16, 16, generator=generator), torch.arange(24) % 4
    return DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)


def trained(tmp_path: Path, module: Any, callbacks: list[Any], epochs: int = 3, **options: Any) -> Any:
    settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "default_root_dir": tmp_path} | options
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, data())
    return trainer


def fresh(kind: type[Net] = Net) -> Net:
    torch.manual_seed(5)
    return kind()


def watched(out: Path, *args: Any, **options: Any) -> Any:
    given: dict[str, Any] = {"preprocessing": HOW, "out": out, "tensorboard": False} | options
    return sightline.watch(images(2), *args, **given)


def epochs_in(out: Path) -> list[int]:
    return sorted(int(p.stem.removeprefix("epoch_")) for p in out.glob("epoch_*.png"))


def test_it_draws_before_the_training_every_n_epochs_and_after_the_last(tmp_path: Path) -> None:
    watch = watched(tmp_path / "out", "grad_cam,gradient", every=2, labels=["a", "b", "c", "d"], target="b")
    callback = sightline.lightning_callback(watch)
    assert isinstance(callback, lightning.Callback)
    trained(tmp_path, fresh(), [callback])
    assert epochs_in(tmp_path / "out") == [0, 2, 3]


def test_the_trainers_own_tensorboard_is_used(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="logs", version="one")
    watch = watched(tmp_path / "out", every=1, tensorboard=True)
    trained(tmp_path, fresh(), [sightline.lightning_callback(watch)], 2, logger=logger)
    tags = tags_of(tmp_path / "logs" / "one")
    assert [e.step for e in tags["explanations/grad_cam"]] == [0, 1, 2]
    assert not list((tmp_path / "out").glob("events*"))


def test_without_a_logger_the_event_file_lies_with_the_pictures(tmp_path: Path) -> None:
    trained(tmp_path, fresh(), [sightline.lightning_callback(watched(tmp_path / "out", tensorboard=True))], 1)
    assert [e.step for e in tags_of(tmp_path / "out")["explanations/grad_cam"]] == [0, 1]


@pytest.mark.filterwarnings("ignore:.*validation_step.*:UserWarning")
def test_the_same_weights_come_out_bit_for_bit(tmp_path: Path) -> None:
    @register(family="gradient", cite="none", reads="input")
    def dice(rec: Recording) -> Tensor:
        np.random.rand()
        return torch.rand_like(rec.x)

    try:
        watch = watched(
            tmp_path / "out", "dice,grad_cam,smooth_grad,rise,guided_backprop", parameters={"rise.samples": 20}
        )
        with_it, without = fresh(), fresh()
        torch.manual_seed(1)
        trained(tmp_path, with_it, [sightline.lightning_callback(watch)])
    finally:
        del METHODS["dice"]
    torch.manual_seed(1)
    trained(tmp_path, without, [])
    found, wanted = with_it.state_dict(), without.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert epochs_in(tmp_path / "out") == [0, 1, 2, 3]
    assert with_it.training == without.training


def test_a_part_is_explained_where_the_module_has_no_forward(tmp_path: Path) -> None:
    module = fresh(Whole)
    with pytest.raises(ModelError, match="forward"):
        trained(tmp_path, module, [sightline.lightning_callback(watched(tmp_path / "a"))])
    module = fresh(Whole)
    trained(tmp_path, module, [sightline.lightning_callback(watched(tmp_path / "b"), module.net)], 1)
    assert epochs_in(tmp_path / "b") == [0, 1]


def test_a_stopped_training_draws_its_last_epoch(tmp_path: Path) -> None:
    watch = watched(tmp_path / "out", every=50)
    stop = EarlyStopping("loss", patience=1, min_delta=100, check_on_train_epoch_end=True)
    trainer = trained(tmp_path, fresh(), [sightline.lightning_callback(watch), stop], 20)
    assert epochs_in(tmp_path / "out") == [0, trainer.current_epoch] == [0, 2]


def test_a_resumed_training_continues_the_strip(tmp_path: Path) -> None:
    first = trained(tmp_path, fresh(), [sightline.lightning_callback(watched(tmp_path / "out"))], 2)
    first.save_checkpoint(tmp_path / "last.ckpt")
    trainer = lightning.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[sightline.lightning_callback(watched(tmp_path / "out"))],
    )
    trainer.fit(fresh(), data(), ckpt_path=tmp_path / "last.ckpt")
    assert epochs_in(tmp_path / "out") == [0, 1, 2, 3, 4]


def test_sharded_weights_and_what_is_no_watch_are_refused(tmp_path: Path) -> None:
    callback = sightline.lightning_callback(watched(tmp_path))
    trainer = type("Trainer", (), {"strategy": type("FSDPStrategy", (), {})()})
    with pytest.raises(ModelError, match="shards the weights"):
        callback.setup(trainer, None, "fit")
    with pytest.raises(ParameterError, match="wanted a watch"):
        sightline.lightning_callback(images(1))


HOOK = "sightline.training.callbacks.lightning_hook"


def test_the_older_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pl = pytest.importorskip("pytorch_lightning", reason="the older name is not installed")
    monkeypatch.delitem(sys.modules, HOOK, raising=False)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    callback = sightline.lightning_callback(watched(tmp_path))
    monkeypatch.undo()
    assert isinstance(callback, pl.Callback)
    both = [callback, sightline.lightning_callback(watched(tmp_path / "of-the-newer-name"))]
    module = type("Old", (pl.LightningModule,), {k: v for k, v in vars(Net).items() if not k.startswith("__")})()
    module.net = fresh().net
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=both,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data())
    assert epochs_in(tmp_path) == epochs_in(tmp_path / "of-the-newer-name") == [0, 1]


def test_without_lightning_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, HOOK, raising=False)
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=r"pip install 'sightline\[train\]'"):
        sightline.lightning_callback(watched(tmp_path))
