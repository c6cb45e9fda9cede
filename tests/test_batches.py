"""Examples by key, their order, and the weights of classes."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.errors import InputError
from sightline.geometry import Preprocessing, prepare
from sightline.images import read_image
from sightline.training.augment import read_augmentation
from sightline.training.batches import Examples, epoch_seed, order, weights_of_classes
from sightline.training.data import Part

HOW = Preprocessing(resize=(12, 20), crop=None)
PART = Part(np.random.default_rng(0).integers(0, 256, (5, 24, 30, 3), dtype=np.uint8), np.array([0, 1, 1, 0, 1]))


def test_without_augmentation_examples_are_what_the_model_is_given_when_it_explains() -> None:
    x, label = Examples(PART, HOW)[(3, 2)]
    assert torch.equal(x, prepare(read_image(PART.images[2]), HOW)[0])
    assert x.shape == (3, 12, 20)
    assert int(label) == 1


def test_a_key_gives_one_tensor_in_any_order_and_another_epoch_another() -> None:
    one, two = (Examples(PART, HOW, augmentation=read_augmentation("all"), seed=3) for _ in range(2))
    keys = [(e, n) for e in range(2) for n in range(5)]
    there, back = {k: one[k][0] for k in keys}, {k: two[k][0] for k in reversed(keys)}
    assert all(torch.equal(there[k], back[k]) for k in keys)
    assert not torch.equal(there[0, 1], there[1, 1])
    other = Examples(PART, HOW, augmentation=read_augmentation("all"), seed=4)
    assert not torch.equal(there[0, 1], other[0, 1][0])


_ELSEWHERE = """
import numpy as np, sys
from sightline.geometry import Preprocessing
from sightline.training.augment import read_augmentation
from sightline.training.batches import Examples, epoch_seed, order
from sightline.training.data import Part
np.random.seed(9)
part = Part(np.random.default_rng(0).integers(0, 256, (5, 24, 30, 3), dtype=np.uint8), np.array([0, 1, 1, 0, 1]))
examples = Examples(part, Preprocessing(resize=(12, 20), crop=None), augmentation=read_augmentation("all"), seed=3)
sys.stdout.write(examples[(1, 4)][0].numpy().tobytes().hex() + f" {order(9, 4, 1)} {epoch_seed(2, 3)}")
"""


@pytest.mark.slow
def test_a_key_gives_one_tensor_in_any_process() -> None:
    found = subprocess.run([sys.executable, "-c", _ELSEWHERE], capture_output=True, text=True, check=True).stdout
    ours = Examples(PART, HOW, augmentation=read_augmentation("all"), seed=3)[(1, 4)][0]
    assert found == f"{ours.numpy().tobytes().hex()} {order(9, 4, 1)} {epoch_seed(2, 3)}"


def test_files_and_series_are_examples_too(tmp_path: Path) -> None:
    Image.fromarray(PART.images[0]).save(tmp_path / "a.png")
    x, _ = Examples(Part([str(tmp_path / "a.png")], np.array([0])), HOW)[(0, 0)]
    assert torch.equal(x, Examples(PART, HOW).plain(0))
    series = np.arange(12, dtype=np.float32).reshape(2, 6)
    how = Preprocessing(resize=None, crop=None, mean=(1.0,), std=(2.0,), scale=1.0)
    x, _ = Examples(Part(series, np.array([0, 1])), how, dims=1)[(0, 1)]
    np.testing.assert_allclose(x, [(series[1] - 1) / 2])


def test_each_epoch_has_an_order_of_its_own() -> None:
    epochs = [order(50, e, seed=1) for e in range(4)]
    assert all(sorted(n for _, n in keys) == list(range(50)) for keys in epochs)
    assert all({e for e, _ in keys} == {i} for i, keys in enumerate(epochs))
    numbers = [[n for _, n in keys] for keys in epochs]
    assert all(a != b for a, b in itertools.combinations(numbers, 2))
    assert order(50, 2, seed=1) == epochs[2]
    assert [n for _, n in order(50, 2, seed=2)] != numbers[2]


def test_an_epoch_of_so_many_steps_ends_early_or_goes_round() -> None:
    assert order(50, 0, seed=1, most=8) == order(50, 0, seed=1)[:8]
    numbers = [n for _, n in order(4, 0, seed=1, most=10)]
    assert len(numbers) == 10
    assert sorted(numbers[:4]) == sorted(numbers[4:8]) == [0, 1, 2, 3]
    assert numbers[:4] != numbers[4:8] or numbers[4:6] != numbers[8:]
    assert len(set(numbers[8:])) == 2


def test_epochs_draw_from_seeds_of_their_own() -> None:
    seeds = {epoch_seed(seed, epoch) for seed in range(10) for epoch in range(30)}
    assert len(seeds) == 300


@pytest.mark.parametrize("counts", [[10, 30], [1, 2, 3], [5, 5, 50, 500]])
def test_rare_classes_weigh_so_much_more_that_all_weigh_the_same(counts: list[int]) -> None:
    found = weights_of_classes(counts, "balanced")
    assert found is not None
    np.testing.assert_allclose(found, [sum(counts) / (len(counts) * n) for n in counts])
    np.testing.assert_allclose(np.multiply(found, counts), sum(counts) / len(counts))


def test_only_uneven_classes_are_balanced_unless_it_is_asked() -> None:
    assert weights_of_classes([10, 15], "auto") is None
    assert weights_of_classes([10, 16], "auto") is not None
    assert weights_of_classes([10, 11], "balanced") is not None
    assert weights_of_classes([10, 10], "balanced") is None
    assert weights_of_classes([1, 1000], "none") is None


def test_a_class_without_an_image_has_no_weight() -> None:
    with pytest.raises(InputError, match="class 1 has no image to learn from"):
        weights_of_classes([3, 0, 2], "auto")
