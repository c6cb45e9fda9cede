"""What other libraries compute, written out: where docs/coming-from.md says that theirs differs, and how it does.

Each takes the names that the page defines. Where a library cannot be run here, these stand for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import sightline

Names = dict[str, Any]
SEED = 1


def seed_all() -> None:
    torch.manual_seed(SEED)
    np.random.seed(SEED)


# --- pytorch-grad-cam and torchcam ------------------------------------------------------------------------------------


def unit(heat: Any) -> np.ndarray:
    heat = np.asarray(heat, dtype=np.float64)
    return (heat - heat.min()) / (heat.max() - heat.min())


def enlarged(cam: Tensor, size: tuple[int, ...] = (16, 16)) -> Tensor:
    return F.interpolate(cam[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def layer_and_gradient(net: Any, layer: Any, x: Tensor, c: int) -> tuple[Tensor, Tensor]:
    """Return a layer's activation and the gradient of the class's score there, (C, H, W) each."""
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, given, out: kept.append(out))
    score = net(x.requires_grad_())[0, c]
    handle.remove()
    return kept[0][0].detach(), torch.autograd.grad(score, kept[0])[0][0]


def weighted(weights: Tensor, a: Tensor) -> Tensor:
    return torch.einsum("k,khw->hw", weights.to(a), a).clamp(min=0)


def random_cam(names: Names) -> Any:
    seed_all()
    a = names["model"].features(names["x"])[0].detach()
    return unit(enlarged(weighted(torch.as_tensor(np.random.uniform(-1, 1, len(a))), a)))


def channelwise_full_grad(names: Names) -> Any:
    net, x, c = (names[n] for n in ("model", "x", "c"))
    shares = [(x * torch.tensor(sightline.explain(net, x, "gradient", c)[0].attribution))[0].detach()]
    for conv in (net.features[0], net.features[3]):
        shares.append(conv.bias.detach()[:, None, None] * layer_and_gradient(net, conv, x, c)[1])
    channels = [channel.abs() for share in shares for channel in share]
    return unit(sum(enlarged(torch.as_tensor(unit(channel))).numpy() for channel in channels))


def augmented(names: Names) -> Any:
    maps = []
    for turn in (False, True):
        for factor in (0.9, 1.0, 1.1):
            x = factor * (names["x"].flip(3) if turn else names["x"])
            heat = unit(sightline.explain(names["model"], x, "grad_cam", names["c"])[0].at_input())
            maps.append(heat[:, ::-1] if turn else heat)
    return np.mean(maps, axis=0)


def two_layers(names: Names) -> Any:
    layers = ("features", "features.1")
    found = [sightline.explain(names["model"], names["x"], "grad_cam", names["c"], layer=name)[0] for name in layers]
    return unit(np.mean([enlarged(torch.as_tensor(unit(e.attribution))).numpy() for e in found], axis=0))


def signed_ablation(names: Names) -> Any:
    how = {"layer": "features", "relu": False}
    found = sightline.explain(names["model"], names["x"], "ablation_cam", 1, **how)[0]
    assert found.score < 0
    return unit(enlarged(torch.tensor(-found.attribution).clamp(min=0)))


def counted_positions(names: Names) -> Any:
    a = names["model"].features(names["x"])[0].detach()
    strong = a > a.mean((1, 2), keepdim=True) + 2 * a.std((1, 2), correction=0, keepdim=True)
    return unit(enlarged(weighted(strong.float().mean((1, 2)), a)))


def nearest(scores: Tensor, c: int) -> list[int]:
    return (scores - scores[c]).abs().argsort()[1:4].tolist()


def finer(names: Names, shares: Callable[[Tensor, list[int]], Tensor]) -> Tensor:
    """Return Grad-CAM of the class less 0.6 of the three nearest classes, each counted by its share."""
    net, layer, x, c = (names[n] for n in ("model", "layer", "x", "c"))
    scores = net(x)[0].detach()
    others = nearest(scores, c)
    a, g = layer_and_gradient(net, layer, x, c)
    for share, other in zip(shares(scores, others), others, strict=True):
        g = g - share * layer_and_gradient(net, layer, x, other)[1]
    return weighted(g.mean((1, 2)), a)


def probable_finer(names: Names) -> Any:
    """Count each by its probability; the shares are differentiated too, as that library does."""

    def shares(scores: Tensor, others: list[int]) -> Tensor:
        leaf = scores.clone().requires_grad_()
        odds = leaf.softmax(0)[others]
        own = (odds * (leaf[names["c"]] - 0.6 * leaf[others])).sum() / (odds.sum() + 1e-9)
        (slope,) = torch.autograd.grad(own, leaf)
        assert abs(float(slope[names["c"]]) - 1) < 1e-4
        return -slope[others]

    return unit(enlarged(finer(names, shares)))


def averaged_finer(names: Names) -> Any:
    return finer(names, lambda scores, others: torch.full((3,), 0.2))


def refined(names: Names) -> Any:
    layers = (names["model"].features[1], names["layer"])
    found = [undivided_plus_plus({**names, "layer": layer}) for layer in layers]
    return unit(np.prod([enlarged(torch.as_tensor(unit(cam))).numpy() for cam in found], axis=0))


def mean_token_legrad(names: Names) -> Any:
    """Let the model read the mean of all tokens where it reads the class token."""
    vit = names["vit"]
    from torchcam.methods import LeGrad

    def project(tokens: Tensor) -> Tensor:
        return vit.heads(vit.encoder.ln(tokens.mean(1)))

    with LeGrad(vit, list(vit.encoder.layers), score_projection=project) as extractor:
        return extractor(names["c"], vit(names["x"].requires_grad_()), normalized=False)[0]


def undivided_plus_plus(names: Names) -> Any:
    a, g = layer_and_gradient(names["model"], names["layer"], names["x"], names["c"])
    return weighted((g**2 * g.clamp(min=0)).sum((1, 2)), a)


def smooth_plus_plus(names: Names) -> Any:
    seed_all()
    net, layer, x, c = (names[n] for n in ("model", "layer", "x", "c"))
    a, _ = layer_and_gradient(net, layer, x, c)
    copies = [x + 0.3 * torch.randn(x.shape) for _ in range(4)]
    noisy, drawn = zip(*(layer_and_gradient(net, layer, copy, c) for copy in copies), strict=True)
    g2, g3 = (torch.stack([g**power for g in drawn]).mean(0) for power in (2, 3))
    alpha = g2 / (2 * g2 + (g3 * a).sum((1, 2), keepdim=True) + 1e-8)
    return unit(weighted((alpha * drawn[-1].clamp(min=0)).sum((1, 2)), noisy[-1]))


def score_weighted(names: Names, masks: Callable[[Tensor], list[Tensor]]) -> Any:
    """Weight channels by the softmax of the mean score through some masks (C, H, W) each."""
    net, x, c = (names[n] for n in ("model", "x", "c"))
    a = net.features(x)[0].detach()
    low, high = a.amin((1, 2), keepdim=True), a.amax((1, 2), keepdim=True)
    large = torch.stack([enlarged(channel) for channel in (a - low) / (high - low + 1e-8)])
    scores = torch.stack([net(x * mask[:, None])[:, c].detach() for mask in masks(large)])
    return unit(weighted(scores.mean(0).softmax(0), a))


def ss_cam(names: Names) -> Any:
    seed_all()
    return score_weighted(names, lambda large: [large + 2.0 * torch.randn(large.shape) for _ in range(35)])


def is_cam(names: Names) -> Any:
    fades = np.cumsum([(i + 1) / 10 for i in range(10)])
    assert round(float(fades[-1]), 6) == 5.5
    return score_weighted(names, lambda large: [float(fade) * large for fade in fades])


# --- tf-explain and tf-keras-vis --------------------------------------------------------------------------------------


def keras_run(names: Names, images: Tensor | None = None) -> dict[str, Tensor]:
    """Return what every layer of the page's Keras model gives, channels last, as differentiable tensors."""
    h = torch.as_tensor(names["images"]) if images is None else images
    run = {"input": h.requires_grad_()}
    for layer in names["chain"]:
        h = layer(h)
        run[layer.name] = h
    return run


