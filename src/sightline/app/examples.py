"""The pictures that come with the app: scenes drawn on the spot, whose answer is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sightline.demo.scenes import CLASSES, Scene, scene

__all__ = ["EXAMPLES", "Example"]


@dataclass(frozen=True)
class Example:
    """A scene by its seed and class, with or without the watermark in its corner."""

    name: str
    seed: int
    label: str
    watermark: bool = False

    def draw(self) -> Scene:
        """Draw the scene, uint8 (96, 96, 3), always the same."""
        return scene(self.seed, label=CLASSES.index(self.label), watermark=self.watermark)


_LISTED = (
    Example("ring with a mark", 5, "ring", watermark=True),
    Example("star with a mark", 2, "star", watermark=True),
    Example("star", 2, "star"),
    Example("ring", 5, "ring"),
    Example("disc", 11, "disc"),
    Example("square", 12, "square"),
    Example("triangle", 13, "triangle"),
    Example("cross", 14, "cross"),
)
EXAMPLES: Mapping[str, Example] = {e.name: e for e in _LISTED}
