"""What sources read, and when: nothing before it is asked for, nothing twice, and nothing that a stranger names."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_kinds import pictures, png, write_csv, write_parquet, write_tar
from batches import net_model
from sightline.batch import originals
from sightline.batch.decoding import decode, reader_of
from sightline.batch.originals import read_original
from sightline.batch.sources import Broken, File, Item, Member, parquet, reach, source_of
from sightline.batch.sources.items import about_of
from sightline.errors import ImageError, InputError


class Counted(io.BytesIO):
    """A file that counts what is read of it."""

    def __init__(self, data: bytes, seen: list[int]) -> None:
        super().__init__(data)
        self.seen = seen

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self.seen.append(len(found))
        return found

    def read1(self, size: int | None = -1) -> bytes:
        found = super().read1(size)
        self.seen.append(len(found))
        return found


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of bytes of each reading of a table or archive."""
    seen: list[int] = []

    def opened(path: str) -> IO[bytes]:
        return Counted(Path(path).read_bytes(), seen)

    monkeypatch.setattr(reach, "opened", opened)
    return seen


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/remote", recursive=True)


def listed(named: Any) -> list[Item]:
    return list(source_of(named).items())


def test_of_a_shard_only_headers_and_texts_are_read(tmp_path: Path, read_bytes: list[int]) -> None:
    members = {f"{i:03}.{kind}": data for i in range(40) for kind, data in (("png", bytes(50_000)), ("cls", b"7"))}
    source = source_of(write_tar(tmp_path / "s.tar", members))
    read_bytes.clear()
    found = list(source.items())
    assert len(found) == 40
    assert {item.about for item in found} == {'{"cls": "7"}'}
    # Of each member a header and the byte before the next, and the text.
    assert sum(read_bytes) <= 80 * 514 + 40 + 1024
    assert all(isinstance(item.where, Member) for item in found)


def test_a_shard_of_many_members_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = write_tar(tmp_path / "s.tar", {f"{i}.png": b"x" for i in range(300)})
    held: list[int] = []
    whole = tarfile.TarFile.next

    def counted(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
        held.append(len(archive.members))  # type: ignore[attr-defined]
        return whole(archive)

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    assert len(listed(shard)) == 300
    assert max(held) <= 1


def test_the_first_rows_of_a_long_table_are_read_alone(tmp_path: Path, read_bytes: list[int]) -> None:
    table = write_csv(tmp_path / "t.csv", [{"path": f"{i}.png"} for i in range(100_000)])
    first = next(source_of(table).items())
    assert first.uri == str(tmp_path / "0.png")
    assert sum(read_bytes) < 100_000 < table.stat().st_size


def test_bytes_in_a_table_are_read_when_they_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, list[str]]] = []
    whole = parquet._batches

    def counted(file: Any, group: int, columns: list[str], rows: int) -> Iterator[Any]:
        asked.append((group, columns))
        return whole(file, group, columns, rows)

    monkeypatch.setattr(parquet, "_batches", counted)
    data = [bytes([i]) * 9 for i in range(100)]
    table = write_parquet(tmp_path / "t.parquet", {"image": data, "n": list(range(100))}, rows=50)
    found = listed(table)
    assert {group for group, _ in asked} == {0, 1}
    assert all(columns == ["n"] for _, columns in asked)
    asked.clear()
    assert [item.where.fetch() for item in found[40:]] == data[40:]
    assert asked == [(0, ["image"]), (1, ["image"])]
    assert found[0].where.fetch() == data[0]


def test_a_listing_goes_no_further_than_it_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        pictures(tmp_path / name, range(2))
    asked: list[str] = []
    whole = reach.children

    def counted(folder: str) -> reach.Listing:
        asked.append(Path(folder).name)
        return whole(folder)

    source = source_of(tmp_path)
    monkeypatch.setattr(reach, "children", counted)
    assert len(list(islice(source.items(), 3))) == 3
    assert asked == [tmp_path.name, "a", "b"]


def test_the_members_of_one_example_belong_together(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "s.tar",
        {
            "./a.jpg": b"1",
            "./a.json": b'{"k": [1, null]}',
            "./a.seg.png": b"2",
            "./a.npy": b"3",
            "._a.jpg": b"x",
            "__MACOSX/b.jpg": b"x",
            "d/b.left.png": b"4",
            "d/b.right.png": b"5",
            "d/b.txt": "Köln\n".encode(),
            "e.json": b"{broken",
            "e.webp": b"6",
            "../up.png": b"7",
            "l" * 180 + "/c.png": b"8",
        },
    )
    found = [(item.uri.partition("#")[2], item.about, item.where.fetch()) for item in listed(shard)]
    assert found == [
        ("a.jpg", '{"json": {"k": [1, null]}}', b"1"),
        ("d/b.left.png", '{"txt": "Köln"}', b"4"),
        ("d/b.right.png", '{"txt": "Köln"}', b"5"),
        ("e.webp", '{"json": "{broken"}', b"6"),
        ("../up.png", None, b"7"),
        ("l" * 180 + "/c.png", None, b"8"),
    ]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_every_format_of_tar(kind: int, tmp_path: Path) -> None:
    name = "/".join(["folder" * 8] * 2 + ["n" * 90 + ".png"])
    shard = write_tar(tmp_path / "s.tar", {name: png(1), "z.png": png(2)}, kind)
    assert [item.uri for item in listed(shard)] == [f"{shard}#{name}", f"{shard}#z.png"]
    assert [item.where.fetch() for item in listed(shard)] == [png(1), png(2)]
    assert read_original(f"{shard}#{name}").size == (96, 96)


