"""Pictures set beside, above and within one another; every block is an RGB image on the same paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PIL import Image

from sightline.render.palette import HAIRLINE, PAPER, RGB

__all__ = ["beside", "framed", "hairline", "padded", "placed", "scaled_into", "stack"]

Block = Image.Image | None


def stack(blocks: Iterable[Block], gap: int = 0) -> Image.Image:
    """Return the blocks one above the other, on the left edge; None is left out.

    >>> stack([hairline(10), None, hairline(20)], gap=3).size
    (20, 5)
    """
    present = [block for block in blocks if block]
    tops = _starts([block.height for block in present], gap)
    sheet = Image.new("RGB", (max((b.width for b in present), default=1), max(tops[-1] - gap, 1)), PAPER)
    for block, top in zip(present, tops, strict=False):
        sheet.paste(block, (0, top))
    return sheet


def beside(blocks: Iterable[Block], gap: int = 0) -> Image.Image:
    """Return the blocks side by side, on the top edge; None is left out.

    >>> beside([hairline(10), hairline(20)], gap=3).size
    (33, 1)
    """
    present = [block for block in blocks if block]
    lefts = _starts([block.width for block in present], gap)
    sheet = Image.new("RGB", (max(lefts[-1] - gap, 1), max((b.height for b in present), default=1)), PAPER)
    for block, left in zip(present, lefts, strict=False):
        sheet.paste(block, (left, 0))
    return sheet


def placed(block: Image.Image, size: tuple[int, int], background: RGB = PAPER) -> Image.Image:
    """Return the block in the middle of a sheet of ``size`` (width, height)."""
    sheet = Image.new("RGB", size, background)
    sheet.paste(block, ((size[0] - block.width) // 2, (size[1] - block.height) // 2))
    return sheet


def padded(block: Image.Image, margin: int) -> Image.Image:
    """Return the block with a margin on all sides."""
    return placed(block, (block.width + 2 * margin, block.height + 2 * margin))


def framed(block: Image.Image, colour: RGB = HAIRLINE) -> Image.Image:
    """Return the block with a line of one pixel around it."""
    frame = Image.new("RGB", (block.width + 2, block.height + 2), colour)
    frame.paste(block, (1, 1))
    return frame


def hairline(width: int, colour: RGB = HAIRLINE) -> Image.Image:
    """Return a horizontal line of one pixel."""
    return Image.new("RGB", (width, 1), colour)


def scaled_into(block: Image.Image, width: int, height: int) -> Image.Image:
    """Return the block as large as fits into ``width`` x ``height``, its aspect kept."""
    factor = min(width / block.width, height / block.height)
    size = (max(round(block.width * factor), 1), max(round(block.height * factor), 1))
    smooth = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
    return block if size == block.size else block.resize(size, smooth)


def _starts(lengths: Sequence[int], gap: int) -> list[int]:
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length + gap)
    return starts
