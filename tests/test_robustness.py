"""Robustness against closed forms: a linear model's maps are known at every neighbour."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import LinearNet, SignalNet
from sightline.demo.scenes import scene
from sightline.errors import RefusedError
from sightline.evaluation.case import Case
from sightline.evaluation.measure import measure
from sightline.evaluation.measuring import views_of
from sightline.evaluation.metrics.marked import area_drops
from sightline.evaluation.metrics.robustness import (
    _moved,
    _nearby,
    _normalised,
    _relative,
    average_sensitivity,
    jpeg_stability,
    local_lipschitz,
    max_sensitivity,
    relative_input_stability,
    shift_stability,
)
from sightline.geometry import restore
from sightline.models.load import load
from sightline.models.model import Model
from sightline.plan import make_plan
from sightline.samples import Sample

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
PICTURES = [scene(i).image for i in range(2)]
METRICS = (
    "max_sensitivity,average_sensitivity,local_lipschitz,relative_input_stability,jpeg_stability,shift_stability,"
    "marked_drop"
)


def case_of(module: nn.Module, x: Tensor, maps: object, target: object = "top1") -> Case:
    """A case whose maps are a function of the input, explained by no method."""
    model = load(module.eval())
    options = {"contrast": None, "layer": None, "output": "logit", "precision": "model", "seed": 0, "chunk": None}
    plan = make_plan(model, "constant", target, parameters={}, tick=None, **options)
    batch = [Sample(i, i, row, None, None, None, None) for i, row in enumerate(x)]
    with views_of(plan, batch) as views:
        return Case(views, maps(x), again=lambda *, model=None, x=None, target=None: maps(x))


def net() -> nn.Module:
    torch.manual_seed(0)
    return LinearNet()


def test_a_map_that_is_the_image_changes_as_the_image_does() -> None:
    case = case_of(net(), X, lambda x: x.sum(1))
    own = [(x - X).sum(1).flatten(1).norm(dim=1) / X.sum(1).flatten(1).norm(dim=1) for x in _nearby(case.rec, 8, 0.02)]
    torch.testing.assert_close(max_sensitivity(case), torch.stack(own).amax(0).double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(average_sensitivity(case), torch.stack(own).mean(0).double(), rtol=1e-5, atol=0)


def test_lipschitz_is_the_change_for_each_unit_of_the_images() -> None:
    one = X[:, :1]
    case = case_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), one, lambda x: x[:, 0])
    spread = one.flatten(1).amax(1) - one.flatten(1).amin(1)
    expected = spread / one.flatten(1).pow(2).mean(1).sqrt()
    torch.testing.assert_close(local_lipschitz(case), expected.double(), rtol=1e-5, atol=0)


def test_the_relative_stability_of_the_image_itself_is_one() -> None:
    one = X[:, :1] + 1  # away from 0, so that no divisor is raised
    case = case_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), one, lambda x: x[:, 0], target=0)
    torch.testing.assert_close(relative_input_stability(case), torch.ones(2).double(), rtol=1e-4, atol=0)


def test_values_near_zero_do_not_explode() -> None:
    values = torch.tensor([[1.0, 1e-12]])
    assert float(_relative(values + 0.01, values)[0]) == pytest.approx((0.5 * (0.01**2 + 1)) ** 0.5, rel=1e-4)
    assert _relative(values, torch.zeros(1, 2)).isnan().all()


class Edge(nn.Module):
    """The class is whether the first pixel is above a half."""

    def forward(self, x: Tensor) -> Tensor:
        first = x[:, 0, 0, 0] - 0.5
        return torch.stack((first, -first), 1)


def test_one_label_flip_does_not_make_the_maximum_nan() -> None:
    x = X[:1, :1].clone()
    x[0, 0, 0, 0] = 0.505  # so near to the border that some neighbours are beyond it
    case = case_of(Edge(), x, lambda x: x[:, 0] + 1)
    flipped = [bool(n[0, 0, 0, 0] < 0.5) for n in _nearby(case.rec, 8, 0.02)]
    assert 0 < sum(flipped) < 8
    kept = [
        float((_relative(n[:, 0] + 1, x[:, 0] + 1) / _relative(n, x))[0])
        for n, other in zip(_nearby(case.rec, 8, 0.02), flipped, strict=True)
        if not other
    ]
    assert float(relative_input_stability(case)[0]) == pytest.approx(max(kept), rel=1e-5)


def test_where_all_neighbours_flip_the_value_is_undefined() -> None:
    class Flips(nn.Module):
        """Nothing but the very image is of class 0."""

        def forward(self, x: Tensor) -> Tensor:
            same = (x - X[:1]).abs().amax((1, 2, 3)) == 0
            return torch.stack((same.float(), 0.5 + 0 * same.float()), 1)

    assert relative_input_stability(case_of(Flips(), X[:1], lambda x: x.sum(1))).isnan().all()


def test_a_map_that_never_changes_is_the_most_robust() -> None:
    case = case_of(net(), X, lambda x: torch.arange(64.0).reshape(1, 8, 8).expand(len(x), 8, 8))
    for metric in (max_sensitivity, average_sensitivity, local_lipschitz, relative_input_stability):
        assert not metric(case).any()
    assert "never changes" in (max_sensitivity.__doc__ or "")


def test_a_map_of_zeros_has_no_change() -> None:
    case = case_of(net(), X, lambda x: torch.zeros(len(x), 8, 8))
    for metric in (max_sensitivity, average_sensitivity, local_lipschitz, relative_input_stability, shift_stability):
        assert metric(case).isnan().all()


def test_a_map_that_moves_with_the_image_is_stable_under_shifts() -> None:
    noise = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1))
    follows, stays = case_of(net(), X, lambda x: x.sum(1)), case_of(net(), X, lambda x: noise.expand(len(x), 8, 8))
    torch.testing.assert_close(shift_stability(follows), torch.ones(2).double())
    assert (shift_stability(stays) < 0.5).all()
    torch.testing.assert_close(_moved(X, 3, 2)[..., 2:], X[..., :-2])


def test_jpeg_goes_through_the_pictures_own_pixels() -> None:
    model = load("demo/honest")
    x = torch.stack([model.prepare(model.read(p))[0] for p in PICTURES])
    case = case_of(model.module, x, lambda x: x.sum(1))
    rec = type("Rec", (), {"model": model, "x": x})
    torch.testing.assert_close(_normalised(restore(x[0], model.preprocessing), rec), x[0], atol=1e-5, rtol=0)
    fine, coarse = jpeg_stability(case, quality=95), jpeg_stability(case, quality=5)
    assert (fine > coarse).all()
    with pytest.raises(RefusedError, match="cannot be saved as JPEG"):
        jpeg_stability(case_of(SignalNet(), torch.rand(1, 2, 32), lambda x: x.sum(1)))


def test_more_noise_changes_more() -> None:
    made = sightline.explain("demo/honest", PICTURES, "gradient")
    low, high = (
        measure("demo/honest", made, PICTURES, "max_sensitivity", parameters={"max_sensitivity.radius": r})
        for r in (0.005, 0.1)
    )
    assert (low["max_sensitivity"] < high["max_sensitivity"]).all()


def honest_maps(method: str) -> tuple[Model, list[sightline.Explanation]]:
    model = load("demo/honest")
    return model, sightline.explain(model, PICTURES, method)


def test_a_batch_gives_what_its_images_give_whatever_the_map_s_scale() -> None:
    model, made = honest_maps("grad_cam")
    state = torch.random.get_rng_state()
    few = {f"{m}.samples": 2 for m in METRICS.split(",")[:4]}
    together = measure(model, made, PICTURES, METRICS, parameters=few)
    alone = measure(model, made[1], PICTURES[1], METRICS, parameters=few)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, values in together.items():
        assert alone[name][0] == pytest.approx(values[1], rel=1e-2, abs=1e-4), name


def test_the_marked_area_matters_more_than_the_same_area_elsewhere() -> None:
    model, made = honest_maps("grad_cam")
    target = sightline.targets.per_image([e.target.index for e in made])
    best = np.stack([e.at_input() for e in made])
    worst, some = -best, np.random.default_rng(0).random(best.shape)
    found = [measure(model, m, PICTURES, "marked_drop", target=target)["marked_drop"] for m in (best, some, worst)]
    assert (found[0] > found[1]).all()
    assert (found[1] > found[2]).all()
    assert np.abs(found[1]).max() < 0.1


def test_moved_areas_have_the_size_and_shape_of_the_marked_one() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    nn.init.ones_(module[1].weight)
    case = case_of(module, torch.ones(1, 1, 8, 8), lambda x: torch.eye(8)[None].expand(len(x), 8, 8), target=0)
    drops = area_drops(case, share=0.125, draws=5, fill="zero", score="logit")
    torch.testing.assert_close(drops, torch.full((1, 6), 8.0).double())
