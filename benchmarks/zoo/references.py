"""What each method should give, written down a second time from the papers and with nothing of Sightline's engine.

Only where the points of sampled methods lie is taken from `sightline.points`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.geometry import Preprocessing
from sightline.points import noisy, uniform_images

from .patched import Rectified, Sound
from .subjects import Subject

SAMPLES, STEPS = 2, 3
_SLOPE_STEPS = (1e-6, 1e-4, 1e-3)  # in double precision; larger ones for parts that a network keeps in single


class MeaninglessError(Exception):
    """The method means nothing for this network: a refusal is the right answer."""


class UnknownError(Exception):
    """The reference does not know."""


@dataclass(eq=False)
class Truth:
    """The references of one subject, target class and layer, each computed when asked for."""

    subject: Subject
    target: int
    layer: str | None
    how: Preprocessing
    _known: dict[Any, Tensor | Exception] = field(default_factory=dict)

    def gradients(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """The gradient at the input and, in (N, C, *S), activation and gradient of the layer; and the logits."""
        with frozen(self.subject.scores), Sound(), self._tapped() as taps:
            leaf = x.clone().requires_grad_()
            logits = self.subject.scores(leaf + 0)
            tap = taps[0] if taps else None
            score = logits[:, self.target].sum()
            places = [leaf] if tap is None else [leaf, tap]
            found = torch.autograd.grad(score, places, allow_unused=True, materialize_grads=True)
        if tap is None:
            return found[0], None, None, logits.detach()
        return found[0], to_maps(tap.detach(), self.subject), to_maps(found[1], self.subject), logits.detach()

    @contextmanager
    def _tapped(self, *, detached: bool = False) -> Iterator[list[Tensor]]:
        taps: list[Tensor] = []
        if self.layer is None:
            yield taps
            return
        name, _, wanted = self.layer.partition("@")
        calls: list[int] = []

        def keep(_: nn.Module, __: Any, given: Any) -> Any:
            calls.append(1)
            if len(calls) != int(wanted or 1):
                return None
            parts = list(given) if isinstance(given, (tuple, list)) else [given]
            place = next(i for i, part in enumerate(parts) if isinstance(part, Tensor) and part.ndim > 2)
            taps.append(parts[place])
            parts[place] = parts[place].detach() if detached else parts[place] + 0  # an op in place may follow
            return type(given)(parts) if isinstance(given, (tuple, list)) else parts[0]

        handle = self.subject.scores.layer(name).register_forward_hook(keep)
        try:
            yield taps
        finally:
            handle.remove()

    @cached_property
    def plain(self) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        return self.gradients(self.subject.x)

    @property
    def a(self) -> Tensor:
        if self.plain[1] is None:
            raise UnknownError("there is no layer")
        return self.plain[1]

    @property
    def g(self) -> Tensor:
        if self.plain[2] is None:
            raise UnknownError("there is no layer")
        return self.plain[2]

    def ruled(self, rule: str) -> Tensor:
        """The gradient at the input through rectifiers with another backward pass."""
        return self._once(rule, self._ruled)

    def _once(self, key: Any, compute: Callable[[Any], Tensor]) -> Tensor:
        if key not in self._known:
            try:
                self._known[key] = compute(key)
            except (MeaninglessError, UnknownError) as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, Exception):
            raise found
        return found

    def _ruled(self, rule: str) -> Tensor:
        with frozen(self.subject.scores):
            leaf = self.subject.x.clone().requires_grad_()
            with Sound(), Rectified(rule, self.subject.gates) as mode:
                score = self.subject.scores(leaf + 0)[:, self.target].sum()
            if not mode.count:
                raise MeaninglessError("no ReLU")
            return torch.autograd.grad(score, leaf)[0]

    @cached_property
    def around(self) -> list[tuple[Tensor, Tensor | None]]:
        points = noisy(self.subject.x, SAMPLES, 0.15, "relative", 0)
        return [(found[0], found[2]) for found in map(self.gradients, points)]

    @cached_property
    def is_cut(self) -> bool:
        """Whether the score depends on the input through the layer alone, not through a way round it."""
        if self.layer is None:
            return True
        with frozen(self.subject.scores), self._tapped(detached=True):
            leaf = self.subject.x.clone().requires_grad_()
            score = self.subject.scores(leaf + 0)[:, self.target].sum()
            if not score.requires_grad:
                return True
            return not torch.autograd.grad(score, leaf, allow_unused=True, materialize_grads=True)[0].any()

    def wanted(self, method: str, relu: bool = True) -> Tensor:
        """The reference for a method.

        Raises MeaninglessError where a refusal is right, UnknownError where there is no reference.
        """
        found = self._once((method,), self._formula)
        return found.clamp(min=0) if relu and method in CAMS else found

    def _formula(self, key: tuple[str]) -> Tensor:
        formula = (CAMS | OTHERS).get(key[0])
        if formula is None:
            raise UnknownError(f"there is no reference for {key[0]}")
        return formula(self)

    def slope_gap(self) -> float:
        """How far the gradient's own length is from the slope in its direction, by finite differences."""
        length = self.plain[0].norm()
        return min(abs(self._slope(self.plain[0] / length, step) / float(length) - 1) for step in _SLOPE_STEPS)

    def _slope(self, direction: Tensor, step: float) -> float:
        with torch.no_grad():
            up, down = (self.subject.scores(self.subject.x + s * direction)[0, self.target] for s in (step, -step))
        return float(up - down) / (2 * step)


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    learning = [p for p in net.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)


