"""From a folder to a classifier that can be explained: the main path, and what a training leaves behind."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import sightline
from sightline.demo.scenes import CLASSES, scenes
from sightline.errors import InputError, ParameterError
from sightline.training import run
from sightline.training.data import DataSet, Part
from sightline.training.history import read_history
from sightline.training.job import Told
from sightline.training.run import Training
from sightline.training.settings import TrainSettings
from trainings import DIGITS, few_digits, undrawn

train = partial(run.train, report=False)
_undrawn = pytest.fixture(autouse=True)(undrawn)
QUICK = TrainSettings(model="small-cnn", epochs=3, batch_size=16, lr=4e-3, patience=0)


def drawn(count: int, seed: int) -> Part:
    found = scenes(count, seed)
    return Part(np.stack([s.image for s in found]), np.array([s.label for s in found], np.int64))


@pytest.fixture(scope="module")
def data() -> DataSet:
    return DataSet("scenes", tuple(CLASSES), drawn(48, 1), drawn(16, 2), drawn(6, 3), "drawn from three seeds")


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return few_digits()


@pytest.fixture(scope="module")
def learned(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Return a training that is only looked at."""
    return train(data, out=tmp_path_factory.mktemp("learned") / "run", settings=QUICK)


@pytest.fixture(scope="module")
def begun(learned: Training) -> TrainSettings:
    """Return settings that go on from trained weights, whose features then stay as they are."""
    return replace(QUICK, weights=str(learned.out / "model.safetensors"))


def test_what_was_trained_is_opened_and_explained(data: DataSet, learned: Training) -> None:
    opened = sightline.load(learned.out)
    assert list(opened.labels) == list(CLASSES)
    assert opened.preprocessing == learned.model.preprocessing
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(opened.module(x), learned.model.module(x))
    assert sightline.explain(opened, data.test.images[0], method="grad_cam").heatmap.shape == (96, 96)


def test_the_best_epoch_is_kept_and_its_accuracy_is_that_of_the_model(data: DataSet, learned: Training) -> None:
    assert learned.best.val_accuracy == max(row.val_accuracy for row in learned.fitted.rows)
    said = [p[0]["index"] for p in sightline.predict(learned.model, list(data.val.images))]
    assert np.mean(np.array(said) == data.val.labels) == pytest.approx(learned.best.val_accuracy)


def test_of_equal_accuracies_the_lower_loss_is_kept(digits: DataSet, tmp_path: Path) -> None:
    """Two validation series give an accuracy in steps of a half, on which a net that learns seems to stand."""
    few = replace(digits, val=Part(digits.val.images[:2], digits.val.labels[:2]))
    asked = TrainSettings(model="mnist1d-cnn", epochs=6, patience=0, lr=1e-3)
    found = train(few, out=tmp_path / "run", settings=asked)
    rows = found.fitted.rows
    same = [row for row in rows if row.val_accuracy == found.best.val_accuracy]
    assert len(same) > 1
    assert found.best.val_loss == min(row.val_loss for row in same)
    kept = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert kept["epoch"] + 1 == found.best.epoch


def test_history_and_events_say_the_same(learned: Training) -> None:
    rows = read_history(learned.out / "history.csv")
    assert rows == list(learned.fitted.rows)
    with (learned.out / "history.csv").open() as stream:
        assert next(csv.reader(stream)) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    events = EventAccumulator(str(learned.out / "tensorboard")).Reload()
    logged = events.Scalars("accuracy/validation")
    assert [e.step for e in logged] == [1, 2, 3]
    assert [e.value for e in logged] == pytest.approx([row.val_accuracy for row in rows])


def test_one_seed_gives_the_same_weights_and_another_gives_others(digits: DataSet, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        train(digits, out=tmp_path / name, settings=replace(DIGITS, seed=seed))
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["head.weight"], c["head.weight"])


def test_the_callers_random_numbers_are_left_alone(digits: DataSet, tmp_path: Path) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    train(digits, out=tmp_path / "run", settings=DIGITS)
    assert torch.equal(torch.rand(3), wanted)


def test_the_recorded_loss_is_that_of_the_recipe(digits: DataSet, tmp_path: Path) -> None:
    """Plain SGD on cross-entropy with L2 5e-4 of Keras' kind, step by step, gives the same weights."""
    asked = replace(DIGITS, steps_per_epoch=3, restore_best=False)
    train(digits, out=tmp_path / "run", settings=asked)
    found = load_file(tmp_path / "run" / "model.safetensors")
    wanted = by_hand(digits, asked)
    assert all(torch.allclose(found[k], wanted[k], atol=1e-6) for k in wanted)


def by_hand(digits: DataSet, asked: TrainSettings) -> dict[str, torch.Tensor]:
    from sightline.models.architectures import ARCHITECTURES
    from sightline.training.batches import order
    from sightline.training.heads import with_heads

    net = with_heads(ARCHITECTURES["mnist1d-cnn"].build(10, asked.seed), ["head"], 10, asked.seed).train()
    keys = [n for _, n in order(len(digits.train), 0, asked.seed, 96)]
    for rows in np.array_split(keys, 3):
        x, y = torch.from_numpy(digits.train.images[rows])[:, None], torch.from_numpy(digits.train.labels[rows])
        decay = sum((p**2).sum() for p in net.parameters() if p.ndim > 1)
        loss = torch.nn.functional.cross_entropy(net(x), y) + 5e-4 * decay
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for p, g in zip(net.parameters(), gradients, strict=True):
                p -= 0.01 * g
    return dict(net.state_dict())


