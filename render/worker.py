"""One clip, rendered in a process of its own: ``python -m focuspull.render.worker JOB``.

Renderers are not trusted with the farm's processes: bpy crashes when Python tears it down, a wrong LLVM
aborts. So `spawn` starts a child per job, and a clip counts as done once its staging marker is there,
whatever the child's exit status. What the child writes depends on the job alone: no time, host or thread
count gets into a clip.

Exit status of the child: 0 done, 1 the renderer's or our mistake (a traceback), 2 the user's (one line),
3 the output cannot be written (one line), 4 Python is out of memory (a traceback), 5 this machine has
another version of the renderer than the run (one line). It ends by ``os._exit``, since bpy segfaults in a
normal exit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from focuspull.dataset import codec, color, optics
from focuspull.dataset.clip import (
    CameraMeta,
    ClipMeta,
    DisparityMeta,
    RendererMeta,
    SamplingMeta,
    TargetMeta,
    canonical_json,
    encode_clip,
    frame_member,
    stream_names,
)
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import TEMPORARY_PREFIX, write_atomic
from focuspull.dataset.shards import stage_clip
from focuspull.dataset.storage import Folder
from focuspull.dataset.tracks import TrackMeta, object_tracks
from focuspull.render.backends import get_backend
from focuspull.render.build import SKY_ID, Built, build
from focuspull.render.child import FRAME_DONE, STILL_ALIVE, Watched, run_child
from focuspull.render.difficulty import clip_difficulty
from focuspull.render.failures import FailureClass
from focuspull.render.frames import Frames, Image, Method, Session, View, render_frames
from focuspull.render.heartbeat import ClipBeat, beat_s, clip_beat, read_beat, write_beat
from focuspull.render.spec import Model, SceneSpec

EXIT_BUG, EXIT_USER, EXIT_OUTPUT, EXIT_MEMORY, EXIT_VERSION = 1, 2, 3, 4, 5
STORAGE_TRIES = 10
"""Attempts at a file in an object store, over two minutes: an outage should not cost a rendered clip."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class Job(Model):
    """What one child has to do.

    Args:
        mode: ``clip``: render all frames and stage them; ``still``: write ``frames`` as PNG; ``debug``:
            write the renderer's own scene file.
        key: Name of the clip.
        split: Its split.
        scene: What to render.
        files: Where the scene's files lie, by SHA-256.
        backend: Name of the renderer.
        backend_version: Of the renderer, as the run has it; empty: whatever is here.
        variant: Of the renderer, as the run chose it once; empty: whatever works here.
        threads: CPU threads it may use.
        folder: Absolute. Where the job itself, its log and the output of a ``still`` or ``debug`` go.
        stage: Address of the staging folder of a clip; empty: ``folder``.
        frames: Frame numbers, for ``still`` and (the first one) ``debug``.
        attempt: Which try at this clip in its run, from 1.
        memory_gib: Limit of resident memory of the child and its descendants; None: none.
        timeout_min: Limit of minutes without progress, such as a frame; None: none.
    """

    mode: Literal["clip", "still", "debug"]
    key: str
    split: str
    scene: SceneSpec
    files: dict[str, Path]
    backend: str
    backend_version: str = ""
    variant: str = ""
    threads: int = Field(ge=1)
    folder: Path
    stage: str = ""
    frames: tuple[int, ...] = ()
    attempt: int = Field(default=1, ge=1)
    memory_gib: float | None = Field(default=None, gt=0)
    timeout_min: float | None = Field(default=None, gt=0)

    @property
    def job_path(self) -> Path:
        """The job on disk; it and the log stay behind when the job fails."""
        return self.folder / f"{self.key}.job"

    @property
    def log_path(self) -> Path:
        """All that the child prints."""
        return self.folder / f"{self.key}.log"

    @property
    def timing_path(self) -> Path:
        """The `Timing` of a ``still``."""
        return self.folder / f"{self.key}.timing.json"

    def staging(self) -> Folder:
        """The staging folder."""
        return Folder(self.stage or self.folder, tries=STORAGE_TRIES)

    def is_done(self, returncode: int) -> bool:
        """Whether a child that ended with this status has done the job: clips are judged by their marker."""
        if self.mode == "clip":
            return self.staging().find(f"{self.key}.json") is not None
        return returncode == 0


