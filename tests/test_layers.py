"""Who may import whom, and where randomness may come from, read from the sources without importing them.

The layers (README, "How it fits together"): `dataset` stands alone, `render` and `model` stand on it, `train`
stands on `model` and `dataset`; `render` and `train` meet only through shards. Each heavy package has one
leaf that may import it. Randomness enters as a `numpy.random.Generator` made from a seed; nothing else draws.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each folder and the folders that it may import from.
LAYERS = {
    "dataset": {"dataset"},
    "render": {"render", "dataset"},
    "model": {"model", "dataset"},
    "train": {"train", "model", "dataset"},
}

CYCLES = ("render/backends/cycles*",)
MITSUBA = ("render/backends/mitsuba*", "render/backends/denoise*")
NETWORKS = ("model/*", "train/*")

# Each restricted package and the files that may import it. `*` also matches `/`.
LEAVES = {
    "bpy": CYCLES,
    "bmesh": CYCLES,
    "mathutils": CYCLES,
    "mitsuba": MITSUBA,
    "drjit": MITSUBA,
    "mitsuba_oidn": MITSUBA,
    "mujoco": ("render/physics.py",),
    "ray": ("render/cluster.py", "train/cluster.py"),
    "torch": ("dataset/loader.py", *NETWORKS),
    "diffusers": NETWORKS,
    "transformers": NETWORKS,
    "safetensors": NETWORKS,
    # Loads only beside the very build of torch that it was made for, and takes diffusers down with it.
    "torchvision": (),
}

# What `numpy.random` offers that draws from no global state.
SEEDED_NUMPY = {
    "BitGenerator",
    "Generator",
    "MT19937",
    "PCG64",
    "PCG64DXSM",
    "Philox",
    "SFC64",
    "SeedSequence",
    "default_rng",
}
# Called without a seed these take one from the operating system.
NEED_A_SEED = {f"numpy.random.{name}" for name in SEEDED_NUMPY - {"BitGenerator", "Generator"}}
RANDOM_MODULES = {"random", "secrets", "uuid"}
# A file that may import one of these all the same, because what it draws never reaches a pixel or a shard.
EXEMPT = {("dataset/files.py", "secrets")}  # Names of temporary files, which two processes must not share.
RANDOM_CALLS = {"os.urandom", "torch.seed", "torch.random.seed", "torch.initial_seed"}
# What differs from run to run, and so cannot be part of a seed.
VOLATILE = ("time.", "datetime.", "os.getpid", "os.urandom", "os.times", "secrets.", "uuid.", "id", "hash")


def layer_problems(path: str, source: str) -> list[str]:
    """Check one file's imports against the layers and leaves.

    Args:
        path: where the file is, relative to the repository, with `/`.
        source: its text.

    Returns:
        One line for each import that is not allowed.
    """
    folder = path.split("/")[0]
    problems: list[str] = []
    for line, name in _imports(ast.parse(source)):
        where = f"{path}:{line}"
        parts = name.split(".")
        if name.startswith("."):
            problems.append(f"{where}: relative import; write focuspull.{folder}…")
        elif parts[0] in LAYERS:
            problems.append(f"{where}: imports {name}; write focuspull.{name}")
        elif parts[0] == "focuspull" and folder in LAYERS:
            if len(parts) == 1:
                problems.append(f"{where}: imports the bare namespace focuspull; name the module")
            elif parts[1] not in LAYERS[folder]:
                problems.append(f"{where}: {folder} may not import focuspull.{parts[1]}")
        elif parts[0] in LEAVES and folder in LAYERS:
            allowed = LEAVES[parts[0]]
            if not any(fnmatch(path, pattern) for pattern in allowed):
                problems.append(f"{where}: imports {parts[0]}, allowed in: {', '.join(allowed) or 'no file'}")
    return problems


def randomness_problems(path: str, source: str) -> list[str]:
    """Find randomness that does not come from a seed.

    Args:
        path: where the file is, for the message.
        source: its text.

    Returns:
        One line for each use of a global generator, missing or volatile seed, and optional `rng` or `seed`.
    """
    tree = ast.parse(source)
    names = _names_of_imports(tree)
    problems: list[str] = []

    def report(node: ast.expr | ast.stmt | ast.arg, text: str) -> None:
        problems.append(f"{path}:{node.lineno}: {text}")

    for line, name in _imports(tree):
        parts = name.split(".")
        if parts[0] in RANDOM_MODULES and (path, parts[0]) not in EXEMPT:
            problems.append(f"{path}:{line}: imports {parts[0]}, which draws without a seed")
        if parts[:2] == ["numpy", "random"] and len(parts) > 2 and parts[2] not in SEEDED_NUMPY:
            problems.append(f"{path}:{line}: {name} draws from numpy's global generator")

    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = _dotted(node, names)
            parts = name.split(".")
            if parts[:2] == ["numpy", "random"] and len(parts) == 3 and parts[2] not in SEEDED_NUMPY:
                report(node, f"{name} draws from numpy's global generator")
        elif isinstance(node, ast.Call):
            name = _dotted(node.func, names)
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            if name in NEED_A_SEED:
                if not arguments or _is_none(arguments[0]):
                    report(node, f"{name} without a seed")
                for argument in arguments:
                    if found := _volatile(argument, names):
                        report(node, f"{name} seeded from {found}")
            elif name in RANDOM_CALLS:
                report(node, f"{name} differs from run to run")
            for keyword in node.keywords:
                if _is_seed(keyword.arg) and (found := _volatile(keyword.value, names)):
                    report(node, f"{keyword.arg} from {found}")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            seeds = [target for target in targets if _is_seed(_dotted(target, {}))]
            if seeds and node.value is not None and (found := _volatile(node.value, names)):
                report(node, f"seed from {found}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for argument, default in _defaults(node.args):
                if argument.arg == "rng":
                    report(argument, "rng has a default; the caller must pass the generator")
                elif _is_seed(argument.arg) and _is_none(default):
                    report(argument, f"{argument.arg}=None would mean a random one")
    return problems


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and full dotted name of everything that is imported, also inside functions and by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            for alias in node.names:
                yield node.lineno, dots or f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            function = _dotted(node.func, {})
            if function.split(".")[-1] in {"import_module", "__import__", "run_module"}:
                text = _leading_text(node.args[0])
                if text:
                    yield node.lineno, text.rstrip(".") if not text.startswith(".") else "."


def _leading_text(node: ast.expr) -> str:
    """Return a string constant, or what an f-string or concatenation begins with."""
    if isinstance(node, ast.JoinedStr) and node.values:
        return _leading_text(node.values[0])
    if isinstance(node, ast.BinOp):
        return _leading_text(node.left)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _names_of_imports(tree: ast.AST) -> dict[str, str]:
    """Map each local name that an import binds to the full dotted name."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Return `a.b.c` with the first name resolved, or an empty string."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        left = _dotted(node.value, names)
        return f"{left}.{node.attr}" if left else ""
    return ""


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_seed(name: str | None) -> bool:
    return name is not None and "seed" in name.lower().split(".")[-1].split("_")


