"""What is declared, built and promised is what there is: packages, wheel, commands, versions, README."""

import ast
import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("dataset", "model", "render", "train")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]
SCRIPTS: dict[str, str] = PROJECT["scripts"]

# Import names that differ from the name of the distribution that brings them.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "_cycles": "bpy",
    "bmesh": "bpy",
    "cv2": "opencv-python-headless",
    "cycles": "bpy",
    "mathutils": "bpy",
    "yaml": "pyyaml",
    "mujoco": "mujoco-core",
}
# Declared without being imported by name, with the reason.
NOT_IMPORTED = {
    "karellen-llvm-core": "its libLLVM is loaded by Dr.Jit through DRJIT_LIBLLVM_PATH",
    "tensorboard": "torch.utils.tensorboard imports it",
    "focuspull": "the extra `all` is made of the others",
}
# Commands that do one thing, whose first argument is a file.
WITHOUT_VERBS = {"focuspull-refocus"}
# Folders whose code is still to come: what their extra declares need not be imported yet.
EMPTY = {folder for folder in FOLDERS if len(list((ROOT / folder).rglob("*.py"))) == 1}


def _packaged_files() -> set[str]:
    """Return every file that belongs into the wheel, as its path there."""
    return {
        f"focuspull/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    }


# Packages


def test_the_packages_declared_are_those_on_disk() -> None:
    on_disk = {
        "focuspull." + path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    declared: list[str] = PYPROJECT["tool"]["setuptools"]["packages"]
    assert sorted(declared) == sorted(on_disk)
    assert PYPROJECT["tool"]["setuptools"]["package-dir"] == {f"focuspull.{name}": name for name in FOLDERS}


def test_no_module_lies_in_a_folder_that_is_not_a_package() -> None:
    orphans = [
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if not (path.parent / "__init__.py").is_file()
    ]
    assert orphans == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_type_checkers_see_the_namespace_through_a_link(folder: str) -> None:
    link = ROOT / "tests" / "typecheck" / "focuspull" / folder
    assert link.is_symlink(), f"{link} is not a symbolic link (git needs core.symlinks=true)"
    assert link.resolve() == ROOT / folder
    assert not link.readlink().is_absolute()
    assert f"tests/typecheck/focuspull/{folder}" in PYPROJECT["tool"]["pyright"]["include"]


def test_the_wheel_has_every_file_and_no_test(tmp_path: Path) -> None:
    # Built from a copy: setuptools would leave build/ behind, and take from it what is deleted by now.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    command = [*build, "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    dist_info = f"focuspull-{PROJECT['version']}.dist-info/"
    assert {name for name in names if not name.startswith(dist_info)} == _packaged_files()
    assert f"{dist_info}licenses/LICENSE" in names
    assert any(name.endswith(".yaml") for name in names)


# Commands


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_declared_command_has_a_main(script: str) -> None:
    module, function = SCRIPTS[script].split(":")
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    assert path.is_file()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_command_line_module_is_declared() -> None:
    modules = {entry.split(":")[0] for entry in SCRIPTS.values()}
    on_disk = {f"focuspull.{folder}.cli" for folder in FOLDERS if (ROOT / folder / "cli.py").is_file()}
    assert on_disk <= modules


# Versions and dependencies


def test_the_version_is_the_same_everywhere() -> None:
    version: str = PROJECT["version"]
    assert importlib.metadata.version("focuspull") == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[?([^\]\s]+)\]?", changelog, flags=re.M)
    assert headings[0] in {"Unreleased", version}
    assert version in changelog
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"focuspull(?:\[\w+\])?==([\w.]+)", readme)) <= {version}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"^__version__\s*=", text, flags=re.M), (
                f"{path}: use importlib.metadata.version"
            )


def _requirements() -> dict[str, set[str]]:
    """Return the distributions that each extra declares, by normalized name; the core is the empty name."""
    extras: dict[str, list[str]] = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    return {
        extra: {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines}
        for extra, lines in extras.items()
    }


def _imported(folder: str) -> set[str]:
    """Return the distributions that a folder imports: neither the standard library nor focuspull."""
    names: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    names -= {"focuspull", *sys.stdlib_module_names}
    return {DISTRIBUTIONS.get(name, name.lower().replace("_", "-")) for name in names}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("dataset", {"", "train"}),  # torch, in the loader; who may import it is in test_layers.py
        ("render", {"", "render"}),
        ("model", {"", "train"}),
        ("train", {"", "train", "train-extras"}),
    ],
)
def test_whatever_is_imported_is_declared(folder: str, extras: set[str]) -> None:
    declared = set[str]().union(*(_requirements()[extra] for extra in extras))
    assert _imported(folder) <= declared


def test_whatever_is_declared_is_imported() -> None:
    imported = set[str]().union(*(_imported(folder) for folder in FOLDERS)) | set(NOT_IMPORTED)
    declared = _requirements()
    expected = declared[""] | declared["render"]
    if not EMPTY & {"model", "train"}:
        expected |= declared["train"]
    assert expected <= imported


def test_every_direct_dependency_has_a_tested_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    pinned = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    assert set[str]().union(*_requirements().values()) - {"focuspull"} <= pinned
    assert "torchvision" not in pinned


