"""Dr.Bokeh through the class of its checkout, `app.Render.Inference.DrBokeh`, behind its command's min-max.

The class inpaints what is behind the matte with a network of its own, whatever is given. Parameters that are
no input of ours are those of its command line.

Request: ``image [1, H, W, 3]`` with the power curve, ``disparity [1, H, W]`` in [0, 1], ``alpha [1, H, W]``,
``k``, ``focus_disparity``, ``gamma``, ``lens``: odd side of the kernel.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load(checkout: str, weights: str, options: dict[str, Any]) -> Any:
    """See `loop.serve`."""
    inference = import_module("app.Render.Inference")
    # One at a time: a kernel is as large as K asks for, and is kept on the GPU.
    renderers: dict[int, Any] = {}

    def render(arrays: dict[str, Any], values: dict[str, Any]) -> Any:
        if values["lens"] not in renderers:
            renderers.clear()
            renderers[values["lens"]] = inference.DrBokeh(values["lens"])
        parameters = {
            "focal": values["focus_disparity"],
            "lens_effect": values["k"],
            "gamma": values["gamma"],
            "Salient": "LDF",
            "offset": 0.0,
            "fg_erode": 5,
            "fg_iters": 2,
            "inpaint_kernel": 7,
            "threshold": 0.1,
            "Occlusion": True,
        }
        disparity, alpha = arrays["disparity"][0, ..., None], arrays["alpha"][0, ..., None]
        result = renderers[values["lens"]].inference(arrays["image"][0], disparity, alpha, parameters)
        return result["bokeh"][None]

    return render


if __name__ == "__main__":
    import_module("loop").serve(load)
