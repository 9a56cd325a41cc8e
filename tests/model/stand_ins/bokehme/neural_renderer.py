"""Stands in for BokehMe's networks: they leave everything to the classical renderer."""

import torch


class ARNet(torch.nn.Module):
    def __init__(self, rate, num_in, num_out, num_between, num_blocks, share, connect, norm, activation):
        super().__init__()
        assert (rate, num_in, num_out) == (2, 5, 4), "parameters of the published weights"
        self.scale = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image, defocus, gamma):
        assert defocus.abs().max() <= 1.001, "the frame was not shrunk until the blur is one unit"
        assert 0 <= gamma <= 1
        return image * 0.5, torch.zeros_like(defocus) * self.scale


class IUNet(torch.nn.Module):
    def __init__(self, rate, num_in, num_out, num_between, num_blocks, share, connect, norm, activation):
        super().__init__()
        assert (rate, num_in, num_out) == (2, 8, 3), "parameters of the published weights"
        self.scale = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image, defocus, coarse, gamma):
        assert defocus.abs().max() <= 1
        return image * 0.5
