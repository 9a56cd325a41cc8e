"""The lens kernel that all baselines share, and blurring with a different radius at every pixel.

Kernel (BokehMe, CVPR 2022, the classical renderer's weight), for radius r and distance rho, in pixels::

    w(rho) = 1/2 + 1/2 tanh(4 (edge - rho)),   edge = r for a disc

with sum 1 in place of BokehMe's factor ``1 / (r^2 + 0.2)``, so that light is conserved at any radius, and
exactly the identity at r = 0. Its radius ``sqrt(2 <rho^2>)`` is within 0.1 px of r from r = 2 on. The
kernels of MPIB and Dr.Bokeh are 0.83 and 0.61 px too wide at r = 2; theirs are not used.

Polygon of n blades (same paper): ``edge = r_c sin(b) / sin(t + b)``, ``b = pi/2 - pi/n``, ``t = (theta -
rotation) mod 2 pi / n``. Its corners are at ``r_c = r sqrt(2 pi / (n sin(2 pi / n)))``, where BokehMe has
them at r: K is the radius of the disc of equal area here (README, "Lenses").

Ring (same paper): the weight is multiplied by ``1 - c + c tanh(0.2 (1 + rho - edge))``.

Radii are grouped: a pixel's disc is the mixture of the discs of the two neighbouring radii of a ladder,
with the shares that keep ``<rho^2>`` exact. Each step of the ladder is one convolution, done by FFT,
whatever the kernel's size: no window per pixel, nothing compiled, and the same code on CPU and GPU.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_STEP_PX = 0.5
"""Between neighbouring radii of the ladder; larger ones are ``RELATIVE_STEP`` apart."""
RELATIVE_STEP = 1 / 32
EDGE_SHARPNESS = 4.0
RING_SHARPNESS = 0.2


@dataclass(frozen=True)
class Lens:
    """The shape of the aperture.

    Args:
        blades: 0 is a disc, 3 to 16 a regular polygon.
        rotation_deg: From +x of the image to a corner of the polygon, counter-clockwise, for points in front
            of the focus; behind it the image of the aperture is upside down.
        ring: Brightness of the rim, 0 none to 0.5, where a large disc is dark inside.

    Raises:
        ValueError: If a value is out of range.
    """

    blades: int = 0
    rotation_deg: float = 0.0
    ring: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no aperture."""
        if self.blades != 0 and not 3 <= self.blades <= 16:
            raise ValueError(f"blades: must be 0 (a disc) or 3 to 16, got {self.blades}")
        if not 0 <= self.ring <= 0.5:
            raise ValueError(f"ring: must be in [0, 0.5], got {self.ring}")
        if not math.isfinite(self.rotation_deg):
            raise ValueError(f"rotation_deg: must be finite, got {self.rotation_deg}")

    @property
    def is_even(self) -> bool:
        """Whether it looks the same upside down, so that it does not matter on which side of the focus."""
        return self.blades % 2 == 0

    @property
    def reach(self) -> float:
        """Distance of the farthest corner, in radii."""
        n = self.blades
        return math.sqrt(2 * math.pi / (n * math.sin(2 * math.pi / n))) if n else 1.0

    def kernel(self, radius: float, like: Tensor) -> Tensor:
        """Weights of a point's image, ``[2 n + 1, 2 n + 1]``, sum 1; for points in front of the focus.

        Args:
            radius: Pixels, positive.
            like: Gives dtype and device.
        """
        n = math.ceil(radius * self.reach) + 1
        offset = torch.arange(-n, n + 1, dtype=torch.float64)
        y, x = torch.meshgrid(-offset, offset, indexing="ij")
        rho = torch.hypot(x, y)
        edge = torch.full_like(rho, radius)
        if self.blades:
            sector = 2 * math.pi / self.blades
            b = (math.pi - sector) / 2
            t = torch.remainder(torch.atan2(y, x) - math.radians(self.rotation_deg), sector)
            edge = radius * self.reach * math.sin(b) / torch.sin(t + b)
        weight = 0.5 + 0.5 * torch.tanh(EDGE_SHARPNESS * (edge - rho))
        weight = weight * (1 - self.ring + self.ring * torch.tanh(RING_SHARPNESS * (1 + rho - edge)))
        return (weight / weight.sum()).to(like)


DISC = Lens()


