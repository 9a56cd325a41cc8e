"""Exports, read back by readers written anew from what is known of the programs that they are for."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from focuspull.dataset.cli import main
from focuspull.dataset.clip import Clip, ClipMeta, DecodedClip, decode_clip, encode_clip
from focuspull.dataset.errors import UserError
from focuspull.dataset.export import export_a2b, export_frames
from focuspull.dataset.exr import encode_exr

Publish = Callable[..., None]
T, WIDTH, HEIGHT = 14, 64, 36
FOCUS_PANEL = 0.3
DISC, PANEL, GROUND = 1, 2, 3


@pytest.fixture
def clips(
    tmp_path: Path,
    make_meta: Callable[..., ClipMeta],
    make_arrays: Callable[[ClipMeta], dict[str, Any]],
    publish: Publish,
) -> tuple[Path, dict[str, DecodedClip]]:
    """A corpus of two clips, in two splits, of a disc before a panel, with every kind of target."""
    ramp = np.linspace(4.0, 17.0, T)
    pull = np.linspace(1.0, 0.0, T)
    panel = np.full(T, FOCUS_PANEL)
    targets = [  # K at 1024 px, disparity in focus
        (np.full(T, 16.0), np.ones(T)),  # on the disc
        (np.full(T, 24.5), pull),
        (ramp, panel),  # on the panel
        (ramp[::-1], pull[::-1]),
        (np.full(T, 16.0), np.ones(T)),  # the first once more, through another lens
        (np.full(T, 40.0), np.full(T, 0.8)),  # on nothing
    ]
    decoded = {}
    for split in ("train", "test"):
        key = f"clip-{split}"
        meta = make_meta(
            key, split=split, width=WIDTH, height=HEIGHT, num_frames=T, k_at_1024=(1.0,) * len(targets)
        )
        arrays = make_arrays(meta)
        panel_mask = (np.arange(WIDTH) > 0.75 * WIDTH) & (arrays["instance"] == 0)
        arrays["disparity"][panel_mask] = FOCUS_PANEL
        arrays["instance"][panel_mask] = PANEL
        arrays["instance"][:, -1][arrays["instance"][:, -1] == 0] = GROUND
        meta = meta.model_copy(
            update={
                # Ids are not in the order of depth: ranks are.
                "instances": {"panel": PANEL, "disc": DISC, "ground": GROUND},
                "scene": {
                    "world": {
                        "objects": [
                            {"name": "ground", "role": "set"},
                            {"name": "disc", "role": "subject"},
                            {"name": "panel", "role": "background"},
                        ]
                    }
                },
                "targets": tuple(
                    target.model_copy(
                        update={
                            "k_at_1024": tuple(k),
                            "k": tuple(k * WIDTH / 1024),
                            "focus_disparity": tuple(focus),
                            "lens_label": "6 blades" if number == 4 else "disc",
                        }
                    )
                    for number, (target, (k, focus)) in enumerate(zip(meta.targets, targets, strict=True))
                ),
            }
        )
        clip = encode_clip(meta, **arrays)
        publish(tmp_path / "corpus", f"{split}-000000", [clip])
        decoded[key] = decode_clip(dict(clip.members))
    return tmp_path / "corpus", decoded


# --- The rules of the published loader, in our words (reference sheet of the project, 2.4 and 6) ----------


def _frame_number(name: str) -> int:
    return int(name.split("_")[0].split(".")[0])


def _sorted_frames(folder: str) -> list[Path]:
    return sorted(Path(folder).iterdir(), key=lambda path: _frame_number(path.name))


def _after(text: str, mark: str, suffix: str) -> float:
    """A number in a name between a mark and the next one or the one suffix that is taken off."""
    return float(text.split(mark)[1].split("_k_")[0].replace(suffix, ""))


def _grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def _read_training(path: Path) -> list[dict[str, Any]]:
    """All frames of every row: RGB, disparity in 255ths, d_f, K, and the mask of the object in focus."""
    samples = []
    for row in csv.DictReader(path.open()):
        bokeh = _sorted_frames(row["bokeh_folder"])
        sample: dict[str, Any] = {
            "row": row,
            "aif": np.stack(
                [np.asarray(Image.open(p).convert("RGB")) for p in _sorted_frames(row["aif_folder"])]
            ),
            "bokeh": np.stack([np.asarray(Image.open(p).convert("RGB")) for p in bokeh]),
            "disparity": np.stack([_grey(p) for p in _sorted_frames(row["disp_folder"])]),
            "focus": [_after(p.name, "zf_", ".jpg") for p in bokeh],
            "k": [_after(p.name, "_k_", ".jpg") if row["k"] == "rand" else float(row["k"]) for p in bokeh],
        }
        if row["concept_i"] not in ("far2near", "near2far"):
            rank = int(row["concept_i"])
            masks = []
            for number in range(len(bokeh)):
                mask = _grey(Path(row["mask_folder"]) / f"{number}_{rank}.jpg") > 128
                for nearer in range(min(rank, 4)):
                    mask &= ~(_grey(Path(row["mask_folder"]) / f"{number}_{nearer}.jpg") > 128)
                masks.append(mask)
            sample["mask"] = np.stack(masks)
        samples.append(sample)
    return samples


def _read_inference(path: Path) -> list[dict[str, Any]]:
    samples = []
    for row in csv.DictReader(path.open()):
        inputs = _sorted_frames(row["disp_folder"])
        samples.append(
            {
                "aif": [_frame_number(p.name) for p in _sorted_frames(row["aif_folder"])],
                "disparity": np.stack([_grey(p) for p in inputs]),
                "focus": [_after(p.name, "zf_", ".png") for p in inputs],
                "k": [
                    _after(p.name, "_k_", ".png") if row["k"] == "change" else float(row["k"]) for p in inputs
                ],
            }
        )
    return samples


# --- Any-to-Bokeh


def test_published_loader_gets_pixels_disparity_k_and_focus(
    clips: tuple[Path, dict[str, DecodedClip]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    corpus, decoded = clips
    out = tmp_path / "a2b"
    assert main(["export", str(corpus), "--format", "a2b", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 2 clips\n"
    for split in ("train", "test"):
        clip = decoded[f"clip-{split}"]
        samples = _read_training(out / f"training_{split}.csv")
        assert len(samples) == len(clip.meta.targets)
        for sample, target, bokeh in zip(samples, clip.meta.targets, clip.bokeh, strict=True):
            np.testing.assert_array_equal(sample["aif"], clip.aif)
            np.testing.assert_array_equal(sample["bokeh"], bokeh)
            np.testing.assert_allclose(sample["disparity"] / 255, clip.disparity, atol=0.5 / 255 + 1e-6)
            np.testing.assert_allclose(sample["focus"], target.focus_disparity, atol=5.1e-6)
            np.testing.assert_allclose(sample["k"], target.k_at_1024, atol=5.1e-5)


def test_object_in_focus_is_named_by_its_rank(clips: tuple[Path, dict[str, DecodedClip]], tmp_path: Path):
    corpus, decoded = clips
    export_a2b(corpus, tmp_path / "a2b", split="train")
    samples = _read_training(tmp_path / "a2b" / "training_train.csv")
    assert [(s["row"]["k"], s["row"]["concept_i"]) for s in samples] == [
        ("16", "0"),
        ("24.5", "near2far"),
        ("rand", "1"),
        ("rand", "far2near"),
        ("16", "0"),
        ("40", "far2near"),
    ]
    instance = decoded["clip-train"].instance
    for sample, number in ((samples[0], DISC), (samples[2], PANEL)):
        np.testing.assert_array_equal(sample["mask"], instance == number)


def test_what_is_set_has_no_mask(clips: tuple[Path, dict[str, DecodedClip]], tmp_path: Path):
    export_a2b(clips[0], tmp_path / "a2b", split="train")
    masks = {path.name for path in (tmp_path / "a2b" / "clip-train" / "mask").iterdir()}
    assert masks == {f"{frame}_{rank}.jpg" for frame in range(T) for rank in range(2)}


def test_another_lens_with_the_same_k_has_a_folder_of_its_own(
    clips: tuple[Path, dict[str, DecodedClip]], tmp_path: Path
):
    export_a2b(clips[0], tmp_path / "a2b", split="train")
    rows = [
        sample["row"]["bokeh_folder"] for sample in _read_training(tmp_path / "a2b" / "training_train.csv")
    ]
    assert len(set(rows)) == len(rows)
    assert rows[0].endswith("bokeh/k=16/obj_0") and rows[4].endswith("bokeh/k=16/obj_0_bokeh4")


def test_published_inference_gets_disparity_k_and_focus(
    clips: tuple[Path, dict[str, DecodedClip]], tmp_path: Path
):
    corpus, decoded = clips
    export_a2b(corpus, tmp_path / "a2b", split=None)
    clip = decoded["clip-test"]
    samples = _read_inference(tmp_path / "a2b" / "inference_test.csv")
    for sample, target in zip(samples, clip.meta.targets, strict=True):
        assert sample["aif"] == list(range(T))
        np.testing.assert_allclose(sample["disparity"] / 255, clip.disparity, atol=0.5 / 255 + 1e-6)
        np.testing.assert_allclose(sample["focus"], target.focus_disparity, atol=5.1e-6)
        np.testing.assert_allclose(sample["k"], target.k_at_1024, atol=5.1e-5)


def test_what_the_published_code_does_not_take_is_counted(
    clips: tuple[Path, dict[str, DecodedClip]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "a2b"
    export_a2b(clips[0], out, split=None)
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"{out}: ").split(":")[0] for line in lines] == [
        "2 clips that are not 1024x576",
        "2 videos through another lens than the round thin one, or blurred in display values.",
        "2 videos with K at 1024 px outside 1 to 32, new to the published weights.",
        "2 videos with a K that is no whole number, new to the published weights.",
        "2 videos with constant focus on no object, listed as far2near.",
    ]
    assert all(line.removeprefix(f"{out}: ") in (out / "README.md").read_text() for line in lines)


def test_clips_that_would_stop_the_published_code_are_written_but_not_listed(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    export_a2b(corpus, tmp_path / "a2b", split="val")
    assert sorted(path.name for path in (tmp_path / "a2b").iterdir()) == ["README.md", "clip-000002"]
    assert "1 clips of less than 8 frames, which stop training" in capsys.readouterr().err


def test_export_without_roles_masks_every_instance(
    tmp_path: Path, make_clip: Callable[..., Clip], publish: Publish
):
    publish(tmp_path / "corpus", "train-000000", [make_clip(num_frames=8, k_at_1024=(16.0,))])
    export_a2b(tmp_path / "corpus", tmp_path / "a2b", split=None)
    assert (tmp_path / "a2b" / "clip-000000" / "mask" / "7_0.jpg").exists()


# --- Image files


def test_frames_are_the_pixels_of_the_corpus(clips: tuple[Path, dict[str, DecodedClip]], tmp_path: Path):
    corpus, decoded = clips
    out = tmp_path / "frames"
    assert main(["export", str(corpus), "--format", "frames", "--split", "test", "--out", str(out)]) == 0
    clip = decoded["clip-test"]
    folder = out / "clip-test"
    for frame in (0, T - 1):
        name = f"{frame:03d}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "aif" / name)), clip.aif[frame])
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "bokeh3" / name)), clip.bokeh[3][frame])
        np.testing.assert_array_equal(
            np.asarray(Image.open(folder / "instance" / name)), clip.instance[frame]
        )
        stored = np.asarray(Image.open(folder / "disparity" / name), np.float64) / 65535
        np.testing.assert_allclose(stored, clip.disparity[frame], atol=1e-7)
    assert ClipMeta.model_validate_json((folder / "meta.json").read_bytes()) == clip.meta
    assert (out / "clips.csv").read_text().splitlines() == [
        "key,split,width,height,num_frames,fps,num_targets",
        "clip-test,test,64,36,14,24,6",
    ]


def test_exr_holds_disparity_and_depth_in_metres(clips: tuple[Path, dict[str, DecodedClip]], tmp_path: Path):
    corpus, decoded = clips
    export_frames(corpus, tmp_path / "frames", split="test")
    path = tmp_path / "frames" / "clip-test" / "disparity_exr" / "003.exr"
    disparity = decoded["clip-test"].disparity[3]
    np.testing.assert_array_equal(_read_with_opencv(path, tmp_path), disparity)
    mi = pytest.importorskip("mitsuba")
    mi.set_variant("scalar_rgb")
    channels = np.array(mi.Bitmap(str(path)))
    np.testing.assert_array_equal(channels[..., 0], disparity)
    with np.errstate(divide="ignore"):  # 1 m to infinity
        np.testing.assert_allclose(channels[..., 1], 1 / disparity, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (16, 5), (33, 100)])
@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_exr_is_read_by_opencv_bit_for_bit(tmp_path: Path, shape: tuple[int, int], kind: str):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32) * (kind == "noise")
    (tmp_path / "a.exr").write_bytes(encode_exr({"Y": image.astype(np.float32)}))
    np.testing.assert_array_equal(_read_with_opencv(tmp_path / "a.exr", tmp_path), image)


def test_exr_of_other_arrays_is_refused():
    with pytest.raises(ValueError, match="channel Y must be float32, got float64"):
        encode_exr({"Y": np.zeros((2, 2))})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="of one size"):
        encode_exr({"Y": np.zeros((2, 2), np.float32), "Z": np.zeros((2, 3), np.float32)})


def _read_with_opencv(path: Path, folder: Path) -> np.ndarray:
    """In a process of its own, since OpenCV reads EXR only if it is told so from the start."""
    code = "import cv2, numpy, sys; numpy.save(sys.argv[2], cv2.imread(sys.argv[1], cv2.IMREAD_UNCHANGED))"
    environment = {"OPENCV_IO_ENABLE_OPENEXR": "1"}
    subprocess.run([sys.executable, "-c", code, path, folder / "read.npy"], check=True, env=environment)
    return np.load(folder / "read.npy")


# --- Both


@pytest.mark.parametrize("kind", ["a2b", "frames"])
def test_unknown_split_is_one_line(
    corpus: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
):
    assert (
        main(["export", str(corpus), "--format", kind, "--split", "tset", "--out", str(tmp_path / "x")]) == 2
    )
    assert (
        capsys.readouterr().err
        == f"focuspull-dataset: {corpus}: has no split 'tset'. Its splits are train, val.\n"
    )


@pytest.mark.parametrize("export", [export_a2b, export_frames])
def test_damaged_clip_leaves_nothing(corpus: Path, tmp_path: Path, export: Callable[..., int]):
    shard = corpus / "val-000000.tar"
    content = bytearray(shard.read_bytes())
    marker = json.loads((corpus / "val-000000.json").read_bytes())
    content[marker["clips"][0]["members"][3]["offset"] + 50] ^= 1
    shard.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"clip-000002: aif\.002\.png does not have the SHA-256"):
        export(corpus, tmp_path / "out", split=None)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("export", [export_a2b, export_frames])
def test_folder_with_something_in_it_is_left_alone(corpus: Path, export: Callable[..., int]):
    before = sorted(corpus.iterdir())
    with pytest.raises(UserError, match="is there already and is not empty"):
        export(corpus, corpus, split=None)
    assert sorted(corpus.iterdir()) == before
