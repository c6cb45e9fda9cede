"""Small scenes whose answer is known: one textured shape on a textured ground, with its exact mask.

The shape alone decides the class. Textures, colours, light, area and rotation are drawn from streams that
never see the label, so two scenes of one seed and two labels differ in the shape, and by the few pixels that
its reach moves it. A scene with the watermark differs from the one without in the stamped pixels only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from sightline.errors import TargetError

__all__ = ["CLASSES", "SIZE", "STAR", "Scene", "ground", "scene", "scenes"]

Floats: TypeAlias = NDArray[np.float64]
Shape: TypeAlias = Callable[[Floats, Floats], Floats]
Texture: TypeAlias = Callable[[Generator, Floats, Floats], Floats]

SIZE = 96
CLASSES: tuple[str, ...] = ("disc", "square", "triangle", "star", "cross", "ring")
STAR = CLASSES.index("star")


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture, uint8 (96, 96, 3), with its label and the boolean (96, 96) masks of object and watermark.

    >>> picture = scene(7, label=STAR, watermark=True)
    >>> CLASSES[picture.label], picture.object_mask.shape, bool(picture.watermark_mask.any())
    ('star', (96, 96), True)
    """

    image: NDArray[np.uint8]
    label: int
    object_mask: NDArray[np.bool_]
    watermark_mask: NDArray[np.bool_]


def scene(seed: int, *, label: int | None = None, watermark: bool = False) -> Scene:
    """Draw the scene of a seed (0 or more): (96, 96, 3) uint8; the label is drawn too unless it is given.

    >>> bool((scene(3).image == scene(3).image).all())
    True
    """
    chosen = int(_stream(seed, 0).integers(len(CLASSES))) if label is None else _known(label)
    distance = _placed(_stream(seed, 1), chosen)
    stamped = _WATERMARK_MASK & watermark
    return Scene(_stamped(_painted(seed, distance), stamped), chosen, distance <= 0, stamped)


def ground(seed: int, *, watermark: bool = False) -> NDArray[np.uint8]:
    """Draw the scene of a seed without its object, (96, 96, 3) uint8: what is left when it is taken away.

    >>> picture = scene(3)
    >>> bool((picture.image != ground(3))[picture.object_mask].any(axis=-1).mean() > 0.9)
    True
    """
    nowhere = np.full((SIZE, SIZE), float(SIZE))
    return _stamped(_painted(seed, nowhere), _WATERMARK_MASK & watermark)


def scenes(
    n: int, seed: int, *, label: int | None = None, watermark: float | Sequence[float] = 0.0
) -> tuple[Scene, ...]:
    """Draw n scenes, the classes in turn; watermark is the chance of the mark, for all or per class, 0 to 1.

    >>> [CLASSES[s.label] for s in scenes(3, seed=0, watermark=0.5)]
    ['disc', 'square', 'triangle']
    """
    seeds = np.random.SeedSequence(seed).generate_state(n, np.uint64)
    labels = [i % len(CLASSES) if label is None else label for i in range(n)]
    chances = np.broadcast_to(np.asarray(watermark, dtype=np.float64), (len(CLASSES),))[labels]
    marked = _stream(seed, 0).random(n) < chances
    return tuple(scene(int(s), label=c, watermark=bool(m)) for s, c, m in zip(seeds, labels, marked, strict=True))


def _known(label: int) -> int:
    if label not in range(len(CLASSES)):
        raise TargetError(f"No demo class {label!r}: give 0 ({CLASSES[0]}) to {len(CLASSES) - 1} ({CLASSES[-1]}).")
    return label


def _stream(seed: int, number: int) -> Generator:
    """Return one of a seed's independent streams, so that no draw can shift another."""
    return np.random.default_rng((seed, number))


# --- shapes: signed distance to the outline of a shape of outer radius 1, negative inside -----------------


def _disc(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 1.0


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - 0.77) - 0.23


def _cross(x: Floats, y: Floats) -> Floats:
    long, short = 0.93, 0.36
    across, along = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    return np.maximum(across - long, along - short)


def _polygon(points: int, inner: float) -> Shape:
    """Return the distance to a polygon of alternating radii 1 and inner; a regular one when inner = cos(pi/n)."""
    half = np.pi / points
    edge = np.array([inner * np.cos(half) - 1.0, inner * np.sin(half)])
    nx, ny = (float(part) for part in (edge[1], -edge[0]) / np.hypot(*edge))

    def distance(x: Floats, y: Floats) -> Floats:
        turn = np.abs((np.arctan2(y, x) + half) % (2 * half) - half)
        beyond, aside = np.hypot(x, y) * np.cos(turn) - 1.0, np.hypot(x, y) * np.sin(turn)
        # The line along an edge stays near for long beyond a sharp tip, which would smear it.
        return np.maximum(beyond * nx + aside * ny, beyond)

    return distance