def keras_gradient(names: Names, of: str = "scores", at: str = "input", images: Tensor | None = None) -> Tensor:
    run = keras_run(names, images)
    return torch.autograd.grad(run[of][:, names["c"]].sum(), run[at])[0].detach()


def keras_layer(names: Names) -> Tensor:
    return keras_run(names)["conv2"].detach()[0]


def keras_noisy(names: Names, level: float, samples: int) -> Tensor:
    seed_all()
    images = torch.as_tensor(names["images"]).expand(samples, -1, -1, -1)
    return images + level * torch.randn(images.shape)


def smooth_grad(names: Names) -> Any:
    run = keras_run(names, keras_noisy(names, 0.1, 1000))
    cross_entropy = -run["probabilities"][:, names["c"]].log().sum()
    return torch.autograd.grad(cross_entropy, run["input"])[0].mean(0).abs().sum(-1)


def unmultiplied_path(names: Names) -> Any:
    images = torch.linspace(0, 1, 10)[:, None, None, None] * torch.as_tensor(names["images"])
    return keras_gradient(names, "probabilities", images=images).mean(0).abs().sum(-1)


def keras_grad_cam(names: Names, of: str, guided: bool = False, relu: bool = False) -> Tensor:
    a, g = keras_layer(names), keras_gradient(names, of, "conv2")[0]
    g = g * (g > 0) * (a > 0) if guided else g
    cam = (g.mean((0, 1)) * a).sum(-1)
    return cam.clamp(min=0) if relu else cam


