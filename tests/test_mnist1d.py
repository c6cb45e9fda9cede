"""MNIST-1D: equal to the published data, and made without a touch of numpy's global stream."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sightline
from sightline.demo.mnist1d import Mnist1d, make_mnist1d, mnist1d_templates

ROOT = Path(__file__).resolve().parents[1]
PICKLE = ROOT.parent / "shared" / "data" / "keras" / "MNIST1D.pkl"


@pytest.fixture(scope="module")
def data() -> Mnist1d:
    return make_mnist1d()


@pytest.mark.shared
@pytest.mark.skipif(not PICKLE.is_file(), reason=f"the published data are not here ({PICKLE.name} is absent)")
def test_it_equals_the_published_data(data: Mnist1d, tmp_path: Path) -> None:
    tool = ROOT / "tools" / "pkl_to_npz.py"
    subprocess.run([sys.executable, str(tool), str(PICKLE), str(tmp_path / "data.npz")], check=True)
    with np.load(tmp_path / "data.npz") as published:
        for name in ("x", "x_test", "t"):
            np.testing.assert_allclose(getattr(data, name), published[name], rtol=0, atol=1e-12)
        for name in ("x", "t", "y"):
            np.testing.assert_allclose(getattr(data.templates, name), published[f"templates/{name}"], atol=1e-12)
        np.testing.assert_array_equal(data.y, published["y"])
        np.testing.assert_array_equal(data.y_test, published["y_test"])


def test_its_shapes_labels_and_values_are_the_recorded_ones(data: Mnist1d) -> None:
    assert [a.shape for a in (data.x, data.y, data.x_test, data.y_test, data.t)] == [
        (4000, 40),
        (4000,),
        (1000, 40),
        (1000,),
        (40,),
    ]
    assert (data.x.dtype, data.y.dtype) == (np.float64, np.int64)
    assert np.bincount(data.y).tolist() == [398, 396, 411, 394, 394, 402, 401, 404, 402, 398]
    assert np.bincount(data.y_test).tolist() == [102, 104, 89, 106, 106, 98, 99, 96, 98, 102]
    assert (data.x.min(), data.x.max()) == pytest.approx((-5.479, 4.534), abs=5e-4)
    assert (data.x.mean(), data.x.std()) == pytest.approx((-3.2e-4, 0.9976), abs=5e-5)


def test_a_few_of_its_values(data: Mnist1d) -> None:
    near = {"rel": 0, "abs": 1e-12}
    assert data.x[0, :3].tolist() == pytest.approx(
        [-0.33200566736939013, -0.4719103656557236, -0.778697076293495], **near
    )
    assert data.x[1234, :2].tolist() == pytest.approx([0.8009429801283566, 0.7353376934804151], **near)
    assert data.x_test[-1, -2:].tolist() == pytest.approx([0.8777343497528006, 1.1931518368352758], **near)
    assert data.t[0] == pytest.approx(-5.38753506670427, **near)
    # every value enters, and none at the same weight as its neighbour
    assert (data.x * np.arange(40)).sum() == pytest.approx(19388.11334187731, rel=1e-12)


def test_all_of_it_is_standardised_together(data: Mnist1d) -> None:
    together = np.concatenate([data.x, data.x_test])
    assert (together.mean(), together.std()) == pytest.approx((0, 1), abs=1e-12)


def test_numpys_global_stream_is_left_alone_and_not_read() -> None:
    np.random.seed(7)
    before = np.random.get_state()
    first = make_mnist1d(samples=20)
    after = np.random.get_state()
    np.random.seed(8)
    assert (before[1] == after[1]).all()
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(first.x, make_mnist1d(samples=20).x)


def test_the_seed_decides() -> None:
    assert (make_mnist1d(samples=20, seed=1).x != make_mnist1d(samples=20, seed=2).x).any()


def test_templates_start_at_zero_and_have_one_spread() -> None:
    digits = mnist1d_templates()
    assert (digits.x.shape, digits.t.shape, digits.y.tolist()) == ((10, 12), (12,), list(range(10)))
    assert not digits.x[:, 0].any()
    assert digits.x.std(1) == pytest.approx(1 / 6)
    assert digits.t[[0, -1]].tolist() == pytest.approx([-5 / 6, 5 / 6])


def test_without_distortion_a_signal_is_its_template() -> None:
    plain = make_mnist1d(samples=10, scale=0, max_translation=1, correlated_noise=0, noise=0, shear=0, length=72)
    x, y = np.concatenate([plain.x, plain.x_test]), np.concatenate([plain.y, plain.y_test])
    for signal, digit in zip(x, y, strict=True):
        template = mnist1d_templates().x[digit]
        # 36 to 60 zeros behind twelve points, stretched to 72: between 12 and 18 points are the digit's
        fits = [
            np.corrcoef(signal, np.interp(np.linspace(0, 11 + p, 72), np.arange(12 + p), np.pad(template, (0, p))))[
                0, 1
            ]
            for p in range(36, 61)
        ]
        assert max(fits) == pytest.approx(1, abs=1e-9)


def test_positions_are_shuffled_alike_in_every_signal() -> None:
    plain, shuffled = make_mnist1d(samples=30), make_mnist1d(samples=30, shuffle_positions=True)
    order = [int(np.flatnonzero(np.isclose(plain.x[0], v, rtol=0, atol=1e-12))[0]) for v in shuffled.x[0]]
    assert sorted(order) == list(range(40))
    np.testing.assert_allclose(shuffled.x_test, plain.x_test[:, order], atol=1e-12)
    assert order != sorted(order)


@pytest.mark.parametrize("wrong", [{"samples": 9}, {"train_share": 1.5}, {"length": 1}, {"max_translation": 0}])
def test_what_cannot_be_made_is_said(wrong: dict[str, float]) -> None:
    with pytest.raises(sightline.errors.ParameterError, match=next(iter(wrong))):
        make_mnist1d(**wrong)  # type: ignore[arg-type]
