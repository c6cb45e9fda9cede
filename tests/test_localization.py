"""Localisation metrics against closed forms and brute force: exact boxes, ties, chance, and what is undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightline.errors import InputError
from sightline.evaluation.measure import measure

SIZE = 24
METRICS = ["pointing_game", "energy_pointing_game", "relevance_rank", "top_k_intersection", "box_iou"]


def score(name: str, maps: Any, truth: Any, **parameters: Any) -> np.ndarray:
    """Measure maps (N, *S) against masks (N, *S); the model is of no account."""
    maps, truth = np.asarray(maps, np.float32), np.asarray(truth, bool)
    x = torch.zeros(len(maps), 1, *maps.shape[1:])
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2)).eval()
    given = {f"{name}.{k}": v for k, v in parameters.items()}
    return measure(net, maps, x, name, target=0, truth=truth, parameters=given)[name]


def boxes(*places: tuple[int, int, int, int], size: int = SIZE) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    for top, left, bottom, right in places:
        mask[top:bottom, left:right] = True
    return mask


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, SIZE, SIZE))


OBJECT = boxes((4, 5, 12, 15))


@pytest.mark.parametrize("name", METRICS[:4])
def test_the_object_itself_is_best_and_its_opposite_worst(name: str) -> None:
    good = np.where(OBJECT, 1.0, -1.0)
    fair, blind = good + noise(40), noise(40, seed=1)
    exact = {"tolerance": 0} if name == "pointing_game" else {}
    means = [np.nanmean(score(name, m, [OBJECT] * len(m), **exact)) for m in (good[None], fair, blind, -fair)]
    assert means[0] == 1
    assert means[0] >= means[1] > means[2] > means[3]


def test_a_box_of_the_object_is_best_and_one_around_everything_has_its_share() -> None:
    fair = np.where(OBJECT, 2.0, 0.0) + 0.2 * noise(40)
    means = [score("box_iou", m, [OBJECT] * len(m)).mean() for m in (OBJECT[None], fair, noise(40))]
    assert means[0] == 1
    assert means[0] >= means[1] > 0.8 > 0.3 > means[2]
    assert score("box_iou", [np.ones_like(OBJECT)], [OBJECT])[0] == pytest.approx(OBJECT.mean())


@pytest.mark.parametrize("name", METRICS)
def test_nothing_marked_is_undefined_and_no_hit(name: str) -> None:
    # Elsewhere an image with an empty mask counts as a hit of the pointing game.
    values = score(name, [noise(1)[0]] * 2, [np.zeros_like(OBJECT), OBJECT])
    assert np.isnan(values[0])
    assert not np.isnan(values[1])


@pytest.mark.parametrize("name", METRICS)
def test_a_map_without_positive_values_is_undefined(name: str) -> None:
    assert np.isnan(score(name, [np.zeros_like(OBJECT), -np.ones_like(OBJECT, float)], [OBJECT] * 2)).all()


@pytest.mark.parametrize("name", METRICS[:4])
def test_a_tied_map_gets_the_share_that_chance_has(name: str) -> None:
    # Elsewhere a map that is the same everywhere is a hit.
    exact = {"tolerance": 0} if name == "pointing_game" else {}
    (value,) = score(name, [np.ones_like(OBJECT)], [OBJECT], **exact)
    assert value == pytest.approx(OBJECT.mean())


def test_ties_give_the_mean_over_all_ways_to_break_them() -> None:
    heat = np.random.default_rng(3).integers(0, 4, (SIZE, SIZE)).astype(float)
    rng, count = np.random.default_rng(4), OBJECT.sum()
    orders = (np.lexsort((rng.random(heat.size), -heat.ravel()))[:count] for _ in range(4000))
    expected = np.mean([OBJECT.ravel()[order].mean() for order in orders])
    assert score("relevance_rank", [heat], [OBJECT])[0] == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize(("tolerance", "hit"), [(5, 1.0), (4, 0.0)])
def test_the_tolerance_is_a_straight_distance(tolerance: int, hit: float) -> None:
    heat = np.zeros((SIZE, SIZE))
    heat[11 + 3, 14 + 4] = 1  # 3 down and 4 right of the object's last pixel
    assert score("pointing_game", [heat], [OBJECT], tolerance=tolerance)[0] == hit


def test_two_largest_values_of_which_one_hits_are_half_a_hit() -> None:
    heat = np.zeros((SIZE, SIZE))
    heat[5, 6] = heat[20, 20] = 2
    assert score("pointing_game", [heat], [OBJECT], tolerance=0)[0] == 0.5


def test_energy_of_signed_maps_stays_between_0_and_1() -> None:
    # Elsewhere negative values are summed too, and the ratio leaves this range.
    maps, positive = noise(30), noise(30).clip(min=0)
    values = score("energy_pointing_game", maps, [OBJECT] * 30)
    np.testing.assert_allclose(values, (positive * OBJECT).sum((1, 2)) / positive.sum((1, 2)), rtol=1e-6)
    assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_weighted_energy_is_finite_for_small_batches(count: int) -> None:
    # Elsewhere the weight is infinite for batches of one and two.
    weighted = score("energy_pointing_game", noise(count), [OBJECT] * count, weighted=True)
    plain = score("energy_pointing_game", noise(count), [OBJECT] * count)
    np.testing.assert_allclose(weighted, plain / OBJECT.mean())


@pytest.mark.parametrize("name", ["energy_pointing_game", "relevance_rank", "top_k_intersection"])
def test_random_maps_get_the_objects_share_of_the_image(name: str) -> None:
    assert score(name, noise(300), [OBJECT] * 300).mean() == pytest.approx(OBJECT.mean(), abs=0.015)


def test_the_top_share_of_a_small_object_is_bounded_by_it() -> None:
    small = boxes((0, 0, 2, 2))
    assert score("top_k_intersection", [small], [small], share=16 / SIZE**2)[0] == 4 / 16


def test_box_overlap_is_that_of_the_boxes() -> None:
    heat = boxes((4, 10, 12, 20)).astype(float)  # half of the object's width beside it
    assert score("box_iou", [heat], [OBJECT])[0] == pytest.approx(5 * 8 / (2 * 80 - 40))


def test_box_overlap_takes_the_region_that_is_largest_and_the_object_that_fits() -> None:
    truth = boxes((0, 0, 6, 6), (14, 14, 22, 22))
    heat = 0.9 * boxes((14, 14, 22, 22)) + boxes((0, 20, 2, 22))
    assert score("box_iou", [heat], [truth])[0] == 1
    even = boxes((0, 0, 6, 6)).astype(float) + boxes((0, 18, 6, 24))
    assert score("box_iou", [even], [truth])[0] == 0.5


def test_the_threshold_of_the_box_matters_and_is_relative() -> None:
    heat = 5.0 * boxes((4, 5, 12, 15)) + 2.0 * boxes((0, 0, 24, 24))
    assert score("box_iou", [heat], [OBJECT], threshold=0.5)[0] == 1
    assert score("box_iou", [heat], [OBJECT], threshold=0.2)[0] == pytest.approx(OBJECT.mean())


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("size", [(40,), (5, 6, 7)])
def test_signals_and_volumes_have_objects_too(name: str, size: tuple[int, ...]) -> None:
    truth = np.zeros((1, *size), bool)
    truth[(0, *(slice(1, 4) for _ in size))] = True
    assert score(name, truth.astype(float), truth, **({"share": 0.02} if name.startswith("top") else {}))[0] == 1


def test_without_truth_it_is_said_what_to_give() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    with pytest.raises(InputError, match="give boxes or masks"):
        measure(net, np.ones((1, 4, 4)), torch.zeros(1, 1, 4, 4), "pointing_game", target=0)
