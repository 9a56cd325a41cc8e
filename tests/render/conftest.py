"""A corpus so small that a clip takes a second, and a way to get at the processes that render it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.benchmarks.agreement import Files

WEE = """
name: wee
description: two boxes on a floor
seed: 0
backend: mitsuba
splits: {train: 2, val: 1}
clips_per_shard: 1
film: {width: 64, height: 36, fps: 24, num_frames: 2}
quality: {aif_samples: 2, bokeh_samples: 2, max_bounces: 2, denoise: true}
scenes:
  - family: world
    world:
      objects:
        - {name: floor, shape: {type: plane, size_m: [20, 20]}}
        - name: near
          role: subject
          shape: {type: box, size_m: [0.5, 0.5, 1]}
          position_m: [0.3, 0, 0.5]
          material: {base_color: [0.8, 0.2, 0.1]}
        - name: far
          role: background
          shape: {type: box, size_m: [1, 1, 2]}
          position_m: [-0.6, 4, 1]
          material: {base_color: [0.1, 0.3, 0.8]}
      lights:
        - {type: area, position_m: [-2, -3, 4], look_at_m: [0, 0, 0], size_m: [1, 1], radiance: [9, 9, 9]}
      camera:
        path: {type: dolly, position_m: [0, -4, 1.2], look_at_m: [0, 0, 0.6], offset_m: [0.1, 0, 0]}
targets:
  - {k_at_1024: [64, 128], focus: [subject, background]}
  - {k_at_1024: 0, focus: [0.0]}
"""


@pytest.fixture(scope="session")
def wee(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a spec: 3 clips of 2 frames, one clip per shard, each clip with other K and noise."""
    path = tmp_path_factory.mktemp("specs") / "wee.yaml"
    path.write_text(WEE)
    return str(path)


@pytest.fixture(scope="session")
def render_children() -> Callable[[Path], list[int]]:
    """A function that finds the processes that render into a folder."""

    def find(folder: Path) -> list[int]:
        found: list[int] = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_text().split("\0")
            except OSError:
                continue  # it has ended since
            if "focuspull.render.worker" in command and any(
                word.startswith(f"{folder}/") for word in command
            ):
                found.append(int(process.name))
        return found

    return find


@pytest.fixture(scope="session")
def rendering(render_children: Callable[[Path], list[int]]) -> Callable[[Path], int]:
    """A function that waits until a process with a renderer works for a folder, and returns its id."""

    def wait(folder: Path) -> int:
        for _ in _seconds(60):
            for process in render_children(folder):
                try:
                    maps = Path(f"/proc/{process}/maps").read_text()
                except OSError:
                    continue
                if "/libmitsuba.so" in maps or "/bpy/" in maps:
                    return process
        raise AssertionError(f"nothing renders into {folder}")

    return wait


def _seconds(limit: float) -> Iterator[None]:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        yield
        time.sleep(0.02)


@pytest.fixture(
    params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("cycles", "mitsuba")]
)
def backend(request: pytest.FixtureRequest) -> str:
    """Each renderer in turn."""
    return request.param


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Images by content; a scene that two tests share names the same files, and is rendered once."""
    return Files(tmp_path_factory.mktemp("images"))