class Timing(Model):
    """What a ``still`` took, and got.

    Seconds of wall clock and CPU, of the whole job and of the light of its frames; `SamplingMeta`.
    """

    wall_s: float
    cpu_s: float
    frames_wall_s: float
    frames_cpu_s: float
    variant: str
    sampling: SamplingMeta


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        done: Whether its output is there.
        returncode: Exit status of the child; negative: the signal that killed it.
        reason: One line, the last that it printed; names the signal if it printed nothing.
        failure: How it failed; None if it is done, or if its output cannot be written, which is not the
            job's fault.
    """

    done: bool
    returncode: int
    reason: str
    failure: FailureClass | None = None


def spawn(job: Job) -> Ended:
    """Run a job in a child process and wait for it.

    The child is killed with this process, when it passes one of the job's limits, and when this function is
    left by an exception. Its log is written as it comes, and removed again (like the job's file) if the job
    gets done. While it renders a clip there is a heartbeat.

    Raises:
        UserError: If the job's folder cannot be written to.
    """
    write_atomic(job.job_path, job.model_dump_json().encode())
    write_atomic(job.log_path, b"")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(job.threads),
        # Open Image Denoise would pin the first threads of every process to the same cores.
        "OIDN_SET_AFFINITY": "0",
    }
    # -P: a file ``random.py`` in the user's folder must not become the module.
    command = [sys.executable, "-P", "-m", "focuspull.render.worker", str(job.job_path), str(os.getpid())]
    heart = _Heart(job)
    try:
        outcome = run_child(
            lambda progress: [*command, str(progress)],
            environment=environment,
            log=job.log_path,
            memory_bytes=None if job.memory_gib is None else job.memory_gib * 2**30,
            timeout_s=None if job.timeout_min is None else job.timeout_min * 60,
            look=heart.beat,
        )
    finally:
        heart.stop()
    returncode, reason = outcome.returncode, outcome.last_line
    if job.is_done(returncode):
        job.job_path.unlink(missing_ok=True)
        job.log_path.unlink(missing_ok=True)
        return Ended(True, returncode, reason)
    after = f" after printing '{reason}'" if reason else ""
    if outcome.exceeded == "memory":
        used = f"{outcome.peak_memory_bytes / 2**30:.2f} GiB"
        reason = f"took {used} of memory, {job.memory_gib:g} are allowed (--memory-gib)"
        return Ended(False, returncode, reason, "memory")
    if outcome.exceeded == "timeout":
        reason = f"made no progress for {job.timeout_min:g} min (--timeout-min){after}"
        return Ended(False, returncode, reason, "timeout")
    if returncode < 0:
        reason = f"killed by {signal.Signals(-returncode).name}{after}"
    elif returncode == 0:
        reason = f"ended without its output{f': {reason}' if reason else ''}"
    return Ended(False, returncode, reason or f"exit status {returncode}", _failure(returncode))


class _Heart:
    """The heartbeat of a clip; of other jobs, nothing."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stage = job.staging()
        self._every_s = beat_s(self._stage)
        self._started_s = time.time()
        self._last: ClipBeat | None = None
        self._writer: Thread | None = None

    def beat(self, watched: Watched) -> None:
        """Write the heartbeat if it is time, or the clip has got further."""
        last, now = self._last, time.time()
        is_new = self._stage.is_local and (last is None or last.frames != watched.frames)
        is_due = last is None or not 0 <= now - last.beat_s < self._every_s
        is_busy = self._writer is not None and self._writer.is_alive()
        if self._job.mode != "clip" or not (is_new or is_due) or is_busy:
            return
        self._last = ClipBeat(
            key=self._job.key,
            attempt=self._job.attempt,
            host=socket.gethostname(),
            pid=watched.pid,
            started_s=self._started_s,
            beat_s=now,
            frames=watched.frames,
            num_frames=self._job.scene.film.num_frames,
            memory_bytes=watched.memory_bytes,
            every_s=self._every_s,
        )
        name = clip_beat(self._job.key)
        if self._stage.is_local:
            write_beat(self._stage, name, self._last)
        else:
            # A store that answers late must not keep the child's limits from being looked at.
            self._writer = Thread(target=write_beat, args=(self._stage, name, self._last), daemon=True)
            self._writer.start()

    def stop(self) -> None:
        """Remove the heartbeat, if it is not that of another attempt by now."""
        if self._writer is not None:
            self._writer.join()
        name = clip_beat(self._job.key)
        if self._last is not None and self._last.same_attempt(read_beat(self._stage, name, ClipBeat)):
            with contextlib.suppress(UserError):
                self._stage.remove([name])


def _failure(returncode: int) -> FailureClass | None:
    if returncode < 0:
        # Nothing of ours sends SIGTERM to a child; what shuts a machine down does.
        return "machine" if returncode == -signal.SIGTERM else "crash"
    known: dict[int, FailureClass | None] = {
        EXIT_USER: "scene",
        EXIT_OUTPUT: None,
        EXIT_MEMORY: "memory",
        EXIT_VERSION: "machine",
    }
    return known.get(returncode, "error")


def main(arguments: Sequence[str]) -> NoReturn:
    """Do a job as a process of its own, and end it.

    Args:
        arguments: Path of the job; if there is a parent: its process id, to die with it, and the file
            descriptor that progress is written to.
    """
    # Ctrl-C reaches the whole process group; what becomes of this process is its parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if len(arguments) > 1:
        _die_with(int(arguments[1]))
    progress = int(arguments[2]) if len(arguments) > 2 else None
    status = 0
    try:
        run(Job.model_validate_json(Path(arguments[0]).read_bytes()), progress)
    except _VersionError as error:
        status = _last_words(str(error), EXIT_VERSION)
    except _OutputError as error:
        status = _last_words(str(error), EXIT_OUTPUT)
    except UserError as error:
        status = _last_words(str(error), EXIT_USER)
    except MemoryError:
        status = _last_words(traceback.format_exc().rstrip(), EXIT_MEMORY)
    except Exception:
        status = _last_words(traceback.format_exc().rstrip(), EXIT_BUG)
    _flush()
    os._exit(status)


def run(job: Job, progress: int | None = None) -> None:
    """Do a job in this process.

    Args:
        job: What to do.
        progress: File descriptor to write a byte to for every step of a clip.

    Raises:
        UserError: For the user's mistakes.
        FloatingPointError: If the renderer's images are broken.
    """
    started = time.monotonic()
    backend = get_backend(job.backend)
    version = backend.version()
    if job.backend_version not in ("", version):
        raise _VersionError(
            f"{socket.gethostname()} has {backend.package} {version}, the run has {job.backend_version}. "
            "Install that one there."
        )
    backend.load().force_variant(job.variant)
    built = build(job.scene, job.files)
    if job.mode == "debug":
        with _output(job.folder):
            _export(job, built)
        return
    session = backend.load().open_session(built, threads=job.threads)
    if job.mode == "still":
        _write_stills(job, built, session, started)
        return
    frames = render_frames(_ReportingSession(session, progress), built)
    meta = clip_meta(
        built,
        frames,
        key=job.key,
        split=job.split,
        renderer=RendererMeta(
            backend=job.backend,
            backend_version=version,
            variant=frames.variant,
            focuspull_version=metadata.version("focuspull"),
        ),
    )
    clip = encode_clip(
        meta, aif=frames.aif, bokeh=frames.bokeh, disparity=frames.disparity, instance=frames.instance
    )
    record = {
        "render_seconds": time.monotonic() - started,
        "render_cpu_seconds": _cpu_s(),
        "peak_memory_bytes": _peak_memory_bytes(),
        "attempts": job.attempt,
    }
    with _output(job.folder):
        stage_clip(clip, job.staging(), record=record)


def _export(job: Job, built: Built) -> None:
    """Write the renderer's own scene files; none appears under its name before all are written."""
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=job.folder) as temporary:
        folder = Path(temporary)
        get_backend(job.backend).load().export_scene(built, job.frames[0], folder)
        (folder / "scene.json").write_text(job.scene.model_dump_json(indent=2) + "\n")
        for path in sorted(folder.iterdir()):
            path.replace(job.folder / path.name)


