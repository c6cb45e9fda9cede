"""The rules of LRP by name, and the composites that combine them.

epsilon: z = x w (Bach et al. 2015, eq. 58). gamma: z = x (w + g w⁺) (Montavon et al. 2019,
doi:10.1007/978-3-030-28954-6_10; for inputs of both signs Andéol et al. 2021, arXiv:2106.04923). z⁺: z = (x w)⁺
(Montavon et al. 2017, sec. 4.2). alpha-beta: a (x w)⁺ / Σ (x w)⁺ - b (x w)⁻ / Σ (x w)⁻ (Bach et al. 2015, eq. 60).
For the first layer, flat: z = 1 (Lapuschkin et al. 2017), w²: z = w² and z-box: z = x w - l w⁺ - h w⁻ (Montavon et al.
2017, sec. 4.1-4.2).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Literal, TypeAlias

from torch import Tensor

from sightline.propagation.linear import Composite, First, Group, LinearRule
from sightline.propagation.lrp import lrp_rule
from sightline.propagation.mode import ForwardRule

__all__ = ["Box", "CompositeName", "attention_rule", "composite_rule", "deep_taylor_rule", "excitation_rule"]

CompositeName: TypeAlias = Literal[
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_gamma_box",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon",
    "gamma",
    "z_plus",
]
Box: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
_STABLE = 1e-6


def _plus(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.clamp(min=0)


def _minus(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.clamp(max=0)


def epsilon_rule(epsilon: float) -> LinearRule:
    """R_i = Σ_k x_i w_ik R_k / (y_k + epsilon)."""
    return LinearRule(lambda w, b: (Group(w, w, b),), epsilon)


def z_plus(bias: bool = True) -> LinearRule:
    """R_i = Σ_k (x_i w_ik)⁺ R_k / Σ_i (x_i w_ik)⁺; with ``bias`` its positive part takes its share."""
    return LinearRule(lambda w, b: (Group(w.clamp(min=0), w.clamp(max=0), _plus(b) if bias else None),), _STABLE)


def alpha_beta(alpha: float, beta: float) -> LinearRule:
    """R_i = Σ_k (alpha (x w)⁺ / Σ (x w)⁺ - beta (x w)⁻ / Σ (x w)⁻) R_k."""

    def groups(w: Tensor, b: Tensor | None) -> tuple[Group, ...]:
        plus, minus = w.clamp(min=0), w.clamp(max=0)
        return Group(plus, minus, _plus(b), alpha), Group(minus, plus, _minus(b), -beta)

    return LinearRule(groups, _STABLE)


def gamma_rule(gamma: float) -> LinearRule:
    """Favour what speaks for each output: (x w) + gamma (x w)⁺ where it is positive, + gamma (x w)⁻ where not."""

    def groups(w: Tensor, b: Tensor | None) -> tuple[Group, ...]:
        up, down = w + gamma * w.clamp(min=0), w + gamma * w.clamp(max=0)
        b_up = None if b is None else b + gamma * b.clamp(min=0)
        b_down = None if b is None else b + gamma * b.clamp(max=0)
        return Group(up, down, b_up, 1.0, "positive"), Group(down, up, b_down, 1.0, "negative")

    return LinearRule(groups, _STABLE)


def _first(first: First | None) -> LinearRule | None:
    return None if first is None else LinearRule(lambda w, b: (), _STABLE, first)


@cache
def composite_rule(name: CompositeName, epsilon: float, gamma: float, box: Box | None = None) -> ForwardRule:
    """Return a composite by name: a rule for convolutions, one for dense layers, one for the first layer."""
    dense = epsilon_rule(epsilon)
    conv = {
        "epsilon": dense,
        "gamma": gamma_rule(gamma),
        "z_plus": z_plus(),
        "epsilon_plus": z_plus(),
        "epsilon_gamma": gamma_rule(gamma),
        "epsilon_alpha2_beta1": alpha_beta(2.0, 1.0),
    }[name.removesuffix("_flat").removesuffix("_box")]
    dense = conv if name in ("gamma", "z_plus") else dense
    first: First | None = "flat" if name.endswith("_flat") else "z_box" if name.endswith("_box") else None
    return lrp_rule("lrp", Composite(conv, dense, _first(first), box=box))


@cache
def excitation_rule(dual: bool) -> ForwardRule:
    """Return excitation backprop, z⁺ without biases; its ``dual`` starts from the last layer's negated weights."""
    plus = z_plus(bias=False)
    negated = LinearRule(lambda w, b: (Group((-w).clamp(min=0), (-w).clamp(max=0), None),), _STABLE)
    rule = lrp_rule("excitation_backprop", Composite(plus, plus, last=negated if dual else None))
    return replace(rule, lacks="attention")


@cache
def deep_taylor_rule(first: First, box: Box | None) -> ForwardRule:
    """Return deep Taylor decomposition: z⁺ without biases, and at the first layer the rule of its domain."""
    plus = z_plus(bias=False)
    return replace(lrp_rule("deep_taylor", Composite(plus, plus, _first(first), box=box)), lacks="attention")


@cache
def attention_rule(gamma: float, epsilon: float) -> ForwardRule:
    """Return AttnLRP for vision transformers: gamma in convolutions and dense layers, attention as in `lrp`."""
    dense = gamma_rule(gamma) if gamma else epsilon_rule(epsilon)
    return replace(lrp_rule("attn_lrp", Composite(dense, dense)), needs="attention")
