"""A visitor's model file: tried in a process of its own, within limits, before the app itself loads it.

It lies under a name of our own in a private folder that is deleted as soon as the model is loaded; the name that it
came with is only ever shown.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from sightline.app.settings import Settings
from sightline.app.worker import Asked
from sightline.errors import ModelError, TrustError
from sightline.labels import Labels, read_labels
from sightline.models.load import load
from sightline.models.model import Model
from sightline.paths import shown, why

__all__ = ["SUFFIXES", "WITHOUT_ARCHITECTURE", "ModelFile", "loaded_safely", "suffix_of"]

SUFFIXES = (".safetensors", ".keras", ".h5", ".onnx")
WITHOUT_ARCHITECTURE = (".safetensors", ".h5")
_BETWEEN = 0.2
_GRACE = 20  # seconds to start Python and to import, beside those that the model may take
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".p", ".pt2", ".dill")
_LABELS = (".txt", ".json")
_MOST_LABELS = 4 << 20
_ONE_AT_A_TIME = threading.Lock()  # or the limit of memory would be that of each of many

Tick = Callable[[float], None]


@dataclass(frozen=True)
class ModelFile:
    """What a visitor brought: a model's bytes, its name, the architecture ("" for the file's own), class names."""

    data: bytes
    name: str
    architecture: str = ""
    labels: bytes | None = None
    labels_name: str = ""

    @property
    def suffix(self) -> str:
        """The ending of the name, in lower case."""
        return suffix_of(self.name)


def suffix_of(name: str) -> str:
    """Return the ending of a file's name, in lower case."""
    return PurePosixPath(name.replace("\\", "/")).suffix.casefold()


def loaded_safely(given: ModelFile, settings: Settings, tick: Tick) -> Model:
    """Try a model file in a process of its own, then load it; ``tick`` is called with the seconds and may raise.

    Raises ModelError, or TrustError for what would run code, with one sentence that names the file as it came.
    """
    _refuse_by_its_look(given)
    with _turn(tick), _laid_out(given) as (file, labels):
        names = {str(file): given.name, file.name: given.name, file.stem: PurePosixPath(given.name).stem}
        names |= {str(labels): given.labels_name, labels.name: given.labels_name} if labels else {}
        asked = Asked(
            str(file), given.architecture, str(labels) if labels else None, settings.model_gb, settings.model_seconds
        )
        found = _answer(asked, file.parent, tick)
        if found["kind"]:
            raise _refusal(found, _said(given.name), settings, names)
        return _load(given, file, labels)


def _load(given: ModelFile, file: Path, labels: Path | None) -> Model:
    what, weights = (given.architecture, str(file)) if given.architecture else (str(file), "default")
    known: Labels | None = read_labels(labels) if labels else None
    model = load(what, weights=weights, labels=known, device="cpu")
    said = _said(given.name)
    return replace(model, name=given.architecture or said, weights=said)


def _said(name: str) -> str:
    return shown(PurePosixPath(name.replace("\\", "/")).name)[-80:] or "the file"


def _refuse_by_its_look(given: ModelFile) -> None:
    """Refuse what cannot be a model for the app, by its name and its first bytes, before anything reads it."""
    said, head = _said(given.name), given.data[:4]
    if given.suffix in _PICKLES or head[:1] == b"\x80" or _holds_a_pickle(given.data):
        raise TrustError(
            f"{said} is a pickle, which can run any code as it is read, so the app never opens one; save its state "
            "dict instead: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
        )
    if given.suffix not in SUFFIXES:
        raise ModelError(f"{said} is no model file that the app takes; wanted {', '.join(SUFFIXES)}.")
    if not given.data:
        raise ModelError(f"{said} is empty (0 bytes); it may not have been copied fully: get it again.")
    if given.suffix == ".safetensors" and not given.architecture:
        raise ModelError(f"{said} holds weights without an architecture; choose the one that they were saved from.")
    if given.labels is not None:
        _refuse_labels(given)


def _holds_a_pickle(data: bytes) -> bool:
    """Say whether a zip archive has a pickle in it, as PyTorch's files have, whatever its name says."""
    return data.startswith(b"PK") and any(name in data for name in (b"data.pkl", b"constants.pkl"))


