"""DeepLIFT's rescale rule, and what completes it: every operation's multipliers account for all of its change.

Shrikumar et al. 2017 (arXiv:1704.02685), sec. 3.5.2: m = Δy / Δx for an operation of one variable. A product's
change is split evenly, Δ(ab) = Δa (b + b₀)/2 + Δb (a + a₀)/2, but not where one factor normalises. The change of a
maximum goes to the element that holds the larger maximum. With the logarithmic mean L(a, b) = (a - b) / (ln a - ln b),
softmax has the exact multipliers Δyᵢ = L(yᵢ, y₀ᵢ) (Δzᵢ - Σⱼ wⱼ Δzⱼ), where
wⱼ = L(exp zⱼ, exp z₀ⱼ) / L(Σ exp z, Σ exp z₀).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.propagation.composites import COMPOSITES, written_out
from sightline.propagation.mode import Call, ForwardRule, Op, Pass
from sightline.propagation.nodes import LINEAR, OURS

__all__ = ["DEEP_LIFT", "derivative", "scaled"]


class _Scaled(torch.autograd.Function):
    """An elementwise operation whose gradient is a multiplier of the rule's own: dz = m · dy."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, compute: Callable[[], Tensor], multiplier: Callable[[Tensor], Tensor]) -> Tensor:
        y = compute()
        ctx.save_for_backward(multiplier(y))
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (m,) = ctx.saved_tensors
        return gradients[0] * m, None, None


class _Chosen(torch.autograd.Function):
    """A maximum over groups of elements: each output's change goes to one of them. z is (..., M), index (..., K)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, y: Tensor, index: Tensor, multiplier: Tensor) -> Tensor:
        ctx.save_for_backward(index, multiplier)
        ctx.shape = z.shape
        return y.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        index, m = ctx.saved_tensors
        return torch.zeros(ctx.shape).to(m).scatter_add(-1, index, gradients[0] * m), None, None, None


class _Softmax(torch.autograd.Function):
    """Softmax, or its logarithm, with the exact multipliers given above."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, compute: Callable[[], Tensor], z0: Tensor, dim: int, log: bool) -> Tensor:
        low, low0 = z.log_softmax(dim), z0.log_softmax(dim)
        total, total0 = (v.logsumexp(dim, keepdim=True) for v in (z, z0))
        weights = (_log_mean(z, z0) - _log_mean(total, total0)).exp()
        ctx.save_for_backward(weights, torch.ones_like(z) if log else _log_mean(low, low0).exp())
        ctx.dim = dim
        return compute()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        weights, means = ctx.saved_tensors
        g = gradients[0] * means
        return g - weights * g.sum(ctx.dim, keepdim=True), None, None, None, None


_apply_chosen: Callable[..., Tensor] = _Chosen.apply
_apply_softmax: Callable[..., Tensor] = _Softmax.apply
OURS.update({"_ScaledBackward", "_ChosenBackward", "_SoftmaxBackward"})


