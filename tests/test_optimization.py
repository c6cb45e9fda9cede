"""Masks that are optimised, and the smallest flip: against closed forms and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import LinearNet, drawn, make
from sightline import optimize
from sightline.errors import ParameterError, RefusedError

SIZE = 8


class Weighted(nn.Module):
    """Class 1 scores the weighted sum of the pixels, class 0 nothing."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weights).flatten(1).sum(1)
        return torch.stack((torch.zeros_like(score), score), 1)


def weighted(*shape: int, seed: int = 0) -> tuple[Weighted, Tensor]:
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Weighted(weights), torch.ones(1, *shape, dtype=torch.float64)


# --- extremal perturbation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("area", [0.125, 0.25])
@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
@pytest.mark.parametrize("shape", [(1, SIZE, SIZE), (2, 32), (1, 4, 4, 4)], ids=["image", "signal", "volume"])
def test_of_a_linear_net_the_cells_of_largest_contribution_are_selected(shape, variant, area):
    net, x = weighted(*shape)
    e = sightline.explain(net, x, "extremal_perturbation", 1, areas=area, variant=variant, sigma=0.0, fill="zero")[0]
    contributions = net.weights.detach().sum(0).flatten().numpy()
    chosen = round(area * contributions.size)
    best = set(np.argsort(-contributions)[:chosen].tolist())
    assert set(np.argsort(-e.attribution.flatten(), kind="stable")[:chosen].tolist()) == best


@pytest.mark.parametrize("area", [0.1, 0.3])
def test_the_area_is_met_and_the_region_is_nearly_binary(area):
    net, x = make("conv", torch.float64, images=1)
    mask = sightline.explain(net, x, "extremal_perturbation", 1, areas=area, cells=16, sigma=1.0)[0].attribution
    assert abs(mask.mean() - area) < 0.06
    assert mask.min() >= 0
    assert mask.max() <= 1


def test_several_areas_are_the_mean_of_each():
    net, x = weighted(1, SIZE, SIZE)
    options = {"sigma": 1.0, "fill": "zero", "steps": 20}
    one, other, both = (
        sightline.explain(net, x, "extremal_perturbation", 1, areas=a, **options)[0] for a in (0.1, 0.3, "0.1,0.3")
    )
    assert np.allclose((one.attribution + other.attribution) / 2, both.attribution, atol=1e-6)
    assert len(both.notes) == 2


def test_the_note_holds_the_score_of_the_region():
    net, x = weighted(1, SIZE, SIZE)
    e = sightline.explain(net, x, "extremal_perturbation", 1, areas=0.25, fill="zero", sigma=0.0)[0]
    kept = float((net.weights.detach().numpy() * e.attribution).sum())
    assert e.notes[0].startswith(f"with only a region of 0.25 of the image the score is {kept:.3g}; with all of it ")


@pytest.mark.parametrize("areas", ["0", "1", "0.1,2", "small", "", 0.0])
def test_areas_that_are_no_shares_are_refused(areas):
    net, x = weighted(1, SIZE, SIZE)
    with pytest.raises(ParameterError, match=r"areas=.*(wanted a share of the image|wanted a number from 0 to 1)"):
        sightline.explain(net, x, "extremal_perturbation", 1, areas=areas)


