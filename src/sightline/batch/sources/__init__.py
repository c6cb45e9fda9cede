"""What a run goes over: folders, patterns, tables, tar shards and lists, of this machine or by URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sightline.batch.sources import reach
from sightline.batch.sources.items import Broken, Bytes, File, Item, Member, Source, Where, file_item
from sightline.batch.sources.places import Leaf, is_pattern, leaves_of, suffix_of
from sightline.batch.sources.shards import shard_items
from sightline.batch.sources.tables import csv_items, is_numbers, line_count, list_items
from sightline.errors import InputError, ParameterError
from sightline.paths import shown, why

__all__ = ["Broken", "Bytes", "File", "Item", "Member", "Named", "Source", "Where", "file_item", "source_of"]

_PACKED = (".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_TABLES = (".csv", ".tsv", ".parquet", ".pq")
_LISTS = (".txt", ".lst")
_QUICK = 1 << 28  # bytes of tar archives whose headers are counted before a run

Named = str | os.PathLike[str]


def source_of(named: Named | Sequence[Named], *, column: str | None = None) -> Source:
    """Return the source that a path, pattern or URL names, or several of them, in their order.

    A folder is searched for pictures, also in folders in it. A CSV or Parquet table names them in a column of paths
    (relative to the table) or URLs, or holds their bytes; ``column`` says which, where it cannot be told. A text file
    names one on each line. A tar archive holds them. Patterns know ``*``, ``**``, ``{000..099}`` and ``{a,b}``.
    Raises InputError where there is none, no images in it, or no column can be told to hold them.
    """
    if not isinstance(named, (str, os.PathLike)) and not named:
        raise InputError("no paths came; wanted at least one image.")
    several = not isinstance(named, (str, os.PathLike))
    given = tuple(reach.local(os.fspath(n)) for n in ([named] if isinstance(named, (str, os.PathLike)) else named))
    name = f"{len(given):,} paths" if several else given[0]
    leaves = partial(_leaves, given, several)
    source = Source(name, partial(_items, leaves, column), _count(leaves, given))
    _check(source, leaves, column)
    return source


def _leaves(given: Sequence[str], several: bool) -> Iterator[Leaf]:
    for path in given:
        # Of many, one that is not there fails by itself, in its row, and none is asked for over a network twice.
        if several and reach.is_url(path) and not is_pattern(path) and not path.endswith("/"):
            yield Leaf(path)
        elif several and not reach.is_url(path) and not os.path.lexists(path):
            yield Leaf(os.path.abspath(path))
        else:
            yield from leaves_of(path)


def _items(leaves: Callable[[], Iterator[Leaf]], column: str | None) -> Iterator[Item]:
    for leaf in leaves():
        yield from _expanded(leaf, column)


def _expanded(leaf: Leaf, column: str | None) -> Iterator[Item]:
    """Return the images in a file, or the one that it is."""
    suffix = suffix_of(leaf.path)
    if leaf.error is not None:
        return iter([Item(reach.uri_of(leaf.path), Broken(leaf.error))])
    if _is_packed(leaf.path):
        reason = "an archive that is compressed as a whole has no parts to read; unpack it to .tar (gunzip)"
        return iter([Item(reach.uri_of(leaf.path), Broken(reason))])
    if suffix == ".tar":
        return shard_items(leaf)
    if suffix in (".parquet", ".pq"):
        from sightline.batch.sources.parquet import parquet_items

        return parquet_items(leaf, column)
    if suffix in (*_TABLES, *_LISTS):
        return _text_items(leaf, suffix, column)
    return iter([file_item(leaf.path, leaf.look)])


def _text_items(leaf: Leaf, suffix: str, column: str | None) -> Iterator[Item]:
    try:
        if is_numbers(leaf):
            return iter([file_item(leaf.path, leaf.look)])
    except OSError as error:
        return iter([Item(reach.uri_of(leaf.path), Broken(why(error)))])
    return list_items(leaf) if suffix in _LISTS else csv_items(leaf, column)


def _is_packed(path: str) -> bool:
    plain = path.partition("?")[0] if reach.is_url(path) else path
    return plain.casefold().endswith(_PACKED)


def _check(source: Source, leaves: Callable[[], Iterator[Leaf]], column: str | None) -> None:
    """Raise InputError for a source without any image, or whose first cannot be read for want of a package."""
    reason = None
    for item in source.items():
        if not isinstance(item.where, Broken):
            if isinstance(item.where, File) and reach.is_url(item.where.path):
                reach.check(item.where.path)
            break
        reason = reason or _named(item.uri, item.where.reason)
    else:
        raise InputError(reason or _without(source.name, leaves))
    if column is not None and suffix_of(next(leaves()).path) not in _TABLES:
        raise ParameterError(f"--column {shown(column)}: {shown(source.name)} is no table, and has no columns.")


def _named(uri: str, reason: str) -> str:
    return reason if reason.startswith(shown(uri)) else f"{shown(uri)}: {reason.rstrip('.')}."


def _without(name: str, leaves: Callable[[], Iterator[Leaf]]) -> str:
    kind = next((suffix_of(leaf.path) for leaf in leaves()), None)
    if kind in (*_TABLES, *_LISTS):
        return f"{shown(name)} has no rows; wanted one for each image."
    if kind == ".tar":
        return f"{shown(name)} holds no images; wanted members as .jpg, .png or other pictures."
    return (
        f"{shown(name)} holds no images; wanted .jpg, .png or other picture files, also in folders. Tables and shards "
        f"in a folder are named by a pattern, as '{shown(name.rstrip('/'))}/*.tar'."
    )


def _count(leaves: Callable[[], Iterator[Leaf]], given: Sequence[str]) -> Callable[[], int] | None:
    """Return what counts a source's images, where that is quick."""
    if any(reach.is_url(path) for path in given):
        return None
    shards = any(suffix_of(path) == ".tar" for path in given)
    if shards and sum(os.path.getsize(leaf.path) for leaf in leaves() if os.path.exists(leaf.path)) > _QUICK:
        return None
    return lambda: sum(map(_counted, leaves()))


def _counted(leaf: Leaf) -> int:
    suffix = suffix_of(leaf.path)
    if suffix not in (".tar", *_TABLES, *_LISTS):
        return 1
    try:
        return _number(leaf, suffix)
    except (OSError, ValueError):  # which is an image that fails, where it is listed
        return 1


def _number(leaf: Leaf, suffix: str) -> int:
    if suffix == ".tar":
        return sum(1 for _ in shard_items(leaf))
    if suffix in (".parquet", ".pq"):
        from sightline.batch.sources.parquet import parquet_count

        return parquet_count(leaf)
    return 1 if is_numbers(leaf) else line_count(leaf)
