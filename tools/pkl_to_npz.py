"""Convert a pickle of numpy arrays to an .npz file without running anything that the pickle asks for.

python tools/pkl_to_npz.py IN.pkl OUT.npz

Arrays, numbers and strings in dicts, lists and tuples are converted; a dict in a dict becomes ``outer/inner``, the
third entry of a list ``name/2``, and a list of numbers or of strings one array. Everything else is refused with one
line and exit code 2, and then nothing is written. The names in a pickle that numpy's own arrays need are looked up
in the table below and answered by functions of this file; no other name is ever looked up.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

MOST_ARRAYS = 10_000  # a few bytes of pickle can refer to one list millions of times
KINDS = "biufcSU"  # what an array may hold: numbers, truth values and text
DTYPE = re.compile(rf"[<>|=]?[{KINDS}]\d{{1,9}}")
BROKEN = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


class RefusedPickleError(Exception):
    """The pickle holds, or asks for, something else than arrays, numbers and text."""


class Dtype:
    """Stands for ``numpy.dtype`` while a pickle is read: a plain type, in one of the two byte orders."""

    def __init__(self, name: str, *_flags: object) -> None:
        if not DTYPE.fullmatch(str(name)):  # numpy reads far more from a text than is wanted here
            raise RefusedPickleError(f"an array of dtype {name!r:.40} is not plain data")
        self.value = np.dtype(str(name))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if any(part is not None for part in state[2:5]):  # sub-arrays, names and fields
            raise RefusedPickleError("a structured array is not plain data")
        self.value = self.value.newbyteorder(state[1])


class Array:
    """Stands for ``numpy.ndarray`` while a pickle is read; ``value`` is the array once its state has come."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, data = state[-4:]
        self.value = restored(data, dtype, shape, "F" if fortran else "C").value


def restored(data: Any, dtype: Dtype, shape: tuple[int, ...], order: str) -> Array:
    """Return an array from its bytes, as ``numpy._core.numeric._frombuffer`` does."""
    array = Array()
    array.value = np.ndarray(shape, dtype.value, raw(data), order=order)
    return array


def reconstructed(*_asked: object) -> Array:
    """Return the empty array that numpy's ``_reconstruct`` makes, whatever shape is asked for."""
    return Array()


def scalar(dtype: Dtype, data: Any = None) -> Array:
    """Return a numpy scalar from its bytes."""
    return restored(data, dtype, (), "C")


def raw(data: Any) -> bytes:
    """Return an array's bytes, which pickles of Python 2 hold as text."""
    if not isinstance(data, (bytes, bytearray, str)):
        raise RefusedPickleError("it holds an array whose values are not given as bytes")
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def no_bytes() -> bytes:
    """Return the bytes of an empty array, which protocols 0 to 2 write as a call of ``bytes``."""
    return b""


def encoded(text: str, *_codec: object) -> bytes:
    """Return the bytes that protocols 0 to 2 write as text; ``_codecs.encode`` itself knows too many codecs."""
    return text.encode("latin1")


ANSWERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
    ("_codecs", "encode"): encoded,
    ("__builtin__", "bytes"): no_bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): reconstructed for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): restored for core in ("core", "_core")},
}


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows numpy's arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of numpy's; any other name is refused and not looked up."""
        try:
            return ANSWERS[module, name]
        except KeyError:
            raise RefusedPickleError(f"it asks for {module}.{name}, which is not plain data") from None


def flattened(value: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield every array with its name, ``outer/inner`` for nested ones; what is not plain data is refused."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flattened(inner, joined(name, key))
    elif isinstance(value, (list, tuple)) and not is_flat(value):
        for number, inner in enumerate(value):
            yield from flattened(inner, joined(name, number))
    else:
        yield name or "arr_0", plain(value, name)


def is_flat(values: list[Any] | tuple[Any, ...]) -> bool:
    """Say whether a list holds numbers only or strings only, and so is one array."""
    return all(type(v) in (bool, int, float, complex) for v in values) or all(type(v) is str for v in values)


def joined(name: str, key: object) -> str:
    """Return the name of an entry; keys that could leave the archive's own folder are refused."""
    if type(key) not in (str, int) or set("/\\") & set(str(key)) or str(key) in ("", ".", ".."):
        raise RefusedPickleError(f"a key of type {type(key).__name__}, {key!r:.40}, cannot name an array")
    if not str(key).isprintable():  # an archive would cut the name short at a NUL
        raise RefusedPickleError(f"the key {key!r:.40} cannot name an array")
    return f"{name}/{key}" if name else str(key)


def plain(value: Any, name: str) -> np.ndarray:
    """Return a value as an array of numbers or text."""
    where = f"'{name}'" if name else "the pickle"
    if isinstance(value, Array):
        if value.value is None:
            raise RefusedPickleError(f"{where} is an array without its values")
        return value.value
    if not isinstance(value, (str, bool, int, float, complex, list, tuple)):
        raise RefusedPickleError(f"{where} is of type {type(value).__name__}, which is not plain data")
    array = np.asarray(value)
    whole = isinstance(value, (list, tuple)) and value and all(isinstance(v, int) for v in value)
    if array.dtype.kind not in KINDS or (whole and array.dtype.kind == "f"):
        raise RefusedPickleError(f"{where} holds numbers that no array type can hold")
    return array


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a pickle's arrays by name without running what it asks for."""
    arrays: dict[str, np.ndarray] = {}
    with path.open("rb") as stream:
        # latin1 is how numpy's arrays from Python 2 are read; nothing else depends on it.
        loaded = PlainUnpickler(stream, encoding="latin1").load()
    for name, array in flattened(loaded):
        if name in arrays or len(arrays) == MOST_ARRAYS:
            raise RefusedPickleError(f"'{name}' comes twice" if name in arrays else f"over {MOST_ARRAYS} arrays")
        arrays[name] = array
    return arrays


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays beside the place and move them there when all are written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Not np.savez, which would take an array called "file" for its own argument.
        with zipfile.ZipFile(draft, "x", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """Convert one file; return 0, or 2 after one line that says why not."""
    parser = argparse.ArgumentParser(description="Convert a pickle of numpy arrays to .npz without running it.")
    parser.add_argument("source", type=Path, metavar="IN.pkl")
    parser.add_argument("target", type=Path, metavar="OUT.npz")
    asked = parser.parse_args(argv)
    try:
        arrays = read(asked.source)
        write(asked.target, arrays)
    except RefusedPickleError as error:
        return refused(f"{asked.source}: refused: {error}")
    except OSError as error:
        return refused(f"{error.filename or asked.source}: {error.strerror or error}")
    except BROKEN as error:
        return refused(f"{asked.source}: not a readable pickle of arrays ({type(error).__name__}: {error})")
    print(f"{asked.target}: {len(arrays)} arrays: {', '.join(arrays)}")
    return 0


def refused(why: str) -> int:
    """Say why in one line on stderr; return the exit code."""
    print(" ".join(why.split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
