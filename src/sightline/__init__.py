"""Sightline: why did this image classifier say that, and can the answer be believed?

>>> import sightline
>>> from sightline.demo.scenes import scene
>>> sightline.explain("demo/honest", scene(0).image, method="grad_cam").method
'grad_cam'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline import targets
    from sightline.batch.dataset import explain_dataset
    from sightline.concept.craft import concepts
    from sightline.concept.results import Concepts, Tcav
    from sightline.concept.tcav import tcav
    from sightline.counterfactuals import Counterfactual, counterfactual
    from sightline.engine import explain
    from sightline.errors import RefusedError, SightlineError
    from sightline.evaluation.measure import measure
    from sightline.evaluation.mistakes.confusions import find_errors
    from sightline.evaluation.results import Evaluation
    from sightline.evaluation.run import evaluate
    from sightline.explanation import Explanation
    from sightline.geometry import Preprocessing
    from sightline.labels import Labels
    from sightline.maximized import Maximized, maximize
    from sightline.methods import find_method, method
    from sightline.models.load import load
    from sightline.models.model import Model
    from sightline.predictions import predict
    from sightline.recording import Recording
    from sightline.render.compare import compare
    from sightline.training.callbacks.hooks import keras_callback, lightning_callback
    from sightline.training.callbacks.watching import Watch, watch
    from sightline.training.run import Training, train
    from sightline.training.settings import TrainSettings

__all__ = [
    "Concepts",
    "Counterfactual",
    "Evaluation",
    "Explanation",
    "Labels",
    "Maximized",
    "Model",
    "Preprocessing",
    "Recording",
    "RefusedError",
    "SightlineError",
    "Tcav",
    "TrainSettings",
    "Training",
    "Watch",
    "compare",
    "concepts",
    "counterfactual",
    "evaluate",
    "explain",
    "explain_dataset",
    "find_errors",
    "find_method",
    "keras_callback",
    "lightning_callback",
    "load",
    "maximize",
    "measure",
    "method",
    "predict",
    "targets",
    "tcav",
    "train",
    "watch",
]

_HOMES = {
    "Concepts": "sightline.concept.results",
    "Counterfactual": "sightline.counterfactuals",
    "Evaluation": "sightline.evaluation.results",
    "Explanation": "sightline.explanation",
    "Labels": "sightline.labels",
    "Maximized": "sightline.maximized",
    "Model": "sightline.models.model",
    "Preprocessing": "sightline.geometry",
    "Recording": "sightline.recording",
    "RefusedError": "sightline.errors",
    "SightlineError": "sightline.errors",
    "Tcav": "sightline.concept.results",
    "TrainSettings": "sightline.training.settings",
    "Training": "sightline.training.run",
    "Watch": "sightline.training.callbacks.watching",
    "compare": "sightline.render.compare",
    "concepts": "sightline.concept.craft",
    "counterfactual": "sightline.counterfactuals",
    "evaluate": "sightline.evaluation.run",
    "explain": "sightline.engine",
    "explain_dataset": "sightline.batch.dataset",
    "find_errors": "sightline.evaluation.mistakes.confusions",
    "find_method": "sightline.methods",
    "keras_callback": "sightline.training.callbacks.hooks",
    "lightning_callback": "sightline.training.callbacks.hooks",
    "load": "sightline.models.load",
    "maximize": "sightline.maximized",
    "measure": "sightline.evaluation.measure",
    "method": "sightline.methods",
    "predict": "sightline.predictions",
    "tcav": "sightline.concept.tcav",
    "train": "sightline.training.run",
    "watch": "sightline.training.callbacks.watching",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that ``sightline --help`` need not wait for torch."""
    if name == "targets":
        return importlib.import_module("sightline.targets")
    if name not in _HOMES:
        raise AttributeError(f"module 'sightline' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
