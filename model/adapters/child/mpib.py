"""MPIB with the modules of its checkout: a multiplane image from networks, blurred plane by plane.

Its demo reads 8-bit disparity from files and a weight file from its author's disk; it is not used. What
happens here follows the paper's section 3 and the demo's parameters: a background inpainted behind depth
edges, planes from MPINet at a size that suits K, alpha brought to full size by AUPNet, and its renderer.

Request: ``image [1, H, W, 3]`` with the power curve, ``disparity [1, H, W]`` in [0, 1], ``k``,
``focus_disparity``, ``gamma``, ``increase_focus_range``.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

INPAINT_SIDE = 1024
EDGE_FROM = 0.2
"""Sum of the disparity's two blurred Sobel responses from which there is an edge."""
MIN_EDGE_AREA = 1e-4
"""Of the frame; smaller connected edges are noise."""
DILATED_PX = 5
BASE_SIDE, BASE_RADIUS_PX = 512, 30
"""MPINet's short side, less for large K, so that K becomes this radius there."""


def load(checkout: str, weights: str, options: dict[str, Any]) -> Any:
    """See `loop.serve`."""
    import_module("loop").mend_cupy()
    torch = import_module("torch")
    models = import_module("models")
    with open(os.path.join(checkout, "configs", "default.yaml")) as file:
        config = import_module("yaml").safe_load(file)
    # All weights are loaded below; without this it would fetch others from the network first.
    config["mpinet"]["encoder_pretrained"] = False
    device = options["device"] or ("cuda" if torch.cuda.is_available() else "cpu")

    def network(make: Any, name: str) -> Any:
        model = make(**config[name])
        state = torch.load(os.path.join(weights, name + ".pth"), map_location="cpu")["model"]
        # Two of the three were saved from within DataParallel.
        prefix = "module."
        state = {key[len(prefix) :] if key.startswith(prefix) else key: value for key, value in state.items()}
        model.load_state_dict(state)
        return model.to(device).eval()

    networks = {
        "inpnet": network(models.FFCResNetGenerator, "inpnet"),
        "mpinet": network(models.MPINet, "mpinet"),
        "aupnet": network(models.AUPNet, "aupnet"),
    }
    renderer = models.MPIBokehRenderer(**config["renderer"]).to(device)

    def render(arrays: dict[str, Any], values: dict[str, Any]) -> Any:
        image = torch.from_numpy(arrays["image"]).permute(0, 3, 1, 2).contiguous().to(device)
        with torch.no_grad():
            colors, alphas = _planes(networks, image, arrays["disparity"][0], values["k"])
            bokeh = renderer(
                colors,
                alphas,
                values["k"],
                values["focus_disparity"],
                values["gamma"],
                norm=True,
                increase_focus_range=values["increase_focus_range"],
            )
        return bokeh.permute(0, 2, 3, 1).cpu().numpy()

    return render


def _planes(networks: Any, image: Any, disparity: Any, k: float) -> Any:
    """Colour ``[1, S, 3, H, W]`` and alpha ``[1, S, 1, H, W]`` of the planes of one frame."""
    torch = import_module("torch")
    tools = import_module("utils")
    height, width = int(image.shape[2]), int(image.shape[3])
    shortest = min(height, width)
    depth = torch.from_numpy(disparity)[None, None].to(image.device)

    background = _background(networks["inpnet"], image, disparity, k)
    base = min(BASE_SIDE, int(shortest * BASE_RADIUS_PX / max(k, 1e-6)))
    small = tools.resize(image, short_size=base, ensure_multiple_of=32)
    small_depth = tools.resize(depth, short_size=base, ensure_multiple_of=32)
    blend, alpha, _ = networks["mpinet"](small, small_depth)
    blend = tools.dilate(blend[0], kernel_size=DILATED_PX)[None]
    blend = _resized(blend[0], (height, width))[None]
    colors = blend * background[:, None] + (1 - blend) * image[:, None]

    # Each pass of AUPNet doubles the size of alpha, the last one from half the frame to the frame.
    side = int(small.shape[2])
    for _ in range(int(max(height / side, 1)).bit_length() - 1):
        size = (2 * int(small.shape[2]), 2 * int(small.shape[3]))
        small, small_depth = _resized(image, size), _resized(depth, size)
        alpha = networks["aupnet"](small.clamp(0, 1), small_depth, alpha)
    full = tools.resize(image, short_size=shortest, ensure_multiple_of=2)
    full_depth = tools.resize(depth, short_size=shortest, ensure_multiple_of=2)
    alpha = _resized(alpha[0], (int(full.shape[2]) // 2, int(full.shape[3]) // 2))[None]
    alpha = networks["aupnet"](full.clamp(0, 1), full_depth, alpha)
    return colors, _resized(alpha[0], (height, width))[None]


def _background(inpnet: Any, image: Any, disparity: Any, k: float) -> Any:
    """The frame ``[1, 3, H, W]`` with what is beside depth edges inpainted."""
    np, cv2, torch, tools = (import_module(name) for name in ("numpy", "cv2", "torch", "utils"))
    height, width = int(image.shape[2]), int(image.shape[3])
    depth = tools.resize(disparity, short_size=INPAINT_SIDE, ensure_multiple_of=8)
    slopes = [cv2.Sobel(depth, ddepth=-1, dx=1, dy=0), cv2.Sobel(depth, ddepth=-1, dx=0, dy=1)]
    slopes = np.stack([cv2.GaussianBlur(slope, (7, 7), 0) for slope in slopes])
    edges = (np.abs(slopes).sum(0) > EDGE_FROM).astype(np.uint8)
    num_parts, parts = cv2.connectedComponents(edges, connectivity=8)
    areas = np.bincount(parts.ravel(), minlength=num_parts)
    edges = edges * (areas >= MIN_EDGE_AREA * parts.size)[parts]

    mask = tools.mask_generator(
        torch.from_numpy(slopes)[None].to(image.device),
        torch.from_numpy(edges.astype(np.float32))[None, None].to(image.device),
        iteration=int(2 * k * min(1, INPAINT_SIDE / min(height, width))),
        dilate_kernel_size=DILATED_PX,
    )
    small = tools.resize(image, short_size=INPAINT_SIDE, ensure_multiple_of=8)
    inpainted = _resized(inpnet(small * (1 - mask), mask), (height, width))
    mask = _resized(mask, (height, width))
    return mask * inpainted + (1 - mask) * image


def _resized(image: Any, size: tuple) -> Any:
    functional = import_module("torch.nn.functional")
    return functional.interpolate(image, size=size, mode="bilinear", align_corners=True)


if __name__ == "__main__":
    import_module("loop").serve(load)
