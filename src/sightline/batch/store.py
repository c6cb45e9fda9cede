"""The store: Parquet parts that are never rewritten, and a manifest of entries that says which of them count.

    STORE/store.json                              what every part has in common: format, heatmap's shape, raw or not
    STORE/manifest/00000001.json                  one commit: its parts, of which images, by which asks
    STORE/explanations/weights=HASH/by=METHOD/    parts of the table ``explanations``
    STORE/images/                                 parts that map URI, size and time or etag to the content's hash

A part is put whole and then named by an entry; one that no entry names does not count. In a folder the next writer
removes it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from sightline.batch.place import Folder, Place, place_of
from sightline.batch.table import as_parquet, schema
from sightline.errors import InputError

__all__ = ["FORMAT", "Commit", "Settings", "Store", "open_store", "refuse_strange", "writing"]

FORMAT = 1
_SETTINGS = "store.json"
_PARTS = ("explanations", "images")
_ENTRY = re.compile(r"manifest/[0-9]{8}\.json")
_GET_BACK = "get it back from a copy, or begin a new store with another --out."


@dataclass(frozen=True)
class Settings:
    """What all parts of a store have in common: the heatmaps' shape, and whether raw attributions are kept."""

    heatmap: tuple[int, ...]
    raw: bool = False
    format: int = FORMAT


