"""Many images read at one layer: batch by batch through recordings, for one target."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.engine import refuse_other_labels
from sightline.errors import ImageError, ParameterError, TargetError
from sightline.forward import Precision
from sightline.goals import class_scores
from sightline.models.load import load
from sightline.models.model import Model
from sightline.paths import image_files
from sightline.plan import make_plan
from sightline.recording import Options, Recording, record
from sightline.samples import Failure, Sample, samples
from sightline.targets import Output, Target

__all__ = ["Asked", "Study", "begun", "distinct", "whole"]

_TOP = re.compile(r"top[-_ ]?(\d*)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Asked:
    """How a model is to be read, as the caller said it."""

    layer: str | nn.Module | None = None
    output: Output = "logit"
    precision: Precision | torch.dtype = "model"
    seed: int = 0
    batch_size: int = 32
    on_failure: Callable[[Failure], None] | None = None
    tick: Callable[[int], None] | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """A model, the images of a class and the one target that they are read for, at one layer ("": none yet).

    ``label`` is the target's name, ``hits`` of how many images it is the best class, None where it is no class.
    """

    model: Model
    images: list[Sample]
    target: Target
    options: Options
    batch: int
    fail: Callable[[Failure], None]
    layer: str = ""
    label: str = ""
    hits: int | None = None

    def recordings(self, images: Iterable[Tensor]) -> Iterator[tuple[Recording, int]]:
        """Yield a recording of each batch of images (C, *S), and how many of its rows are images."""
        layers = (self.layer,) if self.layer else ()
        options = replace(self.options, layers=layers, from_input=False)
        for batch in _of_one_shape(images, self.batch):
            rows = batch + [batch[-1]] * ((self.model.batch or 0) - len(batch))
            with record(self.model, torch.stack(rows), options, self.target) as rec:
                yield rec.for_layer(self.layer or None), len(batch)
            if self.options.tick is not None:
                self.options.tick(len(batch))

    def read(self, given: Any) -> list[Sample]:
        """Return the images of a folder, or whatever `explain` takes, ready for the model; originals are not kept."""
        is_folder = isinstance(given, (str, os.PathLike)) and Path(given).is_dir()
        listed = image_files(given) if is_folder else given
        return [replace(s, pixels=None, signal=None) for s in samples(self.model, listed, self.fail)]

    def provenance(self) -> Mapping[str, Any]:
        """Return which model was read, and how."""
        model, options = self.model, self.options
        return {
            "model": model.name,
            "weights": model.weights,
            "weights_hash": model.weights_hash,
            "preprocessing": model.preprocessing.describe(),
            "output": options.output,
            "precision": options.precision,
            "seed": options.seed,
        }


def begun(
    model: Model | nn.Module | str, images: Any, target: Target, asked: Asked, *, each_once: bool = True
) -> Study:
    """Check what was asked for, read the images, each once, and settle the target; the layer is "" unless named.

    Raises what `explain` raises, and ImageError where no image is left.
    """
    loaded = model if isinstance(model, Model) else load(model)
    plan = make_plan(
        loaded,
        "grad_cam",
        target,
        contrast=None,
        layer=asked.layer,
        output=asked.output,
        precision=asked.precision,
        seed=asked.seed,
        chunk=None,
        parameters={},
        tick=asked.tick,
    )
    if len(plan.layers) > 1 or len(plan.targets) > 1:
        several = "layers" if len(plan.layers) > 1 else "targets"
        raise ParameterError(f"several {several} came; concepts are of one target at one layer: give one.")
    size = max(1, min(whole("batch_size", asked.batch_size, 1), plan.model.batch or asked.batch_size))
    study = Study(plan.model, [], plan.targets[0], plan.options, size, asked.on_failure or _raise)
    found = study.read(images)
    study = replace(study, images=distinct(found) if each_once else found)
    if not study.images:
        raise ImageError("none of the images can be read; give images of the class that is to be understood.")
    return replace(_settled(study), layer=next(iter(plan.layers), ""))


def _raise(failure: Failure) -> None:
    raise failure.error


def _of_one_shape(images: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    batch: list[Tensor] = []
    for x in images:
        if batch and (len(batch) >= size or x.shape != batch[0].shape):
            yield batch
            batch = []
        batch.append(x)
    if batch:
        yield batch


def _settled(study: Study) -> Study:
    """Give the study one target: "top1" is the class that most of the images are said to be."""
    top = _TOP.fullmatch(study.target.strip()) if isinstance(study.target, str) else None
    if top and not study.model.labels.has(str(study.target)):
        if top[1] not in ("", "1"):
            raise TargetError(f"target {study.target}: wanted one class for all images: give its name or index.")
        study = replace(study, target=_most_said(study))
    names, hits = _named(study)
    if len(names) != 1:
        raise TargetError(
            f"the target means {len(names)} things for these images ({', '.join(sorted(names)[:3])}); wanted one for "
            "all: give a class's name or index."
        )
    return replace(study, label=names.pop(), hits=hits)


def _most_said(study: Study) -> int:
    votes: Counter[int] = Counter()
    for rec, rows in replace(study, target="top1").recordings(s.x for s in study.images):
        classes = rec.goal.classes
        votes.update([] if classes is None else classes[:rows].tolist())
    return votes.most_common(1)[0][0]


def _named(study: Study) -> tuple[set[str], int | None]:
    names: set[str] = set()
    hits: int | None = 0
    for rec, rows in study.recordings(s.x for s in study.images):
        refuse_other_labels(study.model, rec.shared.forward)
        names |= {name.label for name in rec.goal.names[:rows]}
        hits = None if hits is None or rec.goal.classes is None else hits + _hits(rec, rec.goal.classes, rows)
    return names, hits


def _hits(rec: Recording, classes: Tensor, rows: int) -> int:
    said = class_scores(rec.shared.forward, "logit").detach().argmax(1)
    return int((said == classes)[:rows].sum())


def distinct(images: list[Sample], taken: Iterable[Sample] = ()) -> list[Sample]:
    """Return the images that are not among ``taken``, each once, so that no image is both learnt from and held out."""
    seen = {_digest(s) for s in taken}
    found = []
    for sample in images:
        digest = _digest(sample)
        if digest not in seen:
            seen.add(digest)
            found.append(sample)
    return found


def _digest(sample: Sample) -> bytes:
    values = sample.x.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(values.numpy().tobytes()).digest()


def whole(name: str, value: Any, low: int) -> int:
    """Return a whole number that is at least ``low``; raise ParameterError for another."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ParameterError(f"{name}={value!r}: wanted a whole number, at least {low}.")
    return value