def _volatile(node: ast.expr, names: dict[str, str]) -> str:
    """Return the first call below `node` whose result differs from run to run, or an empty string."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            name = _dotted(call.func, names)
            if any(name == one or (one.endswith(".") and name.startswith(one)) for one in VOLATILE):
                return f"{name}()"
    return ""


def _defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    yield from zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is not None:
            yield argument, default


def _python_files(*folders: str) -> list[str]:
    """Return the paths of all sources below some folders, relative to the repository."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    relative = sorted(path.relative_to(ROOT).as_posix() for path in found)
    return [path for path in relative if not path.startswith("tests/typecheck/")]


@pytest.mark.parametrize("path", _python_files(*LAYERS, "tests"))
def test_imports_keep_to_the_layers(path: str) -> None:
    assert layer_problems(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", _python_files(*LAYERS, "tests"))
def test_randomness_comes_from_a_seed(path: str) -> None:
    assert randomness_problems(path, (ROOT / path).read_text(encoding="utf-8")) == []


NOT_A_RENDERER = [
    path for path in _python_files(*LAYERS) if not any(fnmatch(path, leaf) for leaf in CYCLES + MITSUBA)
]


@pytest.mark.parametrize("path", NOT_A_RENDERER)
def test_type_checks_are_relaxed_only_in_the_leaves_of_the_renderers(path: str) -> None:
    assert "# pyright: basic" not in (ROOT / path).read_text(encoding="utf-8")


def test_commands_import_no_heavy_package_to_print_their_help() -> None:
    """`focuspull-… --help` has to work with no extra installed, and in under a second."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    heavy = sorted(LEAVES)
    for entry in scripts.values():
        module = entry.split(":")[0]
        code = f"import sys, {module}; print(*sorted(set({heavy}) & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [], f"importing {module} imports {done.stdout.strip()}"


# The checkers themselves: every rule has to be able to fail.


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("dataset/clip.py", "from focuspull.render.spec import SceneSpec"),
        ("dataset/clip.py", "from focuspull import model"),
        ("dataset/clip.py", "import focuspull.train"),
        ("dataset/clip.py", "import focuspull"),
        ("dataset/clip.py", "import torch.nn"),
        ("dataset/clip.py", "def f():\n    import torch"),
        ("dataset/loader.py", "import bpy"),
        ("dataset/loader.py", "import torchvision"),
        ("dataset/index.py", "import ray.data"),
        ("dataset/index.py", "import importlib\nimportlib.import_module('focuspull.render.cli')"),
        ("dataset/index.py", "from importlib import import_module\nimport_module(f'focuspull.model.{name}')"),
        ("dataset/index.py", "from .optics import coc_radius_px"),
        ("dataset/index.py", "from . import optics"),
        ("dataset/index.py", "from dataset.optics import coc_radius_px"),
        ("render/cli.py", "import torch"),
        ("render/cli.py", "import focuspull.model.renderer"),
        ("render/cli.py", "from focuspull.train import stages"),
        ("render/cli.py", "import ray"),
        ("render/cli.py", "__import__('bpy')"),
        ("render/cli.py", "import sys, pydantic, focuspull.model"),
        ("render/spec.py", "import mitsuba as mi"),
        ("render/worker.py", "from mathutils import Vector"),
        ("render/backends/lens.py", "import drjit as dr"),
        ("render/backends/cycles.py", "import mitsuba"),
        ("render/backends/mitsuba.py", "import bpy"),
        ("render/families/table.py", "from mitsuba_oidn import denoise"),
        ("model/renderer.py", "from focuspull.render import spec"),
        ("model/renderer.py", "import focuspull.train.loop"),
        ("train/loop.py", "from focuspull.render.frames import Frames"),
        ("tests/dataset/test_clip.py", "from dataset import clip"),
        ("tests/dataset/test_clip.py", "from .helpers import clip"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    problems = layer_problems(path, source)
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}:")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("dataset/clip.py", "import numpy as np\nfrom focuspull.dataset import optics\nimport webdataset"),
        ("dataset/loader.py", "import torch"),
        ("render/cluster.py", "import ray\nfrom focuspull.dataset.shards import write_shard"),
        ("render/backends/cycles.py", "def render():\n    import bpy\n    from mathutils import Matrix"),
        ("render/backends/cycles_nodes.py", "import bpy"),
        ("render/backends/mitsuba.py", "import drjit as dr, mitsuba as mi"),
        ("render/backends/mitsuba/plugins.py", "import mitsuba as mi"),
        ("render/backends/denoise.py", "import mitsuba_oidn"),
        ("render/cli.py", "import importlib\nimportlib.import_module(f'focuspull.render.backends.{name}')"),
        ("model/renderer.py", "import torch, diffusers\nfrom focuspull.dataset import loader"),
        (
            "train/loop.py",
            "import torch\nfrom focuspull.model import renderer\nimport focuspull.dataset.loader",
        ),
        ("tests/dataset/test_clip.py", "import torch\nfrom focuspull.render import spec"),
    ],
)
def test_an_allowed_import_is_not_found(path: str, source: str) -> None:
    assert layer_problems(path, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import random",
        "from random import choice",
        "import uuid",
        "import secrets",
        "import numpy as np\nnp.random.seed(0)",
        "import numpy as np\nx = np.random.rand(3)",
        "import numpy as np\nx = np.random.RandomState(0)",
        "import numpy\nx = numpy.random.normal",
        "import numpy.random as npr\nx = npr.uniform()",
        "from numpy import random\nx = random.uniform()",
        "from numpy.random import randint",
        "import numpy as np\nrng = np.random.default_rng()",
        "import numpy as np\nrng = np.random.default_rng(None)",
        "import numpy as np\nrng = np.random.default_rng(seed=None)",
        "from numpy.random import default_rng\nrng = default_rng()",
        "import numpy as np\nx = np.random.SeedSequence()",
        "import numpy as np\nx = np.random.Generator(np.random.PCG64())",
        "import numpy as np, time\nrng = np.random.default_rng(int(time.time()))",
        "import numpy as np\nfrom time import time_ns\nrng = np.random.default_rng(time_ns())",
        "import numpy as np\nrng = np.random.default_rng(hash('clip'))",
        "import os\nnoise_seed = os.getpid()",
        "import time\nrender(seed=time.time_ns() % 1000)",
        "import os\nx = os.urandom(4)",
        "import torch\ntorch.seed()",
        "def draw(rng=None): ...",
        "def draw(*, rng=make(0)): ...",
        "def draw(seed: int | None = None): ...",
        "def draw(*, noise_seed=None): ...",
    ],
)
def test_unseeded_randomness_is_found(source: str) -> None:
    problems = randomness_problems("render/randomize.py", source)
    assert len(problems) == 1
    assert problems[0].startswith("render/randomize.py:")


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nrng = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(3,)))",
        "import numpy as np\nrng = np.random.Generator(np.random.Philox(0))",
        "import numpy as np\ndef draw(rng: np.random.Generator, *, seed: int = 0): return rng.random()",
        "import time\nstarted = time.monotonic()",
        "class Spec:\n    seed: int\n    def __hash__(self):\n        return hash(self.seed)",
        "random = 3\nx = random + 1",
        "import torch\ntorch.manual_seed(seed)",
    ],
)
def test_seeded_randomness_is_not_found(source: str) -> None:
    assert randomness_problems("render/randomize.py", source) == []
