"""Whether an attribution adds up to what its method promises."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Completeness"]


@dataclass(frozen=True)
class Completeness:
    """Whether an attribution adds up: its ``total`` against ``expected`` = f(x) - f(baseline), and the gap.

    ``gap`` is |total - expected| / max(|expected|, 1e-12): 0 is complete.
    """

    total: float
    expected: float

    @property
    def gap(self) -> float:
        """The gap relative to what was expected."""
        return abs(self.total - self.expected) / max(abs(self.expected), 1e-12)

    def to_dict(self) -> dict[str, float]:
        """Return the numbers as plain JSON values."""
        return {"total": self.total, "expected": self.expected, "gap": self.gap}
