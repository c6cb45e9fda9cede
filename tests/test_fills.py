"""What covers an image: colours in the model's own units, and surroundings continued."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from sightline.errors import ParameterError
from sightline.geometry import Preprocessing
from sightline.inpainting import inpaint
from sightline.methods import METHODS
from sightline.methods.perturbation import covering
from sightline.models.load import load
from sightline.points import Colour, baseline_of
from sightline.recording import Options, record

X = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
FILLED = sorted(name for name, m in METHODS.items() if "fill" in m.parameters)
OPTIMISED = ("extremal_perturbation", "meaningful_perturbation", "opti_cam")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    return nn.Sequential(*layers).double().requires_grad_(False)


def at(colour, channels: int = 3, **how) -> list[float]:
    usual = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    found = baseline_of(colour, torch.zeros(1, channels, 2, 2), Preprocessing(**usual | how), 0)
    return [round(float(v), 6) for v in found[0, :, 0, 0]]


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("teal", (0, 128, 128)), ("#0080ff", (0, 128, 255)), ("#08f", (0, 136, 255)), ("Teal", (0, 128, 128)),
        ("1,2,3", (1, 2, 3)), (" 1, 2.5, 3 ", (1, 2.5, 3)), ("rgb(1,2,3)", (1, 2, 3)), ("128", (128,)), (128, (128,)),
    ],
    ids=str,
)  # fmt: skip
def test_colours_are_read(text, levels):
    assert Colour.read(text).levels == levels


@pytest.mark.parametrize(
    "text", ["taupe", "", "1,2,300", "-1", "nan", "inf", "#12", "1,,2", None, torch.ones(3)], ids=str
)
def test_what_is_no_colour_is_not_read(text):
    assert Colour.read(text) is None


def test_colours_become_the_models_units():
    assert at("#ff8000") == [1, round(128 / 255, 6), 0]
    assert at("#ff8000", order="bgr") == [0, round(128 / 255, 6), 1]
    assert at("255,0,0", mean=(0.5,) * 3, std=(0.25,) * 3) == [2, -2, -2]
    assert at("51", scale=1.0) == [51, 51, 51]
    assert at("51", channels=1) == at("51,51,51", channels=1) == at("#333333", channels=1) == [0.2]
    assert at("#ff0000", channels=1) == [0.299]
    assert at("0,51,102,153", channels=4) == [0, 0.2, 0.4, 0.6]
    assert at("white") == at("#fff")
    assert at("black") == at("0,0,0")


def test_colours_of_other_channels_are_refused():
    with pytest.raises(ParameterError, match="the colour teal has 3 channels and the input 4"):
        at("teal", channels=4)
    with pytest.raises(ParameterError, match="'no such' is no baseline"):
        at("no such")


def test_a_colour_serves_as_baseline_and_as_fill_and_is_saved(net, tmp_path):
    wanted = baseline_of("#336699", X, load(net).preprocessing, 0)
    for method, name in (("integrated_gradients", "baseline"), ("feature_ablation", "fill")):
        ours, theirs = (sightline.explain(net, X, method, 1, **{name: v})[0] for v in ("#336699", wanted))
        assert np.allclose(ours.attribution, theirs.attribution, atol=1e-7)
        assert sightline.Explanation.load(ours.save(tmp_path / "one.json")).parameters[name] == "#336699"


@pytest.mark.parametrize(
    ("method", "given", "words"),
    [
        (
            "occlusion",
            {"fill": "taupe"},
            r"occlusion.fill='taupe': wanted one of .*inpaint, a colour \(a name",
        ),
        ("rise", {"fill": "inpant"}, "Did you mean inpaint"),
        (
            "integrated_gradients",
            {"baseline": "inpaint"},
            "baseline='inpaint': wanted one of .*uniform, a colour",
        ),
        ("lime", {"fill": torch.zeros(4, 4)}, "lime: baseline of shape"),
        ("kernel_shap", {"segments": torch.zeros(4, 4, dtype=torch.long)}, "kernel_shap: segments of shape"),
        ("shapley_sampling", {"samples": 0}, "shapley_sampling.samples=0: wanted a whole number of at least 2"),
        ("sobol", {"count": 0}, "sobol.count=0: wanted a whole number of at least 1"),
    ],
)
def test_wrong_fills_segments_and_budgets_name_the_method_and_what_will_do(net, method, given, words):
    with pytest.raises(ParameterError, match=words):
        sightline.explain(net, X, method, 1, **given)


def test_fills_and_segments_of_each_image_go_with_their_batch(net):
    fills, segments = torch.randn(3, 3, 8, 8), torch.randint(0, 3, (3, 8, 8))
    x = torch.cat((X, X[:1] + 1))
    together = sightline.explain(net, x, "feature_ablation", 1, fill=fills, segments=segments, batch_size=2)
    for i, e in enumerate(together):
        said = {"fill": fills[i], "segments": segments[i]}
        (alone,) = sightline.explain(net, x[i : i + 1], "feature_ablation", 1, **said)
        assert np.allclose(e.attribution, alone.attribution, atol=1e-7)


# Surroundings continued.


def hole(size: tuple[int, ...], *sides: slice) -> Tensor:
    known = torch.ones(1, 1, *size, dtype=torch.bool)
    known[(0, 0, *sides)] = False
    return known


def solved(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The harmonic filling of one channel, by solving for the mean of the neighbours with the border repeated."""
    places = np.argwhere(~known)
    number = {tuple(p): i for i, p in enumerate(places)}
    matrix, wanted = np.eye(len(places)), np.zeros(len(places))
    for p, i in number.items():
        for axis in range(x.ndim):
            for step in (-1, 1):
                q = list(p)
                q[axis] = min(max(q[axis] + step, 0), x.shape[axis] - 1)
                if tuple(q) in number:
                    matrix[i, number[tuple(q)]] -= 1 / (2 * x.ndim)
                else:
                    wanted[i] += x[tuple(q)] / (2 * x.ndim)
    filled = x.copy()
    filled[~known] = np.linalg.solve(matrix, wanted)
    return filled


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        ((24,), (slice(5, 17),)),
        ((20, 24), (slice(4, 15), slice(0, 13))),
        ((8, 9, 7), (slice(2, 7), slice(0, 5), slice(3, 6))),
    ],
    ids=["series", "picture", "volume"],
)
def test_inpainting_is_nearly_the_harmonic_filling(size, sides):
    grid = torch.stack(torch.meshgrid(*(torch.linspace(0, 1, s, dtype=torch.float64) for s in size), indexing="ij"))
    x, known = (torch.sin(3 * grid.sum(0)) + grid[0])[None, None], hole(size, *sides)
    found, wanted = inpaint(x, known)[0, 0].numpy(), solved(x[0, 0].numpy(), known[0, 0].numpy())
    assert np.array_equal(found[known[0, 0]], x[0, 0].numpy()[known[0, 0]])
    assert np.abs(found - wanted).max() < 0.03 * np.ptp(wanted)


