"""Pictures for TensorBoard, by torch's own writer."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.errors import ModelError

__all__ = ["Board"]


class Board:
    """Where pictures go: a folder of event files, opened when the first comes; a writer of somebody's; or nowhere."""

    def __init__(self, where: Path | Any | None) -> None:
        self._folder = where if isinstance(where, Path) else None
        self._writer = None if isinstance(where, Path) else where
        if self._folder is not None and importlib.util.find_spec("tensorboard") is None:
            raise ModelError(
                "TensorBoard's files need tensorboard, which is not installed: pip install 'sightline[train]', or give "
                "tensorboard=False."
            )

    def use(self, writer: Any) -> None:
        """Give the pictures to this writer, which stays its owner's to close."""
        self.close()
        self._folder, self._writer = None, writer

    def add(self, pictures: Mapping[str, Image.Image], epoch: int) -> None:
        """Write pictures by their tags, at the step ``epoch``."""
        writer = self._opened()
        if writer is None:
            return
        for tag, picture in pictures.items():
            writer.add_image(tag, np.array(picture.convert("RGB")), epoch, dataformats="HWC")
        writer.flush()

    def close(self) -> None:
        """Close the event file, if it is ours; the next picture opens another."""
        if self._folder is not None and self._writer is not None:
            self._writer.close()
            self._writer = None

    def _opened(self) -> Any:
        if self._writer is None and self._folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        return self._writer
