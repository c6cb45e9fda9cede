"""The errors of a model over labelled images: what it takes for what, how sure it is, and what it looked at."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from sightline.engine import explanations, refuse_other_labels
from sightline.errors import InputError, ModelError, ParameterError, SightlineError
from sightline.evaluation.mistakes.classification import (
    calibration,
    class_numbers,
    confusion_matrix,
    confusions,
    means,
    ranks,
    wilson,
)
from sightline.evaluation.mistakes.labelled import Labelled, labelled_images
from sightline.evaluation.mistakes.results import Answer, Example, ModelErrors, Worst
from sightline.explanation import Explanation
from sightline.forward import Forward
from sightline.goals import class_scores
from sightline.methods import Method, find_methods, resolve_parameters
from sightline.models.load import load
from sightline.models.model import Model
from sightline.predictions import forwards
from sightline.samples import Failure
from sightline.targets import per_image

__all__ = ["Answer", "Example", "ModelErrors", "Worst", "errors_of", "find_errors"]

_TOP = 5
_NOUNS = {1: "series", 3: "volumes"}


def find_errors(
    model: Model | nn.Module | str,
    folder: str | os.PathLike[str],
    *,
    classes: str | os.PathLike[str] | None = None,
    mapping: Mapping[str, str] | None = None,
    in_order: bool = False,
    method: str = "grad_cam",
    worst: int = 6,
    examples: int = 2,
    layer: Any = None,
    parameters: Mapping[str, Any] | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    on_failure: Callable[[Failure], None] | None = None,
    on_count: Callable[[int], None] = lambda images: None,
    on_step: Callable[[int], None] = lambda images: None,
) -> ModelErrors:
    """Predict labelled images and explain the worst confusions: why the predicted class, and why the true one.

    ``folder`` holds one folder for each class; ``classes`` is a CSV of files and classes instead. ``mapping`` says
    which class a folder is, ``in_order`` that they are the model's classes in alphabetical order. ``worst`` pairs are
    explained by ``examples`` images each. ``limit`` takes so many images, drawn by the seed. With ``on_failure`` an
    image that cannot be read is handed to it and left out; without, it is raised. ``on_count`` is told the number of
    images before the first is read.

    Raises what `explain` and `labelled_images` raise.
    """
    loaded = model if isinstance(model, Model) else load(model)
    _asked(method, parameters or {}, worst, examples, batch_size)
    images = labelled_images(folder, loaded.labels, table=classes, mapping=mapping, in_order=in_order)
    return errors_of(
        loaded,
        _drawn(images, limit, seed),
        method=method,
        worst=worst,
        examples=examples,
        layer=layer,
        parameters=parameters,
        seed=seed,
        batch_size=batch_size,
        on_failure=on_failure,
        on_count=on_count,
        on_step=on_step,
    )


def errors_of(
    model: Model,
    images: Labelled,
    *,
    method: str = "grad_cam",
    worst: int = 6,
    examples: int = 2,
    layer: Any = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    on_failure: Callable[[Failure], None] | None = None,
    on_count: Callable[[int], None] = lambda images: None,
    on_step: Callable[[int], None] = lambda images: None,
) -> ModelErrors:
    """Do what `find_errors` does over images whose classes are known by index: files, pictures or series as arrays."""
    asked = _asked(method, parameters or {}, worst, examples, batch_size)
    on_count(len(images.files))
    run = _Run(model, images, on_failure, on_step)
    rows, chances = run.predict(batch_size)
    truths = np.array(images.truths)[rows]
    found = _numbers(run, [images.files[r] for r in rows], truths, chances)
    shown = run.explain(found, rows, asked.name, worst, examples, layer, parameters or {}, seed)
    read = next((e.predicted.layer for w in shown for e in w.examples if e.predicted is not None), layer)
    settings = _settings(model, images, asked, read, parameters or {}, seed)
    notes = (*images.notes, *_notes(found, chances.shape[1], run.outputs))
    return replace(found, worst=shown, settings=settings, skipped=tuple(run.skipped), notes=notes)


def _asked(method: str, parameters: Mapping[str, Any], worst: int, examples: int, batch_size: int) -> Method:
    for name, value, least in (("worst", worst, 0), ("examples", examples, 1), ("batch_size", batch_size, 1)):
        if value < least:
            raise ParameterError(f"{name}={value}: wanted at least {least}.")
    methods = find_methods(method)
    if len(methods) != 1:
        raise ParameterError(f"{len(methods)} methods came; the confusions are explained by one.")
    resolve_parameters(methods, parameters)
    return methods[0]


def _drawn(images: Labelled, limit: int | None, seed: int) -> Labelled:
    if limit is None or limit >= len(images.files):
        return images
    if limit < 1:
        raise ParameterError(f"limit={limit}: wanted at least 1 image.")
    order = np.random.default_rng(seed).permutation(len(images.files))[:limit]
    return images.only(sorted(order.tolist()))


class _Run:
    """One search for errors under way: what was asked of which model, and what was left out on the way."""

    def __init__(
        self, model: Model, images: Labelled, tell: Callable[[Failure], None] | None, step: Callable[[int], None]
    ) -> None:
        self.model, self.images, self.tell, self.step = model, images, tell, step
        self.skipped: list[dict[str, Any]] = []
        self.outputs = 0

    def predict(self, batch_size: int) -> tuple[list[int], np.ndarray]:
        """Return which of the images have an answer, and the probabilities (N, K) of theirs."""
        rows: list[int] = []
        parts: list[np.ndarray] = []
        for batch, forward in forwards(self.model, self.images.given, self._skip, batch_size):
            if not self.outputs:
                self._meet(forward)
            chances = _chances(forward)[: len(batch)].numpy()
            good = np.isfinite(chances).all(1)
            for sample in (s for s, fine in zip(batch, good, strict=True) if not fine):
                self._skip(Failure(sample.given, None, _not_finite(self.images.files[sample.number])))
            rows += [s.number for s, fine in zip(batch, good, strict=True) if fine]
            parts.append(chances[good])
            self.step(int(good.sum()))
        if not rows:
            raise InputError("none of the images could be predicted; see the errors above.")
        return rows, np.concatenate(parts)

    def _meet(self, forward: Forward) -> None:
        """Look at the first output, which says how many classes there are."""
        refuse_other_labels(self.model, forward)
        self.outputs = forward.logits.shape[1]
        self.images.check_classes(max(2, self.outputs))

    def _skip(self, failure: Failure) -> None:
        if self.tell is None:
            raise failure.error
        number = next(n for n, given in enumerate(self.images.given) if given is failure.image)
        self.skipped.append({"image": self.images.files[number], "reason": str(failure.error)})
        self.tell(failure)
        self.step(1)

    def explain(
        self,
        found: ModelErrors,
        numbers: Sequence[int],
        method: str,
        worst: int,
        examples: int,
        layer: Any,
        parameters: Mapping[str, Any],
        seed: int,
    ) -> list[Worst]:
        """Explain the worst confusions: for each of its surest images the predicted class and the true one.

        ``numbers`` are those of the images that the answers are of.
        """
        pairs = [(c, c.rows[:examples]) for c in found.confusions[:worst]]
        chosen = {r: self.images.given[numbers[r]] for _, rows in pairs for r in rows}
        if not chosen:
            return []
        answers = [found.answers[r] for r in chosen]
        targets = [per_image([a.predicted for a in answers]), per_image([a.true for a in answers])]
        explained = explanations(
            self.model,
            [*chosen.values()],
            method,
            targets,
            layer=layer,
            seed=seed,
            parameters=parameters,
            on_failure=self._refuse,
        )
        maps = {(id(given), e.target.index): e for given, e in explained}  # arrays have no hash
        return [Worst(c, [_example(found.answers[r], id(chosen[r]), maps) for r in rows]) for c, rows in pairs]

    def _refuse(self, failure: Failure) -> None:
        """Keep the numbers where the method refuses the model, and say that there are no pictures."""
        if self.tell is None:
            raise failure.error
        refused = {"image": None, "reason": str(failure.error)}
        if refused not in self.skipped:
            self.skipped.append(refused)
            self.tell(failure)


def _example(answer: Answer, image: int, maps: Mapping[tuple[int, int | None], Explanation]) -> Example:
    return Example(answer, maps.get((image, answer.predicted)), maps.get((image, answer.true)))


def _not_finite(name: str) -> SightlineError:
    return ModelError(f"{name}: the model's output is NaN or infinite; check the weights and the preprocessing.")


def _chances(forward: Forward) -> Tensor:
    """Return the classes' probabilities (N, K), both for one output; float64 keeps sure answers apart."""
    exact = replace(forward, logits=forward.logits.detach().double())
    return class_scores(exact, "probability").cpu()