def grey_patches(names: Names) -> Any:
    cv2 = pytest.importorskip("cv2", reason="OpenCV, which pytorch-grad-cam brings, is not installed")
    found = np.zeros((4, 4))
    for row in range(4):
        for column in range(4):
            covered = torch.tensor(names["images"])
            covered[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 127.5
            found[row, column] = 1 - float(keras_run(names, covered)["probabilities"][0, names["c"]])
    return cv2.resize(found, (16, 16))


def corners_aligned(names: Names) -> Any:
    from scipy import ndimage

    return unit(ndimage.zoom(keras_grad_cam(names, "scores", relu=True).numpy(), 2, order=1))


def normalised_plus_plus(names: Names) -> Any:
    run, a, g = keras_run(names), keras_layer(names), keras_gradient(names, at="conv2")[0]
    first = run["scores"][0, names["c"]].detach().exp() * g
    below = 2 * first * g + first * g**2 * a.sum((0, 1))
    alpha = torch.where(first * g == 0, 0 * below, first * g / below)
    total = alpha.sum((0, 1))
    alpha = alpha / torch.where(total == 0, torch.ones_like(total), total)
    return unit(((first.clamp(min=0) * alpha).sum((0, 1)) * a).sum(-1).clamp(min=0))


def class_weighted(names: Names, most: int = 8) -> Any:
    from scipy import ndimage

    a = keras_layer(names)
    a = a[..., a.std((0, 1), correction=0).topk(most).indices]
    large = torch.as_tensor(ndimage.zoom(a.numpy(), (2, 2, 1), order=1, mode="nearest"))
    large = (large - large.amin((0, 1))) / (large.amax((0, 1)) - large.amin((0, 1)))
    seen = torch.as_tensor(names["images"]) * large.permute(2, 0, 1)[..., None]
    weights = keras_run(names, seen)["probabilities"].softmax(1)[:, names["c"]].detach()
    return (a * weights).sum(-1).clamp(min=0)


def keras_smooth(names: Names) -> Any:
    spread = float(np.ptp(names["images"]))
    return keras_gradient(names, images=keras_noisy(names, 0.02 * spread, 400)).mean(0)


def keras_guided(names: Names) -> Tensor:
    """Go back by hand from the scores: at each of the two ReLUs what is negative is cut off."""
    run, (conv1, pool, conv2) = keras_run(names), names["chain"][:3]
    g = keras_gradient(names, at="conv2") * (run["conv2"] > 0)
    first = run["conv1"].detach().requires_grad_()
    (g,) = torch.autograd.grad(convolved(conv2, pool(first)), first, g.clamp(min=0))
    images = run["input"].detach().requires_grad_()
    return torch.autograd.grad(convolved(conv1, images), images, g.clamp(min=0) * (first > 0))[0]


def convolved(layer: Any, x: Tensor) -> Tensor:
    """Return what a Keras convolution gives before its activation, channels last."""
    kernel, bias = (torch.as_tensor(weight) for weight in layer.get_weights())
    return F.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), bias, padding=1).permute(0, 2, 3, 1)


