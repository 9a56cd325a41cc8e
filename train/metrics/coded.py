"""Videos as the official evaluation reads them: through lossy H.264, the truth like the predictions.

Its programs write with imageio's default for quality 8, which is libx264 with CRF 10 and 4:2:0 chroma
(any loss of chroma detail at the edges of bokeh is part of the official numbers). Only the ``official``
protocol uses it.
"""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

CRF = 10
"""imageio: ``int((1 - quality / 10) * 51)``."""
FPS = 20


def coded(video: Tensor) -> Tensor:
    """A video, encoded and decoded.

    Args:
        video: ``[T, 3, H, W]`` sRGB in [0, 1]. Odd sides are extended by their last pixels while it is coded.

    Returns:
        Likewise, multiples of 1/255.
    """
    height, width = video.shape[-2:]
    padded = F.pad(video, (0, width % 2, 0, height % 2), mode="replicate")
    frames = (padded * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    content = mp4(frames, crf=CRF, fps=FPS)
    with av.open(io.BytesIO(content), "r") as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    pixels = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)[..., :height, :width]
    return pixels.to(video.device, video.dtype) / 255


def mp4(frames: np.ndarray, *, crf: int, fps: float) -> bytes:
    """An MP4 that browsers play, in memory.

    Args:
        frames: ``[T, H, W, 3]`` uint8 sRGB; sides even.
        crf: Of libx264: 0 is lossless, 18 hardly visible, 51 worst.
        fps: Frames per second.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        # One thread: the same bytes on every machine.
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
