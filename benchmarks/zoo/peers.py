"""captum and pytorch-grad-cam on the same cells, with the same layer and no hints about layouts."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.models.zoo import import_torchvision

from .references import CAMS, STEPS, MeaninglessError, Truth, UnknownError, component, plus_plus
from .subjects import Scores

CAPTUM = ("gradient", "input_x_gradient", "integrated_gradients", "guided_backprop", "deconvnet")
CAPTUM_CAMS = ("grad_cam", "guided_grad_cam")
GRAD_CAM = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "xgrad_cam": "XGradCAM",
    "layer_cam": "LayerCAM",
    "hires_cam": "HiResCAM",
    "elementwise_grad_cam": "GradCAMElementWise",
    "eigen_cam": "EigenCAM",
    "eigen_grad_cam": "EigenGradCAM",
}
TOLERANCE = 2e-2  # theirs have constants in denominators and steps in single precision


class Louder(torch.nn.Module):
    """The same scores times a number, against the small constants in pytorch-grad-cam's denominators."""

    def __init__(self, scores: Scores, factor: float) -> None:
        super().__init__()
        self.scores, self.factor = scores, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x) * self.factor


def peers(truth: Truth, methods: list[str]) -> dict[str, dict[str, str]]:
    """{method: {peer: outcome}} for what they offer."""
    found: dict[str, dict[str, str]] = {}
    scores = truth.subject.for_peer()
    for method in methods:
        if method in CAPTUM or (method in CAPTUM_CAMS and truth.layer is not None):
            found.setdefault(method, {})["captum"] = _outcome(lambda m=method: _captum(truth, m, scores))
    scores = truth.subject.for_peer()
    for method in methods:
        if method in GRAD_CAM and truth.layer is not None:
            found.setdefault(method, {})["grad-cam"] = _outcome(lambda m=method: _grad_cam(truth, m, scores))
    return found


def _outcome(run: Callable[[], bool | None]) -> str:
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        try:
            right = run()
        except UnknownError:
            return "not measured"
        except Exception:  # noqa: BLE001  whatever they raise is their outcome
            return "raised"
    return "not measured" if right is None else "right" if right else "wrong"


def _layer(truth: Truth, scores: Scores) -> Any:
    return scores.layer(str(truth.layer).partition("@")[0])


def _captum(truth: Truth, method: str, scores: Scores) -> bool | None:
    import captum.attr as captum

    x = truth.subject.x.clone().requires_grad_()
    if method == "grad_cam":
        found = captum.LayerGradCam(scores, _layer(truth, scores)).attribute(x, truth.target, relu_attributions=True)
        return _agrees(found[:, 0], truth, method)
    if method == "guided_grad_cam":
        theirs = captum.GuidedGradCam(scores, _layer(truth, scores))
        return _agrees(theirs.attribute(x, truth.target, interpolate_mode="bilinear"), truth, method)
    if method == "integrated_gradients":
        found = captum.IntegratedGradients(scores).attribute(x, 0, truth.target, n_steps=STEPS)
        return _agrees(found, truth, method)
    kinds = {
        "gradient": lambda: captum.Saliency(scores).attribute(x, truth.target, abs=False),
        "input_x_gradient": lambda: captum.InputXGradient(scores).attribute(x, truth.target),
        "guided_backprop": lambda: captum.GuidedBackprop(scores).attribute(x, truth.target),
        "deconvnet": lambda: captum.Deconvolution(scores).attribute(x, truth.target),
    }
    return _agrees(kinds[method](), truth, method)


def _agrees(found: Tensor, truth: Truth, method: str) -> bool | None:
    """Whether a map is the reference; a map where the method means nothing is wrong."""
    try:
        wanted = truth.wanted(method)
    except MeaninglessError:
        return False
    if not wanted.any():
        return None
    return found.shape == wanted.shape and distance(found, wanted) < TOLERANCE


def distance(found: Any, wanted: Any) -> float:
    found, wanted = (torch.as_tensor(v).detach().double() for v in (found, wanted))
    return float((found - wanted).norm() / wanted.norm())


def _grad_cam(truth: Truth, method: str, scores: Scores) -> bool | None:
    import_torchvision()  # which theirs imports, and fails where its compiled operators do not fit
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    factor = 1 / max(1e-30, float(truth.g.abs().max()))
    options = _wanted_of_grad_cam(truth, method, factor)
    if not all(w.any() for w in options):
        return None
    with getattr(library, GRAD_CAM[method])(model=Louder(scores, factor), target_layers=[_layer(truth, scores)]) as cam:
        found = cam(truth.subject.x.clone().requires_grad_(), targets=[ClassifierOutputTarget(truth.target)])[0]
    size = truth.subject.x.shape[-1]
    return min(float(np.abs(found - _as_theirs(w[0], size)).max()) for w in options) < TOLERANCE


def _wanted_of_grad_cam(truth: Truth, method: str, factor: float) -> list[Tensor]:
    """Their Eigen-CAMs are centred, and leave the component's sign to chance: either side is accepted."""
    a, g = truth.a, truth.g * factor
    if method.startswith("eigen"):
        side = component(a if method == "eigen_cam" else a * g, centre=True)
        return [side.clamp(min=0), (-side).clamp(min=0)]
    return [(plus_plus(a, g, g**2, g**3) if method == "grad_cam_plus_plus" else CAMS[method](truth)).clamp(min=0)]


def _as_theirs(cam: Tensor, size: int) -> np.ndarray:
    import cv2

    def scaled(values: np.ndarray) -> np.ndarray:
        values = values - values.min()
        return values / (1e-7 + values.max())

    return scaled(cv2.resize(scaled(cam.double().numpy()).astype(np.float32), (size, size)))
