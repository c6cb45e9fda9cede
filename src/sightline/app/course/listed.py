"""The lessons in their order."""

from __future__ import annotations

from sightline.app.course import cheating, gradient, layers, noise, path, saliency, sanity, score, trust
from sightline.app.course.lesson import Lesson

__all__ = ["LESSONS"]

LESSONS: tuple[Lesson, ...] = (
    gradient.LESSON,
    saliency.LESSON,
    layers.LESSON,
    noise.LESSON,
    path.LESSON,
    score.LESSON,
    sanity.LESSON,
    cheating.LESSON,
    trust.LESSON,
)
