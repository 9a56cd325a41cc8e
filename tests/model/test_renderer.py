import subprocess
import sys

import pytest
import torch
from torch import Tensor

from focuspull.model.renderer import RENDERERS, get_renderer, renderer_names, validate_inputs


def clip(batch: int = 1, frames: int = 2, height: int = 8, width: int = 9) -> dict[str, Tensor]:
    return {
        "aif": torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(0)),
        "disparity": torch.full((batch, frames, 1, height, width), 0.5),
        "k": torch.full((batch, frames), 4.0),
        "focus_disparity": torch.zeros(batch, frames),
    }


@pytest.mark.parametrize("name", renderer_names())
def test_every_name_gives_a_renderer(name: str) -> None:
    given = clip()
    assert get_renderer(name)(**given).shape == given["aif"].shape


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(
        ValueError, match=r"^renderer: there is none called 'scater'. Did you mean 'scatter'\?$"
    ):
        get_renderer("scater")
    with pytest.raises(ValueError, match=r"^renderer: there is none called 'zzz'. There are: identity, .*$"):
        get_renderer("zzz")


def test_options_that_are_missing_or_unknown_are_named() -> None:
    with pytest.raises(ValueError, match=r"^renderer 'oracle-layers': needs the option 'stack'\."):
        get_renderer("oracle-layers")
    with pytest.raises(ValueError, match="^renderer 'scatter': .*'blade'"):
        get_renderer("scatter", blade=3)


def test_names_are_listed_without_torch() -> None:
    code = "import sys, focuspull.model.renderer as r; r.renderer_names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


BAD = {
    "aif shape": ({"aif": torch.zeros(2, 3, 8, 9)}, r"aif: must be \[B, T, 3, H, W\] and not empty, got"),
    "no frames": ({"aif": torch.zeros(1, 0, 3, 8, 9)}, "aif: must be .* not empty"),
    "disparity shape": (
        {"disparity": torch.zeros(1, 2, 1, 8, 8)},
        r"disparity: must be \[1, 2, 1, 8, 9\] for aif of \[1, 2, 3, 8, 9\], got \[1, 2, 1, 8, 8\]",
    ),
    "length": ({"k": torch.zeros(1, 3)}, r"k: must be \[1, 2\] for aif"),
    "focus shape": ({"focus_disparity": torch.zeros(2)}, r"focus_disparity: must be \[1, 2\] for aif"),
    "integers": ({"aif": torch.zeros(1, 2, 3, 8, 9, dtype=torch.uint8)}, "aif: must be floating point, got"),
    "range": ({"aif": torch.full((1, 2, 3, 8, 9), 255.0)}, r"aif: must be in \[0, 1\], spans \[255, 255\]"),
    "negative k": ({"k": torch.tensor([[1.0, -2.0]])}, "k: must not be negative, got -2"),
    "nan k": ({"k": torch.tensor([[1.0, torch.nan]])}, "k: 1 values are not finite, .* clip 0, frame 1"),
    "infinite focus": ({"focus_disparity": torch.tensor([[torch.inf, 0]])}, "focus_disparity: 1 values"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_is_refused_in_one_line(wrong: str) -> None:
    change, message = BAD[wrong]
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        validate_inputs(**(clip() | change))
    assert "\n" not in str(caught.value)


def test_nan_disparity_is_located() -> None:
    given = clip(batch=2)
    given["disparity"][1, 0, 0, 3:5, 2] = torch.nan
    for name in RENDERERS:
        if name in renderer_names():
            with pytest.raises(ValueError, match=r"^disparity: 2 values .* first in clip 1, frame 0$"):
                get_renderer(name)(**given)
