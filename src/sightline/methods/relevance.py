"""Methods that pass relevance back through the net by rules of their own: (N, C, *S), signed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from torch import Tensor

from sightline.errors import ParameterError
from sightline.methods.gradient import Count, Level, of_rows
from sightline.methods.registry import Range, method
from sightline.points import Baseline, baseline_of, uniform_images
from sightline.propagation import ForwardRule
from sightline.propagation.linear import away_from_zero
from sightline.propagation.presets import (
    Box,
    CompositeName,
    attention_rule,
    composite_rule,
    deep_taylor_rule,
    excitation_rule,
)
from sightline.propagation.rescale import DEEP_LIFT
from sightline.recording import Recording

Stabiliser = Annotated[float, Range(1e-12, 1.0)]


@method(family="relevance", cite="Shrikumar et al. 2017, arXiv:1704.02685, sec. 3.5 (rescale)", reads="input")
def deep_lift(rec: Recording, baseline: Baseline = "zero") -> Tensor:
    """The difference to a baseline times the multipliers Δy / Δx of every operation; it adds up to f(x) - f(b)."""
    start = baseline_of(of_rows(baseline, rec), rec.x, rec.model.preprocessing, rec.seed)
    attribution, change = _compared(rec, start)
    rec.promise(attribution, change)
    return attribution


def _compared(rec: Recording, start: Tensor) -> tuple[Tensor, Tensor]:
    found = rec.propagate(DEEP_LIFT, start)
    assert found.at_baseline is not None  # noqa: S101 - for the type checker: a baseline was given
    return (rec.x - start) * found.multiplier, found.scores - found.at_baseline


@method(family="relevance", cite="Lundberg & Lee 2017, arXiv:1705.07874, sec. 4.2 (Deep SHAP)", reads="input")
def deep_lift_shap(rec: Recording, baselines: Literal["uniform"] | Tensor = "uniform", samples: Count = 10) -> Tensor:
    """DeepLIFT averaged over baselines: E_b[(x - b) · m(x, b)]; it adds up to f(x) - E[f(b)].

    ``baselines`` are preprocessed images (M, C, *S), of which ``samples`` are drawn, or random pixels.
    """
    total = square = torch.zeros_like(rec.x)
    change = torch.zeros_like(rec.scores)
    count = 0
    for start in _drawn(rec, baselines, samples):
        found, gap = _compared(rec, start)
        total, square, change, count = total + found, square + found**2, change + gap, count + 1
    mean = total / count
    rec.sampled(((square / count - mean**2).clamp(min=0) / max(1, count - 1)).sqrt())
    rec.promise(mean, change / count)
    return mean


def _drawn(rec: Recording, baselines: Literal["uniform"] | Tensor, samples: int) -> Iterator[Tensor]:
    if isinstance(baselines, str):
        yield from uniform_images(rec.x, samples, rec.model.preprocessing, rec.seed)
        return
    given = torch.as_tensor(baselines).to(rec.x)
    if given.ndim != rec.x.ndim or given.shape[1:] != rec.x.shape[1:] or not len(given):
        raise ParameterError(
            f"deep_lift_shap.baselines has shape {tuple(given.shape)}; wanted (M, "
            f"{', '.join(map(str, rec.x.shape[1:]))}), preprocessed."
        )
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(rec.seed))
    yield from (given[index].expand_as(rec.x) for index in order[:samples].tolist())


def _relevance(rec: Recording, rule: ForwardRule) -> Tensor:
    """Return x · modified gradient, and report it against the score, of which biases take their share."""
    attribution = away_from_zero(rec.x) * rec.propagate(rule).multiplier
    rec.promise(attribution, rec.scores)
    return attribution


def _box(rec: Recording) -> Box | None:
    """Return what a black and a white pixel are to the model, channel by channel, where that is known."""
    how = rec.model.preprocessing
    if how.channels != rec.x.shape[1]:
        return None
    low = tuple(-m / s for m, s in zip(how.mean, how.std, strict=True))
    high = tuple((255.0 / how.scale - m) / s for m, s in zip(how.mean, how.std, strict=True))
    return low, high


@method(
    family="relevance",
    cite="Bach et al. 2015, doi:10.1371/journal.pone.0130140; Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10",
    reads="input",
)
def lrp(
    rec: Recording, composite: CompositeName = "epsilon_plus", epsilon: Stabiliser = 1e-6, gamma: Level = 0.25
) -> Tensor:
    """Relevance shared out layer by layer: R_i = sum_k z_ik R_k / sum_i z_ik, by the composite's rules for z.

    What it promises is the score, less what biases absorb: exactly the score where there are none.
    """
    box = _box(rec) if composite.endswith("_box") else None
    return _relevance(rec, composite_rule(composite, epsilon, gamma, box))


@method(family="relevance", cite="Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008, sec. 4", reads="input")
def deep_taylor(rec: Recording, first: Literal["z_box", "w_square", "flat"] = "z_box") -> Tensor:
    """Deep Taylor decomposition: positive contributions only, and at the pixels the rule of their domain.

    Biases take nothing. ``first`` is "z_box" for pixels between black and white, "w_square" for unbounded inputs.
    """
    return _relevance(rec, deep_taylor_rule(first, _box(rec) if first == "z_box" else None))


@method(family="relevance", cite="Achtibat et al. 2024, arXiv:2402.05602, sec. 3", reads="input")
def attn_lrp(rec: Recording, gamma: Level = 0.05, epsilon: Stabiliser = 1e-6) -> Tensor:
    """LRP for transformers: softmax by its Taylor expansion, products shared evenly, norms passing all on.

    ``gamma`` favours positive contributions in linear layers; 0 is the epsilon rule.
    """
    return _relevance(rec, attention_rule(gamma, epsilon))


def _winning(rec: Recording, dual: bool) -> Tensor:
    score = rec.scores.reshape(-1, *[1] * (rec.x.ndim - 1))
    floor = torch.finfo(score.dtype).tiny ** 0.5
    return rec.x * rec.propagate(excitation_rule(dual)).multiplier / torch.where(score.abs() < floor, floor, score)


@method(family="relevance", cite="Zhang et al. 2016, arXiv:1608.00507, eq. 1-4", reads="input")
def excitation_backprop(rec: Recording) -> Tensor:
    """The probability that a winner-take-all walk from the class down positive weights ends at each input."""
    attribution = _winning(rec, dual=False)
    rec.promise(attribution, torch.ones_like(rec.scores))
    return attribution


@method(family="relevance", cite="Zhang et al. 2016, arXiv:1608.00507, sec. 3.4", reads="input")
def contrastive_excitation_backprop(rec: Recording) -> Tensor:
    """Excitation backprop from the class, less that from its dual, whose weights in the last layer are negated."""
    return _winning(rec, dual=False) - _winning(rec, dual=True)
