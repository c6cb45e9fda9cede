"""Augmentation against closed forms, and against torchvision's own affine map."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sightline.errors import ParameterError
from sightline.models.zoo import import_torchvision
from sightline.training.augment import ALL, Augmentation, read_augmentation
from sightline.training.batches import _resampled

SQUARE, WIDE = (40, 40), (20, 60)


class Fixed:
    """A generator of numbers that are known."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def random(self, count: int | None = None) -> float | np.ndarray:
        if count is None:
            return self.numbers.pop(0)
        return np.array([self.numbers.pop(0) for _ in range(count)])


def drawn(how: Augmentation, size: tuple[int, int], *numbers: float) -> np.ndarray:
    """Return the map for draws of: flips (2), turn, shear, crop, place (2)."""
    return how.matrix(Fixed(*numbers), size)  # type: ignore[arg-type]


MIDDLE = (1.0, 1.0, 0.5, 0.5, 1.0, 0.5, 0.5)


def test_nothing_asked_is_nothing_done() -> None:
    for seed in range(5):
        assert np.array_equal(Augmentation().matrix(np.random.default_rng(seed), WIDE), np.eye(2, 3))
    assert Augmentation().is_none
    assert not Augmentation(crop=0.9).is_none


@pytest.mark.parametrize("size", [SQUARE, WIDE])
def test_turning_is_by_the_angle_in_pixels(size: tuple[int, int]) -> None:
    found = drawn(Augmentation(rotate=40.0), size, 1, 1, 0.75, *MIDDLE[3:])
    turn, ratio = math.radians(20), size[0] / size[1]
    wanted = [[math.cos(turn), -math.sin(turn) * ratio, 0], [math.sin(turn) / ratio, math.cos(turn), 0]]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("size", [SQUARE, WIDE])
def test_shearing_keeps_rows_and_areas(size: tuple[int, int]) -> None:
    found = drawn(Augmentation(shear=45.0), size, 1, 1, 0.5, 1.0, *MIDDLE[4:])
    np.testing.assert_allclose(found, [[1, size[0] / size[1], 0], [0, 1, 0]], atol=1e-12)


@pytest.mark.parametrize(("draws", "signs"), [((0.4, 0.9), (-1, 1)), ((0.9, 0.4), (1, -1)), ((0.4, 0.4), (-1, -1))])
def test_mirroring_turns_a_picture_over_exactly(draws: tuple[float, float], signs: tuple[int, int]) -> None:
    found = drawn(Augmentation(hflip=0.5, vflip=0.5), WIDE, *draws, *MIDDLE[2:])
    np.testing.assert_array_equal(found, [[signs[0], 0, 0], [0, signs[1], 0]])
    x = torch.rand((3, *WIDE), generator=torch.Generator().manual_seed(0))
    dims = [2 - i for i, sign in enumerate(signs) if sign < 0]
    torch.testing.assert_close(_resampled(x, found), x.flip(dims), atol=1e-5, rtol=0)


def test_mirroring_is_as_frequent_as_asked() -> None:
    how = Augmentation(hflip=0.3, vflip=0.8)
    maps = np.stack([how.matrix(np.random.default_rng((7, i)), SQUARE) for i in range(4000)])
    shares = (maps[:, 0, 0] < 0).mean(), (maps[:, 1, 1] < 0).mean()
    np.testing.assert_allclose(shares, (0.3, 0.8), atol=4 * math.sqrt(0.25 / 4000))
    assert all((Augmentation(hflip=1.0).matrix(np.random.default_rng(i), SQUARE)[0, 0]) == -1 for i in range(20))


def test_a_crop_keeps_its_share_and_stays_within_the_picture() -> None:
    how, corners = Augmentation(hflip=0.5, crop=0.4), np.array([[-1, -1, 1, 1], [-1, 1, -1, 1], [1, 1, 1, 1]])
    maps = np.stack([how.matrix(np.random.default_rng((1, i)), WIDE) for i in range(2000)])
    areas = np.abs(np.linalg.det(maps[:, :, :2]))
    assert areas.min() >= 0.4
    assert areas.max() <= 1
    assert areas.min() < 0.41  # all of the range is used
    assert areas.max() > 0.99
    assert np.abs(maps @ corners).max() <= 1 + 1e-12
    assert abs(maps[:, :, 2].mean()) < 0.02  # on no side more than on the other


def test_turning_and_shearing_keep_the_area_and_centre() -> None:
    how = Augmentation(rotate=180.0, shear=60.0)
    maps = np.stack([how.matrix(np.random.default_rng(i), WIDE) for i in range(200)])
    np.testing.assert_allclose(np.linalg.det(maps[:, :, :2]), 1, atol=1e-9)
    assert not maps[:, :, 2].any()


@pytest.mark.parametrize("text", ["all", "rotate=180,shear=60,crop=0.01"])
def test_what_lies_outside_is_reflected_and_values_keep_their_range(text: str) -> None:
    how = read_augmentation(text)
    x = 2 + torch.rand((3, *WIDE), generator=torch.Generator().manual_seed(0))  # zeros from outside would be seen
    for seed in range(40):
        found = _resampled(x, how.matrix(np.random.default_rng(seed), WIDE))
        assert found.shape == x.shape
        assert x.min() <= found.min()
        assert found.max() <= x.max()


@pytest.mark.parametrize("size", [SQUARE, WIDE])
def test_a_map_is_torchvisions_affine_of_the_same_angles(size: tuple[int, int]) -> None:
    import_torchvision()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import affine

    x = torch.rand((3, *size), generator=torch.Generator().manual_seed(0))
    ours = _resampled(x, drawn(Augmentation(rotate=60.0), size, 1, 1, 0.75, *MIDDLE[3:]))
    theirs = affine(
        x, angle=-30.0, translate=[0, 0], scale=1.0, shear=[0.0, 0.0], interpolation=InterpolationMode.BILINEAR
    )
    inside = affine(torch.ones(1, *size), angle=-30.0, translate=[0, 0], scale=1.0, shear=[0.0, 0.0]) > 0
    inner = -torch.nn.functional.max_pool2d(-inside.float()[None], 5, 1, 2)[0] > 0  # their edges are black, ours not
    assert inner.float().mean() > 0.3
    torch.testing.assert_close(ours[inner.expand(3, -1, -1)], theirs[inner.expand(3, -1, -1)], atol=1e-4, rtol=0)


def test_what_is_written_is_read() -> None:
    assert read_augmentation("none") == read_augmentation(" ") == Augmentation()
    assert read_augmentation("all") == read_augmentation(ALL) == Augmentation(0.5, 0.0, 15.0, 10.0, 0.7)
    assert read_augmentation("hflip , vflip=0.1,crop = 0.5") == Augmentation(0.5, 0.1, crop=0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flip", "wanted all, none, or some of hflip.*Did you mean vflip or hflip"),
        ("hflip,hflip", "'hflip' came twice"),
        ("hflip,", "''"),
        ("rotate=200", "rotate=200; wanted a number from 0 to 180"),
        ("rotate=x", "rotate=x"),
        ("crop=nan", "crop=nan"),
        ("crop=0", "from 0.01 to 1"),
        ("shear=-1", "shear=-1"),
        ("none,hflip", "'none'"),
    ],
)
def test_what_is_not_augmentation_is_said(text: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        read_augmentation(text)
