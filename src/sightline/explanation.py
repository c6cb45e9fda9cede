"""The frozen result: what was asked, what came out, how well it was obtained, and how to draw it."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from sightline.completeness import Completeness
from sightline.errors import InputError, ParameterError
from sightline.geometry import Geometry
from sightline.graph import Coverage
from sightline.heatmap import reduce_channels, resize_array
from sightline.output import written
from sightline.targets import TargetName

if TYPE_CHECKING:
    from sightline.evaluation.card import TrustCard

__all__ = ["Box", "Explanation", "Prediction"]

Draw = Literal["card", "overlay", "heatmap", "masked", "alpha", "contours", "channels"]
Style = Literal["sequential", "diverging", "grey"]

_FORMAT = 1


class Prediction(dict[str, Any]):
    """One predicted class: {"index", "label", "id", "logit", "probability"}."""


class Box(NamedTuple):
    """A box around a hot region, in pixels of the original: left, top, right, bottom (exclusive), and its mass."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int
    mass: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model gave a score: one method's attribution for one image and one target.

    ``attribution`` is signed and unreduced, float32: (C, *S) of the input, or (*S of the layer) for CAMs.
    ``predictions`` are the model's best classes, best first; ``score`` is the number that was explained.
    ``image`` is the picture (H, W[, C]), ``signal`` the series or volume (C, *S) as it was given.
    ``check`` is the trust card, where one was asked for.
    """

    attribution: np.ndarray
    method: str
    target: TargetName
    score: float
    parameters: Mapping[str, Any]
    predictions: Sequence[Prediction]
    input_size: tuple[int, ...]
    style: Style
    per_channel: bool
    layer: str | None = None
    image: np.ndarray | None = None
    signal: np.ndarray | None = None
    geometry: Geometry | None = None
    coverage: Coverage | None = None
    completeness: Completeness | None = None
    standard_error: float | None = None
    precision: str = "model"
    seconds: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    check: TrustCard | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.attribution).all():
            raise InputError(f"{self.method}: the attribution holds NaN or infinity, which is no explanation.")
        self.attribution.flags.writeable = False

    @cached_property
    def reduced(self) -> np.ndarray:
        """The attribution with its channels reduced, at its own size: the input's, or a layer's (*S)."""
        reduction = self.parameters.get("reduction", "sum")
        return reduce_channels(self.attribution, reduction) if self.per_channel else self.attribution

    def at_input(self) -> np.ndarray:
        """Return the map on the model's own input grid (*S), signed, float32."""
        how = self.parameters.get("upsampling", "bilinear")
        return np.asarray(resize_array(self.reduced, self.input_size, how), dtype=np.float32)

    @cached_property
    def heatmap(self) -> np.ndarray:
        """The map on the original's pixels (H, W), or points (L) or (D, H, W): signed, channels reduced.

        NaN where the model never saw the picture, because the centre crop cut it off.
        """
        values = self.at_input()
        found = values if self.geometry is None else self.geometry.to_original(values)
        found.flags.writeable = False
        return found

    def boxes(self, threshold: float = 0.5) -> list[Box]:
        """Return boxes around the regions that are hotter than ``threshold`` of the maximum, largest mass first.

        Raises ParameterError for a threshold outside (0, 1) or a map that is not two-dimensional.
        """
        if not 0 < threshold < 1 or self.heatmap.ndim != 2:
            raise ParameterError(
                f"boxes(threshold={threshold}) of a map {self.heatmap.shape}: wanted a threshold between 0 and 1 "
                "and a two-dimensional map."
            )
        from scipy import ndimage

        heat = np.nan_to_num(self.heatmap, nan=0.0).clip(min=0)
        if heat.max() <= 0:
            return []
        regions, _ = ndimage.label(heat >= threshold * heat.max())
        found = [_box(place, heat, regions == i) for i, place in enumerate(ndimage.find_objects(regions), 1)]
        return sorted(found, key=lambda box: -box.mass)

    def render(
        self,
        draw: Draw = "card",
        *,
        heatmap_opacity: float = 0.5,
        colormap: str | None = None,
        percentile: float | None = None,
        threshold: float = 0.0,
    ) -> Any:
        """Return a PIL picture: a labelled card, or the overlay, heatmap, masked, alpha-scaled or contoured photo.

        A series is drawn as a line in the colours of its attribution, a volume as the slices that hold the most.
        ``heatmap_opacity`` is the map's (1 hides the photo); values beyond ``percentile`` are clipped, and
        below ``threshold`` of the largest the overlay leaves the photo as it came (masked: 0.5 unless given).
        """
        from sightline.render.explanation import draw_explanation

        looks: dict[str, Any] = {"colormap": colormap, "percentile": percentile, "threshold": threshold}
        return draw_explanation(self, draw, heatmap_opacity=heatmap_opacity, **looks)

    def _repr_html_(self) -> str:
        from sightline.render.explanation import explanation_as_html

        return explanation_as_html(self)

    def __repr__(self) -> str:
        where = f", layer={self.layer!r}" if self.layer else ""
        shape = "x".join(map(str, self.attribution.shape))
        return f"<Explanation {self.method} of {self.target.label!r}{where}: {shape}, score {self.score:.4g}>"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but arrays as plain JSON values."""
        return {
            "method": self.method,
            "target": {"index": self.target.index, "label": self.target.label},
            "score": self.score,
            "layer": self.layer,
            "parameters": {k: _plain(v) for k, v in self.parameters.items()},
            "predictions": [dict(p) for p in self.predictions],
            "shape": list(self.attribution.shape),
            "input_size": list(self.input_size),
            "style": self.style,
            "per_channel": self.per_channel,
            "geometry": self.geometry.to_dict() if self.geometry is not None else None,
            "coverage": self.coverage.to_dict() if self.coverage is not None else None,
            "completeness": self.completeness.to_dict() if self.completeness is not None else None,
            "standard_error": self.standard_error,
            "precision": self.precision,
            "seconds": self.seconds,
            "provenance": dict(self.provenance),
            "notes": list(self.notes),
            "check": self.check.to_dict() if self.check is not None else None,
        }

    def save(self, path: str | os.PathLike[str], draw: Draw = "card") -> Path:
        """Write the explanation, by the suffix: .png a picture, .html a page, .npz and .json all, to be loaded again.

        Raises ParameterError for another suffix.
        """
        file = Path(path)
        writers = {".png": self._save_png, ".html": self._save_html, ".npz": self._save_npz} | {
            ".json": self._save_json
        }
        if file.suffix.lower() not in writers:
            raise ParameterError(
                f"cannot save to '{file.name}': wanted a name that ends in .png, .html, .npz or .json."
            )
        with written(file) as aside:
            writers[file.suffix.lower()](aside, draw)
        return file

    def _save_png(self, file: Path, draw: Draw) -> None:
        self.render(draw).save(file, format="PNG")

    def _save_html(self, file: Path, _: Draw) -> None:
        head = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        )
        title = f"<title>{escape(self.method)}</title>"
        file.write_text(f"{head}{title}<body>{self._repr_html_()}</body></html>\n", encoding="utf-8")

    def _save_npz(self, file: Path, _: Draw) -> None:
        arrays = {"attribution": self.attribution, "heatmap": self.heatmap} | self._shown()
        np.savez_compressed(file, about=np.array(json.dumps(self._about())), **arrays)  # type: ignore[arg-type]

    def _save_json(self, file: Path, _: Draw) -> None:
        data = self._about() | {k: _encode(v) for k, v in {"attribution": self.attribution, **self._shown()}.items()}
        file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    def _shown(self) -> dict[str, np.ndarray]:
        return {k: v for k, v in {"image": self.image, "signal": self.signal}.items() if v is not None}

    def _about(self) -> dict[str, Any]:
        return {"format": _FORMAT, **self.to_dict()}

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Explanation:
        """Read an explanation that was saved as .npz or .json.

        Raises InputError where the file is missing or is no such thing.
        """
        file = Path(path)
        try:
            if file.suffix.lower() == ".npz":
                with np.load(file, allow_pickle=False) as saved:
                    arrays = {k: saved[k] for k in saved.files if k != "about"}
                    about = json.loads(str(saved["about"]))
            else:
                about = json.loads(file.read_text(encoding="utf-8"))
                arrays = {k: _decode(about.pop(k)) for k in ("attribution", "image", "signal") if k in about}
            return _restored(about, arrays)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or 'not an .npz file'}).") from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not a saved explanation ({type(error).__name__}: {error}); wanted what "
                "Explanation.save wrote as .npz or .json."
            ) from None


def _box(place: tuple[slice, ...], heat: np.ndarray, region: np.ndarray) -> Box:
    rows, columns = place
    return Box(columns.start, rows.start, columns.stop, rows.stop, float(heat[region].sum() / heat.sum()))


def _plain(value: Any) -> Any:
    shape = getattr(value, "shape", None)
    return f"array {tuple(shape)}" if shape is not None else value


def _encode(values: np.ndarray) -> dict[str, Any]:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return {"npy": base64.b64encode(stream.getvalue()).decode()}


def _decode(data: dict[str, str]) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(base64.b64decode(data["npy"])), allow_pickle=False))


def _restored(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Explanation:
    coverage, completeness, geometry = (about[k] for k in ("coverage", "completeness", "geometry"))
    return Explanation(
        attribution=arrays["attribution"],
        method=about["method"],
        target=TargetName(**about["target"]),
        score=about["score"],
        parameters=about["parameters"],
        predictions=[Prediction(p) for p in about["predictions"]],
        input_size=tuple(about["input_size"]),
        style=about["style"],
        per_channel=about["per_channel"],
        layer=about["layer"],
        image=arrays.get("image"),
        signal=arrays.get("signal"),
        geometry=Geometry.from_dict(geometry) if geometry else None,
        coverage=Coverage(**coverage) if coverage else None,
        completeness=Completeness(completeness["total"], completeness["expected"]) if completeness else None,
        standard_error=about["standard_error"],
        precision=about["precision"],
        seconds=about["seconds"],
        provenance=about["provenance"],
        notes=tuple(about["notes"]),
        check=_card(about.get("check")),
    )


def _card(data: Mapping[str, Any] | None) -> TrustCard | None:
    if data is None:
        return None
    from sightline.evaluation.card import TrustCard

    return TrustCard.from_dict(data)
