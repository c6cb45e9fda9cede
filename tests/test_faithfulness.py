"""What holds for every faithfulness metric: order of good and bad maps, scale, batches, seeds, ties, other inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from faithful import FAITHFULNESS, half_right, noise_like, normal, options, pixel_net
from sightline.errors import RefusedError
from sightline.evaluation import METRICS
from sightline.evaluation.measure import measure

PICTURES_ONLY = ["road_morf", "road_lerf", "road", "sic", "aic"]
AT_THE_END = ["infidelity", "aic"]  # of their scale a random map is already
NET, X, EXACT = pixel_net(24, 24)
MAP = half_right(EXACT)


def values(name: str, maps: Tensor, x: Tensor = X, net: Any = NET, **how: Any) -> np.ndarray:
    given = options(name, samples=40, orders=4, fill="zero", least=0.5, **how.pop("options", {}))
    return measure(net, maps, x, name, target=0, parameters=given, **how)[name]


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_exact_beats_noisy_beats_random_beats_upside_down(name: str) -> None:
    sign = {"higher": 1, "lower": -1}[METRICS[name].better]
    draws = [values(name, noise_like(EXACT, seed)) for seed in (11, 12, 13)]
    means = [values(name, m).mean() for m in (EXACT, MAP)] + [np.mean(draws), values(name, -EXACT).mean()]
    ranked = sign * np.array(means)
    assert (np.diff(ranked)[:2] < 0).all(), means
    assert ranked[3] < ranked[2] or (name in AT_THE_END and ranked[3] == ranked[2]), means


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_the_scale_of_a_map_does_not_matter(name: str) -> None:
    np.testing.assert_allclose(values(name, MAP * 1024), values(name, MAP), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_batches_and_their_order_do_not_matter(name: str) -> None:
    maps = MAP.clone()
    maps[1] = 0.1  # only ties
    maps[2, :20] = 0
    together = values(name, maps)
    alone = values(name, maps, batch_size=1)
    turned = values(name, maps.flip(0), X.flip(0))[::-1]
    for other in (alone, turned):
        np.testing.assert_allclose(other, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_a_seed_gives_the_same_again_and_global_randomness_is_left_alone(name: str) -> None:
    before, drawn = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again = values(name, MAP, seed=3), values(name, MAP, seed=3)
    np.testing.assert_array_equal(first, again)
    assert torch.equal(before, torch.get_rng_state())
    assert (drawn == np.random.get_state()[1]).all()


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_every_image_of_every_batch_is_scored(name: str) -> None:
    """ROAD and Sensitivity-n of another tool keep the first batch only, whatever comes after it."""
    net, x, exact = pixel_net(16, 16, images=7)
    maps = torch.cat((exact[:4], -exact[4:]))
    found = values(name, maps, x, net, batch_size=4)
    assert len(found) == 7
    np.testing.assert_allclose(found, values(name, maps, x, net, batch_size=7), rtol=1e-4, atol=1e-5)
    good, bad = (values(name, m, x, net)[4:].mean() for m in (exact, maps))
    assert good != pytest.approx(bad)


@pytest.mark.parametrize("name", FAITHFULNESS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_map_without_channels_fits_pictures_of_one_and_three(name: str, channels: int) -> None:
    """ROAD and IROF of another tool fail on RGB."""
    net, x, exact = pixel_net(13, 18, channels=channels)
    assert np.isfinite(values(name, exact, x, net)).all()


@pytest.mark.parametrize("name", [n for n in FAITHFULNESS if n not in PICTURES_ONLY])
@pytest.mark.parametrize("size", [(40,), (8, 9, 10)])
def test_signals_and_volumes(name: str, size: tuple[int, ...]) -> None:
    net, x, exact = pixel_net(*size, images=2)
    sign = {"higher": 1, "lower": -1}[METRICS[name].better]
    good, bad = (values(name, m, x, net, options={"cells": 4}) for m in (exact, -exact))
    assert (sign * good > sign * bad).all()


@pytest.mark.parametrize("name", PICTURES_ONLY)
def test_what_is_for_pictures_says_so(name: str) -> None:
    net, x, exact = pixel_net(40)
    with pytest.raises(RefusedError, match="pictures"):
        values(name, exact, x, net)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["deletion", "infidelity", "irof", "road", "sic", "attained_deletion"]
    whole = measure(NET, MAP, X, names, target=0)
    monkeypatch.setattr("sightline.recording._CHUNK_BYTES", 1)
    for name, found in measure(NET, MAP, X, names, target=0).items():
        np.testing.assert_allclose(found, whole[name], rtol=1e-5, atol=1e-6)


def test_a_random_map_gives_chance() -> None:
    """Over many draws: no correlation, no gain over drawn orders, and both orders of ROAD alike."""
    net, x, exact = pixel_net(16, 16, images=2)
    chance = {"single_deletion": 0.0, "sensitivity_n": 0.0, "mu_fidelity": 0.0, "road": 0.0, "attained_deletion": 0.0}
    for name, expected in chance.items():
        found = np.stack([values(name, normal(*exact.shape, seed=s), x, net).mean() for s in range(20)])
        assert abs(found.mean() - expected) < 3.5 * found.std(ddof=1) / np.sqrt(len(found)), name
