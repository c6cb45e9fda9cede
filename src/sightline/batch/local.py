"""The local engine: worker processes decode, this process explains."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from sightline.batch.decoding import Decoded, Decoders, reader_of
from sightline.batch.rows import Work, rows_of
from sightline.batch.sources import Item
from sightline.batch.units import Outcome, Unit

__all__ = ["IsKnown", "fresh_of", "outcome_of", "run_local"]

IsKnown = Callable[[str, Sequence[str]], bool]


def run_local(work: Work, units: Iterator[Unit], workers: int, is_known: IsKnown) -> Iterator[Outcome]:
    """Yield the outcome of each unit, in their order; contents that are known by then are not explained again."""
    begun: deque[Unit] = deque()

    def items() -> Iterator[list[Item]]:
        for unit in units:
            begun.append(unit)
            yield unit.items

    with Decoders(reader_of(work.plan.model), workers) as decoders:
        for images in decoders.map(items()):
            unit = begun.popleft()
            yield outcome_of(work, unit, images, fresh_of(unit, images, is_known), is_known)


def fresh_of(unit: Unit, images: Sequence[Decoded], is_known: IsKnown) -> list[Decoded]:
    """Return the images of a unit that rows are to be made of: of each content that is not known the first."""
    first: dict[str, Decoded] = {}
    for one in images:
        if one.error is not None:
            first.setdefault(one.item.uri, one)
        elif not is_known(str(one.hash), unit.asks):
            first.setdefault(str(one.hash), one)
    return list(first.values())


def outcome_of(
    work: Work,
    unit: Unit,
    images: Sequence[Decoded],
    fresh: Sequence[Decoded],
    is_known: IsKnown = lambda content, asks: False,
) -> Outcome:
    """Explain the images of a unit that are not known yet, those together that lack the same asks."""
    contents = [one.hash if one.error is None else None for one in images]
    alike: dict[tuple[str, ...], list[Decoded]] = {}
    for one in fresh:
        known = {ask for ask in unit.asks if one.error is None and is_known(str(one.hash), (ask,))}
        alike.setdefault(tuple(ask for ask in unit.asks if ask not in known), []).append(one)
    return Outcome(unit, contents, [row for asks, group in alike.items() for row in rows_of(work, group, asks)])
