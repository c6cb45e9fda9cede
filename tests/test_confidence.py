"""Confidence left behind a map, against the softmax of a linear model worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

import sightline
from sightline.demo.mnist1d import make_mnist1d
from sightline.errors import RefusedError
from sightline.evaluation.case import Case
from sightline.evaluation.measure import measure
from sightline.evaluation.measuring import counted, views_of
from sightline.evaluation.metrics.confidence import adcc, top_fraction
from sightline.models.load import load
from sightline.plan import make_plan
from sightline.samples import samples

MNIST1D = Path(__file__).resolve().parents[2] / "shared" / "data" / "keras" / "MNIST1D.h5"
N, SIDE, CLASSES, CLASS = 6, 6, 3, 1
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(CLASSES, SIDE * SIDE)) * 0.4
X = RNG.normal(size=(N, 1, SIDE, SIDE))
MAPS = RNG.normal(size=(N, SIDE, SIDE)).astype(np.float32)


def linear() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).double().eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.from_numpy(WEIGHTS))
        net[1].bias.zero_()
    return net


def probability(x: np.ndarray) -> np.ndarray:
    return softmax(x.reshape(len(x), -1) @ WEIGHTS.T, axis=1)[:, CLASS]


def score(names: str, maps: Any = MAPS, **parameters: Any) -> dict[str, np.ndarray]:
    x = torch.from_numpy(X[: len(maps)])
    given = {f"{name}.{k}": v for name in names.split(",") for k, v in parameters.items()}
    return measure(linear(), maps, x, names, target=CLASS, parameters=given)


def masks(maps: np.ndarray) -> np.ndarray:
    positive = maps.clip(min=0)
    return positive / positive.max((1, 2), keepdims=True)


def test_drop_increase_and_gain_are_those_of_the_softmax() -> None:
    before, after = probability(X), probability(X[:, 0] * masks(MAPS))
    found = score("average_drop,average_increase,average_gain")
    np.testing.assert_allclose(found["average_drop"], np.maximum(0, before - after) / before, atol=1e-6)
    np.testing.assert_array_equal(found["average_increase"], after > before)
    np.testing.assert_allclose(found["average_gain"], np.maximum(0, after - before) / (1 - before), atol=1e-6)
    assert 0 < found["average_increase"].mean() < 1


def test_the_fill_takes_the_place_of_what_the_map_hides() -> None:
    mask, mean = masks(MAPS), X.mean((2, 3), keepdims=True)[:, 0]
    before, after = probability(X), probability(mean + (X[:, 0] - mean) * mask)
    found = score("average_drop", fill="mean")["average_drop"]
    np.testing.assert_allclose(found, np.maximum(0, before - after) / before, atol=1e-6)


def test_a_map_that_hides_nothing_neither_drops_nor_rises() -> None:
    found = score("average_drop,average_increase,average_gain", np.ones_like(MAPS))
    for values in found.values():
        np.testing.assert_allclose(values, 0, atol=1e-9)


def test_what_helps_the_class_is_better_kept_than_what_harms_it() -> None:
    helps = (WEIGHTS[CLASS] - WEIGHTS.mean(0)).reshape(SIDE, SIDE) * X[:, 0]
    drops = [score("average_drop", m)["average_drop"].mean() for m in (helps, helps + 2 * MAPS, MAPS, -helps)]
    assert drops == sorted(drops)
    rises = [score("average_increase", m)["average_increase"].mean() for m in (helps, MAPS, -helps)]
    assert rises[0] > max(rises[1:])


@pytest.mark.parametrize("name", ["average_drop", "average_increase", "average_gain", "top_fraction_drop"])
def test_a_map_without_anything_to_show_is_undefined(name: str) -> None:
    flat = np.zeros_like(MAPS)
    flat[1:] = MAPS[1:]
    values = score(name, flat)[name]
    assert np.isnan(values[0])
    assert not np.isnan(values[1:]).any()


def test_a_batch_shares_one_pass_for_all_metrics_of_a_kind() -> None:
    passed = []
    for names in ("average_drop", "average_drop,average_increase,average_gain"):
        model = load(linear())
        with counted(model) as count:
            measure(model, MAPS, torch.from_numpy(X), names, target=CLASS)
        passed.append(count[0])
    assert passed[0] == passed[1]


@pytest.mark.parametrize("fraction", [0.0, 0.15, 0.3, 0.9, 1.0])
def test_the_top_fraction_is_what_lies_above_the_value_at_that_rank(fraction: float) -> None:
    n = min(int(SIDE**2 * fraction), SIDE**2 - 1)
    limit = np.sort(MAPS.reshape(N, -1))[:, ::-1][:, n]
    kept = limit.reshape(N, 1, 1) < MAPS
    before, after = probability(X), probability(X[:, 0] * kept)
    found = score("top_fraction_drop,top_fraction_increase", fraction=fraction)
    if n == 0:
        assert np.isnan(found["top_fraction_drop"]).all()
        return
    np.testing.assert_allclose(found["top_fraction_drop"], np.maximum(0, (before - after) / before), atol=1e-6)
    np.testing.assert_array_equal(found["top_fraction_increase"], after > before)


@pytest.mark.shared
@pytest.mark.skipif(not MNIST1D.is_file(), reason="the network of system 001 is not here")
def test_the_recorded_drop_and_increase_of_system_001_are_reproduced() -> None:
    model = sightline.load(MNIST1D, dims=1)
    x = torch.from_numpy(make_mnist1d().x_test).float().unsqueeze(1)
    made = sightline.explain(model, x, "grad_cam", layer="conv1d_2", batch_size=250)
    share = {"top_fraction_drop.fraction": 0.3, "top_fraction_increase.fraction": 0.3}
    found = measure(model, made, x, [name.partition(".")[0] for name in share], batch_size=250, parameters=share)
    means = [values.mean() for values in found.values()]
    assert means == pytest.approx([0.1156, 0.381], abs=5e-5)  # recorded for the logit's gradient, scored in float32


def test_equal_values_at_the_edge_of_the_top_are_left_out() -> None:
    maps = torch.tensor([[3.0, 2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0], [torch.nan] * 4])
    assert top_fraction(maps, 0.5).tolist() == [[True, False, False, False], [False] * 4, [False] * 4]


def test_adcc_is_the_harmonic_mean_of_its_three() -> None:
    def explain(x: np.ndarray) -> np.ndarray:
        return np.abs(WEIGHTS[CLASS].reshape(SIDE, SIDE) * x)

    seen = masks(explain(X[:, 0]))
    again = masks(explain(X[:, 0] * seen))
    r = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(seen, again, strict=True)]
    before, after = probability(X), probability(X[:, 0] * seen)
    kept = 1 - np.maximum(0, before - after) / before
    expected = 3 / (2 / (np.array(r) + 1) + 1 / (1 - seen.mean((1, 2))) + 1 / kept)
    with case(explain(X[:, 0]), lambda x: torch.from_numpy(explain(x[:, 0].numpy()))) as given:
        np.testing.assert_allclose(adcc(given), expected, atol=1e-6)


def test_adcc_explains_again_and_is_undefined_without_coherency() -> None:
    x = torch.from_numpy(X)
    found = measure(linear(), MAPS, x, "adcc", target=CLASS, method="input_x_gradient")["adcc"]
    assert ((found >= 0) & (found <= 1)).all()
    assert np.isnan(measure(linear(), MAPS, x, "adcc", target=CLASS, method="constant")["adcc"]).all()
    with pytest.raises(RefusedError, match="name a method"):
        measure(linear(), MAPS, x, "adcc", target=CLASS)


@contextmanager
def case(maps: np.ndarray, again: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[Case]:
    asked: dict[str, Any] = {"contrast": None, "layer": None, "output": "logit", "precision": "model"}
    plan = make_plan(load(linear()), "constant", CLASS, seed=0, chunk=None, parameters={}, tick=None, **asked)
    with views_of(plan, list(samples(plan.model, torch.from_numpy(X), print))) as views:
        yield Case(views, torch.from_numpy(maps), again=lambda *, model=None, x=None, target=None: again(x))