def test_early_stopping_waits_for_the_patience_and_no_longer(digits: DataSet, tmp_path: Path) -> None:
    still = replace(DIGITS, epochs=20, patience=2, lr=1e-12, restore_best=True)
    found = train(digits, out=tmp_path / "run", settings=still)
    assert (found.fitted.ended, len(found.fitted.rows), found.best.epoch) == ("stopped early", 3, 1)


def test_the_learning_rate_is_halved_where_accuracy_stands_still(digits: DataSet, tmp_path: Path) -> None:
    still = replace(DIGITS, epochs=5, lr=1e-12, schedule="plateau")
    rates = [row.lr for row in train(digits, out=tmp_path / "run", settings=still).fitted.rows]
    assert rates == pytest.approx([1e-12, 1e-12, 1e-12, 5e-13, 5e-13])


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_schedules_end_low(digits: DataSet, tmp_path: Path, schedule: str) -> None:
    asked = replace(DIGITS, epochs=3, schedule=schedule, batch_size=16)
    rates = [row.lr for row in train(digits, out=tmp_path / "run", settings=asked).fitted.rows]
    assert rates[-1] < 1e-4 < rates[0]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_optimizer_learns(digits: DataSet, tmp_path: Path, optimizer: str) -> None:
    asked = replace(DIGITS, epochs=3, optimizer=optimizer, lr=2e-2 if optimizer == "sgd" else 3e-3)
    rows = train(digits, out=tmp_path / "run", settings=asked).fitted.rows
    assert rows[-1].loss < rows[0].loss


def test_steps_per_epoch_end_an_epoch(digits: DataSet, tmp_path: Path) -> None:
    stages: dict[str, list[int]] = {}
    told = Told(stage=lambda name, count: stages.update({name: []}), step=lambda n: [*stages.values()][-1].append(n))
    asked = replace(DIGITS, epochs=2, steps_per_epoch=2)
    train(digits, out=tmp_path / "run", settings=asked, told=told)
    assert sum(stages["training"]) == 4


def test_a_batch_of_one_is_no_trouble_for_batch_norms(data: DataSet, tmp_path: Path) -> None:
    odd = replace(data, train=Part(data.train.images[:17], data.train.labels[:17]))
    assert train(odd, out=tmp_path / "run", settings=replace(QUICK, epochs=1)).fitted.ended == "finished"


def test_the_features_of_frozen_layers_are_computed_once(
    data: DataSet, learned: Training, begun: TrainSettings, tmp_path: Path
) -> None:
    found = train(data, out=tmp_path / "run", settings=begun)
    assert found.fitted.about["features_cached"]
    a, b = (load_file(run.out / "model.safetensors") for run in (learned, found))
    assert all(torch.equal(a[k], b[k]) for k in a if k.startswith("features"))
    assert not torch.equal(a["head.weight"], b["head.weight"])
    assert not (found.out / "work").exists()


def test_cached_features_train_the_same_head_as_the_whole_net(
    data: DataSet, begun: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = replace(begun, epochs=2, optimizer="sgd", lr=0.1)
    train(data, out=tmp_path / "kept", settings=again)
    monkeypatch.setattr("sightline.training.torch_fit.tail_of", lambda model, learned: None)
    whole = train(data, out=tmp_path / "whole", settings=again)
    assert not whole.fitted.about["features_cached"]
    a, b = (load_file(tmp_path / n / "model.safetensors") for n in ("kept", "whole"))
    assert all(torch.allclose(a[k], b[k], atol=1e-5) for k in a)


def test_run_json_says_what_was_done(digits: DataSet, tmp_path: Path) -> None:
    train(digits, out=tmp_path / "run", settings=DIGITS)
    said = json.loads((tmp_path / "run" / "run.json").read_text())
    assert said["data"]["hash"] == digits.hash
    assert TrainSettings.from_dict(said["settings"]) == DIGITS
    assert said["versions"]["torch"] == torch.__version__.partition("+")[0] or said["versions"]["torch"]


def test_a_folder_that_is_in_use_is_not_overwritten(digits: DataSet, tmp_path: Path) -> None:
    train(digits, out=tmp_path / "run", settings=DIGITS)
    with pytest.raises(InputError, match="add --resume"):
        train(digits, out=tmp_path / "run", settings=DIGITS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is no training's folder"):
        train(digits, out=tmp_path / "mine", settings=DIGITS)


def test_what_cannot_be_is_said(digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no model came"):
        train(digits, out=tmp_path / "run", settings=TrainSettings())
    with pytest.raises(ParameterError, match="series are not turned"):
        train(digits, out=tmp_path / "run", settings=replace(DIGITS, augment="rotate"))
    assert not (tmp_path / "run").exists()


def test_an_object_is_trained_as_a_copy_and_opened_with_ones_own(data: DataSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 9),
    )
    before = {k: v.clone() for k, v in net.state_dict().items()}
    asked = TrainSettings(freeze="none", epochs=1, image_size=96)
    found = train(data, out=tmp_path / "run", model=net, settings=asked)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    opened = sightline.load(net, weights=tmp_path / "run")
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(opened.module(x), found.model.module(x))
    with pytest.raises(sightline.SightlineError, match="own"):
        sightline.load(tmp_path / "run")


def test_a_keras_object_is_trained_as_a_copy(data: DataSet, tmp_path: Path) -> None:
    from sightline.models.keras import import_keras

    keras = import_keras()
    layers = keras.layers
    net = keras.Sequential(
        [layers.Input((96, 96, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(9)]
    )
    before = [w.value.detach().clone() for w in net.weights]
    train(data, out=tmp_path / "run", model=net, settings=TrainSettings(freeze="none", epochs=1))
    assert all(torch.equal(a, b.value) for a, b in zip(before, net.weights, strict=True))
    assert list(sightline.load(tmp_path / "run").labels) == list(CLASSES)
