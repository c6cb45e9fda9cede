"""The greedy bound of deletion against searches written out, and where maps stand on the scale that it gives."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faithful import normal, pixel_net
from sightline.evaluation.measure import measure
from sightline.evaluation.measuring import counted
from sightline.models.load import load

EVEN = {f"attained_deletion.{k}": v for k, v in {"fill": "zero", "score": "logit"}.items()}


class Quarters(nn.Module):
    """What the quarters of an image say of the class, alone and in pairs: not what covering one by one foretells."""

    def __init__(self) -> None:
        super().__init__()
        self.alone, self.pairs = nn.Parameter(normal(4).float()), nn.Parameter(3 * normal(4, 4, seed=1).float())

    def forward(self, x: Tensor) -> Tensor:
        bright = F.adaptive_avg_pool2d(x.mean(1, keepdim=True), 2).flatten(1)
        score = bright @ self.alone + torch.einsum("ni,ij,nj->n", bright, self.pairs, bright) + 1
        return torch.stack((torch.zeros_like(score), score), 1)


NET, X = Quarters().eval(), 1 + 0.5 * normal(4, 3, 8, 8, seed=2).float()


def attained(maps: Tensor, x: Tensor, net: object = NET, target: int = 1, seed: int = 0, **how: object) -> np.ndarray:
    given = {**EVEN, **{f"attained_deletion.{k}": v for k, v in how.items()}}
    return measure(net, maps, x, "attained_deletion", target=target, seed=seed, parameters=given)["attained_deletion"]


def place(order: tuple[int, ...], size: tuple[int, int]) -> Tensor:
    """Return a map that ranks the quarters of an image in this order."""
    values = torch.zeros(4)
    values[list(order)] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    return torch.kron(values.reshape(2, 2), torch.ones(size[0] // 2, size[1] // 2))


def quarter_area(image: Tensor, order: tuple[int, ...]) -> float:
    picture, scores = image.clone(), [score(image)]
    for quarter in order:
        picture = picture * (place((quarter, *({0, 1, 2, 3} - {quarter})), tuple(image.shape[1:])) < 4)
        scores.append(score(picture))
    return float(np.mean([(a + b) / 2 for a, b in pairwise(scores)]))


def score(image: Tensor) -> float:
    with torch.no_grad():
        return float(NET(image[None]).double()[0, 1])


def greedy(image: Tensor) -> tuple[int, ...]:
    order: tuple[int, ...] = ()
    while len(order) < 4:
        left = [q for q in range(4) if q not in order]
        order = (*order, min(left, key=lambda q: _last(image, (*order, q))))
    return order


def _last(image: Tensor, order: tuple[int, ...]) -> float:
    for quarter in order:
        image = image * (place((quarter, *({0, 1, 2, 3} - {quarter})), tuple(image.shape[1:])) < 4)
    return score(image)


def test_the_scale_runs_from_drawn_orders_to_the_greedy_one() -> None:
    """All 24 orders of the quarters of an image: each stands where its area puts it."""
    image = X[:1]
    orders = list(permutations(range(4)))
    size = tuple(image.shape[2:])
    found = np.array([attained(place(o, size)[None], image, cells=2)[0] for o in orders])
    areas = np.array([quarter_area(image[0], o) for o in orders])
    best = greedy(image[0])
    assert found[orders.index(best)] == pytest.approx(1, abs=1e-4)
    slope, end = np.polyfit(areas, found, 1)
    np.testing.assert_allclose(slope * areas + end, found, atol=1e-3)
    assert slope < 0


def test_the_exact_attribution_of_a_linear_net_attains_all_and_drawn_maps_nothing() -> None:
    net, x, exact = pixel_net(16, 16)
    np.testing.assert_allclose(attained(exact, x, net, 0), 1, atol=1e-4)
    upside = attained(-exact, x, net, 0, orders=64)
    assert (upside < -0.5).all()
    drawn = np.stack([attained(normal(*exact.shape, seed=s).float(), x, net, 0, orders=64).mean() for s in range(16)])
    assert abs(drawn.mean()) < 3.5 * drawn.std(ddof=1) / 4


def test_a_constant_map_is_one_more_drawn_order() -> None:
    net, x, exact = pixel_net(16, 16, images=1)
    found = [attained(torch.full_like(exact, 0.1), x, net, 0, seed=s, orders=16)[0] for s in range(12)]
    assert abs(np.mean(found)) < 3.5 * np.std(found, ddof=1) / np.sqrt(12)


def test_it_is_undefined_where_a_search_gains_nothing() -> None:
    net, x, exact = pixel_net(16, 16)
    net.weights.data.zero_()
    assert np.isnan(attained(exact, x, net, 0)).all()


def test_the_search_is_shared_and_costs_what_is_said() -> None:
    net, x, exact = pixel_net(16, 16, images=2)
    model = load(net)
    with counted(model) as passed:
        attained(exact, x, model, 0, orders=3)
    search, whole_and_hidden, each = 16 * 17 // 2 - 1, 2, 15
    assert passed[0] == len(x) * (search + whole_and_hidden + (3 + 1) * each)
