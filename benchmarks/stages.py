"""What each stage of a run costs by itself, on one core: the figures from which docs/scale.md works out larger runs.

python benchmarks/stages.py [--model mobilenet_v2] [--photos DIR] [--images 64]
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import torch
from scale import first, opened, write_photos, write_scenes

from sightline.batch.decoding import decode, reader_of
from sightline.batch.done import Done
from sightline.batch.job import Job
from sightline.batch.memory import keep_freed_memory
from sightline.batch.rows import Work, rows_of, shape_of
from sightline.batch.store import Settings, open_store, writing
from sightline.batch.table import IMAGES, as_parquet, table_of


def best(what: Callable[[], object], times: int = 3) -> float:
    """Return the least processor time of some runs, in seconds."""
    found = []
    for _ in range(times):
        began = time.process_time()
        what()
        found.append(time.process_time() - began)
    return min(found)


def commit_all(job: Job, work: Work, rows: list[dict], images: pa.Table, at: Path, commits: int) -> None:
    with writing(at, Settings(shape_of(job, work.plan.model))) as writer:
        for _ in range(commits):
            writer.commit(images, table_of(rows, writer.store.schema), [work.asks[0].hash], {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="sightline-stages-") as scratch:
        print(json.dumps(stages(args, Path(scratch)), indent=1))


def stages(args: argparse.Namespace, at: Path) -> dict[str, float]:
    folder = at / "images"
    folder.mkdir()
    write_photos(folder, args.images, args.photos) if args.photos else write_scenes(folder, args.images)
    model = opened(args.model)
    job = Job(partial(opened, args.model), args.model, ("grad_cam",), ("top1",))
    work, reader, items = Work.of(job, model), reader_of(model), list(first(folder, args.images).items())
    wanted = [work.asks[0].hash]
    images = [decode(reader, item) for item in items]
    batches = [images[i : i + args.batch_size] for i in range(0, len(images), args.batch_size)]

    def infer() -> None:
        with torch.inference_mode():
            for batch in batches:
                model.module(torch.stack([torch.from_numpy(one.x) for one in batch]))

    def explain() -> list[dict]:
        return list(itertools.chain.from_iterable(rows_of(work, batch, wanted) for batch in batches))

    rows = explain()
    infer()
    table = table_of(rows, open_schema(job, work))
    listed = pa.Table.from_pylist(
        [
            {"image": i.uri, "size": i.size, "stamp": i.stamp, "image_hash": d.hash}
            for i, d in zip(items, images, strict=True)
        ],
        IMAGES,
    )
    began = time.perf_counter()
    commit_all(job, work, rows, listed, at / "store", 10)
    commit = (time.perf_counter() - began) / 10
    store = open_store(at / "store")
    each = 1000 / args.images
    return {
        "list_ms": each * best(lambda: list(first(folder, args.images).items())),
        "fetch_hash_decode_prepare_ms": each * best(lambda: [decode(reader, item) for item in items]),
        "infer_ms": each * best(infer),
        "explain_and_row_ms": each * best(explain),
        "parquet_ms": each * best(lambda: as_parquet(table)),
        "known_again_ms": each * best(lambda: [Done(store, wanted, by_name=True).missing(i) for i in items[:1]]) / 10,
        "commit_s": commit,
        "row_bytes": len(as_parquet(table)) / args.images,
        "image_bytes": sum(i.size for i in items) / args.images,
        "listing_bytes": len(as_parquet(listed)) / args.images,
    }


def open_schema(job: Job, work: Work) -> pa.Schema:
    from sightline.batch.table import schema

    return schema(shape_of(job, work.plan.model), raw=False)


if __name__ == "__main__":
    main()
