"""Adapters: child processes that fail in every way, and what reaches each stand-in for a published system.

The stand-ins (`stand_ins/`) have the files, entry points and conventions of the published checkouts, and
their renderer without networks where there is one; so what is measured on their output is our mapping.
"""

from __future__ import annotations

import ast
import math
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from focuspull.model.adapters.process import Adapter, AdapterProblem, Checkout
from focuspull.model.adapters.record import CHILDREN, PublishedSystem, SystemInput, SystemRequest
from focuspull.model.adapters.systems import SYSTEMS

STAND_INS = Path(__file__).with_name("stand_ins")

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


def complete(name: str, folder: Path) -> Checkout:
    """A checkout with every file that is asked for, all empty."""
    system = SYSTEMS[name]
    paths = [folder / file for file in system.files]
    for path in [*paths, *(folder / system.weights_folder / file for file in system.weights)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Checkout(folder, sys.executable)


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
    for file in system.weights:
        with pytest.raises(AdapterProblem, match=rf"^{name}: weights .*empty have no {file}\. Get it"):
            Adapter(system, replace(checkout, weights=tmp_path / "empty"))
        break
    for file in system.files:
        (tmp_path / "checkout" / file).rename(tmp_path / "elsewhere")
        with pytest.raises(AdapterProblem, match=rf"^{name}: checkout .* has no {file}\. Clone"):
            Adapter(system, checkout)
        (tmp_path / "elsewhere").rename(tmp_path / "checkout" / file)


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
def bokehme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    weights = tmp_path_factory.mktemp("bokehme")
    for name in ("arnet", "iunet"):
        torch.save({"model": {"scale": torch.zeros(1)}}, weights / f"{name}.pth")
    checkout = Checkout(STAND_INS / "bokehme", sys.executable, weights, options={"device": "cpu"})
    with Adapter(SYSTEMS["bokehme"], checkout) as adapter:
        yield adapter


def point(size: int = 65, disparity: float = 0.75, elsewhere: float = 0.25) -> tuple[Tensor, Tensor]:
    """A white pixel on a black plane with another disparity in its left margin: it spans two values."""
    aif = torch.zeros(1, 1, 3, size, size)
    aif[..., size // 2, size // 2] = 1
    depth = torch.full((1, 1, 1, size, size), disparity)
    depth[..., :2] = elsewhere
    return aif, depth


def light(bokeh: Tensor) -> Tensor:
    """Linear light of one frame ``[H, W]``, by the definition of sRGB."""
    x = bokeh[0, 0, 1].double()
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def radius_px(image: Tensor) -> float:
    """Of the disc with the second moment of an image ``[H, W]`` around its middle."""
    y, x = (torch.arange(side) - side // 2 for side in image.shape)
    rho2 = y[:, None] ** 2 + x**2
    return math.sqrt(2 * float((image * rho2).sum() / image.sum()))


def rendered(adapter: Adapter, disparity: float, focus: float, k: float, size: int = 65) -> Tensor:
    aif, depth = point(size, disparity, elsewhere=focus)
    return adapter(aif, depth, torch.tensor([[k]]), torch.tensor([[focus]]))


@pytest.mark.parametrize(
    ("disparity", "focus", "k"), [(0.75, 0.25, 12.0), (0.1, 0.9, 10.0), (0.5, 0.25, 36.0)]
)
def test_a_point_has_the_radius_that_k_says(
    bokehme: Adapter, disparity: float, focus: float, k: float
) -> None:
    """Disparity spans half of [0, 1] and less: with a min-max, the radius would be twice as large."""
    found = light(rendered(bokehme, disparity, focus, k))
    assert radius_px(found) == pytest.approx(k * abs(disparity - focus), rel=0.02, abs=0.1)
    # BokehMe's weights are not normalised per source: its light is conserved to some per cent.
    assert float(found.sum()) == pytest.approx(1, rel=0.1)


def test_light_is_blurred_under_the_curve_that_the_system_undoes(bokehme: Adapter) -> None:
    """Without blur the curve there and back is the identity."""
    aif, disparity, _, focus = frames()
    bokeh = bokehme(aif, disparity, torch.zeros(1, 1), focus)
    torch.testing.assert_close(bokeh, aif, atol=1e-4, rtol=0)