_SHAPES: dict[str, Shape] = {
    "disc": _disc,
    "square": _polygon(4, np.cos(np.pi / 4)),
    "triangle": _polygon(3, np.cos(np.pi / 3)),
    "star": _polygon(5, 0.46),
    "cross": _cross,
    "ring": _ring,
}


def _grid() -> tuple[Floats, Floats]:
    """Return the coordinates x, y of the pixel centres, from the scene's centre."""
    line = np.arange(SIZE) - (SIZE - 1) / 2
    return np.broadcast_to(line, (SIZE, SIZE)), np.broadcast_to(line[:, None], (SIZE, SIZE))


def _turned(x: Floats, y: Floats, angle: float) -> tuple[Floats, Floats]:
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos + y * sin, y * cos - x * sin


def _unit_area(shape: Shape) -> float:
    line = np.linspace(-1, 1, 513)
    return float(4 * (shape(line[None, :], line[:, None]) <= 0).mean())


_GAP = 2  # pixels from the object to the border
_UNIT_AREA = {name: _unit_area(shape) for name, shape in _SHAPES.items()}


def _placed(rng: Generator, label: int) -> Floats:
    """Return each pixel's distance to the outline of the shape, placed at random, in pixels."""
    share, angle = rng.uniform(0.10, 0.20), rng.uniform(0, 2 * np.pi)
    radius = math.sqrt(share * SIZE**2 / _UNIT_AREA[CLASSES[label]])

    def distance(cx: float, cy: float) -> Floats:
        x, y = _grid()
        return _SHAPES[CLASSES[label]](*_turned((x - cx) / radius, (y - cy) / radius, angle)) * radius

    return distance(*_centre(rng, distance(0, 0) <= 0))


def _centre(rng: Generator, centred: NDArray[np.bool_]) -> tuple[float, float]:
    """Draw where to move a centred shape, so that it stays whole and off the place of the watermark."""
    rows, columns = np.flatnonzero(centred.any(axis=1)), np.flatnonzero(centred.any(axis=0))
    first, last = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]])
    # Drawn towards the ends of its room, for an object in the middle is found without any explanation.
    draws = rng.uniform(-1, 1, (64, 2))
    ends = (1 + np.sign(draws) * np.sqrt(np.abs(draws))) / 2
    moves = (_GAP - first) + ends * (SIZE - 1 - 2 * _GAP - last + first)
    clear = (moves + last + 1 < _WATERMARK_CORNER).any(axis=1)
    x, y = moves[int(np.argmax(clear))]
    return float(x), float(y)


# --- textures: values from 0 to 1 over the scene ----------------------------------------------------------


def _wave(phase: Floats, sharpness: float) -> Floats:
    return np.clip(0.5 + 0.5 * sharpness * np.sin(2 * np.pi * phase), 0, 1)


def _cloud(rng: Generator, cells: int) -> Floats:
    """Return smooth noise of about that many cells across, stretched to the range 0 to 1."""
    small = Image.fromarray(rng.random((cells + 2, cells + 2), dtype=np.float32))
    large: Floats = np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float64)
    low, high = float(large.min()), float(large.max())
    return (large - low) / (high - low)


def _stripes(rng: Generator, x: Floats, _y: Floats) -> Floats:
    return _wave(x / rng.uniform(7, 15) + rng.random(), rng.uniform(1, 5))


def _waves(rng: Generator, x: Floats, y: Floats) -> Floats:
    bend = rng.uniform(1.5, 3.5) * np.sin(2 * np.pi * y / rng.uniform(18, 32))
    return _wave((x + bend) / rng.uniform(8, 14), rng.uniform(1.5, 4))


def _checks(rng: Generator, x: Floats, y: Floats) -> Floats:
    period, shift, lift = rng.uniform(10, 18), rng.random(), rng.random()
    across = np.sin(2 * np.pi * (x / period + shift))
    return np.clip(0.5 + 3 * across * np.sin(2 * np.pi * (y / period + lift)), 0, 1)


def _dots(rng: Generator, x: Floats, y: Floats) -> Floats:
    period, size = rng.uniform(8, 13), rng.uniform(0.22, 0.34)
    row = np.round(y / period)
    column = x / period + 0.5 * (row % 2)
    away = np.hypot(column - np.round(column), y / period - row)
    return np.clip(0.5 + (size - away) * period / 1.5, 0, 1)


def _weave(rng: Generator, x: Floats, y: Floats) -> Floats:
    period, sharpness = rng.uniform(8, 16), rng.uniform(1, 3)
    return 0.5 * _wave(x / period, sharpness) + 0.5 * _wave(y / period, sharpness)


def _clouds(rng: Generator, _x: Floats, _y: Floats) -> Floats:
    return 0.6 * _cloud(rng, 4) + 0.3 * _cloud(rng, 9) + 0.1 * _cloud(rng, 24)


