"""The smallest covered region with which the model no longer says what it said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.goals import answer_goal, lead_goal
from sightline.masks import Segments, segments_of
from sightline.methods.perturbation import covered
from sightline.methods.registry import Range, method
from sightline.points import baseline_of
from sightline.recording import Recording

__all__ = ["smallest_flip"]

Change = Literal["blur", "noise", "patch"]
Search = Literal["ranked", "greedy"]


@method(
    family="optimization",
    cite="Fong & Vedaldi 2017, arXiv:1704.03296, sec. 4 (the deletion game over whole cells)",
    reads="scores",
    style="sequential",
)
def smallest_flip(
    rec: Recording,
    change: Change = "blur",
    segments: Segments = "grid",
    count: Annotated[int, Range(1)] = 64,
    search: Search = "ranked",
) -> Tensor:
    """The region whose blur, noise or grey patch flips the model's answer, none of whose cells can be spared: 1 there.

    Cells are covered one after the other, ranked by what each does alone or, "greedy", the best next one each time,
    until the target is no longer the answer (or becomes it, where it was not); then cells that are not needed are
    given back one at a time. No smaller region is ruled out but those that lack a single cell.
    """
    if rec.goal.classes is None:
        raise RefusedError(
            f"smallest_flip: {rec.goal.names[0].label} is no class, so there is no answer to flip; give a class, or "
            "use occlusion."
        )
    lead = rec.for_target(lead_goal(rec.goal.classes))
    search_space = _Cells(lead, segments_of(segments, count, rec.x), _cover(rec, change), lead.scores > 0)
    region = search_space.grown(search)
    region = search_space.pruned(region & (search_space.lead(region) < 0).unsqueeze(1))
    _report(rec, search_space, region, change)
    return search_space.drawn(region).to(rec.x)


def _cover(rec: Recording, change: Change) -> Tensor:
    if change != "noise":
        return baseline_of("blur" if change == "blur" else "mean", rec.x, rec.model.preprocessing, rec.seed)
    generator = torch.Generator().manual_seed(rec.seed)
    drawn = torch.randn(rec.x.shape[1:], generator=generator, dtype=torch.float64).to(rec.x)
    flat, ones = rec.x.flatten(2), (1,) * (rec.x.ndim - 2)
    mean, spread = (v.reshape(*v.shape, *ones) for v in (flat.mean(2), flat.std(2, correction=0)))
    return mean + spread * drawn


@dataclass(frozen=True, eq=False)
class _Cells:
    """Regions of cells, bool (N, cells), and the lead that the model's first answer keeps when they are covered."""

    rec: Recording
    labels: Tensor
    base: Tensor
    says: Tensor

    @property
    def sizes(self) -> Tensor:
        """How many positions each cell has (N, cells); superpixels may be fewer in one image than in another."""
        flat = self.labels.flatten(1)
        empty = torch.zeros(len(flat), int(flat.max()) + 1, dtype=torch.long, device=flat.device)
        return empty.scatter_add(1, flat, torch.ones_like(flat))

    def drawn(self, region: Tensor) -> Tensor:
        """Return the region on the image's own grid: bool (N, *S)."""
        return region.gather(1, self.labels.flatten(1)).reshape(self.labels.shape)

    def image(self, region: Tensor) -> Tensor:
        """Return the image with the region covered."""
        return covered(self.rec.x, self.base, ~self.drawn(region))

    def leads(self, regions: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield for each region (N, cells) by how much the first answer still holds (N,); below 0 it has flipped."""
        sign = self.says.float() * 2 - 1
        return (sign * scores for scores in self.rec.scores_at(self.image(r) for r in regions))

    def lead(self, region: Tensor) -> Tensor:
        """Return the lead (N,) with one region covered."""
        (found,) = self.leads([region])
        return found

    def grown(self, search: Search) -> Tensor:
        """Return the first region that flips each image's answer, or all of the image where none does."""
        return self._greedy() if search == "greedy" else self._ranked()

    def _ranked(self) -> Tensor:
        alone = self._with_one_more(torch.zeros_like(self.sizes, dtype=torch.bool))
        rank = alone.argsort(dim=1, stable=True).argsort(1)
        region, done = torch.ones_like(rank, dtype=torch.bool), torch.zeros(len(rank), dtype=torch.bool).to(rank.device)
        nested = [rank <= k for k in range(rank.shape[1])]
        for candidate, lead in zip(nested, self.leads(nested), strict=True):
            first = (lead < 0) & ~done
            region[first], done = candidate[first], done | first
            if bool(done.all()):
                break
        return region

    def _greedy(self) -> Tensor:
        region = torch.zeros_like(self.sizes, dtype=torch.bool)
        for _ in range(region.shape[1]):
            growing = self.lead(region) >= 0
            if not bool(growing.any()):
                break
            best = self._with_one_more(region).argmin(1)
            region[growing, best[growing]] = True
        return region

    def _with_one_more(self, region: Tensor) -> Tensor:
        """Return the lead with each cell covered besides the region: (N, cells), infinite where it is already."""
        cells = torch.arange(region.shape[1], device=region.device)
        leads = torch.stack(list(self.leads(region | (cells == cell) for cell in cells)), 1)
        return leads.masked_fill(region | (self.sizes == 0), torch.inf)

    def pruned(self, region: Tensor) -> Tensor:
        """Give back cells, one at a time, until the answer holds again whichever one more is given back."""
        while True:
            order = region.cumsum(1) * region  # 1, 2, ... for the region's own cells
            less = [region & (order != i) for i in range(1, int(order.max()) + 1)]
            if not less:
                return region
            leads = torch.stack(list(self.leads(less)), 1)
            spare = torch.arange(len(less), device=region.device) < region.sum(1, keepdim=True)
            leads = leads.masked_fill(~spare, torch.inf)
            best = leads.argmin(1)
            able = leads.amin(1) < 0
            if not bool(able.any()):
                return region
            region = torch.where(able.unsqueeze(1) & (order == best.unsqueeze(1) + 1), False, region)


def _report(rec: Recording, cells: _Cells, region: Tensor, change: Change) -> None:
    (after,) = rec.for_target(answer_goal(len(rec.x))).scores_at([cells.image(region)])
    flipped = cells.lead(region) < 0
    shares = cells.drawn(region).flatten(1).double().mean(1)
    notes = []
    for row, share in enumerate(shares.tolist()):
        name, answer = rec.goal.names[int(rec.rows[row])].label, rec.model.labels.name(int(after[row]))
        if not flipped[row]:
            rec.refuse(row, _unflipped(name, bool(cells.says[row]), change))
        count = f"{int(region[row].sum())} of {int((cells.sizes[row] > 0).sum())} cells"
        told = f"says {answer}" if answer != name or not cells.says[row] else "no longer says so"
        notes.append(f"with {share:.1%} of the image changed ({count}) the model {told}")
    rec.note(notes)


def _unflipped(name: str, says: bool, change: Change) -> str:
    if says:
        return (
            f"smallest_flip: the model says {name} whatever is changed, up to all of the image (change={change}); "
            "try another change: blur, noise or patch."
        )
    return (
        f"smallest_flip: the model does not say {name}, and no region that was tried makes it say so "
        f"(change={change}); ask about what it says: target=top1."
    )
