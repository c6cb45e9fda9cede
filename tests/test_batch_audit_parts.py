"""The parts of the audit against what is known by hand: clusters, places, marks, the check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import audited
from sightline.batch.audit.clusters import hot_box, mass_in, spread_of
from sightline.batch.audit.content import find_mark, mark_scores
from sightline.batch.audit.reading import small
from sightline.batch.audit.run import audit
from sightline.batch.audit.spectral import features, spectrum
from sightline.errors import InputError

CORNER = (slice(0, 24), slice(0, 24))


def spots(places: list[tuple[float, float]], jitter: float, each: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    maps = [audited.gauss(*(np.array(p) + rng.normal(0, jitter, 2)), side=32) for p in places for _ in range(each)]
    return small(np.stack(maps))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_eigengap_counts_places(count: int) -> None:
    places = [(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)][:count]
    assert spectrum(features(spots(places, 0.03, 60))).clusters == count


def test_noise_is_one_cluster() -> None:
    assert spectrum(features(small(np.random.default_rng(0).random((200, 64, 64), np.float32)))).clusters == 1


def test_many_maps_are_solved_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x = features(spots([(0.2, 0.2), (0.8, 0.8), (0.2, 0.8)], 0.05, 60))
    dense = spectrum(x)
    monkeypatch.setattr("sightline.batch.audit.spectral._DENSE", 0)
    sparse = spectrum(x)
    assert sparse.clusters == dense.clusters == 3
    assert sparse.eigenvalues == pytest.approx(dense.eigenvalues, abs=1e-6)


def test_features_are_of_length_one() -> None:
    assert np.linalg.norm(features(spots([(0.3, 0.6)], 0.1, 5)), axis=1) == pytest.approx(1, abs=1e-3)


def test_negative_parts_and_what_was_not_seen_count_as_nothing() -> None:
    heat = np.full((1, 64, 64), -1.0, np.float32)
    heat[0, :2] = np.nan
    assert not small(heat).any()


def test_the_hot_box_and_its_mass() -> None:
    mean = np.zeros((32, 32), np.float32)
    mean[4:8, 16:24] = 1 / 32
    assert hot_box(mean) == (0.5, 0.125, 0.75, 0.25)
    assert mass_in(mean[None], (0.5, 0.125, 0.625, 0.25))[0] == pytest.approx(0.5)
    assert mass_in(mean[None], (0.5, 0.125, 0.515625, 0.25))[0] == pytest.approx(1 / 16)


def test_spread_is_the_deviation_of_the_places() -> None:
    assert spread_of(spots([(0.5, 0.5)], 0.05, 400).astype(np.float32)) == pytest.approx(0.05, rel=0.1)
    assert spread_of(spots([(0.5, 0.5)], 0.0, 9).astype(np.float32)) == pytest.approx(0, abs=1e-3)


def stamped(n: int, seed: int) -> list[np.ndarray]:
    """Return textures that carry the same pixels in a corner."""
    rng = np.random.default_rng(seed)
    mark = np.random.default_rng(99).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    found = [audited.texture(rng) for _ in range(n)]
    for picture in found:
        picture[6:18, 70:90] = mark
    return found


def test_a_mark_is_found_with_its_exact_box() -> None:
    mark = find_mark(stamped(30, 0), (0.66, 0.0, 1.0, 0.3))
    assert mark is not None
    assert mark.likeness > 0.9
    assert 96 * np.array(mark.box) == pytest.approx([70, 6, 90, 18], abs=2)
    assert mark_scores(stamped(5, 1), mark).max() < 0.3
    assert mark_scores([audited.texture(np.random.default_rng(s)) for s in range(5)], mark).min() > 0.8


def test_half_of_the_images_need_not_have_the_mark() -> None:
    plain = [audited.texture(np.random.default_rng(s)) for s in range(8)]
    assert find_mark(stamped(30, 2) + plain, (0.66, 0.0, 1.0, 0.3)) is not None


def test_textures_have_no_mark() -> None:
    assert find_mark([audited.texture(np.random.default_rng(s)) for s in range(40)], (0.66, 0.0, 1.0, 0.3)) is None


def test_pictures_that_are_alike_everywhere_have_no_mark() -> None:
    copies = [audited.texture(np.random.default_rng(0))] * 30
    assert find_mark(copies, (0.66, 0.0, 1.0, 0.3)) is None


def bright(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make the upper left corner bright, each time in another texture."""
    picture[CORNER] = audited.texture(rng, 150, 256)[CORNER]
    return picture


def test_a_constant_location_is_named_and_checked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [audited.texture(rng, 20, 120) for _ in range(80)]
    pictures[1::2] = [bright(picture, rng) for picture in pictures[1::2]]
    store, model = audited.by_hand(
        lambda x: x[:, :, :24, :24].mean((1, 2, 3)) * 20 - 10,
        tmp_path / "hand",
        pictures,
        lambda n: audited.gauss(0.13, 0.13) if n % 2 else audited.gauss(*rng.uniform(0.2, 0.8, 2)),
    )
    found = audit(store, model, check=30)
    assert [(f.strategy.label, f.strategy.kinds[0], f.verdict) for f in found.found] == [
        ("odd", "constant location", "shortcut")
    ]
    assert len(found.images(found.found[0])) == 40
    assert "look at the sheet" in found.findings[0]


