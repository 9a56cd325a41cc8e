"""The command from end to end, and everything a user can get wrong."""

from __future__ import annotations

import csv
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from focuspull.model import cli
from focuspull.model.cli import main, progress_text
from focuspull.model.pipeline import BokehPipeline
from focuspull.model.renderer import RENDERERS, FrameInput, RendererEntry, get_renderer
from focuspull.model.video import open_video
from tests.model.networks import tiny

Clip = Callable[..., Path]
FRAMES, HEIGHT, WIDTH = 12, 48, 64


@pytest.fixture
def given(tmp_path: Path, make_clip: Clip) -> dict[str, str]:
    """Arguments of a command that works: a clip with sound, its disparity, a square that moves in front."""
    clip = make_clip(tmp_path / "clip.mp4", sound="aac")
    disparity = np.full((FRAMES, HEIGHT, WIDTH), 0.1, np.float32)
    for i in range(FRAMES):
        disparity[i, 16:32, 10 + i : 26 + i] = 0.8
    np.savez(tmp_path / "d.npz", disparity=disparity)
    return {
        "": str(clip),
        "--out": str(tmp_path / "out.mp4"),
        "--disparity": str(tmp_path / "d.npz"),
        "--focus": "0.8",
        "--k": "6",
        "--threads": "1",
    }


def command(given: dict[str, str | None], **changes: str | None) -> list[str]:
    """Arguments with some changed or, where None, left out."""
    merged = given | {
        f"--{name.replace('_', '-')}" if name != "video" else "": v for name, v in changes.items()
    }
    return [f"{name}={value}" if name else value for name, value in merged.items() if value is not None]


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def lengths(path: Path) -> list[Fraction]:
    """Seconds of the video and of the audio."""
    with av.open(str(path)) as container:
        streams = (*container.streams.video, *container.streams.audio)
        return [(stream.duration or 0) * (stream.time_base or Fraction(0)) for stream in streams]


def test_square_stays_sharp_and_the_ground_is_blurred_with_rate_size_and_sound_kept(
    tmp_path: Path, given, images_of, packets_of, capsys: pytest.CaptureFixture[str]
):
    assert main(command(given)) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path}/out.mp4\n"
    assert captured.err.splitlines() == [
        "focuspull-refocus: renders with 'layers', the best without weights; "
        "for the network: --renderer any-to-bokeh --weights DIR"
    ]
    source, made = open_video(tmp_path / "clip.mp4"), open_video(tmp_path / "out.mp4")
    assert (made.width, made.height, made.fps) == (WIDTH, HEIGHT, Fraction(24000, 1001))
    assert [f.time_s for f in made.frames()] == [f.time_s for f in source.frames()]
    assert packets_of(tmp_path / "out.mp4") == packets_of(tmp_path / "clip.mp4")
    assert lengths(tmp_path / "out.mp4") == lengths(tmp_path / "clip.mp4")
    aif, bokeh = images_of(tmp_path / "clip.mp4"), images_of(tmp_path / "out.mp4")
    assert np.abs(aif - bokeh)[5, 20:28, 19:27].mean() < 0.02


def test_a_focus_behind_blurs_the_square(given, images_of, tmp_path: Path):
    assert main(command(given, focus="0.1", k="8")) == 0
    aif, bokeh = images_of(tmp_path / "clip.mp4"), images_of(tmp_path / "out.mp4")
    inside = np.s_[5, 20:28, 19:27]
    assert bokeh[inside].std() < 0.5 * aif[inside].std()
    assert np.abs(aif - bokeh)[5, :8].mean() < 0.01


@pytest.mark.parametrize("name", ["identity", "gather", "scatter", "mpi-32", "layers"])
def test_output_is_what_the_renderer_makes(tmp_path: Path, given, images_of, name: str):
    assert main(command(given, out=str(tmp_path / "out.mkv"), quality="lossless", renderer=name)) == 0
    aif = torch.from_numpy(images_of(tmp_path / "clip.mp4")).permute(0, 3, 1, 2)[None]
    disparity = torch.from_numpy(np.load(tmp_path / "d.npz")["disparity"])[None, :, None]
    wanted = get_renderer(name)(aif, disparity, torch.full((1, FRAMES), 6.0), torch.full((1, FRAMES), 0.8))
    made = torch.from_numpy(images_of(tmp_path / "out.mkv")).permute(0, 3, 1, 2)[None]
    assert float((made - wanted).abs().max()) < 2e-5


