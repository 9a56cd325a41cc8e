"""3D ResNeXt: parameters by formula, a shallow one by hand, and files as they are released."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from focuspull.dataset.errors import UserError
from focuspull.train.metrics import resnext
from focuspull.train.metrics.resnext import BLOCKS, ResNeXt, ResNeXt3d

torch.set_num_threads(1)


def shallow(blocks: tuple[int, ...] = (1, 1)) -> ResNeXt:
    torch.manual_seed(0)
    network = ResNeXt(blocks).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return network


def by_hand(state: dict[str, torch.Tensor], x: torch.Tensor, stages: int) -> torch.Tensor:
    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
        )
        view = (slice(None), None, None, None)
        return (x - mean[view]) / (var[view] + 1e-5).sqrt() * weight[view] + bias[view]

    x = norm(F.conv3d(x, state["conv1.weight"], stride=(1, 2, 2), padding=3), "bn1").relu()
    x = F.max_pool3d(x, 3, 2, 1)
    for stage in range(1, stages + 1):
        at, stride = f"layer{stage}.0", 1 if stage == 1 else 2
        y = norm(F.conv3d(x, state[f"{at}.conv1.weight"]), f"{at}.bn1").relu()
        y = F.conv3d(y, state[f"{at}.conv2.weight"], stride=stride, padding=1, groups=32)
        y = norm(F.conv3d(norm(y, f"{at}.bn2").relu(), state[f"{at}.conv3.weight"]), f"{at}.bn3")
        shortcut = F.conv3d(x, state[f"{at}.downsample.0.weight"], stride=stride)
        x = (y + norm(shortcut, f"{at}.downsample.1")).relu()
    return x.mean((2, 3, 4))


def test_features_are_those_of_the_formula() -> None:
    network = shallow()
    video = torch.rand(2, 3, 6, 20, 24, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = by_hand(network.state_dict(), video, 2)
        torch.testing.assert_close(network(video), expected, rtol=1e-4, atol=1e-4)
    assert expected.shape == (2, 512)


def test_the_published_size_has_its_parameters() -> None:
    """47.63 M with the classifier of Kinetics-400 (2048 x 400 + 400), as its authors' code counts."""
    with torch.device("meta"):
        count = sum(p.numel() for p in ResNeXt(BLOCKS).parameters())
    expected = 3 * 64 * 343 + 128
    inputs = 64
    for stage, blocks in enumerate((3, 4, 23, 3)):
        width, outputs = 128 * 2**stage, 256 * 2**stage
        for block in range(blocks):
            expected += (
                inputs * width + width * (width // 32) * 27 + width * outputs + 2 * (2 * width + outputs)
            )
            expected += inputs * outputs + 2 * outputs if block == 0 else 0
            inputs = outputs
    assert count == expected
    assert count + 2048 * 400 + 400 == pytest.approx(48.3e6, rel=0.02)


def test_a_file_as_it_was_released_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnext, "BLOCKS", (1, 1))
    state = shallow().state_dict() | {"fc.weight": torch.zeros(400, 512), "fc.bias": torch.zeros(400)}
    path = tmp_path / "resnext.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 1}, path)
    video = torch.rand(1, 3, 10, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = shallow()(video)
    torch.testing.assert_close(ResNeXt3d(path, torch.device("cpu")).features(video), expected)
    state.pop("layer2.0.conv2.weight")
    torch.save(state, path)
    with pytest.raises(UserError, match="resnext.pth: has no 'layer2.0.conv2.weight'"):
        ResNeXt3d(path, torch.device("cpu"))
