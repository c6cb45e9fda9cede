"""Exports that need no other library: a picture for each row, arrays, boxes as COCO has them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO, Any

import numpy as np
import pyarrow as pa

from sightline.batch.exports.work import Work, flat
from sightline.batch.functions import maps_of
from sightline.batch.regions import regions
from sightline.batch.sheet import Shown, drawn, name_of
from sightline.errors import InputError
from sightline.output import file_part, written

__all__ = ["write_coco", "write_npz", "write_png"]


def write_png(work: Work) -> None:
    """Write a picture of each row, as large as its original: NAME.METHOD.TARGET.KEY.png."""
    for piece in work.pieces:
        for shown in work.rows(piece):
            try:
                picture = drawn(shown, work.draw)
            except InputError as error:
                work.found.fail(shown.row["image"], error)
                continue
            with written(work.out / _file_name(shown.row)) as aside:
                picture.save(aside, "PNG")
            work.found.rows += 1
            work.found.files += 1


def _file_name(row: Mapping[str, Any]) -> str:
    """Return a name of its own: the key tells rows apart whose names are alike."""
    stem = PurePosixPath(name_of(row["image"])).stem
    target = file_part(str(row["target_label"]), 32)
    return f"{file_part(stem)}.{file_part(row['method'])}.{target}.{file_part(row['key'], 16)}.png"


def write_npz(work: Work) -> None:
    """Write explanations-00000.npz and so on, a file for each piece.

    ``heatmap`` is float32 (N, *S), the attribution itself: the stored map times its scale, NaN where the model never
    saw the original and in rows with an error. Of the other columns missing text is "", a missing whole number -1, a
    missing number NaN.
    """
    for number, piece in enumerate(work.pieces):
        arrays = {name: _array(kind, values) for name, (kind, values) in flat(piece, work.metrics).items()}
        maps = maps_of(piece.column("heatmap"), work.shape)
        arrays["heatmap"] = maps * arrays.pop("heatmap_scale").astype(np.float32).reshape(-1, *[1] * len(work.shape))
        with written(work.out / f"explanations-{number:05}.npz") as aside:
            np.savez_compressed(aside, **arrays)  # type: ignore[arg-type]
        work.found.rows += len(maps)
        work.found.files += 1


def _array(kind: pa.DataType, values: list[Any]) -> np.ndarray:
    if pa.types.is_integer(kind):
        return np.array([-1 if v is None else v for v in values], np.int64)
    if pa.types.is_floating(kind):
        return np.array([np.nan if v is None else v for v in values], np.float64)
    return np.array(["" if v is None else str(v) for v in values], str)


def write_coco(work: Work) -> None:
    """Write annotations.json: a box around each region that is hotter than the threshold, in the original's pixels.

    The category is the target; ``score`` is the region's share of the map's mass. Images are named by their URIs.
    """
    work.needs_pictures("--to coco")
    images: dict[str, dict[str, Any]] = {}
    categories: dict[str, dict[str, Any]] = {}
    with written(work.out / "annotations.json") as aside, aside.open("w", encoding="utf-8") as stream:
        stream.write('{"info": {"description": "hot regions of explanations"}, "licenses": [],\n"annotations": [')
        _write_list(stream, _boxes(work, images, categories))
        stream.write('],\n"images": [')
        _write_list(stream, images.values())
        stream.write('],\n"categories": [')
        _write_list(stream, sorted(categories.values(), key=lambda c: int(c["id"])))
        stream.write("]}\n")
    work.found.files += 1


def _boxes(work: Work, images: dict[str, Any], categories: dict[str, Any]) -> Iterator[dict[str, Any]]:
    count = 0
    for piece in work.pieces:
        for shown in work.rows(piece):
            row, heat = shown.row, np.asarray(shown.heatmap)
            image = images.setdefault(row["image"], _image(row, len(images) + 1))
            category = categories.setdefault(str(row["target_label"]), _category(row, categories))
            for region in regions(heat, work.threshold):
                count += 1
                box = _pixels(region.left, region.top, region.right, region.bottom, row)
                ids = {"id": count, "image_id": image["id"], "category_id": category["id"]}
                yield ids | _annotation(box, region.mass, shown)
            work.found.rows += 1


def _image(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {"id": number, "file_name": row["image"], "width": row["width"], "height": row["height"]}


def _category(row: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return a category: its id is the class's index + 1, for 0 is the background to some readers."""
    taken = {c["id"] for c in others.values()}
    number = row["target"] + 1 if row["target"] is not None else None
    free = number if number is not None and number not in taken else max(taken, default=0) + 1
    return {"id": free, "name": str(row["target_label"]), "supercategory": "class"}


def _pixels(left: float, top: float, right: float, bottom: float, row: Mapping[str, Any]) -> list[float]:
    wide, high = row["width"], row["height"]
    return [round(n, 2) for n in (left * wide, top * high, (right - left) * wide, (bottom - top) * high)]


def _annotation(box: list[float], mass: float, shown: Shown) -> dict[str, Any]:
    row = shown.row
    area, said = round(box[2] * box[3], 2), {"method": row["method"], "model": row["model"]}
    return {"bbox": box, "area": area, "iscrowd": 0, "score": round(mass, 6), **said}


def _write_list(stream: IO[str], entries: Iterable[Mapping[str, Any]]) -> None:
    for number, entry in enumerate(entries):
        stream.write(("," if number else "") + "\n" + json.dumps(entry, ensure_ascii=False, allow_nan=False))
