"""What the commands that take a model have in common: reading options, loading models, running the engine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sightline.cli.console import note
from sightline.cli.options import Loading
from sightline.errors import ParameterError, SightlineError

if TYPE_CHECKING:
    from sightline.geometry import Preprocessing
    from sightline.models.model import Model

__all__ = ["Report", "load_model", "load_models", "parse_parameters", "parse_preprocessing"]


@dataclass
class Report:
    """What a command did: the object that ``--json`` prints, and whether all went well."""

    predictions: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    explanations: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)

    def fail(self, image: Any, error: SightlineError) -> None:
        """Note a failure, and say each message once on stderr."""
        text = str(error)
        self.errors.append({"image": None if image is None else str(image), "message": text})
        if text not in self._told:
            self._told.add(text)
            note(f"error: {text}")

    @property
    def exit_code(self) -> int:
        """0 when all was done, 2 when something failed."""
        return 2 if self.errors else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {"predictions": self.predictions, "explanations": self.explanations, "errors": self.errors}


def load_models(names: str, how: Loading) -> dict[str, Model]:
    """Load the comma-separated models, each under the name that it was given."""
    from sightline.models.load import split_models

    _notes_on_stderr()
    listed = split_models(names)
    if not listed:
        raise ParameterError("--model: no model was given; see: sightline models.")
    return {name: _loaded(name, how) for name in dict.fromkeys(listed)}


def load_model(name: str, how: Loading) -> Model:
    """Load the one model of a command that takes no more."""
    found = load_models(name, how)
    if len(found) > 1:
        raise ParameterError(f"--model {name}: {len(found)} models came; this command takes one.")
    return next(iter(found.values()))


def _loaded(name: str, how: Loading) -> Model:
    from sightline.models.load import load

    key = how.output_key
    model = load(
        name,
        weights=how.weights,
        labels=how.labels,
        fit=how.fit,
        device=how.device,
        trust=how.trust,
        max_pixels=how.max_pixels,
        seed=how.seed,
        dims=how.dims,
        output=int(key) if key is not None and key.isdigit() else key,
    )
    if how.preprocess is None:
        return model
    return replace(model, preprocessing=parse_preprocessing(how.preprocess, model.preprocessing), assumed=False)


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(f"note: {record.getMessage()}")


def _notes_on_stderr() -> None:
    log = logging.getLogger("sightline")
    if not log.handlers:
        log.addHandler(_Stderr())
        log.propagate = False


def parse_parameters(settings: Sequence[str] | None) -> dict[str, Any]:
    """Read ``name=value`` settings; a value that ends in .npy is the array in that file.

    >>> parse_parameters(["steps=20", "grad_cam.relu=false"])
    {'steps': '20', 'grad_cam.relu': 'false'}
    """
    found: dict[str, Any] = {}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise ParameterError(f"--set {setting}: wanted name=value, as in --set steps=20.")
        found[name.strip()] = _array(value.strip()) if value.strip().casefold().endswith(".npy") else value.strip()
    return found


def _array(file: str) -> Any:
    import numpy as np

    try:
        return np.load(file, allow_pickle=False)
    except OSError as error:
        raise ParameterError(f"--set ...={file}: cannot be read ({error.strerror or 'not an array file'}).") from None
    except (ValueError, EOFError):
        raise ParameterError(f"--set ...={file}: not an array that numpy.save wrote.") from None


def parse_preprocessing(text: str, usual: Preprocessing | None = None) -> Preprocessing:
    """Read ``resize=256,crop=224,mean=a/b/c,std=a/b/c,interpolation=bicubic,fit=pad``; the rest stays ``usual``.

    Raises ParameterError for an unknown part or a value that is no number.
    """
    from sightline.geometry import Preprocessing

    given: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        reader = _READERS.get(name.strip())
        if reader is None:
            raise ParameterError(f"--preprocess {part}: wanted {', '.join(_READERS)}, each as name=value.")
        try:
            given[name.strip()] = reader(value.strip())
        except ValueError:
            raise ParameterError(f"--preprocess {part}: '{value}' is not what was wanted, a number.") from None
    if "resize" in given and "crop" not in given:
        given["crop"] = None  # what is asked for is the input's size, not a frame around it
    return replace(usual or Preprocessing(), **given)


def _size(text: str) -> int | tuple[int, int] | None:
    if text.casefold() == "none":
        return None
    sides = [int(s) for s in text.split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise ValueError(text)
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(n) for n in text.split("/"))


_READERS: dict[str, Any] = {
    "resize": _size,
    "crop": _size,
    "mean": _numbers,
    "std": _numbers,
    "scale": float,
    "interpolation": str,
    "fit": str,
    "order": str,
}
