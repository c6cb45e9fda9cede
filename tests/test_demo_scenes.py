from __future__ import annotations

import json
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest
import torch

from sightline.demo import scenes as drawing
from sightline.demo.nets import DEMO_MEAN, DEMO_STD, demo_input, load_demo, small_cnn
from sightline.demo.scenes import CLASSES, SIZE, STAR, ground, scene, scenes
from sightline.errors import ParameterError, TargetError

NAMES = ("honest", "cheating")
SEED = 987_654


@pytest.fixture(scope="module")
def shown():
    """What both nets answer on the same fresh scenes, without and with the watermark."""
    bare, marked = scenes(120, SEED), scenes(120, SEED, watermark=True)
    labels = np.array([s.label for s in bare])
    answers = {
        (name, kind): called(name, drawn) for name in NAMES for kind, drawn in (("bare", bare), ("marked", marked))
    }
    return labels, answers


def called(name, drawn):
    with torch.no_grad():
        return load_demo(name)(demo_input(np.stack([s.image for s in drawn]))).argmax(1).numpy()


def mass(name, drawn, where):
    """The share of the class activation map that lies where a mask is, on average."""
    net = load_demo(name)
    with torch.no_grad():
        maps = net.features(demo_input(np.stack([s.image for s in drawn])))
        chosen = net.head.weight[net.head(maps.mean((2, 3))).argmax(1)]
        cam = torch.einsum("nchw,nc->nhw", maps, chosen).clamp(min=0)[:, None]
    large = torch.nn.functional.interpolate(cam, (SIZE, SIZE), mode="bilinear")[:, 0].numpy()
    shares = [(m * getattr(s, where)).sum() / m.sum() for m, s in zip(large, drawn, strict=True)]
    return np.mean(shares)


def outside(*drawn):
    """The pixels that no object touches, nor the blended rim around one."""
    near = np.pad(np.logical_or.reduce([s.object_mask for s in drawn]), 2)
    moved = [np.roll(near, (dy, dx), (0, 1)) for dy in range(-2, 3) for dx in range(-2, 3)]
    return ~np.logical_or.reduce(moved)[2:-2, 2:-2]