LINEAR = "(net, model_modifier=ReplaceToLinear())(CategoricalScore(c), images, "
FORMULAS: dict[str, Callable[[Names], Any]] = {
    "pgc.RandomCAM(model, [layer])": random_cam,
    "pgc.FullGrad(": channelwise_full_grad,
    "pgc.GradCAM(model, [layer])(x, wanted, aug_smooth=True)": augmented,
    "pgc.GradCAM(model, [layer, model.features[1]])": two_layers,
    "pgc.AblationCAM(model, [layer])(x, [ClassifierOutputTarget(1)])": signed_ablation,
    "pgc.FEM(": counted_positions,
    "pgc.FinerCAM(model, [layer])(x, None, alpha=0.6, target_idx=c)": probable_finer,
    'theirs(methods.FinerCAM(model, "features"), norm': averaged_finer,
    "theirs(methods.RefineCAM(": refined,
    "theirs(methods.LeGrad(vit, list(vit.encoder.layers)), norm": mean_token_legrad,
    "theirs(methods.GradCAMpp(": undivided_plus_plus,
    "theirs(methods.SmoothGradCAMpp(": smooth_plus_plus,
    "theirs(methods.SSCAM(": ss_cam,
    "theirs(methods.ISCAM(": is_cam,
    "VanillaGradients()": lambda names: keras_gradient(names).abs().sum(-1),
    "GradientsInputs()": lambda names: (torch.tensor(names["images"]) * keras_gradient(names)).abs().sum(-1),
    "SmoothGrad()": smooth_grad,
    "IntegratedGradients()": unmultiplied_path,
    'GradCAM().explain(data, net, c, layer_name="conv2")': lambda names: keras_grad_cam(names, "probabilities", True),
    'GradCAM().explain(data, net, c, layer_name="conv2", use': lambda names: keras_grad_cam(names, "probabilities"),
    "OcclusionSensitivity()": grey_patches,
    "ExtractActivations()": keras_layer,
    "Gradcam" + LINEAR + "penultimate": lambda names: keras_grad_cam(names, "scores", relu=True),
    "Gradcam(net)": lambda names: keras_grad_cam(names, "probabilities", relu=True),
    "Gradcam" + LINEAR[:-2] + ")": corners_aligned,
    "GradcamPlusPlus": normalised_plus_plus,
    "Layercam": lambda names: (keras_layer(names) * keras_gradient(names, at="conv2")[0].clamp(min=0)).sum(-1),
    "Scorecam(net)(CategoricalScore(c), images, expand": class_weighted,
    "Scorecam(net)(CategoricalScore(c), images, max_N": lambda names: class_weighted(names, 3),
    "Saliency" + LINEAR[:-2] + ")": lambda names: unit(keras_gradient(names).abs().amax(-1)),
    "Saliency" + LINEAR + "keepdims": lambda names: keras_gradient(names),
    "Saliency" + LINEAR + "smooth_samples": keras_smooth,
    "Saliency(net, model_modifier=[GuidedBackpropagation()": keras_guided,
}


def formula(snippet: str) -> Callable[[Names], Any] | None:
    """Return what stands for a snippet of another library."""
    found = [written for start, written in FORMULAS.items() if snippet.startswith(start)]
    assert len(found) < 2, snippet
    return found[0] if found else None
