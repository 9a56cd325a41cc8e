"""What the paper reports: Any-to-Bokeh (ICLR 2026, arXiv 2505.21593), Tables 1 and 5.

On its own 200 videos, which are not published, with its own evaluation; VEPI on DAVIS. Only numbers under the
``official`` protocol may stand beside them, and even these are of other videos.
"""

from __future__ import annotations

from collections.abc import Mapping

COLUMNS = ("FD", "RM", "VFID-I", "FVD", "SSIM", "PSNR", "LPIPS", "VEPI", "Time")
"""In the paper's order."""

SOURCE = "Any-to-Bokeh, ICLR 2026, arXiv 2505.21593, Table 1"


def _row(*values: float) -> Mapping[str, float]:
    return dict(zip(COLUMNS, values, strict=True))


PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "DeepLens": _row(1.162, 0.030, 16.042, 125.338, 0.819, 24.574, 0.183, 0.715, 0.226),
    "BokehDiff": _row(0.660, 0.021, 7.395, 65.678, 0.834, 27.525, 0.127, 0.859, 0.799),
    "BokehMe": _row(0.536, 0.013, 8.633, 39.102, 0.936, 27.992, 0.060, 0.937, 0.103),
    "Dr.Bokeh": _row(0.522, 0.011, 6.097, 32.710, 0.950, 31.273, 0.046, 0.863, 2.729),
    "MPIB": _row(0.481, 0.011, 5.444, 35.766, 0.950, 31.390, 0.040, 0.921, 0.521),
    "Any-to-Bokeh": _row(0.431, 0.007, 1.479, 9.005, 0.974, 38.899, 0.019, 0.944, 0.363),
}
"""Table 1, by system, in its order."""

ABLATION_COLUMNS = ("FD", "VFID-I", "FVD", "PSNR")
_ABLATION: tuple[tuple[str, str, tuple[float, float, float, float]], ...] = (
    ("#1", "nothing", (0.517, 3.865, 18.922, 32.250)),
    ("#2", "temporal stage", (0.540, 4.209, 20.743, 32.035)),
    ("#3", "temporal stage, WOIS", (0.551, 4.521, 21.941, 31.936)),
    ("#4", "temporal stage, WOIS, MPI", (0.573, 4.930, 23.828, 31.551)),
    ("#5", "temporal stage, WOIS, one step", (0.791, 8.912, 68.910, 29.309)),
)


def ablation_rows() -> list[tuple[str, str, dict[str, float]]]:
    """Rows of Table 5: number, what is taken away, values by column."""
    return [
        (name, without, dict(zip(ABLATION_COLUMNS, values, strict=True)))
        for name, without, values in _ABLATION
    ]