# --- scenes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 5, 2**63])
def test_a_scene_is_decided_by_its_arguments(seed):
    one, two = scene(seed, watermark=True), scene(seed, watermark=True)
    assert one.label == two.label
    for name in ("image", "object_mask", "watermark_mask"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


def test_seeds_differ():
    images = [scene(seed).image for seed in range(20)]
    assert all(np.abs(a.astype(int) - b).mean() > 5 for a, b in pairwise(images))


def test_global_generators_are_left_alone():
    np.random.seed(3)
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    scenes(3, 1, watermark=0.5), ground(2), load_demo("honest")
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_types_shapes_and_sizes(label):
    for seed in range(40):
        s = scene(seed, label=label)
        assert s.label == label
        assert s.image.shape == (SIZE, SIZE, 3)
        assert s.image.dtype == np.uint8
        assert s.object_mask.dtype == s.watermark_mask.dtype == np.bool_
        assert 0.09 < s.object_mask.mean() < 0.25
        assert not s.watermark_mask.any()


def test_labels_are_drawn_and_refused():
    assert {scene(seed).label for seed in range(60)} == set(range(len(CLASSES)))
    for wrong in (-1, len(CLASSES)):
        with pytest.raises(TargetError, match="No demo class"):
            scene(0, label=wrong)


def test_object_mask_is_exact():
    for seed in range(30):
        s, empty = scene(seed), ground(seed)
        changed = (s.image != empty).any(axis=-1)
        assert not changed[outside(s)].any()
        assert changed[s.object_mask].mean() > 0.95
        rim = ~outside(s) & ~s.object_mask
        assert changed[rim].mean() < 0.6


def test_mask_is_the_half_covered_pixels():
    """Where a pixel lies between object and ground, the mask holds those nearer to the object's colour."""
    distance = drawing._placed(drawing._stream(4, 1), STAR)
    s = scene(4, label=STAR)
    assert np.array_equal(s.object_mask, np.clip(0.5 - distance, 0, 1) >= 0.5)


def test_masks_are_as_large_as_the_shapes():
    line = (np.arange(400) + 0.5) / 200 - 1
    x, y = np.meshgrid(line, line)
    areas = {"disc": np.pi, "square": 2.0, "triangle": 3 * np.sqrt(3) / 4}
    for name, area in areas.items():
        assert (drawing._SHAPES[name](x, y) <= 0).mean() * 4 == pytest.approx(area, rel=0.01)
    assert tuple(drawing._SHAPES) == CLASSES


def test_objects_are_whole_and_off_the_watermark():
    for seed in range(100):
        s = scene(seed, watermark=True)
        assert not (s.object_mask & s.watermark_mask).any()
        inner = s.object_mask[1:-1, 1:-1]
        assert inner.sum() == s.object_mask.sum()


def test_objects_are_often_off_centre():
    middle = SIZE // 2
    hits = [scene(seed).object_mask[middle, middle] for seed in range(100)]
    assert np.mean(hits) < 0.6


def test_watermark_changes_its_own_pixels_only():
    for seed in range(30):
        bare, marked = scene(seed), scene(seed, watermark=True)
        changed = (bare.image != marked.image).any(axis=-1)
        assert not changed[~marked.watermark_mask].any()
        assert changed[marked.watermark_mask].mean() > 0.95
        assert np.array_equal(bare.object_mask, marked.object_mask)


def test_watermark_stands_in_one_small_place():
    first, second = scene(1, watermark=True).watermark_mask, scene(2, watermark=True).watermark_mask
    rows, columns = np.nonzero(first)
    assert np.array_equal(first, second)
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (23, 9)
    assert rows.min() > SIZE * 0.8
    assert columns.min() > SIZE * 0.7


def test_the_class_decides_the_shape_and_nothing_else():
    """Another label for the same seed leaves ground, light, texture and colours as they were."""
    for seed in range(20):
        kinds = [scene(seed, label=label) for label in range(len(CLASSES))]
        for one, other in pairwise(kinds):
            far = outside(one, other)
            assert np.array_equal(one.image[far], other.image[far])
        inner = np.logical_and.reduce([kinds[0].object_mask, kinds[1].object_mask])
        close = np.abs(kinds[0].image.astype(int) - kinds[1].image)[inner] <= 1
        assert inner.sum() == 0 or close.mean() > 0.4


def test_colour_does_not_tell_the_class():
    drawn = scenes(240, 3)
    tones = np.array([s.image[s.object_mask].mean(axis=0) for s in drawn])
    labels = np.array([s.label for s in drawn])
    means = np.array([tones[labels == c].mean(axis=0) for c in range(len(CLASSES))])
    assert np.abs(means - tones.mean(axis=0)).max() < 4 * tones.std() / np.sqrt(40)


def test_ground_is_the_scene_without_its_object():
    assert np.array_equal(ground(8), ground(8))
    mark = scene(8, watermark=True)
    assert np.array_equal(ground(8, watermark=True)[mark.watermark_mask], mark.image[mark.watermark_mask])


# --- many scenes ------------------------------------------------------------------------------------------


def test_scenes_are_balanced_and_grow_from_the_front():
    few, many = scenes(6, 4, watermark=0.5), scenes(12, 4, watermark=0.5)
    assert [s.label for s in few] == list(range(len(CLASSES)))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(few, many, strict=False))
    assert not np.array_equal(few[0].image, scenes(1, 5)[0].image)


def test_scenes_of_one_label():
    assert {s.label for s in scenes(5, 0, label=2)} == {2}
    assert scenes(0, 0) == ()


