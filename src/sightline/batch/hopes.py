"""Whether what is asked for can be had at all, as the first images tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.batch.job import Ask
from sightline.batch.store import Store
from sightline.errors import SightlineError

__all__ = ["Hopes"]

_ENOUGH = 8


@dataclass(eq=False)
class Hopes:
    """Methods and targets that no image was explained by yet, each with what its first images failed by, all alike.

    A run whose method fails alike on every image would fill a store with errors, at twice the passes.
    """

    reasons: dict[tuple[str, str], list[str]]

    @staticmethod
    def of(asks: Iterable[Ask], store: Store) -> Hopes:
        """Begin with the asks that a store has no commit of."""
        begun = {ask for commit in store.commits for ask in commit.asks}
        return Hopes({(ask.method, ask.target): [] for ask in asks if ask.hash not in begun})

    def see(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Note the rows of an image that could be decoded."""
        for row in rows:
            pair = row["method"], row["asked"]
            errors = self.reasons.get(pair, [])
            if row["error"] is None or (errors and errors[0] != row["error"]):
                self.reasons.pop(pair, None)
            else:
                errors.append(row["error"])

    def check(self) -> None:
        """Raise SightlineError where the first eight images or more all failed for one reason."""
        for (method, target), errors in self.reasons.items():
            if len(errors) >= _ENOUGH:
                raise SightlineError(
                    f"{errors[0]} So it was with each of the first {len(errors)} images ({method}, {target}); "
                    "nothing more was done."
                )