# What the README and the Makefile say


def _readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def _make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, flags=re.M))


def _split(markdown: str) -> tuple[list[tuple[str, str]], str]:
    """Take a page apart into its code blocks, each with its language, and the text around them."""
    blocks: list[tuple[str, str]] = []
    text: list[str] = []
    language, block = "", None
    for line in markdown.splitlines():
        fence = re.match(r"\s*```(\S*)", line)
        if fence and block is None:
            language, block = fence[1], list[str]()
        elif fence and block is not None:
            blocks.append((language, "\n".join(block)))
            block = None
        else:
            (text if block is None else block).append(line)
    assert block is None, "a code block is not closed"
    return blocks, "\n".join(text)


def _shell_lines(markdown: str) -> list[str]:
    """Return the commands in code blocks and in backticks, continued lines joined."""
    blocks, text = _split(markdown)
    shell = [block for language, block in blocks if language in {"", "sh", "bash", "shell", "console"}]
    lines = [line for block in shell for line in re.sub(r"\\\n", " ", block).splitlines()]
    return [line.strip().removeprefix("$ ") for line in lines] + re.findall(r"`([^`\n]+)`", text)


def _calls(lines: list[str], program: str) -> list[list[str]]:
    """Return the arguments of every call of a program; comments, pipes and redirections end a call."""
    calls: list[list[str]] = []
    for line in lines:
        for part in re.split(r"&&|\|\||[|;]", re.sub(r"\s#.*", "", line)):
            match = re.match(rf"\s*(?:[A-Z_]+=\S+\s+)*(?:\S*/)?{re.escape(program)}(\s.*)?$", part)
            if match:
                calls.append(shlex.split(re.sub(r"[<>]\s*\S+", "", match[1] or "")))
    return calls


def _makefile_recipes() -> list[str]:
    recipes = re.findall(r"^\t@?(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    return [line.replace("$(BIN)/", "") for line in recipes]


def test_the_two_commands_of_the_readme_are_targets() -> None:
    called = {word for call in _calls(_shell_lines(_readme()), "make") for word in call if "=" not in word}
    assert {"demo", "test"} <= called
    assert called <= _make_targets()


def test_the_files_that_ci_and_make_use_exist() -> None:
    ci = ROOT / ".ci" / "run"
    assert ci.stat().st_mode & 0o111, "not executable"
    assert _calls(ci.read_text(encoding="utf-8").splitlines(), "make")[0][0] in _make_targets()
    assert (ROOT / "constraints.txt").is_file()


@pytest.mark.parametrize("script", SCRIPTS)
def test_commands_shown_to_users_work(script: str) -> None:
    """Every verb and option in the README and the Makefile exists, and every shipped name is a file."""
    module = SCRIPTS[script].split(":")[0]

    def help_of(*arguments: str) -> str:
        code = f"import sys; from {module} import main; sys.argv[0] = {script!r}; sys.exit(main())"
        command = [sys.executable, "-c", code, *arguments, "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script} {' '.join(arguments)} --help: {done.stderr}"
        return done.stdout

    verbs = help_of()
    calls = _calls([*_shell_lines(_readme()), *_makefile_recipes()], script)
    assert calls, f"{script} is shown nowhere"
    for call in calls:
        shown = " ".join([script, *call])
        options = {word.split("=")[0] for word in call if word.startswith("--") and "." not in word}
        if script in WITHOUT_VERBS:
            assert not {option for option in options - {"--help"} if option not in verbs}, shown
            continue
        if not call or not re.fullmatch(r"[a-z][a-z-]*", call[0]):
            continue  # A mention of the command, an option before any verb, or a placeholder.
        assert re.search(rf"\b{call[0]}\b", verbs), shown
        text = help_of(call[0])
        assert not {option for option in options - {"--help"} if option not in text}, shown
        if script == "focuspull-render" and call[0] == "run" and len(call) > 1 and call[1].isidentifier():
            assert (ROOT / "render" / "specs" / f"{call[1]}.yaml").is_file(), shown


def test_paths_in_the_readme_exist() -> None:
    top = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} | {".ci"}
    top -= {"runs", "build", "dist"}
    missing: list[str] = []
    for quoted in re.findall(r"`([^`\s]+)`", _split(_readme())[1]):
        path = quoted.rstrip("/").split("::")[0]
        if not re.fullmatch(r"[\w.*/-]+", path):
            continue  # A placeholder, a formula, a type.
        if "/" in path:
            if path.split("/")[0] in top and not list(ROOT.glob(path)):
                missing.append(quoted)
        elif re.fullmatch(r"[\w.-]+\.(py|toml|md)|Makefile|constraints\.txt", path):
            places = [ROOT, *(ROOT / folder for folder in (*FOLDERS, "tests"))]
            if not any((place / path).is_file() or list(place.glob(f"*/{path}")) for place in places):
                missing.append(quoted)
    assert missing == []


def test_links_in_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", _readme())
    missing = [
        target
        for target in targets
        if not re.match(r"[a-z]+:|#", target) and not (ROOT / target.split("#")[0]).exists()
    ]
    assert missing == []
