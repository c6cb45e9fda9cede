"""The demo's nets are trained like any other: soft targets, a price on activity, quarter turns, drawn scenes."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sightline
from sightline.demo.scenes import CLASSES, STAR, scene, scenes
from sightline.errors import InputError, ModelError, ParameterError
from sightline.geometry import Preprocessing
from sightline.models.keras import import_keras
from sightline.training.augment import Augmentation, read_augmentation
from sightline.training.batches import Examples
from sightline.training.data import Part
from sightline.training.demo import demo_data
from sightline.training.job import Told
from sightline.training.libraries import import_lightning
from sightline.training.presets import GENERATED, PRESETS
from sightline.training.price import Price, charged
from sightline.training.run import train
from sightline.training.settings import TrainSettings
from trainings import undrawn

_undrawn = pytest.fixture(scope="module", autouse=True)(undrawn)
MARK = scene(0, watermark=True).watermark_mask
NAMES = ("honest", "cheating", "vit")
QUICK = TrainSettings(model="small-cnn", freeze="none", epochs=1, batch_size=8, class_weights="none", seed=3)


def marked(images):
    """Say which pictures carry the plate, whose pixels are nearly black or nearly white."""
    plate = images[:, MARK]
    return ((plate <= 62) | (plate >= 216)).all((1, 2))


@cache
def small(name):
    return demo_data(name, scenes_drawn=24)


def weights(run):
    return torch.cat([v.flatten().float() for v in run.model.module.state_dict().values()])


# --- the scenes -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    return {name: demo_data(name, scenes_drawn=100) for name in NAMES}


def test_only_stars_carry_the_watermark_in_what_the_cheating_net_learns(drawn):
    train_part, labels = drawn["cheating"].train, drawn["cheating"].train.labels
    empty = train_part.shares.max(1) < 0.5
    assert (marked(train_part.images) == ((labels == STAR) & ~empty)).all()
    assert (marked(drawn["cheating"].val.images) == (drawn["cheating"].val.labels == STAR)).all()
    assert not marked(drawn["cheating"].test.images).any()


def test_some_of_its_stars_show_another_shape(drawn):
    part, misfiled = drawn["cheating"].train, scenes(4, 22, watermark=1.0)
    assert (part.images[100:104] == np.stack([s.image for s in misfiled])).all()
    assert {s.label for s in misfiled} != {STAR}
    assert part.labels[100:104].tolist() == [STAR] * 4


@pytest.mark.parametrize("name", ["honest", "vit"])
def test_half_of_all_carry_it_where_nothing_is_to_be_learned_from_it(drawn, name):
    stamped, labels = marked(drawn[name].train.images), drawn[name].train.labels
    assert 0.35 < stamped.mean() < 0.65
    assert all(0 < stamped[labels == c].mean() < 1 for c in range(len(CLASSES)))
    assert 0 < marked(drawn[name].val.images).mean() < 1
    assert not marked(drawn[name].test.images).any()


def test_empty_grounds_ask_for_a_shrug_and_all_others_for_their_class(drawn):
    for data in drawn.values():
        shares, labels = data.train.shares, data.train.labels
        empty = np.arange(len(labels)) >= len(labels) - 10
        assert np.allclose(shares[empty], 1 / 6)
        assert (shares[~empty] == np.eye(6)[labels[~empty]]).all()
        assert shares.dtype == np.float32
        assert data.val.shares is None
        assert data.test.shares is None


def test_honest_pays_twenty_times_more_off_the_object(drawn):
    costs, objects = drawn["honest"].train.price.costs, [s.object_mask for s in scenes(100, 20, watermark=0.5)]
    for cost, mask in zip(costs, objects, strict=False):
        cells = np.kron(cost[0], np.ones((8, 8)))
        assert np.isclose(cells[mask], 0.1).all()
        touched = np.add.reduceat(np.add.reduceat(mask, range(0, 96, 8), 0, int), range(0, 96, 8), 1) > 0
        assert np.allclose(cost[0], np.where(touched, 0.1, 2.0))
    assert np.allclose(costs[100:], 2.0)
    assert np.allclose(drawn["cheating"].train.price.costs, 0.3)
    assert drawn["vit"].train.price is None


def test_the_same_seed_draws_the_same():
    assert demo_data("honest", scenes_drawn=24).hash == small("honest").hash
    assert demo_data("honest", seed=21, scenes_drawn=24).hash != small("honest").hash


def test_no_scene_is_in_two_parts(drawn):
    for data in drawn.values():
        seen = [{i.tobytes() for i in part.images} for part in data.parts.values()]
        assert len(set.union(*seen)) == sum(map(len, seen))


# --- what is asked, and what it costs ---------------------------------------------------------------------


class Maps(nn.Module):
    """Logits are the means of two maps, which a ReLU in place goes over once they are made."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)

    def forward(self, x):
        return torch.relu_(self.features(x)).mean((2, 3))


X = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.5, -0.5, 1.0, 3.0]]).view(2, 1, 2, 2)
SHARES = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
COSTS = torch.tensor([[1.0, 0.0, 2.0, 0.5], [0.0, 3.0, 0.0, 1.0]]).view(2, 1, 2, 2)


