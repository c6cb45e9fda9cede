"""Contact sheets: a cluster's mean map and its images, each with its map over it and the strategy's place drawn."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sightline.batch.audit.check import in_pixels
from sightline.batch.audit.clusters import Box, Cluster
from sightline.batch.audit.results import Audit, Audited, Found
from sightline.batch.audit.words import place_text
from sightline.evaluation.report.page import undirected
from sightline.heatmap import resize_array
from sightline.render.layout import Block, beside, framed, padded, placed, scaled_into, stack
from sightline.render.overlay import heatmap_image, overlay
from sightline.render.palette import EMPTY, MUTED
from sightline.render.text import text_block

__all__ = ["examples_of", "mean_picture", "pair", "sheet"]

SHOWN = 12
_SIDE, _COLUMNS, _GAP = 150, 4, 12
_LINE = (230, 40, 40)


def sheet(audit: Audit, a: Audited, cluster: Cluster) -> Image.Image:
    """Draw one cluster: how large and separate it is, its mean map, and twelve images from typical to least so."""
    found = next((f for f in a.found if cluster.number in f.strategy.clusters), None)
    box = None if found is None else found.strategy.box
    cells = [_cell(audit, row, box) for row in examples_of(audit, cluster)]
    lines = [cells[n : n + _COLUMNS] for n in range(0, len(cells), _COLUMNS)]
    body = stack([beside(line, _GAP) for line in lines], _GAP)
    width = max(body.width, 2 * _SIDE * _COLUMNS + (_COLUMNS - 1) * _GAP)
    mean = placed(mean_picture(cluster, _SIDE), (_SIDE + 2, _SIDE + 2))
    words = _words(audit, a, cluster, found, width - mean.width - 2 * _GAP)
    foot = "Left the image, right what speaks for the class by its map; from the most typical image to the least."
    if box is not None:
        foot += " The red frame is the place that was covered."
    return padded(
        stack([beside([mean, words], 2 * _GAP), body, text_block(foot, width=width, size=12, colour=MUTED)], 18), 24
    )


def _words(audit: Audit, a: Audited, cluster: Cluster, found: Found | None, width: int) -> Image.Image:
    title = f"{a.group.label}: cluster {cluster.number} of {len(a.clusters)}, {len(cluster.rows)} images"
    blocks: list[Block] = [text_block(title, width=width, size=20, bold=True, most_lines=2)]
    blocks += [
        text_block(line, width=width, size=13, colour=MUTED, most_lines=5) for line in _lines(audit, cluster, found)
    ]
    return stack(blocks, 7)


def _lines(audit: Audit, cluster: Cluster, found: Found | None) -> list[str]:
    from sightline.batch.audit.words import kinds_text, told

    apart = "the only cluster" if np.isnan(cluster.separation) else f"separation {cluster.separation:.2f} (silhouette)"
    alike = f"single maps have {cluster.overlap:.0%} in common with the mean map"
    lines = [
        f"{audit.settings['method']} of {undirected(audit.settings['model'])} · {apart}",
        f"mass at the border {cluster.border:.0%} · {alike}, whose hottest place is {place_text(cluster.hot)}",
    ]
    if found is not None:
        said = "" if found.check is None else f" {told(found.check)}"
        lines.append(f"{kinds_text(found)}: {found.verdict}.{said}")
    return lines


def examples_of(audit: Audit, cluster: Cluster, most: int = SHOWN) -> list[int]:
    """Return rows from the one that is most like the mean map to the one that is least, evenly spaced."""
    mass = audit.maps.mass(cluster.rows)
    order = np.argsort(-np.minimum(mass, cluster.mean).sum((1, 2)), kind="stable")
    picked = np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))
    return [int(cluster.rows[order[p]]) for p in picked]


def _cell(audit: Audit, row: int, box: Box | None) -> Image.Image:
    name = audit.maps.images[row].rpartition("/")[2]
    caption = text_block(name, width=2 * _SIDE, size=11, colour=MUTED, most_lines=1)
    return stack([pair(audit, row, box, _SIDE), caption], 3)


def pair(audit: Audit, row: int, box: Box | None, side: int) -> Image.Image:
    """Return an image and its map over it, side by side; an empty field where it cannot be read."""
    pixels = audit.pictures.get(row)
    if pixels is None:
        field = Image.new("RGB", (2 * side, side), EMPTY)
        words = text_block("cannot be read any more", width=2 * side - 20, size=12, colour=MUTED, background=EMPTY)
        return placed(words, field.size, EMPTY) if words else field
    small = np.asarray(scaled_into(Image.fromarray(pixels), side, side))
    heat = resize_array(audit.maps.heat[row].astype(np.float32), small.shape[:2], "bilinear")
    over = overlay(small, heat, style="sequential")
    shown = [Image.fromarray(small), over]
    if box is not None:
        for picture in shown:
            _frame(picture, box)
    return beside([placed(p, (side, side), EMPTY) for p in shown])


def _frame(picture: Image.Image, box: Box) -> None:
    left, top, right, bottom = in_pixels(box, np.asarray(picture))
    edges = max(0, left - 2), max(0, top - 2), min(picture.width - 1, right + 1), min(picture.height - 1, bottom + 1)
    ImageDraw.Draw(picture).rectangle(edges, outline=_LINE, width=2)


def mean_picture(cluster: Cluster, side: int) -> Image.Image:
    """Return a cluster's mean map, framed."""
    heat = resize_array(cluster.mean.astype(np.float32), (side, side), "bilinear")
    return framed(heatmap_image(heat, style="sequential"))
