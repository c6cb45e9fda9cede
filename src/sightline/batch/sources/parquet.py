"""Parquet tables of images: rows are listed without the images, whose bytes are read when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sightline.batch.sources import reach
from sightline.batch.sources.items import Broken, Handed, Item, about_of
from sightline.batch.sources.places import Leaf
from sightline.batch.sources.tables import image_column, named_item
from sightline.errors import InputError
from sightline.paths import why

__all__ = ["parquet_count", "parquet_items", "row_bytes"]

_BUFFER = 1 << 20  # without it a whole row group is read at once, which may be the whole table
_IMAGES = 32
_ROWS = 256


@dataclass(frozen=True)
class _Table:
    """An open table, and which of its columns holds the images."""

    file: Any
    path: str
    column: str
    asked: str | None
    stamp: str | None

    @property
    def kind(self) -> Any:
        return self.file.schema_arrow.field(self.column).type

    @property
    def paths(self) -> str | None:
        """The column of paths, by its name or as a part of a struct."""
        if _fits(self.kind) == "text":
            return self.column
        return f"{self.column}.path" if pa.types.is_struct(self.kind) and _has(self.kind, "path") else None

    @property
    def bytes(self) -> str | None:
        """The column of bytes, by its name or as a part of a struct."""
        if pa.types.is_struct(self.kind):
            return f"{self.column}.bytes" if _has(self.kind, "bytes") else None
        return self.column if _fits(self.kind) == "bytes" else None

    def uri(self, row: int) -> str:
        """Return a row's URI: it names the column where that was asked for, for it has other images than the usual."""
        return f"{reach.uri_of(self.path)}#{row}" + (f":{self.column}" if self.asked else "")


