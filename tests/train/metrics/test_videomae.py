"""VideoMAE: a small one against that of transformers, with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import VideoMAEConfig, VideoMAEModel

from focuspull.dataset.errors import UserError
from focuspull.train.metrics import videomae
from focuspull.train.metrics.videomae import Architecture, VideoMae, VideoTransformer, places

torch.set_num_threads(1)

SMALL = Architecture(width=24, depth=2, heads=4, hidden=40, patch=8, tubelet=2, trained_frames=4, image=16)


def small() -> VideoTransformer:
    torch.manual_seed(0)
    network = VideoTransformer(SMALL).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def theirs(ours: VideoTransformer) -> VideoMAEModel:
    config = VideoMAEConfig(
        image_size=16, patch_size=8, num_frames=4, tubelet_size=2, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=40, use_mean_pooling=True, layer_norm_eps=1e-6,
    )  # fmt: skip
    model = VideoMAEModel(config).eval()
    state = ours.state_dict()
    renamed = {"embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"]}
    renamed["embeddings.patch_embeddings.projection.bias"] = state["patch_embed.proj.bias"]
    known = model.state_dict()
    for n in range(2):
        q, k, v = state[f"blocks.{n}.attn.qkv.weight"].chunk(3)
        mine, other = f"blocks.{n}", f"encoder.layer.{n}"
        renamed |= {
            f"{other}.attention.attention.query.weight": q,
            f"{other}.attention.attention.key.weight": k,
            f"{other}.attention.attention.value.weight": v,
            f"{other}.attention.attention.query.bias": state[f"{mine}.attn.q_bias"],
            f"{other}.attention.attention.value.bias": state[f"{mine}.attn.v_bias"],
        }
        if f"{other}.attention.attention.key.bias" in known:
            renamed[f"{other}.attention.attention.key.bias"] = torch.zeros(24)
        pairs = {
            "attn.proj": "attention.output.dense",
            "norm1": "layernorm_before",
            "norm2": "layernorm_after",
        }
        pairs |= {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}
        for a, b in pairs.items():
            renamed |= {f"{other}.{b}.{kind}": state[f"{mine}.{a}.{kind}"] for kind in ("weight", "bias")}
    result = model.load_state_dict(renamed, strict=False)
    assert not result.unexpected_keys, (result.unexpected_keys, list(known))
    assert not [key for key in result.missing_keys if "layernorm" not in key.split(".")[0]]
    return model


def test_features_are_those_of_another_implementation() -> None:
    ours = small()
    video = torch.rand(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        tokens = theirs(ours)(video.transpose(1, 2)).last_hidden_state
        expected = ours.fc_norm(tokens.mean(1))
        torch.testing.assert_close(ours(video), expected, rtol=1e-4, atol=1e-4)


def test_places_are_interpolated_in_time_only() -> None:
    trained, longer = places(SMALL, 4)[0], places(SMALL, 8)[0]
    assert trained.shape == (2 * 4, 24)
    assert longer.shape == (4 * 4, 24)
    torch.testing.assert_close(longer[:4], trained[:4])
    torch.testing.assert_close(longer[4:8], 0.75 * trained[:4] + 0.25 * trained[4:])


def test_the_published_size_has_its_parameters() -> None:
    """ViT-g of VideoMAE v2 has 1.01 billion parameters."""
    with torch.device("meta"):
        network = VideoTransformer(Architecture())
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.0115e9, rel=1e-3)
    assert network.state_dict()["blocks.39.attn.qkv.weight"].shape == (3 * 1408, 1408)


def test_a_file_as_it_was_released_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videomae, "Architecture", lambda: SMALL)
    state = small().state_dict() | {"head.weight": torch.zeros(174, 24), "head.bias": torch.zeros(174)}
    path = tmp_path / "videomae.pth"
    torch.save({"module": state}, path)
    video = torch.rand(1, 3, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        torch.testing.assert_close(VideoMae(path, torch.device("cpu")).features(video), small()(video))
    state.pop("blocks.1.attn.q_bias")
    torch.save({"module": state}, path)
    with pytest.raises(UserError, match="videomae.pth: has no 'blocks.1.attn.q_bias'"):
        VideoMae(path, torch.device("cpu"))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"must be \[N, 3, T, 16, 16\], T a multiple of 2, got \[1, 3, 3, 16, 16\]"
    ):
        small()(torch.zeros(1, 3, 3, 16, 16))