def to_maps(values: Tensor, subject: Subject) -> Tensor:
    """Bring a layer's values for a square picture to (N, C, H, W) by what is known of the architecture."""
    if values.ndim == 4:
        _, a, b, c = values.shape
        last = subject.channels_last or (a == b and b != c)
        if (a != b) if last else (b != c):
            raise UnknownError(f"the reference cannot place {tuple(values.shape)}")
        return values.movedim(-1, 1) if last else values
    if values.ndim != 3:
        raise UnknownError(f"the reference cannot place {tuple(values.shape)}")
    for tokens in (values, values.mT):
        for prefix in (0, 1, 2, 5) if subject.prefix is None else (subject.prefix, 0):  # they may be added late
            side = math.isqrt(max(0, tokens.shape[1] - prefix))
            if side > 1 and side * side == tokens.shape[1] - prefix:
                return tokens[:, prefix:].mT.unflatten(2, (side, side))
    raise UnknownError(f"the reference cannot place {tuple(values.shape)}")


def _total(values: Tensor) -> Tensor:
    return values.sum((2, 3), keepdim=True)


def _cam(truth: Truth) -> Tensor:
    """Zhou's: the score must be an affine function of the layer's mean, which the numbers themselves show."""
    a, g = truth.a, truth.g
    weights = g.mean((2, 3), keepdim=True)
    if float((g - weights).norm()) > 1e-3 * float(g.norm()):
        raise MeaninglessError("the gradient is not the same everywhere")
    if int((weights != 0).sum()) < 2:
        raise MeaninglessError("no linear layer follows: the layer's channels are the classes")
    score = truth.plain[3][:, truth.target]
    rest = float((score - (a * g).sum()) - _bias(truth))
    if abs(rest) > 1e-3 * max(1e-6, float(score.abs()), float((a * g).abs().sum())):
        raise MeaninglessError("the layer's mean and a bias do not add up to the score")
    if not _is_row(_total(g).flatten(), truth):
        raise MeaninglessError("there is no one linear layer with these weights")
    return (_total(g) * a).sum(1)


def _is_row(weights: Tensor, truth: Truth) -> bool:
    classes = truth.plain[3].shape[1]
    net = truth.subject.net
    every = [w.value for w in net.weights] if _is_keras(net) else list(net.parameters())
    fitting = [w.detach() for w in every if w.ndim > 1 and w.numel() == classes * len(weights)]
    rows = [r for w in fitting for r in (w.reshape(classes, -1)[truth.target], w.reshape(-1, classes)[:, truth.target])]
    return any(float((r - weights).norm()) < 1e-2 * float(weights.norm()) for r in rows)


def _bias(truth: Truth) -> float:
    """The target's bias in the last layer that has one value for each class."""
    classes = truth.plain[3].shape[1]
    biases = (getattr(m, "bias", None) for m in _parts(truth.subject.net))
    values = (getattr(b, "value", b) for b in biases)
    found = [v for v in values if isinstance(v, Tensor) and tuple(v.shape) == (classes,)]
    return float(found[-1][truth.target]) if found else 0.0


def _is_keras(net: Any) -> bool:
    return hasattr(net, "_flatten_layers")


def _parts(net: Any) -> Any:
    return net._flatten_layers(include_self=False) if _is_keras(net) else net.modules()


