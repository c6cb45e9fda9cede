"""Exports through other libraries, where they are installed: Hugging Face datasets and FiftyOne."""

from __future__ import annotations

import importlib
import math
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sightline.batch.exports.work import Work, flat
from sightline.batch.regions import regions
from sightline.batch.sheet import Shown, name_of, rows_of
from sightline.batch.unchanged import original_bytes
from sightline.errors import InputError
from sightline.output import file_part

__all__ = ["write_fiftyone", "write_huggingface"]


def write_huggingface(work: Work) -> None:
    """Write a data set that ``datasets.load_from_disk`` reads: the pictures themselves, maps, the other columns.

    ``heatmap`` is the attribution itself, float32, NaN where the model never saw the picture. Raises InputError where
    datasets is not installed.
    """
    datasets = _installed("datasets", "huggingface")
    with tempfile.TemporaryDirectory(prefix="sightline-export-") as scratch:
        parts = []
        for number, piece in enumerate(work.pieces):
            columns = _columns(work, piece)
            if columns["uri"]:
                folder = str(Path(scratch) / str(number))
                features = _features(datasets, work, piece)
                datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder)
                parts.append(datasets.load_from_disk(folder))  # on the disk, so that no more than a piece is held
                work.found.rows += len(columns["uri"])
        if not parts:
            raise InputError("no row could be exported: none has both a map and its original.")
        datasets.concatenate_datasets(parts).save_to_disk(str(work.out))
    work.found.files += 1


def _columns(work: Work, piece: pa.RecordBatch) -> dict[str, list[Any]]:
    """Return the columns of the rows that have a map and, of pictures, their originals."""
    maps: dict[int, tuple[Any, Any]] = {}
    for n, shown in enumerate(rows_of(piece, work.shape)):
        if shown.heatmap is None:
            work.found.without += 1
            continue
        try:
            data = original_bytes(shown.row["image"], shown.row["image_hash"]) if len(work.shape) == 2 else None
        except InputError as error:
            work.found.fail(shown.row["image"], error)
            continue
        picture = {"bytes": data, "path": name_of(shown.row["image"])}
        maps[n] = picture, (shown.heatmap * np.float32(shown.row["heatmap_scale"])).tolist()
    others = {name: [values[n] for n in maps] for name, (_, values) in flat(piece, work.metrics).items()}
    uris = others.pop("image")
    pictures = {"image": [p for p, _ in maps.values()]} if len(work.shape) == 2 else {}
    return {**pictures, "heatmap": [m for _, m in maps.values()], "uri": uris, **others}


def _features(datasets: Any, work: Work, piece: pa.RecordBatch) -> Any:
    """Return the data set's columns, so that a piece in which one is empty has them as the others have."""
    found = {name: datasets.Value(_value(kind)) for name, (kind, _) in flat(piece, work.metrics).items()}
    found.pop("image")
    maps = {
        1: lambda: datasets.Sequence(datasets.Value("float32"), length=math.prod(work.shape)),
        2: lambda: datasets.Array2D(shape=work.shape, dtype="float32"),
        3: lambda: datasets.Array3D(shape=work.shape, dtype="float32"),
    }
    pictures = {"image": datasets.Image()} if len(work.shape) == 2 else {}
    columns = {**pictures, "heatmap": maps[len(work.shape)](), "uri": datasets.Value("string"), **found}
    return datasets.Features(columns)


def _value(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "int64"
    return "float64" if pa.types.is_floating(kind) else "string"


def write_fiftyone(work: Work) -> None:
    """Write a data set that FiftyOne reads (``fo.types.FiftyOneDataset``): a sample of each image, fields for its maps.

    The pictures stay where they are. Raises InputError where fiftyone is not installed.
    """
    work.needs_pictures("--to fiftyone")
    fo = _installed("fiftyone", "fiftyone")
    dataset = fo.Dataset()
    try:
        for image, rows in groupby(_rows(work), key=lambda s: str(s.row["image"])):
            held = list(rows)
            try:
                dataset.add_sample(_sample(fo, image, held, work.threshold))
            except InputError as error:
                work.found.fail(image, error)
                continue
            work.found.rows += len(held)
        dataset.export(export_dir=str(work.out), dataset_type=fo.types.FiftyOneDataset, export_media=False)
    finally:
        dataset.delete()
    work.found.files += 1


def _rows(work: Work) -> Iterator[Shown]:
    for piece in work.pieces:
        yield from work.rows(piece)


def _sample(fo: Any, image: str, rows: list[Shown], threshold: float) -> Any:
    if not Path(image).is_file():
        raise InputError(f"original not found: {image}; FiftyOne reads files of this machine only.")
    sample = fo.Sample(filepath=image)
    several = len({s.row["model"] for s in rows}) > 1
    for shown in rows:
        row, heat = shown.row, np.nan_to_num(np.asarray(shown.heatmap, np.float32))
        about = f"_{file_part(row['model'])}" if several else ""
        name = f"{row['method']}_{file_part(row['asked'])}{about}".replace(".", "_").replace("-", "_")
        sample[f"prediction{about}"] = fo.Classification(label=row["prediction_label"], confidence=row["probability"])
        sample[name] = fo.Heatmap(map=heat, range=[-1.0 if (heat < 0).any() else 0.0, 1.0])
        sample[f"{name}_regions"] = fo.Detections(detections=_detections(fo, row["target_label"], heat, threshold))
    return sample


def _detections(fo: Any, label: str, heat: np.ndarray, threshold: float) -> list[Any]:
    return [
        fo.Detection(label=label, bounding_box=[r.left, r.top, r.right - r.left, r.bottom - r.top], confidence=r.mass)
        for r in regions(heat, threshold)
    ]


def _installed(package: str, kind: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise InputError(f"--to {kind} needs the package {package}: pip install {package}.") from None
