"""What Sightline raises, and how it suggests a better name.

SightlineError
 ├─ InputError         an image, array, label or parameter is not usable       (also a ValueError)
 │   ├─ ImageError     a file or array that is not the image it should be
 │   ├─ TargetError    a class, label or other target that the model does not have
 │   └─ ParameterError a method, option or value that does not exist
 ├─ ModelError         a model or its weights cannot be had, read or run        (also a ValueError)
 │   ├─ LayerError     a layer that does not exist or has no spatial extent
 │   └─ TrustError     a file that would have to run code in order to load
 └─ RefusedError       the method means nothing for this model; the text says why and what to use

Every message is one line: what came, what was wanted, what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ImageError",
    "InputError",
    "LayerError",
    "ModelError",
    "ParameterError",
    "RefusedError",
    "SightlineError",
    "TargetError",
    "TrustError",
    "suggest",
]


class SightlineError(Exception):
    """Base of everything that Sightline raises on purpose."""


class InputError(SightlineError, ValueError):
    """What the caller passed cannot be used."""


class ImageError(InputError):
    """A file or array is not the image that was wanted."""


class TargetError(InputError):
    """The model has no such class, label or output."""


class ParameterError(InputError):
    """There is no such method, option or value."""


class ModelError(SightlineError, ValueError):
    """A model or its weights cannot be had, read or run."""


class LayerError(ModelError):
    """The model has no such layer, or the layer cannot be read as a map."""


class TrustError(ModelError):
    """The file runs code when it is loaded, and nobody said that it may."""


class RefusedError(SightlineError):
    """The method has no meaning for this model."""


def suggest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Return ``" Did you mean a, b or c?"`` for the known names closest to ``name``, or ``""``.

    >>> suggest("grad_camm", ["grad_cam", "gradient"])
    ' Did you mean grad_cam?'
    """
    by_folded = {k.casefold(): k for k in known}
    close = [by_folded[f] for f in difflib.get_close_matches(name.casefold(), by_folded, n=most, cutoff=0.6)]
    if not close:
        return ""
    head, last = close[:-1], close[-1]
    return f" Did you mean {', '.join(head) + ' or ' if head else ''}{last}?"
