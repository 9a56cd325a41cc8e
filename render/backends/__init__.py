"""Renderers behind one protocol: a backend opens a `Session` on a built scene.

What they share, so that they agree: the camera and its pixel grid, a 1-px box filter, no clamping of
samples, single-scatter GGX with height-correlated masking, path depth, and the arrays of
`focuspull.render.build`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from focuspull.dataset.errors import UserError

if TYPE_CHECKING:
    from focuspull.render.build import Built
    from focuspull.render.frames import Session


class BackendModule(Protocol):
    """What a backend's module provides."""

    def choose_variant(self) -> str:
        """The variant of the renderer that works here; light, does not import the renderer."""
        ...

    def force_variant(self, variant: str) -> None:
        """Makes sessions use a variant that was chosen before; an empty name leaves the choice."""
        ...

    def open_session(self, built: Built, *, threads: int) -> Session:
        """Loads the scene; one session at a time and process."""
        ...

    def export_scene(self, built: Built, frame: int, folder: Path) -> None:
        """Writes the scene in the renderer's own format, for a look inside, into a folder that exists."""
        ...


# What bpy's shared object links, and the Debian and Ubuntu packages that have it (from a minimal Debian 12).
_BPY_LIBRARIES = {
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libXext.so.6": "libxext6",
    "libGL.so.1": "libgl1",
}


@dataclass(frozen=True)
class Backend:
    """A renderer that may be installed.

    Attributes:
        name: As in a spec's ``backend`` field.
        module: Where its code is.
        package: The distribution it needs.
        libraries: System libraries it links, with the packages that have them.
    """

    name: str
    module: str
    package: str
    libraries: Mapping[str, str] = field(default_factory=dict)

    def missing_packages(self) -> list[str]:
        """System packages whose libraries cannot be loaded; does not import the renderer."""
        missing = []
        for library, package in self.libraries.items():
            try:
                ctypes.CDLL(library)
            except OSError:
                missing.append(package)
        return missing

    def version(self) -> str:
        """Version of the installed renderer.

        Raises:
            UserError: If it, or a system library it links, is not installed.
        """
        if find_spec(self.package) is None:
            raise UserError(
                f"backend '{self.name}': {self.package} is not installed. Install it with: "
                "pip install 'focuspull[render]'"
            )
        missing = self.missing_packages()
        if missing:
            raise UserError(
                f"backend '{self.name}': {self.package} needs system libraries that are missing. "
                f"Install the packages: {' '.join(missing)}"
            )
        return metadata.version(self.package)

    def load(self) -> BackendModule:
        """Imports the backend's code (heavy)."""
        self.version()
        return import_module(self.module)  # type: ignore[return-value]


BACKENDS = {
    "cycles": Backend("cycles", "focuspull.render.backends.cycles", "bpy", _BPY_LIBRARIES),
    "mitsuba": Backend("mitsuba", "focuspull.render.backends.mitsuba", "mitsuba"),
}


def get_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        UserError: If there is none.
    """
    if name not in BACKENDS:
        raise UserError(f"backend: '{name}' is unknown. Use one of: {', '.join(BACKENDS)}.")
    return BACKENDS[name]
