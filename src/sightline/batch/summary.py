"""What a run did, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Summary"]


@dataclass
class Summary:
    """What a run did: counts of images, rows and parts, and the first images that failed, each with its reason.

    ``failed_before`` counts those of the same ask that the store holds as failed, and that were not tried again.
    """

    store: str
    images: int = 0
    explained: int = 0
    rows: int = 0
    already: int = 0
    duplicates: int = 0
    failed: int = 0
    failed_before: int = 0
    parts: int = 0
    seconds: float = 0.0
    failures: list[dict[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values."""
        return asdict(self)
