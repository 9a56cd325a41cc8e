"""Disparity from files and networks, and its one map per clip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch

from focuspull.dataset.errors import UserError
from focuspull.dataset.exr import encode_exr
from focuspull.model.depth import DepthNetwork, DisparityRange, Predicted, RangeScan, open_disparity

TRUTH = np.linspace(0, 1, 3 * 6 * 8, dtype=np.float32).reshape(3, 6, 8)


def read(path: Path):
    return np.stack(list(open_disparity(path).frames()))


def scanned(path: Path) -> DisparityRange:
    source = open_disparity(path)
    scan = RangeScan(source)
    for number, frame in enumerate(source.frames()):
        scan.add(frame, number)
    return scan.result()


@pytest.mark.parametrize("kind", ["png16", "png8", "exr", "exr_rgb", "npy folder", "npz folder", "tiff"])
def test_folders_of_every_kind_give_what_was_written(tmp_path: Path, kind: str):
    for i, frame in enumerate(TRUTH):
        name = tmp_path / f"d{[0, 2, 10][i]}"
        if kind == "png16":
            cv2.imwrite(f"{name}.png", np.rint(frame * 65535).astype(np.uint16))
        elif kind == "png8":
            cv2.imwrite(f"{name}.png", np.rint(frame * 255).astype(np.uint8))
        elif kind == "tiff":
            cv2.imwrite(f"{name}.tiff", frame)
        elif kind.startswith("exr"):
            channels = {"Y": frame} if kind == "exr" else {name: frame for name in "RGB"}
            Path(f"{name}.exr").write_bytes(encode_exr(channels))
        elif kind == "npy folder":
            np.save(f"{name}.npy", frame)
        else:
            np.savez_compressed(f"{name}.npz", disparity=frame)
    tolerance = {"png16": 0.51 / 65535, "png8": 0.51 / 255}.get(kind, 0)
    assert np.abs(read(tmp_path) - TRUTH).max() <= tolerance


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "b.npz"])
def test_arrays_are_read_and_read_again(tmp_path: Path, name: str):
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, TRUTH.astype(np.float16))
    elif name == "a.npz":
        np.savez(path, TRUTH)
    else:
        np.savez_compressed(path, depths=TRUTH, other=np.zeros(3))
    source = open_disparity(path)
    for _ in range(2):
        assert np.abs(np.stack(list(source.frames())) - TRUTH).max() <= (5e-4 if name == "a.npy" else 0)


def test_grey_video_is_read_and_coloured_is_refused(tmp_path: Path, make_clip: Callable[..., Path]):
    grey = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None, None, :, None], 3, axis=-1)
    path = make_clip(tmp_path / "a.mp4", np.tile(grey, (2, 64, 1, 1)), quality="high")
    assert np.abs(read(path) - grey[..., 0]).max() < 0.02
    with pytest.raises(UserError, match="frame 0 is coloured; it must be grey"):
        read(make_clip(tmp_path / "b.mp4", np.tile(np.array([1, 0, 0], np.float32), (2, 64, 64, 1))))


def test_floats_beyond_one_are_mapped_by_the_clip_and_not_by_the_frame(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.stack([np.full((2, 2), 3.0), np.full((2, 2), 5.0), np.full((2, 2), 7.0)]))
    span = scanned(tmp_path / "a.npy")
    assert span == DisparityRange(3, 7)
    assert [float(span.unit(frame).max()) for frame in read(tmp_path / "a.npy")] == [0, 0.5, 1]


def test_floats_within_one_and_integers_are_not_stretched(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.full((2, 2, 2), 0.4))
    assert scanned(tmp_path / "a.npy") == DisparityRange()
    cv2.imwrite(str(tmp_path / "a.png"), np.full((2, 2), 200, np.uint8))
    assert scanned(tmp_path / "a.png") == DisparityRange()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_counted_and_located(tmp_path: Path, bad: float):
    disparity = TRUTH.copy()
    disparity[1, 2:4, 3] = bad
    np.save(tmp_path / "a.npy", disparity)
    with pytest.raises(UserError, match=r"a\.npy: frame 1 has 2 pixels that are not finite"):
        scanned(tmp_path / "a.npy")


def test_no_depth_at_all_is_refused(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.full((2, 2, 2), 9.0))
    with pytest.raises(UserError, match="is 9 everywhere"):
        scanned(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "a.npy",
            np.zeros((2, 3, 4, 5), np.float32),
            r"must be floating point \[T, H, W\] in C order, got float32 \[2, 3",
        ),
        ("a.npy", np.zeros((2, 3, 4), np.int32), "got int32"),
        ("a.npy", np.asfortranarray(np.zeros((2, 3, 4))), "got Fortran order, float64"),
        ("a.npy", np.array([{}] * 8).reshape(2, 2, 2), "got object"),
    ],
)
def test_arrays_that_are_no_disparity_are_one_line(tmp_path: Path, name: str, array, message: str):
    np.save(tmp_path / name, array, allow_pickle=True)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_damaged_and_unclear_files_are_one_line(tmp_path: Path):
    np.save(tmp_path / "a.npy", TRUTH)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-5])
    with pytest.raises(UserError, match=r"a\.npy: ends within frame 2 of 3"):
        read(tmp_path / "a.npy")
    for name in ("b.npy", "b.npz"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(UserError, match="cannot be read as NumPy"):
            read(tmp_path / name)
    np.savez(tmp_path / "c.npz", left=TRUTH, right=TRUTH)
    with pytest.raises(UserError, match="has left, right"):
        read(tmp_path / "c.npz")
    (tmp_path / "d.exr").write_bytes(encode_exr({"Z": TRUTH[0]}))
    with pytest.raises(UserError, match="needs a channel Y, or R, G and B; has Z"):
        read(tmp_path / "d.exr")
    (tmp_path / "e.exr").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be decoded as OpenEXR"):
        read(tmp_path / "e.exr")
    cv2.imwrite(str(tmp_path / "f.png"), np.zeros((4, 4, 3), np.uint8) + np.array([0, 90, 200], np.uint8))
    with pytest.raises(UserError, match="is coloured"):
        read(tmp_path / "f.png")
    with pytest.raises(UserError, match="nothing: is not there"):
        open_disparity(tmp_path / "nothing")


def test_mixed_and_empty_folders_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="has no disparity"):
        open_disparity(tmp_path)
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((4, 4), np.uint16))
    np.save(tmp_path / "1.npy", TRUTH[0])
    with pytest.raises(UserError, match=r"mixes \.npy and \.png"):
        open_disparity(tmp_path)


# Networks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Depth Anything with four narrow layers and random weights, as `save_pretrained` writes it."""
    from transformers import (
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
        Dinov2Config,
        DPTImageProcessorPil,
    )

    torch.manual_seed(0)
    backbone = cast(Any, Dinov2Config)(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
        patch_size=14,
    )
    folder = tmp_path_factory.mktemp("depth-anything")
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    size = {"height": 56, "width": 56}
    DPTImageProcessorPil(size=size, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def test_network_from_a_local_folder_predicts(model: Path):
    network = DepthNetwork(str(model), torch.device("cpu"))
    image = np.random.default_rng(0).random((48, 64, 3), dtype=np.float32)
    first, again = network.predict(image), network.predict(image)
    assert first.shape == (42, 56) and first.dtype == np.float32 and np.ptp(first) > 0
    assert (first == again).all()
    assert (network.predict(1 - image) != first).any()


def test_metric_depth_is_inverted(model: Path, tmp_path: Path):
    network = DepthNetwork(str(model), torch.device("cpu"))
    image = np.random.default_rng(0).random((48, 64, 3), dtype=np.float32)
    depth = network.predict(image) + 1
    network._is_metric = True
    network._network.forward = lambda **_: type(
        "Out", (), {"predicted_depth": torch.from_numpy(depth)[None]}
    )()
    assert network.predict(image) == pytest.approx(1 / depth)


def test_networks_that_cannot_be_had_are_one_line(tmp_path: Path, model: Path):
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match=r"^--depth-model ./none: there is no such folder\.$"):
        DepthNetwork("./none", cpu)
    with pytest.raises(UserError, match="^--depth-model nobody/nothing: cannot be loaded: ") as caught:
        DepthNetwork("nobody/nothing", cpu)
    assert "\n" not in str(caught.value)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    with pytest.raises(UserError, match="cannot be loaded: ") as caught:
        DepthNetwork(str(tmp_path), cpu)
    assert "\n" not in str(caught.value)


def test_predictions_are_kept_on_disk_and_resized_alike_in_both_passes():
    kept = Predicted("network", (16, 12))
    first = [kept.add(frame) for frame in TRUTH]
    second = list(kept.frames())
    assert len(second) == 3 and second[0].shape == (12, 16)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_predictions_are_mapped_by_the_clip_even_within_one():
    kept = Predicted("network", (8, 6))
    scan = RangeScan(kept)
    for number, frame in enumerate(0.2 + 0.5 * TRUTH):
        scan.add(kept.add(frame), number)
    span = scan.result()
    assert (span.low, span.high) == pytest.approx((0.2, 0.7))


def test_full_disk_for_predictions_is_one_line():
    kept = Predicted("network", (8, 6))
    kept._file = cast(Any, open)("/dev/full", "wb")  # noqa: SIM115
    with pytest.raises(UserError, match="predictions cannot be kept: No space left on device. Set TMPDIR"):
        kept.add(TRUTH[0])
