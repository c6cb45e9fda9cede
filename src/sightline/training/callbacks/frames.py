"""What a film strip is made of, on disk: small pictures and an index, so that a training goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.errors import InputError, ParameterError
from sightline.output import written
from sightline.render.layout import scaled_into
from sightline.training.callbacks.subjects import Subject

__all__ = ["Drawn", "Frames", "Moment", "opened", "save_picture"]

_FORMAT = 1
LARGEST = 320  # pixels a side of a frame: no column of a strip is wider


@dataclass(frozen=True)
class Drawn:
    """A method's frame: how its colours are to be read (style, dimensions, parts not seen), or why there is none."""

    style: Any = None
    dims: int = 2
    unseen: bool = False
    why: str | None = None


@dataclass(frozen=True)
class Moment:
    """One image at one epoch: the predicted class and its probability, the explained one, and the frames."""

    says: tuple[str, float] | None
    explained: tuple[str, float | None] | None
    drawn: Mapping[str, Drawn] = field(default_factory=dict)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Moment:
        """Read what `dataclasses.asdict` made."""
        drawn = {method: Drawn(**d) for method, d in data["drawn"].items()}
        says, explained = (tuple(data[k]) if data[k] else None for k in ("says", "explained"))
        return Moment(says, explained, drawn)


class Frames:
    """The frames of all images below a folder, with ``index.json``, which names what is there."""

    def __init__(self, folder: Path, subjects: Sequence[Subject]) -> None:
        self.folder = folder
        self._hashes = {s.name: s.hash for s in subjects}
        self._moments: dict[str, dict[int, Moment]] = {s.name: {} for s in subjects}
        if self._index.exists():
            self._resume()

    @property
    def _index(self) -> Path:
        return self.folder / "index.json"

    def moments(self, name: str) -> dict[int, Moment]:
        """Return what there is of an image, by epoch, the earliest first."""
        return dict(sorted(self._moments[name].items()))

    def photo(self, name: str) -> Path:
        """Name the file of the image itself."""
        return self.folder / name / "image.png"

    def frame(self, name: str, method: str, epoch: int) -> Path:
        """Name the file of one frame."""
        return self.folder / name / f"{method}_{epoch:04d}.png"

    def add(
        self, name: str, epoch: int, moment: Moment, pictures: Mapping[str, Image.Image], photo: Image.Image | None
    ) -> Image.Image | None:
        """Write the frames of one image at one epoch, and then the index; return the picture of the image itself.

        Without a ``photo`` that is the one of an earlier epoch, or None.
        """
        for method, picture in pictures.items():
            save_picture(_small(picture), self.frame(name, method, epoch))
        if photo is not None and not self.photo(name).exists():
            save_picture(photo, self.photo(name))
        self._moments[name][epoch] = moment
        self._save()
        return photo or opened(self.photo(name))

    def forget_after(self, epoch: int) -> list[int]:
        """Drop what there is of this epoch and later ones, which now come again; return these epochs."""
        later = sorted({e for kept in self._moments.values() for e in kept if e >= epoch})
        for name, kept in self._moments.items():
            for e in [e for e in kept if e >= epoch]:
                for method in kept.pop(e).drawn:
                    self.frame(name, method, e).unlink(missing_ok=True)
        if later:
            self._save()
        return later

    def _save(self) -> None:
        images = {
            name: {"hash": self._hashes[name], "epochs": {str(e): asdict(m) for e, m in self.moments(name).items()}}
            for name in self._moments
        }
        with written(self._index) as aside:
            text = json.dumps({"format": _FORMAT, "images": images}, indent=1, ensure_ascii=False)
            aside.write_text(text + "\n", encoding="utf-8")

    def _resume(self) -> None:
        for name, kept in self._read().items():
            if name not in self._hashes:
                continue
            if kept["hash"] != self._hashes[name]:
                raise ParameterError(
                    f"{self.folder.parent} holds the frames of another image called '{name}'; give out= another "
                    "folder, or names= other names."
                )
            self._moments[name] = {int(e): Moment.from_dict(m) for e, m in kept["epochs"].items()}

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._index.read_text(encoding="utf-8"))["images"]
            for kept in found.values():
                _ = kept["hash"], [Moment.from_dict(m) for m in kept["epochs"].values()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self._index} is not an index of frames ({type(error).__name__}: {error}); remove "
                f"{self.folder} to begin anew, or give out= another folder."
            ) from None
        return found


def save_picture(picture: Image.Image, file: Path) -> Path:
    """Write a PNG whole or not at all."""
    with written(file) as aside:
        picture.save(aside, format="PNG", compress_level=1)  # the training waits for it
    return file


def opened(file: Path) -> Image.Image | None:
    """Return a picture that was saved, or None where there is none."""
    if not file.exists():
        return None
    with Image.open(file) as picture:
        return picture.convert("RGB")


def _small(picture: Image.Image) -> Image.Image:
    return scaled_into(picture, LARGEST, LARGEST) if max(picture.size) > LARGEST else picture