def _marble(rng: Generator, x: Floats, _y: Floats) -> Floats:
    return _wave(x / rng.uniform(12, 20) + 1.2 * _cloud(rng, 6), rng.uniform(0.8, 1.6))


def _speckles(rng: Generator, _x: Floats, _y: Floats) -> Floats:
    return np.clip(0.5 + 5 * (_cloud(rng, int(rng.integers(16, 26))) - 0.58), 0, 1)


def _gradient(rng: Generator, x: Floats, _y: Floats) -> Floats:
    return np.clip(0.5 + x / rng.uniform(60, 100) + 0.08 * (_cloud(rng, 30) - 0.5), 0, 1)


_TEXTURES: tuple[Texture, ...] = (
    _stripes,
    _waves,
    _checks,
    _dots,
    _weave,
    _clouds,
    _marble,
    _speckles,
    _gradient,
)


def _texture(rng: Generator) -> Floats:
    kind = int(rng.integers(len(_TEXTURES)))
    return _TEXTURES[kind](rng, *_turned(*_grid(), rng.uniform(0, 2 * np.pi)))


# --- colour and light -------------------------------------------------------------------------------------

_LMS_FROM_LAB = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_RGB_FROM_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def _rgb(lightness: float, chroma: float, hue: float) -> Floats:
    """Return the sRGB colour (3,), 0 to 1, of an OKLCh one, where equal steps look equal at every hue."""
    lab = np.array([lightness, chroma * np.cos(hue), chroma * np.sin(hue)])
    linear: Floats = np.clip(_RGB_FROM_LMS @ (_LMS_FROM_LAB @ lab) ** 3, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _surface(rng: Generator, lightness: float, chroma: float, hue: float) -> Floats:
    """Return a textured surface (96, 96, 3), 0 to 1, in two tones around one colour."""
    step, turn = rng.uniform(0.06, 0.10), rng.uniform(-0.5, 0.5)
    low = _rgb(lightness - step, chroma, hue - turn)
    high = _rgb(lightness + step, chroma, hue + turn)
    return low + _texture(rng)[..., None] * (high - low)


def _bevel(distance: Floats) -> Floats:
    """Return what light from the upper left adds near the outline; nothing outside, so the mask stays exact."""
    down, right = np.gradient(distance)
    rim = np.clip(1 + distance / 5, 0, 1) * (distance <= 0.5)
    return -0.12 * rim * (down + right)


def _light(rng: Generator) -> Floats:
    x, y = _grid()
    slope, _ = _turned(x, y, rng.uniform(0, 2 * np.pi))
    return 1.0 + 0.10 * slope / SIZE - 0.45 * (x**2 + y**2) / SIZE**2


def _painted(seed: int, distance: Floats) -> NDArray[np.uint8]:
    rng = _stream(seed, 2)
    hue, dark = rng.uniform(0, 2 * np.pi), rng.random() < 0.5
    levels = (rng.uniform(0.39, 0.50), rng.uniform(0.74, 0.85))
    opposite = hue + rng.uniform(0.6, 1.4) * np.pi
    ground = _surface(_stream(seed, 3), levels[not dark], rng.uniform(0.03, 0.10), hue)
    thing = _surface(_stream(seed, 4), levels[dark], rng.uniform(0.08, 0.16), opposite)
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    picture = ground + cover * (thing + _bevel(distance)[..., None] - ground)
    picture = picture * _light(rng)[..., None] + rng.normal(0, 0.009, (SIZE, SIZE, 1))
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


# --- watermark: the word STOCK on a pale plate in the lower right corner ----------------------------------

_LETTERS = (
    ".XX.XXX.XXX.XXX.X.X",
    "X....X..X.X.X...XX.",
    ".X...X..X.X.X...X..",
    "..X..X..X.X.X...XX.",
    "XX...X..XXX.XXX.X.X",
)
_MARGIN = 4


def _plate() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the pixels of the plate and of the letters on it, both (96, 96)."""
    letters = np.pad(np.array([[mark == "X" for mark in row] for row in _LETTERS]), 2)
    high, wide = letters.shape
    place = slice(SIZE - _MARGIN - high, SIZE - _MARGIN), slice(SIZE - _MARGIN - wide, SIZE - _MARGIN)
    plate, ink = np.zeros((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), bool)
    plate[place], ink[place] = True, letters
    return plate, ink


_WATERMARK_MASK, _WATERMARK_INK = _plate()
_WATERMARK_CORNER = np.argwhere(_WATERMARK_MASK)[0][::-1]


def _stamped(picture: NDArray[np.uint8], where: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the picture under a plate that lets a little of the ground through."""
    plate = np.where(_WATERMARK_INK, 40.0, 240.0)[..., None]
    return np.where(where[..., None], np.rint(0.9 * plate + 0.1 * picture), picture).astype(np.uint8)
