"""Rendering for tests and benchmarks: every scene in a child process, none twice in one session.

Blender and Mitsuba do not share a process here, and neither is torn down in order (bpy may crash when it
is): the child writes its result and ends at once. Whoever imports this file does it as ``tests.rendering``,
from the root of the repository; the child is this very file, run as a script.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from focuspull.render import spec
from focuspull.render.frames import Frames

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("cycles", "mitsuba")
TIMEOUT_S = 3600

Result = TypeVar("Result")
_rendered: dict[tuple[Any, ...], Frames] = {}


def in_child(function: Callable[..., Result], *args: Any, env: dict[str, str] | None = None) -> Result:
    """Calls a function of a module under ``tests`` in a process of its own.

    Args:
        function: At the top level of its module.
        args: Anything that pickles.
        env: Variables to add to the environment.

    Raises:
        RuntimeError: If the child failed; its last lines of output are in the message.
    """
    with tempfile.TemporaryDirectory(prefix="focuspull-test-") as folder:
        result = Path(folder) / "result.pickle"
        module = function.__module__
        if module == "__main__":  # a benchmark, run by ``python -m``
            spec_of_main = sys.modules["__main__"].__spec__
            assert spec_of_main is not None
            module = spec_of_main.name
        call = pickle.dumps((module, function.__qualname__, args, str(result)))
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            input=call,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode or not result.is_file():
            tail = done.stdout.decode(errors="replace")[-3000:]
            raise RuntimeError(f"{function.__qualname__}: the child ended with {done.returncode}:\n{tail}")
        return pickle.loads(result.read_bytes())


def render(
    backend: str,
    *scenes: spec.SceneSpec,
    files: dict[str, Path] | None = None,
    frames: Sequence[int] | None = None,
    threads: int = 1,
    variant: str = "",
) -> list[Frames]:
    """Renders scenes one after another in one child; a scene that this session rendered before is not
    rendered again.

    Args:
        backend: ``cycles`` or ``mitsuba``.
        scenes: What to render.
        files: Where each file of the scenes lies, by SHA-256.
        frames: Frames to render, all if not given.
        threads: Threads of the renderer.
        variant: Forces a variant of Mitsuba.
    """
    how = (backend, None if frames is None else tuple(frames), threads, variant)
    missing = [scene for scene in scenes if (*how, scene.sha256()) not in _rendered]
    if missing:
        env = {"FOCUSPULL_MITSUBA_VARIANT": variant} if variant else None
        arrays = in_child(
            _render_all, backend, [s.canonical_json() for s in missing], files or {}, frames, threads, env=env
        )
        _rendered.update(
            {(*how, scene.sha256()): result for scene, result in zip(missing, arrays, strict=True)}
        )
    return [_rendered[*how, scene.sha256()] for scene in scenes]


def simple_scene(
    objects: Sequence[dict[str, Any]],
    *,
    eye: tuple[float, float, float] = (0.0, -5.0, 1.0),
    aim: tuple[float, float, float] = (0.0, 0.0, 1.0),
    size: tuple[int, int] = (64, 36),
    samples: int = 1,
    max_bounces: int = 0,
    environment: dict[str, Any] | None = None,
    lights: Sequence[dict[str, Any]] = (),
    camera: dict[str, Any] | None = None,
    film: dict[str, Any] | None = None,
    quality: dict[str, Any] | None = None,
    lens: dict[str, Any] | None = None,
    k_at_1024: float = 0.0,
    seed: int = 3,
) -> spec.SceneSpec:
    """A scene for one property: a static camera, light from everywhere unless asked otherwise, one target."""
    film = {"width": size[0], "height": size[1], "num_frames": 1} | (film or {})
    quality = {
        "aif_samples": samples,
        "bokeh_samples": samples if k_at_1024 else 1,
        "denoise": False,
        "max_bounces": max_bounces,
    } | (quality or {})
    target = {
        "k_at_1024": (k_at_1024,) * film["num_frames"],
        "focus": [{"frame": 0, "disparity": 0.5}],
        "lens": lens or {},
    }
    return spec.SceneSpec.model_validate(
        {
            "seed": seed,
            "film": film,
            "quality": quality,
            "world": {
                "objects": objects,
                "lights": lights,
                "environment": environment or {"type": "constant", "radiance": (1, 1, 1)},
                "camera": {"path": {"type": "static", "position_m": eye, "look_at_m": aim}} | (camera or {}),
            },
            "targets": [target],
        }
    )


def open_session(
    backend: str, scene: spec.SceneSpec, files: dict[str, Path], threads: int
) -> tuple[Any, Any]:
    """A session and its built scene; for functions that run `in_child`."""
    from focuspull.render.backends import get_backend
    from focuspull.render.build import build

    built = build(scene, files)
    return get_backend(backend).load().open_session(built, threads=threads), built


def _render_all(
    backend: str, scenes: list[str], files: dict[str, Path], frames: Sequence[int] | None, threads: int
) -> list[Frames]:
    from focuspull.render.frames import render_frames

    results = []
    for text in scenes:
        session, built = open_session(backend, spec.SceneSpec.model_validate_json(text), files, threads)
        results.append(render_frames(session, built, frames))
    return results


def _child() -> None:
    module, name, args, result = pickle.loads(sys.stdin.buffer.read())
    sys.path.insert(0, str(ROOT))
    value = getattr(import_module(module), name)(*args)
    Path(result).write_bytes(pickle.dumps(value))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _child()