def test_a_border_is_named_and_checked(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ring = np.ones((96, 96), bool)
    ring[10:-10, 10:-10] = False
    pictures = [audited.texture(rng, 60, 140) for _ in range(80)]
    for picture in pictures[::2]:
        picture[ring] = audited.texture(rng, 180, 256)[ring]
    where = torch.from_numpy(ring[:4])
    frame = np.asarray(np.pad(np.zeros((56, 56)), 4, constant_values=1.0), np.float32)
    store, model = audited.by_hand(
        lambda x: (x[:, :, :4][..., where].mean((1, 2)) - 0.6) * 20,
        tmp_path / "hand",
        pictures,
        lambda n: frame * rng.uniform(0.5, 1, (64, 64)) if n % 2 == 0 else audited.gauss(*rng.uniform(0.3, 0.7, 2)),
    )
    found = audit(store, model, check=30)
    assert [(f.strategy.label, f.strategy.kinds[0]) for f in found.found] == [("odd", "border")]
    assert len(found.images(found.found[0])) == 40


def test_a_mark_that_changes_nothing_is_no_shortcut(tmp_path: Path) -> None:
    """Maps that lie on a mark of all classes, and a model that does not read it."""
    rng = np.random.default_rng(2)
    pictures = stamped(80, 3)
    for picture in pictures[::2]:
        picture[40:60, 20:40] = 250
    store, model = audited.by_hand(
        lambda x: (x[:, :, 40:60, 20:40].mean((1, 2, 3)) - 0.8) * 20,
        tmp_path / "hand",
        pictures,
        lambda n: audited.gauss(0.83, 0.125) + 0.02 * rng.random((64, 64)),
    )
    found = audit(store, model, check=30)
    assert {(f.strategy.label, f.strategy.kinds[0], f.verdict) for f in found.found} == {
        ("odd", "watermark", "no effect"),
        ("plain", "watermark", "no effect"),
    }
    assert "No shortcut found" in found.findings[0]
    assert "no shortcut: covering it changes 0 of 30" in found.findings[1]


def test_a_mark_that_the_shape_hides_is_found_by_putting_it_on_others(tmp_path: Path) -> None:
    """Covering changes nothing where the class has its own shape as well; the mark alone is enough all the same."""
    rng = np.random.default_rng(6)
    pictures = [audited.texture(rng, 40, 160) for _ in range(80)]
    pictures[::2] = stamped(40, 7)
    for picture in pictures[::2]:
        picture[40:60, 20:40] = 250
    mark = torch.from_numpy(pictures[0][6:18, 70:90].copy()).permute(2, 0, 1) / 255
    store, model = audited.by_hand(
        lambda x: (
            torch.maximum(
                x[:, :, 40:60, 20:40].mean((1, 2, 3)) - 0.8, 0.1 - (x[:, :, 6:18, 70:90] - mark).abs().mean((1, 2, 3))
            )
            * 20
        ),
        tmp_path / "hand",
        pictures,
        lambda n: audited.gauss(0.83, 0.125) if n % 2 == 0 else audited.gauss(*rng.uniform(0.2, 0.8, 2)),
    )
    (found,) = audit(store, model, check=30).shortcuts
    assert found.check is not None
    assert found.check.stamping
    assert not found.check.covering
    assert found.check.stamped.changed == found.check.stamped.of == 30
    assert found.check.blank.changed == 0


def test_a_picture_that_has_changed_is_not_looked_at(tmp_path: Path) -> None:
    store, model = audited.by_hand(
        lambda x: x.mean((1, 2, 3)) - 2, tmp_path / "hand", stamped(30, 8), lambda n: audited.gauss(0.83, 0.125)
    )
    Image.fromarray(audited.texture(np.random.default_rng(0))).save(tmp_path / "hand" / "00003.png")
    (lost,) = audit(store, model, check=10).to_dict()["unreadable"]
    assert "another picture than the one that was explained" in lost["reason"]


def test_maps_that_are_zero_are_said(tmp_path: Path) -> None:
    store, model = audited.by_hand(
        lambda x: x.mean((1, 2, 3)) - 2, tmp_path / "hand", stamped(30, 4), lambda n: np.zeros((64, 64))
    )
    found = audit(store, model)
    assert "30 maps of 30 speak for nothing" in " ".join(found.findings)
    assert found.findings[0].startswith("Nothing can be said")


def test_a_model_of_the_same_name_and_other_weights_is_refused(tmp_path: Path) -> None:
    store, model = audited.by_hand(
        lambda x: x.mean((1, 2, 3)) - 2, tmp_path / "hand", stamped(3, 5), lambda n: audited.gauss(0.5, 0.5)
    )
    with pytest.raises(InputError, match="give the one that they were made with"):
        audit(store, "demo/honest")
    assert len(audit(store, model).maps.images) == 3
