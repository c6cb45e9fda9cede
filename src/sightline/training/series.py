"""Series to learn from: MNIST-1D made afresh, or an .npz file of values and labels."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sightline.arrays import find_array
from sightline.demo.mnist1d import make_mnist1d
from sightline.errors import InputError
from sightline.images import MAX_PIXELS
from sightline.paths import check_file, shown, why
from sightline.training import remarks
from sightline.training.data import DataSet, Part
from sightline.training.splits import Item, check_share, held_out
from sightline.training.walking import counted

__all__ = ["mnist1d_data", "read_series"]

Floats: TypeAlias = NDArray[np.float32]

_HELD = 0.1  # of MNIST-1D, from the end: Keras' validation_split, with which its recorded net was trained
_WANTED = "wanted an .npz of x (N, L) and y (N,), and perhaps x_test, y_test and the names classes (K,)"
_MOST_NAMES = 1 << 24  # bytes


def mnist1d_data(seed: int = 42) -> DataSet:
    """Make MNIST-1D to learn from: 3600 series (40,) float32, the 400 after them to stop by, 1000 to test on.

    These are the parts of the recorded net's training: the last tenth is held out, in the order in which it was made.

    >>> {name: len(part) for name, part in mnist1d_data().parts.items()}
    {'train': 3600, 'val': 400, 'test': 1000}
    """
    made = make_mnist1d(seed=seed)
    x, kept = made.x.astype(np.float32), len(made.x) - round(_HELD * len(made.x))
    train, val = Part(x[:kept], made.y[:kept]), Part(x[kept:], made.y[kept:])
    test = Part(made.x_test.astype(np.float32), made.y_test)
    classes = tuple(str(digit) for digit in made.templates.y)
    split = (
        f"MNIST-1D made by seed {seed}: the last {len(val)} of {len(x)} held out for validation, {len(test)} to test."
    )
    return DataSet("mnist1d", classes, train, val, test, split)


def read_series(
    file: str | os.PathLike[str], *, val_share: float = 0.2, seed: int = 0, most: int = MAX_PIXELS
) -> DataSet:
    """Read series from an .npz of x (N, L) and y (N,), whole numbers, and hold out ``val_share`` of each class.

    ``x_test`` and ``y_test`` are the test. ``classes`` (K,) names the labels 0 to K - 1; without, the labels that y
    has are the classes, in the order of numbers. Nothing is unpickled; ``most`` is the limit of numbers in an array.

    Raises ImageError for a file that is damaged, not there, holds other than numbers or too many, InputError for
    arrays that do not fit each other, values that are not finite, one class, and a class with one series.
    """
    check_share(val_share)
    path = Path(os.fsdecode(file))
    archive = _Archive(path, shown(str(path)), most)
    keys = archive.keys()
    x, y = archive.series("x"), archive.labels("y")
    tested = (archive.series("x_test"), archive.labels("y_test")) if {"x_test", "y_test"} & {*keys} else None
    names, numbers = archive.classes(y) if "classes" in keys else _from_labels(y, archive.said)
    _check_pair(archive.said, x, y, "x", "y")
    items = _items("x", x, _indices(y, numbers, archive.said, "y"))
    train, val = held_out(items, names, val_share=val_share, seed=seed, noun="signal")
    parts = {"train": train, "val": val}
    made = {name: _part(x, items, part) for name, part in parts.items()}
    if tested is not None:
        _check_pair(archive.said, *tested, "x_test", "y_test", x.shape[1])
        parts["test"] = _items("x_test", tested[0], _indices(tested[1], numbers, archive.said, "y_test"))
        made["test"] = _part(tested[0], parts["test"], parts["test"])
    return DataSet(
        shown(path.stem),
        names,
        made["train"],
        made["val"],
        made.get("test"),
        _said(val_share, seed, made),
        notes=tuple(remarks.of_parts(parts, names, "signal")),
    )


def _said(val_share: float, seed: int, parts: dict[str, Part]) -> str:
    test = f"; {counted(len(parts['test']), 'signal')} to test, as they came" if "test" in parts else ""
    return (
        f"{100 * val_share:.3g} % of each class held out for validation by seed {seed} ({len(parts['train']):,} and "
        f"{counted(len(parts['val']), 'signal')}){test}."
    )


@dataclass(frozen=True)
class _Archive:
    """An .npz file; ``said`` is its path as errors show it."""

    path: Path
    said: str
    most: int

    def keys(self) -> list[str]:
        """Return the names of the arrays in it."""
        check_file(self.path, self.said, "series", "*.npz")
        if self.path.suffix != ".npz" or not zipfile.is_zipfile(self.path):
            raise InputError(f"{self.said} is no .npz file; {_WANTED}: np.savez(file, x=x, y=y).")
        with zipfile.ZipFile(self.path) as archive:
            found = [n.removesuffix(".npy") for n in archive.namelist()]
        missing = [n for n in ("x", "y") if n not in found]
        if missing:
            held = ", ".join(shown(n) for n in found[:8]) or "nothing"
            raise InputError(f"{self.said} has no {missing[0]} (it holds {held}); {_WANTED}.")
        return found

    def _array(self, key: str) -> np.ndarray:
        found = find_array(f"{self.path}:{key}", self.said, self.most)
        if found is None:
            raise InputError(f"{self.said} holds other files than arrays; {_WANTED}.")
        return found

    def series(self, key: str) -> Floats:
        """Return values (N, L), checked."""
        values = self._array(key)
        if values.ndim != 2 or not values.size:
            one = f": leave out the channel, {key}.reshape(len({key}), -1)" if values.size and _flat(values) else ""
            raise InputError(
                f"{self.said}: {key} has the shape {values.shape}; wanted (N, L), N series of L points{one}."
            )
        with np.errstate(over="ignore"):
            planes = values.astype(np.float32)
        bad = np.argwhere(~np.isfinite(planes))
        if len(bad):
            raise InputError(
                f"{self.said}: {key} holds NaN, infinity or what float32 cannot hold ({counted(len(bad), 'value')}, "
                f"the first in series {bad[0][0]} at {bad[0][1]}, from 0); wanted finite numbers: fill or cut them."
            )
        return planes

    def labels(self, key: str) -> NDArray[np.int64]:
        """Return labels (N,), checked to be whole numbers."""
        values = self._array(key)
        if values.ndim != 1 or values.dtype.kind not in "biu":
            raise InputError(
                f"{self.said}: {key} is {values.dtype} of shape {values.shape}; wanted whole numbers (N,), the "
                f"class of each series: {key}.astype('int64')."
            )
        return values.astype(np.int64)

    def classes(self, y: NDArray[np.int64]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the classes' names and their labels, 0 to K - 1; raises InputError unless each has a series."""
        names = self._names()
        if names.ndim != 1 or names.dtype.kind not in "US" or len({*names.tolist()}) < len(names):
            raise InputError(
                f"{self.said}: classes is {names.dtype} of shape {names.shape}; wanted (K,) different names as text: "
                "np.array(['a', 'b'])."
            )
        said = tuple(str(n) for n in names.astype(str))
        unused = [name for label, name in enumerate(said) if label not in y]
        if len(said) < 2 or unused:
            came = f"no series of the class '{shown(unused[0])}'" if unused else "one class"
            raise InputError(f"{self.said} holds {came}; wanted two classes or more, and at least two series of each.")
        return said, tuple(range(len(said)))

    def _names(self) -> Any:
        try:
            with zipfile.ZipFile(self.path) as archive:
                if archive.getinfo("classes.npy").file_size > _MOST_NAMES:
                    raise InputError(f"{self.said}: classes is longer than {_MOST_NAMES:,} bytes; wanted names.")
            with np.load(self.path, allow_pickle=False) as arrays:
                return arrays["classes"]
        except InputError:
            raise
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{self.said}: classes cannot be read ({why(error)}); wanted names as text: np.array(['a', 'b'])."
            ) from None


