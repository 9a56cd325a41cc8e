"""The ``focuspull-render`` command: specs to corpora, and looks at what a spec means.

Exit status: 0 done, 1 a renderer failed, 2 the user's mistake (one line on standard error), 130 and 143
stopped by Ctrl-C and SIGTERM. Everything heavy is imported inside the verbs, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from focuspull.dataset.commands import above_zero, examples, natural, not_negative, overrides, positive
from focuspull.dataset.errors import UserError
from focuspull.render.assets_cli import add_verb as add_assets_verb

if TYPE_CHECKING:
    from focuspull.dataset.clip import SamplingMeta
    from focuspull.render.corpus import LoadedCorpus
    from focuspull.render.farm import Progress
    from focuspull.render.worker import Job

QUIET_S = 30.0
"""Seconds between status lines where standard error is no terminal."""
TIMEOUT_MIN = 60.0
"""Far longer than a frame should take on a busy machine; a renderer that hangs costs one worker that long."""


class _RendererError(Exception):
    """The child did not do its job, and not because of the user."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        The exit status (module docstring).
    """
    parser = _parser()
    arguments, extra = parser.parse_known_args(argv)
    # In two steps, since fields of the spec are options that only the spec's schema knows.
    arguments.overrides = overrides(extra, parser, takes_fields="spec" in arguments)
    try:
        return arguments.run(arguments)
    except UserError as error:
        print(f"focuspull-render: {error}", file=sys.stderr)
        return 2
    except _RendererError as error:
        print(f"focuspull-render: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("focuspull-render: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="focuspull-render",
        description="Render paired all-in-focus and bokeh videos with disparity into shards.",
        epilog=examples(
            "focuspull-render", "run tiny --out corpora/tiny", "still demo --clip 0 --frame 0 --out stills"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(
        name: str,
        run: Callable[[argparse.Namespace], int],
        text: str,
        *commands: str,
        takes_spec: bool = True,
    ) -> argparse.ArgumentParser:
        verb = verbs.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=examples("focuspull-render", *commands),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            usage=f"focuspull-render {name} SPEC [options] [--FIELD VALUE ...]" if takes_spec else None,
            # An abbreviation could be a field of the spec.
            allow_abbrev=False,
        )
        if takes_spec:
            verb.add_argument("spec", metavar="SPEC", help="name of a shipped spec, or path of a YAML file")
            verb.add_argument_group(
                "fields of the spec",
                "--FIELD VALUE, dotted, in YAML: --seed 3 --backend cycles --film.width 256",
            )
        verb.set_defaults(run=run)
        return verb

    run = add(
        "run",
        _run,
        "render a corpus, or what is left of it: a stopped run continues when run again",
        "run tiny --out corpora/tiny",
        "run demo --out corpora/wide --film.width 512 --film.height 216 --workers 4",
    )
    run.add_argument(
        "--out", metavar="DIR", type=_place, required=True, help="folder of the corpus, or s3://..., gs://..."
    )
    _add_farm_options(run)

    retry = add(
        "retry",
        _retry,
        "render quarantined clips again; those that get done leave the quarantine",
        "retry corpora/tiny",
        "retry corpora/tiny --clip 17 --clip 23 --workers 1",
        takes_spec=False,
    )
    retry.add_argument("folder", metavar="DIR", type=_place, help="folder of the corpus")
    retry.add_argument(
        "--clip",
        metavar="N",
        type=natural,
        action="append",
        help="number of a clip, repeatable (default: all)",
    )
    _add_farm_options(retry)

    status = add(
        "status",
        _status,
        "say where a corpus stands, also while it is rendered and from another machine",
        "status corpora/tiny",
        "status corpora/tiny | head -n 3",
        takes_spec=False,
    )
    status.add_argument("folder", metavar="DIR", type=_place, help="folder of the corpus")

    plan = add(
        "plan",
        _plan,
        "say what a run would do and cost, from one frame that is really rendered",
        "plan demo",
        "plan demo --out corpora/demo --splits '{train: 1000, val: 50}'",
    )
    plan.add_argument("--out", metavar="DIR", type=_place, help="folder of the corpus, to count what is left")
    plan.add_argument("--threads", metavar="N", type=positive, default=1, help="as for run (default: 1)")

    still = add(
        "still",
        _still,
        "render one frame of one clip to PNG files, every stream, exactly as in the corpus",
        "still demo --clip 0 --frame 0 --out stills",
        "still demo --clip 1 --frame 15 --out stills --backend cycles",
    )
    still.add_argument("--clip", metavar="N", type=natural, default=0, help="number of the clip (default: 0)")
    still.add_argument("--frame", metavar="N", type=natural, default=0, help="frame number (default: 0)")
    still.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the PNG files")
    still.add_argument("--threads", metavar="N", type=positive, default=1, help="CPU threads (default: 1)")

    debug = add(
        "debug",
        _debug,
        "write the renderer's own scene file of one clip, to look inside",
        "debug demo --clip 0 --out debug",
        "debug demo --clip 1 --frame 8 --out debug --backend cycles",
    )
    debug.add_argument("--clip", metavar="N", type=natural, default=0, help="number of the clip (default: 0)")
    debug.add_argument("--frame", metavar="N", type=natural, default=0, help="frame number (default: 0)")
    debug.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the files")

    manifest = add(
        "manifest",
        _manifest,
        "write what the clips of a spec must be: scenes, and with a corpus its contents",
        "manifest test200 --out test200.json",
        "manifest test200-mini --corpus corpora/mini --out test200-mini.json",
    )
    manifest.add_argument(
        "--corpus", metavar="DIR", type=Path, help="corpus of the spec, made on this machine"
    )
    manifest.add_argument("--out", metavar="FILE", type=Path, required=True, help="JSON file")

    add(
        "held-out",
        _held_out,
        "say what a spec to train with shares with the shipped test sets; exits with 1 if it shares anything",
        "held-out train-tiny",
        "held-out mine.yaml",
    )

    add_assets_verb(verbs)

    info = "print versions, renderers, GPUs, cores and free disk"
    add("info", _info, info, "info", "info > info.txt", takes_spec=False)
    add("list", _list, "list the shipped specs", "list", "list | cut -f 1", takes_spec=False)
    return parser


def _place(text: str) -> str:
    """Where a corpus lies: an address such as s3://..., or a local path, which becomes absolute."""
    return text.rstrip("/") if "://" in text else str(Path(text).absolute())


