"""The Ray engine: tasks decode and actors explain, on a cluster or here."""

from __future__ import annotations

from collections.abc import Iterator

from sightline.batch.job import Job
from sightline.batch.units import Outcome, Unit
from sightline.errors import ParameterError

__all__ = ["run_ray"]


def run_ray(job: Job, units: Iterator[Unit], workers: int, address: str | None) -> Iterator[Outcome]:
    """Yield the outcome of each unit, in their order."""
    raise ParameterError(f"engine='ray' with {workers} workers at {address}: not there yet.")
