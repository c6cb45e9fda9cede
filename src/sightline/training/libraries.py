"""Lightning, imported where it is needed: it is optional, and brings torchvision, whose compiled ops may not fit."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from sightline.errors import ModelError
from sightline.models.zoo import import_torchvision

__all__ = ["import_lightning", "import_tensorboard"]


def import_lightning() -> ModuleType:
    """Import Lightning; raise ModelError where it, or what it needs, is not installed."""
    if importlib.util.find_spec("torchvision") is not None:
        import_torchvision()
    try:
        import lightning
    except ModuleNotFoundError as error:
        raise ModelError(
            f"training needs {error.name}, which is not installed: pip install 'sightline[train]'."
        ) from None
    found: ModuleType = lightning
    return found


def import_tensorboard() -> ModuleType:
    """Import the writer of TensorBoard's events; raise ModelError where it is not installed."""
    try:
        from torch.utils import tensorboard
    except ModuleNotFoundError as error:
        raise ModelError(
            f"training needs {error.name}, which is not installed: pip install 'sightline[train]'."
        ) from None
    return tensorboard