def _numbers(run: _Run, files: Sequence[str], truths: np.ndarray, chances: np.ndarray) -> ModelErrors:
    said = chances.argmax(1)
    rows, columns, matrix = confusion_matrix(truths, said)
    labels = _labels(run, columns)
    classes = class_numbers(truths, said, chances, {c: labels[c] for c in rows})
    place, every = ranks(truths, chances), np.arange(len(truths))
    sure, own = chances[every, said], chances[every, truths]
    values = zip(files, *(v.tolist() for v in (truths, said, sure, own, place)), strict=True)
    return ModelErrors(
        answers=[Answer(*v) for v in values],
        accuracy=wilson(int((said == truths).sum()), len(truths)),
        majority=float(matrix.sum(1).max() / len(truths)),
        top5=float((place <= _TOP).mean()) if chances.shape[1] > 2 * _TOP else None,
        classes=classes,
        macro=means(classes, weighted=False),
        weighted=means(classes, weighted=True),
        rows=rows,
        columns=columns,
        matrix=matrix,
        calibration=calibration(said == truths, sure),
        confusions=confusions(truths, said, sure),
        labels=labels,
        settings={},
        noun=_NOUNS.get(run.model.input_dims, "images"),
    )


def _labels(run: _Run, indices: Sequence[int]) -> dict[int, str]:
    """Name the classes: the model's label, else the folder's name; two of one name are told apart by their index."""
    known, given = run.model.labels, run.images.names
    names = {i: known.name(i) if i < len(known) else given.get(i, known.name(i)) for i in indices}
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    return {i: f"{name} ({i})" if name in twice else name for i, name in names.items()}


def _settings(
    model: Model, images: Labelled, method: Method, layer: Any, parameters: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    return {
        "model": model.name,
        "weights": model.weights,
        "weights_hash": model.weights_hash,
        "preprocessing": model.preprocessing.describe(),
        "folder": images.source,
        "images": len(images.files),
        "method": method.name,
        "layer": layer,
        "parameters": {k: v if isinstance(v, (str, int, float)) else type(v).__name__ for k, v in parameters.items()},
        "seed": seed,
    }


def _notes(found: ModelErrors, classes: int, outputs: int) -> list[str]:
    absent = classes - len(found.rows)
    unpredicted = [c.label for c in found.classes if not c.predicted]
    notes = {
        f"the model has one output: {found.labels.get(1, 'class 1')} is what is above one half": outputs == 1,
        "all images are of one class, so nothing can be said of telling classes apart: ROC, AUC and average precision "
        "are undefined, and so is what it says of images of other classes": len(found.rows) == 1,
        f"{absent} of the model's {classes} classes have no images here and are left out of the tables": absent > 0,
        f"precision is undefined for {_listed(unpredicted)}: no image is said to be of such a class": bool(unpredicted),
    }
    return [text for text, applies in notes.items() if applies]


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
