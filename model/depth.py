"""Disparity of a whole clip: from files, from a video, or predicted by a depth network.

One map from what was stored or predicted to [0, 1] holds for the whole clip and is known only after the
first pass over it, so every source can be read twice. Nothing is ever normalised per frame, which would
make the blur flicker. Predictions are kept in a temporary file between the passes (4 bytes per pixel of the
network's output), so that memory does not grow with the length of a clip.

| source                              | values                                                   |
|-------------------------------------|----------------------------------------------------------|
| PNG or TIFF of 8 or 16 bits, videos | black is 0, white is 1                                   |
| .npy, .npz, .exr, float TIFF        | as they are if all are in [0, 1], else least 0, greatest 1 |
| depth network                       | least of the clip 0, greatest 1                          |

Near is large everywhere: metric depth from a network that predicts it is inverted, a file of depths is not.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

import cv2
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.model.video import numbered_files, open_video, read_image

if TYPE_CHECKING:
    import torch

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".exr", ".npy", ".npz")
"""Of files with one frame of disparity each."""
_ARRAY_SUFFIXES = (".npy", ".npz")
_NPZ_NAMES = ("disparity", "depths", "depth", "arr_0")
"""Arrays of an .npz with several that are taken; ``depths`` is what Video-Depth-Anything writes."""
_METRIC_TYPES = ("zoedepth", "depth_pro")
_LEAST_DEPTH_M = 1e-3

# OpenCV reads OpenEXR only where this is set.
os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")


class DisparitySource(Protocol):
    """Disparity as stored, frame by frame.

    Attributes:
        path: What to call it in messages.
        is_unit: Whether its values are in [0, 1] by what they are stored as.
    """

    path: Path
    is_unit: bool

    def frames(self) -> Iterator[NDArray[np.float32]]:
        """``[H, W]`` each, from the first frame on; may be called again.

        Raises:
            UserError: If a frame cannot be read.
        """
        ...


@dataclass(frozen=True)
class DisparityRange:
    """What becomes 0 and what becomes 1.

    Args:
        low: Of the farthest.
        high: Of the nearest.
    """

    low: float = 0.0
    high: float = 1.0

    def unit(self, disparity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map to [0, 1]; what is outside is clipped."""
        if (self.low, self.high) == (0.0, 1.0):
            return np.clip(disparity, 0, 1)
        mapped = (disparity - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.clip(mapped, 0, 1)


class RangeScan:
    """Collects the least and the greatest disparity of a clip, and refuses what is not finite."""

    def __init__(self, source: DisparitySource) -> None:
        self._source = source
        self.low, self.high = np.inf, -np.inf

    def add(self, disparity: NDArray[np.float32], number: int) -> None:
        """Take in one frame.

        Raises:
            UserError: If a pixel is not finite.
        """
        low, high = float(disparity.min()), float(disparity.max())
        if not np.isfinite(low + high):
            num_bad = disparity.size - int(np.count_nonzero(np.isfinite(disparity)))
            raise UserError(
                f"{self._source.path}: frame {number} has {num_bad} pixels that are not finite. "
                "Fill them first."
            )
        self.low, self.high = min(self.low, low), max(self.high, high)

    def result(self) -> DisparityRange:
        """The map of the whole clip.

        Raises:
            UserError: If everything is equally far, in a source without a scale of its own.
        """
        if self._source.is_unit or (
            self.low >= 0 and self.high <= 1 and not isinstance(self._source, Predicted)
        ):
            return DisparityRange()
        if self.low == self.high:
            raise UserError(
                f"{self._source.path}: is {self.low:g} everywhere, so nothing is nearer than the rest."
            )
        return DisparityRange(self.low, self.high)


def open_disparity(path: Path) -> DisparitySource:
    """A file or folder of disparity.

    Args:
        path: A folder of `IMAGE_SUFFIXES`, one file per frame; one such file; an .npy or .npz of
            ``[T, H, W]``; or a grey video.

    Raises:
        UserError: If there is nothing to read.
    """
    if not path.exists():
        raise UserError(f"{path}: is not there.")
    if not path.is_dir():
        if path.suffix.lower() in _ARRAY_SUFFIXES:
            return _Array(path)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return _Images(path, [path])
        return _GreyVideo(path)
    files = numbered_files(path, IMAGE_SUFFIXES)
    if not files:
        raise UserError(f"{path}: has no disparity ({', '.join(IMAGE_SUFFIXES)}).")
    if len(suffixes := sorted({file.suffix.lower() for file in files})) > 1:
        raise UserError(f"{path}: mixes {' and '.join(suffixes)}. Keep one kind of file in it.")
    return _Images(path, files)


class _Images:
    """One file per frame."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path = path
        self._files = files
        first = _read(files[0])
        self._dtype = first.dtype
        self.is_unit = np.issubdtype(first.dtype, np.integer)

    def frames(self) -> Iterator[NDArray[np.float32]]:
        for file in self._files:
            image = _read(file)
            if image.dtype != self._dtype:
                raise UserError(f"{file}: is {image.dtype}, the first frame is {self._dtype}.")
            if self.is_unit:
                yield image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
            else:
                yield image.astype(np.float32)


def _read(path: Path) -> NDArray[Any]:
    """One frame ``[H, W]`` of uint8, uint16 or floating point."""
    if path.suffix.lower() in _ARRAY_SUFFIXES:
        frames = list(_array_frames(path))
        if len(frames) != 1:
            raise UserError(
                f"{path}: in a folder each file has one frame [H, W], this one has {len(frames)}."
            )
        return frames[0]
    if path.suffix.lower() == ".exr":
        _require_readable_exr(path)
    image = read_image(path, cv2.IMREAD_UNCHANGED)
    if image.ndim == 3:
        color = image[..., :3]
        if color.shape[-1] == 3 and not (np.ptp(color, axis=-1) == 0).all():
            raise UserError(f"{path}: is coloured; it must be grey. Export it without a colour map.")
        image = color[..., 0]
    if image.dtype.name not in ("uint8", "uint16", "float32", "float64"):
        raise UserError(f"{path}: must be of 8, 16 or floating-point bits, got {image.dtype}.")
    return image


def _require_readable_exr(path: Path) -> None:
    """Refuse a file of which OpenCV would make zeros without a word.

    Source: "OpenEXR File Layout": magic, version, attributes of name, type, size and value.
    """
    with path.open("rb") as file:
        head = file.read(1 << 16)
    try:
        at = 8
        names: list[str] = []
        while head[at] != 0 and not names:
            name, kind, rest = head[at:].split(b"\0", 2)
            at += len(name) + len(kind) + 2
            (size,) = struct.unpack_from("<i", head, at)
            if name == b"channels":
                value = head[at + 4 : at + 4 + size]
                while value and value[0] != 0:
                    channel, value = value.split(b"\0", 1)
                    names.append(channel.decode("latin-1"))
                    value = value[16:]
            at += 4 + size
            del rest
    except (IndexError, ValueError, struct.error):
        raise UserError(f"{path}: cannot be decoded as OpenEXR.") from None
    if "Y" not in names and not {"R", "G", "B"} <= set(names):
        raise UserError(f"{path}: needs a channel Y, or R, G and B; has {', '.join(names) or 'none'}.")


class _Array:
    """``[T, H, W]`` in one file, read frame by frame."""

    is_unit = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def frames(self) -> Iterator[NDArray[np.float32]]:
        for frame in _array_frames(self.path):
            yield frame.astype(np.float32)


def _array_frames(path: Path) -> Iterator[NDArray[Any]]:
    """Frames ``[H, W]``, floating point, of an .npy or .npz file; never more than one in memory.

    Raises:
        UserError: If it is none, or its array has another shape or type.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                yield from _npy_frames(path, file)
            return
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            chosen = (
                names[0] if len(names) == 1 else next((name for name in _NPZ_NAMES if name in names), None)
            )
            if chosen is None:
                raise UserError(
                    f"{path}: needs one array, or one called {' or '.join(_NPZ_NAMES)}; has "
                    f"{', '.join(names) or 'none'}."
                )
            with archive.open(f"{chosen}.npy") as file:
                yield from _npy_frames(path, file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as NumPy: {error}.") from error


def _npy_frames(path: Path, file: IO[bytes]) -> Iterator[NDArray[Any]]:
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = cast("tuple[tuple[int, ...], bool, np.dtype[Any]]", read_header(file))
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or 0 in shape or is_fortran or not np.issubdtype(dtype, np.floating):
        order = "Fortran order, " if is_fortran else ""
        raise UserError(
            f"{path}: must be floating point [T, H, W] in C order, got {order}{dtype} {list(shape)}."
        )
    frame_bytes = shape[1] * shape[2] * dtype.itemsize
    for number in range(shape[0]):
        content = file.read(frame_bytes)
        if len(content) != frame_bytes:
            raise UserError(f"{path}: ends within frame {number} of {shape[0]}.")
        yield np.frombuffer(content, dtype).reshape(shape[1:])


class _GreyVideo:
    """Luma of a video."""

    is_unit = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._video = open_video(path)

    def frames(self) -> Iterator[NDArray[np.float32]]:
        for frame in self._video.frames():
            yield frame.grey()


class DepthNetwork:
    """A network of transformers' depth estimation, such as Depth Anything; frame by frame.

    Video-Depth-Anything is not part of transformers: run its own code and give `open_disparity` the .npz
    that it saves.

    Args:
        model: Local folder, or name on the Hugging Face hub, whence it is downloaded and cached.
        device: Where it runs.

    Raises:
        UserError: If it cannot be had, or is another kind of network.
    """

    def __init__(self, model: str, device: torch.device) -> None:
        # Heavy, and only needed here.
        import transformers
        from transformers import AutoModelForDepthEstimation

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.name = model
        self._device = device
        if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
            raise UserError(f"--depth-model {model}: there is no such folder.")
        try:
            self._processor = transformers.AutoImageProcessor.from_pretrained(model)
            network, loading = AutoModelForDepthEstimation.from_pretrained(model, output_loading_info=True)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"--depth-model {model}: cannot be loaded: {reason}") from error
        if missing := sorted(loading["missing_keys"]):
            raise UserError(
                f"--depth-model {model}: {len(missing)} weights are missing, the first is {missing[0]}."
            )
        self._network = network.to(device).eval()
        config = self._network.config
        self._is_metric = (
            config.model_type in _METRIC_TYPES
            or getattr(config, "depth_estimation_type", "relative") == "metric"
        )

    def predict(self, rgb: NDArray[np.float32]) -> NDArray[np.float32]:
        """Disparity ``[h, w]``, of any scale and of the network's own size, for an image ``[H, W, 3]``."""
        import torch

        image = np.rint(rgb * 255).astype(np.uint8)
        given = self._processor(images=image, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            predicted = self._network(**given).predicted_depth[0].float().cpu().numpy()
        if self._is_metric:
            predicted = 1 / np.maximum(predicted, _LEAST_DEPTH_M)
        return predicted.astype(np.float32)


class Predicted:
    """A `DisparitySource` of what a network has predicted, in a temporary file without a name.

    Args:
        name: Of the network.
        size: Width and height that frames are resized to, bilinearly.
    """

    is_unit = False

    def __init__(self, name: str, size: tuple[int, int]) -> None:
        self.path = Path(name)
        self._size = size
        self._file = tempfile.TemporaryFile(prefix="focuspull-")  # noqa: SIM115 (lives as long as this)
        self._shape: tuple[int, int] = (0, 0)
        self._count = 0

    def add(self, disparity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Keep one frame ``[h, w]``; returns it as `frames` will.

        Raises:
            UserError: If the disk is full.
        """
        self._shape = cast("tuple[int, int]", disparity.shape)
        try:
            self._file.write(np.ascontiguousarray(disparity, np.float32).tobytes())
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{tempfile.gettempdir()}: predictions cannot be kept: {error.strerror}. "
                "Set TMPDIR to a folder with more space."
            ) from error
        self._count += 1
        return self._resized(disparity)

    def frames(self) -> Iterator[NDArray[np.float32]]:
        """See `DisparitySource`."""
        num_bytes = 4 * self._shape[0] * self._shape[1]
        for number in range(self._count):
            content = os.pread(self._file.fileno(), num_bytes, number * num_bytes)
            yield self._resized(np.frombuffer(content, np.float32).reshape(self._shape))

    def _resized(self, disparity: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(disparity, self._size, interpolation=cv2.INTER_LINEAR), np.float32)
