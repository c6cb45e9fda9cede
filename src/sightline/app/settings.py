"""What the app was started with: it reaches the script through the environment, as one JSON object."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache

__all__ = ["VARIABLE", "Settings", "settings"]

VARIABLE = "SIGHTLINE_APP"
_MEGAPIXEL = 1_000_000


@dataclass(frozen=True)
class Settings:
    """Limits of uploads (megabytes, megapixels, seconds, gigabytes of memory), the models beside the embedded ones.

    ``keep_seconds`` is how long a closed page's uploads are kept, for a machine that sleeps for a moment;
    ``reports`` is the folder whose reports and training runs are shown.
    """

    upload_mb: int = 20
    megapixels: int = 50
    model_seconds: int = 60
    model_gb: float = 4.0
    keep_seconds: int = 60
    models: tuple[str, ...] = ()
    labels: str | None = None
    reports: str = "."

    @property
    def max_pixels(self) -> int:
        """The most pixels that a picture may have."""
        return self.megapixels * _MEGAPIXEL

    def to_json(self) -> str:
        """Return the settings as text."""
        return json.dumps(asdict(self))


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return what the app was started with."""
    given = json.loads(os.environ.get(VARIABLE, "{}"))
    return Settings(**given | {"models": tuple(given.get("models", ()))})