@dataclass(eq=False)
class _Images:
    """The bytes in a table, read in order as they are asked for; only the latest few are held."""

    path: str
    column: str

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._file: Any = None
        self._batches: Iterator[Any] = iter(())
        self._at = (-1, -1)
        self._held: list[Any] = []

    def get(self, group: int, number: int) -> bytes:
        """Return the bytes in a row of a row group. Raises OSError where there are none or they cannot be read."""
        with self._lock:
            try:
                found = self._values(group, number // _IMAGES)[number % _IMAGES]
            except pa.ArrowException as error:
                raise OSError(why(error)) from None
        value = found[self.column.rpartition(".")[2]] if isinstance(found, dict) else found
        if value is None:
            raise OSError("this row holds no image")
        return bytes(value)

    def _values(self, group: int, batch: int) -> list[Any]:
        if self._file is None:
            self._file = _opened(self.path)
        if group != self._at[0] or batch < self._at[1]:
            self._batches, self._at = _batches(self._file, group, [self.column], _IMAGES), (group, -1)
        while self._at[1] < batch:
            self._held = next(self._batches).column(0).to_pylist()
            self._at = (group, self._at[1] + 1)
        return self._held


@dataclass(frozen=True, eq=False)
class _Row:
    """The bytes in a row of a table: to another process they go themselves."""

    images: _Images
    group: int
    number: int

    def fetch(self) -> bytes:
        """Return the bytes."""
        return self.images.get(self.group, self.number)

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            return Handed, (self.fetch(),)
        except OSError as error:
            return Broken, (why(error),)


def parquet_items(leaf: Leaf, column: str | None) -> Iterator[Item]:
    """Yield the images of a Parquet table, in its order; rows that cannot be read are an item that says so."""
    uri = reach.uri_of(leaf.path)
    try:
        table = _table(leaf, column)
    except InputError as error:
        yield Item(uri, Broken(str(error)))
        return
    except (OSError, pa.ArrowException) as error:
        yield Item(uri, Broken(f"this table cannot be read: {why(error)}"))
        return
    first, images = 0, _Images(leaf.path, table.bytes or "")
    for group in range(table.file.num_row_groups):
        count, done = table.file.metadata.row_group(group).num_rows, 0
        try:
            for item in _group_items(table, group, first, images):
                done += 1
                yield item
        except (OSError, pa.ArrowException) as error:
            reason = f"rows {first + done:,} to {first + count - 1:,} cannot be read: {why(error)}"
            yield Item(table.uri(first + done), Broken(reason), None, table.stamp)
        first += count


def parquet_count(leaf: Leaf) -> int:
    """Return how many rows a Parquet table has, 1 (which will say why) where it cannot be read."""
    try:
        return int(_opened(leaf.path).metadata.num_rows)
    except pa.ArrowException:
        return 1


def row_bytes(path: str, row: int, column: str | None) -> bytes:
    """Read the bytes of one image in a table. Raises OSError where there is none, InputError for a wrong column."""
    try:
        table = _table(Leaf(path, reach.Look()), column)
    except pa.ArrowException as error:
        raise OSError(why(error)) from None
    if table.bytes is None:
        raise OSError(f"column {table.column} holds paths")
    for group in range(table.file.num_row_groups):
        count = table.file.metadata.row_group(group).num_rows
        if row < count:
            return _Images(path, table.bytes).get(group, row)
        row -= count
    raise OSError("the table has fewer rows")


def _table(leaf: Leaf, asked: str | None) -> _Table:
    look = leaf.look or reach.look(leaf.path)
    file = _opened(leaf.path)
    kinds = {field.name: _fits(field.type) for field in file.schema_arrow}

    def first() -> dict[str, Any]:
        texts = [name for name, kind in kinds.items() if kind == "text"]
        batch = next(file.iter_batches(1, columns=texts, use_threads=False), None)
        return batch.to_pylist()[0] if batch is not None and len(batch) else {}

    column = image_column(kinds, asked, first)
    usual = asked is not None and column == _usual(kinds, first)
    return _Table(file, leaf.path, column, None if usual else asked, look.stamp)


def _usual(kinds: Mapping[str, str], first: Callable[[], Mapping[str, Any]]) -> str | None:
    """Return the column that nobody would have had to name."""
    try:
        return image_column(kinds, None, first)
    except InputError:
        return None


def _group_items(table: _Table, group: int, first: int, images: _Images) -> Iterator[Item]:
    by_path = table.bytes is None or (table.paths is not None and _is_null(table, group))
    others = [f.name for f in table.file.schema_arrow if f.name != table.column and not _is_binary(f.type)]
    wanted = [*others, *([table.paths] if table.paths else [])]
    for number, row in enumerate(_rows(table.file, group, wanted)):
        value = row.pop(table.column, None)
        path = value.get("path") if isinstance(value, dict) else value
        if by_path:
            yield named_item(path, table.path, table.uri(first + number), row)
        else:
            about = about_of(row | ({f"{table.column}.path": path} if path else {}))
            yield Item(table.uri(first + number), _Row(images, group, number), None, table.stamp, about)


def _rows(file: Any, group: int, columns: list[str]) -> Iterator[dict[str, Any]]:
    if not columns:
        return ({} for _ in range(file.metadata.row_group(group).num_rows))
    return (row for batch in _batches(file, group, columns, _ROWS) for row in batch.to_pylist())


def _batches(file: Any, group: int, columns: list[str], rows: int) -> Iterator[Any]:
    return iter(file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False))


def _is_null(table: _Table, group: int) -> bool:
    """Say whether a row group is known to hold no bytes, only paths."""
    found = table.file.metadata.row_group(group)
    for number in range(found.num_columns):
        column = found.column(number)
        if column.path_in_schema == table.bytes:
            seen = column.statistics
            return bool(seen and seen.has_null_count and seen.null_count == found.num_rows)
    return False


def _opened(path: str) -> Any:
    if reach.is_url(path):
        return pq.ParquetFile(reach.opened(path), pre_buffer=False, buffer_size=_BUFFER)
    reach.opened(path).close()  # says of a pipe or a device what it is
    return pq.ParquetFile(pa.OSFile(path), pre_buffer=False, buffer_size=_BUFFER)


def _fits(kind: Any) -> str:
    """Say what a column may hold of an image: "text", "bytes", or what else it holds."""
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    layout = types.is_struct(kind) and (_has(kind, "bytes") or _has(kind, "path"))
    return "bytes" if layout or _is_bytes(kind) else str(kind)[:60]


def _has(kind: Any, name: str) -> bool:
    at = kind.get_field_index(name)
    wanted = "bytes" if name == "bytes" else "text"
    return at >= 0 and not pa.types.is_struct(kind.field(at).type) and _fits(kind.field(at).type) == wanted


def _is_bytes(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_binary(kind: Any) -> bool:
    """Say whether a column holds bytes or tensors anywhere, which are nothing to say of an image."""
    if isinstance(kind, pa.BaseExtensionType) or _is_bytes(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return any(_is_binary(kind.field(i).type) for i in range(kind.num_fields))
