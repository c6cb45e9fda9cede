"""torchvision's models by name, with the preprocessing and class names of their weights' own metadata."""

from __future__ import annotations

import contextlib
import importlib
import socket
import sys
import threading
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ModelError, suggest
from sightline.geometry import Preprocessing
from sightline.labels import Labels

__all__ = [
    "RANDOM",
    "build",
    "download",
    "fine_tuned_classes",
    "import_torchvision",
    "metadata",
    "names",
    "patience",
    "pretrained",
    "wants_random",
    "weights_enum",
]

_IMPORTING = threading.RLock()
_SCHEMAS: list[Any] = []
_MISSING_OPS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_NEEDS_TRANSFORM_INPUT = ("googlenet", "inception_v3")
_DOWNLOAD_TIMEOUT = 30.0
RANDOM = "random weights, as asked: the maps show the architecture, not anything learned"


def import_torchvision() -> ModuleType:
    """Import torchvision, also where its compiled operators do not match the installed torch.

    Its models do not use those operators, but their registration fails unless the schemas exist.
    Raises ModelError where torchvision is not installed.
    """
    with _IMPORTING:
        try:
            return importlib.import_module("torchvision")
        except ModuleNotFoundError as error:
            if error.name != "torchvision":
                raise
            raise ModelError(
                "models by name need torchvision, which is not installed: pip install 'sightline[zoo]'."
            ) from None
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        if not _SCHEMAS:
            library = torch.library.Library("torchvision", "FRAGMENT")
            for schema in _MISSING_OPS:
                library.define(schema)
            _SCHEMAS.append(library)  # the schemas live as long as the library object
        return importlib.import_module("torchvision")


def wants_random(weights: Any) -> bool:
    """Say whether random weights were asked for: None, or "none" from the command line."""
    return weights is None or str(weights).casefold() == "none"


def names() -> list[str]:
    """List the torchvision models that Sightline takes: classification and segmentation."""
    models = import_torchvision().models
    return [*models.list_models(module=models), *models.list_models(module=models.segmentation)]


def weights_enum(name: str) -> Any:
    """Return the enumeration of a model's published weights."""
    return import_torchvision().models.get_model_weights(name)


def pretrained(name: str, weights: str) -> Any:
    """Return the published weights of that name for a model.

    Raises ModelError for an unknown one, with those that exist.
    """
    known = weights_enum(name)
    wanted = "DEFAULT" if weights.casefold() == "default" else weights.rpartition(".")[2].upper()
    if wanted not in known.__members__:
        listed = ", ".join(known.__members__)
        raise ModelError(
            f"{name} has no weights '{weights}': there is no such file, and torchvision has {listed} and none "
            f"(random).{suggest(wanted, known.__members__)}"
        )
    return known[wanted]


def metadata(name: str, weights: Any = None) -> tuple[Preprocessing, Labels]:
    """Return the preprocessing and class names of published weights, by default of IMAGENET1K_V1."""
    members = weights_enum(name)
    chosen = weights or members.__members__.get("IMAGENET1K_V1") or members.DEFAULT
    preset = chosen.transforms()
    how = Preprocessing(
        resize=_side(getattr(preset, "resize_size", None)),
        crop=_side(getattr(preset, "crop_size", None)),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )
    return how, Labels(tuple(chosen.meta.get("categories", ())))


def _side(size: Any) -> int | None:
    return int(size[0]) if isinstance(size, (list, tuple)) else size


def build(name: str, state: Mapping[str, Tensor] | None = None, seed: int = 0) -> nn.Module:
    """Build a model with random weights, its options and number of classes as a state dict asks.

    The global random state is left as it was.
    """
    import_torchvision()
    options = _options_for(name, state)
    with torch.random.fork_rng(devices=[]), _quiet_initialisation(name, options):
        torch.manual_seed(seed)
        return _get_model(name, options)


def _get_model(name: str, options: Mapping[str, Any]) -> nn.Module:
    models = import_torchvision().models
    extra = {"weights_backbone": None} if name in models.list_models(module=models.segmentation) else {}
    module: nn.Module = models.get_model(name, weights=None, **extra, **options)
    return module.eval()


@contextmanager
def _quiet_initialisation(name: str, options: dict[str, Any]) -> Iterator[None]:
    if name in _NEEDS_TRANSFORM_INPUT:
        options.setdefault("init_weights", False)  # torch's own defaults: quick, and there is no warning
    yield


def _options_for(name: str, state: Mapping[str, Tensor] | None) -> dict[str, Any]:
    options = _auxiliary_options(name, state)
    if state is not None and (classes := fine_tuned_classes(name, state)) is not None:
        options["num_classes"] = classes
    return options


def _auxiliary_options(name: str, state: Mapping[str, Tensor] | None) -> dict[str, Any]:
    if name not in _NEEDS_TRANSFORM_INPUT:
        return {}
    auxiliary = state is not None and any(k.startswith(("aux", "AuxLogits")) for k in state)
    return {"aux_logits": auxiliary, "transform_input": state is not None}


def fine_tuned_classes(name: str, state: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes of a fine-tuned head, or None where the state dict has the model's own shapes."""
    options = _auxiliary_options(name, state)
    with torch.device("meta"), _quiet_initialisation(name, options):
        usual = _get_model(name, options).state_dict()
    differing = [k for k in usual if k in state and usual[k].shape != state[k].shape]
    counts = {state[k].shape[0] for k in differing if usual[k].ndim and state[k].ndim == usual[k].ndim}
    return int(counts.pop()) if len(counts) == 1 else None


def download(name: str, weights: Any) -> nn.Module:
    """Build a model with published weights, which torchvision downloads unless it has them.

    Raises ModelError where they cannot be had, naming what works without network.
    """
    try:
        with patience(), contextlib.redirect_stdout(sys.stderr):  # torch prints there what is no result
            module: nn.Module = import_torchvision().models.get_model(name, weights=weights)
    except (urllib.error.URLError, TimeoutError, ConnectionError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(
            f"the weights {weights.name} of {name} could not be had ({reason}); give a file with --weights FILE "
            "(weights= in Python), or try: sightline demo."
        ) from None
    except RuntimeError as error:
        if "hash" not in str(error):
            raise
        raise ModelError(f"the weights of {name} arrived damaged ({error}); try again.") from None
    return module.eval()


@contextmanager
def patience() -> Iterator[None]:
    """Wait half a minute for a network that does not answer, and not for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or _DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
