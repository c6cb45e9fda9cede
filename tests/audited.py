"""Stores for tests of the audit: scenes through a demo model, and pictures with maps made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from sightline.batch.dataset import explain_dataset
from sightline.batch.names import content_digest
from sightline.batch.store import Settings, writing
from sightline.batch.table import IMAGES, schema, table_of
from sightline.demo.scenes import CLASSES, scenes
from sightline.geometry import Preprocessing
from sightline.models.load import load
from sightline.models.model import Model

SIDE = 96
Heat = Callable[[int], np.ndarray]


def star_chances(star: float, others: float) -> list[float]:
    """Return the chance of the watermark for each class."""
    return [star if name == "star" else others for name in CLASSES]


def drawn(folder: Path, n: int, seed: int, watermark: float | Sequence[float]) -> dict[str, bool]:
    """Write scenes as PNG files; return which of them carry the watermark."""
    folder.mkdir()
    marked = {}
    for number, shot in enumerate(scenes(n, seed, watermark=watermark)):
        file = folder / f"{number:05}.png"
        Image.fromarray(shot.image).save(file, compress_level=1)
        marked[str(file)] = bool(shot.watermark_mask.any())
    return marked


def explained(folder: Path, model: str, method: str = "grad_cam") -> Path:
    """Explain a folder of scenes into a store beside it."""
    out = folder.with_name(f"{folder.name}-{model}-{method}")
    explain_dataset(f"demo/{model}", folder, out, method, workers=0, batch_size=64)
    return out


def texture(rng: np.random.Generator, low: int = 40, high: int = 200) -> np.ndarray:
    """Return a picture of random soft blots, uint8 (96, 96, 3)."""
    small = Image.fromarray(rng.integers(low, high, (12, 12, 3), dtype=np.uint8))
    return np.array(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def gauss(x: float, y: float, width: float = 5.0, side: int = 64) -> np.ndarray:
    """Return a map (64, 64) with one round spot at a place in shares of the picture."""
    places = (np.arange(side) + 0.5) / side
    across, down = np.exp(-0.5 * ((places - x) * side / width) ** 2), np.exp(-0.5 * ((places - y) * side / width) ** 2)
    return np.outer(down, across).astype(np.float32)


def by_hand(
    score: Callable[[torch.Tensor], torch.Tensor], folder: Path, pictures: Sequence[np.ndarray], heat: Heat
) -> tuple[Path, Model]:
    """Return a store of pictures and maps made by hand, and the model that says class 1 where its score is positive."""
    how = Preprocessing(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = load(lambda x: torch.stack([torch.zeros(len(x)), score(x)], 1), preprocessing=how, labels=["plain", "odd"])
    folder.mkdir()
    rows = [_row(model, folder, n, pixels, heat(n)) for n, pixels in enumerate(pictures)]
    names = pa.table(
        {
            "image": [r["image"] for r in rows],
            "size": [0] * len(rows),
            "stamp": [""] * len(rows),
            "image_hash": [r["image_hash"] for r in rows],
        },
        schema=IMAGES,
    )
    store = folder / "store"
    with writing(store, Settings((64, 64))) as writer:
        writer.commit(names, table_of(rows, schema((64, 64), raw=False)), ["by hand"], {})
    return store, model


def _row(model: Model, folder: Path, number: int, pixels: np.ndarray, heat: np.ndarray) -> dict[str, object]:
    from sightline.predictions import predict

    file = folder / f"{number:05}.png"
    Image.fromarray(pixels).save(file)
    said = predict(model, [pixels])[0][0]
    return {
        "key": str(number),
        "image": str(file),
        "image_hash": content_digest(file.read_bytes()),
        "width": SIDE,
        "height": SIDE,
        "model": "by hand",
        "weights_hash": model.weights_hash,
        "method": "by_hand",
        "parameters": "{}",
        "asked": "top1",
        "target": said["index"],
        "target_label": said["label"],
        "prediction": said["index"],
        "prediction_label": said["label"],
        "probability": said["probability"],
        "heatmap": heat.astype(np.float16),
        "heatmap_scale": 1.0,
    }