def _header(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo("big.png")
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("content", [_header(1 << 40), _header(1 << 40, tarfile.GNUTYPE_LONGNAME), _header(-512)])
def test_a_header_that_lies_of_its_size_is_seen(content: bytes, tmp_path: Path) -> None:
    good = write_tar(tmp_path / "s.tar", {"a.png": b"1"}).read_bytes()[:1024]
    (tmp_path / "s.tar").write_bytes(good + content + bytes(10240))
    first, *others = listed(tmp_path / "s.tar")
    assert first.where.fetch() == b"1"
    assert isinstance(others[-1].where, Broken)
    for item in others:
        with pytest.raises(OSError):
            item.where.fetch()


def test_an_archive_without_its_end_is_said_to_be_cut_off(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "s.tar", {"a.png": b"1", "b.png": b"2"}).read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[:1024])
    found = listed(tmp_path / "s.tar")
    assert [item.uri.rpartition("/")[2] for item in found] == ["s.tar#a.png", "s.tar"]
    assert "cut off at byte 1,024" in found[1].where.reason  # type: ignore[union-attr]


def test_rows_that_are_damaged_do_not_hide_the_others(tmp_path: Path) -> None:
    table = write_parquet(tmp_path / "t.parquet", {"path": [f"{i}.png" for i in range(6)]})
    whole = table.read_bytes()
    table.write_bytes(whole[:4] + bytes(40) + whole[44:])
    found = listed(table)
    assert isinstance(found[0].where, Broken)
    assert "rows 0 to 1 cannot be read" in found[0].where.reason
    assert [Path(item.uri).name for item in found[1:]] == ["2.png", "3.png", "4.png", "5.png"]


def test_hugging_face_s_column_is_read_by_its_paths_where_it_has_no_bytes(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": "a.png"}] * 2 + [{"bytes": b"1", "path": "b.png"}, {"bytes": None, "path": None}]
    table = write_parquet(tmp_path / "t.parquet", {"image": pa.array(rows, kind), "label": [0, 1, 2, 3]})
    found = listed(table)
    assert [Path(item.uri).name for item in found] == ["a.png", "a.png", "t.parquet#2", "t.parquet#3"]
    assert found[2].where.fetch() == b"1"
    assert found[2].about == '{"label": 2, "image.path": "b.png"}'
    with pytest.raises(OSError, match="holds no image"):
        found[3].where.fetch()


def test_what_else_a_table_says_is_kept_where_it_is_short() -> None:
    assert about_of({"a": 1.5, "b": float("nan"), "c": "x" * 5000, "d": {"e": ["ü"]}}) == (
        '{"a": 1.5, "b": null, "d": {"e": ["ü"]}}'
    )
    assert about_of({}) is about_of({"c": "x" * 5000}) is None


def test_a_remote_table_names_nothing_of_this_machine(tmp_path: Path, memory: Any) -> None:
    (secret,) = pictures(tmp_path, range(1))
    named = [f"file://{secret}", str(secret), "../" * 9 + str(secret), f"local://{secret}", f"a.png::file://{secret}"]
    named += [f"zip://a::file://{secret}", f"FILE://{secret}", f"http://x::file://{secret}"]
    memory.pipe_file("/remote/t.csv", "\n".join(["path", "b/a.png", *named]).encode())
    first, *others = listed("memory://remote/t.csv")
    assert first.where == File("memory://remote/b/a.png")
    assert len(others) == len(named)
    assert all(isinstance(item.where, Broken) for item in others)
    assert [item.uri for item in others] == [f"memory://remote/t.csv#{i}" for i in range(1, 9)]


def test_a_table_of_this_machine_names_its_files_and_plain_urls(tmp_path: Path, memory: Any) -> None:
    (own,) = pictures(tmp_path / "a b", range(1))
    memory.pipe_file("/remote/x.png", png(2))
    named = [str(own), own.as_uri(), "a b/000.png", "memory://remote/x.png", "zip://x::file:///y", "a\0b"]
    found = listed(write_csv(tmp_path / "t.csv", [{"path": name} for name in named]))
    assert [item.where.fetch() == own.read_bytes() for item in found[:3]] == [True] * 3
    assert {item.uri for item in found[:3]} == {str(own)}
    assert found[3].where.fetch() == png(2)
    for item in found[4:]:
        with pytest.raises(OSError):
            item.where.fetch()


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.png")
    for path in (str(tmp_path / "pipe.png"), "/dev/zero"):
        with pytest.raises(OSError, match="no regular file"):
            File(path).fetch()


def test_every_kind_of_source_is_read_by_url(memory: Any, tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", {"m.png": png(1), "m.cls": b"2"})
    table = write_parquet(tmp_path / "t.parquet", {"image": [png(1)], "n": [5]})
    memory.pipe({f"/remote/{f.name}": f.read_bytes() for f in (shard, table)})
    memory.pipe({"/remote/a/1.png": png(1), "/remote/a/b/2.png": png(1), "/remote/t.csv": b"url,n\na/1.png,3\n"})
    wanted = {
        "memory://remote/a": ["memory://remote/a/1.png", "memory://remote/a/b/2.png"],
        "memory://remote/**/?.png": ["memory://remote/a/1.png", "memory://remote/a/b/2.png"],
        "memory://remote/a/{1..2}.png": ["memory://remote/a/1.png", "memory://remote/a/2.png"],
        "memory://remote/s.tar": ["memory://remote/s.tar#m.png"],
        "memory://remote/t.parquet": ["memory://remote/t.parquet#0"],
        "memory://remote/*.csv": ["memory://remote/a/1.png"],
    }
    for named, uris in wanted.items():
        found = listed(named)
        assert [item.uri for item in found] == uris
        assert found[0].where.fetch() == png(1)
        assert read_original(uris[0]).size == (96, 96)
    assert [(i.size is None, i.stamp is None) for i in listed("memory://remote/a")] == [(False, False)] * 2


def test_what_a_url_wants_is_said() -> None:
    with pytest.raises(InputError, match="memory://remote/none: no such file"):
        source_of("memory://remote/none")
    with pytest.raises(InputError, match="Protocol not known: nonsense"):
        source_of("nonsense://remote")


def test_a_package_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **kwargs: Any) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InputError, match="s3:// wants a package that is not installed; pip install s3fs"):
        source_of("s3://bucket/a")
    with pytest.raises(InputError, match="pip install s3fs"):
        source_of(write_csv(tmp_path / "t.csv", [{"path": "s3://bucket/a.png"}]))


