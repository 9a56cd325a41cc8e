"""Stands in for MPIB's networks, with planes cut hard from disparity, next to its renderer."""

import torch

from models.bokeh_renderer import MPIBokehRenderer

__all__ = ["AUPNet", "FFCResNetGenerator", "MPIBokehRenderer", "MPINet"]


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(1))


class FFCResNetGenerator(Network):
    def __init__(self, input_nc):
        super().__init__()

    def forward(self, image, mask):
        return image + 0 * mask


class MPINet(Network):
    def __init__(self, encoder_layers, encoder_pretrained, bins):
        super().__init__()
        assert not encoder_pretrained, "would fetch weights from the network"
        self.bins = bins

    def forward(self, image, disp):
        centers = (torch.arange(self.bins) + 0.5)[None, :, None, None] / self.bins
        masks = ((disp - centers).abs() <= 0.5 / self.bins).float()[:, :, None]
        return torch.zeros_like(masks), masks, masks


class AUPNet(Network):
    def __init__(self, bins):
        super().__init__()

    def forward(self, image, disp, alpha):
        assert tuple(image.shape[2:]) == tuple(2 * side for side in alpha.shape[3:]), "not twice as large"
        return torch.nn.functional.interpolate(alpha[0], scale_factor=2, mode="nearest")[None]
