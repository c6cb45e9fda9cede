"""Composite operations written out, so that each part of them meets its own rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import RefusedError
from sightline.propagation.mode import Call, Op, Pass

__all__ = ["COMPOSITES", "written_out"]


def written_out(function: Callable[..., Any]) -> Op:
    """Return an operation that computes a composite by ``function``, whose parts the mode sees."""

    def op(run: Pass, call: Call) -> Any:
        run.changed[call.name] += 1
        with run:
            return function(*call.args, **call.kwargs)

    return op


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute softmax(q kᵀ / sqrt(d)) v; dropout is off, as everything is in evaluation mode."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    weights = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        above = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).triu(1)
        weights = weights.masked_fill(above, -math.inf)
    return _masked(weights, attn_mask).softmax(-1) @ value


def _masked(weights: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return weights
    return weights.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else weights + mask


def _multi_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Compute what ``F.multi_head_attention_forward`` does, (L, N, E) in and out, from its parts."""
    if any(v is not None for v in (bias_k, bias_v, static_k, static_v)) or add_zero_attn or query.ndim != 3:
        raise RefusedError(
            "the model's attention has added or static keys, or takes no batch, which the rules for attention do not "
            "cover; use integrated_gradients or attention rollout."
        )
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    weights = separate if in_proj_weight is None or use_separate_proj_weight else in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(t, w, b).unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3)  # type: ignore[arg-type]
        for t, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    scores = _masked(q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1])), _per_head(attn_mask, num_heads))
    if key_padding_mask is not None:
        scores = _masked(scores, _padding(key_padding_mask))
    probabilities = scores.softmax(-1)
    joined = (probabilities @ v).permute(2, 0, 1, 3).flatten(2)
    shown = probabilities.mean(1) if average_attn_weights else probabilities
    return F.linear(joined, out_proj_weight, out_proj_bias), shown if need_weights else None


def _per_head(mask: Tensor | None, heads: int) -> Tensor | None:
    """Return what is to be added: multi-head attention's masks say True where nothing may be looked at."""
    if mask is None:
        return None
    mask = ~mask if mask.dtype == torch.bool else mask
    return mask.unflatten(0, (-1, heads)) if mask.ndim == 3 else mask


def _padding(mask: Tensor) -> Tensor:
    mask = ~mask if mask.dtype == torch.bool else mask
    return mask[:, None, None, :]


def _normalised(x: Tensor, dims: tuple[int, ...], eps: float, centre: bool = True) -> Tensor:
    centred = x - x.mean(dims, keepdim=True) if centre else x
    return centred * ((centred * centred).mean(dims, keepdim=True) + eps).rsqrt()


def _layer_norm(
    x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    normal = _normalised(x, tuple(range(-len(shape), 0)), eps)
    normal = normal if weight is None else normal * weight
    return normal if bias is None else normal + bias


def _rms_norm(x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    least = torch.finfo(x.dtype).eps if eps is None else eps
    normal = _normalised(x, tuple(range(-len(shape), 0)), least, centre=False)
    return normal if weight is None else normal * weight


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    parted = x.unflatten(1, (groups, -1))
    normal = _normalised(parted, tuple(range(2, parted.ndim)), eps).flatten(1, 2)
    shape = (1, -1, *[1] * (x.ndim - 2))
    normal = normal if weight is None else normal * weight.reshape(shape)
    return normal if bias is None else normal + bias.reshape(shape)


def _normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Tensor:
    return x / ((x * x).sum(dim, keepdim=True).sqrt().clamp_min(eps) if p == 2 else x.norm(p, dim, keepdim=True))


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    a, b = x.chunk(2, dim)
    return a * b.sigmoid()


def _addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1.0) -> Tensor:
    return x + (a * b if value == 1 else value * a * b)


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    lengths = (x1 * x1).sum(dim).sqrt() * (x2 * x2).sum(dim).sqrt()
    return (x1 * x2).sum(dim) / lengths.clamp_min(eps)


COMPOSITES: Mapping[str, Op] = {
    "scaled_dot_product_attention": written_out(_attention),
    "multi_head_attention_forward": written_out(_multi_head),
    "layer_norm": written_out(_layer_norm),
    "rms_norm": written_out(_rms_norm),
    "group_norm": written_out(_group_norm),
    "normalize": written_out(_normalize),
    "glu": written_out(_glu),
    "cosine_similarity": written_out(_cosine_similarity),
    "addcmul": written_out(_addcmul),
}
