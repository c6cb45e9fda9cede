"""Keras models trained by Keras' own fit: what is learned, by what rule, on what, and what comes out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import keras_jobs as made
from keras_jobs import SIDE, arrays, data, functional, job, keras, layers, model, sequential
from sightline.errors import ModelError, ParameterError
from sightline.forward import run_forward
from sightline.models.adapted import bare
from sightline.models.keras import quiet
from sightline.training.augment import read_augmentation
from sightline.training.batches import Examples, order, weights_of_classes
from sightline.training.history import best_row, read_history
from sightline.training.keras_batches import Batches, layout_of
from sightline.training.keras_fit import fit
from sightline.training.keras_heads import freeze, logits_only, sized, tail_of, with_head
from sightline.training.keras_lesson import OneCycle
from sightline.training.settings import TrainSettings


def weights(net) -> dict[str, np.ndarray]:
    return dict(zip([w.path for w in net.weights], arrays(net), strict=True))


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {k.split("/")[-2] for k, v in before.items() if k in after and not np.array_equal(v, after[k])}


# --- what comes out -------------------------------------------------------------------------------------------


def test_a_model_learns_and_ends_in_a_softmax(tmp_path):
    learned = fit(job(sequential(rate=0.0), tmp_path, epochs=15, freeze="none", optimizer="adam", lr=0.03))
    rows = learned.rows
    assert learned.ended == "finished"
    assert [r.epoch for r in rows] == list(range(1, 16))
    assert max(r.val_accuracy for r in rows) > 0.9
    assert min(r.loss for r in rows) < rows[0].loss
    assert [(r.epoch, r.loss) for r in read_history(tmp_path / "history.csv")] == [(r.epoch, r.loss) for r in rows]
    net = bare(learned.model.module)
    assert net.layers[-1].name == "head"
    assert net.layers[-1].activation.__name__ == "softmax"
    assert net.output_shape == (None, 3)
    assert isinstance(net, keras.Sequential)
    assert not net.compiled
    x = learned.model.example_input()
    assert run_forward(learned.model.module, x).head == "softmax"
    assert torch.allclose(learned.model.module(x).sum(1), torch.ones(1))


def test_the_best_epoch_is_kept_and_only_its_file(tmp_path):
    learned = fit(job(sequential(), tmp_path, epochs=6, freeze="none", lr=0.2))
    accuracies = [r.val_accuracy for r in learned.rows]
    best = best_row(learned.rows).epoch
    assert [f.name for f in (tmp_path / "checkpoints").glob("best*")] == [f"best-{best:04d}.weights.h5"]
    part = data().val
    examples = Examples(part, learned.model.preprocessing)
    x = torch.stack([examples.plain(n) for n in range(len(part))])
    right = (learned.model.module(x).argmax(1).numpy() == part.labels).mean()
    assert right == pytest.approx(max(accuracies), abs=1e-6)


def test_the_last_epoch_is_kept_where_that_is_asked(tmp_path):
    learned = fit(job(sequential(), tmp_path, epochs=3, freeze="none", restore_best=False))
    kept = np.load(tmp_path / "checkpoints" / "last.npz")
    assert all(np.array_equal(kept[f"weights{n}"], w) for n, w in enumerate(arrays(bare(learned.model.module))))


def test_a_random_model_with_the_right_number_keeps_its_head(tmp_path):
    net = sequential(classes=3)
    kernel = arrays(net.layers[-1])[0]
    fit(job(net, tmp_path, epochs=1, weights="random", lr=1e-12))
    assert np.allclose(arrays(net.layers[-1])[0], kernel, atol=1e-6)


def test_new_heads_are_drawn_from_the_seed_and_leave_global_draws_alone():
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    kernels = [arrays(bare(with_head(model(sequential()), 3, seed)[0].module).layers[-1])[0] for seed in (1, 1, 2)]
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])
    assert torch.equal(torch.rand(3), want)


def reshaped() -> list:
    end = [layers.Reshape((5,), name="flat"), layers.Softmax(name="probabilities")]
    return [*made.body(5)[:5], layers.GlobalAveragePooling2D(keepdims=True), layers.Conv2D(5, 1, name="head"), *end]


HEADS = {
    "functional": lambda: functional(made.body(5)),
    "logits": lambda: functional([*made.body(5)[:-1], layers.Dense(5, name="head")]),
    "softmax layer": lambda: functional([*made.body(5)[:-1], layers.Dense(5, name="head"), layers.Softmax()]),
    "sigmoid": lambda: functional([*made.body(5)[:-1], layers.Dense(1, activation="sigmoid", name="head")]),
    "convolution": lambda: functional(reshaped()),
    "nested head": lambda: keras.Sequential([keras.Input((SIDE, SIDE, 3)), functional(made.body(5))]),
    "nested base": lambda: keras.Sequential([functional(made.body(5)[:6]), *made.body(5)[6:]]),
    "unbuilt": lambda: keras.Sequential(made.body(5)),
}


@pytest.mark.parametrize("kind", HEADS)
def test_every_kind_of_end_gets_a_new_head(kind):
    with quiet():
        found, end = with_head(model(HEADS[kind]()), 3, 0)
        x = found.example_input()
        probabilities = found.module(x)
        assert end.head == "head"
        assert probabilities.shape == (1, 3)
        assert torch.allclose(probabilities.sum(1), torch.ones(1))
        with logits_only(end.closing), freeze(found, "features") as trunk:
            assert "conv2" not in trunk.learned
            assert trunk.learned[-1] == "head"
            assert tail_of(found, trunk) is not None
            logits = found.module(x)
        assert torch.allclose(logits.softmax(1), probabilities, atol=1e-6)


def test_inputs_of_another_size_are_taken_where_the_layers_can():
    from dataclasses import replace

    small = model(sequential())
    asked = replace(small, preprocessing=replace(small.preprocessing, resize=(20, 20)), input_size=None)
    found = sized(asked)
    assert found.input_size == (20, 20)
    assert found.module(found.example_input()).shape == (1, 5)
    flat = [layers.Flatten(), layers.Dense(5)]
    stiff = replace(asked, module=model(functional([*made.body(5)[:5], *flat])).module)
    with pytest.raises(ModelError, match=r"graph|small takes \(12, 12, 3\) alone"):
        sized(stiff)


# --- what is learned ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", ["none", "hflip"])
def test_frozen_layers_stay_with_their_batch_norm(tmp_path, augment):
    net = sequential()
    before = weights(net)
    learned = fit(job(net, tmp_path, freeze="features", augment=augment, weight_decay=0.1))
    assert learned.about["features_cached"] is (augment == "none")
    assert (learned.about["frozen_layers"], learned.about["layers"]) == (3, 5)
    assert moved(before, weights(bare(learned.model.module))) == {"fc", "head"}
    assert all(layer.trainable for layer in bare(learned.model.module).layers)


def test_so_many_layers_stay(tmp_path):
    net = sequential()
    before = weights(net)
    learned = fit(job(net, tmp_path, freeze="2"))
    assert moved(before, weights(bare(learned.model.module))) == {"conv2", "fc", "head"}
    with pytest.raises(ParameterError, match=r"5 layers with weights"):
        fit(job(sequential(), tmp_path / "b", freeze="5"))


def test_kept_features_and_the_whole_model_give_the_same(tmp_path, monkeypatch):
    kept = fit(job(sequential(rate=0.4), tmp_path / "a", freeze="features", seed=4))
    monkeypatch.setattr("sightline.training.keras_fit.tail_of", lambda *_: None)
    whole = fit(job(sequential(rate=0.4), tmp_path / "b", freeze="features", seed=4))
    assert (kept.about["features_cached"], whole.about["features_cached"]) == (True, False)
    for a, b in zip(kept.rows, whole.rows, strict=True):
        assert a.val_loss == pytest.approx(b.val_loss, abs=1e-5)
    pairs = zip(arrays(bare(kept.model.module)), arrays(bare(whole.model.module)), strict=True)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_a_tail_that_skips_is_no_chain():
    given = keras.Input((SIDE, SIDE, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="conv")(given))
    y = layers.Add()([layers.Dense(4, name="fc")(x), x])
    found, _ = with_head(model(keras.Model(given, layers.Dense(5, name="head")(y))), 3, 0)
    with freeze(found, "features") as trunk:
        assert trunk.learned == ("fc", "head")
        assert tail_of(found, trunk) is None


# --- by what rule ---------------------------------------------------------------------------------------------


class Twin(nn.Module):
    """`plain` in torch, with its weights."""

    def __init__(self, net) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        for layer, part in zip((self.conv, self.fc), (net.layers[0], net.layers[-1]), strict=True):
            kernel, bias = (torch.from_numpy(w) for w in arrays(part))
            layer.weight.data = kernel.permute(3, 2, 0, 1).clone() if kernel.ndim == 4 else kernel.T.clone()
            layer.bias.data = bias.clone()

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def plain():
    def build():
        end = layers.Dense(3, activation="softmax", kernel_regularizer=keras.regularizers.L2(9.0))
        parts = [layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D(), end]
        return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *parts])

    return made.seeded(1, build)


RULES = {
    "sgd": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.05},
    "cosine": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "schedule": "cosine"},
    "adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.05},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.5},
    "weighted": {"optimizer": "sgd", "lr": 0.1, "class_weights": "balanced"},
    "smoothed": {"optimizer": "sgd", "lr": 0.1, "label_smoothing": 0.2, "steps_per_epoch": 2},
}


def torch_twin(twin: Twin, started, asked: TrainSettings) -> Twin:
    groups = [
        {
            "params": [p for p in twin.parameters() if (p.ndim > 1) is decays],
            "weight_decay": asked.weight_decay * decays,
        }
        for decays in (True, False)
    ]
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = torch.optim.SGD(groups, asked.lr, momentum=asked.momentum) if asked.optimizer == "sgd" else None
    optimizer = optimizer or kinds[asked.optimizer](groups, asked.lr, eps=1e-7)
    steps = asked.steps_per_epoch or 3
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3 * steps)
    examples = Examples(started.data.train, started.model.preprocessing, seed=asked.seed)
    balance = weights_of_classes(started.data.train.counts(3), asked.class_weights)
    for epoch in range(3):
        keys = order(24, epoch, asked.seed, asked.steps_per_epoch and 8 * asked.steps_per_epoch)
        for n in range(0, len(keys), 8):
            x, labels = (torch.stack(p) for p in zip(*(examples[k] for k in keys[n : n + 8]), strict=True))
            weight = None if balance is None else torch.tensor(balance)
            loss = nn.functional.cross_entropy(twin(x), labels, weight, label_smoothing=asked.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if asked.schedule == "cosine":
                rates.step()
    return twin


@pytest.mark.parametrize("rule", RULES)
def test_it_learns_as_torch_would(tmp_path, rule):
    net = plain()
    started = job(
        net, tmp_path, on=data(uneven=rule == "weighted"), weights="random", restore_best=False, **RULES[rule]
    )
    asked = (
        TrainSettings(**{"schedule": "constant"} | vars(started.settings))
        if "schedule" in RULES[rule]
        else started.settings
    )
    want = torch_twin(Twin(net), started, asked)
    learned = fit(started)
    assert (learned.about["class_weights"] is not None) is (rule == "weighted")
    assert "regularisers of their own" in "".join(learned.notes)
    assert net.layers[-1].kernel.regularizer is not None
    got = Twin(bare(learned.model.module))
    for name, value in want.named_parameters():
        apart = (got.get_parameter(name) - value).abs().flatten()
        assert apart.max() < (1e-4 if "adam" in rule else 5e-6), name  # Keras adds Adam's epsilon elsewhere


def test_rates_follow_their_schedule(tmp_path):
    rates = [float(OneCycle(0.5, 20)(step)) for step in range(20)]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.5)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=20)
    for rate in rates:
        assert math.isclose(rate, optimizer.param_groups[0]["lr"], rel_tol=1e-4, abs_tol=1e-7)
        optimizer.step()
        cycle.step() if cycle.last_epoch < 19 else None
    learned = fit(job(sequential(), tmp_path / "a", epochs=4, lr=0.1, schedule="one-cycle"))
    assert learned.rows[-1].lr < 1e-3
    stood = fit(job(sequential(), tmp_path / "b", epochs=8, lr=1e-12, schedule="plateau", optimizer="sgd"))
    assert [r.lr for r in stood.rows][2:5] == [1e-12, 5e-13, 5e-13]


def test_it_stops_early(tmp_path):
    learned = fit(job(sequential(), tmp_path, epochs=20, patience=2, lr=1e-12))
    assert (learned.ended, len(learned.rows)) == ("stopped early", 3)


# --- on what --------------------------------------------------------------------------------------------------


def test_batches_are_the_examples_that_torch_gets():
    found, asked = model(sequential()), TrainSettings(batch_size=5, augment="all", seed=7)
    examples = Examples(data().train, found.preprocessing, augmentation=read_augmentation("all"), seed=7)
    batches = Batches(examples, asked, layout_of(found), found.device, shuffled=True)
    batches.begin(2)
    keys = order(24, 2, 7)
    for n in range(len(batches)):
        x, labels = batches[n]
        for row, key in enumerate(keys[5 * n : 5 * n + 5]):
            want, label = examples[key]
            assert torch.equal(x[row].movedim(-1, 0), want)
            assert labels[row] == label
    assert len(batches) == 5
    assert len(batches[4][1]) == 4


def test_one_example_alone_is_left_out_for_a_batch_norm():
    found, asked = model(sequential()), TrainSettings(batch_size=23)
    examples = Examples(data().train, found.preprocessing)
    alone, paired = (Batches(examples, asked, layout_of(found), found.device, shuffled=True, paired=p) for p in (0, 1))
    assert (len(alone), len(paired)) == (2, 1)


def test_what_cannot_be_trained_is_refused(tmp_path):
    class Own(keras.Model):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.conv, self.pool, self.fc = layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(classes)

        def call(self, x):
            return self.fc(self.pool(self.conv(x)))

    with pytest.raises(ModelError, match=r"class of its own .* with 5 outputs.* build it with 3"):
        fit(job(Own(5), tmp_path / "a"))
    learned = fit(job(Own(3), tmp_path / "b", epochs=1))
    assert len(learned.rows) == 1
    assert learned.about["heads"][0].startswith("dense")
    with pytest.raises(ModelError, match=r"last layer is to be replaced, but 'conv2d"):
        fit(job(functional([layers.Conv2D(6, 3), layers.MaxPooling2D(10), layers.Reshape((3, 2))]), tmp_path / "c"))