def clip_meta(built: Built, frames: Frames, *, key: str, split: str, renderer: RendererMeta) -> ClipMeta:
    """The metadata of a whole rendered clip.

    Args:
        built: The scene.
        frames: What was rendered of it, all frames.
        key: Name of the clip.
        split: Its split.
        renderer: What rendered it.
    """
    scene, depth = built.scene, frames.disparity_map
    film, camera = scene.film, scene.world.camera
    k_at_1024 = optics.k_at_1024(frames.k, film.width)
    focus_distance_m = optics.focus_distance_m(frames.focus_disparity, depth)
    lens_radius_m = optics.lens_radius_from_k(frames.k, frames.focal_px, depth)
    f_number = optics.f_number(camera.focal_length_mm, lens_radius_m)
    return ClipMeta(
        key=key,
        split=split,
        scene=scene.model_dump(mode="json"),
        scene_sha256=scene.sha256(),
        width=film.width,
        height=film.height,
        num_frames=film.num_frames,
        fps=film.fps,
        exposure_ev=film.exposure_ev,
        targets=tuple(
            TargetMeta(
                name=f"bokeh{p}",
                k=tuple(frames.k[p].tolist()),
                k_at_1024=tuple(k_at_1024[p].tolist()),
                focus_disparity=tuple(frames.focus_disparity[p].tolist()),
                focus_distance_m=_finite_or_none(focus_distance_m[p]),
                lens_radius_m=tuple(lens_radius_m[p].tolist()),
                f_number=_finite_or_none(f_number[p]),
                lens=target.lens.model_dump(mode="json"),
                lens_label=target.lens.label,
                domain=target.domain,
                twin_of=None if target.twin_of is None else f"bokeh{target.twin_of}",
            )
            for p, target in enumerate(scene.targets)
        ),
        disparity=DisparityMeta(
            scale=depth.scale,
            offset=depth.offset,
            z_near_m=depth.z_near_m,
            z_far_m=depth.z_far_m if np.isfinite(depth.z_far_m) else None,
        ),
        camera=CameraMeta(
            focal_length_px=frames.focal_px,
            focal_length_mm=camera.focal_length_mm,
            sensor_width_mm=camera.sensor_width_mm,
            camera_to_world=tuple(
                tuple(tuple(row) for row in pose)  # type: ignore[misc]
                for pose in frames.camera_to_world.tolist()
            ),
        ),
        instances={item.owner: item.instance for item in built.items if item.instance != SKY_ID},
        renderer=renderer,
        sampling=_sampling(frames),
        tracks=_tracks(scene, built, frames) if scene.annotate else None,
        difficulty=clip_difficulty(built, frames) if scene.annotate else None,
    )


