"""What the tests of batches share: scenes as files, jobs, and what a store holds in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image
from torch import nn

import sightline
from sightline.batch.job import Job
from sightline.batch.run import How, Summary, run
from sightline.batch.store import open_store
from sightline.demo.scenes import scene
from sightline.models.model import Model

SMALL = sightline.Preprocessing(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)
HERE = How(workers=0, batch_size=4)


def scenes(folder: Path, count: int, first: int = 0) -> Path:
    """Write scenes as 000.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        Image.fromarray(scene(number).image).save(folder / f"{number:03}.png")
    return folder


class Net(nn.Module):
    """A small classifier of pictures of any size; ``trouble`` sees each batch first."""

    def __init__(self, trouble: Callable[[torch.Tensor], None] = lambda x: None, channels: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 4)
        self.trouble, self.passes = trouble, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        self.trouble(x)
        return self.head(self.body(x).mean((2, 3)))


def net_model(trouble: Callable[[torch.Tensor], None] = lambda x: None) -> Model:
    """Return a small model with weights that are always the same."""
    torch.manual_seed(0)
    return sightline.load(Net(trouble), preprocessing=SMALL)


def job_of(model: Model | None = None, *methods: str, **options: Any) -> Job:
    """Return a job for a model, of demo/honest where none is given."""
    opened = model if model is not None else sightline.load("demo/honest")
    asked = {"methods": methods or ("grad_cam",), "targets": ("top1",), "heatmap": 8, **options}
    return Job(lambda: opened, opened.name, **asked)


def done(source: Any, job: Job, out: Path, how: How = HERE) -> Summary:
    """Run a job."""
    return run(source, job, out, how)


def rows(out: Path | str) -> list[dict[str, Any]]:
    """Return the rows of a store, all columns, by their keys."""
    return plain(open_store(out).read())


def errors(out: Path) -> dict[str, str]:
    return {Path(r["image"]).name: r["error"] for r in rows(out) if r["error"] is not None}


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Return a table's rows as values that can be compared, NaN too, by their keys."""
    columns = {
        name: (table[name].combine_chunks().storage if name == "heatmap" else table[name]).to_pylist()
        for name in table.column_names
    }
    listed = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return sorted(listed, key=lambda row: row["key"])


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """Say whether two lists of rows are the same to the last bit."""
    return [*map(repr, one)] == [*map(repr, other)]


def images(out: Path) -> list[tuple[Any, ...]]:
    """Return the table ``images`` of a store, sorted."""
    store = open_store(out)
    listed = [row for commit in store.commits for row in store.part(commit.images).to_pylist()]
    return sorted(tuple(map(str, row.values())) for row in listed)


def left_over(out: Path) -> list[str]:
    """Return the files of a store that its manifest does not name."""
    commits = open_store(out).commits
    known = {name for c in commits for name in (*c.explanations, c.images, f"manifest/{c.number:08}.json")}
    there = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    return sorted(there - known - {"store.json", "lock"})


def begun_by(process: int) -> list[int]:
    """Return the processes that a process has begun and that still run."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == process and state != "Z":
            found.append(int(name))
    return found


def children_of(process: int) -> list[int]:
    """Return the processes that a process has begun, and those that they have."""
    mine = begun_by(process)
    return mine + [other for child in mine for other in children_of(child)]


def lives(process: int) -> bool:
    """Say whether a process runs, and is no mere entry of one that has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
