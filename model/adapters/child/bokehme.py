"""BokehMe with the modules of its checkout: classical scatter, and the two networks where it fails.

Its demo is one flat script that loads everything when imported and spreads disparity over [0, 1] per image;
it is not used. What happens here follows the paper's section 3 and the demo's parameters: the classical
renderer on light, ARNet on the frame shrunk until the largest blur is one unit, IUNet doubling the size and
trusted only near the focus, and ARNet's error map to choose between classical and neural.

Request: ``image [1, H, W, 3]`` with the power curve, ``defocus [1, H, W]`` in units of 10 px, ``gamma``.
"""

from __future__ import annotations

import os
import types
from importlib import import_module
from typing import Any

UNIT_PX = 10.0
"""Blur radius that the networks know as 1."""
GAMMA_RANGE = (1.0, 5.0)
"""Of training; networks see it mapped to [0, 1]."""
# In the order of the constructors: shuffle rate, channels in, out and between, blocks, shared weights, how
# blocks are connected, batch norm, activation; of the published weights.
ARNET = (2, 5, 4, 128, 3, False, "distinct_source", False, "elu")
IUNET = (2, 8, 3, 64, 3, False, "distinct_source", False, "elu")


def load(checkout: str, weights: str, options: dict[str, Any]) -> Any:
    """See `loop.serve`."""
    import_module("loop").mend_cupy()
    torch = import_module("torch")
    neural = import_module("neural_renderer")
    scatter = import_module("classical_renderer.scatter")
    device = options["device"] or ("cuda" if torch.cuda.is_available() else "cpu")

    def network(make: Any, parameters: tuple, file: str) -> Any:
        model = make(*parameters)
        state = torch.load(os.path.join(weights, file), map_location="cpu")
        model.load_state_dict(state["model"])
        return model.to(device).eval()

    classical = scatter.ModuleRenderScatter().to(device)
    arnet = network(neural.ARNet, ARNET, "arnet.pth")
    iunet = network(neural.IUNet, IUNET, "iunet.pth")

    def render(arrays: dict[str, Any], values: dict[str, Any]) -> Any:
        image = torch.from_numpy(arrays["image"]).permute(0, 3, 1, 2).contiguous().to(device)
        defocus = torch.from_numpy(arrays["defocus"])[:, None].contiguous().to(device)
        with torch.no_grad():
            bokeh = _blur(classical, arnet, iunet, image, defocus, values["gamma"])
        return bokeh.permute(0, 2, 3, 1).cpu().numpy()

    return render


def _blur(classical: Any, arnet: Any, iunet: Any, image: Any, defocus: Any, gamma: float) -> Any:
    """One frame ``[1, 3, H, W]`` with signed defocus ``[1, 1, H, W]`` in units of `UNIT_PX`."""
    low, high = GAMMA_RANGE
    curve = (gamma - low) / (high - low)
    light, spread = classical(image**gamma, defocus * UNIT_PX)
    plain, spread = light ** (1 / gamma), spread / UNIT_PX
    height, width = int(image.shape[2]), int(image.shape[3])
    largest = max(float(defocus.abs().max()), 1.0)

    # The whole frame, so small that no blur is larger than one unit.
    size = (max(int(height / largest), 1), max(int(width / largest), 1))
    neural, error = arnet(_resized(image, size), _resized(defocus, size) / largest, curve)
    neural, error = neural.clamp(0, 1e5), _resized(error, (height, width))

    # Twice the size again and again, the last time to the size of the frame.
    ratio = 2.0
    while True:
        is_last = ratio > largest
        ratio = min(ratio, largest)
        size = (height, width) if is_last else (int(ratio / largest * height), int(ratio / largest * width))
        scale = 1.0 if is_last else ratio / largest
        step = scale * _resized(defocus, size)
        finer = iunet(_resized(image, size), step.clamp(-1, 1), neural, curve).clamp(0, 1e5)
        trusted = _smoothed((scale * _resized(spread, size)).abs() < 1, 0.005 * (size[0] + size[1]))
        neural = trusted * finer + (1 - trusted) * _resized(neural, size)
        if is_last:
            break
        ratio *= 2
    return (plain * (1 - error) + neural * error).clamp(0, 1)


def _resized(image: Any, size: tuple) -> Any:
    if tuple(image.shape[2:]) == tuple(size):
        return image
    functional: types.ModuleType = import_module("torch.nn.functional")
    return functional.interpolate(image, size=size, mode="bilinear", align_corners=True)


def _smoothed(mask: Any, radius: float) -> Any:
    """A mask ``[1, 1, H, W]`` through a Gaussian of 2 radius + 1 pixels, borders repeated."""
    torch = import_module("torch")
    functional = import_module("torch.nn.functional")
    n = int(round(radius))
    offset = torch.arange(-n, n + 1, dtype=torch.float32, device=mask.device)
    weight = torch.exp(-(offset**2) / (2 * (0.3 * (n - 1) + 0.8) ** 2))
    weight = weight / weight.sum()
    padded = functional.pad(mask.float(), (n, n, n, n), mode="replicate")
    rows = functional.conv2d(padded, weight.reshape(1, 1, -1, 1))
    return functional.conv2d(rows, weight.reshape(1, 1, 1, -1))


if __name__ == "__main__":
    import_module("loop").serve(load)
