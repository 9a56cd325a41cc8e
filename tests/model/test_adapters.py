"""Adapters: child processes that fail in every way, and what reaches each stand-in for a published system.

The stand-ins (`stand_ins/`) have the files, entry points and conventions of the published checkouts, and
their renderer without networks where there is one; so what is measured on their output is our mapping.
"""

from __future__ import annotations

import ast
import errno
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.model.adapters.config import load_adapters
from focuspull.model.adapters.process import Adapter, AdapterProblem, Checkout
from focuspull.model.adapters.record import CHILDREN, PublishedSystem, SystemInput, SystemRequest
from focuspull.model.adapters.self_test import FittedK, self_test
from focuspull.model.adapters.systems import SYSTEMS
from tests.model.checkouts import STAND_INS, complete, stand_in

torch.set_num_threads(1)


def frames(num_frames: int = 1, height: int = 8, width: int = 12) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A clip of a bright slope with a disparity that spans a part of [0, 1]."""
    x = torch.linspace(0.2, 0.8, width).expand(1, num_frames, 1, height, width)
    aif = torch.cat([x, 1 - x, 0.5 * x], 2)
    focus = torch.full((1, num_frames), 0.5)
    return aif, 0.3 + 0.5 * x, torch.full((1, num_frames), 4.0), focus


# Child processes


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[tuple[Adapter, list[str]]]:
    """An adapter to the failing checkout, and the list whose last entry its next request does."""
    shutil.copytree(STAND_INS / "failing", tmp_path / "checkout")
    todo = ["nothing"]
    adapter = Adapter(failing_system(todo), Checkout(tmp_path / "checkout", sys.executable))
    with adapter:
        yield adapter, todo


def failing_system(todo: list[str]) -> PublishedSystem:
    def prepare(given: SystemInput, options: Mapping[str, Any]) -> SystemRequest:
        return SystemRequest({"image": given.aif}, (8, 12), {"do": todo[-1]})

    return PublishedSystem(
        name="failing",
        title="Failing",
        paper="none",
        repository="nobody/failing",
        licence="none",
        files=("system.py",),
        weights_folder=".",
        weights=(),
        limits="none",
        child=STAND_INS / "failing" / "child.py",
        prepare=prepare,
        restore=lambda output, given: output,
        options={"load": "well"},
    )


def problem(adapter: Adapter) -> str:
    with pytest.raises(AdapterProblem) as raised:
        adapter(*frames())
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("failing: ")
    return message


def test_frames_come_back_in_order_from_one_process(failing: tuple[Adapter, list[str]]) -> None:
    adapter, _ = failing
    aif, disparity, k, focus = frames(3)
    aif = aif * torch.tensor([1.0, 0.5, 0.25]).reshape(1, 3, 1, 1, 1)
    given = [torch.cat([one, one]) for one in (aif, disparity, k, focus)]
    bokeh = adapter(*given)
    assert torch.equal(bokeh, given[0])
    assert adapter(*given).dtype == torch.float32
    assert adapter._number == 12
    assert list(Path(adapter._child._exchange.name).glob("*.npy")) == []  # type: ignore[union-attr]


@pytest.mark.parametrize("do", ["chatter", "read"])
def test_what_a_system_does_with_standard_streams_is_no_reply(
    failing: tuple[Adapter, list[str]], do: str
) -> None:
    adapter, todo = failing
    todo.append(do)
    given = frames()
    assert torch.equal(adapter(*given), given[0])


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("raise", r"its process ended with exit code 1 \(.*memory\)\. Run"),
        ("exit", r"its process ended with exit code 3 \(nothing on standard error\)\. Run"),
        ("segfault", r"its process was ended by signal 11, SIGSEGV \(nothing"),
        ("abandon", r"its process ended with exit code 4 \("),
        ("shape", r"returned an array of \[1, 7, 12, 3\], not \[1, 8, 12, 3\]\. Check"),
        ("nan", r"returned 2 of 288 values that are not finite\. Check weights"),
        ("range", r"returned values in \[25\.5, 204\], not in \[0, 1\]\. Check"),
    ],
)
def test_a_failure_is_one_line_and_the_next_call_works(
    failing: tuple[Adapter, list[str]], do: str, message: str
) -> None:
    adapter, todo = failing
    todo.append(do)
    with pytest.raises(AdapterProblem, match=message):
        adapter(*frames())
    todo.append("nothing")
    given = frames()
    assert torch.equal(adapter(*given), given[0])


def test_a_child_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    shutil.copytree(STAND_INS / "failing", folder)
    todo = ["nothing"]
    with Adapter(failing_system(todo), Checkout(folder, sys.executable, timeout_s=1.5)) as adapter:
        adapter(*frames())
        todo.append("hang")
        assert "gave no answer within 1.5 s and was killed with its processes. Raise timeout_s" in problem(
            adapter
        )
        grandchild = int((folder / "grandchild.pid").read_text())
        deadline = time.monotonic() + 5
        while runs(grandchild) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not runs(grandchild)
        todo.append("nothing")
        adapter(*frames())


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie, as it is where nobody adopts orphans."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ("missing", r"exit code 1 \(ModuleNotFoundError: No module named 'not_installed_here'\)"),
        ("hang", r"did not load within 1 s and was killed"),
    ],
)
def test_a_system_that_does_not_load_is_one_line(tmp_path: Path, load: str, message: str) -> None:
    checkout = Checkout(STAND_INS / "failing", sys.executable, timeout_s=1, options={"load": load})
    with Adapter(failing_system(["nothing"]), checkout, log=tmp_path / "logs") as adapter:
        with pytest.raises(AdapterProblem, match=message) as raised:
            adapter(*frames())
        log = tmp_path / "logs" / "failing.err.log"
        assert str(raised.value).endswith(f"What it printed is in {log}.")
        assert log.is_file()


def test_what_it_prints_is_kept_if_there_is_a_folder_for_it(tmp_path: Path) -> None:
    checkout = Checkout(STAND_INS / "failing", sys.executable)
    with Adapter(failing_system(["nothing"]), checkout, log=tmp_path) as adapter:
        adapter(*frames())
    assert "nothing on standard output" in (tmp_path / "failing.out.log").read_text()


def test_closing_ends_the_child_and_removes_its_folder() -> None:
    adapter = Adapter(failing_system(["nothing"]), Checkout(STAND_INS / "failing", sys.executable))
    adapter(*frames())
    child = adapter._child
    assert child is not None
    adapter.close()
    assert child._process.returncode is not None
    assert not Path(child._exchange.name).exists()
    adapter.close()


def test_an_interrupt_leaves_no_child(
    failing: tuple[Adapter, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, _ = failing
    adapter(*frames())
    child = adapter._child
    assert child is not None

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(child, "tell", interrupt)
    with pytest.raises(KeyboardInterrupt):
        adapter(*frames())
    assert child._process.returncode is not None
    assert adapter._child is None


def test_modules_of_ours_do_not_reach_the_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('ours')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Adapter(failing_system(["nothing"]), Checkout(STAND_INS / "failing", sys.executable)) as adapter:
        adapter(*frames())


def test_wrong_input_is_refused_before_anything_starts(failing: tuple[Adapter, list[str]]) -> None:
    adapter, _ = failing
    aif, disparity, k, focus = frames()
    with pytest.raises(ValueError, match="aif: must be in"):
        adapter(aif + 1, disparity, k, focus)
    assert adapter._child is None


# What has to be there


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_is_missing_is_named_before_anything_starts(name: str, tmp_path: Path) -> None:
    system = SYSTEMS[name]
    checkout = complete(name, tmp_path / "checkout")
    Adapter(system, checkout)

    with pytest.raises(
        AdapterProblem, match=rf"^{name}: checkout .*gone is missing\. Clone {system.repository}"
    ):
        Adapter(system, replace(checkout, folder=tmp_path / "gone"))
    with pytest.raises(
        AdapterProblem, match=rf"^{name}: python '/no/python' is missing or not executable\. Give"
    ):
        Adapter(system, replace(checkout, python="/no/python"))
    with pytest.raises(AdapterProblem, match=rf"^{name}: unknown option 'devise'\. "):
        Adapter(system, replace(checkout, options={"devise": 1}))
    with pytest.raises(AdapterProblem, match=rf"^{name}: timeout_s is 0\. Give seconds"):
        Adapter(system, replace(checkout, timeout_s=0))
    if system.weights_stay:
        with pytest.raises(AdapterProblem, match=rf"^{name}: its code opens weights in .* only\. Put them"):
            Adapter(system, replace(checkout, weights=tmp_path))
    for file in system.weights:
        weights = tmp_path / "checkout" / system.weights_folder
        (weights / file).rename(tmp_path / "elsewhere")
        with pytest.raises(AdapterProblem, match=rf"^{name}: weights .* have no {file}\. Get it"):
            Adapter(system, checkout)
        (tmp_path / "elsewhere").rename(weights / file)
    for file in system.files:
        (tmp_path / "checkout" / file).rename(tmp_path / "elsewhere")
        with pytest.raises(AdapterProblem, match=rf"^{name}: checkout .* has no {file}\. Clone"):
            Adapter(system, checkout)
        (tmp_path / "elsewhere").rename(tmp_path / "checkout" / file)


def test_a_log_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    checkout = Checkout(STAND_INS / "failing", sys.executable)
    with pytest.raises(
        AdapterProblem, match=r"^failing: log folder .*logs cannot be made \(Not a directory\)"
    ):
        Adapter(failing_system(["nothing"]), checkout, log=tmp_path / "file" / "logs")


def test_a_full_disk_is_one_line(failing: tuple[Adapter, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, _ = failing
    adapter(*frames())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", full)
    assert "its arrays could not be exchanged (No space left on device). Make room in" in problem(adapter)
    monkeypatch.undo()
    adapter(*frames())


def test_a_python_that_does_not_run_is_one_line(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("neither machine code nor a script")
    python.chmod(0o755)
    adapter = Adapter(failing_system(["nothing"]), Checkout(STAND_INS / "failing", python))
    assert "does not run (Exec format error). Give the Python" in problem(adapter)


@pytest.mark.parametrize("path", sorted(CHILDREN.glob("*.py")), ids=lambda path: path.name)
def test_scripts_of_children_are_python_3_7_without_focuspull(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert {name.split(".")[0] for name in imported} <= {*sys.stdlib_module_names, "numpy"}


# What reaches the systems


@pytest.fixture(scope="module")
def adapter_to(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Adapter]]:
    """A function that gives the adapter to a stand-in, the same for all tests."""
    folder = tmp_path_factory.mktemp("checkouts") / "stand_ins"
    adapters: dict[str, Adapter] = {}

    def adapter_to(name: str) -> Adapter:
        if name not in adapters:
            adapters[name] = Adapter(SYSTEMS[name], stand_in(name, folder / name))
        return adapters[name]

    yield adapter_to
    for adapter in adapters.values():
        adapter.close()


def spot(
    height: int, width: int, disparity: float, elsewhere: float, *, side: int = 1
) -> tuple[Tensor, Tensor]:
    """A white square on a black plane with another disparity in its left margin: it spans two values."""
    aif = torch.zeros(1, 1, 3, height, width)
    rows, columns = (slice(size // 2 - side // 2, size // 2 + side // 2 + 1) for size in (height, width))
    aif[..., rows, columns] = 1
    depth = torch.full((1, 1, 1, height, width), disparity)
    depth[..., : width // 16] = elsewhere
    return aif, depth


def light(name: str, bokeh: Tensor) -> Tensor:
    """What a system blurs, of the first frame ``[H, W]``: linear light, by the definition of sRGB, or not."""
    x = bokeh[0, 0, 1].double()
    if SYSTEMS[name].blurs == "encoded":
        return x
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def radius_px(image: Tensor, *, side: int = 1) -> float:
    """Of the disc with the second moment of an image ``[H, W]`` of a square around its middle."""
    y, x = (torch.arange(size) - size // 2 for size in image.shape)
    rho2 = y[:, None] ** 2 + x**2
    return math.sqrt(2 * (float((image * rho2).sum() / image.sum()) - (side**2 - 1) / 6))


IMAGE_SYSTEMS = [name for name in SYSTEMS if not SYSTEMS[name].takes_clips]
# Largest error of a radius, pixels, for K and the expected radius.
TOLERANCE_PX: dict[str, Callable[[float, float], float]] = {
    "deeplens": lambda k, radius: 0.1,
    "bokehme": lambda k, radius: 0.1,
    # Whole radii, less half a plane, planes of 1 / 32, and a kernel that is 0.15 px too wide.
    "mpib": lambda k, radius: 0.65 + k / 32,
    # Measured on its published weights: 0.3 px too wide from radius 8 on, 0.6 at 2.
    "drbokeh": lambda k, radius: 0.5,
    "bokehdiff": lambda k, radius: 0.1,
}


@pytest.mark.parametrize(
    ("disparity", "focus", "k"), [(0.75, 0.25, 12.0), (0.1, 0.6, 16.0), (0.5, 0.25, 32.0)]
)
@pytest.mark.parametrize("name", IMAGE_SYSTEMS)
def test_a_point_has_the_radius_that_k_says(
    adapter_to: Callable[[str], Adapter], name: str, disparity: float, focus: float, k: float
) -> None:
    """Disparity spans half of [0, 1] and less: with a min-max, the radius would be twice as large or more."""
    aif, depth = spot(65, 65, disparity, focus)
    bokeh = adapter_to(name)(aif, depth, torch.tensor([[k]]), torch.tensor([[focus]]))
    expected = k * abs(disparity - focus)
    assert radius_px(light(name, bokeh)) == pytest.approx(expected, abs=TOLERANCE_PX[name](k, expected))


@pytest.mark.parametrize(("height", "width", "scale"), [(16, 656, 2), (12, 1280, 4)])
def test_deeplens_keeps_the_radius_on_its_pyramid(
    adapter_to: Callable[[str], Adapter], height: int, width: int, scale: int
) -> None:
    """Measured along the row, since the frame is low: the mean square offset in x of a disc is r^2 / 4."""
    height, side = 8 * height, 3 * scale
    aif, depth = torch.zeros(1, 1, 3, height, width), torch.full((1, 1, 1, height, width), 0.75)
    rows, columns = (slice(size // 2 - side // 2, size // 2 - side // 2 + side) for size in (height, width))
    aif[..., rows, columns] = 1
    depth[..., :9] = 0.25
    bokeh = adapter_to("deeplens")(aif, depth, torch.tensor([[40.0]]), torch.tensor([[0.25]]))
    profile = bokeh[0, 0, 1].double().sum(0)
    x = torch.arange(width, dtype=torch.float64)
    mean = float((profile * x).sum() / profile.sum())
    variance = float((profile * (x - mean) ** 2).sum() / profile.sum()) - (side**2 - 1) / 12
    assert 2 * math.sqrt(variance) == pytest.approx(20, abs=0.08 * 20)


def test_any_to_bokeh_gets_focus_and_k_at_its_own_width(adapter_to: Callable[[str], Adapter]) -> None:
    """14 frames of half its size, K and focus different in each: 8-bit files through three groups of 8."""
    num_frames = 14
    aif, depth = spot(288, 512, 0.75, 0.3, side=9)
    aif, depth = aif.expand(1, num_frames, -1, -1, -1), depth.expand(1, num_frames, -1, -1, -1)
    k, focus = torch.arange(6.0, 20.0)[None], torch.linspace(0.1, 0.35, num_frames)[None]
    bokeh = adapter_to("any_to_bokeh_official")(aif, depth, k, focus)
    for i in range(num_frames):
        found = light("any_to_bokeh_official", bokeh[:, i:])
        found = torch.where(found > 1 / 255, found, 0)
        assert radius_px(found, side=9) == pytest.approx(float(k[0, i] * (0.75 - focus[0, i])), abs=0.35), i


@pytest.mark.parametrize("name", IMAGE_SYSTEMS)
def test_no_blur_gives_the_image_back(adapter_to: Callable[[str], Adapter], name: str) -> None:
    """So colours, channels and the curve that a system undoes are as they were."""
    aif, disparity, _, focus = frames(2, 10, 20)
    disparity = disparity.clamp(0.45, 0.55) if name == "mpib" else disparity
    bokeh = adapter_to(name)(aif, disparity, torch.zeros(1, 2), focus)
    # Dr.Bokeh blurs by more than a pixel what is in focus.
    blurs_always = name == "drbokeh"
    inner = (..., slice(3, -3), slice(3, -3)) if blurs_always else ...
    torch.testing.assert_close(bokeh[inner], aif[inner], atol=0.02 if blurs_always else 1e-3, rtol=0)


def test_mpib_takes_half_a_plane_off_unless_told_otherwise(
    adapter_to: Callable[[str], Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    k = 44.0
    aif, depth = spot(97, 97, 24.5 / 32, 0.25)
    given = (aif, depth, torch.tensor([[k]]), torch.tensor([[0.25]]))
    plane = k * (24.5 / 32 - 0.25)
    published = radius_px(light("mpib", adapter_to("mpib")(*given)))
    assert published == pytest.approx(round(plane - k / 64), abs=0.2)
    monkeypatch.setitem(adapter_to("mpib")._options, "increase_focus_range", False)
    exact = radius_px(light("mpib", adapter_to("mpib")(*given)))
    assert exact == pytest.approx(round(plane), abs=0.2)


@pytest.mark.parametrize("name", ["deeplens", "bokehme", "bokehdiff"])
def test_the_self_test_runs_on_an_adapter(adapter_to: Callable[[str], Adapter], name: str) -> None:
    adapter = adapter_to(name)
    result = self_test(adapter, ks=(8.0, 14.0), size=(80, 80), domain=adapter.system.blurs)
    assert result.factor == pytest.approx(1, abs=0.02)
    halved = self_test(FittedK(adapter, 0.5), ks=(14.0,), size=(80, 80), domain=adapter.system.blurs)
    assert halved.factor == pytest.approx(2, abs=0.06)


# The mapping alone


def given(
    disparity: Sequence[float], k: float = 10.0, focus: float = 0.4, size: tuple[int, int] = (2, 3)
) -> SystemInput:
    """One frame per disparity, each spanning only ``[d, d + 0.1]``."""
    count = len(disparity)
    aif = np.full((count, *size, 3), (0.2, 0.5, 0.8), np.float32)
    depth = np.stack([np.linspace(d, d + 0.1, size[0] * size[1]).reshape(size) for d in disparity])
    return SystemInput(aif, depth.astype(np.float32), np.full(count, k), np.full(count, focus))


@pytest.mark.parametrize("name", SYSTEMS)
def test_disparity_is_not_spread_over_its_range(name: str) -> None:
    """Moving disparity and focus by 0.2 moves what is sent by 0.2 or, if it is signed, by 0."""
    system = SYSTEMS[name]
    size, count = ((36, 64), 13) if name == "any_to_bokeh_official" else ((16, 16), 1)
    moved = 51 / 255
    near, far = given([0.4 + moved] * count, 10, 0.5, size), given([0.4] * count, 10, 0.5 - moved, size)
    sent = [system.prepare(one, system.options).arrays for one in (near, far)]
    key, step = {
        "deeplens": ("depth_320_signed", 0.0),
        "bokehme": ("defocus", 0.0),
        "any_to_bokeh_official": ("disparity", 51),
    }.get(name, ("disparity", moved))
    difference = sent[0][key].astype(np.float64) - sent[1][key]
    np.testing.assert_allclose(difference, step, atol=1.0 if difference.max() > 1 else 1e-6)
    unit = {"deeplens": 10 / 8, "bokehme": 10 / 10, "any_to_bokeh_official": 255}.get(name, 1)
    # 8 bits round; DeepLens's base scale is the frame at this size.
    assert np.ptp(sent[0][key]) == pytest.approx(0.1 * unit, abs=1.0 if unit == 255 else 1e-6)


def test_bokehme_gets_a_tenth_of_the_signed_radius_and_a_power_curve() -> None:
    request = SYSTEMS["bokehme"].prepare(given([0.3]), {})
    np.testing.assert_allclose(request.arrays["defocus"], (given([0.3]).disparity - 0.4) * 10 / 10, atol=1e-6)
    linear = ((0.5 + 0.055) / 1.055) ** 2.4
    assert request.arrays["image"][0, 0, 0, 1] == pytest.approx(linear ** (1 / 2.2), abs=1e-6)
    assert request.values == {"gamma": 2.2}


def test_bokehdiff_gets_near_as_one_and_an_unsigned_tenth() -> None:
    request = SYSTEMS["bokehdiff"].prepare(given([0.3], size=(9, 16)), {})
    assert request.arrays["disparity"].shape == (1, 16, 16)
    assert request.size == (16, 16)
    depth = given([0.3], size=(9, 16)).disparity
    np.testing.assert_array_equal(request.arrays["disparity"][:, :9], depth)
    np.testing.assert_allclose(request.arrays["defocus"][:, :9], abs(depth - 0.4), atol=1e-6)
    np.testing.assert_allclose(request.arrays["image"][0, 0, 0], [-0.6, 0, 0.6], atol=1e-6)
    restored = SYSTEMS["bokehdiff"].restore(np.zeros((1, 16, 16, 3), np.float32), given([0.3], size=(9, 16)))
    assert restored.shape == (1, 9, 16, 3)


def test_drbokeh_gets_a_matte_of_what_is_nearer_than_the_focus_and_an_odd_kernel() -> None:
    request = SYSTEMS["drbokeh"].prepare(given([0.35], k=31.2), {})
    depth = given([0.35]).disparity
    np.testing.assert_array_equal(request.arrays["alpha"], 31.2 * (depth - 0.4) > 0.5)
    assert 0 < request.arrays["alpha"].sum() < 6
    lens = request.values["lens"]
    # The largest radius that disparity in [0, 1] can have is 0.6 K.
    assert lens % 2 == 1
    assert 2 * (0.6 * 31.2 + 1) + 3 <= lens <= 2 * (0.6 * 31.2 + 2) + 3
    assert request.values["k"] == 31.2


@pytest.mark.parametrize(("width", "scale"), [(639, 1), (640, 2), (1024, 2), (1279, 2), (1280, 4), (2560, 4)])
def test_deeplens_gets_its_pyramid_and_an_aperture_by_scale(width: int, scale: int) -> None:
    request = SYSTEMS["deeplens"].prepare(given([0.3], size=(64, width)), {})
    assert request.values["scale"] == scale
    shrink = min(1, 1280 / width)
    assert request.size == (64 * shrink, round(width * shrink))
    base = request.arrays["image_320"]
    assert base.shape == (request.size[0] // scale, request.size[1] // scale, 3)
    assert {name for name in request.arrays if name.startswith("image")} == {
        1: {"image_320"},
        2: {"image_320", "image_640"},
        4: {"image_320", "image_640", "image_1280"},
    }[scale]
    np.testing.assert_allclose(base[0, 0], [0.8, 0.5, 0.2], atol=1e-6)  # blue, green, red
    signed = request.arrays["depth_320_signed"]
    assert signed.shape == base.shape[:2]
    # From -0.1 to 0 in units of disparity.
    assert signed.min() == pytest.approx(-0.1 * shrink * 10 / (8 * scale), rel=0.1)


def test_any_to_bokeh_gets_file_names_with_focus_and_whole_k() -> None:
    clip = given([0.3] * 13, k=8, focus=0.37512, size=(72, 128))
    request = SYSTEMS["any_to_bokeh_official"].prepare(clip, {"round_k": False})
    assert request.arrays["image"].shape == (13, 576, 1024, 3)
    assert request.arrays["image"].dtype == np.uint8
    assert request.values["names"][12] == "12_zf_0.37512_k_64"


OFFICIAL = "any_to_bokeh_official"


@pytest.mark.parametrize(
    ("name", "clip", "message"),
    [
        ("mpib", given([0.95]), r"mpib: takes disparity in \[0, 1\], got \[0\.95, 1\.05\]\. Scale it"),
        ("drbokeh", given([-0.1]), r"drbokeh: takes disparity in \[0, 1\]"),
        ("mpib", given([0.3], k=500), r"mpib: blurs by 200 px at most, K and focus would make 300\. Use"),
        (
            "any_to_bokeh_official",
            given([0.3] * 12, size=(9, 16)),
            r"takes 13 frames or more, got 12\. Use longer",
        ),
        (OFFICIAL, given([0.3] * 13, size=(9, 9)), r"takes frames of 16:9 .*, got 9x9\. Crop"),
        (
            "any_to_bokeh_official",
            given([0.3] * 13, focus=1.2, size=(9, 16)),
            r"focus disparities in \[0, 1\]",
        ),
        (
            "any_to_bokeh_official",
            given([0.3] * 13, k=3.1, size=(288, 512)),
            r"whole numbers .* got 6\.2\. Set",
        ),
    ],
)
def test_what_a_system_cannot_take_is_refused(name: str, clip: SystemInput, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SYSTEMS[name].prepare(clip, SYSTEMS[name].options)


def test_any_to_bokeh_rounds_k_if_asked_to() -> None:
    clip = given([0.3] * 13, k=3.1, size=(288, 512))
    request = SYSTEMS["any_to_bokeh_official"].prepare(clip, {"round_k": True})
    assert request.values["names"][0].endswith("_k_6")


# The configuration


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_file_says_where_systems_are(tmp_path: Path) -> None:
    complete("mpib", tmp_path / "MPIB")
    complete("bokehme", tmp_path / "somewhere" / "BokehMe")
    (tmp_path / "weights").mkdir()
    for file in SYSTEMS["bokehme"].weights:
        (tmp_path / "weights" / file).touch()
    text = f"""
