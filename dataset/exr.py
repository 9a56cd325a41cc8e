"""Float images as OpenEXR files: one part of scanlines, 32-bit channels, ZIP compression; writing only.

Source: "OpenEXR File Layout" of the Academy Software Foundation (magic number, attributes, offset table,
chunks) and the ZIP compressor of its library: bytes of even and odd numbers apart, then differences, then
zlib.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_MAGIC_AND_VERSION = struct.pack("<ii", 20000630, 2)
_FLOAT = 2
_ZIP = 3
_ZIP_LINES = 16


def encode_exr(channels: Mapping[str, NDArray[np.float32]]) -> bytes:
    """An OpenEXR file of channels ``[H, W]``, float32; ``Y`` is what programs show as grey, ``Z`` as depth.

    Raises:
        ValueError: If there is no channel, or one is not float32 or of another size.
    """
    shapes = {channel.shape for channel in channels.values()}
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 2 or 0 in shape:
        raise ValueError(f"exr: needs channels [H, W] of one size, got {sorted(shapes)}")
    if wrong := [name for name, channel in channels.items() if channel.dtype != np.float32]:
        raise ValueError(f"exr: channel {wrong[0]} must be float32, got {channels[wrong[0]].dtype}")
    height, width = shape
    names = sorted(channels)
    # Bytes of a line are those of its first channel, then of the next, by name.
    lines = np.stack([channels[name] for name in names], axis=1).astype("<f4", copy=False)
    window = struct.pack("<iiii", 0, 0, width - 1, height - 1)
    entries = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", _FLOAT, 0, 1, 1) for name in names)
    header = b"".join(
        name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
        for name, kind, value in (
            ("channels", "chlist", entries + b"\0"),
            ("compression", "compression", bytes([_ZIP])),
            ("dataWindow", "box2i", window),
            ("displayWindow", "box2i", window),
            ("lineOrder", "lineOrder", b"\0"),
            ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
            ("screenWindowCenter", "v2f", struct.pack("<ff", 0.0, 0.0)),
            ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
        )
    )
    chunks = []
    for top in range(0, height, _ZIP_LINES):
        data = _compressed(lines[top : top + _ZIP_LINES].tobytes())
        chunks.append(struct.pack("<ii", top, len(data)) + data)
    start = len(_MAGIC_AND_VERSION) + len(header) + 1 + 8 * len(chunks)
    offsets = start + np.cumsum([0, *(len(chunk) for chunk in chunks[:-1])])
    return b"".join([_MAGIC_AND_VERSION, header, b"\0", offsets.astype("<u8").tobytes(), *chunks])


def _compressed(raw: bytes) -> bytes:
    """As it is if that is not longer: a reader tells by the length."""
    flat = np.frombuffer(raw, np.uint8)
    apart = np.concatenate([flat[0::2], flat[1::2]])
    apart[1:] = apart[1:] - apart[:-1] + np.uint8(128)
    packed = zlib.compress(apart.tobytes(), 4)
    return packed if len(packed) < len(raw) else raw
