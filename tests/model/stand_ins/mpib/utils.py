"""Stands in for MPIB's tools; like those, it imports CuPy."""

import cupy
import cv2
import numpy as np
import torch

assert cupy.int is int


def resize(inputs, short_size, ensure_multiple_of):
    height, width = inputs.shape[:2] if isinstance(inputs, np.ndarray) else inputs.shape[-2:]
    n = ensure_multiple_of
    wanted = [min(side, max(short_size, short_size * side / min(height, width))) for side in (height, width)]
    size = [int((side + n - 1) // n * n) for side in wanted]
    if isinstance(inputs, np.ndarray):
        return cv2.resize(inputs, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return torch.nn.functional.interpolate(inputs, size=size, mode="bilinear", align_corners=True)


def dilate(inputs, kernel_size=3):
    return torch.nn.functional.max_pool2d(inputs, kernel_size, stride=1, padding=kernel_size // 2)


def mask_generator(disp_grad, inpaint_mask, iteration=60, dilate_kernel_size=5):
    assert disp_grad.shape[1] == 2
    assert iteration >= 0
    return dilate(inpaint_mask, dilate_kernel_size)
