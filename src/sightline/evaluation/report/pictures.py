"""The pictures of a report: a few images, what the model said, and each method's map with its own values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sightline.evaluation.registry import Metric
from sightline.evaluation.report.page import data_uri, file_name, number_text
from sightline.evaluation.results import Evaluation
from sightline.render.table import probability_text

if TYPE_CHECKING:
    from PIL import Image

    from sightline.explanation import Explanation

__all__ = ["Answer", "Card", "Cell", "Shown", "legends", "shown_images"]

_SIDE = 300
"""The longer side of a picture in pixels: twice what it takes on a page, for sharp screens."""
_MARKS = {"yes": "✓", "partly": "~", "no": "✗"}


@dataclass(frozen=True)
class Answer:
    """One answer of a trust card, with its verdict as a character."""

    question: str
    verdict: str
    mark: str
    value: str
    sentence: str


@dataclass(frozen=True)
class Card:
    """The trust card of one explanation, with its map and the sum of its answers."""

    method: str
    picture: str
    headline: str
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Cell:
    """One method's map, and its own values."""

    method: str
    control: bool
    picture: str
    values: Sequence[tuple[Metric, float]]
    notes: Sequence[str]


@dataclass(frozen=True)
class Shown:
    """One image: its picture, the model's best classes, its maps, and the trust cards that there are."""

    name: str
    photo: str
    size: tuple[int, int]
    target: str
    predictions: Sequence[tuple[str, str, float]]
    cells: Sequence[Cell]
    cards: Sequence[Card]


def shown_images(found: Evaluation) -> list[Shown]:
    """Return the images that the evaluation kept, in its order."""
    values: dict[tuple[str, ...], float] = {
        (r.image, r.image_hash, r.method, r.metric.partition("@")[0]): r.value for r in found.rows
    }
    keys = list(dict.fromkeys((r.image, r.image_hash) for r in found.rows))
    return [_image(found, made, _key(made[0], n, keys), values) for n, made in enumerate(found.shown) if made]


def _key(e: Explanation, number: int, keys: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the image's name and hash in the rows: by its own, or by its place where a tensor has neither."""
    own = (str(e.provenance.get("image") or ""), str(e.provenance.get("image_hash") or ""))
    alike = [k for k in keys if k == own or (not own[0] and own[1] and k[1] == own[1])]
    return alike[0] if alike else keys[number] if not own[0] and number < len(keys) else own


def _image(
    found: Evaluation, made: Sequence[Explanation], key: tuple[str, str], values: Mapping[tuple[str, ...], float]
) -> Shown:
    from sightline.render.compare import photo_cell

    first, photo = made[0], _small(photo_cell(made[0]))
    ordered = sorted(made, key=lambda e: e.method in found.controls)
    return Shown(
        file_name(key[0]),
        data_uri(photo),
        photo.size,
        first.target.label,
        [(p["label"], probability_text(p["probability"]), float(p["probability"])) for p in first.predictions[:3]],
        [_cell(found, e, key, values) for e in ordered],
        [_card(e, checked) for e in ordered if (checked := getattr(e, "check", None)) is not None],
    )


def _card(e: Explanation, checked: Any) -> Card:
    from sightline.render.compare import map_cell

    return Card(
        e.method,
        data_uri(_small(map_cell(e))),
        str(getattr(checked, "headline", "")),
        [_answer(a) for a in checked.answers],
    )


def _answer(given: Any) -> Answer:
    verdict = str(given.verdict)
    value = number_text(given.value) if isinstance(given.value, float) else str(given.value or "")
    return Answer(str(given.question), verdict, _MARKS.get(verdict, "?"), value, str(given.sentence))


def _cell(found: Evaluation, e: Explanation, key: tuple[str, str], values: Mapping[tuple[str, ...], float]) -> Cell:
    from sightline.render.compare import map_cell

    own = [(m, values.get((*key, e.method, m.name), float("nan"))) for m in found.metrics]
    return Cell(e.method, e.method in found.controls, data_uri(_small(map_cell(e))), own, e.notes)


def _small(picture: Image.Image) -> Image.Image:
    smaller = picture.copy()
    smaller.thumbnail((_SIDE, _SIDE))
    return smaller


def legends(found: Evaluation) -> list[str]:
    """Return the legends of the colours that the maps are drawn in."""
    from sightline.render.compare import style_legend

    made = [e for image in found.shown for e in image]
    series = any(e.heatmap.ndim == 1 for e in made)
    unseen = any(bool((e.heatmap != e.heatmap).any()) for e in made)
    styles = list(dict.fromkeys(e.style for e in made))
    return [data_uri(style_legend(s, not_seen=unseen and s == styles[0], series=series)) for s in styles]
