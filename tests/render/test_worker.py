"""One clip in a child process: its bytes, its end, and what is left when it fails."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from focuspull.dataset import optics
from focuspull.dataset.clip import RendererMeta
from focuspull.dataset.index import RECORD_COLUMNS
from focuspull.dataset.shards import read_staged
from focuspull.dataset.storage import Folder
from focuspull.render.build import build
from focuspull.render.child import Watched
from focuspull.render.corpus import load_corpus
from focuspull.render.frames import Frames
from focuspull.render.heartbeat import ClipBeat, read_beat, write_beat
from focuspull.render.randomize import randomize
from focuspull.render.worker import EXIT_BUG, EXIT_OUTPUT, EXIT_USER, Job, _Heart, clip_meta, spawn

RENDERER = RendererMeta(backend="none", backend_version="0", variant="none", focuspull_version="0")


def make_job(spec: str, folder: Path, **overrides: str) -> Job:
    """The job of clip 0; overrides are those of the spec with ``__`` for the dot."""
    loaded = load_corpus(spec, {name.replace("__", "."): value for name, value in overrides.items()})
    return Job(
        mode="clip",
        key="clip-000000",
        split="train",
        scene=randomize(loaded.spec, 0),
        files=loaded.files,
        backend=loaded.spec.backend,
        threads=1,
        folder=folder,
    )


def test_a_job_on_disk_is_the_same_scene(wee: str, tmp_path: Path):
    for spec in (wee, "tiny"):
        job = make_job(spec, tmp_path)
        read_back = Job.model_validate_json(job.model_dump_json())
        assert read_back == job
        assert read_back.scene.sha256() == job.scene.sha256()


def test_metadata_has_the_optics_of_the_frames(wee: str, tmp_path: Path):
    built = build(make_job(wee, tmp_path).scene, {})
    depth = optics.DisparityMap(2.0, np.inf)
    pixels = np.ones((2, 36, 64), np.float32)
    frames = Frames(
        numbers=(0, 1),
        aif=pixels[..., None].repeat(3, -1),
        bokeh=(pixels[..., None].repeat(3, -1),) * 2,
        disparity=pixels,
        instance=pixels.astype(np.uint16),
        disparity_map=depth,
        k=np.array([[5.0, 6.0], [0.0, 0.0]]),
        focus_disparity=np.array([[1.0, 0.5], [0.0, 0.0]]),
        focal_px=64 * 50 / 36,
        camera_to_world=np.stack([built.camera(0.0), built.camera(1.0)]),
        variant="none",
        method="rebinned",
        noise_floor_db=(45.0, 40.0, None),
        samples=(64.0, 32.0, 32.0),
    )
    meta = clip_meta(built, frames, key="clip-000007", split="val", renderer=RENDERER)
    first, second = meta.targets
    assert (meta.key, meta.split, meta.num_frames, meta.width, meta.height) == (
        "clip-000007",
        "val",
        2,
        64,
        36,
    )
    assert meta.scene_sha256 == built.scene.sha256()
    assert first.k_at_1024 == pytest.approx((80.0, 96.0))
    assert first.focus_distance_m == pytest.approx((2.0, 4.0))
    # K = f_px R span, N = f / 2R, with span 0.5 per metre and f_px = 88.9.
    assert (first.lens_label, first.domain, first.twin_of) == ("disc", "linear_hdr", None)
    assert first.lens_radius_m == pytest.approx((5 / (64 * 50 / 36 * 0.5), 6 / (64 * 50 / 36 * 0.5)))
    assert first.f_number == pytest.approx(tuple(0.05 / (2 * radius) for radius in first.lens_radius_m))
    assert second.f_number == (None, None) and second.focus_distance_m == (None, None)
    assert meta.disparity.z_far_m is None and meta.disparity.offset == 0
    # The area light has triangles as well, but is no instance.
    assert meta.instances == {"floor": 1, "near": 2, "far": 3}
    assert meta.camera.camera_to_world[1][0][3] == pytest.approx(built.camera(1.0)[0, 3])
    with_end = replace(frames, disparity_map=optics.DisparityMap(2.0, 8.0))
    assert clip_meta(built, with_end, key="a", split="b", renderer=RENDERER).disparity.z_far_m == 8.0


@pytest.mark.mitsuba
def test_a_clip_has_the_same_bytes_again_and_with_more_threads(wee: str, tmp_path: Path):
    # Large enough for the denoiser to share out its work.
    size = {"film__width": "192", "film__height": "108"}
    first = make_job(wee, tmp_path / "first", **size)
    again = make_job(wee, tmp_path / "again", **size)
    threads = first.model_copy(update={"threads": 2, "folder": tmp_path / "threads"})
    for job in (first, again, threads):
        assert spawn(job).done
        assert sorted(path.name for path in job.folder.iterdir()) == ["clip-000000.json", "clip-000000.tar"]
    contents = {(job.folder / "clip-000000.tar").read_bytes() for job in (first, again, threads)}
    assert len(contents) == 1
    record = read_staged(first.folder)["clip-000000"].marker.record
    assert 0 < record["render_seconds"] < 600 and 0 < record["render_cpu_seconds"] < 600


@pytest.mark.mitsuba
def test_a_clip_records_what_it_cost_and_none_of_it_is_in_its_bytes(wee: str, tmp_path: Path):
    first = make_job(wee, tmp_path / "first")
    third = first.model_copy(update={"attempt": 3, "folder": tmp_path / "third"})
    assert spawn(first).done and spawn(third).done
    record = read_staged(third.folder)["clip-000000"].marker.record
    assert record.keys() == set(RECORD_COLUMNS)
    assert record["attempts"] == 3
    assert 10 << 20 < record["peak_memory_bytes"] < 100 << 30
    assert (first.folder / "clip-000000.tar").read_bytes() == (third.folder / "clip-000000.tar").read_bytes()


@pytest.mark.mitsuba
def test_a_clip_that_takes_too_much_memory_or_time_is_told_by_the_option(wee: str, tmp_path: Path):
    job = make_job(wee, tmp_path, quality__aif_samples="65536")
    ended = spawn(job.model_copy(update={"memory_gib": 0.05}))
    assert (ended.done, ended.returncode, ended.failure) == (False, -signal.SIGKILL, "memory")
    assert re.fullmatch(r"took \d\.\d\d GiB of memory, 0\.05 are allowed \(--memory-gib\)", ended.reason)
    ended = spawn(job.model_copy(update={"timeout_min": 0.02}))
    assert (ended.done, ended.failure) == (False, "timeout")
    assert ended.reason == "made no progress for 0.02 min (--timeout-min)"
    # Log and job stay, the sign of life does not.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip-000000.job", "clip-000000.log"]


@pytest.mark.mitsuba
def test_a_clip_shows_signs_of_life_with_its_frames(wee: str, tmp_path: Path):
    job = make_job(wee, tmp_path, quality__aif_samples="4096")
    seen: list[ClipBeat] = []
    running = threading.Thread(target=spawn, args=(job.model_copy(update={"attempt": 2}),))
    running.start()
    while running.is_alive():
        beat = read_beat(Folder(tmp_path), "clip-000000.beat", ClipBeat)
        seen += [beat] if beat is not None and beat not in seen else []
        time.sleep(0.01)
    assert {(beat.key, beat.attempt, beat.num_frames) for beat in seen} == {("clip-000000", 2, 2)}
    assert [beat.frames for beat in seen] == sorted(beat.frames for beat in seen)
    assert {0, 1} <= {beat.frames for beat in seen}
    assert all(beat.same_attempt(seen[0]) for beat in seen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip-000000.json", "clip-000000.tar"]


def test_the_sign_of_life_of_another_attempt_is_left_alone(wee: str, tmp_path: Path):
    job = make_job(wee, tmp_path)
    heart = _Heart(job)
    heart.beat(Watched(pid=1))
    folder, name = Folder(tmp_path), "clip-000000.beat"
    path = tmp_path / name
    mine = read_beat(folder, name, ClipBeat)
    assert mine is not None
    write_beat(folder, name, mine.model_copy(update={"host": "another"}))
    heart.stop()
    assert path.exists()
    write_beat(folder, name, mine)
    heart.stop()
    assert not path.exists()


@pytest.mark.mitsuba
def test_another_noise_seed_is_another_clip(wee: str, tmp_path: Path):
    job = make_job(wee, tmp_path / "a")
    other = job.model_copy(
        update={"folder": tmp_path / "b", "scene": job.scene.model_copy(update={"seed": job.scene.seed + 1})}
    )
    assert spawn(job).done and spawn(other).done
    members = [_members(folder / "clip-000000.tar") for folder in (job.folder, other.folder)]
    differing = {name for name in members[0] if members[0][name] != members[1][name]}
    assert {name.split(".")[1] for name in differing} == {"json", "aif", "bokeh0", "bokeh1"}


def _members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as file:
        return {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]


@pytest.mark.mitsuba
def test_a_mistake_in_the_scene_is_one_line_and_leaves_job_and_log(wee: str, tmp_path: Path):
    job = make_job(wee, tmp_path, scenes__0__world__camera__path__look_at_m="[0, -8, 9]")
    ended = spawn(job)
    assert (ended.done, ended.returncode) == (False, EXIT_USER)
    assert ended.reason == "scene: nothing but sky is in view. Move the camera or the objects."
    assert job.log_path.read_text() == ended.reason + "\n"
    assert Job.model_validate_json(job.job_path.read_bytes()) == job
    assert read_staged(tmp_path) == {}


@pytest.mark.mitsuba
def test_a_broken_image_is_a_traceback_and_no_clip(wee: str, tmp_path: Path):
    dark = "{type: constant, radiance: [0, 0, 0]}"
    world = {"scenes__0__world__lights": "[]", "scenes__0__world__environment": dark}
    job = make_job(wee, tmp_path, quality__denoise="false", **world)
    ended = spawn(job)
    assert (ended.done, ended.returncode) == (False, EXIT_BUG)
    assert ended.reason.startswith("FloatingPointError: frame 0: is all black")
    assert "Traceback (most recent call last)" in job.log_path.read_text()
    assert read_staged(tmp_path) == {}


@pytest.mark.mitsuba
def test_a_missing_file_is_one_line(wee: str, tmp_path: Path):
    image = tmp_path / "bricks.png"
    image.write_bytes(b"not an image")
    texture = f"{{type: image, file: {image}}}"
    job = make_job(wee, tmp_path, scenes__0__world__objects__0__material=f"{{base_color: {texture}}}")
    ended = spawn(job)
    assert ended.returncode == EXIT_USER and "bricks.png" in ended.reason
    image.unlink()
    ended = spawn(job)
    assert ended.returncode == EXIT_USER
    assert ended.reason.startswith("bricks.png: file is missing")


@pytest.fixture
def full_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk with room for the job and its log, and for no clip."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "focuspull-test", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("not allowed to mount a small disk; the limit on file size is tested all the same")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.mitsuba
def test_a_full_disk_is_one_line_and_leaves_nothing_under_a_final_name(wee: str, full_folder: Path):
    ended = spawn(make_job(wee, full_folder))
    assert (ended.done, ended.returncode) == (False, EXIT_OUTPUT)
    assert "cannot be written: No space left on device. Free some space" in ended.reason
    assert {path.suffix for path in full_folder.iterdir()} <= {".job", ".log"}


@pytest.mark.mitsuba
def test_a_file_that_may_not_grow_is_one_line_and_leaves_nothing_under_a_final_name(wee: str, tmp_path: Path):
    job = make_job(wee, tmp_path, film__width="512", film__height="288", quality__denoise="false")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Meshes and compiled kernels stay below; the clip has a megabyte of noise.
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
    try:
        ended = spawn(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (ended.done, ended.returncode) == (False, EXIT_OUTPUT), ended.reason
    assert "clip-000000.tar: cannot be written: File too large" in ended.reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip-000000.job", "clip-000000.log"]


def test_an_output_folder_below_a_file_is_one_line(wee: str, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="cannot be written: Not a directory") as caught:
        spawn(make_job(wee, tmp_path / "file" / "stage"))
    assert type(caught.value).__name__ == "UserError"


@pytest.mark.mitsuba
def test_a_killed_child_is_told_by_its_signal(wee: str, tmp_path: Path, rendering: Callable[[Path], int]):
    killer = threading.Thread(target=lambda: os.kill(rendering(tmp_path), signal.SIGKILL))
    killer.start()
    ended = spawn(make_job(wee, tmp_path))
    killer.join()
    assert (ended.done, ended.returncode) == (False, -signal.SIGKILL)
    assert ended.reason.startswith("killed by SIGKILL")
    assert read_staged(tmp_path) == {}


@pytest.mark.mitsuba
def test_a_child_dies_with_its_parent(
    wee: str,
    tmp_path: Path,
    rendering: Callable[[Path], int],
    render_children: Callable[[Path], list[int]],
):
    job = tmp_path / "job.json"
    job.write_text(make_job(wee, tmp_path / "stage", quality__aif_samples="65536").model_dump_json())
    code = (
        "import sys; from pathlib import Path; from focuspull.render.worker import Job, spawn; "
        "spawn(Job.model_validate_json(Path(sys.argv[1]).read_text()))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(job)]) as parent:
        rendering(tmp_path)
        parent.kill()
    deadline = time.monotonic() + 5  # far less than the clip takes
    while render_children(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert render_children(tmp_path) == []


def test_a_child_whose_parent_is_gone_does_nothing(wee: str, tmp_path: Path):
    job = make_job(wee, tmp_path)
    job.job_path.write_text(job.model_dump_json())
    nobody = str(2**22 + 1)  # above the largest process id of Linux
    command = [sys.executable, "-m", "focuspull.render.worker", str(job.job_path), nobody]
    assert subprocess.run(command, check=False, timeout=60).returncode == EXIT_BUG
    assert read_staged(tmp_path) == {}