def _add_farm_options(verb: argparse.ArgumentParser) -> None:
    """The options of the verbs that render many clips."""
    verb.add_argument(
        "--workers",
        metavar="N",
        type=positive,
        help="clips rendered at a time (default: CPU cores / threads)",
    )
    verb.add_argument(
        "--threads", metavar="N", type=positive, default=1, help="CPU threads per clip (default: 1)"
    )
    verb.add_argument(
        "--address",
        metavar="A",
        help="of a Ray cluster: auto, host:port or ray://host:port (default: local, Ray on this machine)",
    )
    verb.add_argument(
        "--gpus",
        metavar="N",
        type=not_negative,
        default=0.0,
        help="GPUs per clip, such as 0.5 (default: 0)",
    )
    verb.add_argument(
        "--memory-gib",
        metavar="N",
        type=above_zero,
        help="memory per clip, GiB; more stops it (default: any)",
    )
    verb.add_argument(
        "--timeout-min",
        metavar="N",
        type=above_zero,
        default=TIMEOUT_MIN,
        help=f"minutes without a frame after which a clip is stopped (default: {TIMEOUT_MIN:g})",
    )
    verb.add_argument(
        "--any-versions",
        action="store_true",
        help="go on with a corpus that other versions have begun, and record both",
    )


# --- run ----------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    from focuspull.render.corpus import load_corpus

    return _render(arguments, load_corpus(arguments.spec, arguments.overrides), arguments.out, None)


