"""Distributions side by side: small multiples, a histogram above and quantile bars per family below.

Drawn with Pillow at twice the size and made small, which smooths the edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.benchmarks.features import Feature, column
from tests.benchmarks.sheets import fitting, font

SCALE = 2
PAPER, INK, MUTED, GRID = (255, 255, 255), (32, 34, 40), (112, 116, 126), (228, 230, 234)
REAL, REAL_FILL = (70, 74, 84), (214, 217, 222)
RENDERED = (222, 108, 32)
COLUMNS, BINS, TICKS = 4, 24, 5
PANEL_W, HISTOGRAM_H, BAR_H, LABEL_W = 400, 110, 19, 84
PANEL_GAP, EDGE = 26, 28
Rows = Sequence[Mapping[str, float]]


def distributions(
    title: str, shown: Sequence[Feature], real: Rows, by_family: Mapping[str, Rows]
) -> Image.Image:
    """The page: a panel per feature.

    In the histogram grey is real, the orange line all renders. Bars go from the 5th to the 95th percentile,
    thick from the 25th to the 75th, the mark is the median; the grey band behind them is where real clips
    have their 5th to 95th.

    Args:
        title: Above all.
        shown: The features, in order.
        real: Their values in real clips; a feature that real clips do not have is drawn without.
        by_family: Their values in renders.
    """
    panel_h = 46 + HISTOGRAM_H + 26 + (len(by_family) + 2) * BAR_H
    num_rows = -(-len(shown) // COLUMNS)
    width = 2 * EDGE + COLUMNS * (PANEL_W + PANEL_GAP) - PANEL_GAP
    height = 86 + num_rows * (panel_h + PANEL_GAP) + EDGE - PANEL_GAP
    pen = _Pen(width, height)
    pen.text((EDGE, 20), title, INK, 22)
    pen.rectangle((EDGE, 58, EDGE + 22, 68), REAL_FILL, REAL)
    pen.text((EDGE + 30, 54), "real clips", MUTED, 14)
    pen.line([(EDGE + 112, 63), (EDGE + 134, 63)], RENDERED, 2.5)
    bars = "bars: 5th to 95th percentile, thick 25th to 75th, mark: median"
    note = f"renders   ·   {bars}   ·   band: real clips, 5th to 95th"
    pen.text((EDGE + 142, 54), note, MUTED, 14)
    for i, feature in enumerate(shown):
        left = EDGE + i % COLUMNS * (PANEL_W + PANEL_GAP)
        top = 86 + i // COLUMNS * (panel_h + PANEL_GAP)
        _panel(pen, (left, top), feature, real, by_family)
    return pen.page()


def _panel(
    pen: _Pen, place: tuple[float, float], feature: Feature, real: Rows, by_family: Mapping[str, Rows]
) -> None:
    left, top = place
    x0, x1 = left + LABEL_W, left + PANEL_W - 8
    values = {family: column(rows, feature.name) for family, rows in by_family.items()}
    every, known = np.concatenate(list(values.values())), column(real, feature.name)

    def x(value: float) -> float:
        return x0 + (x1 - x0) * (min(max(value, feature.low), feature.high) - feature.low) / (
            feature.high - feature.low
        )

    pen.text((x0, top), feature.name, INK, 17)
    pen.text((x0, top + 22), fitting(feature.unit, 13, x1 - x0), MUTED, 13)
    base = top + 46 + HISTOGRAM_H
    bars = [("real", known, REAL)] if len(known) else []
    bars += [
        ("all renders", every, RENDERED),
        *((family, v, _soft(RENDERED)) for family, v in values.items()),
    ]
    end = base + 26 + len(bars) * BAR_H
    if len(known):
        low, high = np.quantile(known, (0.05, 0.95))
        pen.rectangle((x(low), base + 24, max(x(high), x(low) + 1), end), (241, 242, 245))
    for tick in np.linspace(feature.low, feature.high, TICKS):
        pen.line([(x(tick), top + 46), (x(tick), end)], GRID, 1)
        pen.text((x(tick), base + 5), f"{tick:g}", MUTED, 12, centred=True)

    # Histograms: shares, the higher peak fills the height.
    edges = np.linspace(feature.low, feature.high, BINS + 1)
    shares = [histogram(v, edges) if len(v) else None for v in (known, every)]
    peak = max(float(s.max()) for s in shares if s is not None)
    for share, is_real in zip(shares, (True, False), strict=True):
        if share is None:
            continue
        steps = [
            (x(e), base - HISTOGRAM_H * 0.96 * s / peak) for s, pair in _bins(share, edges) for e in pair
        ]
        outline = [(x(edges[0]), base), *steps, (x(edges[-1]), base)]
        if is_real:
            pen.polygon(outline, REAL_FILL)
        pen.line(outline, REAL if is_real else RENDERED, 1.2 if is_real else 2.2)
    pen.line([(x0, base), (x1, base)], MUTED, 1.2)

    for i, (name, some, color) in enumerate(bars):
        middle = base + 26 + (i + 0.5) * BAR_H
        label = fitting(name, 13, LABEL_W - 12)
        pen.text(
            (x0 - 8 - font(13).getlength(label), middle - 9),
            label,
            INK if i < len(bars) - len(values) else MUTED,
            13,
        )
        if len(some):
            _bar(pen, [x(q) for q in np.quantile(some, (0.05, 0.25, 0.5, 0.75, 0.95))], middle, color)


def _bar(pen: _Pen, at: Sequence[float], middle: float, color: tuple[int, int, int]) -> None:
    pen.line([(at[0], middle), (at[4], middle)], color, 1.6)
    pen.rectangle((at[1], middle - 3.5, max(at[3], at[1] + 1), middle + 3.5), color)
    pen.rectangle((at[2] - 1.5, middle - 6, at[2] + 1.5, middle + 6), INK)


def histogram(values: NDArray, edges: NDArray) -> NDArray[np.float64]:
    """Shares of values in each bin; those beyond are in the first and the last."""
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)


def _bins(share: NDArray, edges: NDArray) -> list[tuple[float, tuple[float, float]]]:
    return [(float(s), (float(a), float(b))) for s, a, b in zip(share, edges, edges[1:], strict=False)]


def _soft(color: tuple[int, int, int]) -> tuple[int, int, int]:
    r, g, b = (round(0.55 * c + 0.45 * 255) for c in color)
    return r, g, b


class _Pen:
    """A page in points; what is drawn is `SCALE` times as large until it is done."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._canvas = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self._canvas)

    def page(self) -> Image.Image:
        return self._canvas.resize(self._size, Image.Resampling.LANCZOS)

    def text(
        self,
        at: tuple[float, float],
        text: str,
        color: tuple[int, int, int],
        size: int,
        *,
        centred: bool = False,
    ) -> None:
        x, y = at
        if centred:
            x -= font(size).getlength(text) / 2
        self._draw.text((x * SCALE, y * SCALE), text, color, font(size * SCALE))

    def line(self, points: Sequence[tuple[float, float]], color: tuple[int, int, int], width: float) -> None:
        self._draw.line(
            [(x * SCALE, y * SCALE) for x, y in points], color, round(width * SCALE), joint="curve"
        )

    def polygon(self, points: Sequence[tuple[float, float]], color: tuple[int, int, int]) -> None:
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], color)

    def rectangle(
        self,
        box: tuple[float, float, float, float],
        color: tuple[int, int, int],
        edge: tuple[int, int, int] | None = None,
    ) -> None:
        self._draw.rectangle([side * SCALE for side in box], color, edge, SCALE)