def test_inpainting_keeps_to_the_range_of_what_is_known():
    x, known = torch.randn(2, 3, 17, 23), torch.rand(2, 1, 17, 23) > 0.9
    found = inpaint(x, known)
    for image, where in zip(range(2), known[:, 0], strict=True):
        for channel in range(3):
            seen = x[image, channel][where]
            assert found[image, channel].min() >= seen.min() - 1e-5
            assert found[image, channel].max() <= seen.max() + 1e-5


def test_where_nothing_is_known_all_is_the_images_mean():
    found = inpaint(X, torch.zeros(1, 1, 8, 8, dtype=torch.bool))
    assert torch.allclose(found, X.mean((2, 3), keepdim=True).expand_as(X))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_is_covered_does_not_show_through(net, dtype):
    x, known = X.to(dtype), hole((8, 8), slice(2, 6), slice(2, 6))
    other = torch.where(known, x, torch.full_like(x, 50))
    assert torch.equal(inpaint(x, known), inpaint(other, known))
    assert inpaint(x, known).dtype == dtype


@pytest.mark.parametrize("fill", ["zero", "blur", "inpaint", "#336699"])
def test_what_is_kept_is_kept_exactly(net, fill):
    rec = record(load(net), X, Options(from_input=False))
    keep = torch.ones(8, 8)
    keep[2:5, 3:] = 0
    found = covering(rec, fill)(keep)
    assert torch.equal(found[..., keep > 0], X[..., keep > 0])
    assert not torch.isclose(found[..., keep == 0], X[..., keep == 0]).all()


def test_a_window_in_a_flat_picture_is_nothing_when_it_is_inpainted(net):
    flat = torch.full((1, 3, 8, 8), 0.7, dtype=torch.float64)
    (e,) = sightline.explain(net, flat, "occlusion", 1, fill="inpaint")
    assert np.abs(e.attribution).max() < 1e-12


@pytest.mark.parametrize("method", FILLED)
def test_every_method_with_a_fill_takes_all_of_them(method):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)).double()
    few = {
        k: v
        for k, v in {"samples": 20, "evaluations": 20, "segments": "grid", "steps": 3}.items()
        if k in METHODS[method].parameters
    }
    learned = () if method in OPTIMISED else ("inpaint",)  # a hole that moves while it is learned cannot be filled so
    fills = (*learned, "#808080", "mean")
    maps = [sightline.explain(net, X[:1], method, 1, fill=f, **few)[0].attribution for f in fills]
    assert all(np.isfinite(m).all() for m in maps)
