"""The U-Net: SVD's while its gates are closed, and what opening them adds."""

import copy
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor

from focuspull.dataset.mpi import resize_regions
from focuspull.model.attention import MpiAttention
from focuspull.model.presets import OFFICIAL, PRESETS, build
from focuspull.model.unet import (
    TIME_IDS,
    TIMESTEP,
    BokehUNet,
    defocus_images,
    parameter_group,
    parameters_by_group,
    predict_x0,
    regions_on_grid,
)
from tests.model.networks import EMBEDDING, gradients, tiny, unet_input

VARIANTS: dict[str, dict[str, Any]] = {"paper": {}, "official": OFFICIAL}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def stock_like(unet: BokehUNet) -> UNetSpatioTemporalConditionModel:
    """SVD's U-Net of the same size with the same weights."""
    stock = UNetSpatioTemporalConditionModel(**PRESETS["tiny"].unet)
    state = {key: value for key, value in unet.state_dict().items() if parameter_group(key) != "mpi"}
    stock.load_state_dict(state, strict=True)
    return stock


@pytest.mark.parametrize("size", [(2, 3, 8, 6), (1, 1, 4, 4), (1, 5, 7, 9)])
@torch.no_grad()
def test_with_closed_gates_it_is_svd_bit_for_bit(size: tuple[int, int, int, int]) -> None:
    unet = build("tiny").unet
    given = unet_input(*size)
    batch, frames = size[:2]
    # SVD has one embedding per clip.
    given["image_embeddings"] = given["image_embeddings"][:, :1].expand(batch, frames, EMBEDDING)
    expected = stock_like(unet)(
        torch.cat([given["aif_latents"], given["defocus_latents"]], 2),
        TIMESTEP,
        given["image_embeddings"][:, :1],
        torch.tensor([TIME_IDS] * batch),
    ).sample
    assert expected.std() > 0.01
    assert torch.equal(predict_x0(unet, **given), expected)


@torch.no_grad()
def test_k_of_the_official_variant_enters_outside_the_gate() -> None:
    unet = build("tiny", **OFFICIAL).unet
    given = unet_input()
    before = predict_x0(unet, **given)
    assert not torch.equal(predict_x0(unet, **{**given, "k": given["k"] + 1}), before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_that_can_learn_gets_a_gradient(variant: str) -> None:
    # In float64, so that what is nothing but rounding is far from what is not.
    unet = tiny(**VARIANTS[variant]).unet.double()
    given = {n: v.double() if v.is_floating_point() else v for n, v in unet_input().items()}
    predict_x0(unet, **given).square().mean().backward()
    for name, gradient in gradients(unet).items():
        assert gradient is not None, name
        largest = float(gradient.abs().max())
        assert largest < 1e-16 if parameter_group(name) == "inert" else largest > 1e-10, (name, largest)


def test_closed_gates_get_a_gradient_and_so_can_open() -> None:
    unet = build("tiny").unet
    predict_x0(unet, **unet_input()).square().mean().backward()
    gates = {name: g for name, g in gradients(unet).items() if "gate" in name}
    assert len(gates) == 2 * sum(isinstance(module, MpiAttention) for module in unet.modules())
    for name, gradient in gates.items():
        assert gradient is not None and float(gradient.abs()) > 0, name


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix() -> None:
    unet, given = tiny().unet, unet_input(batch=2)
    both = predict_x0(unet, **given)
    for b in range(2):
        alone = predict_x0(unet, **{name: value[b : b + 1] for name, value in given.items()})
        torch.testing.assert_close(both[b : b + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["aif_latents", "defocus_latents", "image_embeddings", "k"])
@torch.no_grad()
def test_every_input_moves_the_output_of_its_own_clip_only(name: str) -> None:
    unet, given = tiny().unet, unet_input(batch=2)
    before = predict_x0(unet, **given)
    given[name] = given[name].clone()
    given[name][0, 1] += 1
    after = predict_x0(unet, **given)
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])


