"""Pictures of a corpus for human eyes: a contact sheet and a side-by-side video.

Both show stored pixels, only resized: what looks wrong here is wrong in the corpus. Disparity is drawn in
OpenCV's TURBO map, red near and blue far; the difference is ``|AIF - bokeh0|`` in display values, the
largest of the three channels, amplified.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from focuspull.dataset.clip import DecodedClip, TargetMeta
from focuspull.dataset.excerpt import clip_rows, load_frames, row_marker, spread
from focuspull.dataset.files import write_atomic

ItemT = TypeVar("ItemT")

DIFFERENCE_GAIN = 2
_BACKGROUND = (18, 18, 20)
_TEXT = (232, 232, 234)
_MUTED = (150, 150, 156)
_MARGIN = 24
_GAP = 8
_VIDEO_TICKS_HZ = 90_000
_BT709 = 1
"""Matrix, primaries and transfer of BT.709 in H.264 (ITU-T H.273); all three happen to have this number."""


@dataclass(frozen=True)
class _Tile:
    """One picture of a row: title of its column, caption, display image ``[H, W, 3]`` uint8."""

    title: str
    caption: str
    image: NDArray[np.uint8]


def write_contact_sheet(
    corpus: Path, out_png: Path, *, max_clips: int = 8, frames: int = 3, tile_width: int = 320
) -> None:
    """Draw some clips: AIF, every bokeh target, disparity and difference, a row per frame.

    Args:
        corpus: Folder of the corpus.
        out_png: The picture, written atomically.
        max_clips: Clips shown at most, spread evenly over the corpus.
        frames: Frames shown per clip at most, from first to last.
        tile_width: Width of one picture, pixels.

    Raises:
        UserError: If the corpus cannot be read, or the picture cannot be written.
    """
    blocks = []
    for row in spread(clip_rows(corpus), max_clips):
        wanted = spread(range(row["num_frames"]), frames)
        clip = load_frames(corpus, row_marker(corpus, row), row, wanted)
        tiles = [[*_tiles(clip, i, frame), _difference(clip, i)] for i, frame in enumerate(wanted)]
        blocks.append(_block(row, tiles, tile_width))
    sheet = Image.new(
        "RGB", (max(block.width for block in blocks), sum(block.height for block in blocks)), _BACKGROUND
    )
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    write_atomic(out_png, lambda file: sheet.save(file, format="PNG"))


def write_side_by_side(corpus: Path, out_mp4: Path, *, max_clips: int = 8, tile_width: int = 480) -> None:
    """Play some clips one after another: AIF, every bokeh target and disparity side by side.

    H.264, yuv420p, BT.709, at each clip's own frame rate.

    Args:
        corpus: Folder of the corpus.
        out_mp4: The video, written atomically.
        max_clips: Clips shown at most, spread evenly over the corpus.
        tile_width: Width of one picture, pixels.

    Raises:
        UserError: If the corpus cannot be read, or the video cannot be written.
    """
    rows = spread(clip_rows(corpus), max_clips)
    # All clips share one canvas that fits the widest and the tallest block; yuv420p needs even sizes.
    sizes = [
        _block_size(row["num_targets"] + 2, 1, _tile_height(row, tile_width), tile_width) for row in rows
    ]
    width, height = (2 * -(-max(side) // 2) for side in zip(*sizes, strict=True))

    def write(file: BinaryIO) -> None:
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", options={"crf": "16", "preset": "medium"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            codec = stream.codec_context
            codec.time_base = Fraction(1, _VIDEO_TICKS_HZ)
            codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
            codec.color_range = ColorRange.MPEG
            for ticks, canvas in _video_frames(corpus, rows, tile_width, (width, height)):
                frame = av.VideoFrame.from_ndarray(np.asarray(canvas), format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
                frame.pts, frame.time_base = ticks, Fraction(1, _VIDEO_TICKS_HZ)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())

    write_atomic(out_mp4, write)


def _video_frames(
    corpus: Path, rows: Sequence[dict[str, Any]], tile_width: int, size: tuple[int, int]
) -> Iterator[tuple[int, Image.Image]]:
    """Time stamp and canvas of every frame of the video; one decoded frame at a time."""
    start_s = Fraction(0)
    for row in rows:
        marker = row_marker(corpus, row)
        for frame in range(row["num_frames"]):
            clip = load_frames(corpus, marker, row, [frame])
            canvas = Image.new("RGB", size, _BACKGROUND)
            canvas.paste(_block(row, [_tiles(clip, 0, frame)], tile_width), (0, 0))
            yield round(start_s * _VIDEO_TICKS_HZ), canvas
            start_s += 1 / Fraction(row["fps"]).limit_denominator(1001)


def _tiles(clip: DecodedClip, position: int, frame: int) -> list[_Tile]:
    """The stored streams of one frame: number ``frame``, at ``position`` in the decoded arrays."""
    return [
        _Tile("all in focus", f"frame {frame}", clip.aif[position]),
        *(
            _Tile(target.name, _target_caption(target, frame), images[position])
            for target, images in zip(clip.meta.targets, clip.bokeh, strict=True)
        ),
        _Tile("disparity", "near red, far blue", _disparity_colours(clip.disparity[position])),
    ]


def _target_caption(target: TargetMeta, frame: int) -> str:
    distance = target.focus_distance_m[frame]
    distance_text = "infinity" if distance is None else f"{distance:.3g} m"
    return (
        f"K {target.k_at_1024[frame]:.1f} at 1024 ({target.k[frame]:.1f} px)   "
        f"d_f {target.focus_disparity[frame]:.2f} ({distance_text})"
    )


def _disparity_colours(disparity: NDArray[np.float32]) -> NDArray[np.uint8]:
    grey = np.round(disparity * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO), np.uint8)[..., ::-1]


def _difference(clip: DecodedClip, position: int) -> _Tile:
    difference = cv2.absdiff(clip.aif[position], clip.bokeh[0][position]).max(axis=-1, keepdims=True)
    grey = np.minimum(difference.astype(np.int32) * DIFFERENCE_GAIN, 255).astype(np.uint8)
    caption = f"largest channel, times {DIFFERENCE_GAIN}"
    return _Tile("|all in focus - bokeh0|", caption, np.repeat(grey, 3, axis=-1))


def _block(row: dict[str, Any], tile_rows: Sequence[Sequence[_Tile]], tile_width: int) -> Image.Image:
    """One clip: a heading, the titles of the columns, and a row of captioned pictures per frame."""
    tile_height = _tile_height(row, tile_width)
    size = _block_size(len(tile_rows[0]), len(tile_rows), tile_height, tile_width)
    block = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(block)
    line = _line_height(tile_width)
    heading, text = _font(round(0.95 * line)), _font(round(0.72 * line))

    draw.text((_MARGIN, _MARGIN), row["key"], _TEXT, heading)
    key_width = heading.getlength(row["key"])
    draw.text((_MARGIN + key_width + 2 * line, _MARGIN + 0.2 * line), _clip_facts(row), _MUTED, text)
    for column, tile in enumerate(tile_rows[0]):
        left = _MARGIN + column * (tile_width + _GAP)
        draw.text((left, _MARGIN + 1.8 * line), tile.title, _TEXT, text)
    top = _MARGIN + 3 * line
    for tiles in tile_rows:
        for column, tile in enumerate(tiles):
            left = _MARGIN + column * (tile_width + _GAP)
            block.paste(Image.fromarray(_resize(tile.image, tile_width, tile_height)), (left, top))
            draw.text((left, top + tile_height + 0.2 * line), tile.caption, _MUTED, text)
        top += tile_height + 2 * line
    return block


def _block_size(num_columns: int, num_rows: int, tile_height: int, tile_width: int) -> tuple[int, int]:
    """Width and height of `_block`: margins, three lines of heading, two lines around each row's captions."""
    line = _line_height(tile_width)
    width = 2 * _MARGIN + num_columns * (tile_width + _GAP) - _GAP
    return width, _MARGIN + 3 * line + num_rows * (tile_height + 2 * line)


def _clip_facts(row: dict[str, Any]) -> str:
    far = "infinity" if row["z_far_m"] is None else f"{row['z_far_m']:.3g} m"
    return (
        f"{row['split']}  ·  {row['width']} x {row['height']}  ·  "
        f"{row['num_frames']} frames at {row['fps']:g} Hz  ·  "
        f"depth {row['z_near_m']:.3g} m to {far}  ·  {row['backend']} {row['backend_version']}"
    )


def _resize(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    shrinks = width < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def _tile_height(row: dict[str, Any], tile_width: int) -> int:
    return round(tile_width * row["height"] / row["width"])


def _line_height(tile_width: int) -> int:
    """Text grows with the pictures, so that a caption always fits under its picture."""
    return max(8, tile_width // 18)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font