def test_keyframes_count_frames_of_the_whole_video_and_k_scales_with_width(tmp_path: Path, given):
    track = tmp_path / "track.csv"
    changes = {"frames": "4:9", "focus": "0:0.0, 10:1.0", "k": None, "k_at_1024": "0:0,8:16"}
    assert main(command(given, save_track=str(track), **changes)) == 0
    rows = list(csv.DictReader(track.open()))
    assert [int(row["frame"]) for row in rows] == [4, 5, 6, 7, 8]
    assert [float(row["focus_disparity"]) for row in rows] == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8])
    assert [float(row["k"]) for row in rows] == pytest.approx(
        [n / 8 * 16 * WIDTH / 1024 for n in (4, 5, 6, 7, 8)]
    )


def test_part_of_a_video_starts_at_zero_with_its_own_frames_and_sound(
    tmp_path: Path, given, images_of, packets_of
):
    assert main(command(given, frames="6:", k="0")) == 0
    made = open_video(tmp_path / "out.mp4")
    assert [f.time_s for f in made.frames()] == [n * Fraction(1001, 24000) for n in range(6)]
    assert np.abs(images_of(tmp_path / "out.mp4") - images_of(tmp_path / "clip.mp4")[6:]).mean() < 0.01
    start = 6 * Fraction(1001, 24000)
    source = packets_of(tmp_path / "clip.mp4")
    assert [content for _, content in packets_of(tmp_path / "out.mp4")] == [
        c for t, c in source if t >= start
    ]


def test_followed_pixel_gives_the_disparity_of_the_square(tmp_path: Path, given):
    outputs = {"save_track": str(tmp_path / "t.csv"), "preview": str(tmp_path / "p.mp4")}
    assert main(command(given, focus="18,24", **outputs)) == 0
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [float(row["x"]) for row in rows] == pytest.approx([18 + i for i in range(FRAMES)], abs=1.5)
    assert {row["focus_disparity"] for row in rows} == {"0.800000"}
    preview = open_video(tmp_path / "p.mp4")
    assert (preview.width, preview.height, preview.fps) == (3 * WIDTH, HEIGHT, Fraction(24000, 1001))


def test_mask_video_gives_the_disparity_below_it(tmp_path: Path, given, make_clip: Clip):
    mask = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.float32)
    mask[:, 18:30, 24:30] = 1
    make_clip(tmp_path / "mask.mp4", mask)
    track = str(tmp_path / "t.csv")
    assert main(command(given, focus=str(tmp_path / "mask.mp4"), save_track=track, frames="5:8")) == 0
    assert {line.split(",")[4] for line in Path(track).read_text().splitlines()[1:]} == {"0.800000"}


def test_preview_shows_aif_bokeh_and_disparity(tmp_path: Path, given, images_of):
    assert main(command(given, focus="0.1", preview=str(tmp_path / "p.mp4"))) == 0
    left, middle, right = np.split(images_of(tmp_path / "p.mp4")[5], 3, axis=1)
    assert np.abs(left - images_of(tmp_path / "clip.mp4")[5])[:36].mean() < 0.03
    assert np.abs(middle - images_of(tmp_path / "out.mp4")[5]).mean() < 0.03
    assert right[4, 40].min() > 0.6, "what is in focus is white"
    assert right[24, 22].min() < 0.3


def test_folder_of_frames_with_a_rate(tmp_path: Path, given):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(FRAMES):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((HEIGHT, WIDTH, 3), 20 * i, np.uint8))
    assert main(command(given, video=str(folder), fps="29.97")) == 0
    assert open_video(tmp_path / "out.mp4").fps == Fraction(30000, 1001)


