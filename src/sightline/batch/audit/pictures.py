"""The images of the rows that an audit looks at again, decoded once as long as they are few."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np

from sightline.batch.audit.content import Mark, mark_scores
from sightline.batch.originals import read_original
from sightline.errors import ImageError
from sightline.images import MAX_PIXELS
from sightline.paths import shown

__all__ = ["Pictures"]

_KEPT = 2**28  # bytes of decoded pictures


class Pictures:
    """Read originals by the row; ``lost`` are those that are gone, cannot be read or have changed, and why."""

    def __init__(self, images: Sequence[str], hashes: Sequence[str], max_pixels: int = MAX_PIXELS) -> None:
        self._images, self._hashes, self._most = images, hashes, max_pixels
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0
        self.lost: dict[str, str] = {}

    def get(self, row: int) -> np.ndarray | None:
        """Return the pixels (H, W, 3) of a row's image, or None where it is not to be had."""
        if row in self._held:
            self._held.move_to_end(row)
            return self._held[row]
        image = self._images[row]
        if image in self.lost:
            return None
        try:
            pixels = self._unchanged(image, self._hashes[row])
        except ImageError as error:
            self.lost[image] = str(error)
            return None
        self._keep(row, pixels)
        return pixels

    def _unchanged(self, image: str, content: str) -> np.ndarray:
        found = read_original(image, max_pixels=self._most)
        if found.hash != content:
            raise ImageError(f"{shown(image)} is another picture than the one that was explained.")
        return found.pixels

    def some(self, rows: Sequence[int] | np.ndarray, most: int) -> tuple[list[int], list[np.ndarray]]:
        """Return the first of these rows that can be read, no more than ``most``, with their pixels."""
        found: list[int] = []
        seen: list[np.ndarray] = []
        for row in rows:
            pixels = self.get(int(row)) if len(found) < most else None
            if pixels is not None:
                found.append(int(row))
                seen.append(pixels)
        return found, seen

    def each(self, rows: Sequence[int] | np.ndarray, mark: Mark) -> Iterator[tuple[int, float]]:
        """Yield each row that can be read with how far its image is from a mark."""
        for row in rows:
            pixels = self.get(int(row))
            if pixels is not None:
                yield int(row), float(mark_scores([pixels], mark)[0])

    def _keep(self, row: int, pixels: np.ndarray) -> None:
        self._held[row] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > _KEPT:
            self._bytes -= self._held.popitem(last=False)[1].nbytes
