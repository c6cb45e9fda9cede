"""`watch`: the object that a training calls after each epoch, and that draws what the net looks at."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from sightline.errors import ParameterError, SightlineError
from sightline.geometry import Preprocessing
from sightline.methods import find_methods, resolve_parameters
from sightline.models.load import load
from sightline.models.model import Model
from sightline.output import file_part
from sightline.targets import Output, Target
from sightline.training.callbacks.board import Board
from sightline.training.callbacks.drawing import cells_of, drawn_of, photo_of, pictures_of
from sightline.training.callbacks.frames import Drawn, Frames, Moment, save_picture
from sightline.training.callbacks.looking import Look, Question, Report, look
from sightline.training.callbacks.strip import draw_strip
from sightline.training.callbacks.subjects import Subject, subjects_of
from sightline.training.callbacks.unmoved import unmoved

__all__ = ["Watch", "watch"]

_LOG = logging.getLogger("sightline")


def watch(
    images: Any,
    methods: str | Sequence[str] = "grad_cam",
    target: Target | Sequence[Target] = "top1",
    *,
    every: int = 1,
    out: str | os.PathLike[str] = "watched",
    names: Sequence[str] | None = None,
    layer: str | Sequence[str] | None = None,
    output: Output = "logit",
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
    labels: Any = None,
    tensorboard: bool | str | os.PathLike[str] | Any = True,
    columns: int = 12,
) -> Watch:
    """Explain the same images while a net trains, and draw what it looks at: a grid an epoch, a strip an image.

    ``images`` are at most 64 files, a folder of them, PIL images, arrays (one (N, H, W, C) holds several), or a
    preprocessed tensor (N, C, *S). ``target`` is one for all images, or a list with one for each: their true classes.
    ``methods``, ``layer``, ``output``, ``seed`` and ``parameters`` (``{"smooth_grad.samples": 15}``) are those of
    `explain`; ``preprocessing`` and ``labels`` those of `load`. ``tensorboard`` is a folder of event files, a
    SummaryWriter, True (files in ``out``; with Lightning its own TensorBoard logger, if it has one) or False.
    A strip has at most ``columns`` epochs, evenly spaced, the first and the last among them.

    In a loop of your own call what is returned with the model and the number of epochs that are done:

    >>> from sightline.demo.nets import DEMO_MEAN, DEMO_STD, small_cnn
    >>> from sightline.demo.scenes import scene
    >>> import tempfile
    >>> how = Preprocessing(resize=96, crop=96, mean=DEMO_MEAN, std=DEMO_STD)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     see = watch(scene(3).image, target=2, every=5, preprocessing=how, out=out, tensorboard=False)
    ...     [see(small_cnn(), epoch) is not None for epoch in (0, 1, 5)]
    [True, False, True]

    Raises ImageError and ParameterError for what cannot be used, ModelError where tensorboard is missing.
    """
    folder = Path(out)
    subjects = subjects_of(images, names)
    _check_count("every", every, 1)
    _check_count("columns", columns, 2)
    return Watch(
        subjects,
        _targets(target, len(subjects)),
        _question(methods, layer, output, seed, parameters or {}),
        every=every,
        out=folder,
        columns=columns,
        known={"preprocessing": preprocessing, "labels": labels},
        board=_board(tensorboard, folder),
        any_board=tensorboard is True,
    )


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ParameterError(f"{name}={value!r}: wanted a whole number from {least}.")


def _targets(target: Any, count: int) -> list[Target]:
    if not isinstance(target, (list, tuple)) and not hasattr(target, "tolist"):
        return [target] * count
    listed = target.tolist() if hasattr(target, "tolist") else list(target)
    if not isinstance(listed, list) or len(listed) != count:
        raise ParameterError(f"target={target!r} came for {count} images; wanted one, or a list with one for each.")
    return listed


def _question(methods: Any, layer: Any, output: Output, seed: int, given: Mapping[str, Any]) -> Question:
    if output not in Output.__args__:  # type: ignore[attr-defined]
        raise ParameterError(f"output={output!r}: wanted one of {', '.join(Output.__args__)}.")  # type: ignore[attr-defined]
    found = find_methods(methods)
    resolved = resolve_parameters(found, given)
    asked = {
        f"{m.name}.{name}": value
        for m in found
        for name, value in resolved[m.name].items()
        if value is not m.parameters[name].default
    }
    return Question(tuple(m.name for m in found), asked, layer, output, seed)


def _board(tensorboard: Any, out: Path) -> Board:
    if tensorboard is True:
        return Board(out)
    if isinstance(tensorboard, (str, os.PathLike)):
        return Board(Path(tensorboard))
    if tensorboard is None or tensorboard is False:
        return Board(None)
    if not hasattr(tensorboard, "add_image"):
        raise ParameterError(f"tensorboard={tensorboard!r}: wanted a folder, a SummaryWriter, True or False.")
    return Board(tensorboard)


class Watch:
    """Fixed images, methods and a folder; call it with the model after each epoch. Made by `watch`.

    In ``out`` there are ``epoch_0003.png`` (images by methods), ``strip_NAME.png`` for each image, the channels of
    methods that show a whole layer below ``channels``, and below ``frames`` what the strips are made of: a training
    that goes on continues them. The model stays as it was, with the generators of random numbers.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        targets: Sequence[Target],
        question: Question,
        *,
        every: int,
        out: Path,
        columns: int,
        known: Mapping[str, Any],
        board: Board,
        any_board: bool,
    ) -> None:
        self.subjects, self.targets, self.question = subjects, targets, question
        self.every, self.out, self.columns = every, out, columns
        self.board, self.any_board = board, any_board
        self.last: int | None = None
        self._known = known
        self._frames = Frames(out / "frames", subjects)
        self._model: tuple[Any, Model] | None = None
        self._told: set[str] = set()

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods, in order."""
        return self.question.methods

    def __call__(self, model: nn.Module | Model | Any, epoch: int) -> Path | None:
        """Draw if it is time: at the first call, and at every epoch that ``every`` divides; return the grid's file.

        The first call raises what can never work (see `draw`), so make it early: with 0, before the training.
        """
        _check_count("epoch", epoch, 0)
        return self.draw(model, epoch) if self.last is None or epoch % self.every == 0 else None

    def draw(self, model: nn.Module | Model | Any, epoch: int) -> Path | None:
        """Draw this epoch, whatever ``every`` says; return the grid's file, or None where nothing could be drawn.

        The first time InputError, ModelError or whatever else is wrong is raised, but for a method that is refused
        and weights that hold NaN. These, and whatever happens later, are logged once and written on the picture,
        and the training goes on.
        """
        if self.last is None:
            file = self._drawn(model, epoch, strict=True)
            self.last = epoch
            return file
        self.last = epoch
        try:
            return self._drawn(model, epoch, strict=False)
        except Exception as error:  # noqa: BLE001  a full disk, say: no reason to end a training of hours
            self._tell(f"this epoch could not be drawn: {error}", error, f"epoch {epoch}: ")
            return None

    def close(self) -> None:
        """Close the TensorBoard file, if the watch opened one; a later call opens another."""
        self.board.close()

    def _drawn(self, model: Any, epoch: int, *, strict: bool) -> Path:
        loaded = self._loaded(model)
        with unmoved(loaded.module):
            looks = {
                s.name: look(loaded, s.given, t, self.question, self._reporter(s, epoch), strict=strict)
                for s, t in zip(self.subjects, self.targets, strict=True)
            }
        self._forget(epoch)
        return self._saved(looks, epoch, loaded.name)

    def _loaded(self, model: Any) -> Model:
        """Return the model as it is now: what was found out about its weights at an earlier epoch holds no more."""
        if self._model is None or self._model[0] is not model:
            self._model = (model, load(model, **self._known))
        return replace(self._model[1], _layers={}, _copies={}, _shuffled={})

    def _forget(self, epoch: int) -> None:
        """Remove what an earlier run left of this epoch and later ones, lest two trainings be one strip."""
        for again in self._frames.forget_after(epoch):
            self._grid_file(again).unlink(missing_ok=True)

    def _grid_file(self, epoch: int) -> Path:
        return self.out / f"epoch_{epoch:04d}.png"

    def _saved(self, looks: Mapping[str, Look], epoch: int, model: str) -> Path:
        cells = cells_of(looks)
        photos = {name: self._kept(name, epoch, found, cells[name]) for name, found in looks.items()}
        pictures = pictures_of(looks, cells, photos, self.methods, f"epoch {epoch} · {model}")
        for name in looks:
            save_picture(draw_strip(self._frames, name, self.methods, self.columns), self.out / f"strip_{name}.png")
        for tag, sheet in pictures.sheets.items():
            save_picture(sheet, self.out / "channels" / f"epoch_{epoch:04d}_{file_part(tag, 200)}.png")
        file = save_picture(pictures.grid, self._grid_file(epoch))
        self.board.add(pictures.tagged(self.methods), epoch)
        return file

    def _kept(self, name: str, epoch: int, found: Look, cells: Mapping[str, Image.Image | str]) -> Image.Image | None:
        """Keep the frames of one image on disk and return its own picture."""
        drawn = {m: drawn_of(e) for m, e in found.maps.items()}
        drawn |= {m: Drawn(why=why) for m, why in found.reasons.items()}
        frames = {m: cell for m, cell in cells.items() if isinstance(cell, Image.Image)}
        photo = next((photo_of(e) for e in found.maps.values()), None)
        return self._frames.add(name, epoch, Moment(found.says, found.explained, drawn), frames, photo)

    def _reporter(self, subject: Subject, epoch: int) -> Report:
        def report(method: str, error: Exception) -> None:
            self._tell(str(error), error, f"epoch {epoch}, {subject.name} cannot be explained by {method}: ")

        return report

    def _tell(self, what: str, error: Exception, where: str) -> None:
        """Log a failure once, however often it comes."""
        if what in self._told:
            return
        self._told.add(what)
        unforeseen = None if isinstance(error, SightlineError) else error
        _LOG.warning("%s%s (said once; the training goes on)", where, what, exc_info=unforeseen)
