"""Tables of images: CSV, lists and Parquet, by a column of paths, URLs or bytes; read row by row."""

from __future__ import annotations

import csv
import itertools
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from sightline.batch.sources import reach
from sightline.batch.sources.items import Broken, Item, about_of, file_item
from sightline.batch.sources.places import Leaf, suffix_of
from sightline.errors import InputError, suggest
from sightline.paths import is_picture, shown, why

__all__ = ["csv_items", "image_column", "is_numbers", "line_count", "list_items", "named_item"]

_NAMES = (
    *("image", "img", "picture", "image_bytes", "bytes", "image_path", "img_path", "image_file", "filepath"),
    *("file_path", "path", "file", "file_name", "filename", "uri", "image_uri", "url", "image_url"),
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# A table may come from anywhere: no chains, archives or caches, which would read and write files of this machine.
_NAMED = ("http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "memory", "file")
_LONGEST = 1 << 20


def image_column(kinds: Mapping[str, str], asked: str | None, first: Callable[[], Mapping[str, Any]]) -> str:
    """Return the column that holds the images: the one asked for, by a usual name, or the only one that fits.

    ``kinds`` says of each column whether it holds "text", "bytes" or anything else; ``first`` reads the first row.
    Raises InputError, with the columns, where none can be told or the one asked for is not there.
    """
    if asked is not None:
        return _asked(kinds, asked)
    fitting = {name.strip().casefold(): name for name, kind in kinds.items() if kind in ("text", "bytes")}
    known = next((fitting[name] for name in _NAMES if name in fitting), None)
    if known is not None:
        return known
    bytes_ = [name for name, kind in kinds.items() if kind == "bytes"]
    found = bytes_ or [name for name, value in first().items() if kinds[name] == "text" and _like_path(value)]
    if len(found) == 1:
        return found[0]
    which = "several columns could hold the images" if found else "no column is known to hold images"
    raise InputError(f"{which}; name one of {_listed(kinds)} with --column (column=).")


def _asked(kinds: Mapping[str, str], asked: str) -> str:
    if asked not in kinds:
        raise InputError(f"there is no column '{shown(asked)}'; it has {_listed(kinds)}.{suggest(asked, kinds)}")
    if kinds[asked] not in ("text", "bytes"):
        raise InputError(f"column '{shown(asked)}' holds {kinds[asked]}; wanted paths, URLs or bytes.")
    return asked


def _listed(names: Mapping[str, str]) -> str:
    return ", ".join(shown(n) for n in itertools.islice(names, 20)) + (", ..." if len(names) > 20 else "")


def _like_path(value: Any) -> bool:
    text = str(value or "")
    return bool(_SCHEME.match(text)) or is_picture(Path(text))


def named_item(value: Any, table: str, row: str, about: Mapping[str, Any]) -> Item:
    """Return the item that a row of a table names by a path, relative to the table's folder, or a URL.

    ``row`` is the row's own URI, for what names nothing that may be read.
    """
    said = about_of(about)
    try:
        return file_item(_resolved(str(value or ""), table), about=said)
    except OSError as error:
        return Item(row, Broken(why(error)), about=said)


def _resolved(value: str, table: str) -> str:
    """Return the path or URL that a table means. Raises OSError for one that a table may not name."""
    if not value.strip():
        raise OSError("this row names no image")
    scheme = _SCHEME.match(value)
    if scheme is not None:
        return _resolved_url(value, scheme[1].casefold(), table)
    if not reach.is_url(table):
        return os.path.abspath(os.path.join(os.path.dirname(table), value))
    head, _, rest = table.partition("?")[0].partition("://")
    inner = posixpath.normpath(posixpath.join(posixpath.dirname(rest), value))
    if value.startswith("/") or inner.startswith("..") or "::" in value:
        raise OSError(f"{shown(value)} is no file beside a table at {head}://")
    return f"{head}://{inner}"


def _resolved_url(value: str, kind: str, table: str) -> str:
    if kind not in _NAMED or "::" in value:
        raise OSError(f"{shown(value)}: a table may name http://, s3://, gs:// and paths")
    if kind == "file" and reach.is_url(table):
        raise OSError(f"{shown(value)} is a file of this machine, and the table is not of it")
    return reach.local(value)


def csv_items(leaf: Leaf, column: str | None) -> Iterator[Item]:
    """Yield the images that a CSV table names, in its order; where it cannot be read on, an item says so."""
    uri, number = reach.uri_of(leaf.path), 0
    try:
        with _lines(leaf.path) as lines:
            rows, names = _rows(lines, suffix_of(leaf.path))
            first = next(rows, None)
            chosen = image_column(dict.fromkeys(names, "text"), column, lambda: _row(names, first))
            for number, cells in enumerate(itertools.chain([first] if first else [], rows)):
                row = _row(names, cells)
                yield named_item(row.pop(chosen, None), leaf.path, f"{uri}#{number}", row)
    except InputError as error:
        yield Item(uri, Broken(str(error)))
    except (OSError, csv.Error) as error:
        yield Item(uri, Broken(f"after {number:,} rows: {why(error)}" if number else why(error)))


def list_items(leaf: Leaf) -> Iterator[Item]:
    """Yield the images that a list names, a path or URL on each line; empty lines are left out."""
    uri = reach.uri_of(leaf.path)
    try:
        with _lines(leaf.path) as lines:
            for number, line in enumerate(lines):
                if line.strip():
                    yield named_item(line.rstrip("\r\n"), leaf.path, f"{uri}#{number}", {})
    except OSError as error:
        yield Item(uri, Broken(why(error)))


def line_count(leaf: Leaf) -> int:
    """Return how many rows a table or list of text has."""
    with _lines(leaf.path) as lines:
        if suffix_of(leaf.path) in (".csv", ".tsv"):
            return sum(1 for _ in _rows(lines, suffix_of(leaf.path))[0])
        return sum(1 for line in lines if line.strip())


def is_numbers(leaf: Leaf) -> bool:
    """Say whether a table of text begins with numbers only: it is a series then, and no table of images."""
    with _lines(leaf.path) as lines:
        cells = re.split(r"[\s,;]+", next(lines, "").strip().strip(",;"))
    return all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan|[-+]?inf", cell.casefold()) for cell in cells)


@contextmanager
def _lines(path: str) -> Iterator[Iterator[str]]:
    """Open a text; what is no UTF-8 in it stays as it is, as paths do."""
    with reach.opened(path) as stream:
        yield _short_lines(stream)


def _short_lines(stream: IO[bytes]) -> Iterator[str]:
    text = TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
    for number in itertools.count(1):
        line = text.readline(_LONGEST)
        if len(line) == _LONGEST:
            raise OSError(f"line {number:,} has over {_LONGEST:,} characters")
        if not line:
            text.detach()
            return
        yield line


def _rows(lines: Iterator[str], suffix: str) -> tuple[Iterator[Sequence[str]], list[str]]:
    """Return the rows of a CSV table that are not empty, and its columns. Raises InputError for one without any."""
    head = next(lines, "")
    separator = "\t" if suffix == ".tsv" else max(",;\t", key=head.count)
    read = csv.reader(itertools.chain([head], lines), delimiter=separator, skipinitialspace=True)
    names = [name.strip() for name in next(read, [])]
    if not any(names):
        raise InputError("the table is empty, or its first line is.")
    if any(is_picture(Path(name)) for name in names):
        raise InputError(f"the first line names no columns but {shown(head.strip())}; add one, as path,class.")
    return (cells for cells in read if cells), names


def _row(names: Sequence[str], cells: Sequence[str] | None) -> dict[str, Any]:
    return dict(zip(names, itertools.chain(cells or (), itertools.repeat(None)), strict=False))
