"""TCAV: a net whose direction is known, tests that fail where they should, and the demo's two models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor, nn

import sightline
from sightline.concept.cav import Draw, chance_of, difference_p, drawn, fitted, halves
from sightline.demo.scenes import STAR, ground, scene, scenes
from sightline.errors import ImageError, InputError, LayerError, ParameterError, RefusedError, TargetError


class Known(nn.Module):
    """The score grows with red, whatever the image, and with blue or against it; green does not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        red, _, blue = self.relu(x).mean((2, 3)).unbind(1)
        score = red + 2 * (blue - 1) ** 2
        return torch.stack((score, -score), 1)


def images(count: int, seed: int, colour: tuple[float, float, float] = (0, 0, 0)) -> Tensor:
    """Noisy images (N, 3, 6, 6) around tones that differ from image to image."""
    generator = torch.Generator().manual_seed(seed)
    tones = 1 + 0.2 * torch.randn((count, 3, 1, 1), generator=generator, dtype=torch.float64)
    noise = 0.2 * torch.randn((count, 3, 6, 6), generator=generator, dtype=torch.float64)
    return tones + torch.tensor(colour, dtype=torch.float64).reshape(3, 1, 1) + noise


CLASS, RANDOM = images(40, 1), images(60, 2)
SETS = {"red": images(40, 3, (0.8, 0, 0)), "not red": images(40, 4, (-0.8, 0, 0)), "nothing": images(40, 5)}


def run(sets=SETS, **options) -> sightline.Tcav:
    how = {"target": 0, "layer": "relu", "random": RANDOM, "precision": "float64"} | options
    return sightline.tcav(sightline.load(Known()), CLASS, sets, **how)


@pytest.fixture(scope="module")
def known() -> sightline.Tcav:
    return run()


# A net whose direction is known.


def test_the_direction_that_raises_the_score_has_1_and_its_opposite_0(known: sightline.Tcav) -> None:
    red, not_red, _ = known.concepts
    assert (red.score, not_red.score) == (1, 0)
    assert red.significant
    assert not_red.significant
    assert red.direction[0] > 0.95
    assert not_red.direction[0] < -0.95
    assert min(red.accuracy, not_red.accuracy) > 0.9


def test_a_random_set_is_not_represented_and_never_significant(known: sightline.Tcav) -> None:
    nothing = known.concepts[2]
    assert 0.3 < nothing.accuracy < 0.7
    assert not nothing.represented
    assert not nothing.significant
    assert any("'nothing' is not represented" in note for note in known.notes)
    assert known.random.score == pytest.approx(0.5)
    assert not known.random.represented


@pytest.mark.parametrize("seed", range(6))
def test_other_random_sets_are_not_significant_either(seed: int) -> None:
    found = run({str(n): images(40, 100 + 10 * seed + n) for n in range(4)}, runs=10, seed=seed)
    assert sum(c.significant for c in found.concepts) <= 1


def test_the_opposite_target_turns_every_score_round(known: sightline.Tcav) -> None:
    other = run(target=1)
    for a, b in zip(known.concepts, other.concepts, strict=True):
        assert np.allclose(a.scores, 1 - np.array(b.scores))
        assert a.sensitivity == pytest.approx(-b.sensitivity)
    assert other.target == "class 1"


def test_what_a_score_is(known: sightline.Tcav) -> None:
    x = CLASS.clamp(min=0).mean((2, 3))
    gradients = torch.stack((torch.ones(40), torch.zeros(40), 4 * (x[:, 2] - 1)), 1).double()
    direction = torch.from_numpy(known.concepts[0].direction).double()
    assert float(((gradients @ direction) > 0).double().mean()) == known.concepts[0].score
    cosine = torch.nn.functional.cosine_similarity(gradients, direction.unsqueeze(0)).mean()
    assert known.concepts[0].sensitivity == pytest.approx(float(cosine), abs=0.02)


def test_a_score_that_differs_from_image_to_image() -> None:
    """Blue raises the score of those images that have more than 1 of it."""
    (blue,) = run({"blue": images(40, 6, (0, 0, 0.8))}).concepts
    share = float((CLASS.clamp(min=0).mean((2, 3))[:, 2] > 1).double().mean())
    assert blue.score == pytest.approx(share, abs=0.15)
    assert 0.2 < blue.score < 0.8
    assert blue.represented
    assert not blue.significant  # no more one-sided than random directions


