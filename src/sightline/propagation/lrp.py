"""Layer-wise relevance propagation as modified gradients: which rule each operation gets.

Linear layers follow `sightline.propagation.linear`, with batch norm and other scalings of channels folded into them.
An operation of one variable passes all relevance on, m = y / z. A product shares it evenly, and a gate (sigmoid)
gets none (Arras et al. 2017, arXiv:1706.07206). A norm's deviation is a constant; softmax keeps its gradient, so that
attention's queries, keys and values get 1/4, 1/4 and 1/2 (Achtibat et al. 2024, arXiv:2402.05602, eq. 12-15).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.propagation.composites import COMPOSITES
from sightline.propagation.linear import Composite, Linear, Made, apply_linear, away_from_zero, stabilised
from sightline.propagation.mode import Call, ForwardRule, Op, Pass
from sightline.propagation.nodes import LINEAR, ROUTING
from sightline.propagation.rescale import scaled

__all__ = ["batch_statistics", "lrp_rule"]

_EPSILON = 1e-9
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)


# --- linear layers ---


def _convolution(channel: int) -> Op:
    def op(run: Pass, call: Call) -> Any:
        x, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
        rest, named = call.args[3:], {k: v for k, v in call.kwargs.items() if k not in ("input", "weight", "bias")}
        # The groups of a transposed convolution share rows of its weight, so that channels cannot be scaled alone.
        fold = channel if channel == 0 or call.get(6, "groups", 1) == 1 else None

        def apply(x: Tensor, w: Tensor, b: Tensor | None) -> Any:
            return call.func(x, w, b, *rest, **named)

        return _linear(run, call, x, "conv", apply, weight, bias, fold)

    return op


def _dense(run: Pass, call: Call) -> Any:
    x, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
    return _linear(run, call, x, "dense", F.linear, weight, bias, 0)


def _matmul(run: Pass, call: Call) -> Any:
    """A product with a constant is a dense layer, as Keras writes one; with another tensor it is attention's."""
    a, b = call.args[:2]
    if a.requires_grad and b.requires_grad:
        run.changed["attention"] += 1
        return _half(run, call)
    if a.requires_grad:
        return _linear(run, call, a, "dense", _times, b, None, b.ndim - 1 if b.ndim == 2 else None)
    return _linear(run, call, b, "dense", lambda x, w, bias: _times(w, x, bias), a, None, None)