def test_a_renderer_that_streams_gets_all_frames_and_its_weights(
    tmp_path: Path, given, monkeypatch, images_of
):
    seen: dict[str, object] = {}

    class Streaming:
        def stream(self, frames: Iterator[FrameInput]) -> Iterator[torch.Tensor]:
            batch: list[FrameInput] = []
            for frame in frames:
                batch.append(frame)
                if len(batch) == 5:
                    yield from (1 - item.aif for item in batch)
                    batch.clear()
            yield from (1 - item.aif for item in batch)
            seen["last"] = batch[-1]

    def make(weights: Path) -> Streaming:
        seen["weights"] = weights
        return Streaming()

    monkeypatch.setattr(cli, "factory_for_test", make, raising=False)
    entry = RendererEntry("inverts", "focuspull.model.cli", "factory_for_test", ("weights",))
    monkeypatch.setitem(RENDERERS, "any-to-bokeh", entry)
    assert main(command(given, weights=str(tmp_path))) == 0
    assert seen["weights"] == tmp_path
    last = seen["last"]
    assert isinstance(last, FrameInput) and last.k == 6 and last.focus_disparity == pytest.approx(0.8)
    assert last.aif.shape == (3, HEIGHT, WIDTH) and last.disparity.shape == (1, HEIGHT, WIDTH)
    made, source = images_of(tmp_path / "out.mp4"), images_of(tmp_path / "clip.mp4")
    assert np.abs(made - (1 - source)).mean() < 0.02


def test_the_network_itself_refocuses_a_video(
    tmp_path: Path, given, images_of, capsys: pytest.CaptureFixture[str]
):
    parts = tiny()
    BokehPipeline.of(parts).save_pretrained(tmp_path / "weights")
    arguments = command(given, weights=str(tmp_path / "weights"), device="cpu", quality="lossless")
    arguments[arguments.index(f"--out={tmp_path}/out.mp4")] = f"--out={tmp_path}/out.mkv"
    assert main(arguments) == 0
    assert "best without weights" not in capsys.readouterr().err
    made = images_of(tmp_path / "out.mkv")

    aif = torch.from_numpy(images_of(tmp_path / "clip.mp4")).permute(0, 3, 1, 2)
    disparity = torch.from_numpy(np.load(tmp_path / "d.npz")["disparity"])
    renderer = get_renderer("any-to-bokeh", weights=tmp_path / "weights", device="cpu")
    k, focus = torch.full((1, FRAMES), 6.0), torch.full((1, FRAMES), 0.8)
    wanted = renderer(aif[None], disparity[None, :, None], k, focus)[0].permute(0, 2, 3, 1).numpy()
    assert np.abs(made - wanted).mean() < 0.01 < np.abs(made - aif.permute(0, 2, 3, 1).numpy()).mean()


def test_weights_of_something_else_are_one_line(tmp_path: Path, given, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "weights").mkdir()
    assert main(command(given, weights=str(tmp_path / "weights"))) == 2
    assert capsys.readouterr().err.startswith(
        f"focuspull-refocus: --weights {tmp_path}/weights: is not a folder of weights, it has no "
    )
    (tmp_path / "weights" / "model_index.json").write_text("{")
    assert main(command(given, weights=str(tmp_path / "weights"))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"focuspull-refocus: --weights {tmp_path}/weights: does not load: ")
    assert "out.mp4" not in files(tmp_path)


def test_depth_network_from_a_folder_is_used(tmp_path: Path, given, monkeypatch):
    class Brightness:
        def __init__(self, model: str, device: torch.device) -> None:
            self.name = model

        def predict(self, rgb: NDArray[np.float32]) -> NDArray[np.float32]:
            return 100 * rgb[::2, ::2].mean(-1)

    monkeypatch.setattr("focuspull.model.refocus.DepthNetwork", Brightness)
    track = tmp_path / "t.csv"
    arguments = command(given, disparity=None, depth_model="x", focus="18,24", save_track=str(track))
    assert main(arguments) == 0
    values = [float(row["focus_disparity"]) for row in csv.DictReader(track.open())]
    assert min(values) > 0.4 and max(values) <= 1


