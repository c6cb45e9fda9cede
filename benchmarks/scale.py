"""Explanations of a data set against the model's own inference over it: speed, memory, bytes, resuming, Ray.

    python benchmarks/scale.py                                       # scenes, demo/honest: 100, 1,000, 10,000
    python benchmarks/scale.py --model mobilenet_v2 --photos DIR     # photographs of a folder, repeated
    python benchmarks/scale.py --images 2000 --engines local,ray:1,ray:2

Each figure comes from a process of its own, one after the other. "plain" decodes in the same worker processes and runs
the same batches through the model without gradients; nothing else. A photograph that is repeated gets a comment of its
own, so that no two files are the same. "kept" is plain with freed memory kept by the process, as `sightline batch`
keeps it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def write_scenes(folder: Path, count: int) -> None:
    from PIL import Image

    from sightline.demo.scenes import scene

    for number in range(len(list(folder.glob("*.png"))), count):
        Image.fromarray(scene(number).image).save(folder / f"{number:06}.png", compress_level=1)


def write_photos(folder: Path, count: int, photos: Path) -> None:
    files = sorted(p for p in photos.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))
    for number, file in zip(range(count), itertools.cycle(files), strict=False):
        data, said = file.read_bytes(), f"copy {number}".encode()
        comment = b"\xff\xfe" + (len(said) + 2).to_bytes(2, "big") + said
        (folder / f"{number:06}.jpg").write_bytes(data[:2] + comment + data[2:])


def keep_freed() -> None:
    from sightline.batch.memory import keep_freed_memory

    keep_freed_memory()


def opened(name: str):
    from sightline.models.load import load

    return load(name, weights="default" if name.startswith("demo/") else None)


def first(folder: Path, count: int):
    from dataclasses import replace

    from sightline.batch.sources import source_of

    whole = source_of(folder)
    return replace(whole, items=lambda: itertools.islice(whole.items(), count), count=lambda: count)


def plain(name: str, folder: Path, count: int, size: int, workers: int) -> None:
    """Decode as a run does, and infer: the same batches, no gradients, predictions kept."""
    import torch

    from sightline.batch.decoding import Decoders, reader_of

    model, said = opened(name), []
    items = first(folder, count).items()
    units = iter(lambda: list(itertools.islice(items, size)), [])
    with Decoders(reader_of(model), workers) as decoders, torch.inference_mode():
        for images in decoders.map(units):
            x = torch.stack([torch.from_numpy(one.x) for one in images])
            said += model.module(x).softmax(1).max(1).indices.tolist()


def explained(name: str, folder: Path, count: int, size: int, workers: int | None, engine: str, store: Path):
    from functools import partial

    from sightline.batch.job import Job
    from sightline.batch.run import How, run

    job = Job(partial(opened, name), name, ("grad_cam",), ("top1",))
    return run(first(folder, count), job, store, How(engine, workers, size, fingerprint="scale"))


def resumed(folder: Path, count: int, store: Path) -> None:
    """Do what `sightline batch --resume` does where nothing is left."""
    from sightline.batch.finished import if_finished

    assert if_finished(first(folder, count), store, "scale").images == count


def child(args: argparse.Namespace) -> None:
    """Do one thing in this process, and print its seconds, peak memory and processor time, workers' not counted."""
    logging.disable(logging.WARNING)
    folder, store = Path(args.folder), Path(args.store)
    engine, _, actors = args.child.partition(":")
    if engine not in ("plain", "again"):
        keep_freed()  # as the command line does
    began = time.perf_counter()
    if engine == "again":
        resumed(folder, args.count, store)
    elif engine in ("plain", "kept"):
        plain(args.model, folder, args.count, args.batch_size, args.workers)
    else:
        kind, workers = ("local", args.workers) if engine == "local" else ("ray", int(actors) if actors else None)
        found = explained(args.model, folder, args.count, args.batch_size, workers, kind, store)
        assert found.rows == args.count, found
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "own_processor_seconds": time.process_time()}))


def measured(args: argparse.Namespace, what: str, count: int, folder: Path, store: Path) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    options = {"child": what, "count": count, "folder": folder, "store": store, "model": args.model}
    options |= {"batch-size": args.batch_size, "workers": args.workers}
    words = [str(w) for k, v in options.items() for w in (f"--{k}", v)]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} of {count} images failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"with_python": time.perf_counter() - began}


def size_of(store: Path) -> int:
    return sum(p.stat().st_size for p in store.rglob("*") if p.is_file())


def compare(args: argparse.Namespace, count: int, folder: Path, at: Path) -> list[dict[str, object]]:
    """Measure plain inference and every engine over the same images, interleaved over the rounds."""
    rows: list[dict[str, object]] = []
    for round_number in range(args.rounds):
        base, kept = (measured(args, what, count, folder, at / "none") for what in ("plain", "kept"))
        rows.append({"what": "plain", "images": count, "round": round_number, **base})
        rows.append({"what": "kept", "images": count, "round": round_number, **kept})
        for engine in args.engines.split(","):
            store = at / "store"
            shutil.rmtree(store, ignore_errors=True)
            found = measured(args, engine, count, folder, store)
            ratios = {"ratio": base["seconds"] / found["seconds"], "ratio_kept": kept["seconds"] / found["seconds"]}
            found |= {**ratios, "bytes_per_image": size_of(store) / count}
            if engine == "local":
                found["again_seconds"] = measured(args, "again", count, folder, store)["with_python"]
            rows.append({"what": engine, "images": count, "round": round_number, **found})
        for row in rows[-2 - len(args.engines.split(",")) :]:
            print(told(row), flush=True)
    return rows


def told(row: dict[str, object]) -> str:
    per_image = 1000 * float(row["seconds"]) / int(row["images"])
    said = f"{row['what']:>8}  {row['images']:>7,} images  {row['seconds']:8.1f} s  {per_image:7.2f} ms an image"
    said += f"  peak {row['peak_mib']:6.0f} MiB"
    if "ratio" in row:
        said += f"  {row['ratio']:.2f} of plain speed, {row['ratio_kept']:.2f} of kept"
        said += f"  {row['bytes_per_image'] / 1024:.1f} KiB an image"
    return said + (f"  again: {row['again_seconds']:.2f} s" if "again_seconds" in row else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo/honest", help="demo/honest, or a torchvision name (random weights)")
    parser.add_argument("--photos", type=Path, help="a folder of JPEG photographs, repeated; otherwise scenes")
    parser.add_argument("--images", default="100,1000,10000")
    parser.add_argument("--engines", default="local", help="local, ray, ray:1, ray:2 (actors); separated by commas")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    for hidden in ("--child", "--folder", "--store"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    counts = [int(c) for c in args.images.split(",")]
    with tempfile.TemporaryDirectory(prefix="sightline-scale-") as scratch:
        at = Path(scratch)
        folder = at / "images"
        folder.mkdir()
        write_photos(folder, max(counts), args.photos) if args.photos else write_scenes(folder, max(counts))
        rows = [row for count in counts for row in compare(args, count, folder, at)]
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
