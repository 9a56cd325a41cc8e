"""B0: the all-in-focus video itself, which every renderer has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from focuspull.model.renderer import validate_inputs


@dataclass(frozen=True)
class Identity:
    """Returns a copy of its input, checked like any other renderer's."""

    def __call__(self, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        """See `focuspull.model.renderer.BokehRenderer`."""
        validate_inputs(aif, disparity, k, focus_disparity)
        return aif.clone()
