"""Draw docs/images/concepts.png: what the demo's two models make a star of, and what the cheating one depends on.

python tools/make_concepts_picture.py
"""

from __future__ import annotations

from pathlib import Path

import sightline
from sightline.demo.scenes import STAR, ground, scene, scenes
from sightline.render.layout import beside, stack

FILE = Path(__file__).resolve().parent.parent / "docs" / "images" / "concepts.png"


def sheets():
    stars = [s.image for s in scenes(30, 5, label=STAR, watermark=1.0)]
    return [
        sightline.concepts(f"demo/{name}", stars, target="star", count=3, examples=6).render()
        for name in ("honest", "cheating")
    ]


def charts():
    stars = [s.image for s in scenes(30, 5, label=STAR, watermark=1.0)]
    sets = {
        "watermark": [ground(1000 + n, watermark=True) for n in range(30)],
        "star shapes": [scene(3000 + n, label=STAR).image for n in range(30)],
        "plain grounds": [ground(5000 + n) for n in range(30)],
    }
    others = [ground(2000 + n) for n in range(60)]
    return [
        sightline.tcav(f"demo/{name}", stars, sets, target="star", random=others).render()
        for name in ("honest", "cheating")
    ]


if __name__ == "__main__":
    rows = [beside(pair) for pair in zip(sheets(), charts(), strict=True)]
    stack(rows).quantize(256).save(FILE, optimize=True)
