"""Our disparity, K, focus and colour in the conventions of each published system, and back: pure functions.

All systems draw a radius ``r = K |d - d_f|`` in pixels of the image they process, with d larger where nearer.
They differ in a divisor on K, in the curve around the blur, and in what they do to disparity behind the
caller's back: the command lines of BokehMe and Dr.Bokeh, BokehDiff's loader and DeepLens's depth head spread
every image's disparity over [0, 1], which changes K and focus from frame to frame. Requests enter behind
those steps. A ``prepare_`` takes one clip's frames and the options of the system; `SystemRequest.size` is
the size that comes back, which a ``restore_`` turns into our images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.color import linear_to_srgb, srgb_to_linear, to_uint8
from focuspull.model.adapters.record import SystemInput, SystemRequest

GAMMA = 2.2
"""Of the power curve that BokehMe, MPIB and Dr.Bokeh undo before the blur."""
BOKEHME_UNIT_PX = 10.0
"""Radius that the networks of BokehMe and BokehDiff know as 1."""
MPIB_MAX_RADIUS_PX = 200
"""MPIB has one kernel per whole radius, up to this one."""
DEEPLENS_KERNEL_PX = 8.0
"""Radius, at DeepLens's base scale, of a signed depth of 1."""
DEEPLENS_MAX_SIDE = 1280
MATTE_FROM_PX = 0.5
"""Blur from which what is in front of the focus belongs to Dr.Bokeh's foreground."""
OFFICIAL_SIZE = (576, 1024)
"""Height and width of everything that goes through Any-to-Bokeh."""
_OFFICIAL = "any_to_bokeh_official"
OFFICIAL_MIN_FRAMES = 13
"""Its group logic fails below."""