# What a user can get wrong

BAD: dict[str, tuple[dict[str, str | None], str]] = {
    "no video": ({"video": "none.mp4"}, "none.mp4: is not there"),
    "no disparity": ({"disparity": "none.npz"}, "none.npz: is not there"),
    "outside right": ({"focus": "64,10"}, "--focus 64,10: is outside the frame of 64x48, from 0,0 to 63,47"),
    "outside left": ({"focus": "-1,10"}, "--focus -1,10: is outside the frame"),
    "nan pixel": ({"focus": "nan,10"}, "is outside the frame"),
    "focus": ({"focus": "2"}, "disparity must be in [0, 1]"),
    "negative k": ({"k": "-3"}, "--k -3: must be finite and not negative, got -3"),
    "renderer": ({"renderer": "layer"}, "renderer: there is none called 'layer'. Did you mean 'layers'?"),
    "oracle": (
        {"renderer": "oracle-layers"},
        "--renderer oracle-layers: needs more than a video and disparity",
    ),
    "no weights": ({"weights": "none"}, "--weights none: there is no such folder"),
    "weights for nothing": ({"weights": ".", "renderer": "layers"}, "renderer 'layers' has none"),
    "model": ({"disparity": None, "depth_model": "./none"}, "--depth-model ./none: there is no such folder"),
    "frames": ({"frames": "5:5"}, "--frames 5:5: must be A:B with 0 <= A < B"),
    "frames text": ({"frames": "5"}, "--frames 5: must be two numbers"),
    "frames beyond": ({"frames": "5:40"}, "has 12 frames, 0:12."),
    "first beyond": ({"frames": "12:"}, "has 12 frames, 0:12."),
    "range": ({"disparity_range": "1:0"}, "must be LOW:HIGH"),
    "fps of a file": ({"fps": "25"}, "--fps 25: "),
    "fps": ({"fps": "fast"}, "--fps fast: must be a number"),
    "suffix": ({"out": "out.gif"}, "out.gif: must end in .mp4, .mov, .mkv"),
    "folder": ({"out": "none/out.mp4"}, "there is no folder none"),
    "not writable": ({"out": "/proc/out.mp4"}, "/proc/out.mp4: cannot be written: "),
    "preview folder": ({"preview": "none/p.mp4"}, "there is no folder none"),
    "track folder": ({"save_track": "none/t.csv"}, "there is no folder none"),
    "lossless mp4": ({"quality": "lossless"}, "lossless video is written as .mkv only"),
    "over the input": ({"out": "clip.mp4"}, "clip.mp4: is also used for something else"),
    "twice": ({"preview": "out.mp4", "out": "out.mp4"}, "out.mp4: is also used for something else"),
    "device": ({"device": "tpu"}, "--device tpu: cannot be used"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_mistakes_are_one_line_status_2_and_no_file(
    tmp_path: Path, given, wrong: str, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    changes, message = BAD[wrong]
    assert main(command(given, **changes)) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "renders with" not in line]
    assert len(lines) == 1 and lines[0].startswith("focuspull-refocus: ") and message in lines[0]
    assert captured.out == "" and files(tmp_path) == before


def spoil(disparity: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    if how == "nan":
        disparity[7, 3, 4] = np.nan
    return {
        "short": disparity[:-2],
        "long": np.concatenate([disparity, disparity[:1]]),
        "size": disparity[:, :-1],
    }.get(how, disparity)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", "d.npz: frame 7 has 1 pixels that are not finite"),
        ("short", "d.npz: has 10 frames of disparity, "),
        ("long", "d.npz: has more frames of disparity than "),
        ("size", "d.npz: disparity is 64x47, "),
    ],
)
def test_disparity_that_does_not_fit_leaves_no_file(
    tmp_path: Path, given, how: str, message: str, capsys: pytest.CaptureFixture[str]
):
    disparity = np.load(tmp_path / "d.npz")["disparity"]
    np.savez(tmp_path / "d.npz", disparity=spoil(disparity, how))
    (tmp_path / "out.mp4").write_bytes(b"an older one")
    before = files(tmp_path)
    assert main(command(given)) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert files(tmp_path) == before and (tmp_path / "out.mp4").read_bytes() == b"an older one"


@pytest.mark.parametrize("content", [b"", b"not a video"])
def test_unreadable_video_is_one_line(
    tmp_path: Path, given, content: bytes, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "clip.mp4").write_bytes(content)
    assert main(command(given)) == 2
    assert "clip.mp4: cannot be read as a video" in capsys.readouterr().err.splitlines()[-1]
    assert "out.mp4" not in files(tmp_path)


def test_network_without_weights_is_one_line(given, monkeypatch, capsys: pytest.CaptureFixture[str]):
    entry = RendererEntry("network", "focuspull.model.cli", "main", ("weights",))
    monkeypatch.setitem(RENDERERS, "any-to-bokeh", entry)
    assert main(command(given, renderer="any-to-bokeh")) == 2
    assert capsys.readouterr().err == (
        "focuspull-refocus: --renderer any-to-bokeh: needs weights. Say where they are: --weights DIR.\n"
    )


def test_mask_without_white_is_one_line(tmp_path: Path, given, make_clip: Clip, capsys):
    make_clip(tmp_path / "mask.mp4", np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.float32))
    assert main(command(given, focus=str(tmp_path / "mask.mp4"))) == 2
    assert "mask.mp4: is more than half white nowhere" in capsys.readouterr().err


