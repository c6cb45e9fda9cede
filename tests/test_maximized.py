"""Activation maximisation and counterfactuals: against closed forms and naive loops; their commands."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sightline
from commands import sightline as command
from nets import ConvNet, LinearNet, drawn, make
from sightline.demo.scenes import scene
from sightline.errors import ImageError, LayerError, ParameterError, RefusedError, TargetError
from sightline.geometry import Preprocessing
from test_cli import error_line

PLAIN = Preprocessing(resize=(8, 8), crop=None, mean=(0.5,) * 3, std=(0.5,) * 3)


def linear() -> sightline.Model:
    return sightline.load(drawn(LinearNet), preprocessing=PLAIN)


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("target", [0, 3])
def test_of_a_linear_unit_the_picture_is_its_weights(target):
    model = linear()
    found = sightline.maximize(model, target, steps=20, parametrization="pixel", transforms=False)
    weights = model.module.head.weight[target].detach().numpy()
    assert np.corrcoef(found.values.flatten(), weights)[0, 1] > 0.99999
    score = model.module(torch.from_numpy(found.values)[None])[0, target]
    assert found.score == pytest.approx(float(score.detach()), rel=1e-5)
    assert list(found.scores) == sorted(found.scores)
    assert len(found.scores) == 21


def test_the_spectrum_of_a_linear_unit_turns_towards_its_weights():
    model = linear()
    found = sightline.maximize(model, 2, steps=100, transforms=False, noise=0.1)
    weights = model.module.head.weight[2].detach().numpy()
    assert np.corrcoef(found.values.flatten(), weights)[0, 1] > 0.6
    assert found.score > 5 * abs(found.scores[0])
    assert np.abs(found.values).max() <= 1.0 + 1e-6  # pixels between black and white


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_the_seed_decides_and_the_model_stays(parametrization):
    net, _ = make("conv")
    net.train()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    a, b, c = (
        sightline.maximize(net, 1, steps=3, size=(20, 16), parametrization=parametrization, seed=s) for s in (0, 0, 1)
    )
    assert np.array_equal(a.values, b.values)
    assert a.scores == b.scores
    assert not np.array_equal(a.values, c.values)
    assert a.image.shape == (20, 16, 3)
    assert a.image.dtype == np.uint8
    assert net.training
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_a_channel_of_a_layer_can_be_maximized():
    net, _ = make("conv")
    found = sightline.maximize(net, sightline.targets.unit("features.4", 2), steps=12, size=24)
    assert found.score > found.scores[0]
    assert found.target.label == "features.4 channel 2"
    assert found.notes == ()


def test_grey_pictures_and_reduced_precision_work():
    net = drawn(lambda: ConvNet(channels=1)).to(torch.bfloat16)
    found = sightline.maximize(net, 1, steps=3, size=16)
    assert found.image.shape == (16, 16)
    assert np.isfinite(found.values).all()


def test_a_target_that_never_answers_is_noted():
    net = drawn(LinearNet)
    nn.init.zeros_(net.head.weight)
    found = sightline.maximize(sightline.load(net, preprocessing=PLAIN), 1, steps=3)
    assert "the score did not rise" in found.notes[0]


def test_it_is_saved_as_a_card_a_picture_and_numbers(tmp_path):
    found = sightline.maximize(linear(), 1, steps=3)
    assert pixels(found.save(tmp_path / "card.png")).shape[1] > 800
    assert np.array_equal(pixels(found.save(tmp_path / "plain.png", draw="image")), found.image)
    with np.load(found.save(tmp_path / "all.npz")) as saved:
        assert np.array_equal(saved["values"], found.values)
        assert json.loads(str(saved["about"]))["scores"] == list(found.scores)
    with pytest.raises(ParameterError, match=r"ends in .png or .npz"):
        found.save(tmp_path / "x.jpg")


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        ("top1", {}, TargetError, "here is none; name a class"),
        (9, {}, TargetError, "the model has 5 classes"),
        (1, {"steps": 0}, ParameterError, "steps=0: wanted a whole number of at least 1"),
        (1, {"size": 0}, ParameterError, "size=0: wanted a whole number above 0"),
        (1, {"rate": float("nan")}, ParameterError, "rate=nan: wanted a number of at least 0"),
        (1, {"parametrization": "cppn"}, ParameterError, "wanted one of fourier, pixel"),
        (sightline.targets.unit("nope", 1), {}, LayerError, "there is no layer 'nope'"),
    ],
)
def test_what_cannot_be_maximized_is_refused(target, options, error, message):
    with pytest.raises(error, match=message):
        sightline.maximize(make("conv")[0], target, **options)


def test_series_and_functions_are_refused():
    with pytest.raises(RefusedError, match="maximize draws pictures of 1 or 3 channels"):
        sightline.maximize(make("signal")[0], 1)
    with pytest.raises(RefusedError, match="do not depend on what was read"):
        sightline.maximize(NoGradient(), 1, size=16)


class NoGradient(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = drawn(ConvNet)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.body(x)


# --- counterfactuals ------------------------------------------------------------------------------------------------


class Patches(nn.Module):
    """Four by four patches, a position-dependent head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Tanh())
        self.head = nn.Linear(6 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


def naive(net: Patches, image: Tensor, other: Tensor, target: int) -> list[tuple[int, int]]:
    a, b = net.body(image).flatten(2), net.body(other).flatten(2)
    swaps: list[tuple[int, int]] = []
    while int(net.head(a.flatten(1)).argmax()) != target:
        pairs = itertools.product(
            [i for i in range(9) if i not in [s[0] for s in swaps]],
            [j for j in range(9) if j not in [s[1] for s in swaps]],
        )
        best = max(pairs, key=lambda p: float(torch.log_softmax(net.head(swapped(a, b, *p).flatten(1)), 1)[0, target]))
        swaps.append(best)
        a = swapped(a, b, *best)
    return swaps


def swapped(a: Tensor, b: Tensor, i: int, j: int) -> Tensor:
    copy = a.clone()
    copy[:, :, i] = b[:, :, j]
    return copy


def patches() -> tuple[sightline.Model, Tensor, Tensor]:
    net = drawn(Patches, seed=3).double()
    x = 2 * torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    answers = net(x).argmax(1)
    other = next(n for n in range(24) if answers[n] != answers[0])
    return sightline.load(net), x[:1], x[other : other + 1]


@torch.no_grad()
def test_the_swaps_are_those_of_a_naive_greedy_loop():
    model, image, other = patches()
    target = int(model.module(other).argmax())
    found = sightline.counterfactual(model, image, other, layer="body")
    assert [(s.cell[0] * 3 + s.cell[1], s.other[0] * 3 + s.other[1]) for s in found.swaps] == naive(
        model.module, image, other, target
    )
    assert found.target.index == target
    assert found.source.index == int(model.module(image).argmax())
    assert [s.lead > 0 for s in found.swaps] == [False] * (len(found.swaps) - 1) + [True]
    assert found.start == pytest.approx(float(torch.log_softmax(model.module(image), 1)[0, target]))
    said = f"the model says class {target} instead of class {found.source.index}"
    assert found.notes == (f"with {len(found.swaps)} of 9 cells swapped {said}",)
    again = sightline.counterfactual(model, image, other, layer="body", chunk=1)
    assert again.to_dict() == found.to_dict()


def test_fewer_pairs_are_those_that_the_gradient_favours():
    model, image, other = patches()
    found = sightline.counterfactual(model, image, other, layer="body", pairs=20)
    assert "the 20 pairs that the gradient favours were tried, of up to 81" in found.notes[1]
    assert found.swaps[-1].lead > 0


def test_boxes_are_the_cells_in_pixels():
    model, image, other = patches()
    found = sightline.counterfactual(model, image, other, layer="body")
    for swap, box in zip(found.swaps, found.boxes(), strict=True):
        row, column = swap.cell
        assert box == (4 * column, 4 * row, 4 * column + 4, 4 * row + 4)


def test_a_counterfactual_is_saved(tmp_path):
    found = sightline.counterfactual(*patches(), layer="body")
    assert pixels(found.save(tmp_path / "card.png")).shape[1] > 800
    assert json.loads(found.save(tmp_path / "a.json").read_text())["swaps"][0]["score"] == found.swaps[0].score
    with pytest.raises(ParameterError, match=r"ends in .png or .json"):
        found.save(tmp_path / "x.npz")


def test_what_has_no_counterfactual_is_refused():
    model, image, other = patches()
    with pytest.raises(RefusedError, match="of the image already; give an image of another class"):
        sightline.counterfactual(model, image, image, layer="body")
    with pytest.raises(TargetError, match="is no class"):
        sightline.counterfactual(model, image, other, layer="body", target=sightline.targets.contrast(0, 1))
    with pytest.raises(ImageError, match="a tensor of 2 images came"):
        sightline.counterfactual(model, torch.cat((image, other)), other, layer="body")
    with pytest.raises(ParameterError, match="one layer; 2 came"):
        sightline.counterfactual(model, image, other, layer=["body", "body.0"])
    with pytest.raises(ParameterError, match="most=0: wanted a whole number of at least 1"):
        sightline.counterfactual(model, image, other, most=0)
    with pytest.raises(ImageError, match="wanted one shape"):
        sightline.counterfactual(make("conv")[0], torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 20))
    needed = len(sightline.counterfactual(model, image, other, layer="body").swaps)
    if needed > 1:
        with pytest.raises(RefusedError, match=r"after 1 swaps .* allow more of them"):
            sightline.counterfactual(model, image, other, layer="body", most=1)


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for n in (2, 5):
        Image.fromarray(scene(n).image).save(tmp_path / f"{n}.png")
    return tmp_path


