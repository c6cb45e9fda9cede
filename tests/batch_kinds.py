"""The same few pictures as each kind of source: for the tests of sources and of the way back."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sightline.demo.scenes import scene

KINDS = ("folder", "glob", "csv", "list", "paths", "parquet_paths", "parquet_bytes", "parquet_struct", "tar", "memory")


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene(seed).image).save(stream, "PNG")
    return stream.getvalue()


def pictures(folder: Path, seeds: range) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / f"{seed:03}.png").write_bytes(png(seed))
    return sorted(folder.glob("*.png"))


def write_tar(file: Path, members: Mapping[str, bytes], kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(file, "w", format=kind) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def write_csv(file: Path, rows: list[dict[str, Any]]) -> Path:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_parquet(file: Path, columns: Mapping[str, Any], rows: int = 2) -> Path:
    pq.write_table(pa.table(dict(columns)), file, row_group_size=rows)
    return file


def _csv(at: Path, files: list[Path]) -> Path:
    return write_csv(at / "t.csv", [{"label": i, "path": f"pictures/{f.name}"} for i, f in enumerate(files)])


def _list(at: Path, files: list[Path]) -> Path:
    (at / "l.txt").write_text("\n".join(f"pictures/{f.name}" for f in files))
    return at / "l.txt"


def _struct(at: Path, files: list[Path]) -> Path:
    column = [{"bytes": f.read_bytes(), "path": f.name} for f in files]
    return write_parquet(at / "s.parquet", {"label": list(range(len(files))), "image": column})


def _memory(at: Path, files: list[Path]) -> str:
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in files:
        memory.pipe_file(f"{at}/pictures/{file.name}", file.read_bytes())
    return f"memory:/{at}/pictures"


_MADE: dict[str, Callable[[Path, list[Path]], Any]] = {
    "folder": lambda at, files: at / "pictures",
    "glob": lambda at, files: f"{at}/**/*.png",
    "csv": _csv,
    "list": _list,
    "paths": lambda at, files: files,
    "parquet_paths": lambda at, files: write_parquet(at / "p.parquet", {"file_name": [str(f) for f in files]}),
    "parquet_bytes": lambda at, files: write_parquet(
        at / "b.parquet", {"label": ["a"] * len(files), "data": [f.read_bytes() for f in files]}
    ),
    "parquet_struct": _struct,
    "tar": lambda at, files: write_tar(at / "t.tar", {f.name: f.read_bytes() for f in files}),
    "memory": _memory,
}


def source(kind: str, at: Path, seeds: range) -> Any:
    """Write the scenes of some seeds as a source of a kind; written again, with more seeds, it has grown."""
    return _MADE[kind](at, pictures(at / "pictures", seeds))
