"""MPI attention against loops over single queries and keys, and the encoding of K."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from focuspull.model.attention import MpiAttention, MpiConfig, encode_k

TOKENS, WIDTH, HEADS, FEATURES = 6, 8, 2, 5


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def layer(config: MpiConfig, level: int, gate: float = 0.7) -> MpiAttention:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = MpiAttention(
            WIDTH, num_heads=HEADS, feature_width=FEATURES, level=level, config=config
        ).double()
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    torch.nn.init.constant_(made.gate_attention, gate)
    torch.nn.init.constant_(made.gate_feed_forward, gate)
    return made


def inputs(batch: int = 2) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return {
        "x_BNC": torch.randn(batch, TOKENS, WIDTH, generator=rng, dtype=torch.float64),
        "k_features_BE": encode_k(torch.tensor([3.0, 17.5])[:batch]).double(),
        "aif_BNC": torch.randn(batch, TOKENS, FEATURES, generator=rng, dtype=torch.float64),
        "regions_BN": torch.tensor([[0, 1, 2, 3, 1, 0], [3, 3, 0, 2, 2, 1]], dtype=torch.uint8)[:batch],
    }


def normalise(norm: Any, x: Tensor) -> Tensor:
    return (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + 1e-5) * norm.weight + norm.bias


def feed_forward(block: MpiAttention, x: Tensor) -> Tensor:
    layers: Any = block.feed_forward.net
    first, second = layers[0].proj, layers[2]
    value, gate = (first.weight @ x + first.bias).chunk(2)
    return second.weight @ (value * functional.gelu(gate)) + second.bias


@torch.no_grad()
def slowly(block: MpiAttention, x: Tensor, k: Tensor, aif: Tensor, regions: Tensor) -> Tensor:
    """One frame, token by token: the formula with nothing but sums."""
    config, side = block.config, WIDTH // HEADS
    phi_k = block.k_projection.weight @ k + block.k_projection.bias
    if not config.k_inside_gate:
        x = torch.stack([token + phi_k for token in x])
    asking = [
        normalise(block.norm_attention, token + phi_k if config.k_inside_gate else token) for token in x
    ]
    keys = list(asking)
    if config.masks == "regions":
        for token, region in zip(aif, regions.tolist(), strict=True):
            if region <= block.level:
                projected = block.adapter.weight @ token + block.adapter.bias
                keys.append(normalise(block.norm_attention, projected))
    rows = []
    for token, query in zip(x, asking, strict=True):
        joined = []
        for head in range(HEADS):
            part = slice(head * side, (head + 1) * side)
            q = (block.to_q.weight @ query)[part]
            scores = [math.exp(float(q @ (block.to_k.weight @ key)[part]) / math.sqrt(side)) for key in keys]
            values = [(block.to_v.weight @ key)[part] for key in keys]
            joined.append(sum(s * v for s, v in zip(scores, values, strict=True)) / sum(scores))
        attended = block.to_out.weight @ torch.cat(joined) + block.to_out.bias
        token = token + math.tanh(float(block.gate_attention)) * attended
        grown = feed_forward(block, normalise(block.norm_feed_forward, token))
        if config.two_norms:
            grown = grown + feed_forward(block, normalise(block.norm_feed_forward_2, token))
        rows.append(token + math.tanh(float(block.gate_feed_forward)) * grown)
    return torch.stack(rows)


CONFIGS = {
    "paper": MpiConfig(),
    "official": MpiConfig.official(),
    "official with masks": MpiConfig(4, "fourier", False, "regions", True),
}


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("name", CONFIGS)
def test_it_equals_the_formula_token_by_token(name: str, level: int) -> None:
    block, given = layer(CONFIGS[name], level), inputs()
    found = block(**given)
    for b in range(2):
        frame = [given[key][b] for key in ("x_BNC", "k_features_BE", "aif_BNC", "regions_BN")]
        torch.testing.assert_close(found[b], slowly(block, *frame), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("level", "seen"), [(0, [0, 5]), (1, [0, 1, 4, 5]), (2, [0, 1, 2, 4, 5])])
def test_a_level_sees_the_regions_up_to_it(level: int, seen: list[int]) -> None:
    """Worked by hand: with queries of zero every key weighs the same, so the result is the mean of values."""
    block, given = layer(MpiConfig(), level), inputs(batch=1)
    torch.nn.init.zeros_(block.to_q.weight)
    torch.nn.init.zeros_(block.gate_feed_forward)
    x = given["x_BNC"][0]
    own = block.norm_attention(x + block.k_projection(given["k_features_BE"][0]))
    far = block.norm_attention(block.adapter(given["aif_BNC"][0]))
    mean = block.to_v(torch.cat([own, far[seen]])).mean(0)
    expected = x + torch.tanh(torch.tensor(0.7)).double() * block.to_out(mean)
    torch.testing.assert_close(block(**given)[0], expected, rtol=1e-6, atol=1e-6)


def test_one_bit_of_a_mask_moves_every_token() -> None:
    block, given = layer(MpiConfig(), 1), inputs()
    before = block(**given)
    given["regions_BN"][0, 2] = 1
    after = block(**given)
    assert (after[0] != before[0]).any(-1).all()
    assert torch.equal(after[1], before[1])


def test_the_widest_level_sees_everything_whatever_the_regions() -> None:
    block, given = layer(MpiConfig(), 3), inputs()
    before = block(**given)
    given["regions_BN"] = 3 - given["regions_BN"]
    assert torch.equal(block(**given), before)


def test_closed_gates_let_nothing_through_not_even_k() -> None:
    given = inputs()
    assert torch.equal(layer(MpiConfig(), 1, gate=0.0)(**given), given["x_BNC"])
    official = layer(MpiConfig.official(), 1, gate=0.0)
    assert not torch.equal(official(**given), given["x_BNC"])


def test_without_masks_there_are_no_layers_for_what_is_hidden() -> None:
    names = dict(layer(MpiConfig.official(), 0).named_parameters())
    assert not any("adapter" in name for name in names)


def test_gates_have_an_axis() -> None:
    block = layer(MpiConfig(), 0)
    assert block.gate_attention.shape == block.gate_feed_forward.shape == (1,)


def test_new_weights_close_the_gates() -> None:
    block = layer(MpiConfig(), 0)
    old = block.to_q.weight.clone()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        block.reset_parameters()
    assert block.gate_attention.item() == block.gate_feed_forward.item() == 0
    assert not torch.equal(block.to_q.weight, old)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels: must be positive, got 0"),
        ({"k_encoding": "log"}, "k_encoding: must be 'smooth' or 'fourier', got 'log'"),
        ({"masks": "all"}, "masks: must be 'regions' or 'none', got 'all'"),
    ],
)
def test_settings_without_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        MpiConfig(**options)


def similarity(a: float, b: float, encoding: Any = "smooth") -> float:
    return float(functional.cosine_similarity(*encode_k(torch.tensor([[a], [b]]), encoding), dim=-1))


def test_smooth_encoding_of_k_changes_little_by_little() -> None:
    """Also between and beyond the integers 1 to 32 that the released weights know."""
    for k in (0.5, 1.0, 4.0, 16.0, 32.0, 64.0, 200.0):
        assert similarity(k, 1.02 * k) > 0.99
        assert similarity(k, 1.1 * k) > similarity(k, 1.3 * k) > similarity(k, 1.6 * k)
    assert similarity(16, 17) > 0.97
    assert similarity(16, 16.5) > similarity(16, 17) > similarity(16, 18)
    assert similarity(0, 0.01) > 0.999


def test_smooth_encoding_confuses_no_two_strengths() -> None:
    k = torch.cat([torch.arange(0, 64, 0.5), torch.arange(64, 1000, 8.0)])
    codes = encode_k(k)
    apart = torch.cdist(codes, codes) + 10 * torch.eye(len(k))
    step = torch.tensor([float((a - b).norm()) for a, b in pairwise(codes)])
    # The nearest code is that of a neighbour, never one from elsewhere.
    nearest = apart.argmin(-1)
    assert ((nearest - torch.arange(len(k))).abs() == 1).all()
    assert float(step.min()) > 0.01


def test_published_encoding_of_k() -> None:
    codes = encode_k(torch.tensor([1.0, 2.0]), "fourier")
    assert codes.shape == (2, 32)
    for row, k in zip(codes.tolist(), (1.0, 2.0), strict=True):
        for j in range(16):
            angle = k * 100 ** (j / 15)
            assert row[2 * j : 2 * j + 2] == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-4)
    # What is wrong with it: the reference measures -0.22 on average between neighbours.
    mean = sum(similarity(k, k + 1, "fourier") for k in range(1, 32)) / 31
    assert mean == pytest.approx(-0.22, abs=0.02)


def test_k_is_encoded_in_float32() -> None:
    for encoding in ("smooth", "fourier"):
        half = encode_k(torch.tensor([32.0], dtype=torch.float16), encoding)
        assert half.dtype == torch.float32
        assert torch.equal(half, encode_k(torch.tensor([32.0]), encoding))
