"""tools/pkl_to_npz.py: what is plain comes through unchanged, and nothing else is run or written."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "pkl_to_npz.py"


def converted(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(TOOL), str(source), str(target)], capture_output=True, text=True)


def through(folder: Path, value: object, protocol: int = pickle.DEFAULT_PROTOCOL) -> dict[str, np.ndarray]:
    (folder / "in.pkl").write_bytes(pickle.dumps(value, protocol))
    done = converted(folder / "in.pkl", folder / "out.npz")
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(folder / "out.npz", allow_pickle=False) as found:
        return dict(found)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_scalars_come_through_unchanged(tmp_path: Path, protocol: int) -> None:
    arrays = {
        "x": np.random.default_rng(0).standard_normal((4, 3)),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "words": np.array(["one", "zwei", "três"]),
        "yes": np.array([True, False]),
        "none": np.zeros((0, 5), np.float32),
        "one": np.float32(1.5),
        "file": np.complex128(1 + 2j),
    }
    found = through(tmp_path, arrays, protocol)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.asarray(array).dtype


def test_nested_values_are_named_by_their_way(tmp_path: Path) -> None:
    value = {"templates": {"x": np.ones(2), 7: "seven"}, "rows": [[1, 2], (3.5, "a")], "n": 3, "t": (1, 2.5)}
    found = through(tmp_path, value)
    assert {k: v.tolist() for k, v in found.items()} == {
        "templates/x": [1.0, 1.0],
        "templates/7": "seven",
        "rows/0": [1, 2],
        "rows/1/0": 3.5,
        "rows/1/1": "a",
        "n": 3,
        "t": [1.0, 2.5],
    }


def test_a_lone_array_gets_numpys_own_name(tmp_path: Path) -> None:
    assert list(through(tmp_path, np.arange(3))) == ["arr_0"]


def test_numpy_1_spells_its_names_otherwise(tmp_path: Path) -> None:
    old = pickle.dumps({"x": np.arange(3.0), "n": np.int8(4)}, 2)
    assert b"numpy._core" in old
    (tmp_path / "old.pkl").write_bytes(old.replace(b"numpy._core", b"numpy.core"))
    assert converted(tmp_path / "old.pkl", tmp_path / "out.npz").returncode == 0
    with np.load(tmp_path / "out.npz") as found:
        assert (found["x"].tolist(), found["n"]) == ([0.0, 1.0, 2.0], 4)


class Calls:
    """Asks for a call as it is unpickled."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call


def evil(mark: Path) -> dict[str, object]:
    """Pickles that leave a mark when they are run."""
    touch = f"touch {mark}"
    opened = f"open({str(mark)!r}, 'w').close()"
    return {
        "system": Calls(os.system, touch),
        "eval": Calls(builtins.eval, opened),
        "exec": Calls(builtins.exec, opened),
        "nested": {"x": [np.ones(2), [1, (Calls(os.system, touch),)]]},
        "object array": np.array([Calls(os.system, touch), 1], dtype=object),
        "plain object array": {"x": np.array([1, "a"], dtype=object)},
        "getattr": Calls(getattr, str, "format"),
        "numpy function": Calls(np.save, str(mark), np.ones(1)),
        "class": collections.OrderedDict(x=1),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", evil(Path("mark")))
def test_a_pickle_that_asks_for_more_is_neither_run_nor_written(tmp_path: Path, name: str, protocol: int) -> None:
    mark, source = tmp_path / "mark", tmp_path / "evil.pkl"
    source.write_bytes(pickle.dumps(evil(mark)[name], protocol))
    refused(source, tmp_path / "out.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["evil.pkl"]


def test_the_evil_pickles_would_run(tmp_path: Path) -> None:
    for name in ("system", "eval", "exec", "nested", "object array"):
        mark = tmp_path / name.replace(" ", "-")
        pickle.loads(pickle.dumps(evil(mark)[name]))
        assert mark.exists(), name


def refused(source: Path, target: Path) -> str:
    done = converted(source, target)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def endless() -> list[object]:
    value: list[object] = ["x"]
    value.append(value)
    return value


def doubled() -> list[object]:
    value: list[object] = [1, "a"]
    for _ in range(60):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"x": None}, "NoneType"),
        ({"x": b"bytes"}, "bytes"),
        ({"x": {1, 2}}, "set"),
        ({"x": 2**80}, "no array type"),
        ({"x": [2**63, -1]}, "no array type"),
        ({"../x": 1}, "key"),
        ({"a\0b": 1}, "key"),
        ({(1, 2): 1}, "key"),
        ({1: 1, "1": 2}, "twice"),
        ({"x": np.zeros(2, [("a", "f4")])}, "dtype"),
        ({"x": np.array(["2020"], "M8[D]")}, "dtype"),
        (endless(), "Recursion"),
        (doubled(), "arrays"),
    ],
)
def test_what_is_not_plain_data_is_refused_by_name(tmp_path: Path, value: object, why: str) -> None:
    (tmp_path / "in.pkl").write_bytes(pickle.dumps(value))
    assert why in refused(tmp_path / "in.pkl", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps(np.arange(9.0))[:-20],
        b"cnumpy\nndarray\n.",  # the class itself
        b"cnumpy\nndarray\n)\x81.",  # an array that never got its values
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(Vf8\ntRI9999999999\ntR.",  # a number for bytes
        b"cnumpy\nndarray\n}b.",  # a state for the class
        b"cnumpy\ndtype\n(V(1,)(\nI0\nI1\ntR.",  # a dtype that numpy would have to parse
    ],
)
def test_broken_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.pkl").write_bytes(content)
    refused(tmp_path / "in.pkl", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_an_earlier_result_stays_when_the_new_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.npz").write_bytes(b"earlier")
    (tmp_path / "in.pkl").write_bytes(pickle.dumps({"x": np.ones(2), "y": None}))
    refused(tmp_path / "in.pkl", tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_bytes() == b"earlier"


def test_missing_files_and_folders_are_one_line(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.pkl", tmp_path / "out.npz")
    (tmp_path / "in.pkl").write_bytes(pickle.dumps([1]))
    assert "No such file" in refused(tmp_path / "in.pkl", tmp_path / "absent" / "out.npz")
