"""Contact sheets: captioned pictures in rows under a heading, dark, with text that fits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

BACKGROUND, EMPTY = (16, 17, 20), (34, 35, 40)
TEXT, MUTED, ACCENT = (236, 236, 238), (150, 151, 158), (240, 178, 92)
MARGIN, GAP = 24, 8
HEADING_PX, TEXT_PX, SMALL_PX = 26, 15, 13


@dataclass(frozen=True)
class Tile:
    """A picture ``[H, W, 3]`` uint8 (None: there is none) and a line below it."""

    image: NDArray[np.uint8] | None
    caption: str = ""


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own letters."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return found


def fitting(text: str, size: int, width: float) -> str:
    """A text cut to a width in pixels, with an ellipsis if it was too long."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def scaled(image: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    """An image at another size."""
    method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return Image.fromarray(np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8))


def sheet(
    heading: str, facts: str, titles: Sequence[str], rows: Sequence[Sequence[Tile]], tile: tuple[int, int]
) -> Image.Image:
    """Rows of pictures under the titles of their columns.

    Args:
        heading: Large, top left.
        facts: Small, beside it.
        titles: One per column.
        rows: As many tiles in each as there are titles.
        tile: Width and height of a picture.
    """
    width, height = tile
    top = MARGIN + HEADING_PX + 20 + TEXT_PX + 10
    pitch = height + SMALL_PX + 18
    size = (2 * MARGIN + len(titles) * (width + GAP) - GAP, top + len(rows) * pitch + MARGIN - 10)
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN - 6), heading, TEXT, font(HEADING_PX))
    left = MARGIN + font(HEADING_PX).getlength(heading) + 18
    text = fitting(facts, TEXT_PX, size[0] - MARGIN - left)
    draw.text((left, MARGIN - 6 + HEADING_PX - TEXT_PX), text, MUTED, font(TEXT_PX))
    for column, title in enumerate(titles):
        left = MARGIN + column * (width + GAP)
        draw.text((left, top - TEXT_PX - 9), fitting(title, TEXT_PX, width), ACCENT, font(TEXT_PX))
        for row, tiles in enumerate(rows):
            _put(canvas, tiles[column], (left, top + row * pitch), tile)
    return canvas


def overview(
    blocks: Sequence[tuple[str, Sequence[Tile]]], columns: int, tile: tuple[int, int]
) -> Image.Image:
    """All families on one page: a name over a few lines of pictures without words.

    Args:
        blocks: Name and pictures of each.
        columns: Pictures in a line.
        tile: Width and height of a picture.
    """
    width, height = tile
    gap, name_px = 4, 30
    lines = [-(-len(tiles) // columns) for _, tiles in blocks]
    size = (columns * (width + gap) + gap, sum(name_px + n * (height + gap) for n in lines) + gap)
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    top = 0
    for (name, tiles), count in zip(blocks, lines, strict=True):
        draw.text((gap + 2, top + 7), name, TEXT, font(17))
        top += name_px
        for i, one in enumerate(tiles):
            place = (gap + i % columns * (width + gap), top + i // columns * (height + gap))
            _put(canvas, Tile(one.image), place, tile)
        top += count * (height + gap)
    return canvas


def jpeg(image: Image.Image, max_bytes: int) -> bytes:
    """An image as JPEG, as good as fits into a number of bytes.

    Raises:
        ValueError: If it does not fit at any quality worth looking at.
    """
    for quality in range(92, 38, -4):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
        if buffer.tell() <= max_bytes:
            return buffer.getvalue()
    raise ValueError(f"{image.width}x{image.height} px do not fit into {max_bytes} bytes; take smaller tiles")


def _put(canvas: Image.Image, tile: Tile, place: tuple[int, int], size: tuple[int, int]) -> None:
    left, top = place
    width, height = size
    draw = ImageDraw.Draw(canvas)
    if tile.image is None:
        draw.rectangle((left, top, left + width - 1, top + height - 1), EMPTY)
    else:
        canvas.paste(scaled(tile.image, width, height), place)
    if tile.caption:
        text = fitting(tile.caption, SMALL_PX, width)
        draw.text((left, top + height + 4), text, MUTED, font(SMALL_PX))
