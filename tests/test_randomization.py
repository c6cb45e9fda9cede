"""Randomisation: copies that know nothing, and whether a map notices."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import BinaryNet, ConvNet, LinearNet, SignalNet
from sightline.demo.scenes import scene
from sightline.errors import LayerError, RefusedError
from sightline.evaluation.measure import measure
from sightline.evaluation.measuring import counted
from sightline.evaluation.metrics.randomization import _entropy, alike
from sightline.evaluation.metrics.randomized import randomized, weight_layers
from sightline.models.keras import import_keras
from sightline.models.load import load
from sightline.models.model import Model

PICTURES = [scene(i).image for i in range(3)]
METRICS = "parameter_randomization,efficient_randomization,smooth_randomization,random_logit"


class Twins(nn.Module):
    """Two layers of one shape, called in the other order than they are listed."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.last.load_state_dict(self.first.state_dict())
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.last(self.first(x).relu())).mean((2, 3))


def net(module: nn.Module) -> Model:
    torch.manual_seed(0)
    return load(module.eval())


def tensors(model: Model) -> dict[str, Tensor]:
    return {n: v.clone() for n, v in model.module.state_dict().items()}


def measured(method: str, metric: str = METRICS, model: object = "demo/honest", **parameters: object) -> dict:
    made = sightline.explain(model, PICTURES, method)
    given = {f"{metric}.{k}": v for k, v in parameters.items()}
    return measure(model, made, PICTURES, metric=metric, parameters=given)


def test_layers_of_one_shape_get_different_weights() -> None:
    shuffled = randomized(net(Twins()), seed=0).module
    assert not torch.equal(shuffled.first.weight, shuffled.last.weight)


def test_a_filter_keeps_its_values_and_its_batch_norm() -> None:
    model = net(Twins())
    before, after = tensors(model), tensors(randomized(model))
    for name, values in before.items():
        moved = name.endswith("weight") and values.ndim > 1
        assert torch.equal(after[name], values) != moved
        if moved:
            torch.testing.assert_close(after[name].flatten(1).sort(1).values, values.flatten(1).sort(1).values)


def test_equal_values_are_drawn_anew() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    nn.init.ones_(module[3].weight)
    model = net(module)
    assert weight_layers(model, torch.rand(1, 1, 2, 2)) == ["3", "0"]
    before, after = tensors(model), tensors(randomized(model))
    assert not torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["3.weight"], after["3.weight"])


