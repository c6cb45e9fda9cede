"""What every operation adds by itself, whatever it is given: biases, and the intercepts of activations.

At an input, an operation is y = J z + b. A linear layer's b is its bias, a batch norm's what its statistics and its
bias make (Srinivas & Fleuret 2019, arXiv:1905.00780, sec. 3); of an activation that is no ReLU it is where the tangent
meets zero, y - y' z. With all of them f(x) = x · df/dx + Σ b · df/dy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sightline.propagation.lrp import batch_statistics
from sightline.propagation.mode import Call, ForwardRule, Intercept, Op, Pass
from sightline.propagation.nodes import LINEAR, ROUTING
from sightline.propagation.rescale import derivative

__all__ = ["FULL_GRADIENT"]


def _keep(run: Pass, y: Tensor, constant: Tensor, *, is_bias: bool = True, last: bool = False) -> Tensor:
    run.changed["bias" if is_bias else "intercept"] += 1
    run.keep(y, Intercept(constant.detach(), is_bias, last))
    return y


def _is_plain(constant: Any, y: Tensor) -> bool:
    return isinstance(constant, Tensor) and not constant.requires_grad and y.requires_grad


def _biased(place: int, *, last: bool) -> Op:
    """A layer with a bias at ``place`` among its arguments, along the last dimension or along the channels."""

    def op(run: Pass, call: Call) -> Any:
        bias, y = call.get(place, "bias"), call.run()
        if not _is_plain(bias, y):
            return y
        return _keep(run, y, bias if last else _over_channels(bias, y), last=last)

    return op


def _over_channels(values: Tensor, y: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (y.ndim - 2))


def _batch_norm(run: Pass, call: Call) -> Any:
    _, mean, var, weight, bias, training, eps = batch_statistics(call)
    y = call.run()
    if training or mean is None or var is None or not y.requires_grad:
        return y  # of the batch's own statistics; its node is counted as unseen
    shift = -mean * (var + eps).rsqrt() * (1 if weight is None else weight) + (0 if bias is None else bias)
    return _keep(run, y, _over_channels(shift, y))


def _affine(run: Pass, call: Call) -> Any:
    """A sum, or tensors put side by side, of which some are constant: what it gives where the others are zero."""
    y = call.run()
    parts = [t for t in call.tensors if t.numel()]
    if not isinstance(y, Tensor) or not y.requires_grad or (call.name != "addmm" and _has_no_constant(call, parts)):
        return y
    with torch.no_grad():
        constant = _zeroed(call).run()
    if not bool(torch.isfinite(constant).all()) or not bool(constant.any()):
        return y
    return _keep(run, y, constant, last=_is_bias_of_last(constant))


def _is_bias_of_last(constant: Tensor) -> bool:
    """Say whether a sum's constant is one number for each place along the last dimension, as Keras adds a bias."""
    if constant.ndim < 4:
        return False
    by_last, by_second = (c.flatten(2) for c in (constant.movedim(-1, 1), constant))
    return bool((by_last == by_last[..., :1]).all()) and not bool((by_second == by_second[..., :1]).all())


def _has_no_constant(call: Call, parts: list[Tensor]) -> bool:
    return all(t.requires_grad for t in parts) and (len(parts) > 1 or call.name in ("cat", "stack"))


def _zeroed(call: Call) -> Call:
    def zero(value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.zeros_like(value) if value.requires_grad else value
        return [zero(v) for v in value] if isinstance(value, (list, tuple)) else value

    return replace(call, args=tuple(map(zero, call.args)), kwargs={k: zero(v) for k, v in call.kwargs.items()})


def _activation(run: Pass, call: Call) -> Any:
    if len(call.varying) != 1:
        return call.run()
    z = call.varying[0].clone()  # what was given may be overwritten, where the call was in place
    y = call.swapped(call.varying[0], z).run()
    if not y.requires_grad:
        return y
    z = z.detach()
    return _keep(run, y, y.detach() - derivative(call.at, z) * z, is_bias=False)


# ReLU, leaky ReLU, PReLU and abs are not among them: their tangents meet zero at zero.
_ACTIVATIONS = (
    "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "threshold", "elu", "selu", "celu", "gelu", "silu",
    "mish", "softplus", "softsign", "tanh", "sigmoid", "hardsigmoid", "hardswish", "logsigmoid", "log_sigmoid",
    "hardshrink", "softshrink", "tanhshrink",
)  # fmt: skip
_ACTIVATION_NODES = {
    "Abs", "Celu", "Clamp", "ClampMax", "ClampMin", "Elu", "Gelu", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh",
    "LogSigmoid", "Mish", "Sigmoid", "Silu", "Softplus", "Softshrink", "Tanh",
}  # fmt: skip

_TABLE: Mapping[str, Op] = {
    **{f"conv{kind}{n}d": _biased(2, last=False) for kind in ("", "_transpose") for n in (1, 2, 3)},
    "linear": _biased(2, last=True),
    "layer_norm": _biased(3, last=True),
    "group_norm": _biased(3, last=False),
    "instance_norm": _biased(4, last=False),
    "batch_norm": _batch_norm,
    **dict.fromkeys(("add", "sub", "rsub", "addmm", "cat", "concat", "concatenate", "stack"), _affine),
    **dict.fromkeys(_ACTIVATIONS, _activation),
}

FULL_GRADIENT = ForwardRule("full_grad", _TABLE, (LINEAR | ROUTING | _ACTIVATION_NODES) - {"Softmax", "LogSoftmax"})