def _flat(values: np.ndarray) -> bool:
    return values.ndim == 3 and 1 in values.shape[1:]


def _from_labels(y: NDArray[np.int64], said: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the labels that there are as names, and themselves."""
    numbers = tuple(int(n) for n in np.unique(y))
    if len(numbers) < 2:
        came = f"one class ({numbers[0]})" if numbers else "no labels"
        raise InputError(f"{said}: y holds {came}; wanted at least two classes, to be told apart.")
    return tuple(map(str, numbers)), numbers


def _indices(y: NDArray[np.int64], numbers: Sequence[int], said: str, key: str) -> NDArray[np.int64]:
    """Return the place of each label among the classes."""
    known = np.array(numbers, np.int64)
    strange = np.setdiff1d(y, known)
    if len(strange):
        raise InputError(
            f"{said}: {key} holds the label {strange[0]}, which is none of the {len(known)} classes ({known[0]} to "
            f"{known[-1]}); wanted the same classes everywhere."
        )
    return np.searchsorted(known, y).astype(np.int64)


def _check_pair(said: str, x: Floats, y: NDArray[np.int64], x_key: str, y_key: str, length: int | None = None) -> None:
    if len(x) != len(y):
        raise InputError(f"{said}: {x_key} has {len(x):,} series and {y_key} {len(y):,} labels; wanted one label each.")
    if length is not None and x.shape[1] != length:
        raise InputError(
            f"{said}: {x_key} has series of {x.shape[1]} points and x of {length}; wanted as many in both."
        )


def _items(key: str, x: Floats, labels: NDArray[np.int64]) -> list[Item]:
    hashes = (hashlib.sha256(row.astype("<f4").tobytes()).hexdigest() for row in x)
    return [Item(f"{key}[{n}]", int(label), h) for n, (label, h) in enumerate(zip(labels, hashes, strict=True))]


def _part(x: Floats, items: Sequence[Item], chosen: Sequence[Item]) -> Part:
    place = {item.name: n for n, item in enumerate(items)}
    return Part(x[[place[i.name] for i in chosen]], np.array([i.label for i in chosen], np.int64))
