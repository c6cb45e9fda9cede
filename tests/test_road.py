"""ROAD: the imputation against equations written out, and maps on which other tools fall over."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from faithful import normal, pixel_net
from sightline.errors import RefusedError
from sightline.evaluation.measure import measure
from sightline.evaluation.metrics import road

ALL = ["road_morf", "road_lerf", "road"]


def by_the_book(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Solve one dense equation for each pixel: a known one is itself, a removed one the weighted mean around it."""
    high, wide = removed.shape
    system, right = np.eye(high * wide), image.reshape(len(image), -1).T.copy()
    for row, column in np.argwhere(removed):
        here, weights = row * wide + column, {}
        for r in range(max(0, row - 1), min(high, row + 2)):
            for c in range(max(0, column - 1), min(wide, column + 2)):
                if (r, c) != (row, column):
                    weights[r * wide + c] = 2.0 if row == r or column == c else 1.0
        right[here] = 0
        for place, weight in weights.items():
            system[here, place] = -weight / sum(weights.values())
    return np.linalg.solve(system, right).T.reshape(image.shape)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_removed_is_the_weighted_mean_of_what_is_around_it(share: float, channels: int) -> None:
    rng = np.random.default_rng(1)
    image, removed = rng.normal(size=(channels, 9, 12)), rng.random((9, 12)) < share
    np.testing.assert_allclose(road.imputed(image, removed), by_the_book(image, removed), atol=1e-9)


def test_a_slope_is_continued_into_a_hole() -> None:
    rows, columns = np.mgrid[:20, :20].astype(float)
    image, removed = np.stack([rows, 2 * columns - rows]), np.zeros((20, 20), bool)
    removed[5:15, 4:16] = True
    np.testing.assert_allclose(road.imputed(image, removed), image, atol=1e-9)


def test_with_nothing_left_all_is_the_mean_colour_and_with_nothing_removed_all_stays() -> None:
    """The system has no solution then, and other tools give NaN or huge values."""
    image = np.random.default_rng(0).normal(size=(3, 6, 7))
    whole = np.ones((6, 7), bool)
    np.testing.assert_allclose(road.imputed(image, whole), image.mean((1, 2), keepdims=True) + 0 * image)
    np.testing.assert_array_equal(road.imputed(image, ~whole), image)


class Watching(nn.Module):
    """Keep what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.head = nn.Linear(3 * 400, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.head(x.flatten(1))


@pytest.mark.parametrize("name", ["road_morf", "road_lerf"])
def test_a_map_of_zeros_but_for_a_few_pixels_loses_just_as_many_as_any_other(name: str) -> None:
    """With more zeros than the share to be removed, another tool's threshold is zero and it removes everything."""
    net, x = Watching().eval(), normal(1, 3, 20, 20).float()
    sparse = torch.zeros(1, 20, 20)
    sparse[0, 3, 4:9] = 1.0
    found = measure(net, sparse, x, name, target=0)[name]
    assert np.isfinite(found).all()
    changed = [(p != x[0]).any(0) for p in torch.cat(net.seen)]
    counts = sorted({int(c.sum()) for c in changed} - {0})
    assert counts == [round(share * 400) for share in road.SHARES]
    marked = [bool(c[3, 4:9].all()) for c in changed if int(c.sum()) == 40]
    assert marked == [name == "road_morf"]


@pytest.mark.parametrize("name", ALL)
def test_it_works_on_colour_with_maps_of_one_channel_and_scores_every_image(name: str) -> None:
    """Another tool fails on RGB, and keeps the first batch of twenty images only."""
    net, x, exact = pixel_net(12, 12, images=20)
    maps = torch.cat((exact[:8], -exact[8:]))
    by_eight, at_once = (measure(net, maps, x, name, target=0, batch_size=n)[name] for n in (8, 20))
    np.testing.assert_allclose(by_eight, at_once, atol=1e-5)
    first, rest = by_eight[:8].mean(), by_eight[8:].mean()
    assert (first < rest) if name == "road_morf" else (first > rest)


def test_both_orders_as_one_number_share_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    solved, impute = [0], road.imputed

    def counting(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
        solved[0] += 1
        return impute(image, removed)

    monkeypatch.setattr(road, "imputed", counting)
    net, x, exact = pixel_net(12, 12)
    found = measure(net, exact, x, ALL, target=0)
    np.testing.assert_allclose(found["road"], (found["road_lerf"] - found["road_morf"]) / 2)
    assert solved[0] == 2 * len(road.SHARES) * len(x)


def test_noise_is_added_where_pixels_are_removed_and_nowhere_else() -> None:
    net, x = Watching().eval(), torch.ones(1, 3, 20, 20)
    measure(net, normal(1, 20, 20), x, "road_morf", target=0, parameters={"road_morf.noise": 0.5})
    half = next(p for p in torch.cat(net.seen) if int((p != 1).any(0).sum()) == 200)
    assert float((half[half != 1] - 1).std()) == pytest.approx(0.5, rel=0.2)


def test_series_are_refused() -> None:
    net, x, exact = pixel_net(40)
    with pytest.raises(RefusedError, match="use aopc or deletion"):
        measure(net, exact, x, "road", target=0)