def test_positions_by_themselves_as_in_the_paper() -> None:
    found = run({"red": SETS["red"]}, positions="flat", runs=6)
    assert found.concepts[0].score > 0.95
    assert found.concepts[0].direction.shape == (3 * 36,)


def test_without_random_images_concepts_are_told_from_each_other() -> None:
    found = run({k: SETS[k] for k in ("red", "not red")}, random=None)
    assert [c.score for c in found.concepts] == [1, 0]
    assert np.allclose(found.concepts[0].direction, -found.concepts[1].direction, atol=0.05)
    assert any("no random images" in note for note in found.notes)


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 7}, {}])
def test_nothing_depends_on_the_batch_size_and_a_seed_gives_the_same_again(known, options) -> None:
    again = run(**options)
    for a, b in zip(known.concepts, again.concepts, strict=True):
        assert np.allclose(a.scores, b.scores)
        assert np.allclose(a.direction, b.direction, atol=1e-6)
        assert a.p_value == pytest.approx(b.p_value)
    assert run(seed=1).concepts[2].scores != known.concepts[2].scores


def test_a_concept_has_the_same_score_whatever_others_are_tested(known: sightline.Tcav) -> None:
    (alone,) = run({"nothing": SETS["nothing"]}).concepts
    assert alone.scores == known.concepts[2].scores
    assert known.concepts[2].p_value == pytest.approx(min(1, 3 * alone.p_value))  # Bonferroni


# The statistics.


def test_the_classifier_is_scikit_learns() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 8)) + np.repeat([[1.0], [0.0]], 30, 0) * np.eye(8)[0]
    every = Draw(np.arange(30), np.arange(30))
    found = fitted(x[:30], x[30:], every, every)
    scale = np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())
    theirs = linear.LogisticRegression(C=1 / (0.01 * 60), tol=1e-8, max_iter=5000)
    theirs.fit((x - x.mean(0)) / scale, np.repeat([1, 0], 30))
    unit = theirs.coef_[0] / np.linalg.norm(theirs.coef_)
    assert np.allclose(found.direction, unit, atol=1e-3)
    assert found.right == round(60 * theirs.score((x - x.mean(0)) / scale, np.repeat([1, 0], 30)))


def test_nothing_is_learnt_from_what_is_held_out() -> None:
    for number in range(20):
        draw = drawn(30, 20, 0, number)
        assert not set(draw.learnt) & set(draw.held)
        assert len(draw.held) == 6
        first, second = halves(31, 15, 0, number)
        numbers = np.concatenate([*first, *second])
        assert len(set(numbers.tolist())) == len(numbers) == 30


def test_the_p_value_is_welchs_with_a_least_spread() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(0.4, 0.1, 12).tolist(), generator.normal(0.5, 0.3, 20).tolist()
    assert difference_p(a, b, 1e-9) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert difference_p([0.5] * 10, [0.5] * 10, 0.01) == 1
    assert 0 < difference_p([1.0] * 10, [0.5] * 10, 0.05) < 0.001


def test_the_chance_of_guessing_as_well() -> None:
    direction, learnt = np.ones(1), np.arange(3)
    fit = fitted(np.ones((9, 1)), -np.ones((9, 1)), Draw(learnt, learnt + 3), Draw(learnt, learnt + 3))
    assert (fit.right, fit.asked) == (6, 6)
    assert np.allclose(fit.direction, direction)
    assert chance_of([fit, fit]) == pytest.approx(0.5**6)


# What is given.