def plus_plus(a: Tensor, g: Tensor, g2: Tensor, g3: Tensor) -> Tensor:
    below = 2 * g2 + _total(a) * g3
    alpha = torch.where(below == 0, 0.0, g2 / torch.where(below == 0, 1.0, below))
    return (_total(alpha * g.clamp(min=0)) * a).sum(1)


def _smooth_plus_plus(truth: Truth) -> Tensor:
    every = torch.stack([g for _, g in truth.around if g is not None])
    return plus_plus(truth.a, every.mean(0), (every**2).mean(0), (every**3).mean(0))


def _xgrad(truth: Truth) -> Tensor:
    mass = _total(truth.a)
    share = torch.where(mass == 0, 0.0, _total(truth.a * truth.g) / torch.where(mass == 0, 1.0, mass))
    return (share * truth.a).sum(1)


def _hires(truth: Truth) -> Tensor:
    parts = truth.a * truth.g
    found = parts.sum(1)
    if float(found.norm()) < 1e-5 * float(parts.abs().sum(1).norm()):  # where nothing but a layer norm follows
        raise UnknownError("the channels cancel, and what is left is rounding")
    return found


def component(values: Tensor, centre: bool = False) -> Tensor:
    """The first right-singular vector times its singular value, turned towards the sum over channels."""
    flat = values[0].flatten(1).double()
    flat = flat - flat.mean(1, keepdim=True) if centre else flat
    _, s, v = torch.linalg.svd(flat, full_matrices=False)
    if len(s) > 1 and float(s[0] - s[1]) < 1e-3 * float(s[0]):
        raise UnknownError("two components are equally large")
    first = s[0] * v[0]
    agreement = float((first * values[0].flatten(1).double().sum(0)).sum())
    if abs(agreement) < 1e-4 * float(first.norm()) ** 2:
        raise UnknownError("the component has no side")
    return (first * math.copysign(1.0, agreement)).reshape(1, *values.shape[2:]).to(values)


def _integrated(truth: Truth) -> Tensor:
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    x = truth.subject.x
    total = sum(w / 2 * truth.gradients((t + 1) / 2 * x)[0] for t, w in zip(nodes, weights, strict=True))
    return x * total


def _expected(truth: Truth) -> Tensor:
    x = truth.subject.x
    alphas = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    pairs = zip(uniform_images(x, SAMPLES, truth.how, 0), alphas, strict=True)
    return torch.stack([(x - b) * truth.gradients(b + t * (x - b))[0] for b, t in pairs]).mean(0)


def _guided_grad_cam(truth: Truth) -> Tensor:
    cam = truth.wanted("grad_cam")[:, None]
    size = truth.subject.x.shape[2:]
    return F.interpolate(cam, size, mode="bilinear", align_corners=False) * truth.ruled("guided")


def _spread(truth: Truth) -> Tensor:
    return torch.stack([g for g, _ in truth.around]).double()


CAMS: dict[str, Callable[[Truth], Tensor]] = {
    "grad_cam": lambda t: (t.g.mean((2, 3), keepdim=True) * t.a).sum(1),
    "cam": _cam,
    "grad_cam_plus_plus": lambda t: plus_plus(t.a, t.g, t.g**2, t.g**3),
    "smooth_grad_cam_plus_plus": _smooth_plus_plus,
    "xgrad_cam": _xgrad,
    "layer_cam": lambda t: (t.g.clamp(min=0) * t.a).sum(1),
    "hires_cam": _hires,
    "elementwise_grad_cam": lambda t: (t.g * t.a).clamp(min=0).sum(1),
    "eigen_cam": lambda t: component(t.a),
    "eigen_grad_cam": lambda t: component(t.a * t.g),
}
OTHERS: dict[str, Callable[[Truth], Tensor]] = {
    "activations": lambda t: t.a,
    "gradient": lambda t: t.plain[0],
    "input_x_gradient": lambda t: t.subject.x * t.plain[0],
    "smooth_grad": lambda t: _spread(t).mean(0),
    "square_grad": lambda t: (_spread(t) ** 2).mean(0),
    "var_grad": lambda t: _spread(t).var(0, correction=0),
    "integrated_gradients": _integrated,
    "expected_gradients": _expected,
    "guided_backprop": lambda t: t.ruled("guided"),
    "deconvnet": lambda t: t.ruled("deconv"),
    "guided_grad_cam": _guided_grad_cam,
}
