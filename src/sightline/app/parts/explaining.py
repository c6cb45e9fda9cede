"""An explanation in the page: the remembered one, or made while its passes are counted and can be stopped."""

from __future__ import annotations

from sightline.app.parts.work import stoppable
from sightline.app.subject import Asked, Chosen, Given, expected_passes, explained, known
from sightline.explanation import Explanation

__all__ = ["explained_here"]


def explained_here(
    chosen: Chosen, subject: Given, asked: Asked, key: str, what: str | None = None
) -> Explanation | None:
    """Return the explanation that is asked for, None where the visitor stopped it. Raises what `explain` raises.

    ``key`` tells the work from other work on the page; ``what`` names it, by default the method.
    """
    if known(chosen, subject, asked):
        return explained(chosen, subject, asked)
    made: list[Explanation] = []  # the store forgets at once what is too large for it
    stoppable(
        what or asked.method,
        key,
        lambda tick: made.append(explained(chosen, subject, asked, tick)),
        expected_passes(asked),
    )
    return made[0] if made else None
