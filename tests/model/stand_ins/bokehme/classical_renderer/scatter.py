"""Stands in for BokehMe's scatter on CUDA: the same weights, offset by offset."""

import cupy
import torch


class ModuleRenderScatter(torch.nn.Module):
    def forward(self, image, defocus):
        print("rendering on standard output", cupy.int(len(image)))
        assert cupy.cuda.compile_with_cache("void kernel_scatter()").get_function("kernel_scatter")
        radius = defocus.abs()
        reach = int(radius.max()) + 1
        height, width = image.shape[2:]
        total, light = torch.zeros_like(defocus), torch.zeros_like(image)
        spread = defocus.int().float()
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                distance = (dx * dx + dy * dy) ** 0.5
                weight = (0.5 + 0.5 * torch.tanh(4 * (radius - distance))) / (radius**2 + 0.2)
                near = (slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx)))
                far = (slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx)))
                total[..., far[0], far[1]] += weight[..., near[0], near[1]]
                light[..., far[0], far[1]] += (weight * image)[..., near[0], near[1]]
                reached = torch.where(radius >= distance, defocus.int().float(), torch.tensor(-1e9))
                spread[..., far[0], far[1]] = torch.maximum(
                    spread[..., far[0], far[1]], reached[..., near[0], near[1]]
                )
        return light / total, spread