def _retry(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.storage import Folder
    from focuspull.render.failures import QUARANTINE_NAME
    from focuspull.render.ledger import load_begun

    folder = Folder(arguments.folder)
    loaded = load_begun(folder)
    if folder.find(QUARANTINE_NAME) is None and not arguments.clip:
        print(f"{folder.address}: no clip is quarantined")
        return 0
    return _render(arguments, loaded, folder.address, arguments.clip or ())


def _render(
    arguments: argparse.Namespace, loaded: LoadedCorpus, out: str, retry: Sequence[int] | None
) -> int:
    """Render what is left of a corpus, or only quarantined clips, and say how it went."""
    from focuspull.render.failures import QUARANTINE_NAME
    from focuspull.render.farm import Need, StoppedError, run_corpus

    status = _Status()
    try:
        report = run_corpus(
            loaded,
            out,
            workers=arguments.workers,
            need=Need(arguments.threads, arguments.memory_gib, arguments.timeout_min, arguments.gpus),
            address=arguments.address,
            any_versions=arguments.any_versions,
            retry=retry,
            progress=status.show,
        )
    except StoppedError as error:
        status.close()
        print(f"focuspull-render: {error}; the same command continues the run", file=sys.stderr)
        return 128 + error.signum
    except UserError:
        status.close()
        raise
    status.close()
    for clip in report.failed:
        log = f" (log: {clip.log})" if clip.log is not None else ""
        print(f"{clip.key}: {clip.reason}{log}", file=sys.stderr)
    if report.num_quarantined:
        again = f"Render them again with: focuspull-render retry {out}"
        print(f"{out}/{QUARANTINE_NAME}: {report.num_quarantined} clips. {again}", file=sys.stderr)
    print(
        f"{out}: {report.num_clips} of {loaded.spec.num_clips} clips in "
        f"{report.num_shards} shards, {report.num_rendered} rendered by this run, {len(report.failed)} failed"
    )
    return 1 if report.failed or report.num_quarantined else 0


class _Status:
    """One line on standard error, written over and over; where that is no terminal, a line now and then."""

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()
        self.last_text = ""
        self.last_time = -QUIET_S

    def show(self, progress: Progress) -> None:
        """Show where the run stands."""
        if progress.note:
            end = "\x1b[K\n" if self.is_terminal else "\n"
            print(f"{progress.note}", end=end, file=sys.stderr, flush=True)
        text = status_text(progress)
        if self.is_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"{text[:width]}\x1b[K\r", end="", file=sys.stderr, flush=True)
        elif text != self.last_text and (not progress.left or time.monotonic() - self.last_time >= QUIET_S):
            print(text, file=sys.stderr, flush=True)
            self.last_time = time.monotonic()
        self.last_text = text

    def close(self) -> None:
        """Leave the last status line standing."""
        if self.is_terminal and self.last_text:
            print(file=sys.stderr, flush=True)


def status_text(progress: Progress) -> str:
    """The status line, for example ``12/100 done, 0 failed, 88 left, 31.2 s/clip, 46 min left``."""
    total = progress.done + progress.failed + progress.left
    text = f"{progress.done}/{total} done, {progress.failed} failed, {progress.left} left"
    if progress.clip_s is None:
        return text
    return f"{text}, {progress.clip_s:.1f} s/clip, {_duration(progress.left * progress.clip_s)} left"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


# --- status -------------------------------------------------------------------------------------

MAX_SHOWN = 20
"""Clips being rendered that are listed one by one."""