def test_the_smooth_maximum_is_near_the_naive_one():
    mask = torch.rand(1, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = optimize.max_convolved(mask, 1.0)[0]
    for row, column in itertools.product(range(6), range(7)):
        near = [
            float(np.exp(-0.5 * ((row - r) ** 2 + (column - c) ** 2))) * float(mask[0, r, c])
            for r, c in itertools.product(range(6), range(7))
            if max(abs(row - r), abs(column - c)) <= 2
        ]
        padded = np.array(near + [0.0] * (25 - len(near)))
        weights = np.exp(padded * 20)
        assert np.isclose(float(found[row, column]), (weights * padded).sum() / weights.sum())
    assert torch.equal(optimize.max_convolved(mask, 0.0), mask)


def test_an_image_is_seen_through_its_levels():
    levels = torch.tensor([0.0, 10.0, 40.0], dtype=torch.float64).reshape(3, 1, 1, 1).expand(3, 1, 1, 5)
    keep = torch.tensor([[1.0, 0.75, 0.5, 0.25, 0.0]], dtype=torch.float64)
    assert optimize.seen_through(levels, keep).flatten().tolist() == [0.0, 5.0, 10.0, 25.0, 40.0]
    slope = torch.autograd.functional.jacobian(lambda k: optimize.seen_through(levels, k).sum(), keep)
    assert slope.flatten().tolist() == [-20.0, -20.0, -60.0, -60.0, -60.0]


# --- meaningful perturbation ----------------------------------------------------------------------------------------


class Quadrant(nn.Module):
    """Looks at the upper left quarter of the picture and at nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        score = x[:, :, :8, :8].flatten(1).mean(1)
        return torch.stack((-score, score), 1)


@pytest.mark.parametrize("game", ["delete", "preserve"])
def test_the_mask_covers_the_quadrant_that_is_looked_at(game):
    x = torch.ones(2, 3, 16, 16, dtype=torch.float64) * torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    for e in sightline.explain(Quadrant(), x, "meaningful_perturbation", 1, fill="zero", game=game, sparsity=0.2):
        inside, outside = e.attribution[1:7, 1:7].mean(), e.attribution[10:, 10:].mean()
        assert inside > 0.8
        assert outside < 0.05


def test_more_sparsity_is_a_smaller_mask():
    net, x = make("conv", torch.float64, images=1)
    sizes = [
        sightline.explain(net, x, "meaningful_perturbation", 1, sparsity=s, steps=30)[0].attribution.mean()
        for s in (0.01, 1.0, 100.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("name", ["meaningful_perturbation", "extremal_perturbation"])
def test_no_parameter_ever_gets_a_gradient_even_in_inference_mode(name):
    net, x = make("conv", images=1)
    wanted = sightline.explain(net, x, name, 1, steps=3)[0].attribution
    with torch.inference_mode():
        found = sightline.explain(net, x, name, 1, steps=3)[0].attribution
    assert np.array_equal(found, wanted)
    assert all(p.grad is None for p in net.parameters())
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", ["meaningful_perturbation", "extremal_perturbation"])
def test_each_step_is_a_tick(name):
    from sightline.engine import explanations

    ticks: list[int] = []
    net, x = make("conv", images=1)
    list(explanations(sightline.load(net), x, name, 1, parameters={"steps": 5}, tick=ticks.append))
    assert sum(ticks) >= 5


# --- the smallest flip ----------------------------------------------------------------------------------------------


def cells(mask: np.ndarray) -> frozenset[int]:
    """The cells of a 3 by 3 grid, one pixel each, that are covered."""
    return frozenset(np.flatnonzero(mask).tolist())


def says(net: nn.Module, x: Tensor, covered: frozenset[int]) -> int:
    copy = x.clone()
    for cell in covered:
        copy[0, :, cell // 3, cell % 3] = x.mean((2, 3))
    return int(net(copy).argmax())


@pytest.mark.parametrize("search", ["ranked", "greedy"])
@pytest.mark.parametrize("seed", range(6))
def test_no_cell_of_the_flip_can_be_spared(search, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(18, 12), nn.ReLU(), nn.Linear(12, 3)).double().eval()
    x = 3 * torch.randn(1, 2, 3, 3, generator=generator, dtype=torch.float64)
    every = [frozenset(c) for n in range(10) for c in itertools.combinations(range(9), n)]
    before = int(net(x).argmax())
    flips = {region for region in every if says(net, x, region) != before}
    options = {"change": "patch", "count": 9, "search": search}
    if not flips:
        with pytest.raises(RefusedError, match="whatever is changed, up to all of the image"):
            sightline.explain(net, x, "smallest_flip", **options)
        return
    e = sightline.explain(net, x, "smallest_flip", **options)[0]
    found = cells(e.attribution)
    assert found in flips
    assert not any(found - {cell} in flips for cell in found)
    assert len(found) >= min(map(len, flips))
    assert f"{len(found) / 9:.1%} of the image changed ({len(found)} of 9 cells)" in e.notes[0]
    assert e.notes[0].endswith(f"says class {says(net, x, found)}")


def test_a_linear_net_is_flipped_by_its_largest_cells():
    weights = torch.tensor([[5.0, 1.0, 1.0], [1.0, 4.0, 1.0], [1.0, 1.0, -2.0]], dtype=torch.float64)[None]
    net = Weighted(weights)
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    x[0, 0] = torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [-1.0, 1.0, 0.0]])
    e = sightline.explain(net, x, "smallest_flip", change="patch", count=9)[0]
    assert cells(e.attribution) == {0, 4}
    assert e.notes == ("with 22.2% of the image changed (2 of 9 cells) the model says class 0",)


def test_the_other_way_round_it_asks_what_makes_the_model_say_the_target():
    net = Weighted(torch.ones(1, 3, 3, dtype=torch.float64))
    x = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    x[0, 0, 0, 0] = -20.0  # covered by the mean, -1.3, it leaves 6.7
    e = sightline.explain(net, x, "smallest_flip", 1, change="patch", count=9)[0]
    assert cells(e.attribution) == {0}
    assert e.notes == ("with 11.1% of the image changed (1 of 9 cells) the model says class 1",)


@pytest.mark.parametrize("change", ["blur", "noise", "patch"])
def test_a_batch_gives_what_single_images_give_and_one_that_cannot_flip_spoils_nothing(change):
    from sightline.engine import explanations

    net, _ = weighted(1, SIZE, SIZE)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 1, SIZE, SIZE, generator=generator, dtype=torch.float64)
    x[2] = 0.001 * net.weights.detach().sign() + 100 * (net.weights.detach() > 0)
    failures: list[object] = []
    run = explanations(
        sightline.load(net), x, "smallest_flip", parameters={"change": change, "count": 16}, on_failure=failures.append
    )
    together = dict(run)
    for n in range(4):
        try:
            alone = sightline.explain(net, x[n : n + 1], "smallest_flip", change=change, count=16, chunk=1)[0]
        except RefusedError:
            assert n not in together
        else:
            assert np.array_equal(together[n].attribution, alone.attribution)
            assert together[n].notes == alone.notes
    assert len(together) + len(failures) == 4
    assert len(together) >= 2


def test_what_never_flips_is_refused_in_a_sentence():
    net = drawn(LinearNet).double()
    nn.init.zeros_(net.head.weight)
    x = torch.ones(1, 3, 8, 8, dtype=torch.float64)
    with pytest.raises(RefusedError, match="whatever is changed, up to all of the image"):
        sightline.explain(net, x, "smallest_flip")
    never = (int(net(x).argmax()) + 1) % 5
    with pytest.raises(RefusedError, match=r"does not say class .*; ask about what it says: target=top1"):
        sightline.explain(net, x, "smallest_flip", never)
    with pytest.raises(RefusedError, match="whatever is changed"):
        sightline.explain(net, x, "smallest_flip", smooth_samples=2)


def test_what_is_no_class_has_no_answer_to_flip():
    net, x = make("conv", images=1)
    with pytest.raises(
        RefusedError, match="is no class, so there is no answer to flip; give a class, or use occlusion"
    ):
        sightline.explain(net, x, "smallest_flip", sightline.targets.contrast(0, 1))


def test_of_sigmoid_heads_the_flip_is_at_the_threshold():
    class Labels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            means = x.flatten(1).mean(1)
            return torch.sigmoid(torch.stack((x[:, 0, 0, 0], means + 100, means - 100), 1))

    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    x[0, 0, 0, 0], x[0, 0, 2, 2] = 2.0, -3.0
    e = sightline.explain(Labels(), x, "smallest_flip", 0, change="patch", count=9)[0]
    assert cells(e.attribution) == {0}