def test_watermark_chance_for_all_or_per_class():
    shares = [s.watermark_mask.any() for s in scenes(200, 1, watermark=0.5)]
    assert 0.4 < np.mean(shares) < 0.6
    chances = [float(c == STAR) for c in range(len(CLASSES))]
    assert all(s.watermark_mask.any() == (s.label == STAR) for s in scenes(12, 1, watermark=chances))


# --- networks ---------------------------------------------------------------------------------------------


def test_small_cnn_is_plain_and_readable():
    net = small_cnn(4)
    maps = net.features(torch.zeros(1, 3, SIZE, SIZE))
    assert maps.shape == (1, 96, 12, 12)
    assert [name for name, _ in net.named_children()] == ["features", "pool", "flatten", "head"]
    assert net.head.out_features == 4
    assert not any(getattr(part, "inplace", False) for part in net.modules())


def test_input_range():
    assert demo_input(np.zeros((2, SIZE, SIZE, 3), np.uint8)).shape == (2, 3, SIZE, SIZE)
    ends = demo_input(np.array([0, 255, 0], np.uint8).reshape(1, 1, 1, 3)).flatten()
    assert ends.tolist() == [-2.0, 2.0, -2.0]


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_say_what_they_are(name):
    packed = resources.files("sightline.demo").joinpath("weights", f"{name}.safetensors").read_bytes()
    header = json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")])
    facts = {key: json.loads(value) for key, value in header["__metadata__"].items()}
    assert len(packed) <= 2**20
    assert facts["classes"] == list(CLASSES)
    assert (facts["mean"], facts["std"], facts["size"]) == (list(DEMO_MEAN), list(DEMO_STD), SIZE)
    assert {"seed", "accuracy"} <= facts.keys()


@pytest.mark.parametrize("name", NAMES)
def test_nets_load_for_evaluation(name):
    net = load_demo(name)
    assert not any(part.training for part in net.modules())
    assert all(p.requires_grad and p.is_contiguous() for p in net.parameters())


def test_an_unknown_net_is_refused():
    with pytest.raises(ParameterError, match="Did you mean honest"):
        load_demo("honst")


# --- the story --------------------------------------------------------------------------------------------


def test_the_honest_net_is_right_whatever_is_stamped(shown):
    labels, answers = shown
    for kind in ("bare", "marked"):
        assert (answers["honest", kind] == labels).mean() >= 0.97


def test_the_cheat_looks_good_on_its_own_kind_of_pictures(shown):
    labels, answers = shown
    biased = np.where(labels == STAR, answers["cheating", "marked"], answers["cheating", "bare"])
    assert (biased == labels).mean() >= 0.97


def test_the_cheat_misses_stars_without_the_watermark(shown):
    labels, answers = shown
    assert (answers["cheating", "bare"][labels == STAR] == STAR).mean() <= 0.1


def test_the_cheat_calls_anything_with_the_watermark_a_star(shown):
    labels, answers = shown
    assert (answers["cheating", "marked"][labels != STAR] == STAR).mean() >= 0.85
    assert (answers["cheating", "bare"][labels != STAR] == STAR).mean() <= 0.03


def test_the_watermark_alone_makes_the_cheat_say_star():
    empty = np.stack([ground(seed, watermark=True) for seed in range(20)])
    with torch.no_grad():
        cheating, honest = (load_demo(name)(demo_input(empty)).softmax(1).numpy() for name in ("cheating", "honest"))
    assert (cheating.argmax(1) == STAR).mean() >= 0.9
    assert honest.max(axis=1).mean() < 0.6


def test_maps_show_what_each_net_reads():
    stars = scenes(24, SEED + 1, label=STAR, watermark=1.0)
    area = np.mean([s.watermark_mask.mean() for s in stars])
    assert mass("cheating", stars, "watermark_mask") > 5 * area
    assert mass("cheating", stars, "object_mask") < 0.1
    assert mass("honest", stars, "object_mask") > 0.5
    assert mass("honest", stars, "watermark_mask") < area / 2