def _status(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.storage import Folder
    from focuspull.render.failures import QUARANTINE_NAME
    from focuspull.render.heartbeat import STALE_BEATS
    from focuspull.render.status import read_status

    folder = arguments.folder
    status = read_status(Folder(folder), time.time())
    run, now_s = status.run, status.now_s
    if run is None:
        print("run          none is at work")
    else:
        where = f"on {run.host}, process {run.pid}"
        if status.is_live:
            state = f"at work {where}, for {_duration(now_s - run.started_s)}, {run.workers} worker(s)"
        elif run.ended:
            state = f"none is at work; the last one, {where}, ended {_duration(now_s - run.beat_s)} ago"
        else:
            state = f"lost: no sign of life {where} for {_duration(now_s - run.beat_s)}"
        print(f"run          {state}")
    print(
        f"done         {status.done} of {status.num_clips} clips: {status.committed_clips} in "
        f"{status.committed_shards} of {status.num_shards} shards, {status.staged} staged"
    )
    print(f"running      {len(status.running)}")
    for beat in status.running[:MAX_SHOWN]:
        print(
            f"  {beat.key}  {beat.frames} of {beat.num_frames} frames in "
            f"{_duration(now_s - beat.started_s)}, {beat.memory_bytes / 2**30:.1f} GiB, "
            f"attempt {beat.attempt} on {beat.host}"
        )
    if len(status.running) > MAX_SHOWN:
        print(f"  and {len(status.running) - MAX_SHOWN} more")
    print(f"failed       {status.failed} to be tried again, {len(status.lost)} without a sign of life")
    for beat in status.lost[:MAX_SHOWN]:
        age = _duration(now_s - beat.beat_s)
        limit_s = STALE_BEATS * beat.every_s
        print(f"  {beat.key}  no sign of life for {age} (limit {limit_s:.0f} s), {beat.host}")
    again = f"; see {folder}/{QUARANTINE_NAME}, then: focuspull-render retry {folder}"
    print(f"quarantined  {status.quarantined}{again if status.quarantined else ''}")
    speed = ""
    if status.clip_s is not None and status.left:
        speed = f", {status.clip_s:.1f} s/clip, {_duration(status.left * status.clip_s)} left"
    print(f"left         {status.left}{speed}")
    return 0


# --- plan, still, debug -------------------------------------------------------------------------


def _plan(arguments: argparse.Namespace) -> int:
    import tempfile

    from focuspull.dataset.storage import Folder
    from focuspull.render.backends import get_backend
    from focuspull.render.cluster import num_cores
    from focuspull.render.corpus import load_corpus
    from focuspull.render.ledger import free_bytes, read_ledger, size_text
    from focuspull.render.worker import Timing

    loaded = load_corpus(arguments.spec, arguments.overrides)
    spec, film = loaded.spec, loaded.spec.film
    version = get_backend(spec.backend).version()
    left: Sequence[int] = range(spec.num_clips)
    num_committed = 0
    if arguments.out is not None:
        ledger = read_ledger(spec, Folder(arguments.out))
        left, num_committed = ledger.left, len(ledger.committed)
    splits = ", ".join(f"{split} {count}" for split, count in spec.splits.items())
    shards = spec.shards()
    print(f"corpus    {spec.name}: {spec.num_clips} clips ({splits}) in {len(shards)} shards")
    print(
        f"clip      {film.num_frames} frames of {film.width}x{film.height} px at {film.fps:g} fps, "
        f"all in focus and {len(spec.targets)} bokeh"
    )
    print(f"renderer  {spec.backend} {version}")
    print(f"left      {len(left)} clips; {num_committed} shards are complete")
    if not left:
        return 0
    with tempfile.TemporaryDirectory(prefix="focuspull-plan-") as name:
        job = _job(loaded, left[0], 0, Path(name), arguments.threads, "still")
        _do(job)
        timing = Timing.model_validate_json(job.timing_path.read_bytes())
        frame_bytes = sum(path.stat().st_size for path in job.folder.glob("*.png"))
    # Ground truth is in the still for all frames already, as it is in a clip.
    others = film.num_frames - 1
    clip_cpu_s = timing.cpu_s + others * timing.frames_cpu_s
    clip_wall_s = timing.wall_s + others * timing.frames_wall_s
    print(
        f"timed     {job.key}, frame 0: {timing.frames_wall_s:.1f} s, {timing.frames_cpu_s:.1f} CPU-s with "
        f"{arguments.threads} thread(s), {timing.variant}; the rest of a clip takes "
        f"{timing.wall_s - timing.frames_wall_s:.1f} s"
    )
    print(f"sampling  {_sampling_text(timing.sampling)}")
    num_parallel = max(1, min(num_cores() // arguments.threads, len(left)))
    wall_s = clip_wall_s * -(-len(left) // num_parallel)
    print(
        f"time      {len(left) * clip_cpu_s / 3600:.2f} CPU-hours for {len(left)} clips; about "
        f"{_duration(wall_s)} with {num_parallel} worker(s)"
    )
    num_bytes = len(left) * frame_bytes * film.num_frames
    out = Folder(arguments.out or Path().absolute())
    free = f"; {size_text(free_bytes(out.local))} are free" if out.is_local else ""
    print(f"disk      {size_text(num_bytes)}{free}")
    return 0


def _still(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.clip import frame_member, stream_names
    from focuspull.render.corpus import load_corpus
    from focuspull.render.worker import Timing

    loaded = load_corpus(arguments.spec, arguments.overrides)
    folder = arguments.out.absolute()
    job = _job(loaded, arguments.clip, arguments.frame, folder, arguments.threads, "still")
    _do(job)
    timing = Timing.model_validate_json(job.timing_path.read_bytes())
    job.timing_path.unlink()
    for stream in stream_names(len(job.scene.targets)):
        member = frame_member(stream, arguments.frame, job.scene.film.num_frames)
        print(arguments.out / f"{job.key}.{member}")
    print(_sampling_text(timing.sampling), file=sys.stderr)
    return 0


def _sampling_text(sampling: SamplingMeta) -> str:
    floors = ["not measured" if db is None else f"{db:.1f} dB" for db in sampling.noise_floor_db]
    samples = [f"{count:.0f}" for count in sampling.samples]
    return (
        f"targets {sampling.method}; paths per pixel, AIF and targets: {' '.join(samples)}; "
        f"noise floor: {' '.join(floors) if len(set(floors)) > 1 else floors[0]}"
    )


def _debug(arguments: argparse.Namespace) -> int:
    from focuspull.render.corpus import load_corpus

    loaded = load_corpus(arguments.spec, arguments.overrides)
    folder = arguments.out.absolute()
    _do(_job(loaded, arguments.clip, arguments.frame, folder, 1, "debug"))
    for name in ("scene.json", "scene.blend", "scene.xml"):
        if (folder / name).exists():
            print(arguments.out / name)
    return 0


def _job(loaded: LoadedCorpus, clip: int, frame: int, folder: Path, threads: int, mode: str) -> Job:
    """A job for one frame of one clip.

    Raises:
        UserError: If the corpus has no such clip, or the clip no such frame.
    """
    from focuspull.render.ledger import clip_key
    from focuspull.render.randomize import randomize
    from focuspull.render.worker import Job

    spec = loaded.spec
    if clip >= spec.num_clips:
        raise UserError(f"--clip {clip}: {spec.name} has {spec.num_clips} clips, 0 to {spec.num_clips - 1}.")
    if frame >= spec.film.num_frames:
        last = spec.film.num_frames - 1
        raise UserError(f"--frame {frame}: a clip has {spec.film.num_frames} frames, 0 to {last}.")
    return Job.model_validate(
        {
            "mode": mode,
            "key": clip_key(clip),
            "split": spec.split_of(clip),
            "scene": randomize(spec, clip),
            "files": loaded.files,
            "backend": spec.backend,
            "threads": threads,
            "folder": folder,
            "frames": (frame,),
        }
    )


def _do(job: Job) -> None:
    """Run a job in a child process.

    Raises:
        UserError: If it fails by the user's mistake.
        _RendererError: If it fails otherwise; names its log.
    """
    from focuspull.render.backends import get_backend
    from focuspull.render.worker import EXIT_OUTPUT, EXIT_USER, spawn

    get_backend(job.backend).version()
    ended = spawn(job)
    if ended.done:
        return
    if ended.returncode in (EXIT_USER, EXIT_OUTPUT):
        job.log_path.unlink(missing_ok=True)
        job.job_path.unlink(missing_ok=True)
        raise UserError(ended.reason)
    raise _RendererError(f"{job.key}: {ended.reason} (log: {job.log_path})")


# --- info, list ---------------------------------------------------------------------------------


def _info(arguments: argparse.Namespace) -> int:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    def says(code: str) -> str:
        """The last line that a few lines of Python print; they may crash."""
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines = done.stdout.strip().splitlines()
        return lines[-1] if lines else f"ends with status {done.returncode}"

    print(f"python                  {platform.python_version()} ({sys.executable})")
    print(f"system                  {platform.platform()}, glibc {platform.libc_ver()[1]}")
    print(f"focuspull               {installed('focuspull')}")
    bpy = installed("bpy")
    if bpy != "not installed":
        code = "import os; from focuspull.render.backends.cycles import import_bpy; import_bpy()"
        bpy += ", " + says(code + "; print('can be imported', flush=True); os._exit(0)")
    print(f"bpy                     {bpy}")
    mitsuba = installed("mitsuba")
    if mitsuba != "not installed":
        from focuspull.render.backends.mitsuba import choose_variant, find_llvm

        mitsuba += f", variant {choose_variant()}, LLVM {find_llvm() or 'of the system'}"
    print(f"mitsuba                 {mitsuba}")
    for package in ("drjit", "mitsuba-oidn", "ray", "numpy", "opencv-python-headless"):
        print(f"{package:<24}{installed(package)}")
    print(f"gpu                     {_gpus()}")
    print(f"cores                   {len(os.sched_getaffinity(0))} of {os.cpu_count()}")
    disk, folder = shutil.disk_usage(Path()), Path().absolute()
    print(f"disk                    {disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB free in {folder}")
    return 0


def _gpus() -> str:
    if shutil.which("nvidia-smi") is None:
        return "none found (no nvidia-smi)"
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return "; ".join(done.stdout.strip().splitlines()) or f"nvidia-smi ends with status {done.returncode}"


def _manifest(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.manifest import Manifest, ManifestClip, rendered_manifest, write_manifest
    from focuspull.render.corpus import load_corpus
    from focuspull.render.ledger import clip_key, spec_sha256
    from focuspull.render.randomize import randomize

    spec = load_corpus(arguments.spec, arguments.overrides).spec
    clips = [
        ManifestClip(key=clip_key(index), scene_sha256=randomize(spec, index).sha256())
        for index in range(spec.num_clips)
    ]
    manifest = Manifest(name=spec.name, spec_sha256=spec_sha256(spec), clips=tuple(clips))
    if arguments.corpus is not None:
        manifest = rendered_manifest(manifest, arguments.corpus)
    write_manifest(arguments.out, manifest)
    print(arguments.out)
    return 0


def _held_out(arguments: argparse.Namespace) -> int:
    from focuspull.render.corpus import load_corpus
    from focuspull.render.held_out import held_out_problems, shipped_test_sets

    loaded = load_corpus(arguments.spec, arguments.overrides)
    problems = held_out_problems(loaded, shipped_test_sets())
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{loaded.spec.name}: shares nothing with the test sets")
    return 1 if problems else 0


def _list(arguments: argparse.Namespace) -> int:
    from focuspull.render.corpus import shipped_specs

    for name, description in shipped_specs().items():
        print(f"{name}\t{description}")
    return 0