@pytest.mark.parametrize("uri", ["gone.png", "s.tar#gone.png", "gone.tar#a.png", "gone.parquet#3", "t.parquet#7"])
def test_an_original_that_is_gone_is_said(uri: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", {"a.png": png(1)})
    write_parquet(tmp_path / "t.parquet", {"image": [png(1)]})
    with pytest.raises(ImageError, match="cannot be read") as error:
        read_original(f"{tmp_path}/{uri}")
    assert "\n" not in str(error.value)


def test_names_with_a_hash_are_told_from_members(tmp_path: Path) -> None:
    (pictures(tmp_path / "a.tar#b", range(1))[0]).rename(tmp_path / "a.tar#b" / "x#1.png")
    shard = write_tar(tmp_path / "a.tar#b" / "c.tar", {"y#2.png": png(3)})
    assert read_original(f"{tmp_path}/a.tar#b/x#1.png").size == (96, 96)
    assert read_original(f"{shard}#y#2.png").size == (96, 96)


def test_a_shard_s_members_are_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = write_tar(tmp_path / "s.tar", {f"{i}.png": png(i) for i in range(3)})
    asked: list[str] = []
    whole = originals.members

    def counted(path: str) -> Any:
        asked.append(path)
        return whole(path)

    monkeypatch.setattr(originals, "members", counted)
    assert [read_original(f"{shard}#{i}.png").size for i in range(3)] == [(96, 96)] * 3
    assert asked == [str(shard)]


def test_a_table_that_is_one_row_group_is_not_read_whole(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    data = [bytes([i]) * 200_000 for i in range(200)]
    pq.write_table(pa.table({"image": data}), stream, compression="none", use_dictionary=False, write_batch_size=4)
    memory.pipe_file("/remote/t.parquet", stream.getvalue())
    found = listed("memory://remote/t.parquet")
    seen: list[int] = []
    whole = reach._Far.readinto

    def counted(self: Any, buffer: Any) -> int:
        seen.append(whole(self, buffer))
        return seen[-1]

    monkeypatch.setattr(reach._Far, "readinto", counted)
    assert found[0].where.fetch() == data[0]
    assert sum(seen) < 15_000_000 < 40_000_000 < len(stream.getvalue())
    assert found[-1].where.fetch() == data[-1]
    assert sum(seen) < 1.1 * len(stream.getvalue())


def test_arrays_in_the_cells_of_a_table_are_told_by_their_content(tmp_path: Path) -> None:
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    stream = io.BytesIO()
    np.save(stream, pixels)
    pq.write_table(pa.table({"image": [stream.getvalue()]}), tmp_path / "t.parquet")
    (item,) = listed(tmp_path / "t.parquet")
    found = decode(reader_of(net_model()), item)
    assert (found.error, found.x.shape) == (None, (3, 8, 8))
    assert np.array_equal(read_original(item.uri).pixels, pixels)
