"""Mosaics: what points at the right one of several images, and what cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nets
from sightline.demo.scenes import scenes
from sightline.errors import ParameterError, RefusedError
from sightline.evaluation.measure import measure
from sightline.evaluation.registry import METRICS
from sightline.evaluation.run import evaluate
from sightline.evaluation.truth import heads
from sightline.evaluation.truth.mosaic import Measured, Sure, Trial, cell_labels, drawn, shares
from sightline.geometry import Preprocessing
from sightline.models.load import load
from sightline.models.model import Model
from sightline.plan import make_plan

SIDE = 16
KINDS = ("grid_pointing_game", "difull", "dipart")


class Colours(nn.Module):
    """Four classes, each its own channel of the input, seen through one convolution of single pixels and a ReLU.

    Each channel speaks for its class, and a fifth for all: what Grad-CAM marks wherever it is active.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 5, 1, bias=False)
        self.relu = nn.ReLU()
        self.head = nn.Linear(5, 4, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.cat((torch.eye(4), torch.ones(1, 4)))[..., None, None])
            self.head.weight.copy_(torch.cat((60 * torch.eye(4), torch.ones(4, 1)), 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.conv(x)).mean((2, 3)))


def colours(count: int = 4) -> Tensor:
    """Return images (N, 4, 16, 16), the classes in turn, of that class's channel and a little noise."""
    x = torch.zeros(count, 4, SIDE, SIDE)
    x[torch.arange(count), torch.arange(count) % 4] = 1.0
    return x * (0.5 + torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))


def model_of(module: nn.Module, channels: int = 3, **rest: Any) -> Model:
    return Model(module.eval(), "tiny", Preprocessing(mean=(0.5,) * channels, std=(0.5,) * channels), **rest)


def trial(model: Model, images: Any, method: str, *, layer: Any = None, seed: int = 0) -> Trial:
    plan = make_plan(
        model, method, "top1", contrast=None, layer=layer, output="logit", precision="model", seed=seed, chunk=None,
        parameters={}, tick=None,
    )  # fmt: skip
    return Trial(plan, images)


def run(kind: str, of: Trial, **parameters: Any) -> list[Measured]:
    found: Iterator[Measured] = METRICS[kind].compute(of, **{"confidence": 0.0, **parameters})
    return list(found)


def values(kind: str, of: Trial, method: str, **parameters: Any) -> Tensor:
    return torch.cat([m.values[method] for m in run(kind, of, **parameters)])


def random_net() -> Model:
    torch.manual_seed(3)
    return model_of(nets.ConvNet(classes=6))


def noise(count: int = 24) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


# --- the definition -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_net_that_sees_only_its_colour_is_told_exactly(kind: str) -> None:
    of = trial(model_of(Colours(), 4), colours(), "layer_cam,hires_cam,gradient,input_x_gradient")
    for method in ("hires_cam", "layer_cam", "input_x_gradient"):
        wanted = 1.0 if kind != "grid_pointing_game" else (60 + 1) / (60 + 1 + 3)  # the fifth channel is everywhere
        assert values(kind, of, method).mean().item() == pytest.approx(wanted, abs=0.02 if wanted < 1 else 1e-12)


def test_on_difull_grad_cam_marks_what_the_score_cannot_see_and_layer_cam_does_not() -> None:
    """The teaching pair: Grad-CAM weighs channels by one cell's gradient, and shows them in all cells."""
    of = trial(model_of(Colours(), 4), colours(), "grad_cam,layer_cam")
    assert values("difull", of, "layer_cam").tolist() == [1.0, 1.0]
    leaking = values("difull", of, "grad_cam")
    assert ((leaking > 0.9) & (leaking < 0.99)).all()  # (60 + 1) of 60 + 4


@pytest.mark.parametrize("cells", [2, 3])
def test_a_map_that_knows_no_class_gets_its_share_of_the_cells(cells: int) -> None:
    of = _with_classes(trial(model_of(nets.ConvNet(classes=12)), noise(12), "constant,centre"))
    for name in KINDS:
        np.testing.assert_allclose(values(name, of, "constant", cells=cells), 1 / cells**2)
    assert values("grid_pointing_game", of, "centre", cells=cells).mean().item() == pytest.approx(1 / cells**2)


def _with_classes(of: Trial) -> Trial:
    """Take the images' numbers for what the model says of them: an untrained net may say the same of all."""
    of.memo["sure"] = [Sure(i, i, 1.0) for i in range(len(of.images))]
    return of


def test_any_class_blind_map_has_one_in_four_on_the_whole_mosaic() -> None:
    found = values(
        "grid_pointing_game", _with_classes(trial(model_of(nets.ConvNet(classes=24)), noise(), "edges")), "edges"
    )
    np.testing.assert_allclose(found.reshape(-1, 4).mean(1), 0.25, atol=1e-9)
    assert found.std() > 0.001  # single cells differ


