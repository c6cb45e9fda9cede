"""The demo tells what it promises: the honest model looks at the object, the cheating one at the watermark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.demo.story import METHODS, Story, mass_share, tell


@pytest.fixture(scope="module")
def story() -> Story:
    """Tell it of six scenes, where sixteen take three times as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.demo.story._SCENES", 6)
        return tell()


def test_six_methods_and_a_control_are_in_the_table(story: Story) -> None:
    assert len(METHODS) == 6
    assert [r.method for r in story.rows] == [*METHODS, "control (area)"]
    assert all(0 <= share <= 1 for r in story.rows for share in r.shares)


def test_grad_cam_tells_the_models_apart(story: Story) -> None:
    control = story.rows[-1].shares
    cam = story.rows[0].shares
    assert cam[0] > 1.3 * control[0]
    assert cam[1] < control[1]
    assert cam[3] > 3 * control[3]
    assert cam[3] > cam[1] + 0.05


def test_the_cheat_shows_in_the_predictions(story: Story) -> None:
    honest, cheating = (story.models[name] for name in ("honest", "cheating"))
    assert honest["right_with_watermark"] > 0.9
    assert cheating["other_shapes_called_star_with_watermark"] > 0.4
    assert honest["other_shapes_called_star_with_watermark"] < 0.1


def test_the_picture_and_its_scenes_are_written_into_the_directory(story: Story, tmp_path: Path) -> None:
    file = story.save(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["demo.png", "ring.png", "star.png"]
    with Image.open(file) as picture:
        assert picture.width > 1000


def test_the_share_of_a_mass() -> None:
    heat = np.array([[1.0, -3.0], [np.nan, 0.0]])
    assert mass_share(heat, np.array([[False, True], [True, False]])) == 0.75
    assert np.isnan(mass_share(np.zeros((2, 2)), np.ones((2, 2), bool)))
