"""Pictures and nets whose right answer is known by construction: that it is what it is said to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sightline
from sightline.demo.scenes import CLASSES
from sightline.errors import ParameterError
from sightline.evaluation.run import evaluate
from sightline.evaluation.truth.handmade import HANDMADE, HandMade, both_patches, linear_sum, one_patch, red_pixels
from sightline.evaluation.truth.maps import inside, maps_of, precision
from sightline.evaluation.truth.scenes import findings, scene_set
from sightline.evaluation.truth.tetromino import BACKGROUNDS, SCENARIOS, Trained, tetrominoes, trained
from sightline.evaluation.truth.watermark import demo_marked, detection, reliance, tiny_marked
from sightline.models.load import load

# --- nets made by hand ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", HANDMADE)
def test_the_known_parts_add_up_to_the_score(make: type[HandMade]) -> None:
    net = make(6, seed=2)
    with torch.no_grad():
        score, black = (net.model.module(x)[:, 1] for x in (net.images, 0 * net.images))
    assert torch.allclose(score - black, net.attribution.sum((1, 2)), atol=1e-5)
    assert not net.attribution[~net.truth].any()
    assert ((net.images >= 0) & (net.images <= 1)).all()


@pytest.mark.parametrize("make", HANDMADE)
def test_only_the_pixels_of_the_truth_change_the_score(make: type[HandMade]) -> None:
    net = make(4)
    elsewhere = torch.where(net.truth.unsqueeze(1), net.images, 0.5 * net.images)  # darker, and no redder
    with torch.no_grad():
        assert torch.allclose(net.model.module(elsewhere), net.model.module(net.images), atol=1e-5)
        inside_changed = torch.where(net.truth.unsqueeze(1), 0.5 * net.images, net.images)
        assert not torch.allclose(net.model.module(inside_changed), net.model.module(net.images), atol=1e-3)


def test_the_linear_net_is_explained_exactly() -> None:
    net = linear_sum()
    made = maps_of(net.model, net.images, ["input_x_gradient", "integrated_gradients", "lrp", "hires_cam"], 1)
    for method in ("input_x_gradient", "integrated_gradients"):
        np.testing.assert_allclose(made.found[method], net.attribution.numpy(), atol=1e-5)
    np.testing.assert_allclose(made.found["hires_cam"], net.attribution.clamp(min=0).numpy(), atol=1e-5)


def test_both_patches_are_shared_alike_by_what_is_symmetric() -> None:
    net = both_patches(3)
    mass = np.abs(maps_of(net.model, net.images, ["input_x_gradient"], 1).found["input_x_gradient"])
    first, second = mass[:, 2:6, 2:6].sum((1, 2)), mass[:, 9:13, 8:12].sum((1, 2))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    np.testing.assert_allclose(first + second, mass.sum((1, 2)), rtol=1e-5)


def test_one_patch_is_a_xor() -> None:
    net = one_patch(2)
    off, on = torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    with torch.no_grad():
        assert net.model.module(torch.cat((off, on)))[:, 1].abs().max() < 1e-6
        assert torch.allclose(net.model.module(net.images)[:, 1], torch.ones(2))


def test_red_pixels_counts_nothing_but_red() -> None:
    net = red_pixels(3)
    grey = net.images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    with torch.no_grad():
        assert not net.model.module(grey)[:, 1].any()


# --- scores of maps -------------------------------------------------------------------------------------------------


def _masks() -> np.ndarray:
    masks = np.zeros((400, 8, 8), bool)
    masks[:, 2:4, 2:6] = True
    return masks


def test_random_and_constant_maps_have_chance_the_truth_has_all_and_its_opposite_none() -> None:
    masks, noise = _masks(), np.random.default_rng(0).random((400, 8, 8))
    assert precision(noise, masks).mean() == pytest.approx(1 / 8, abs=0.02)
    assert inside(noise, masks).mean() == pytest.approx(1 / 8, abs=0.01)
    tied = [precision(np.ones((1, 8, 8)), masks[:1], seed)[0] for seed in range(300)]
    assert np.mean(tied) == pytest.approx(1 / 8, abs=0.03)
    oracle = masks.astype(float)
    assert precision(oracle, masks).tolist() == inside(oracle, masks).tolist() == [1.0] * 400
    assert precision(1 - oracle, masks).max() == inside(1 - oracle, masks).max() == 0


def test_an_empty_map_or_mask_has_no_number() -> None:
    masks = _masks()[:2]
    assert np.isnan(inside(np.zeros((2, 8, 8)), masks)).all()
    assert np.isnan(inside(-np.ones((2, 8, 8)), masks)).all()
    assert np.isnan(precision(np.ones((2, 8, 8)), np.zeros_like(masks))).all()


def test_scale_changes_nothing() -> None:
    masks, maps = _masks()[:5], np.random.default_rng(1).standard_normal((5, 8, 8))
    np.testing.assert_allclose(inside(1e6 * maps, masks), inside(maps, masks))
    np.testing.assert_allclose(precision(1e6 * maps, masks), precision(maps, masks))


# --- tetrominoes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_classes_differ_on_the_truth_and_nowhere_else(scenario: str, background: str) -> None:
    drawn = tetrominoes(scenario, background, 4000, seed=3)
    assert drawn.labels.float().mean() == pytest.approx(0.5)
    assert drawn.truth.sum((1, 2)).unique().tolist() == ([4] if scenario == "translation" else [8])
    np.testing.assert_allclose(drawn.images.square().mean((1, 2, 3)), 1, rtol=1e-4)
    again = tetrominoes(scenario, background, 4000, seed=3)
    assert torch.equal(drawn.images, again.images)
    if scenario in ("linear", "multiplicative") and background == "white":
        images = drawn.images[:, 0] if scenario == "linear" else drawn.images[:, 0].square()
        gap = (images[drawn.labels == 1].mean(0) - images[drawn.labels == 0].mean(0)).abs()
        assert gap[drawn.truth[0]].min() > 4 * gap[~drawn.truth[0]].mean()


def test_no_pixel_alone_tells_the_xor() -> None:
    drawn = tetrominoes("xor", "white", 8000)
    gap = (drawn.images[drawn.labels == 1].mean(0) - drawn.images[drawn.labels == 0].mean(0)).abs()
    assert gap.max() < 0.1
    together = drawn.images[:, 0, 2, 2] * drawn.images[:, 0, 4, 5]
    assert together[drawn.labels == 0].mean() > 0.5 > -0.5 > together[drawn.labels == 1].mean()


def test_an_unknown_scenario_is_said() -> None:
    with pytest.raises(ParameterError, match="linear, multiplicative, translation, xor"):
        tetrominoes("rotated", "white", 2)


@pytest.fixture(scope="module")
def linear_net() -> Trained:
    drawn, unseen = (tetrominoes("linear", "white", n, i) for i, n in enumerate((1000, 400)))
    return trained(drawn, unseen, "tiny", epochs=6)


def test_a_tiny_net_learns_in_seconds_and_alike_each_time(linear_net: Trained) -> None:
    state = torch.random.get_rng_state()
    drawn, unseen = (tetrominoes("linear", "white", n, i) for i, n in enumerate((1000, 400)))
    again = trained(drawn, unseen, "tiny", epochs=6)
    assert torch.equal(state, torch.random.get_rng_state())
    assert again.model.weights_hash == linear_net.model.weights_hash
    assert again.accuracy == linear_net.accuracy > 0.8


def test_what_a_net_learned_is_found_better_than_by_chance(linear_net: Trained) -> None:
    shown = tetrominoes("linear", "white", 40, 9)
    made = maps_of(linear_net.model, shown.images, ["input_x_gradient", "random"], shown.labels.tolist())
    found = {m: precision(maps, shown.truth.numpy()).mean() for m, maps in made.found.items()}
    assert found["input_x_gradient"] > 0.5 > 0.25 > found["random"]


# --- watermark ------------------------------------------------------------------------------------------------------


def test_only_the_net_that_saw_the_mark_on_one_class_relies_on_it() -> None:
    honest, cheating = demo_marked(10)
    assert (honest.condition, cheating.condition) == ("independent", "dependent")
    assert reliance(honest) == 0
    assert reliance(cheating) > 0.5


def test_what_tells_the_nets_apart_is_the_map_of_the_one_that_relies_on_the_mark() -> None:
    nets = {m.condition: m for m in tiny_marked(count=30, taught=800)}
    relied = {c: reliance(m) for c, m in nets.items()}
    assert relied["dependent"] > 0.3 > max(abs(relied["absent"]), abs(relied["independent"]))
    shares = {}
    for c, m in nets.items():
        made = maps_of(m.model, m.stamped, ["integrated_gradients", "edges"], m.target)
        shares[c] = {name: inside(maps, np.broadcast_to(m.mask, maps.shape)) for name, maps in made.found.items()}
    for other in ("absent", "independent"):
        assert detection(*(shares[c]["integrated_gradients"] for c in ("dependent", other))).mean() > 0.8
        assert detection(*(shares[c]["edges"] for c in ("dependent", other))).mean() == pytest.approx(0.5)


def test_detection_is_the_area_under_the_roc_curve() -> None:
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(0)
    using, ignoring = rng.normal(1, 1, 40), rng.normal(0, 1, 30)
    wanted = mannwhitneyu(using, ignoring).statistic / (40 * 30)
    assert detection(using, ignoring).mean() == pytest.approx(wanted)
    assert np.isnan(detection(np.array([np.nan, 1.0]), ignoring)).tolist() == [True, False]


# --- scenes as a folder ---------------------------------------------------------------------------------------------


def test_half_of_each_class_is_stamped_so_the_watermark_tells_no_class() -> None:
    drawn = scene_set(60)
    stamped = [name for name, s in drawn.scenes.items() if s.watermark_mask.any()]
    assert len(drawn.scenes) == 60
    assert [sum(c in name for name in stamped) for c in CLASSES] == [5] * 6
    assert all(("stamped" in name) == (name in drawn.plain) for name in drawn.scenes)
    for name, plain in drawn.plain.items():
        changed = (plain.image != drawn.scenes[name].image).any(-1)
        assert (changed <= drawn.scenes[name].watermark_mask).all()
    assert list(scene_set(60, seed=1).plain) != list(drawn.plain)


def test_a_seed_for_the_scenes_that_fewer_do_not_change() -> None:
    assert len(scene_set(7).plain) in (3, 4)
    assert np.array_equal(*(next(iter(scene_set(6).scenes.values())).image for _ in range(2)))
    with pytest.raises(ParameterError, match="at least 1"):
        scene_set(0)


def test_the_cheating_model_is_caught_and_the_honest_one_is_not() -> None:
    drawn = scene_set(24)
    assert findings(load("demo/honest"), drawn) == ()
    (said,) = findings(load("demo/cheating"), drawn)
    assert said.startswith("demo/cheating decides by the watermark: taking it off changes the answer on ")


def test_scenes_have_names_and_masks_as_a_folder_with_boxes_has() -> None:
    found = evaluate("demo/cheating", "demo/scenes", "gradient", "single_deletion", limit=4)
    assert found.findings
    assert sorted(found.images) == sorted(scene_set(4).scenes)
    drawn = scene_set(4)
    truth = {name: drawn.objects(sample) for name, sample in _samples(drawn).items()}
    assert all(np.array_equal(truth[name], s.object_mask) for name, s in drawn.scenes.items())
    marks = {name: drawn.watermarks(sample) for name, sample in _samples(drawn).items()}
    assert sum(m is not None for m in marks.values()) == 2


def _samples(drawn: object) -> dict[str, object]:
    from sightline.samples import samples

    def fail(failure: object) -> None:
        raise AssertionError(failure)

    return {s.name: s for s in samples(sightline.load("demo/honest"), drawn.images, fail)}