def test_negative_mass_does_not_count_and_an_empty_map_points_nowhere() -> None:
    maps = torch.zeros(3, 4, 4)
    maps[0, 0, 0], maps[0, 3, 3], maps[1, 0, 0] = 3.0, 1.0, -5.0
    assert shares(maps, 2, [0, 0, 0]).tolist() == [0.75, 0.0, 0.0]
    assert shares(7 * maps, 2, [3, 3, 3]).tolist() == [0.25, 0.0, 0.0]


def test_cells_of_sides_that_do_not_divide_are_told_by_the_middles_of_pixels() -> None:
    labels = cell_labels((5, 5), 2)
    for cell in range(4):
        part = heads.cell_of(torch.arange(25.0).reshape(1, 1, 5, 5), 2, cell)
        assert sorted(part.flatten().tolist()) == torch.arange(25.0)[(labels == cell).flatten()].tolist()


def test_stitching_is_the_inverse_of_splitting() -> None:
    x = torch.randn(2, 3, 6, 9)
    assert torch.equal(heads.joined(heads.split(x, 3), 3), x)


# --- heads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [nets.ConvNet, nets.InplaceNet, nets.ResidualNet, nets.ChannelsLastNet, nets.TokenNet])
@pytest.mark.parametrize("cell", [0, 3])
def test_a_head_scores_as_the_model_does_on_its_cell_and_on_no_other(net: type[nn.Module], cell: int) -> None:
    torch.manual_seed(0)
    model, x = model_of(net()), torch.randn(1, 3, 32, 32)
    wanted = model.module(heads.cell_of(x, 2, cell))
    cut = heads.stitched(model, model.default_layer(x[..., :16, :16]), 2, cell, x)
    elsewhere = x + torch.randn(1, 3, 32, 32) * (cell_labels((32, 32), 2) != cell)
    for head in (heads.alone(model, 2, cell), cut):
        assert torch.allclose(head.module(x), wanted, atol=1e-5)
        assert torch.equal(head.module(x), head.module(elsewhere))


@pytest.mark.parametrize("net", [nets.ConvNet, nets.ResidualNet, nets.TokenNet])
def test_no_gradient_leaves_the_cell(net: type[nn.Module]) -> None:
    model, x = model_of(net()), torch.randn(1, 3, 32, 32)
    cut = heads.stitched(model, model.default_layer(x[..., :16, :16]), 2, 1, x)
    leaf = x.clone().requires_grad_()
    cut.module(leaf).sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad != 0).any(1)[0][cell_labels((32, 32), 2) == 1].any()
    assert not (leaf.grad != 0).any(1)[0][cell_labels((32, 32), 2) != 1].any()


def test_the_model_is_left_as_it_was() -> None:
    model, x = model_of(nets.ConvNet()), torch.randn(1, 3, 32, 32)
    model.module.features[1].train()
    before = model.module(x[..., :16, :16])
    heads.stitched(model, "features.5", 2, 0, x).module(x)
    assert model.module.features[1].training
    model.module.eval()
    assert not any(m._forward_hooks for m in model.module.modules())
    assert before.shape == (1, 5)


