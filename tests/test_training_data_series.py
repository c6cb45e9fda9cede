"""Series to learn from: MNIST-1D in its recorded parts, and .npz files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.demo.mnist1d import make_mnist1d
from sightline.errors import InputError
from sightline.training.series import mnist1d_data, read_series

X = np.random.default_rng(3).normal(size=(30, 12))
Y = np.repeat([0, 1, 2], 10)


def saved(folder: Path, **arrays: Any) -> Path:
    file = folder / "waves.npz"
    np.savez(file, **arrays)
    return file


def refusal(file: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_series(file, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mnist1d_is_parted_as_it_was_recorded() -> None:
    data, made = mnist1d_data(), make_mnist1d()
    assert data.name == "mnist1d"
    assert data.classes == tuple("0123456789")
    assert {n: (len(p), p.images.dtype) for n, p in data.parts.items()} == {
        "train": (3600, np.float32),
        "val": (400, np.float32),
        "test": (1000, np.float32),
    }
    np.testing.assert_array_equal(data.val.images, made.x[3600:].astype(np.float32))
    np.testing.assert_array_equal(data.train.labels, made.y[:3600])
    np.testing.assert_array_equal(data.parts["test"].labels, made.y_test)
    assert data.hash == mnist1d_data().hash != mnist1d_data(7).hash
    assert "made by seed 42: the last 400 of 4000" in data.split


def test_an_archive_is_split_by_seed_with_the_shares_kept(tmp_path: Path) -> None:
    data = read_series(saved(tmp_path, x=X, y=Y))
    assert data.name == "waves"
    assert data.classes == ("0", "1", "2")
    assert (data.train.counts(3), data.val.counts(3), data.test) == ([8] * 3, [2] * 3, None)
    rows = np.concatenate([data.train.images, data.val.images])
    assert {r.tobytes() for r in rows} == {r.tobytes() for r in X.astype(np.float32)}
    for part in data.parts.values():
        for row, label in zip(part.images, part.labels, strict=True):
            assert Y[np.argmin(np.abs(X - row).sum(1))] == label
    assert read_series(tmp_path / "waves.npz").hash == data.hash
    assert read_series(tmp_path / "waves.npz", seed=1).hash != data.hash


def test_classes_may_be_named_and_labels_may_start_anywhere(tmp_path: Path) -> None:
    named = read_series(saved(tmp_path, x=X, y=Y, classes=["sine", "saw", "square"], x_test=X[:4] + 1, y_test=Y[:4]))
    assert named.classes == ("sine", "saw", "square")
    assert named.parts["test"].counts(3) == [4, 0, 0]
    assert "4 signals to test" in named.split
    shifted = read_series(saved(tmp_path, x=X, y=Y * 9 + 2))
    assert shifted.classes == ("2", "11", "20")
    assert shifted.val.counts(3) == [2, 2, 2]


def test_series_that_leak_are_said(tmp_path: Path) -> None:
    data = read_series(saved(tmp_path, x=X, y=Y, x_test=X[:1], y_test=Y[:1]))
    assert any("1 signal of test is also in train or val ('x_test[0]' is 'x[0]')" in n for n in data.notes)


BAD = np.where(X[3, 5] == X, np.nan, X)
CASES = {
    "has no y (it holds x)": {"x": X},
    "x has the shape (30, 12, 1); wanted (N, L), N series of L points: leave out the channel": {
        "x": X[..., None],
        "y": Y,
    },
    "x has the shape (0, 12)": {"x": X[:0], "y": Y[:0]},
    "x holds NaN, infinity or what float32 cannot hold (1 value, the first in series 3 at 5": {"x": BAD, "y": Y},
    "y is float64 of shape (30,); wanted whole numbers": {"x": X, "y": Y / 2},
    "x has 30 series and y 29 labels": {"x": X, "y": Y[1:]},
    "y holds one class (0)": {"x": X, "y": Y * 0},
    "the class '1' has 1 signal;": {"x": X, "y": [0] * 29 + [1]},
    "holds no series of the class 'd'": {"x": X, "y": Y, "classes": list("abcd")},
    "y holds the label 2, which is none of the 2 classes": {"x": X, "y": Y, "classes": list("ab")},
    "wanted (K,) different names": {"x": X, "y": Y, "classes": list("aab")},
    "classes cannot be read": {"x": X, "y": Y, "classes": np.array(["a", None, 3], object)},
    "holds Python objects, which are not unpickled": {"x": X.astype(object), "y": Y},
    "there is no array 'y_test'": {"x": X, "y": Y, "x_test": X},
    "x_test has series of 6 points and x of 12": {"x": X, "y": Y, "x_test": X[:, :6], "y_test": Y},
    "y_test holds the label 5": {"x": X, "y": Y, "x_test": X, "y_test": Y + 5},
}


@pytest.mark.parametrize("words", CASES)
def test_what_cannot_be_learned_from_is_said(tmp_path: Path, words: str) -> None:
    text = refusal(saved(tmp_path, **CASES[words]))
    assert words in text


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("x")
    assert "is no .npz file" in refusal(tmp_path / "text.npz")
    file = saved(tmp_path, x=X, y=Y)
    assert "over the limit of 100" in refusal(file, most=100)
    assert "val_share=2" in refusal(file, val_share=2)
