"""What an evaluation is going to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Cost"]


@dataclass(frozen=True)
class Cost:
    """What an evaluation is going to take: measured on one image, for ``images`` of them, or of mosaics."""

    images: int
    forwards_each: int
    seconds_each: float
    what: str = "image"

    @property
    def seconds(self) -> float:
        """The estimated time for all images."""
        return self.images * self.seconds_each

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values."""
        return {
            "images": self.images,
            "forward_passes_each": self.forwards_each,
            "seconds_each": round(self.seconds_each, 3),
            "estimated_seconds": round(self.seconds, 1),
        }
