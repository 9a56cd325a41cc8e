"""Sizes, against the reference's arithmetic, without memory for weights."""

import pytest
import torch

from focuspull.dataset.errors import UserError
from focuspull.model import params
from focuspull.model.presets import PRESETS, build, get_preset

SVD_UNET = 1_524_623_082
MPI = 351_661_152
"""Of the released network, of which the next two have no effect or are not in the paper."""
FF_K = 148_797_120
NORM_K = 2 * (5 * 320 + 5 * 640 + 6 * 1280)
CONV_IN_MPI = 11_840


def test_the_full_size_is_that_of_the_reference_without_what_is_dead() -> None:
    counted = params.count("svd")
    assert sum(counted["unet"].values()) == SVD_UNET + MPI - FF_K - NORM_K + CONV_IN_MPI == 1_727_473_994
    assert counted["unet"]["mpi"] == MPI - FF_K - NORM_K + CONV_IN_MPI
    assert sum(counted["vae"].values()) == 97_742_847 + 491_520
    # What the third stage trains.
    assert counted["vae"]["decoder spatial"] + counted["vae"]["skips"] == pytest.approx(49.98e6, abs=5e3)
    assert sum(counted["image_encoder"].values()) == pytest.approx(632e6, rel=1e-3)


def test_the_official_variant_has_what_its_output_depends_on() -> None:
    adapters = 321 * (5 * 320 + 5 * 640 + 6 * 1280)
    counted = params.count("svd", official=True)
    assert sum(counted["unet"].values()) == SVD_UNET + MPI - FF_K - adapters


def test_small_has_tens_of_millions_and_tiny_a_few() -> None:
    totals = {
        name: sum(sum(groups.values()) for groups in params.count(name).values())
        for name in ("small", "tiny")
    }
    assert 20e6 < totals["small"] < 100e6
    assert totals["tiny"] < 5e6


@pytest.mark.parametrize("name", PRESETS)
def test_the_parts_fit_together(name: str) -> None:
    with torch.device("meta"):
        parts = build(name)
    assert parts.image_encoder.config.projection_dim == parts.unet.config["cross_attention_dim"]
    assert parts.unet.config["in_channels"] == 2 * parts.vae.config["latent_channels"]


def test_the_seed_decides_the_weights_and_nothing_else_is_drawn() -> None:
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    first, again, other = (build("tiny", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    for part in ("unet", "vae", "image_encoder"):
        a, b, c = (getattr(parts, part).state_dict() for parts in (first, again, other))
        assert all(torch.equal(a[key], b[key]) for key in a)
        assert not all(torch.equal(a[key], c[key]) for key in a)


def test_a_preset_that_does_not_exist_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    message = "preset: there is none called 'huge'. There are: svd, small, mini, tiny."
    with pytest.raises(UserError, match=f"^{message}$"):
        get_preset("huge")
    assert params.main(["huge"]) == 2
    assert capsys.readouterr().err == message + "\n"


def test_the_command_prints_every_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert params.main(["svd"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["unet", "mpi", "202,850,912"] in [line.split() for line in lines]
    assert ["unet", "1,727,473,994"] in [line.split() for line in lines]
    assert lines[-1].split() == ["total", "2,457,785,161"]