def _tracks(scene: SceneSpec, built: Built, frames: Frames) -> dict[str, TrackMeta]:
    """Tracks of the subjects, and of what else a target's focus names."""
    wanted = {item.name for item in scene.world.objects if item.role == "subject"}
    wanted.update(name for t in scene.targets for key in t.focus for name in key.subjects + key.others)
    ids = {item.owner: item.instance for item in built.items if item.owner in wanted}
    return object_tracks(frames.instance, frames.disparity, ids)


def _sampling(frames: Frames) -> SamplingMeta:
    return SamplingMeta(method=frames.method, samples=frames.samples, noise_floor_db=frames.noise_floor_db)


def _finite_or_none(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(value if np.isfinite(value) else None for value in values.tolist())


@dataclass
class _ReportingSession:
    """A session that tells the parent process of every step; a lost parent is not its business."""

    session: Session
    progress: int | None
    variant: str = field(init=False)

    def __post_init__(self) -> None:
        self.variant = self.session.variant

    def truth(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        truth = self.session.truth(frame)
        self._report(STILL_ALIVE)
        return truth

    def plan(self, frames: Sequence[Sequence[View]]) -> Method:
        method = self.session.plan(frames)
        self._report(STILL_ALIVE)
        return method

    def render(self, frame: int, views: Sequence[View]) -> list[Image]:
        images = self.session.render(frame, views)
        self._report(FRAME_DONE)
        return images

    def _report(self, step: bytes) -> None:
        if self.progress is not None:
            with contextlib.suppress(OSError):
                os.write(self.progress, step)


@dataclass
class _TimedSession:
    """A session that adds up the time its light takes; ground truth is rendered of all frames in any case."""

    session: Session
    variant: str = field(init=False)
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __post_init__(self) -> None:
        self.variant = self.session.variant

    def truth(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        return self.session.truth(frame)

    def plan(self, frames: Sequence[Sequence[View]]) -> Method:
        return self.session.plan(frames)

    def render(self, frame: int, views: Sequence[View]) -> list[Image]:
        wall, cpu = time.monotonic(), _cpu_s()
        images = self.session.render(frame, views)
        self.wall_s += time.monotonic() - wall
        self.cpu_s += _cpu_s() - cpu
        return images


def _write_stills(job: Job, built: Built, session: Session, started: float) -> None:
    """Write every stream of some frames, with the bytes that the members of the clip have."""
    timed = _TimedSession(session)
    frames = render_frames(timed, built, job.frames)
    film = built.scene.film
    with _output(job.folder):
        for i, frame in enumerate(frames.numbers):
            colour = [
                codec.encode_rgb(color.to_uint8(color.encode_display(image, exposure_ev=film.exposure_ev)))
                for image in (frames.aif[i], *(bokeh[i] for bokeh in frames.bokeh))
            ]
            contents = [
                *colour,
                codec.encode_disparity(frames.disparity[i]),
                codec.encode_instance(frames.instance[i]),
            ]
            for stream, content in zip(stream_names(len(frames.bokeh)), contents, strict=True):
                write_atomic(
                    job.folder / f"{job.key}.{frame_member(stream, frame, film.num_frames)}", content
                )
        timing = Timing(
            wall_s=time.monotonic() - started,
            cpu_s=_cpu_s(),
            frames_wall_s=timed.wall_s,
            frames_cpu_s=timed.cpu_s,
            variant=frames.variant,
            sampling=_sampling(frames),
        )
        write_atomic(job.timing_path, canonical_json(timing.model_dump(mode="json")))


class _VersionError(UserError):
    """The renderer here would render other pixels than those of the other clips."""


class _OutputError(UserError):
    """The output cannot be written, so that going on with other clips makes no sense."""


@contextlib.contextmanager
def _output(folder: Path) -> Generator[None, None, None]:
    """Tell failures to write the output from other mistakes of the user."""
    try:
        yield
    except UserError as error:
        raise _OutputError(str(error)) from error
    except OSError as error:
        raise _OutputError(f"{folder}: cannot be written: {error.strerror}. Free some space.") from error


def _cpu_s() -> float:
    """CPU seconds of this process and its ended children so far."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_memory_bytes() -> int:
    """The most memory that this process, or the largest of its ended children, had resident so far."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(usage.ru_maxrss for usage in usages) * (1 if sys.platform == "darwin" else 1024)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; end at once if the parent is gone already.

    Orphans among its descendants become its children, so that it can be killed as a whole tree; and where a
    machine runs out of memory, the kernel takes it rather than the farm.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500")
    if os.getppid() != parent:
        os._exit(EXIT_BUG)


def _last_words(text: str, status: int) -> int:
    """Print why the job failed, after all that is still in buffers."""
    _flush()
    print(text, file=sys.stderr, flush=True)
    return status


def _flush() -> None:
    """Empty Python's and C's buffers, which ``os._exit`` would drop."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)


if __name__ == "__main__":
    main(sys.argv[1:])