def test_the_users_model_and_the_global_random_state_are_left_alone() -> None:
    model = net(ConvNet())
    before, state = tensors(model), torch.random.get_rng_state()
    randomized(model, seed=3)
    assert all(torch.equal(v, before[n]) for n, v in tensors(model).items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_seeds_are_reproducible_and_differ() -> None:
    module = ConvNet()
    first, again, other = (tensors(randomized(net(copy.deepcopy(module)), seed=s))["head.weight"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_layers_come_in_the_order_in_which_they_run_from_the_output() -> None:
    assert weight_layers(net(Twins())) == ["last", "first"]


def test_a_layer_gets_the_same_weights_alone_and_with_others() -> None:
    model = net(Twins())
    alone, together = tensors(randomized(model, 0, ["last"])), tensors(randomized(model, 0))
    assert torch.equal(alone["last.weight"], together["last.weight"])
    assert torch.equal(alone["first.weight"], model.module.first.weight)
    with pytest.raises(LayerError, match="'norm'"):
        randomized(model, 0, ["norm"])


def test_copies_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net(ConvNet())
    assert randomized(model, 1).module is randomized(model, 1).module
    monkeypatch.setattr("sightline.evaluation.metrics.randomized._MOST_BYTES", 1)
    latest = randomized(model, 2).module
    assert list(model._shuffled.values()) == [latest]


def test_passes_of_copies_are_counted() -> None:
    model, x = net(ConvNet()), torch.rand(2, 3, 8, 8)
    kept = randomized(model, 1)
    with counted(model) as passed, torch.no_grad():
        kept.module(x)
        randomized(model, 2).module(x)
    with counted(model) as later, torch.no_grad():
        randomized(model, 2).module(x)
    assert (passed, later) == ([4], [2])


def test_a_function_has_no_weights_to_shuffle() -> None:
    model = load(lambda x: x.mean((2, 3)))
    with pytest.raises(RefusedError, match="shows no weights that could be shuffled"):
        randomized(model)


def test_a_model_that_cannot_be_copied_is_refused_with_the_reason() -> None:
    module = ConvNet()
    module.kept = torch.ones(1, requires_grad=True) * 2
    with pytest.raises(RefusedError, match="cannot be copied"):
        randomized(net(module))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # Keras' own
def test_a_keras_net_is_shuffled_filter_by_filter() -> None:
    layers = import_keras().layers
    parts = [layers.Conv2D(4, 3), layers.DepthwiseConv2D(3), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    model = load(import_keras().Sequential([import_keras().Input((12, 12, 3)), *parts]))
    before = model.module.inner.get_weights()
    after = randomized(model).module.inner.get_weights()
    assert len(weight_layers(model)) == 3
    for old, new in zip(before, after, strict=True):
        axis = max(i for i, side in enumerate(old.shape) if side > 1)
        rows, others = (np.sort(np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1), 1) for w in (old, new))
        np.testing.assert_allclose(rows, others)
        assert np.array_equal(old, new) == (old.ndim == 1)
    np.testing.assert_array_equal(before[0], model.module.inner.get_weights()[0])


def test_the_untouched_model_is_no_part_of_the_mean() -> None:
    alone = measured("input_x_gradient", "parameter_randomization", layers=1)["parameter_randomization"]
    model = load("demo/honest")
    e = sightline.explain(model, PICTURES[0], "input_x_gradient")
    other = sightline.explain(randomized(model), PICTURES[0], "input_x_gradient", e.target.index)
    maps = [torch.from_numpy(m.at_input())[None] for m in (e, other)]
    assert alone[0] == pytest.approx(float(alike(*maps, "spearman_abs")[0]), abs=1e-4)
    assert alone.max() < 0.5


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_maps_that_ignore_the_model_stay_the_same(order: str) -> None:
    for control in ("edges", "random", "constant"):
        found = measured(control, "parameter_randomization", order=order, layers=2)
        np.testing.assert_allclose(found["parameter_randomization"], 1)
    kept = measured("guided_backprop", "parameter_randomization")["parameter_randomization"]
    assert kept.mean() > measured("grad_cam", "parameter_randomization")["parameter_randomization"].mean()


def test_the_class_blind_are_told_from_those_that_look_at_the_class() -> None:
    grad_cam, guided = (measured(m, "random_logit")["random_logit"] for m in ("grad_cam", "guided_backprop"))
    assert (guided > 0.9).all()
    assert (grad_cam < guided).all()


def test_ssim_of_the_other_class_is_of_two_dimensions() -> None:
    """A checkerboard and its negative: rows in memory hide the columns, windows of pixels do not."""
    from skimage.metrics import structural_similarity

    board = torch.from_numpy(np.random.default_rng(0).random((1, 16, 16)))
    moved = board.roll(1, 1)
    plane = structural_similarity(board[0].numpy(), moved[0].numpy(), data_range=1.0)
    line = structural_similarity(board.numpy().ravel(), moved.numpy().ravel(), data_range=1.0)
    found = float(alike(board, moved, "ssim")[0])
    assert found == pytest.approx(plane, abs=0.02)
    assert abs(found - line) > 0.01
    with pytest.raises(RefusedError, match="set similarity=spearman"):
        alike(torch.rand(1, 64), torch.rand(1, 64), "ssim")


def test_the_other_class_is_the_first_where_another_was_explained() -> None:
    model, x = net(LinearNet()), torch.rand(1, 3, 8, 8)
    best = sightline.predict(model, x)[0]
    weights = model.module.head.weight.detach().reshape(-1, 3, 8, 8)
    maps = {p["index"]: weights[p["index"]].sum(0)[None] for p in best}
    found = measure(model, maps[best[3]["index"]], x, "random_logit", target=best[3]["index"], method="gradient",
                    parameters={})  # fmt: skip
    e = sightline.explain(model, x, "gradient", best[0]["index"])[0]
    own = alike(maps[best[3]["index"]], torch.from_numpy(e.at_input())[None], "spearman")
    assert found["random_logit"][0] == pytest.approx(float(own[0]), abs=1e-4)


def test_one_output_has_no_other_class() -> None:
    made = sightline.explain(net(BinaryNet()), torch.rand(1, 3, 16, 16), "gradient")
    with pytest.raises(RefusedError, match="one output"):
        measure(net(BinaryNet()), made, torch.rand(1, 3, 16, 16), "random_logit")


def test_alike_knows_the_same_map_the_turned_one_and_the_undefined() -> None:
    a = torch.rand(1, 4, 5)
    flat = torch.ones(1, 4, 5)
    assert float(alike(a, 3 * a, "spearman")[0]) == pytest.approx(1)
    assert float(alike(a, -a, "spearman")[0]) == pytest.approx(-1)
    assert float(alike(a, -a, "spearman_abs")[0]) == pytest.approx(1)
    assert float(alike(flat, flat, "spearman")[0]) == 1
    assert alike(flat, a, "spearman").isnan().all()


def test_entropy_is_that_of_a_histogram_of_100_bins() -> None:
    even = torch.arange(100.0).reshape(1, 10, 10)
    assert float(_entropy(even)[0]) == pytest.approx(np.log(100))
    values = torch.rand(1, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shares = np.histogram(values.numpy(), bins=100)[0] / 81
    assert float(_entropy(values)[0]) == pytest.approx(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    constant = measured("constant", "efficient_randomization")["efficient_randomization"]
    assert np.isnan(constant).all()


def test_a_batch_gives_what_its_images_give_and_the_random_state_stays() -> None:
    state = torch.random.get_rng_state()
    together = measured("input_x_gradient")
    assert torch.equal(torch.random.get_rng_state(), state)
    made = sightline.explain("demo/honest", PICTURES[1], "input_x_gradient")
    alone = measure("demo/honest", made, PICTURES[1], metric=METRICS)
    for name, values in together.items():
        assert alone[name][0] == pytest.approx(values[1], abs=1e-3), name


def test_positive_scale_changes_nothing() -> None:
    e = sightline.explain("demo/honest", PICTURES[:1], "grad_cam")[0]
    arrays = [e.at_input()[None] * scale for scale in (1, 1000.0)]
    metrics = "parameter_randomization,efficient_randomization,random_logit"
    found = [measure("demo/honest", a, PICTURES[:1], metrics, method="grad_cam") for a in arrays]
    for name in found[0]:
        assert found[0][name][0] == pytest.approx(found[1][name][0], abs=1e-6)


def test_a_series_is_measured_too(tmp_path: Path) -> None:
    model, x = net(SignalNet()), torch.randn(2, 2, 64, generator=torch.Generator().manual_seed(0))
    found = measure(model, sightline.explain(model, x, "gradient"), x, METRICS)
    assert all(np.isfinite(v).all() for v in found.values())