class Blur:
    """Convolution of one image size with the lens's kernels; the image is dark outside its borders.

    Args:
        like: ``[..., H, W]``, gives size, dtype and device.
        max_radius: Of the kernels to come, pixels.
        lens: The aperture.
    """

    def __init__(self, like: Tensor, max_radius: float, lens: Lens = DISC) -> None:
        self.lens = lens
        self.like = like
        self.size = (int(like.shape[-2]), int(like.shape[-1]))
        margin = math.ceil(max_radius * lens.reach) + 1
        self.padded = tuple(_fast_size(side + margin) for side in self.size)

    def spectrum(self, radius: float) -> Tensor:
        """Of the kernel; negative radii are behind the focus, where the aperture is upside down."""
        kernel = self.lens.kernel(abs(radius), self.like)
        if radius < 0:
            kernel = kernel.flip(0, 1)
        n = kernel.shape[0] // 2
        # Wrapped around, so that the kernel's centre is at (0, 0); folded where it is larger than the frame.
        full = kernel.new_zeros(self.padded)
        rows, columns = (torch.arange(-n, n + 1, device=kernel.device) % side for side in self.padded)
        full.index_put_((rows[:, None], columns[None, :]), kernel, accumulate=True)
        return torch.fft.rfft2(full)

    def forward(self, image: Tensor) -> Tensor:
        """Spectrum of an image ``[..., H, W]``."""
        return torch.fft.rfft2(image, s=self.padded)

    def inverse(self, spectrum: Tensor) -> Tensor:
        """Image ``[..., H, W]`` of a spectrum."""
        image = torch.fft.irfft2(spectrum, s=self.padded)
        return image[..., : self.size[0], : self.size[1]]

    def __call__(self, image: Tensor, radius: float) -> Tensor:
        """The image ``[..., H, W]`` through one kernel; itself at radius 0."""
        return image if radius == 0 else self.inverse(self.forward(image) * self.spectrum(radius))


def ladder(max_radius: float) -> list[float]:
    """Radii from 0 to at least ``max_radius``, pixels."""
    radii = [0.0]
    while radii[-1] < max_radius:
        radii.append(radii[-1] + max(MIN_STEP_PX, RELATIVE_STEP * radii[-1]))
    return radii


def shares(signed_radius: Tensor, lens: Lens = DISC) -> Iterator[tuple[float, Tensor]]:
    """Split pixels among the radii of the ladder.

    Args:
        signed_radius: ``[H, W]``, pixels, positive in front of the focus.
        lens: The aperture; if it is not even, the sides of the focus are told apart.

    Yields:
        Radius (negative behind the focus of a lens that is not even) and share ``[H, W]`` in [0, 1]; the
        shares of a pixel add up to 1, and so do those weighted by radius squared to its radius squared.
    """
    magnitude = signed_radius.abs()
    radii = ladder(float(magnitude.max()))
    squares = torch.tensor(radii, dtype=magnitude.dtype, device=magnitude.device) ** 2
    upper = torch.bucketize(magnitude**2, squares).clamp(1, max(len(radii) - 1, 1))
    if len(radii) == 1:
        yield 0.0, torch.ones_like(magnitude)
        return
    t = (magnitude**2 - squares[upper - 1]) / (squares[upper] - squares[upper - 1])
    sides = [(1, None)] if lens.is_even else [(1, signed_radius >= 0), (-1, signed_radius < 0)]
    for sign, side in sides:
        for i, radius in enumerate(radii):
            share = torch.where(upper == i + 1, 1 - t, 0) + torch.where(upper == i, t, 0)
            share = share if side is None else share * side
            if bool((share > 0).any()):
                yield sign * radius, share


def scatter(image: Tensor, signed_radius: Tensor, lens: Lens = DISC) -> Tensor:
    """Every pixel spread over the aperture's image of its own radius, and all of them added.

    Args:
        image: ``[C, H, W]``, light times weight.
        signed_radius: ``[H, W]``, pixels, positive in front of the focus.
        lens: The aperture.

    Returns:
        ``[C, H, W]``; what falls beyond the border is lost.
    """
    blur = Blur(image, float(signed_radius.abs().max()), lens)
    sharp = torch.zeros_like(image)
    spectrum: Tensor | None = None
    for radius, share in shares(signed_radius, lens):
        if radius == 0:
            sharp = sharp + image * share
        else:
            term = blur.forward(image * share) * blur.spectrum(radius)
            spectrum = term if spectrum is None else spectrum.add_(term)
    return sharp if spectrum is None else sharp + blur.inverse(spectrum)


def _fast_size(length: int) -> int:
    """The next length whose only prime factors are 2, 3 and 5."""
    sizes = sorted(
        2**a * 3**b * 5**c
        for a in range(18)
        for b in range(11)
        for c in range(8)
        if 2**a * 3**b * 5**c < 1 << 18
    )
    return sizes[bisect_left(sizes, length)]
