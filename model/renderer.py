"""`BokehRenderer`, the one interface of networks, weight-free baselines and adapters; and their names.

    from focuspull.model.renderer import get_renderer

    render = get_renderer("layers")
    bokeh = render(aif, disparity, k, focus_disparity)

Images are display values: sRGB-encoded, floating point in [0, 1], as `focuspull.dataset.loader.unit` makes
them. A module is imported when its renderer is asked for, so that names can be listed without torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor


class BokehRenderer(Protocol):
    """Anything that makes a bokeh video from an all-in-focus one."""

    def __call__(self, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        """Blur a video.

        Args:
            aif: ``[B, T, 3, H, W]`` floating point, sRGB-encoded, in [0, 1].
            disparity: ``[B, T, 1, H, W]``, one map from depth for the whole clip, 1 is nearest.
            k: ``[B, T]``, blur radius in pixels of this width per unit of disparity, not negative.
            focus_disparity: ``[B, T]``, disparity of the plane in focus.

        Returns:
            ``[B, T, 3, H, W]`` sRGB-encoded, in [0, 1]; dtype and device of ``aif``.

        Raises:
            ValueError: If the arguments do not fit together or are out of range, see `validate_inputs`.
        """
        ...


@dataclass(frozen=True)
class FrameInput:
    """One frame for a renderer that has ``stream(Iterable[FrameInput]) -> Iterator[Tensor [3, H, W]]``.

    Attributes:
        aif: ``[3, H, W]`` floating point, sRGB-encoded, in [0, 1].
        disparity: ``[1, H, W]``, one map from depth for the whole clip, 1 is nearest.
        k: ``[]``, blur radius in pixels of this width per unit of disparity, not negative.
        focus_disparity: ``[]``, disparity of the plane in focus.
    """

    aif: Tensor
    disparity: Tensor
    k: Tensor
    focus_disparity: Tensor


@dataclass(frozen=True)
class RendererEntry:
    """A renderer that can be had by name.

    Attributes:
        summary: One line for a list of renderers.
        module: Where its code is.
        factory: What in the module makes it; keyword arguments are its options.
        needs: Options without which it cannot be made.
    """

    summary: str
    module: str
    factory: str
    needs: tuple[str, ...] = ()


_BASELINES = "focuspull.model.baselines"

RENDERERS: dict[str, RendererEntry] = {
    "identity": RendererEntry("the all-in-focus video itself", f"{_BASELINES}.identity", "Identity"),
    "gather": RendererEntry(
        "each pixel is the mean over its own disc; focus bleeds", f"{_BASELINES}.gather", "Gather"
    ),
    "scatter": RendererEntry(
        "each pixel spreads over its disc, normalised; no occlusion", f"{_BASELINES}.scatter", "Scatter"
    ),
    "scatter-polygon": RendererEntry(
        "scatter with an aperture of straight blades", f"{_BASELINES}.scatter", "polygon_scatter"
    ),
    "scatter-ring": RendererEntry("scatter with a bright rim", f"{_BASELINES}.scatter", "ring_scatter"),
    "mpi-32": RendererEntry(
        "32 planes of equal disparity, blurred and composited", f"{_BASELINES}.mpi", "Mpi"
    ),
    "mpi-32-fill": RendererEntry("mpi-32 with hidden content diffused in", f"{_BASELINES}.mpi", "mpi_fill"),
    "mpi-coc": RendererEntry(
        "planes of equal circle of confusion around the focus, hidden content diffused in",
        f"{_BASELINES}.mpi",
        "mpi_coc",
    ),
    "layers": RendererEntry(
        "what is in front of the focus over the rest, occlusion-aware scatter in each",
        f"{_BASELINES}.layers",
        "Layers",
    ),
    "oracle-layers": RendererEntry(
        "lens rays through true layers with their true hidden content",
        f"{_BASELINES}.oracle",
        "OracleLayers",
        ("stack",),
    ),
    "any-to-bokeh": RendererEntry(
        "the network: single-step video diffusion guided by focal-plane regions",
        "focuspull.model.pipeline",
        "AnyToBokeh",
        ("weights",),
    ),
}
"""Every renderer with a name: those without weights, roughly worst first, then networks. Those with ``needs``
take more than a `BokehRenderer` is given."""


def renderer_names() -> list[str]:
    """Names that `get_renderer` takes without options."""
    return [name for name, entry in RENDERERS.items() if not entry.needs]


def get_renderer(name: str, **options: Any) -> BokehRenderer:
    """A renderer by its name.

    Args:
        name: A key of `RENDERERS`.
        options: Keyword arguments of its factory.

    Raises:
        ValueError: If there is no such renderer or option, or one it needs is missing; one line.
    """
    entry = RENDERERS.get(name)
    if entry is None:
        near = get_close_matches(name, RENDERERS, 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(RENDERERS)}."
        raise ValueError(f"renderer: there is none called '{name}'. {hint}")
    if missing := [option for option in entry.needs if option not in options]:
        raise ValueError(f"renderer '{name}': needs the option '{missing[0]}'. See {entry.module}.")
    factory = cast(Callable[..., BokehRenderer], getattr(import_module(entry.module), entry.factory))
    try:
        return factory(**options)
    except TypeError as error:
        raise ValueError(f"renderer '{name}': {error}") from error


def validate_inputs(aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> None:
    """Refuse arguments that a `BokehRenderer` cannot take; waits for the device.

    Raises:
        ValueError: If a shape, type or device is wrong, a value is not finite, ``aif`` leaves [0, 1] or ``k``
            is negative; one line that names the first.
    """
    if aif.ndim != 5 or aif.shape[2] != 3 or aif.numel() == 0:
        raise ValueError(f"aif: must be [B, T, 3, H, W] and not empty, got {list(aif.shape)}")
    frames, size = list(aif.shape[:2]), list(aif.shape[3:])
    named = {"aif": aif, "disparity": disparity, "k": k, "focus_disparity": focus_disparity}
    shapes = {"disparity": [*frames, 1, *size], "k": frames, "focus_disparity": frames}
    for name, shape in shapes.items():
        if list(named[name].shape) != shape:
            raise ValueError(
                f"{name}: must be {shape} for aif of {list(aif.shape)}, got {list(named[name].shape)}"
            )
    for name, tensor in named.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name}: must be floating point, got {tensor.dtype}")
        if tensor.device != aif.device:
            raise ValueError(f"{name}: must be on the device of aif, {aif.device}, got {tensor.device}")
        if bad := int((~tensor.isfinite()).sum()):
            per_frame = (~tensor.isfinite()).flatten(2) if tensor.ndim > 2 else ~tensor.isfinite()[..., None]
            clip, frame = (int(i) for i in per_frame.any(-1).nonzero()[0])
            raise ValueError(f"{name}: {bad} values are not finite, the first in clip {clip}, frame {frame}")
    if float(aif.min()) < 0 or float(aif.max()) > 1:
        raise ValueError(f"aif: must be in [0, 1], spans [{float(aif.min()):g}, {float(aif.max()):g}]")
    if float(k.min()) < 0:
        raise ValueError(f"k: must not be negative, got {float(k.min()):g}")