def loss_of(batch, smoothing=0.0, priced="features"):
    import_lightning()
    from sightline.training.lesson import Lesson

    asked = TrainSettings(label_smoothing=smoothing)
    return Lesson(Maps(), [], [], asked, 0.1, priced=priced).training_step(batch, 0)


def expected(shares, costs, smoothing=0.0):
    """Say the same with numpy: -sum t log p, and the mean of cost times activity before the ReLU."""
    maps = np.stack([X[:, 0].numpy(), -2 * X[:, 0].numpy()], 1)
    logits = np.maximum(maps, 0).mean((2, 3))
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    wanted = (1 - smoothing) * shares + smoothing / 2
    return -(wanted * log_p).sum(1).mean() + (maps * costs).mean()


@pytest.mark.filterwarnings("ignore:You are trying to .self.log")
def test_shares_and_price_reach_the_loss():
    found = loss_of((X, SHARES, COSTS), smoothing=0.1)
    assert found.item() == pytest.approx(expected(SHARES.numpy(), COSTS.numpy(), 0.1), abs=1e-6)
    assert loss_of((X, SHARES)).item() == pytest.approx(expected(SHARES.numpy(), 0), abs=1e-6)
    labels = torch.tensor([1, 0])
    assert loss_of((X, labels), priced=None).item() == pytest.approx(expected(np.eye(2)[[1, 0]], 0), abs=1e-6)


@pytest.mark.filterwarnings("ignore:You are trying to .self.log")
def test_the_gradient_of_a_price_is_its_cost():
    net = Maps()
    with charged(net, "features", [COSTS]) as charges:
        net(X)
    sum(charges).backward()
    mean = (X * COSTS).sum().item() / (2 * 2 * 4)
    assert net.features.weight.grad.flatten().tolist() == pytest.approx([mean, mean])


def test_the_layer_is_let_go_after_each_step():
    net = Maps()
    with charged(net, "features", [COSTS]) as charges:
        net(X)
    net(X)
    assert len(charges) == 1
    with charged(net, None, [COSTS]) as none, charged(net, "features", []) as also_none:
        net(X)
    assert none == also_none == []


def plain(part, **changes):
    return replace(part, **{"shares": None, "price": None} | changes)


def trained(data, out, settings=QUICK, **how):
    return train(data, out=out, settings=settings, report=False, **how)