@pytest.mark.parametrize(
    ("sets", "options", "error", "says"),
    [
        ({}, {}, ParameterError, "wanted names"),
        ([SETS["red"]], {}, ParameterError, "wanted names"),
        ({"red": SETS["red"]}, {"random": None}, ParameterError, "must be told from something"),
        ({"red": SETS["red"][:9]}, {}, InputError, "9 different images of the concept 'red'"),
        ({"red": SETS["red"][:1].expand(30, -1, -1, -1)}, {}, InputError, "1 different images"),
        (SETS, {"random": RANDOM[:19]}, InputError, "19 different images of random"),
        (SETS, {"runs": 1}, ParameterError, "runs=1"),
        (SETS, {"positions": "some"}, ParameterError, "mean or flat"),
        (SETS, {"target": 2}, TargetError, "0 to 1"),
        (SETS, {"layer": "nowhere"}, LayerError, "no layer"),
        ({"red": "no/such/folder"}, {}, ImageError, "does not exist"),
    ],
)
def test_what_cannot_be_done_is_said(sets, options, error, says) -> None:
    with pytest.raises(error, match=says):
        run(sets, **options)


def test_too_few_images_of_the_class_are_refused() -> None:
    with pytest.raises(InputError, match="5 different images of the class"):
        sightline.tcav(sightline.load(Known()), CLASS[:5], SETS, target=0, random=RANDOM, layer="relu")


def test_an_image_in_two_sets_is_learnt_from_in_one() -> None:
    found = run({"red": SETS["red"]}, random=torch.cat((SETS["red"][:5], RANDOM, RANDOM[:3])))
    assert found.parameters["random"] == 60
    assert any("left out: 8 images" in note for note in found.notes)
    both = {"red": SETS["red"], "also red": torch.cat((SETS["red"][:30], images(10, 9, (0.8, 0, 0))))}
    assert [c.images for c in run(both).concepts] == [40, 40]
    assert [c.images for c in run(both, random=None).concepts] == [40, 10]
    own = run({"red": torch.cat((SETS["red"], CLASS[:4]))})
    assert any("4 images of 'red' are among the class's own" in note for note in own.notes)


def test_small_sets_and_flat_gradients_are_said() -> None:
    few = run({"red": SETS["red"][:12]})
    assert any("fewer than 30 images of red" in note for note in few.notes)
    net = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).double()
    found = sightline.tcav(net, CLASS, {"red": SETS["red"]}, target=0, random=RANDOM, layer="0")
    assert any("can only be 0 or 1" in note for note in found.notes)


def test_a_function_that_shows_no_layers_is_refused() -> None:
    model = sightline.load(lambda batch: batch.mean((2, 3)))
    with pytest.raises((RefusedError, LayerError), match="no layers"):
        sightline.tcav(model, CLASS.float(), {"red": SETS["red"].float()}, target=0, random=RANDOM.float())


# The demo.


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    sets = {
        "class": [s.image for s in scenes(16, 5, label=STAR, watermark=1.0)],
        "watermark": [ground(n, watermark=True) for n in range(20)],
        "star": [scene(100 + n, label=STAR).image for n in range(20)],
        "random": [ground(200 + n) for n in range(40)],
    }
    for name, pictures in sets.items():
        (root / name).mkdir()
        for n, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(root / name / f"{n:02}.png")
    return root


def by_model(name: str, folders: Path) -> sightline.Tcav:
    sets = {k: folders / k for k in ("watermark", "star")}
    return sightline.tcav(name, folders / "class", sets, target="star", random=folders / "random", runs=20)


def test_the_cheating_model_depends_on_the_watermark_and_the_honest_one_on_the_shape(folders: Path) -> None:
    cheating, honest = (by_model(f"demo/{name}", folders).concepts for name in ("cheating", "honest"))
    assert (cheating[0].score, cheating[0].significant) == (1, True)
    assert cheating[1].score < 0.1
    assert (honest[1].score, honest[1].significant) == (1, True)
    assert not (honest[0].score > 0.5 and honest[0].significant)


def test_the_default_layer_is_one_where_images_differ(folders: Path, tmp_path: Path) -> None:
    found = by_model("demo/cheating", folders)
    assert found.layer == "features.relu4"  # after the last one a linear layer follows
    assert not any("can only be 0 or 1" in note for note in found.notes)
    files = [found.save(tmp_path / f"chart.{kind}") for kind in ("png", "json", "npz")]
    with Image.open(files[0]) as picture:
        assert picture.width > 600
    about = json.loads(files[1].read_text())
    assert [c["name"] for c in about["concepts"]] == ["watermark", "star"]
    assert np.load(files[2])["directions"].shape == (2, 64)
