"""The files that a scene refers to, found without knowing what a scene is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

BUNDLED_PREFIX = "bpy:"
"""Start of the names of files that come with Blender."""


def scene_files(scene: Any) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of every file that a scene, or a part of one, refers to; some more than once."""
    if isinstance(scene, dict):
        name, sha256 = scene.get("name"), scene.get("sha256")
        if isinstance(name, str) and isinstance(sha256, str) and sha256:
            yield name, sha256
        for part in scene.values():
            yield from scene_files(part)
    elif isinstance(scene, list | tuple):
        for part in scene:
            yield from scene_files(part)