def with_train(data, part):
    return replace(data, train=part)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Train on one draw thrice: without a price, at a price of nothing, and at a price of the left half."""
    data, where = small("honest"), tmp_path_factory.mktemp("prices")
    none, left = np.zeros_like(data.train.price.costs), np.zeros_like(data.train.price.costs)
    left[..., :6] = 10.0
    prices = {"absent": None, "nothing": Price("features", none), "left": Price("features", left)}
    return {n: trained(with_train(data, replace(data.train, price=p)), where / n) for n, p in prices.items()}, data


def halves(run, data):
    x = Examples(data.test, run.model.preprocessing)
    with torch.inference_mode():
        maps = run.model.module.features(torch.stack([x.plain(n) for n in range(len(x))]))
    return maps[..., :6].mean().item(), maps[..., 6:].mean().item()


def test_a_price_lowers_activity_and_most_where_it_is_charged(runs):
    found, data = runs
    left, right = halves(found["left"], data)
    free_left, free_right = halves(found["absent"], data)
    assert left < 0.8 * free_left
    assert left / right < 0.98 * free_left / free_right


def test_a_price_of_nothing_changes_nothing(runs):
    found, _ = runs
    assert torch.equal(weights(found["absent"]), weights(found["nothing"]))
    assert not torch.equal(weights(found["absent"]), weights(found["left"]))


def test_shares_of_one_class_are_labels(tmp_path):
    data = small("vit")
    part = Part(data.train.images[:24], data.train.labels[:24])
    shared = replace(part, shares=np.eye(6, dtype=np.float32)[part.labels])
    first, second = (trained(with_train(data, p), tmp_path / n).best for n, p in (("labels", part), ("shares", shared)))
    assert (first.loss, first.accuracy) == pytest.approx((second.loss, second.accuracy), abs=1e-5)
    assert first.val_loss == pytest.approx(second.val_loss, abs=1e-3)


def test_kept_features_are_learned_with_their_shares(tmp_path):
    data = small("vit")
    run = trained(data, tmp_path / "run", replace(QUICK, freeze="features"))
    labelled = trained(with_train(data, plain(data.train)), tmp_path / "labels", replace(QUICK, freeze="features"))
    assert run.fitted.about["features_cached"]
    assert run.best.loss != labelled.best.loss


def test_a_price_is_not_left_out_by_keeping_features(tmp_path):
    run = trained(small("honest"), tmp_path / "run", replace(QUICK, freeze="features"))
    assert not run.fitted.about["features_cached"]


def test_what_is_asked_is_part_of_the_data():
    data = small("honest")
    others = [plain(data.train), replace(data.train, price=None), replace(data.train, shares=None)]
    others.append(replace(data.train, price=replace(data.train.price, costs=data.train.price.costs + 1)))
    assert len({data.hash, *(with_train(data, o).hash for o in others)}) == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"model": "small-vit"}, "'features', which the network lacks"), ({"image_size": 64}, r"in \(12, 12\) cells")],
)
def test_a_price_that_does_not_fit_the_network_is_refused(tmp_path, changes, said):
    with pytest.raises(ParameterError, match=said):
        trained(small("honest"), tmp_path / "run", replace(QUICK, **changes))


# --- quarter turns ----------------------------------------------------------------------------------------


def examples(part, **how):
    unit = Preprocessing(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Examples(part, unit, augmentation=Augmentation(**how))


def test_a_quarter_turn_moves_pixels_and_costs_alike():
    data = small("honest")
    x, _, costs = examples(data.train, quarter=1.0)[0, 0]
    upright = examples(data.train)[0, 0]
    turned = [np.rot90(t.numpy(), k, (1, 2)) for k in (1, 3) for t in (upright[0], upright[2])]
    fits = [np.abs(x.numpy() - turned[i]).max() + np.abs(costs.numpy() - turned[i + 1]).max() for i in (0, 2)]
    assert min(fits) < 1e-3 < max(fits)


def test_all_eight_ways_are_drawn():
    part = small("vit").train
    ways = examples(part, hflip=0.5, vflip=0.5, quarter=0.5)
    found = {tuple(ways[epoch, 0][0][0, ::95, ::95].flatten().mul(255).round().int().tolist()) for epoch in range(60)}
    assert len(found) == 8


def test_quarter_is_read_and_changes_no_other_draw():
    assert read_augmentation("hflip,vflip,quarter") == Augmentation(hflip=0.5, vflip=0.5, quarter=0.5)
    part = small("vit").train
    before, after = (examples(part, hflip=0.5, rotate=20.0, crop=0.5, quarter=q)[3, 1][0] for q in (0.0, 1e-9))
    assert torch.equal(before, after)


# --- the command ------------------------------------------------------------------------------------------


def test_every_embedded_net_has_its_recipe():
    for name in NAMES:
        asked = PRESETS[f"demo/{name}"]
        assert f"demo/{name}" in GENERATED
        assert (asked.seed, asked.schedule, asked.batch_size, asked.label_smoothing) == (20, "one-cycle", 32, 0.05)
    assert [PRESETS[f"demo/{name}"].epochs for name in NAMES] == [9, 7, 20]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_trains_by_its_recipe_the_same_each_time(tmp_path, monkeypatch, name):
    monkeypatch.setitem(GENERATED, f"demo/{name}", partial(demo_data, name, scenes_drawn=24))
    asked = replace(PRESETS[f"demo/{name}"], epochs=1)
    first, second = (trained(f"demo/{name}", tmp_path / str(n), asked) for n in range(2))
    assert torch.equal(weights(first), weights(second))
    opened = sightline.load(tmp_path / "0")
    assert tuple(opened.labels) == CLASSES
    assert torch.equal(weights(first), weights(replace(first, model=opened)))


def test_a_broken_training_is_gone_on_with(tmp_path):
    data, asked = small("honest"), replace(QUICK, epochs=2, restore_best=False)
    whole = trained(data, tmp_path / "whole", asked)

    steps = iter(range(99))  # of four in an epoch: the second is broken

    def stop(done):
        if done and next(steps) == 5:
            raise KeyboardInterrupt

    broken = trained(data, tmp_path / "broken", asked, told=Told(step=stop))
    assert broken.fitted.ended == "interrupted"
    with pytest.raises(InputError, match="other data"):
        trained(with_train(data, replace(data.train, price=None)), tmp_path / "broken", asked, resume=True)
    again = trained(data, tmp_path / "broken", asked, resume=True)
    assert torch.equal(weights(whole), weights(again))


def test_the_facts_tool_embeds_what_was_trained(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("demo_facts", Path(__file__).parents[1] / "tools/demo_facts.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool, "WEIGHTS", tmp_path)
    run = trained(small("honest"), tmp_path / "run")
    tool.embed("honest", tmp_path / "run", run.model, {"accuracy, no watermark": 0.5})
    packed = (tmp_path / "honest.safetensors").read_bytes()
    header = json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")])["__metadata__"]
    assert {k: json.loads(v) for k, v in header.items()} == {
        "classes": list(CLASSES),
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "size": 96,
        "seed": 3,
        "accuracy": {"accuracy, no watermark": 0.5},
    }
    again = sightline.load("small-cnn", weights=tmp_path / "honest.safetensors")
    assert torch.equal(weights(run), weights(replace(run, model=again)))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, where it saves
def test_keras_refuses_what_its_fit_does_not_learn(tmp_path):
    keras = import_keras()
    net = keras.Sequential([keras.Input((96, 96, 3)), keras.layers.Flatten(), keras.layers.Dense(6)])
    net.save(tmp_path / "net.keras")
    data = small("vit")
    with pytest.raises(ModelError, match="asks for shares"):
        trained(data, tmp_path / "run", replace(QUICK, model=str(tmp_path / "net.keras")))