@dataclass(frozen=True)
class Commit:
    """One entry of the manifest: its parts, and by which asks (see `sightline.batch.job`) its images are done.

    ``sizes`` are those of all its parts in bytes.
    """

    number: int
    explanations: tuple[str, ...]
    images: str
    asks: tuple[str, ...]
    rows: int
    failed: int
    count: int
    sizes: Mapping[str, int] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Store:
    """A store as its manifest says it is, at the moment of opening."""

    place: Place
    settings: Settings
    commits: tuple[Commit, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The columns of ``explanations``."""
        return schema(self.settings.heatmap, raw=self.settings.raw)

    @property
    def parts(self) -> list[str]:
        """The URIs of the parts of ``explanations`` that count, in the order in which they were committed."""
        return [self.place.uri(name) for commit in self.commits for name in commit.explanations]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read rows of ``explanations`` into memory: all of them, with the named columns or all."""
        wanted = self.schema if columns is None else pa.schema([self.schema.field(c) for c in columns])
        names = [name for commit in self.commits for name in commit.explanations]
        return pa.concat_tables([wanted.empty_table(), *(self.part(name, wanted.names) for name in names)])

    def part(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a part by the name that its entry has for it; InputError where it is missing or damaged."""
        import pyarrow.parquet as pq

        try:
            data = self.place.get(name)
        except FileNotFoundError:
            raise InputError(f"{self.place.uri(name)} is missing; {_GET_BACK}") from None
        try:
            # Threads of Arrow's own, beside torch's, abort a process that ends soon after.
            return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(columns, use_threads=False)
        except (OSError, pa.ArrowException):
            raise InputError(f"{self.place.uri(name)} is damaged; {_GET_BACK}") from None


def open_store(where: str | os.PathLike[str]) -> Store:
    """Open a store to read it.

    Raises InputError where there is none, or one of a newer version, or what its manifest names is not all there.
    """
    place = place_of(where)
    settings = _settings(place)
    if settings is None:
        raise InputError(f"{where} holds no store; sightline batch SOURCE --out {where} makes one.")
    commits = _commits(place)
    _refuse_missing(place, commits)
    return Store(place, settings, commits)


@contextmanager
def writing(where: str | os.PathLike[str], settings: Settings, *, wait: bool = False) -> Iterator[Writer]:
    """Hold a store for writing, made where there is none; what an interrupted run left behind is removed.

    Raises InputError where another run holds it, or it is of other settings or a newer version.
    """
    place = place_of(where)
    refuse_strange(where)
    with place.locked(wait=wait):
        found = _settings(place)
        if found is None:
            place.put(_SETTINGS, json.dumps(asdict(settings)).encode() + b"\n")
        elif found != settings:
            raise InputError(f"{where} holds {_said(found)}; {_said(settings)} came: name another --out.")
        commits = _commits(place)
        _refuse_missing(place, commits)
        if isinstance(place, Folder):  # elsewhere what no entry names may be a part that another run is about to enter
            _remove_unnamed(place, commits)
        yield Writer(Store(place, settings, commits))


@dataclass(eq=False)
class Writer:
    """A store held for writing."""

    store: Store
    token: str = field(default_factory=lambda: secrets.token_hex(4))  # two runs on an object store share no name

    def commit(self, images: pa.Table, rows: pa.Table, asks: Sequence[str], about: Mapping[str, Any]) -> Commit:
        """Add rows and the images that they are of; when this returns they are on the disk and count."""
        place, number = self.store.place, len(self.store.commits) + 1
        listed = f"images/{number:08}-{self.token}.parquet"
        data = as_parquet(images)
        place.put(listed, data)
        sizes = {listed: len(data)} | dict(self._put(number, *part) for part in _partitions(rows))
        parts = tuple(name for name in sizes if name != listed)
        failed = len(rows) - rows["error"].null_count
        entry = Commit(number, parts, listed, tuple(asks), len(rows), failed, len(images), sizes, dict(about))
        self._enter(entry)
        self.store = replace(self.store, commits=(*self.store.commits, entry))
        return entry

    def _put(self, number: int, weights: str, method: str, rows: pa.Table) -> tuple[str, int]:
        name = f"explanations/weights={weights}/by={method}/{number:08}-{self.token}.parquet"
        data = as_parquet(rows)
        self.store.place.put(name, data)
        return name, len(data)

    def _enter(self, entry: Commit) -> None:
        try:
            self.store.place.put(_entry_name(entry.number), json.dumps(asdict(entry)).encode() + b"\n", fresh=True)
        except FileExistsError:
            raise InputError(
                f"{self.store.place} was written by another run meanwhile; let it end, then go on with --resume."
            ) from None


def _partitions(rows: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    import pyarrow.compute as pc

    pairs = (
        rows.select(["weights_hash", "method"]).group_by(["weights_hash", "method"], use_threads=False).aggregate([])
    )
    for pair in pairs.to_pylist():
        mine = pc.and_(*(pc.equal(rows[name], value) for name, value in pair.items()))
        yield pair["weights_hash"], pair["method"], rows.filter(mine)


def _entry_name(number: int) -> str:
    return f"manifest/{number:08}.json"


def _settings(place: Place) -> Settings | None:
    try:
        found = json.loads(place.get(_SETTINGS))
        if found["format"] > FORMAT:
            raise InputError(
                f"{place} was written by a newer version of Sightline (format {found['format']}, this one reads "
                f"{FORMAT}); update Sightline, or name another store."
            )
        return Settings(tuple(found["heatmap"]), found["raw"], found["format"])
    except FileNotFoundError:
        return None
    except InputError:
        raise
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{place.uri(_SETTINGS)} is damaged; {_GET_BACK}") from None


def _commits(place: Place) -> tuple[Commit, ...]:
    names = [name for name in place.names("manifest") if _ENTRY.fullmatch(name)]
    for number, name in enumerate(names, 1):
        if name != _entry_name(number):
            raise InputError(f"{place.uri(_entry_name(number))} is missing; {_GET_BACK}")
    return tuple(_commit(place, name) for name in names)


def _commit(place: Place, name: str) -> Commit:
    try:
        entry = json.loads(place.get(name))
        return Commit(**{**entry, "explanations": tuple(entry["explanations"]), "asks": tuple(entry["asks"])})
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{place.uri(name)} is damaged; {_GET_BACK}") from None


def _refuse_missing(place: Place, commits: Sequence[Commit]) -> None:
    """Refuse a store that has lost a part, or half of one: its images would be taken for done."""
    there = {name: size for below in _PARTS for name, size in place.sizes(below).items()} if commits else {}
    for name, size in (part for c in commits for part in c.sizes.items()):
        if there.get(name) != size:
            how = "damaged" if name in there else "missing"
            raise InputError(f"{place.uri(name)} is {how}; {_GET_BACK}")


def _remove_unnamed(place: Folder, commits: Sequence[Commit]) -> None:
    """Remove what a run put and did not live to enter."""
    known = {name for c in commits for name in (*c.explanations, c.images, _entry_name(c.number))}
    for below in (*_PARTS, "manifest"):
        for name in place.names(below):
            if name not in known:
                place.remove(name)
    for aside in place.path.glob(f".{_SETTINGS}.*"):
        aside.unlink()


def refuse_strange(where: str | os.PathLike[str]) -> None:
    """Raise InputError for a folder that holds other things: parts would be looked for, and removed, among them."""
    place = place_of(where)
    if not isinstance(place, Folder) or not place.path.exists():
        return
    if not place.path.is_dir():
        raise InputError(f"{where} is a file; name a folder for the store, as --out store.")
    held = {p.name for p in place.path.iterdir()} - {"lock"}
    if held and _SETTINGS not in held and not all(name.startswith(f".{_SETTINGS}") for name in held):
        raise InputError(f"{where} holds other files and no store; name another --out.")


def _said(settings: Settings) -> str:
    size = "x".join(map(str, settings.heatmap))
    return f"heatmaps of {size}{' and raw attributions' if settings.raw else ''}"