systems:
  mpib: {{checkout: MPIB, python: {sys.executable}}}
  bokehme:
    checkout: {tmp_path}/somewhere/BokehMe
    python: {Path(sys.executable).name}
    weights: weights
    timeout_s: 30
    options: {{device: cpu}}
"""
    adapters = load_adapters(write(tmp_path / "systems.yaml", text), log=tmp_path / "logs")
    assert list(adapters) == ["bokehme", "mpib"]
    checkout = adapters["bokehme"].checkout
    assert checkout.weights == tmp_path / "weights"
    assert checkout.timeout_s == 30
    assert checkout.options == {"device": "cpu"}
    assert adapters["mpib"].checkout == Checkout(tmp_path / "MPIB", Path(sys.executable))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("systems: {bokehmee: {}}", "s.yaml: unknown field 'systems.bokehmee'. Did you mean 'bokehme'?"),
        (
            "systems: {mpib: {chekout: a, python: b}}",
            "s.yaml: unknown field 'systems.mpib.chekout'. Did you mean 'checkout'?",
        ),
        ("systems: {mpib: {checkout: a}}", "s.yaml: field 'systems.mpib.python' is missing. Add it."),
        (
            "systems: {mpib: {checkout: a, python: b, timeout_s: 0}}",
            "s.yaml: field 'systems.mpib.timeout_s': Input should be greater than 0, got 0",
        ),
        ("systems: {}", "s.yaml: names no system. Add one of: deeplens, bokehme, mpib"),
        ("[1]", "s.yaml: is not a mapping of fields. Start it with systems:"),
        ("systems: {mpib: {checkout: gone, python: b}}", "mpib: checkout "),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        load_adapters(write(tmp_path / "s.yaml", text))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