class Bypass(nn.Module):
    """What the head reads is half of it from before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        return self.head(torch.cat((h.mean((2, 3)), self.last(h).relu().mean((2, 3))), 1))


def test_where_something_passes_by_the_layer_every_cell_goes_on_and_dipart_refuses() -> None:
    of = _with_classes(trial(model_of(Bypass()), noise(8), "layer_cam,gradient", layer="last"))
    assert values("difull", of, "layer_cam").tolist() == values("difull", of, "gradient").tolist() == [1.0] * 4
    with pytest.raises(RefusedError, match="passes by the layer 'last'"):
        run("dipart", of)


def test_a_score_that_would_be_of_probabilities_is_refused_for_cams_and_no_other_method() -> None:
    of = _with_classes(
        trial(model_of(nn.Sequential(Bypass(), nn.Softmax(1))), noise(8), "grad_cam,gradient", layer="0.last")
    )
    found = run("difull", of)
    assert "ends in probabilities" in found[0].refused["grad_cam"]
    assert math.isnan(found[0].values["grad_cam"][0])
    assert found[0].values["gradient"].tolist() == [1.0, 1.0]


def test_a_softmax_at_the_end_changes_nothing_where_all_goes_through_the_layer() -> None:
    plain = Colours()
    for kind in ("difull", "dipart"):
        with_and_without = [
            values(kind, trial(model_of(net, 4), colours(), "grad_cam", layer=layer), "grad_cam")
            for net, layer in ((plain, "relu"), (nn.Sequential(plain, nn.Softmax(1)), "0.relu"))
        ]
        assert torch.allclose(*with_and_without)


def test_methods_that_read_the_inside_refuse() -> None:
    net = nets.TokenNet()
    net.head = nn.Linear(12, 8)
    of = _with_classes(trial(model_of(net), noise(8), "attention,gradient,grad_cam", layer="blocks.0"))
    found = run("difull", of)
    assert "inside" in found[0].refused["attention"]
    assert found[0].values["grad_cam"].isfinite().all()
    with pytest.raises(RefusedError, match="class token has seen the whole mosaic"):
        run("dipart", of)


# --- the mosaics ----------------------------------------------------------------------------------------------------


def test_no_image_is_used_twice_and_no_class_twice_in_a_mosaic() -> None:
    sure = [Sure(i, i % 5, 1.0) for i in range(23)]
    found = drawn(sure, 2, seed=1)
    assert len(found) == 5
    numbers = [s.number for m in found for s in m]
    assert len(set(numbers)) == len(numbers)
    assert all(len({s.label for s in m}) == 4 for m in found)
    assert found == drawn(sure, 2, seed=1) != drawn(sure, 2, seed=2)


def test_only_images_that_the_model_is_sure_of() -> None:
    images = torch.cat((colours(8), 0.02 * colours(8)))
    of = trial(model_of(Colours(), 4), images, "constant")
    assert len(run("grid_pointing_game", of, confidence=0.95)) == 2
    with pytest.raises(RefusedError, match="of 4 images there are 0, of 0 classes"):
        run("grid_pointing_game", trial(model_of(Colours(), 4), 0.001 * colours(), "constant"), confidence=0.95)


def test_a_model_of_one_size_refuses_unless_the_mosaic_is_shrunk() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * SIDE**2, 8))
    for model in (model_of(flat), model_of(nets.ConvNet(classes=8), input_size=(SIDE, SIDE))):
        of = _with_classes(trial(model, noise(8), "constant,gradient"))
        with pytest.raises(RefusedError, match="fit=shrink"):
            run("grid_pointing_game", of)
        assert values("grid_pointing_game", of, "constant", fit="shrink").tolist() == [0.25] * 8
        assert values("difull", of, "gradient").tolist() == [1.0] * 4


def test_a_mosaic_by_itself_gives_what_it_gives_among_others() -> None:
    of = _with_classes(trial(random_net(), noise(24) * 3, "grad_cam,random"))
    of.memo["sure"] = [Sure(i, i % 6, 1.0) for i in range(24)]
    together = run("grid_pointing_game", of)
    later = run("grid_pointing_game", Trial(of.plan, of.images, done={1, 2}, memo=of.memo))
    assert [m.mosaic.number for m in later] == [m.mosaic.number for m in together][2:]
    assert torch.equal(later[0].values["grad_cam"], together[2].values["grad_cam"])


# --- evaluate -------------------------------------------------------------------------------------------------------

PICTURES = [s.image for s in scenes(18, seed=0)]
FEW = {"grid_pointing_game.mosaics": 2, "grid_pointing_game.confidence": 0.5}


def test_evaluate_measures_mosaics_beside_images_and_goes_on_where_it_was(tmp_path: Any) -> None:
    state = torch.random.get_rng_state()
    given = {"method": "grad_cam,attention", "metric": "grid_pointing_game,single_deletion", "parameters": FEW}
    found = evaluate("demo/honest", PICTURES[:8], **{**given, "out": tmp_path}, limit=8)
    assert len(found.values("grad_cam", "grid_pointing_game")) == len(found.values("constant", "grid_pointing_game"))
    assert len(found.images) == 8 == found.cost["measured"]
    assert found.summary("grid_pointing_game")["constant"].mean == pytest.approx(0.25)
    again = evaluate("demo/honest", PICTURES[:8], **{**given, "out": tmp_path}, limit=8)
    assert again.cost["forward_passes"] <= 8  # of what the model says of each image
    assert sorted(map(str, again.rows)) == sorted(map(str, found.rows))
    assert torch.equal(state, torch.random.get_rng_state())


def test_evaluate_says_what_a_mosaic_metric_lacks_and_measures_the_others() -> None:
    found = evaluate("demo/honest", PICTURES[:2], "gradient", "difull,single_deletion")
    assert any("give more images" in s["reason"] for s in found.skipped)
    assert len(found.values("gradient", "single_deletion")) == 2


def test_measure_says_that_one_image_is_no_mosaic() -> None:
    with pytest.raises(ParameterError, match="mosaics of many images"):
        measure(load("demo/honest"), np.zeros((1, 96, 96)), PICTURES[:1], "difull")