def _refuse_labels(given: ModelFile) -> None:
    said = _said(given.labels_name)
    if PurePosixPath(given.labels_name).suffix.casefold() not in _LABELS:
        raise ModelError(f"{said} is no file of class names; wanted .txt with one name a line, or .json.")
    if len(given.labels or b"") > _MOST_LABELS:
        raise ModelError(
            f"{said} has {len(given.labels or b''):,} bytes; wanted class names, at most {_MOST_LABELS:,}."
        )


@contextmanager
def _turn(tick: Tick) -> Iterator[None]:
    while not _ONE_AT_A_TIME.acquire(timeout=_BETWEEN):
        tick(0.0)
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


@contextmanager
def _laid_out(given: ModelFile) -> Iterator[tuple[Path, Path | None]]:
    folder = Path(tempfile.mkdtemp(prefix="sightline-"))
    try:
        inner = ".weights" if given.suffix == ".h5" and ".weights" in given.name else ""  # by which Keras tells them
        file = folder / f"m{secrets.token_hex(8)}{inner}{given.suffix}"
        file.write_bytes(given.data)
        labels = None
        if given.labels is not None:
            labels = folder / f"l{secrets.token_hex(8)}{PurePosixPath(given.labels_name).suffix.casefold()}"
            labels.write_bytes(given.labels)
        yield file, labels
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answer(asked: Asked, folder: Path, tick: Tick) -> dict[str, Any]:
    """Run the worker, and return its answer, or how it ended without one."""
    process = subprocess.Popen(  # noqa: S603  this interpreter, no shell
        [sys.executable, "-m", "sightline.app.worker", json.dumps(asdict(asked))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(folder),
        start_new_session=True,
    )
    try:
        return _heard(process, asked, tick)
    finally:
        _end(process)


def _heard(process: subprocess.Popen[bytes], asked: Asked, tick: Tick) -> dict[str, Any]:
    started = time.monotonic()
    while (gone := time.monotonic() - started) < asked.seconds + _GRACE:
        try:
            said, _ = process.communicate(timeout=_BETWEEN)
        except subprocess.TimeoutExpired:
            tick(gone)
            continue
        return _read(said, process.returncode)
    return {"kind": "Timeout"}


def _read(said: bytes, code: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(said)
    except ValueError:
        return {"kind": "Timeout" if code == -getattr(signal, "SIGXCPU", 0) else "Ended"}
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the worker and whatever it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):  # it has ended, and left nobody behind
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def _environment(folder: Path) -> dict[str, str]:
    """Return what the worker is started with: one thread, no accelerator, no network, its own folder to write in."""
    own = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TMPDIR": str(folder)}
    return {**os.environ, **own, "PYTHONDONTWRITEBYTECODE": "1"}


def _refusal(found: Mapping[str, Any], said: str, settings: Settings, names: Mapping[str, str]) -> ModelError:
    kind = found["kind"]
    if kind == "Timeout":
        return ModelError(
            f"{said} took longer than {settings.model_seconds} s to load and explain one picture; give a smaller "
            "model, or start the app with a larger --model-seconds."
        )
    if kind in ("MemoryError", "Ended"):
        needed = "needs more memory than" if kind == "MemoryError" else "ended the process that tried it, within"
        return ModelError(
            f"{said} {needed} the {settings.model_gb:g} GB that an uploaded model may take; give a smaller model, or "
            "start the app with a larger --model-gb."
        )
    text = _renamed(str(found["said"]), names)
    if "without an architecture" in text:
        return ModelError(f"{said} holds weights without an architecture; choose the one that they were saved from.")
    if kind == "TrustError":
        return TrustError(
            f"{text.partition(', so it is refused')[0]}, and the app never runs code from a file; replace such layers "
            "by layers of Keras, or save the weights alone and choose their architecture."
        )
    if kind == "Exception":
        return ModelError(f"{said} cannot be read ({why(ValueError(text))}); save it again, or give another.")
    return ModelError(text)


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for own in sorted(names, key=len, reverse=True):
        text = text.replace(own, _said(names[own]))
    return text