def _times(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return x @ w if b is None else x @ w + b


def _addmm(run: Pass, call: Call) -> Any:
    bias, a, b = call.args[:3]
    if len(call.varying) > 1 or not a.requires_grad or call.kwargs:
        return call.run()
    return _linear(run, call, a, "dense", _times, b, bias, 1)


def _linear(
    run: Pass, call: Call, x: Tensor, kind: Any, apply: Any, weight: Tensor, bias: Tensor | None, channel: int | None
) -> Any:
    if not x.requires_grad or len(call.varying) > 1:
        return call.run()  # a weight that the input makes; its node is counted as unseen
    composite: Composite = run.rule.settings
    run.changed[call.name] += 1
    run.linear_layers += 1
    is_first = composite.first is not None and run.marked("raw", x) is not None
    rule = composite.first if is_first and composite.first is not None else getattr(composite, kind)
    layer = Linear(kind, apply, weight.detach(), _detached(bias), channel, rule, run.linear_layers)
    return apply_linear(run, call.run, Made(layer, x, tuple(range(max(x.ndim, weight.ndim)))))


def _detached(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.detach()


# --- batch norm and other scalings, folded into the linear layer before them ---


def _batch_norm(run: Pass, call: Call) -> Any:
    x, mean, var, weight, bias, training, eps = batch_statistics(call)
    if training or mean is None or var is None:
        return call.run()  # of the batch's own statistics; its node is counted as unseen
    factor = (var + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * factor
    made: Made | None = run.marked("made", x)
    if made is None or made.layer.channel is None or made.order.index(_channel_of_output(made)) != 1:
        return _passed(run, call)
    run.changed[call.name] += 1
    return apply_linear(run, call.run, replace(made, layer=made.layer.scaled(factor.detach(), shift.detach())))


def batch_statistics(call: Call) -> tuple[Any, ...]:
    """Return input, mean, variance, weight, bias, training, epsilon of either of torch's two signatures."""
    if call.func is F.batch_norm:
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        x, mean, var, weight, bias, training, _, eps = (call.get(i, n) for i, n in enumerate(names))
        return x, mean, var, weight, bias, bool(training), 1e-5 if eps is None else eps
    x, weight, bias, mean, var, training, _, eps = call.args[:8]
    return x, mean, var, weight, bias, training, eps


def _scaling(run: Pass, call: Call) -> Any:
    """Fold a sum or product with constants, of which there is one for each channel, into the layer before it."""
    (x,) = call.varying
    made: Made | None = run.marked("made", x)
    folded = None if made is None else _folded(made, call, x)
    if folded is not None:
        return apply_linear(run, call.run, folded)
    if run.marked("raw", x) is None or run.rule.settings.first is None:
        return call.run()
    y = scaled(x, call.run, lambda y: away_from_zero(y) / away_from_zero(x.detach()))
    if y.shape == x.shape:
        run.mark("raw", y, True)
    return y


def _folded(made: Made, call: Call, x: Tensor) -> Made | None:
    if made.layer.channel is None:
        return None
    channel = made.order.index(_channel_of_output(made))
    shape = [1] * x.ndim
    shape[channel] = x.shape[channel]
    zeros = torch.zeros(shape, dtype=torch.float64 if x.device.type != "mps" else torch.float32, device=x.device)
    with torch.no_grad():
        shift, sum_ = call.swapped(x, zeros).run(), call.swapped(x, zeros + 1).run()
    if shift.shape != zeros.shape:
        return None
    return replace(made, layer=made.layer.scaled((sum_ - shift).flatten(), shift.flatten()))


def _channel_of_output(made: Made) -> int:
    return 1 if made.layer.kind == "conv" else len(made.order) - 1


def _binary(run: Pass, call: Call) -> Any:
    return _scaling(run, call) if len(call.varying) == 1 else call.run()


# --- layouts: what is known of a tensor holds after it is moved about ---


def _carry(run: Pass, call: Call) -> Any:
    result = call.run()
    x = call.args[0] if call.args and isinstance(call.args[0], Tensor) else call.varying[0]
    for kind in ("raw", "gate"):
        if run.marked(kind, x) is not None:
            for part in (result,) if isinstance(result, Tensor) else result:
                run.mark(kind, part, True)
    made: Made | None = run.marked("made", x)
    if made is not None and isinstance(result, Tensor) and result is not x:
        _carry_made(run, call, x, result, made)
    return result


def _carry_made(run: Pass, call: Call, x: Tensor, result: Tensor, made: Made) -> None:
    """Keep how a tensor was made where its dimensions are only permuted: a probe with prime sizes tells how."""
    if result.ndim != x.ndim or result.numel() != x.numel() or call.name not in _PERMUTING:
        return
    with torch.no_grad():
        probe = call.swapped(x, torch.empty(_PRIMES[: x.ndim], device=x.device, dtype=x.dtype)).run()
    order = tuple(made.order[_PRIMES.index(size)] for size in probe.shape)
    run.mark("made", result, replace(made, order=order))


# --- products, gates, norms and activations ---


def _half(run: Pass, call: Call) -> Any:
    """Share relevance evenly between two factors: each gets half of its gradient."""
    run.changed[call.name] += 1
    y = call.run()
    return y * 0.5 + y.detach() * 0.5


def _mul(run: Pass, call: Call) -> Any:
    if len(call.varying) != 2:
        return _binary(run, call)
    gates = [v for v in call.varying if run.marked("gate", v) is not None]
    if len(gates) == 1:
        run.changed["gate"] += 1
        return call.swapped(gates[0], gates[0].detach()).run()
    return _half(run, call)


def _div(run: Pass, call: Call) -> Any:
    divisor = call.get(1, "other")
    if isinstance(divisor, Tensor) and divisor.requires_grad:
        call = call.swapped(divisor, divisor.detach())  # what divides, normalises
        return call.run() if not call.varying else _binary(run, call)
    return _binary(run, call)


def _einsum(run: Pass, call: Call) -> Any:
    if len(call.varying) != 2:
        return call.run()
    run.changed["attention"] += 1
    return _half(run, call)


def _passed(run: Pass, call: Call) -> Any:
    """Pass all relevance on through an operation of one variable: m = y / z."""
    if len(call.varying) != 1:
        return call.run()
    (z,) = call.varying
    run.changed[call.name] += 1
    return scaled(z, call.run, lambda y: y / stabilised(z.detach(), _EPSILON))


def _gate(run: Pass, call: Call) -> Any:
    result = _passed(run, call)
    run.mark("gate", result, True)
    return result


def _constant(run: Pass, call: Call) -> Any:
    """Let no relevance through what only normalises."""
    result = call.run()
    return result.detach() if isinstance(result, Tensor) else tuple(r.detach() for r in result)


_PASSING = (
    "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "elu", "selu", "celu", "gelu", "silu", "mish",
    "softplus", "softsign", "tanh", "hardswish", "logsigmoid", "log_sigmoid", "hardshrink", "softshrink",
    "tanhshrink", "square", "abs", "erf", "sinh", "atan", "rdiv",
)  # fmt: skip
_PERMUTING = (
    "permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "contiguous", "clone", "to", "dropout",
)  # fmt: skip
_MOVING = (
    *_PERMUTING,
    "reshape", "view", "view_as", "flatten", "unflatten", "unsqueeze", "squeeze", "expand", "expand_as", "getitem",
    "chunk", "split", "pad", "type_as", "float", "double", "repeat", "dropout2d", "interpolate",
)  # fmt: skip

_TABLE: dict[str, Op] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution(0)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution(1)),
    "linear": _dense,
    "matmul": _matmul,
    "mm": _matmul,
    "addmm": _addmm,
    "bmm": _matmul,
    "einsum": _einsum,
    "batch_norm": _batch_norm,
    "add": _binary,
    "sub": _binary,
    "rsub": _binary,
    "mul": _mul,
    "div": _div,
    **dict.fromkeys(("sigmoid", "hardsigmoid"), _gate),
    **dict.fromkeys(("rsqrt", "sqrt", "norm", "vector_norm", "linalg_vector_norm", "std"), _constant),
    **dict.fromkeys(_PASSING, _passed),
    **dict.fromkeys(_MOVING, _carry),
    **COMPOSITES,
}


def lrp_rule(name: str, composite: Composite) -> ForwardRule:
    """Return LRP with these rules for linear layers as a forward rule."""
    return ForwardRule(name, _TABLE, (LINEAR | ROUTING | {"Product"}) - {"Convolution", "Addmm"}, settings=composite)
