"""Stands in for MPIB's renderer: the same planes, kernels of whole radius and composition."""

import torch


class MPIBokehRenderer(torch.nn.Module):
    def __init__(self, K_max, bins):  # noqa: N803
        super().__init__()
        self.largest, self.bins = K_max, bins

    def forward(self, colors, alphas, k, focus, gamma, norm=True, increase_focus_range=False):
        assert norm is True
        bokeh = torch.zeros_like(torch.cat([colors[:, 0], alphas[:, 0]], 1))
        for i in range(self.bins):
            alpha = alphas[:, i]
            if not bool(alpha.any()):
                continue
            plane = torch.cat([colors[:, i] ** gamma, torch.ones_like(alpha)], 1) * alpha
            distance = abs((i + 0.5) / self.bins - focus)
            if increase_focus_range:
                distance = max(0, distance - 0.5 / self.bins)
            radius = round(k * distance)
            assert radius <= self.largest
            blurred = blur(torch.cat([plane, alpha], 1), radius)
            bokeh = bokeh * (1 - blurred[:, 4:]) + blurred[:, :4]
        return (bokeh[:, :3] / bokeh[:, 3:]).clamp(1e-10, 1e10) ** (1 / gamma)


def blur(image, radius):
    if radius == 0:
        return image
    offset = torch.arange(-radius - 3, radius + 4)
    rho2 = offset[:, None] ** 2 + offset**2
    kernel = 0.5 + 0.5 * torch.tanh(0.25 * (radius**2 - rho2) + 0.5)
    kernel = (kernel / kernel.sum())[None, None].expand(image.shape[1], 1, -1, -1)
    return torch.nn.functional.conv2d(image, kernel, padding=radius + 3, groups=image.shape[1])