def scaled(z: Tensor, compute: Callable[[], Tensor], multiplier: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what ``compute`` gives, with ``multiplier(y)`` as its gradient at ``z``."""
    return cast("Tensor", _Scaled.apply(z, compute, multiplier))  # type: ignore[no-untyped-call]


def _log_mean(a: Tensor, b: Tensor) -> Tensor:
    """Return ln L(exp a, exp b), the logarithmic mean in logarithms; where both are -inf, -inf."""
    gap = (a - b).abs().nan_to_num(0.0)
    return torch.maximum(a, b) + torch.where(gap > 1e-8, -torch.expm1(-gap) / gap.clamp(min=1e-8), 1.0).log()


def _cut(values: Tensor) -> Tensor:
    """Give a result of the baseline's pass no graph, but let it still count as depending on the input."""
    return values.detach().requires_grad_()


def _rescale(run: Pass, call: Call) -> Any:
    """m = Δy / Δz for an operation on one varying tensor, and its derivative where z hardly changes."""
    (z,) = call.varying[:1]
    pair = run.paired(call.name, z)
    if pair is None:
        return _cut(call.swapped(z, z.detach()).run())
    run.changed[call.name] += 1
    before, at = pair[0], call.at
    return scaled(z, call.run, lambda y: _slope(at, z.detach(), before, y))


def _slope(at: Callable[[Tensor], Tensor], z: Tensor, z0: Tensor, y: Tensor) -> Tensor:
    change = z - z0
    small = change.abs() <= 16 * torch.finfo(z.dtype).eps * (z.abs() + z0.abs())
    slope = (y - at(z0)) / torch.where(small, 1.0, change)
    return torch.where(small, derivative(at, z), slope) if bool(small.any()) else slope


def derivative(at: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return dy / dz of an elementwise operation."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        (found,) = torch.autograd.grad(at(leaf).sum(), leaf)
    return found


def _one_variable(run: Pass, call: Call) -> Any:
    return _rescale(run, call) if len(call.varying) == 1 else call.run()


def _divisor(run: Pass, call: Call) -> Any:
    """Rescale what a norm multiplies by, and remember that it is that."""
    result = _one_variable(run, call)
    run.mark("divisor", result, True)
    return result


def _product(run: Pass, call: Call) -> Any:
    """Split a product's change evenly between two factors that both vary; with one of them it is linear."""
    if len(call.varying) != 2:
        return call.run()
    a, b = call.varying
    pair = run.paired(call.name, a, b)
    if pair is None:
        return _cut(call.run())
    run.changed[call.name] += 1
    a0, b0 = pair
    share = _share(run, a, a0, b, b0)
    first = _factors(call, a, share * b.detach() + (1 - share) * b0, 0)
    second = _factors(call, (1 - share) * a.detach() + share * a0, b, 1)
    split = first + second
    return split + (call.run() - split).detach()


def _share(run: Pass, a: Tensor, a0: Tensor, b: Tensor, b0: Tensor) -> Any:
    """Return s in Δ(ab) = Δa (s b + (1 - s) b₀) + Δb ((1 - s) a + s a₀), which holds for any: 1/2.

    A norm divides by almost nothing where the baseline is flat, and two huge terms would cancel; the smaller of its
    two factors then counts, by s = b₀ / (b + b₀), or a / (a + a₀).
    """
    if run.marked("divisor", b) is not None:
        return torch.where(b * b0 > 0, b0 / torch.where(b * b0 > 0, b + b0, 1.0), 0.5).detach()
    if run.marked("divisor", a) is not None:
        return torch.where(a * a0 > 0, a / torch.where(a * a0 > 0, a + a0, 1.0), 0.5).detach()
    return 0.5


def _factors(call: Call, a: Tensor, b: Tensor, varied: int) -> Any:
    """Run a product with two tensors in the places of its varying ones, which may be the same tensor."""
    queue = iter((a, b))
    args = [next(queue) if isinstance(v, Tensor) and v.requires_grad else v for v in call.args]
    return call.func(*args, **call.kwargs)


def _quotient(run: Pass, call: Call) -> Any:
    divisor = call.get(1, "other")
    if not isinstance(divisor, Tensor) or not divisor.requires_grad:
        return call.run()
    with run:
        return call.args[0] * divisor.reciprocal()


def _pool(function: Callable[..., Any]) -> Op:
    """Return the rule for a max pooling, which ``function`` computes with its indices."""

    def op(run: Pass, call: Call) -> Any:
        z, rest = call.args[0], call.args[1:]
        named = {k: v for k, v in call.kwargs.items() if k not in ("return_indices", "input")}
        y, index = function(z.detach(), *rest, **named)
        dims = y.ndim - z.ndim + _pooled_dims(call.name)
        flat = _choose(run, call, z.flatten(-dims), y.flatten(-dims), index.flatten(-dims), function, (rest, named, z))
        return flat.reshape(y.shape)

    return op


def _pooled_dims(name: str) -> int:
    return int(name.partition("max_pool")[2][0])


def _choose(
    run: Pass, call: Call, z: Tensor, y: Tensor, index: Tensor, function: Callable[..., Any], how: Any
) -> Tensor:
    pair = run.paired(call.name, z, y)
    if pair is None:
        return _cut(y)
    run.changed[call.name] += 1
    rest, named, shaped = how
    z0, y0 = pair
    index0 = function(z0.reshape(shaped.shape), *rest, **named)[1].reshape(y.shape)
    return _routed(z, z0, y, y0, index, index0)


def _routed(z: Tensor, z0: Tensor, y: Tensor, y0: Tensor, index: Tensor, index0: Tensor) -> Tensor:
    """Give an increase to the image's largest element and a decrease to the baseline's: 0 <= Δy/Δz <= 1 there."""
    chosen = torch.where(y >= y0, index, index0)
    change = (z.detach() - z0).gather(-1, chosen)
    m = torch.where(change == 0, 1.0, (y - y0) / torch.where(change == 0, 1.0, change))
    return _apply_chosen(z, y, chosen, m.clamp(0, 1))


def _maximum_over(run: Pass, call: Call) -> Any:
    """Treat ``max`` and ``amax`` over dimensions as a pooling of each group."""
    z, dim = call.args[0], call.get(1, "dim")
    if isinstance(dim, Tensor):
        with run:
            return torch.stack((z, dim), -1).amax(-1)
    dims = tuple(range(z.ndim)) if dim is None or dim == () else (dim,) if isinstance(dim, int) else tuple(dim)
    rows = z.movedim(dims, tuple(range(-len(dims), 0))).flatten(-len(dims))
    y, index = rows.detach().max(-1, keepdim=True)
    pair = run.paired(call.name, rows, y)
    if pair is None:
        return call.run() if call.name == "max" and dim is not None else _cut(call.run())
    run.changed[call.name] += 1
    found = _routed(rows, pair[0], y, pair[1], index, pair[0].max(-1, keepdim=True)[1]).squeeze(-1)
    if call.get(2, "keepdim", False):
        for d in sorted(d % z.ndim for d in dims):
            found = found.unsqueeze(d)
    return torch.return_types.max((found, index.squeeze(-1))) if call.name == "max" and dim is not None else found


def _norm(x: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, ord: Any = None, **_: Any) -> Tensor:  # noqa: A002
    """Compute a norm of a finite order from its parts."""
    order = p if ord is None else ord
    dims = tuple(range(x.ndim)) if dim is None else dim
    if order in (2, "fro", None):
        return (x * x).sum(dims, keepdim).sqrt()
    return x.abs().pow(order).sum(dims, keepdim).pow(1 / order)


def _softmax(run: Pass, call: Call) -> Any:
    z, dim = call.args[0] if call.args else call.kwargs["input"], call.get(1, "dim")
    pair = run.paired(call.name, z)
    if pair is None:
        return _cut(call.run())
    run.changed[call.name] += 1
    return _apply_softmax(z, call.run, pair[0], dim, call.name == "log_softmax")


_ELEMENTWISE = (
    "relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "threshold", "leaky_relu", "prelu", "elu",
    "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign", "tanh", "sigmoid", "hardsigmoid", "hardswish",
    "logsigmoid", "log_sigmoid", "exp", "exp2", "log", "log2", "log10", "log1p", "expm1", "sqrt", "rsqrt", "square",
    "pow", "rpow", "reciprocal", "abs", "erf", "sin", "cos", "tan", "sinh", "cosh", "atan", "hardshrink",
    "softshrink", "tanhshrink", "rdiv",
)  # fmt: skip

_TABLE: Mapping[str, Op] = {
    **dict.fromkeys(_ELEMENTWISE, _one_variable),
    **dict.fromkeys(("mul", "matmul", "bmm", "mm"), _product),
    "div": _quotient,
    **dict.fromkeys(("rsqrt", "reciprocal"), _divisor),
    **dict.fromkeys(("norm", "linalg_vector_norm", "linalg_norm"), written_out(_norm)),
    **{
        f"{kind}max_pool{n}d": _pool(getattr(F, f"{kind}max_pool{n}d_with_indices"))
        for n in (1, 2, 3)
        for kind in ("", "adaptive_")
    },
    **dict.fromkeys(("amax", "max", "maximum"), _maximum_over),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **COMPOSITES,
}

DEEP_LIFT = ForwardRule("deep_lift", _TABLE, LINEAR, paired=True)
