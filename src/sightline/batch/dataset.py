"""The Python way into a run: what `sightline batch` does, for a model in hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import nn

from sightline.batch.job import Job
from sightline.batch.run import Engine, How, run
from sightline.batch.sources import Named, Source
from sightline.batch.summary import Summary
from sightline.evaluation.registry import find_metrics
from sightline.forward import Precision
from sightline.methods import find_methods
from sightline.models.load import load
from sightline.models.model import Model
from sightline.targets import Output

__all__ = ["explain_dataset"]


def explain_dataset(
    model: Model | nn.Module | str,
    source: Source | Named | Sequence[Named],
    out: str | os.PathLike[str],
    method: str | Sequence[str] = "grad_cam",
    target: str | int | Sequence[str | int] = "top1",
    *,
    contrast: str | int | None = None,
    layer: str | Sequence[str] | None = None,
    output: Output = "logit",
    precision: Precision = "model",
    seed: int = 0,
    chunk: int | None = None,
    metric: str | Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
    metric_parameters: Mapping[str, Any] | None = None,
    heatmap: int = 64,
    raw: bool = False,
    engine: Engine = "local",
    workers: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
    resume: bool = False,
    wait: bool = False,
    ray_address: str | None = None,
    on_images: Callable[[int], None] = lambda images: None,
) -> Summary:
    """Explain every image of a source into the store ``out``; what it holds already is not done again.

    ``source`` is a folder, a pattern, a CSV or Parquet table, tar shards, a URL or a list of such (docs/batch.md).
    ``heatmap`` is the side of the maps in the store, ``raw`` keeps the attributions too, ``metric`` measures each map.
    ``resume`` knows images again by name, size and time without reading them; otherwise their content is compared.
    ``engine`` "ray" runs on the cluster at ``ray_address``, or on one started here. The rest is as in `explain`, and of
    the command line. Images that fail are rows with their error. ``on_images`` is called with the number of images
    just done.

    Raises InputError for a source without images, or a store that is held by another run or cannot be written, and
    what `explain` raises for what no image could make right.

    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from sightline.demo.scenes import scene
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.fromarray(scene(0).image).save(pathlib.Path(folder, "scene.png"))
    ...     explain_dataset("demo/honest", folder, pathlib.Path(folder, "store"), workers=0).rows
    1
    """
    opened = model if isinstance(model, Model) else load(model)
    targets = (target,) if isinstance(target, (str, int)) else tuple(target)
    job = Job(
        open_model=partial(load, model) if isinstance(model, str) else lambda: opened,
        name=model if isinstance(model, str) else opened.name,
        methods=tuple(m.name for m in find_methods(method)),
        targets=targets,
        contrast=contrast,
        layers=() if layer is None else (layer,) if isinstance(layer, str) else tuple(layer),
        output=output,
        precision=precision,
        seed=seed,
        chunk=chunk,
        parameters=parameters or {},
        metrics=tuple(m.name for m in find_metrics(metric)) if metric else (),
        metric_parameters=metric_parameters or {},
        heatmap=heatmap,
        raw=raw,
    )
    how = How(engine, workers, batch_size, resume, wait, ray_address)
    return run(source, job, out, how, model=opened, on_images=on_images)
