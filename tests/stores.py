"""Stores for tests: of real explanations, and of maps drawn by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from sightline.batch.job import Job
from sightline.batch.run import How, run
from sightline.batch.store import Settings, writing
from sightline.batch.table import IMAGES, schema, table_of
from sightline.demo.scenes import scene
from sightline.models.load import load


def scenes(folder: Path, count: int = 4) -> Path:
    """Write scenes as scene0.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(scene(number).image).save(folder / f"scene{number}.png")
    return folder


def explained(source: Path, out: Any, model: str = "demo/honest", methods: Sequence[str] = ("grad_cam",)) -> None:
    """Explain a folder into a store."""
    job = Job(partial(load, model), model, tuple(methods), ("top1",))
    run(source, job, out, How(workers=0, batch_size=4))


def row(image: str, heatmap: Any, **others: Any) -> dict[str, Any]:
    """Return a row of a map drawn by hand."""
    values = None if heatmap is None else np.asarray(heatmap, np.float16)
    usual = {"image": image, "method": "grad_cam", "parameters": "{}", "asked": "top1", "model": "m"}
    named = {"key": f"{image}-{others.get('asked', '')}", "weights_hash": "w", "heatmap_scale": 1.0}
    return usual | named | {"heatmap": values} | others


def stored(out: Any, *commits: Sequence[Mapping[str, Any]], shape: tuple[int, ...] = (2, 2), raw: bool = False) -> Any:
    """Write commits of rows drawn by hand into a store."""
    with writing(out, Settings(shape, raw)) as writer:
        for rows in commits:
            listed = [{"image": r["image"], "size": 1, "stamp": "1", "image_hash": None} for r in rows]
            writer.commit(pa.Table.from_pylist(listed, IMAGES), table_of(rows, schema(shape, raw=raw)), ["a"], {})
    return out
