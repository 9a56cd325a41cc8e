"""Stands in for Dr.Bokeh's class: two layers split by the matte, its scatter weights, composited."""

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[3]))
from scattering import scatter

assert Path("app/Render/lama_inpaint/inpnet.pth").exists(), "weights are opened relative to the checkout"


class DrBokeh:
    def __init__(self, lens):
        assert lens % 2 == 1
        self.lens = lens

    def inference(self, rgb, disp, alpha, params):
        assert rgb.shape[2] == 3
        assert disp.shape[2] == 1
        assert alpha.shape[2] == 1
        assert 0 <= disp.min() <= disp.max() <= 1
        offset = disp[..., 0].astype(np.float64) - params["focal"]
        radius = params["lens_effect"] * np.abs(offset) + 1
        assert 2 * radius.max() + 3 <= self.lens, "the kernel does not fit"
        light = rgb.astype(np.float64) ** params["gamma"]
        bokeh, open_ = 0.0, 1.0
        for layer in (alpha[..., 0], 1 - alpha[..., 0]):
            if layer.any():
                colors, covered = self.layer(light, layer, radius)
                bokeh, open_ = bokeh + open_ * covered * colors, open_ * (1 - covered)
        return {"rgb": rgb, "disp": disp, "layers": {}, "bokeh": bokeh ** (1 / params["gamma"])}

    def layer(self, light, alpha, radius):
        def weight(radius, distance):
            inside = distance <= self.lens // 2
            return alpha * inside * 0.1 / (0.1 + np.exp(-3 * (radius - distance))) / radius**2

        sums = scatter(np.dstack([light, np.ones_like(alpha)]), radius, weight)
        covered = scatter(alpha[..., None], 0 * radius + radius.max() / 2, lambda r, rho: (rho <= r) * 1.0)
        reached = scatter(
            np.ones_like(alpha)[..., None], 0 * radius + radius.max() / 2, lambda r, rho: (rho <= r) * 1.0
        )
        return sums[..., :3] / (sums[..., 3:] + 1e-8), covered / reached
