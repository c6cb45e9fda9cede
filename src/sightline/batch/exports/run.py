"""An export: rows of a store, in one of five forms, into a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import pyarrow as pa

from sightline.batch.exports.files import write_coco, write_npz, write_png
from sightline.batch.exports.libraries import write_fiftyone, write_huggingface
from sightline.batch.exports.work import Exported, Work
from sightline.batch.querying import asking, statement
from sightline.batch.sheet import Draw
from sightline.batch.store import Store
from sightline.errors import InputError, ParameterError, suggest

__all__ = ["KINDS", "Exported", "Kind", "export"]

Kind = Literal["png", "npz", "coco", "huggingface", "fiftyone"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class _Form(NamedTuple):
    write: Callable[[Work], None]
    rows: int  # read, and of npz also written, at a time
    order: str | None = None


_FORMS: dict[Kind, _Form] = {
    "png": _Form(write_png, 16),
    "npz": _Form(write_npz, 4096),
    "coco": _Form(write_coco, 1024),
    "huggingface": _Form(write_huggingface, 512),
    "fiftyone": _Form(write_fiftyone, 256, "image"),
}


def export(
    store: Store | str | os.PathLike[str],
    to: Kind,
    out: str | os.PathLike[str],
    *,
    where: str | None = None,
    threshold: float = 0.5,
    draw: Draw = "overlay",
    on_begin: Callable[[int], None] = lambda rows: None,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Exported:
    """Write the rows of a store that meet a condition into a new folder ``out``, in the form ``to``.

    ``threshold`` (of a map's maximum) is that of the boxes of coco and fiftyone, ``draw`` is for png. ``on_begin`` is
    called with the number of rows, ``on_rows`` with each piece's. A row that cannot be exported, as its original is
    gone, is counted among the failures. Raises ParameterError for another form, threshold or condition, InputError
    where there is no store or row, where ``out`` holds something already, or a library is not installed.
    """
    if to not in _FORMS:
        raise ParameterError(f"to={to!r}: wanted one of {', '.join(KINDS)}.{suggest(str(to), KINDS)}")
    if not 0 < threshold <= 1:
        raise ParameterError(f"threshold={threshold}: wanted a share of the maximum, above 0 and at most 1.")
    form, found, folder = _FORMS[to], Exported(), _fresh(Path(out))
    with asking(store) as asked:
        shape = asked.store.settings.heatmap
        count = asked.table(statement(["count(*) AS n"], where))["n"][0].as_py()
        if not count:
            raise InputError(f"there are no rows{f' where {where}' if where else ''}; ask for others.")
        named = asked.table("SELECT DISTINCT unnest(map_keys(metrics)) AS m FROM explanations ORDER BY m")
        on_begin(int(count))
        with asked.batches(statement(_columns(asked.store), where, form.order), form.rows) as (_, batches):
            pieces = _counted(batches, form.rows, on_rows)
            form.write(Work(pieces, shape, named["m"].to_pylist(), folder, draw, threshold, found))
    return found


def _columns(store: Store) -> list[str]:
    return [name for name in store.schema.names if name != "raw"]


def _counted(batches: Iterator[pa.RecordBatch], rows: int, tick: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    """Put batches together into pieces of so many rows at most, for they end where the store's parts do."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if held and sum(map(len, held)) + len(batch) > rows:
            yield pa.concat_batches(held)
            tick(sum(map(len, held)))
            held = []
        held.append(batch)
    if held:
        yield pa.concat_batches(held)
        tick(sum(map(len, held)))


def _fresh(folder: Path) -> Path:
    """Refuse a folder with something in it: what an earlier export left there would be taken for this one's."""
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} holds files already; name a new folder, as --out export.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder, as --out export.")
    return folder