def power_encoded(srgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Display values ``[...]`` in [0, 1] of the same light under a power of 1 / 2.2."""
    return (srgb_to_linear(srgb) ** (1 / GAMMA)).astype(np.float32)


def restore_power(output: NDArray[np.float32], frames: SystemInput) -> NDArray[np.float32]:
    """Inverse of `power_encoded`."""
    return linear_to_srgb(output.astype(np.float64) ** GAMMA).clip(0, 1).astype(np.float32)


def restore_unchanged(output: NDArray[np.float32], frames: SystemInput) -> NDArray[np.float32]:
    """The output of a system that takes and gives display values."""
    return output


# BokehMe


def prepare_bokehme(frames: SystemInput, options: Mapping[str, Any]) -> SystemRequest:
    """Signed defocus ``K (d - d_f) / 10``, which its demo derives from a min-maxed image."""
    signed = _signed_px(frames) / BOKEHME_UNIT_PX
    arrays = {"image": power_encoded(frames.aif), "defocus": signed.astype(np.float32)}
    return SystemRequest(arrays, _size(frames), {"gamma": GAMMA})


# MPIB


def prepare_mpib(frames: SystemInput, options: Mapping[str, Any]) -> SystemRequest:
    """Disparity as it is, since its 32 planes divide [0, 1] and not what one image spans; floating point.

    Raises:
        ValueError: If disparity leaves [0, 1], or a plane would be blurred by more than it has kernels for.
    """
    _check_unit(frames, "mpib")
    radius = _reach_px(frames)
    if round(radius) > MPIB_MAX_RADIUS_PX:
        raise ValueError(
            f"mpib: blurs by {MPIB_MAX_RADIUS_PX} px at most, K and focus would make {radius:.0f}. "
            "Use a smaller K or smaller frames."
        )
    arrays = {"image": power_encoded(frames.aif), "disparity": frames.disparity}
    values = {
        "k": float(frames.k[0]),
        "focus_disparity": float(frames.focus_disparity[0]),
        "gamma": GAMMA,
        "increase_focus_range": options["increase_focus_range"],
    }
    return SystemRequest(arrays, _size(frames), values)


# Dr.Bokeh


def prepare_drbokeh(frames: SystemInput, options: Mapping[str, Any]) -> SystemRequest:
    """Disparity as it is, with a matte of what is nearer than the focus, and the kernel that K needs.

    The kernel has ``2 (K_max + 1) + 3`` pixels, odd, where K_max is the largest radius that any disparity in
    [0, 1] has with this K and focus, so that it does not depend on what the frame shows.

    Raises:
        ValueError: If disparity leaves [0, 1], for which the constants of its occlusion are meant.
    """
    _check_unit(frames, "drbokeh")
    k, focus = float(frames.k[0]), float(frames.focus_disparity[0])
    arrays = {
        "image": power_encoded(frames.aif),
        "disparity": frames.disparity,
        "alpha": (_signed_px(frames) > MATTE_FROM_PX).astype(np.float32),
    }
    values = {
        "k": k,
        "focus_disparity": focus,
        "gamma": GAMMA,
        "lens": 2 * (math.ceil(_reach_px(frames)) + 1) + 3,
    }
    return SystemRequest(arrays, _size(frames), values)


# BokehDiff


def prepare_bokehdiff(frames: SystemInput, options: Mapping[str, Any]) -> SystemRequest:
    """Disparity with 1 nearest, as in its training, and ``|d - d_f| K / 10``; sides become multiples of 8.

    Its loader spreads disparity over [0, 1] twice and clips it; its script renders three other focus
    distances. Both are left out. Frames are extended by their last rows and columns where it would stretch
    them, which would change the radius.
    """
    height, width = _size(frames)
    filled = ((0, 0), (0, -height % 8), (0, -width % 8))
    defocus = np.abs(_signed_px(frames)) / BOKEHME_UNIT_PX
    arrays = {
        "image": np.pad(frames.aif, (*filled, (0, 0)), mode="edge") * 2 - 1,
        "disparity": np.pad(frames.disparity, filled, mode="edge"),
        "defocus": np.pad(defocus, filled, mode="edge").astype(np.float32),
    }
    return SystemRequest(arrays, (height + -height % 8, width + -width % 8))


def restore_bokehdiff(output: NDArray[np.float32], frames: SystemInput) -> NDArray[np.float32]:
    """Without the rows and columns that `prepare_bokehdiff` added."""
    height, width = _size(frames)
    return output[:, :height, :width]


# DeepLens


def deeplens_scale(height: int, width: int) -> int:
    """How many times smaller its base scale is than the frame: 1, 2 or 4."""
    longest = max(height, width)
    return 1 if longest < 640 else 2 if longest < DEEPLENS_MAX_SIDE else 4


def prepare_deeplens(frames: SystemInput, options: Mapping[str, Any]) -> SystemRequest:
    """The tensor behind its depth network, ``(d - d_f) a`` at the base scale, with ``a = K / (8 scale)``.

    Frames with a side above 1280 are made smaller first, and K with them. Its own demo keeps a in [0, 1];
    nothing is clipped here.
    """
    height, width = _size(frames)
    shrink = min(1.0, DEEPLENS_MAX_SIDE / max(height, width))
    height, width = round(height * shrink), round(width * shrink)
    scale = deeplens_scale(height, width)
    aperture = shrink * frames.k / (DEEPLENS_KERNEL_PX * scale)
    signed = (frames.disparity - frames.focus_disparity[:, None, None]) * aperture[:, None, None]
    # Channels are blue, green, red. The pyramid is named after its authors' sizes: 320 is the base.
    image = _shrunk(frames.aif[0, ..., ::-1], height, width)
    pyramid = {"image_320": image}
    if scale >= 2:
        half = _shrunk(image, height // 2, width // 2)
        pyramid = {"image_640": image, "image_320": half}
    if scale == 4:
        quarter = _shrunk(pyramid["image_320"], height // 4, width // 4)
        pyramid = {"image_1280": image, "image_640": pyramid["image_320"], "image_320": quarter}
    base = pyramid["image_320"].shape
    arrays = {**pyramid, "depth_320_signed": _shrunk(signed[0].astype(np.float32), base[0], base[1])}
    return SystemRequest(arrays, (height, width), {"scale": scale})


def restore_deeplens(output: NDArray[np.float32], frames: SystemInput) -> NDArray[np.float32]:
    """Red, green, blue; in the size of the frame."""
    height, width = _size(frames)
    result = np.ascontiguousarray(output[0, ..., ::-1])
    if result.shape[:2] != (height, width):
        result = cv2.resize(result, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(result, 0, 1, dtype=np.float32)[None]


# Any-to-Bokeh, its authors' code


def prepare_official(frames: SystemInput, options: Mapping[str, Any]) -> SystemRequest:
    """8-bit images, 8-bit disparity without min-max, and file names that carry focus and K at 1024 px.

    Raises:
        ValueError: If there are fewer than 13 frames, the frame is not 16:9, disparity or focus leave [0, 1],
            or K at 1024 px is no whole number and the option ``round_k`` is off: training saw whole numbers
            only, and the embedding of 16.1 has little to do with that of 16.
    """
    _check_unit(frames, _OFFICIAL)
    height, width = _size(frames)
    num_frames = len(frames.k)
    if num_frames < OFFICIAL_MIN_FRAMES:
        raise ValueError(
            f"{_OFFICIAL}: takes {OFFICIAL_MIN_FRAMES} frames or more, got {num_frames}. Use longer clips."
        )
    if abs(width / height * OFFICIAL_SIZE[0] / OFFICIAL_SIZE[1] - 1) > 0.01:
        raise ValueError(
            f"{_OFFICIAL}: takes frames of 16:9 and stretches others, got {width}x{height}. Crop them."
        )
    focus = frames.focus_disparity
    if focus.min() < 0 or focus.max() > 1:
        raise ValueError(
            f"{_OFFICIAL}: takes focus disparities in [0, 1], got [{focus.min():g}, {focus.max():g}]. "
            "Focus on something in the scene."
        )
    at_1024 = frames.k * OFFICIAL_SIZE[1] / width
    whole = np.round(at_1024)
    if not options["round_k"] and np.abs(at_1024 - whole).max() > 1e-3:
        bad = float(at_1024[np.abs(at_1024 - whole).argmax()])
        raise ValueError(
            f"{_OFFICIAL}: takes whole numbers as K at 1024 px, got {bad:g}. "
            "Set its option round_k to round them."
        )
    image = np.stack([to_uint8(_fitted(frame).clip(0, 1)) for frame in frames.aif])
    # A single 8-bit value must not become a third one between two surfaces: disparity is not interpolated.
    disparity = np.stack([to_uint8(_fitted(frame, cv2.INTER_NEAREST)) for frame in frames.disparity])
    names = [f"{i}_zf_{focus[i]:.5f}_k_{int(whole[i])}" for i in range(num_frames)]
    return SystemRequest({"image": image, "disparity": disparity}, OFFICIAL_SIZE, {"names": names})


def restore_official(output: NDArray[np.float32], frames: SystemInput) -> NDArray[np.float32]:
    """In the size of the frames."""
    height, width = _size(frames)
    if output.shape[1:3] == (height, width):
        return output
    way = cv2.INTER_AREA if width < output.shape[2] else cv2.INTER_CUBIC
    resized = [cv2.resize(frame, (width, height), interpolation=way) for frame in output]
    return np.clip(np.stack(resized), 0, 1, dtype=np.float32)


# Common to several


def _size(frames: SystemInput) -> tuple[int, int]:
    return int(frames.aif.shape[1]), int(frames.aif.shape[2])


def _signed_px(frames: SystemInput) -> NDArray[np.float64]:
    """``K (d - d_f)``, ``[T, H, W]``."""
    offset = frames.disparity.astype(np.float64) - frames.focus_disparity[:, None, None]
    return frames.k[:, None, None] * offset


def _reach_px(frames: SystemInput) -> float:
    """The largest radius that a disparity in [0, 1] can have, whatever the frames show."""
    focus = frames.focus_disparity
    return float((frames.k * np.maximum(np.abs(focus), np.abs(1 - focus))).max())


def _check_unit(frames: SystemInput, name: str) -> None:
    low, high = float(frames.disparity.min()), float(frames.disparity.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"{name}: takes disparity in [0, 1], got [{low:g}, {high:g}]. "
            "Scale it, and K with it, once per clip."
        )


def _shrunk(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """By area, as DeepLens does it."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_AREA).astype(
        np.float32
    )


def _fitted(image: NDArray[np.float32], way: int | None = None) -> NDArray[np.float32]:
    """In Any-to-Bokeh's size."""
    height, width = OFFICIAL_SIZE
    if image.shape[:2] == OFFICIAL_SIZE:
        return image
    if way is None:
        way = cv2.INTER_AREA if image.shape[1] > width else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=way).astype(np.float32)
