"""The film strip of one image: what the net looked at while it learned, a row for each method, a column an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from sightline.render.layout import Block, beside, padded, placed, scaled_into, stack
from sightline.render.palette import ACCENT, EMPTY, INK, MUTED, PAPER
from sightline.render.table import probability_text
from sightline.render.text import font, text_block
from sightline.training.callbacks.drawing import legends_of, notes_of, noun_of
from sightline.training.callbacks.frames import Frames, Moment, opened

__all__ = ["draw_strip", "spread"]

_ROOM, _NARROWEST, _WIDEST = 2200, 128, 240
_SIDE, _GAP = 150, 8


def spread(epochs: Sequence[int], most: int) -> list[int]:
    """Return at most that many epochs, evenly spaced, with the first and the last.

    >>> spread(range(100), 4)
    [0, 33, 66, 99]
    """
    if len(epochs) <= most:
        return list(epochs)
    return [epochs[round(i * (len(epochs) - 1) / (most - 1))] for i in range(most)]


def draw_strip(frames: Frames, name: str, methods: Sequence[str], most: int) -> Image.Image:
    """Return the strip of an image from its frames on disk."""
    every = frames.moments(name)
    shown = {epoch: every[epoch] for epoch in spread(list(every), most)}
    width = min(max(_ROOM // (len(shown) + 1), _NARROWEST), _WIDEST)
    photo = opened(frames.photo(name))
    height = _height(photo, width)
    side = _side(methods)
    rows = [_row(frames, name, method, shown, photo, (side, width, height)) for method in methods]
    noun = noun_of(d for m in shown.values() for d in m.drawn.values())
    body = stack([_header([noun, *(f"epoch {epoch}" for epoch in shown)], side, width), *rows], 14)
    return padded(stack([_heading(name, every, shown, body.width), body, _foot(shown, methods, body.width)], 20), 32)


def _height(photo: Image.Image | None, width: int) -> int:
    return width if photo is None else round(min(max(width * photo.height / photo.width, width / 3), 1.6 * width))


def _heading(name: str, every: Mapping[int, Moment], shown: Mapping[int, Moment], width: int) -> Image.Image:
    labels = list(dict.fromkeys(m.explained[0] for m in shown.values() if m.explained))
    about = f"why “{labels[0]}”?" if len(labels) == 1 else "why what it says?"
    some = f" ({len(shown)} of {len(every)} epochs, evenly spaced)" if len(shown) < len(every) else ""
    asked = f"“{labels[0]}”" if len(labels) == 1 else "the explained class"
    under = f"under each frame: what the net says, and the probability of {asked}"
    title = text_block(f"{name} · {about}", width=width, size=26, bold=True, most_lines=2)
    line = text_block(f"what the net looked at while it learned{some}", width=width, size=16, colour=MUTED)
    return stack([title, line, text_block(under, width=width, size=16, colour=MUTED)], 5)


def _side(methods: Sequence[str]) -> int:
    return round(min(max(_SIDE, *(font(17, bold=True).getlength(m) + 4 for m in methods)), 2 * _SIDE))


def _header(words: Sequence[str], side: int, width: int) -> Image.Image:
    blocks = [text_block(w, width=width, size=17, bold=True, align="center") for w in words]
    return beside([Image.new("RGB", (side, 1), PAPER), *blocks], _GAP)


def _row(
    frames: Frames,
    name: str,
    method: str,
    shown: Mapping[int, Moment],
    photo: Image.Image | None,
    sizes: tuple[int, int, int],
) -> Image.Image:
    """Draw a method's row; ``sizes`` are the width of its label, and width and height of a frame."""
    side, size = sizes[0], sizes[1:]
    label = text_block(method, width=side, size=17, bold=True, most_lines=3)
    cells = [_framed(photo, "no picture", size)]
    for epoch, moment in shown.items():
        cells.append(_moment(frames.frame(name, method, epoch), moment, method, size))
    head = placed(label or Image.new("RGB", (side, 1), PAPER), (side, size[1]))
    return beside([head, *cells], _GAP)


def _moment(file: Path, moment: Moment, method: str, size: tuple[int, int]) -> Image.Image:
    drawn = moment.drawn.get(method)
    why = "not drawn at this epoch" if drawn is None else drawn.why
    picture = None if why is not None else opened(file)
    return stack([_framed(picture, why or "the frame is gone", size), _caption(moment, size[0])], 4)


def _framed(picture: Image.Image | None, why: str, size: tuple[int, int]) -> Image.Image:
    if picture is not None:
        return placed(scaled_into(picture, *size), size)
    words = text_block(why, width=size[0] - 16, size=12, colour=MUTED, background=EMPTY, align="center", most_lines=6)
    return placed(words, size, EMPTY) if words else Image.new("RGB", size, EMPTY)


def _caption(moment: Moment, width: int) -> Block:
    if moment.says is None:
        return text_block("the pass fails", width=width, size=15, colour=MUTED, align="center")
    right = moment.explained is not None and moment.explained[0] == moment.says[0]
    said = text_block(
        moment.says[0], width=width, size=15, bold=right, colour=ACCENT if right else INK, align="center", most_lines=1
    )
    chance = moment.explained[1] if moment.explained else None
    return stack([said, None if chance is None else _bar(chance, width)], 2)


def _bar(chance: float, width: int) -> Image.Image:
    """Draw a probability as a bar with its number."""
    bar, end = Image.new("RGB", (width, 20), PAPER), width - 60
    draw = ImageDraw.Draw(bar)
    draw.rectangle((4, 5, end, 15), EMPTY)
    if round((end - 4) * chance):
        draw.rectangle((4, 5, 4 + round((end - 4) * chance), 15), ACCENT)
    draw.text((width - 4, 15), probability_text(chance), INK, font(15), "rs")
    return bar


def _foot(shown: Mapping[int, Moment], methods: Sequence[str], width: int) -> Image.Image:
    legends = legends_of(m.drawn[k] for m in shown.values() for k in methods if k in m.drawn)
    notes = [text_block(note, width=width, size=14, colour=MUTED) for note in notes_of(methods)]
    across = max(1, width // 350)
    lines = [beside(legends[i : i + across], 28) for i in range(0, len(legends), across)]
    return stack([*lines, *notes], 8)
