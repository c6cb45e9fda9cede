"""Sweeps of scores in bfloat16, where the first points of each show that this changes nothing that matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from sightline.forward import Precision

if TYPE_CHECKING:
    from sightline.recording import Recording

__all__ = ["LEAST", "PROBES", "Agreement", "has_fast_bfloat16", "swept"]

PROBES = 16
LEAST = 0.999
_CPU = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")

Sweep: TypeAlias = "Callable[[Recording, Iterable[Tensor]], Iterator[Tensor]]"


@dataclass(frozen=True)
class Agreement:
    """How well bfloat16's scores go with the model's own over the probes, and whether it was then used."""

    correlation: float
    used: bool

    def __str__(self) -> str:
        found = f"correlation {self.correlation:.4f} with the model's own precision over {PROBES} points"
        used = "the sweep ran in bfloat16, channels last"
        return f"{used}: {found}" if self.used else f"bfloat16 was tried and not used: {found}, wanted {LEAST}"


def has_fast_bfloat16(device: torch.device) -> bool:
    """Say whether the device computes in bfloat16 itself; others imitate it slowly.

    >>> has_fast_bfloat16(torch.device("meta"))
    False
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and any(torch.cpu.get_capabilities().get(name) for name in _CPU)


def swept(rec: Recording, points: Iterable[Tensor], scores: Sweep) -> Iterator[Tensor]:
    """Yield ``scores(rec, points)`` (N,) in the recording's precision; "auto" tries bfloat16 on the first points.

    What the first sweep of a recording's target finds holds for its others.
    """
    if rec.shared.options.precision != "auto":
        return scores(rec, points)
    if rec.x.dtype != torch.float32 or not has_fast_bfloat16(rec.x.device):
        return scores(_in_precision(rec, "model"), points)
    return _tried(rec, points, scores)


def _tried(rec: Recording, points: Iterable[Tensor], scores: Sweep) -> Iterator[Tensor]:
    exact, quick = (_in_precision(rec, p) for p in ("model", "bfloat16"))
    known: Agreement | None = rec.reports.get("agreement")
    if known is not None:  # what further sweeps of the same images and target ask is seldom another thing
        yield from scores(quick if known.used else exact, points)
        return
    source = iter(points)
    probes = list(islice(source, PROBES))
    wanted = list(scores(exact, probes))
    yield from wanted
    if len(probes) < PROBES:
        return
    found = _correlation(torch.stack(wanted), torch.stack(list(scores(quick, probes))))
    rec.reports["agreement"] = Agreement(found, found >= LEAST)
    yield from scores(quick if found >= LEAST else exact, source)


def _in_precision(rec: Recording, precision: Precision) -> Recording:
    return replace(rec, shared=replace(rec.shared, options=replace(rec.shared.options, precision=precision)))


def _correlation(wanted: Tensor, found: Tensor) -> float:
    """Return the worst image's correlation of (points, N) with (points, N): 1 where nothing varies in either."""
    a, b = (v.double() - v.double().mean(0) for v in (wanted, found))
    size = a.norm(dim=0) * b.norm(dim=0)
    same = (a.norm(dim=0) == 0) & (b.norm(dim=0) == 0)
    return float(torch.where(same, 1.0, (a * b).sum(0) / size.clamp(min=1e-300)).min())