def run(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "focuspull.model", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores Ctrl-C, and so would its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    )


def test_full_disk_is_one_line_and_leaves_no_file(tmp_path: Path, given, capsys: pytest.CaptureFixture[str]):
    noise = np.random.default_rng(0).random((FRAMES, HEIGHT, WIDTH, 3), dtype=np.float32)
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, image in enumerate(noise):
        cv2.imwrite(str(folder / f"{i}.png"), np.rint(image * 255).astype(np.uint8))
    before = files(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        status = main(command(given, video=str(folder), k="0"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert "out.mp4: cannot be written: File too large." in capsys.readouterr().err.splitlines()[-1]
    assert files(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_one_line(tmp_path: Path, given, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    assert main(command(given, out=str(folder / "out.mp4"))) == 2
    assert "Choose a folder you may write to" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_nothing(tmp_path: Path, given, make_clip: Clip, number: int, status: int):
    images = np.random.default_rng(0).random((60, 180, 240, 3), dtype=np.float32)
    make_clip(tmp_path / "long.mp4", images)
    np.save(tmp_path / "long.npy", np.tile(np.linspace(0, 1, 240, dtype=np.float32), (60, 180, 1)))
    before = files(tmp_path)
    process = run(
        command(given, video=str(tmp_path / "long.mp4"), disparity=str(tmp_path / "long.npy"), k="30")
    )
    deadline = time.monotonic() + 60
    while not any(name.startswith(".tmp-") for name in files(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    assert process.poll() is None, "ended before it was stopped"
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == status
    assert error.splitlines()[-1] == "focuspull-refocus: stopped; nothing was written"
    assert files(tmp_path) == before


def test_help_is_instant_and_loads_nothing_heavy():
    code = "import sys, focuspull.model.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "cv2", "pydantic", "av", "torch", "transformers"} & set(done.stdout.split())
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "focuspull.model", "--help"], capture_output=True, text=True, check=True
    )
    assert time.monotonic() - started < 1
    *_, heading, first, second = done.stdout.rstrip().splitlines()
    assert heading == "examples:"
    assert all(line.startswith("  focuspull-refocus clip.mp4 --out bokeh.mp4 ") for line in (first, second))


def test_progress_says_how_far_it_is_and_how_long_it_takes():
    assert progress_text("rendering", 60, 120, 72.0) == (
        "rendering [############............] 60/120 frames, 1.2 s/frame, 72 s left"
    )
    assert progress_text("looking", 10, None, 5.0) == "looking at frame 10, 0.5 s/frame"
