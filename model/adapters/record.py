"""What is known about a published system, and what goes to it: frozen records without behaviour.

Images are ``[T, H, W, 3]`` float32, sRGB-encoded, in [0, 1]; disparity is 1 where nearest, one map for the
whole clip; K is the blur radius in pixels of the frames' own width per unit of disparity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

CHILDREN = Path(__file__).with_name("child")
"""Folder of the scripts that a checkout's Python runs."""


@dataclass(frozen=True)
class SystemInput:
    """Frames of one clip as focuspull has them.

    Attributes:
        aif: ``[T, H, W, 3]`` float32, sRGB-encoded, in [0, 1].
        disparity: ``[T, H, W]`` float32, 1 is nearest.
        k: ``[T]``, blur radius in pixels of this width per unit of disparity.
        focus_disparity: ``[T]``.
    """

    aif: NDArray[np.float32]
    disparity: NDArray[np.float32]
    k: NDArray[np.float64]
    focus_disparity: NDArray[np.float64]


@dataclass(frozen=True)
class SystemRequest:
    """The same frames as a system wants them.

    Attributes:
        arrays: Exchanged as .npy files.
        size: Height and width of the images to come back.
        values: Whatever else JSON can hold.
    """

    arrays: Mapping[str, NDArray[Any]]
    size: tuple[int, int]
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class PublishedSystem:
    """A published system and how to talk to it.

    Attributes:
        name: Of the row in a table and of the section in a configuration.
        title: As its authors write it.
        paper: Where it was published.
        repository: Its public code, ``owner/name``.
        licence: What is known about it; nothing of it is copied here, whatever it says.
        files: That a checkout must have.
        weights_folder: Where weights are if nobody says otherwise, within the checkout.
        weights: Files that must be there.
        weights_stay: Whether its code opens them there and nowhere else.
        limits: Of the system, for reports.
        child: The script that the checkout's Python runs.
        prepare: ``(input, options) -> request``; pure. Raises ValueError for what the system cannot take.
        restore: ``(output [T, H', W', 3] in [0, 1], input) -> [T, H, W, 3]`` sRGB-encoded; pure.
        takes_clips: Whether frames belong together; otherwise each is a request of its own.
        blurs: Light, or display values as they are stored.
        options: What a user may set, with what it is otherwise.
    """

    name: str
    title: str
    paper: str
    repository: str
    licence: str
    files: tuple[str, ...]
    weights_folder: str
    weights: tuple[str, ...]
    limits: str
    child: Path
    prepare: Callable[[SystemInput, Mapping[str, Any]], SystemRequest]
    restore: Callable[[NDArray[np.float32], SystemInput], NDArray[np.float32]]
    weights_stay: bool = False
    takes_clips: bool = False
    blurs: Literal["linear", "encoded"] = "linear"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
