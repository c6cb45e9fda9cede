"""Arrays of numbers from files: .npy, .npz and tables of text. Nothing is ever unpickled."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from sightline.errors import ImageError, suggest
from sightline.paths import DENIED, check_file, shown, why

__all__ = ["check_kind", "find_array", "read_numbers", "read_upload"]

_TABLES = (".csv", ".tsv", ".txt")
_WANTED = "wanted numbers as .npy, .npz, .csv, .tsv or .txt"
_DAMAGES = (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
_SHOWN_KEYS = 8


def find_array(source: str, said: str, most: int) -> np.ndarray | None:
    """Return the array that a .npy file, a .npz file of one array or ``FILE.npz:KEY`` holds, None for another file.

    The content decides and not the name; ``said`` is the path as errors show it. Raises ImageError for a file
    that is damaged, holds no numbers or holds more than ``most`` of them.
    """
    path, key = _split_key(source)
    check_file(path, said)
    with _safely(said), path.open("rb") as stream:
        return _array_in(stream, key, said, most)


def _array_in(stream: IO[bytes], key: str | None, said: str, most: int) -> np.ndarray | None:
    start = stream.read(6)
    stream.seek(0)
    if start == b"\x93NUMPY":
        return _from_npy(stream, stream, said, most)
    return _from_npz(stream, key, said, most) if start.startswith(b"PK") else None


def read_numbers(source: str, said: str, most: int) -> np.ndarray:
    """Return what `find_array` finds, or the table (rows, columns) of a .csv, .tsv or .txt file.

    A table may begin with a line of names; a table of one row is one series. Raises ImageError as `find_array`
    does, and for other files, lines of different lengths and cells that are no numbers.
    """
    path, _ = _split_key(source)
    check_file(path, said, "data", "*.csv")
    found = find_array(source, said, most)
    if found is not None:
        return found
    if path.suffix.casefold() not in _TABLES:
        raise ImageError(f"{said} holds no array and no table, and the model takes series or volumes; {_WANTED}.")
    with _safely(said), path.open(encoding="utf-8-sig") as stream:
        return _table(stream, said, most)


def read_upload(stream: BinaryIO, said: str, most: int) -> np.ndarray:
    """Return the array or the table (rows, columns) that an opened file without a path holds, told by its content.

    Nothing is unpickled, and names of arrays are not asked for: an .npz holds one. ``said`` is the file's name in
    errors. Raises ImageError as `read_numbers` does.

    >>> read_upload(io.BytesIO(b"1,2,3"), "a.csv", 100).tolist()
    [[1.0, 2.0, 3.0]]
    """
    with _safely(said):
        found = _array_in(stream, None, said, most)
        return _table(io.TextIOWrapper(stream, "utf-8-sig"), said, most) if found is None else found


def check_kind(dtype: np.dtype, said: str) -> None:
    """Raise ImageError for an array that does not hold real numbers."""
    if dtype.hasobject:
        raise ImageError(
            f"{said} holds Python objects, which are not unpickled; save plain numbers: "
            "np.save(file, values.astype('float32'))."
        )
    if dtype.kind not in "biuf":
        raise ImageError(f"{said} holds {shown(str(dtype))}; wanted real numbers: values.astype('float32').")


def _split_key(source: str) -> tuple[Path, str | None]:
    found = re.fullmatch(r"(?s)(.+\.npz):([^:]+)", source)
    if found is None or Path(source).exists():
        return Path(source), None
    return Path(found[1]), found[2]


@contextmanager
def _safely(said: str) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except PermissionError:
        raise ImageError(f"{said} {DENIED}") from None
    except UnicodeDecodeError:
        raise ImageError(f"{said} is not text in UTF-8; {_WANTED}.") from None
    except MemoryError:
        raise ImageError(f"{said} does not fit into the memory; give a smaller one.") from None
    except _DAMAGES as error:
        raise ImageError(f"{said} is damaged or truncated ({why(error)}); get or save it again.") from None


def _from_npy(head: IO[bytes], stream: IO[bytes], said: str, most: int) -> np.ndarray:
    """Read an array; ``head`` (which may be the same stream) is read first, to see what is coming."""
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):  # 3.0 is for records whose fields have names outside Latin-1
        raise ImageError(f"{said} holds records; wanted one array of numbers: save each field by itself.")
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(head)
    check_kind(dtype, said)
    _check_count(int(np.prod(shape, dtype=object)), said, most)
    if head is stream:
        stream.seek(0)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _check_count(count: int, said: str, most: int) -> None:
    if count > most:
        raise ImageError(
            f"{said} holds {count:,} numbers, over the limit of {most:,}; raise it with --max-pixels (max_pixels=) if "
            "the file can be trusted."
        )


def _from_npz(stream: IO[bytes], key: str | None, said: str, most: int) -> np.ndarray | None:
    with zipfile.ZipFile(stream) as archive:
        members = archive.namelist()
        if not members or not all(m.endswith(".npy") for m in members):
            return None
        member = f"{_chosen([m.removesuffix('.npy') for m in members], key, said)}.npy"
        with archive.open(member) as head, archive.open(member) as again:
            return _from_npy(head, again, said, most)


def _chosen(keys: list[str], key: str | None, said: str) -> str:
    if key is None and len(keys) == 1:
        return keys[0]
    if key in keys:
        return str(key)
    names = ", ".join(shown(k) for k in keys[:_SHOWN_KEYS]) + (", ..." if len(keys) > _SHOWN_KEYS else "")
    if key is None:
        raise ImageError(
            f"{said} holds {len(keys)} arrays ({names}); name one, as {said}:{shown(keys[0])}, or save it by itself."
        )
    raise ImageError(f"{said}: there is no array '{shown(key)}'; it holds {names}.{suggest(key, keys)}")


def _table(lines: Iterable[str], said: str, most: int) -> np.ndarray:
    rows: list[list[float]] = []
    count = 0
    for number, cells in _split_lines(lines):
        values = [_number(cell, number, place, said) for place, cell in enumerate(cells, 1)]
        if rows and len(values) != len(rows[0]):
            raise ImageError(
                f"{said}: line {number} has {len(values)} values, the lines before it {len(rows[0])}; wanted as many "
                "on each line: fill or cut them."
            )
        _check_count(count := count + len(values), said, most)
        rows.append(values)
    if not rows:
        raise ImageError(f"{said} holds no numbers; wanted lines of them, as 0.5,1.25.")
    return np.array(rows, np.float64)


def _split_lines(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line of a table, without comments, empty lines and a first line of names."""
    separator: str | None = None
    first = known = True
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        if known:
            separator = next((s for s in "\t;," if s in line), None)
        cells = [cell.strip().strip('"') for cell in line.strip().split(separator)]
        named = first and not any(_is_number(cell.replace(",", ".")) for cell in cells)  # 1,5;2,5 is no line of names
        first, known = False, named  # names may hold blanks: the separator is that of the first numbers
        if not named:
            yield number, cells


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, line: int, place: int, said: str) -> float:
    if _is_number(cell):
        return float(cell)
    where = f"{said}: value {place} on line {line}"
    if not cell:
        raise ImageError(f"{where} is missing; wanted a number: fill it, or cut the column or the line.")
    hint = ": write decimals with a point" if _is_number(cell.replace(",", ".")) else ""
    raise ImageError(f"{where} is '{shown(cell)[:40]}'; wanted a number{hint or ': cut or convert what is text'}.")
