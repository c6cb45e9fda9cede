"""Masks that are optimised until they cover, or keep, what the score depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from sightline.errors import ParameterError
from sightline.methods.registry import Range, method
from sightline.optimize import ascended, coarse_grid, covers, ends_of, enlarged, max_convolved, scale_of, seen_through
from sightline.points import Baseline
from sightline.recording import Recording

__all__ = ["extremal_perturbation", "meaningful_perturbation"]

Count = Annotated[int, Range(1)]
_BLURS = 7
_TIE = 0.01
_SHAPING = 0.7  # of the steps; in the others the region settles at its area
Weight = Annotated[float, Range(0)]


@method(
    family="optimization",
    cite="Fong & Vedaldi 2017, arXiv:1704.03296, eq. 3-4 and 6",
    reads=("input", "scores"),
    at="scores",
    style="sequential",
)
def meaningful_perturbation(
    rec: Recording,
    game: Literal["delete", "preserve"] = "delete",
    steps: Count = 100,
    cells: Count = 14,
    rate: Weight = 0.1,
    sparsity: Weight = 1.0,
    smoothness: Weight = 20.0,
    power: Annotated[float, Range(1)] = 3.0,
    jitter: Weight = 0.02,
    fill: Baseline = "blur",
) -> Tensor:
    """The small, smooth region whose covering lowers the score: min_m f(x covered by m) + s |m|_1 + t sum |grad m|^p.

    Or, to "preserve", the small region that suffices. The score is in units of what covering all of the image changes,
    and gains nothing beyond that, as a probability would; ``sparsity`` and ``smoothness`` weigh means over the mask,
    which has ``cells`` along the longer side; ``jitter`` moves the image under it by a share of each side.
    """
    levels, sign = covers(rec, fill), -1.0 if game == "delete" else 1.0
    grid, size = coarse_grid(rec.x.shape[2:], cells), rec.x.shape[2:]
    moves = _moves(size, jitter, steps, rec.seed)

    def pose(mask: Tensor, step: int, _: Tensor) -> tuple[list[tuple[float, Tensor]], Tensor]:
        keep = enlarged(mask if game == "preserve" else 1 - mask, size)
        moved = torch.roll(levels, moves[step], tuple(range(3, levels.ndim)))
        penalty = sparsity * mask.flatten(1).mean(1).sum() + smoothness * _variation(mask, power)
        return [(sign, seen_through(moved, keep))], penalty

    whole, bare = ends_of(rec, levels)
    scale = scale_of(whole, bare)
    start, enough = (torch.zeros, whole - scale) if game == "delete" else (torch.ones, whole)
    mask = ascended(
        rec,
        start((len(rec.x), *grid), dtype=levels.dtype, device=levels.device),
        pose,
        scale=scale,
        steps=steps,
        rate=rate,
        enough=enough,
    )
    return enlarged(mask, size).to(rec.x)


def _moves(size: Sequence[int], jitter: float, steps: int, seed: int) -> list[list[int]]:
    """Draw how far the image is moved under its mask at each step."""
    generator = torch.Generator().manual_seed(seed)
    reach = torch.tensor([round(jitter * side) for side in size])
    drawn = torch.rand((steps, len(size)), generator=generator)
    moves: list[list[int]] = ((drawn * (2 * reach + 1)).floor().long() - reach).tolist()
    return moves


def _variation(mask: Tensor, power: float) -> Tensor:
    """Sum over images the mean over cells of |m(u) - m(v)|^power between neighbours."""
    axes = [axis for axis in range(1, mask.ndim) if mask.shape[axis] > 1]
    parts = [mask.diff(dim=axis).abs().pow(power).flatten(1).mean(1).sum() for axis in axes]
    return torch.stack(parts).sum() if parts else mask.new_zeros(())


@method(
    family="optimization",
    cite="Fong et al. 2019, arXiv:1910.08485, sec. 3",
    reads=("input", "scores"),
    at="scores",
    style="sequential",
)
def extremal_perturbation(
    rec: Recording,
    areas: Annotated[float | str, Range(0, 1)] = 0.1,
    variant: Literal["preserve", "delete", "dual"] = "preserve",
    steps: Count = 150,
    cells: Count = 32,
    sigma: Weight = 3.0,
    rate: Weight = 0.05,
    weight: Weight = 300.0,
    fill: Baseline = "blur",
) -> Tensor:
    """The region of a given area that raises the score most: max_m f(x kept in m) - w |vecsort(m) - r_area|^2.

    ``areas`` is a share of the image, or several with commas, whose regions are averaged. "delete" lowers the score
    by covering the region; "dual" does both. Regions are smooth over ``sigma`` of ``cells`` along the longer side. All
    of the image is half kept at first, and ``weight`` grows to its full size, so that the score shapes the region
    before its area is held.
    """
    shares, levels, size = _shares(areas), covers(rec, fill, blurs=_BLURS), rec.x.shape[2:]

    def masks(coarse: Tensor) -> Tensor:
        return enlarged(max_convolved(coarse, sigma), size)

    def pose(coarse: Tensor, step: int, favour: Tensor) -> tuple[list[tuple[float, Tensor]], Tensor]:
        keep = masks(coarse)
        held = min(1.0, step / (_SHAPING * steps)) ** 2
        wanted = [share for share in shares for _ in range(len(rec.x))]
        off = keep - _nearest(keep.detach(), wanted, enlarged(favour, size))
        penalty = weight * held * off.square().flatten(1).mean(1).sum()
        keeps = keep.unflatten(0, (len(shares), -1))
        kept = [(1.0, seen_through(levels, m)) for m in keeps if variant != "delete"]
        return kept + [(-1.0, seen_through(levels, 1 - m)) for m in keeps if variant != "preserve"], penalty

    start = levels.new_full((len(shares) * len(rec.x), *coarse_grid(size, cells)), 0.5)
    found = masks(ascended(rec, start, pose, scale=scale_of(*ends_of(rec, levels)), steps=steps, rate=rate))
    regions: Tensor = found.unflatten(0, (len(shares), -1))
    for share, region in zip(shares, regions, strict=True):
        _say(rec, share, region if variant != "delete" else 1 - region, variant, levels)
    mean: Tensor = regions.mean(0)
    return mean.to(rec.x)


def _say(rec: Recording, share: float, keep: Tensor, variant: str, levels: Tensor) -> None:
    """Note what the score becomes with the region kept, or deleted."""
    (scores,) = rec.scores_at([seen_through(levels, keep).to(rec.x)])
    done = f"without a region of {share:.3g}" if variant == "delete" else f"with only a region of {share:.3g}"
    pairs = zip(scores.tolist(), rec.scores.tolist(), strict=True)
    rec.note([f"{done} of the image the score is {found:.3g}; with all of it {whole:.3g}" for found, whole in pairs])


def _shares(areas: float | str) -> list[float]:
    try:
        found = [float(part) for part in str(areas).split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < share < 1 for share in found):
        raise ParameterError(
            f"extremal_perturbation.areas={areas}: wanted a share of the image between 0 and 1, or several with "
            "commas, as in areas='0.05,0.1,0.2'."
        )
    return found


def _nearest(keep: Tensor, areas: Sequence[float], favour: Tensor) -> Tensor:
    """Return the 0-1 masks (N, *S) of given areas nearest to ``keep``: 1 where it is largest.

    |keep - it|^2 is |vecsort(keep) - r_area|^2. Among equals, which clamping makes many, the more favoured are larger.
    """
    flat, tie = keep.flatten(1), favour.flatten(1)
    unit = tie.abs().amax(1, keepdim=True).clamp(min=1e-30)
    order = (flat + _TIE * tie / unit).argsort(dim=1, descending=True, stable=True)
    counts = torch.tensor([round(area * flat.shape[1]) for area in areas], device=keep.device)
    ranked = (torch.arange(flat.shape[1], device=keep.device) < counts.unsqueeze(1)).to(keep)
    nearest: Tensor = torch.zeros_like(flat).scatter_(1, order, ranked).reshape(keep.shape)
    return nearest