def test_maximize_writes_a_card_and_numbers_for_each_target(work):
    run = command(
        work, "maximize", "demo/honest", "-t", "star,9", "-u", "block3:1", "--steps", "2", "--out", "o", "--json"
    )
    data = json.loads(run.stdout)
    assert run.returncode == 2
    labels = [m["target"]["label"] for m in data["maximized"]]
    assert labels[0] == "star"
    assert all((work / f).exists() for m in data["maximized"] for f in m["files"].values())
    assert data["errors"][0]["message"].startswith("class 9: the model has")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["maximize", "demo/honest"], "Give --target CLASS or --unit LAYER:N"),
        (["maximise", "demo/honest", "-t", "top1"], "name a class"),
        (["counterfactual", "2.png", "2.png", "-m", "demo/honest"], "of the image already"),
    ],
)
def test_a_failure_is_one_line(work, arguments, says):
    assert says in error_line(command(work, *arguments))


def test_counterfactual_writes_a_card_and_numbers(work):
    run = command(work, "counterfactual", "2.png", "5.png", "-m", "demo/honest", "--pairs", "100", "--out", "o")
    assert run.returncode == 0, run.stderr
    assert sorted(p.suffix for p in (work / "o").iterdir()) == [".json", ".png"]
    assert "swaps → o/2.5.demo_honest.counterfactual.png" in run.stdout
