"""CAMs that refine Grad-CAM: against similar classes, with curvature, over several resolutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sightline.attention import has_fused
from sightline.errors import RefusedError
from sightline.goals import Goal, class_scores
from sightline.graph import find_nodes, sound_batch_norms
from sightline.heatmap import fuse_maps
from sightline.methods.cam import grad_cam_plus_plus, rectified, spatial_mean
from sightline.methods.registry import Range, method
from sightline.models.layers import Layer
from sightline.models.layouts import find_layout, to_spatial
from sightline.models.session import undisturbed
from sightline.recording import Recording, record

__all__ = ["finer_cam", "refine_cam", "shapley_cam"]

Utility = Literal["rest", "score"]


def _classes(rec: Recording, name: str, instead: str) -> Tensor:
    """Return the class index that each row explains."""
    if rec.goal.classes is None:
        raise RefusedError(f"{name} needs a class as its target, and '{rec.goal.names[0].label}' is none; {instead}.")
    return rec.goal.classes[rec.rows]


@method(family="cam", cite="Zhang et al. 2025, arXiv:2501.11309 (Finer-CAM), sec. 3", reads="layer")
def finer_cam(
    rec: Recording,
    similar: Annotated[int, Range(1)] = 3,
    strength: Annotated[float, Range(0)] = 0.6,
    relu: bool = True,
) -> Tensor:
    """Grad-CAM of what tells the class from similar ones: the mean over d of ReLU(sum_k mean(g_c - gamma g_d)_k A_k).

    ``similar`` classes d are taken, those whose scores are closest; ``strength`` is gamma: 0 is plain Grad-CAM.
    """
    a, own = rec.activation(), spatial_mean(rec.gradient("layer"))
    maps = [
        rectified(((own - strength * spatial_mean(g)) * a).sum(1), relu) for g in _gradients_of_similar(rec, similar)
    ]
    return torch.stack(maps).mean(0)


def _gradients_of_similar(rec: Recording, similar: int) -> Iterator[Tensor]:
    """Yield the layer's gradients of each row's most similar class, its second, and so on."""
    classes = _classes(rec, "finer_cam", "use grad_cam with contrast=")
    logits = class_scores(rec.shared.forward, "logit").detach()
    apart = (logits - logits.gather(1, classes.unsqueeze(1))).abs()
    apart = apart.scatter(1, classes.unsqueeze(1), torch.inf)
    rest = logits.shape[1] - 1
    if rest < similar:
        rec.note(f"similar={similar}: the model has {rest} other {'class' if rest == 1 else 'classes'}")
    found = apart.topk(min(similar, rest), dim=1, largest=False).indices
    for others in found.unbind(1):
        yield rec.for_target(_goal_of(rec, others)).gradient("layer")


def _goal_of(rec: Recording, classes: Tensor) -> Goal:
    """Return the goal of one class for each row of this pass."""
    output = rec.shared.options.output
    return Goal(
        rec.goal.names, lambda forward, _: class_scores(forward, output).gather(1, classes.unsqueeze(1)).squeeze(1)
    )


@method(family="cam", cite="Cai 2025, arXiv:2501.06261 (ShapleyCAM), sec. 4", reads="layer")
def shapley_cam(rec: Recording, utility: Utility = "rest", relu: bool = True) -> Tensor:
    """Grad-CAM with curvature: channels weighted by mean(g - H A / 2), the Shapley value to second order.

    ``utility`` is what is shared out: "rest" the class's logit plus its log-probability, "score" the target's score,
    which equals Grad-CAM where only linear layers and ReLUs follow.
    """
    found = _second_order(rec, utility)
    return rectified((spatial_mean(found) * rec.activation()).sum(1), relu)


def _second_order(rec: Recording, utility: Utility) -> Tensor:
    """Return g - H A / 2 at the layer (N, C, *S)."""
    if not has_fused(rec.score().grad_fn):
        return _corrected(rec, utility)
    with sdpa_kernel(SDPBackend.MATH):  # fused attention cannot be differentiated twice
        (found,) = [_corrected(child, utility) for child, _ in rec.children([rec.x])]
    return found


def _corrected(rec: Recording, utility: Utility) -> Tensor:
    name = str(rec.layer)
    forward, plain = rec.shared.forward, rec.gradient("layer")
    tap = forward.taps[name]
    with undisturbed(rec.model.module), torch.enable_grad():
        score = _utility(rec, utility)
        curved = _curvature(score, tap)
    layout = find_layout(tuple(tap.shape), tuple(rec.x.shape[2:]), channels_last=name in forward.channels_last)
    return to_spatial(curved, layout).to(plain) if layout is not None else plain


def _utility(rec: Recording, utility: Utility) -> Tensor:
    if utility == "score":
        return rec.score()
    classes = _classes(rec, "shapley_cam with utility='rest'", "give utility='score'").unsqueeze(1)
    parts = (class_scores(rec.shared.forward, output) for output in ("logit", "log_probability"))
    return torch.stack([p.gather(1, classes).squeeze(1) for p in parts]).sum(0)


def _curvature(score: Tensor, tap: Tensor) -> Tensor:
    """Return g - H A / 2 of a score (N,) at a layer's output A, in the layer's own layout."""
    try:
        with sound_batch_norms(score.grad_fn, len(score)):
            (g,) = torch.autograd.grad(score.sum(), [tap], create_graph=True)
        if not g.requires_grad:
            return g
        if any("Error" in n.name() for n in find_nodes(g.grad_fn)):  # where autograd would stop without a word
            raise _only_once("a function that says so itself")
        (product,) = torch.autograd.grad((g * tap.detach()).sum(), [tap], retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        raise _only_once(" ".join(str(error).split())[:120]) from error
    return g.detach() if product is None else (g - 0.5 * product).detach()


def _only_once(reason: str) -> RefusedError:
    return RefusedError(
        f"shapley_cam differentiates twice, and something in this model can be differentiated only once ({reason}); "
        "use grad_cam or hires_cam."
    )


@method(family="cam", cite="Domeniconi et al. 2026, arXiv:2605.14641 (RefineCAM)", reads="layer")
def refine_cam(rec: Recording, stages: Annotated[int, Range(2)] = 3) -> Tensor:
    """Grad-CAM++ at several resolutions, each divided by its maximum, enlarged to the finest and multiplied.

    ``stages`` counts the layer itself and, before it, the last layer of each finer resolution, nearest first.
    """
    names = [*_finer_layers(rec)[: stages - 1], str(rec.layer)]
    if len(names) < stages:
        rec.note(f"stages={stages}: the model has {len(names)} resolutions up to this layer")
    options = replace(rec.shared.options, layers=(*names, *rec.goal.layers))
    with record(rec.model, rec.x, options) as found:
        view = replace(found.for_target(rec.goal), rows=rec.rows)
        maps = [grad_cam_plus_plus(view.for_layer(name)) for name in names]
    rec.shared.passes[0] += 1
    return fuse_maps(maps, "product")


def _finer_layers(rec: Recording) -> list[str]:
    """Return the last layer of each resolution finer than the recording's, the nearest resolution first."""
    size = rec.activation()[0, 0].numel()
    listed = rec.model.layers(rec.x)
    until = next(i for i, layer in enumerate(listed) if layer.name == rec.layer)
    sizes: dict[tuple[int, ...], list[Layer]] = {}
    for layer in listed[:until]:
        if layer.layout is not None and layer.spatial and layer.layout.positions > size:
            sizes.setdefault(layer.spatial, []).append(layer)
    if not sizes:
        raise RefusedError(
            f"refine_cam multiplies CAMs of several resolutions, and there is none finer before '{rec.layer}'; use "
            "grad_cam_plus_plus, or any CAM with several layers and fuse='product'."
        )
    return [_outermost(sizes[s]).name for s in sorted(sizes, key=lambda s: torch.Size(s).numel())]


def _outermost(layers: list[Layer]) -> Layer:
    """Return the last of those that lie least deep in the model: what is inside a block has paths around it."""
    least = min(layer.name.count(".") for layer in layers)
    return [layer for layer in layers if layer.name.count(".") == least][-1]
