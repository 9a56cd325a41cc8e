"""Stages: what learns, what they refuse, and that each lowers its own loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError

from focuspull.dataset.loader import Batch
from focuspull.model import unet, vae
from focuspull.train.latents import LatentCache
from focuspull.train.stages import (
    DETAIL,
    GEOMETRY,
    STAGES,
    TEMPORAL,
    Stage,
    StageName,
    choose_parameters,
    predict,
    reconstruct,
    set_scaling_factor,
    stage_losses,
    total_loss,
)
from tests.model.networks import tiny

torch.set_num_threads(1)


def make_batch(batch: int = 2, frames: int = 3, height: int = 8, width: int = 12) -> Batch:
    rng = torch.Generator().manual_seed(0)
    aif, bokeh = (
        torch.randint(0, 256, (batch, frames, 3, height, width), generator=rng, dtype=torch.uint8)
        for _ in range(2)
    )
    return Batch(
        keys=("clip-000000",) * batch,
        corpora=torch.zeros(batch, dtype=torch.int64),
        targets=torch.zeros(batch, dtype=torch.int64),
        frames=torch.arange(frames).expand(batch, -1),
        aif=aif,
        bokeh=bokeh,
        disparity=torch.rand(batch, frames, 1, height, width, generator=rng),
        k=torch.full((batch, frames), 8.0),
        focus_disparity=torch.full((batch, frames), 0.4),
        focus_mask=None,
        instance=None,
        skipped=(),
    )


def part(batch: Batch, samples: slice) -> Batch:
    """Some samples of a batch."""
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return replace(
        batch, keys=batch.keys[samples], **{name: value[samples] for name, value in tensors.items()}
    )


def test_stages_are_those_of_the_paper() -> None:
    assert list(STAGES) == list(get_args(StageName))
    published = [GEOMETRY, TEMPORAL, DETAIL]
    assert [stage.num_frames for stage in published] == [4, 8, 3]
    assert [stage.perturbed for stage in published] == [0, 0.5, 0]


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_exactly_the_chosen_parameters_get_a_gradient(stage: Stage) -> None:
    parts = tiny()
    chosen = choose_parameters(parts, stage)
    total_loss(stage, stage_losses(parts, stage, make_batch())).backward()
    network = getattr(parts, stage.network)
    with_gradient = {
        name for name, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())
    }
    assert with_gradient == chosen.keys()
    others: dict[str, Any] = {"unet": parts.unet, "vae": parts.vae, "image_encoder": parts.image_encoder}
    others.pop(stage.network)
    assert all(p.grad is None for other in others.values() for p in other.parameters())
    group_of = unet.parameter_group if stage.network == "unet" else vae.parameter_group
    assert {group_of(name) for name in chosen} == set(stage.groups)


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_steps_lower_the_loss(stage: Stage) -> None:
    parts, batch = tiny(), make_batch(batch=1, frames=2)
    optimizer = torch.optim.AdamW(choose_parameters(parts, stage).values(), lr=3e-3)
    losses: list[float] = []
    for _ in range(8):
        loss = total_loss(stage, stage_losses(parts, stage, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_a_stage_sets_back_what_the_one_before_has_chosen() -> None:
    parts = tiny()
    choose_parameters(parts, GEOMETRY)
    chosen = choose_parameters(parts, TEMPORAL)
    learning = {name for name, p in parts.unet.named_parameters() if p.requires_grad}
    assert learning == chosen.keys()
    assert parts.unet.training and not parts.vae.training
    choose_parameters(parts, DETAIL)
    assert not any(p.requires_grad for p in parts.unet.parameters())


def test_every_input_matters_to_the_loss() -> None:
    parts, batch = tiny(), make_batch()
    choose_parameters(parts, GEOMETRY)

    def loss(**changes: Any) -> float:
        with torch.no_grad():
            return total_loss(GEOMETRY, stage_losses(parts, GEOMETRY, replace(batch, **changes))).item()

    before = loss()
    assert loss() == before
    changes = {
        "aif": 255 - batch.aif,
        "bokeh": 255 - batch.bokeh,
        "disparity": batch.disparity.flip(-1),
        "k": 2 * batch.k,
        "focus_disparity": batch.focus_disparity + 0.3,
    }
    for name, changed in changes.items():
        assert loss(**{name: changed}) != before, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ("skips",)}, "groups: the unet has none called 'skips' that learns"),
        ({"groups": ("inert",)}, "groups: the unet has none called 'inert' that learns"),
        ({"groups": ()}, "groups"),
        ({"losses": ({"loss": "pixel_l1"},)}, "losses: 'pixel_l1' is not for the unet"),
        ({"losses": ()}, "losses"),
        ({"losses": ({"loss": "latent_mse", "weight": 0},)}, "weight"),
        ({"perturbed": 1.5}, "perturbed"),
        ({"num_frames": 0}, "num_frames"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"network": "vae"}, "groups: the vae has none called 'mpi'"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        Stage.model_validate(GEOMETRY.model_dump() | changes)


def test_the_autoencoder_is_one_of_the_vae() -> None:
    with pytest.raises(ValidationError, match="the stage 'autoencoder' is one of the vae"):
        Stage.model_validate(GEOMETRY.model_dump() | {"name": "autoencoder"})


def test_latents_have_unit_variance_after_scaling() -> None:
    parts, batch = tiny(), make_batch()
    images = 2 * batch.aif.float() / 255 - 1
    factor = set_scaling_factor(parts.vae, [images[:1], images[1:]])
    assert parts.vae.config["scaling_factor"] == factor
    assert parts.vae.encode_video(images)[0].std().item() == pytest.approx(1, abs=1e-5)
    before = parts.vae.decode_video(parts.vae.encode_video(images)[0], None)
    set_scaling_factor(parts.vae, [2 * images])
    after = parts.vae.decode_video(parts.vae.encode_video(images)[0], None)
    assert torch.allclose(before, after, atol=1e-5)


def test_predictions_are_images() -> None:
    parts, batch = tiny(), make_batch()
    for images in (predict(parts, batch), reconstruct(parts, batch)):
        assert images.shape == batch.bokeh.shape and images.dtype == torch.float32
        assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("stage", [GEOMETRY, TEMPORAL], ids=["geometry", "temporal"])
def test_cached_latents_change_no_bit_whether_found_or_made(stage: Stage, tmp_path: Path) -> None:
    parts, batch = tiny(), make_batch()
    choose_parameters(parts, stage)
    cache = LatentCache(tmp_path, parts.vae)
    made = stage_losses(parts, stage, batch, cache)["latent_mse"]
    assert (cache.hits, cache.misses) == (0, 3 * 2 * 3)
    found = stage_losses(parts, stage, batch, cache)["latent_mse"]
    assert (cache.hits, cache.misses) == (3 * 2 * 3, 3 * 2 * 3)
    assert found == made
    assert found.item() == pytest.approx(stage_losses(parts, stage, batch)["latent_mse"].item(), rel=1e-4)


def test_latents_of_another_encoder_or_cut_short_are_not_taken(tmp_path: Path) -> None:
    parts, batch = tiny(), make_batch(batch=1, frames=1)
    images = 2 * batch.aif.float() / 255 - 1
    cache = LatentCache(tmp_path, parts.vae)
    expected = cache.encode(parts.vae, images)
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:-9])
    assert torch.equal(cache.encode(parts.vae, images), expected) and cache.misses == 2
    with torch.no_grad():
        parts.vae.encoder.conv_in.weight.mul_(1.5)
    other = LatentCache(tmp_path, parts.vae)
    assert not torch.equal(other.encode(parts.vae, images), expected) and other.hits == 0