@torch.no_grad()
def test_one_bit_of_the_mask_moves_the_output() -> None:
    unet, given = tiny().unet, unet_input(batch=1)
    given["regions"].fill_(3)
    before = predict_x0(unet, **given)
    # Full resolution sees region 0 only. The grid of latents takes the pixel at the centre of each 2 x 2.
    given["regions"][0, 1, 5, 5] = 0
    assert not torch.equal(predict_x0(unet, **given), before)
    given["regions"][0, 1, 5, 5] = 1
    assert torch.equal(predict_x0(unet, **given), before)


@torch.no_grad()
def test_regions_mean_nothing_without_masks() -> None:
    unet, given = tiny(**OFFICIAL).unet, unet_input(batch=1)
    before = predict_x0(unet, **given)
    given["regions"] = 3 - given["regions"]
    assert torch.equal(predict_x0(unet, **given), before)


@pytest.mark.parametrize("size", [(7, 13), (16, 24), (72, 128), (5, 200)])
def test_regions_on_a_grid_are_those_of_the_data_set(size: tuple[int, int]) -> None:
    ids = torch.randint(0, 4, (2, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for height, width in ((1, 1), (3, 5), (9, 16), (72, 128)):
        assert torch.equal(regions_on_grid(ids, height, width), resize_regions(ids, height, width))


@torch.no_grad()
def test_every_block_gets_features_of_its_own_grid() -> None:
    """Also of sizes that do not halve."""
    unet = tiny().unet
    sizes: list[tuple[int, ...]] = []

    def note(_: Any, given: tuple[Tensor, ...]) -> None:
        sizes.append(tuple(tensor.shape[1] for tensor in (given[0], *given[2:])))

    for block in unet.modules():
        if isinstance(block, MpiAttention):
            block.register_forward_pre_hook(note)
    predict_x0(unet, **unet_input(height=7, width=9))
    assert sizes == [(63, 63, 63), (20, 20, 20), (63, 63, 63), (63, 63, 63)]


def levels(unet: BokehUNet) -> list[list[int]]:
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    found = [[m.level for m in block.modules() if isinstance(m, MpiAttention)] for block in blocks]
    return [level for level in found if level]


def test_masks_are_narrow_in_shallow_blocks_and_wide_in_deep_ones() -> None:
    with torch.device("meta"):
        assert levels(build("svd").unet) == [[0, 0], [1, 1], [2, 2], [3], [2, 2, 2], [1, 1, 1], [0, 0, 0]]
        more = build("small", num_levels=8).unet
    assert levels(more) == [[0, 0], [2, 2], [4, 4], [7], [4, 4, 4], [2, 2, 2], [0, 0, 0]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_checkpointing_changes_no_gradient(variant: str) -> None:
    unet = tiny(**VARIANTS[variant]).unet
    given = unet_input()
    predict_x0(unet, **given).square().mean().backward()
    expected = gradients(unet)
    unet.enable_gradient_checkpointing()
    predict_x0(unet, **given).square().mean().backward()
    for name, gradient in gradients(unet).items():
        assert torch.equal(gradient, expected[name]), name  # pyright: ignore[reportArgumentType]


def test_two_passes_before_the_first_one_s_gradient_do_not_disturb_each_other() -> None:
    """Recomputing in the backward pass has to see the conditions of its own pass, not the last ones."""
    unet = tiny().unet
    first, second = unet_input(), unet_input(height=6, width=4)
    predict_x0(unet, **first).square().mean().backward()
    expected = gradients(unet)
    unet.enable_gradient_checkpointing()
    loss = predict_x0(unet, **first).square().mean()
    predict_x0(unet, **second)
    loss.backward()
    for name, gradient in gradients(unet).items():
        assert torch.equal(gradient, expected[name]), name  # pyright: ignore[reportArgumentType]


def test_checkpointing_really_recomputes() -> None:
    unet = tiny().unet
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    block = next(module for module in unet.modules() if isinstance(module, MpiAttention))
    block.register_forward_pre_hook(count)
    unet.enable_gradient_checkpointing()
    predict_x0(unet, **unet_input()).square().mean().backward()
    assert calls == 2


@torch.no_grad()
def test_compiling_makes_one_graph_without_breaks() -> None:
    unet, given = tiny().unet, unet_input()
    explained = torch._dynamo.explain(predict_x0)(unet, **given)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons
    torch._dynamo.reset()
    compiled = torch.compile(unet, backend="eager", fullgraph=True)
    torch.testing.assert_close(predict_x0(compiled, **given), predict_x0(unet, **given))
    torch._dynamo.reset()


@torch.no_grad()
def test_a_copy_is_independent() -> None:
    """As for an average of the weights."""
    unet, given = tiny().unet, unet_input()
    before = predict_x0(unet, **given)
    other = copy.deepcopy(unet)
    for parameter in other.parameters():
        parameter.zero_()
    assert torch.equal(predict_x0(unet, **given), before)
    assert not torch.equal(predict_x0(other, **given), before)


@torch.no_grad()
def test_two_runs_are_bit_identical() -> None:
    unet, given = tiny().unet, unet_input()
    torch.manual_seed(0)
    first = predict_x0(unet, **given)
    torch.manual_seed(1)
    assert torch.equal(predict_x0(unet, **given), first)


@torch.no_grad()
def test_bfloat16_stays_near_float32() -> None:
    unet, given = tiny().unet, unet_input()
    expected = predict_x0(unet, **given)
    half = {name: value.bfloat16() if "latents" in name else value for name, value in given.items()}
    found = predict_x0(unet.bfloat16(), **half)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_defocus_knows_its_sign() -> None:
    disparity = torch.tensor([0.2, 0.5, 0.9]).expand(2, 1, 1, 3)
    focus = torch.tensor([0.5, 0.2])
    signed = defocus_images(disparity, focus, signed=True)
    assert signed.shape == (2, 3, 1, 3)
    torch.testing.assert_close(signed[:, 1, 0], torch.tensor([[-0.3, 0.0, 0.4], [0.0, 0.3, 0.7]]))
    unsigned = defocus_images(disparity, focus, signed=False)
    torch.testing.assert_close(unsigned[:, 2, 0], torch.tensor([[-0.4, -1.0, -0.2], [-1.0, -0.4, 0.4]]))


def test_every_parameter_is_in_one_group() -> None:
    unet = build("tiny").unet
    groups = parameters_by_group(unet)
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in unet.named_parameters())
    assert all(groups.values())


def test_groups_of_the_full_size_are_those_of_the_reference() -> None:
    """556.9 M with "temporal" in their names, 99.2 M that mix, the rest SVD's."""
    with torch.device("meta"):
        unet = build("svd").unet
    sizes = {
        group: sum(p.numel() for p in named.values()) for group, named in parameters_by_group(unet).items()
    }
    inert_temporal = sum(
        p.numel() for name, p in parameters_by_group(unet)["inert"].items() if "temporal" in name
    )
    assert sizes["temporal"] + inert_temporal == pytest.approx(556.9e6, abs=0.05e6)
    assert sizes["blend"] == pytest.approx(99.2e6, abs=0.05e6)
    assert sum(sizes.values()) - sizes["mpi"] == 1_524_623_082


@torch.no_grad()
def test_features_of_the_aif_start_as_the_first_layer_of_svd() -> None:
    unet, latents = build("tiny").unet, unet_input()["aif_latents"][0]
    nothing = torch.zeros_like(latents)
    expected = unet.conv_in(torch.cat([latents, nothing], 1))
    torch.testing.assert_close(unet.conv_in_mpi(latents), expected)
