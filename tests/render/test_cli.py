"""The command line: what it prints, what it writes, and its exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from focuspull.dataset.storage import Folder
from focuspull.render import cli, farm
from focuspull.render.cli import main
from focuspull.render.corpus import LoadedCorpus, load_corpus
from focuspull.render.failures import Quarantined, write_quarantine
from focuspull.render.farm import FailedClip, Progress, RunReport, StoppedError
from focuspull.render.heartbeat import ClipBeat, RunBeat, write_beat
from focuspull.render.ledger import describe_corpus
from focuspull.render.randomize import randomize
from focuspull.render.worker import Job, spawn

VERBS = ("run", "retry", "status", "plan", "still", "debug", "info", "list")
HEAVY = {"numpy", "pydantic", "yaml", "cv2", "pyarrow", "bpy", "mitsuba", "drjit", "ray", "torch"}


def one_line(captured: pytest.CaptureFixture[str]) -> str:
    """The only line on standard error, with nothing on standard output."""
    output = captured.readouterr()
    assert output.out == ""
    assert output.err.startswith("focuspull-render: ") and output.err.count("\n") == 1
    return output.err.removeprefix("focuspull-render: ").rstrip()


@pytest.mark.parametrize("arguments", [[], *([verb] for verb in VERBS)])
def test_help_ends_with_two_commands_that_parse(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--help"])
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert lines[-3] == "examples:"
    for verb in VERBS:
        monkeypatch.setattr(cli, f"_{verb}", lambda _: 0)
    for line in lines[-2:]:
        program, *words = line.split("|")[0].split(">")[0].replace("'{train: 1000, val: 50}'", "{}").split()
        assert program == "focuspull-render"
        assert main(words) == 0


def test_help_loads_nothing_heavy_and_takes_less_than_a_second():
    code = (
        "import sys, resource, contextlib; from focuspull.render.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['run', '--help'])\n"
        "usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(usage.ru_utime + usage.ru_stime, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *modules = done.stdout.splitlines()[-1].split()
    assert not HEAVY & set(modules)
    assert float(seconds) < 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["destroy", "tiny"],
        ["run", "tiny"],
        ["run", "tiny", "--out", "x", "--workers", "0"],
        ["run", "tiny", "--out", "x", "--film.width"],
        ["run", "tiny", "--out", "x", "--film.width", "--seed", "3"],
        ["run", "tiny", "--out", "x", "tiny"],
        ["still", "tiny", "--out", "x", "--clip", "-1"],
        ["run", "tiny", "--out", "x", "--memory-gib", "0"],
        ["run", "tiny", "--out", "x", "--timeout-min", "soon"],
        ["retry", "x", "--clip", "a"],
        ["status"],
        ["list", "--film.width", "3"],
        ["info", "tiny"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.startswith("usage: focuspull-render")


@pytest.mark.parametrize("verb", ["run", "plan", "still", "debug"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tinny"], "spec: 'tinny' is unknown. Did you mean 'tiny'?"),
        (["tiny", "--film.widht", "256"], "unknown field 'film.widht'. Did you mean 'width'?"),
        (["tiny", "--film.width=wide"], "field 'film.width': Input should be a valid integer"),
        (["tiny", "--film.exposure_ev", "-99"], "field 'film.exposure_ev': Input should be greater than"),
        (["tiny", "--backend", "povray"], "field 'backend': Input should be 'mitsuba' or 'cycles'"),
        (["tiny", "--worker", "3"], "unknown field 'worker'."),
    ],
)
def test_mistakes_in_the_spec_are_one_line_and_status_2(
    verb: str, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([verb, *words, "--out", str(tmp_path / "out")]) == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_values_of_fields_reach_the_spec(monkeypatch: pytest.MonkeyPatch):
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(cli, "_plan", lambda arguments: seen.append(arguments.overrides) or 0)
    main(["plan", "tiny", "--film.width", "256", "--seed=0", "--film.exposure_ev", "-1.5", "--threads", "2"])
    main(["plan", "tiny", "--name=a=b"])
    assert seen == [{"film.width": "256", "seed": "0", "film.exposure_ev": "-1.5"}, {"name": "a=b"}]


@pytest.mark.parametrize("verb", ["still", "debug"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clip", "3"], "--clip 3: wee has 3 clips, 0 to 2."),
        (["--frame", "2"], "--frame 2: a clip has 2 frames, 0 to 1."),
    ],
)
def test_a_clip_or_frame_that_is_not_there_is_one_line(
    wee: str, verb: str, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([verb, wee, *words, "--out", str(tmp_path / "out")]) == 2
    assert one_line(capsys) == message


@pytest.mark.parametrize("verb", ["run", "still", "debug"])
def test_a_folder_that_cannot_be_written_to_is_one_line_and_status_2(
    wee: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    assert main([verb, wee, "--out", str(tmp_path / "file" / "out")]) == 2
    line = one_line(capsys)
    assert "cannot be written: Not a directory" in line and " Choose a" in line


def test_a_backend_that_is_not_installed_is_one_line_and_status_2(
    wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("focuspull.render.backends.find_spec", lambda _: None)
    for verb in ("run", "plan", "still", "debug"):
        assert main([verb, wee, "--out", str(tmp_path / "out")]) == 2
        assert "mitsuba is not installed. Install it with: pip install 'focuspull[render]'" in one_line(
            capsys
        )
    assert not (tmp_path / "out").exists()


def test_list_has_a_line_per_shipped_spec(capsys: pytest.CaptureFixture[str]):
    assert main(["list"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {name for name, _ in lines} >= {"tiny", "demo"}
    assert all(description for _, description in lines)


def test_info_names_what_renders(capsys: pytest.CaptureFixture[str]):
    assert main(["info"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines.keys() >= {"python", "focuspull", "bpy", "mitsuba", "ray", "gpu", "cores", "disk"}
    if lines["mitsuba"] != "not installed":
        assert "variant llvm_ad_rgb" in lines["mitsuba"] or "variant scalar_rgb" in lines["mitsuba"]


def test_info_works_with_nothing_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert main(["info"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {lines[name] for name in ("bpy", "mitsuba", "drjit", "ray")} == {"not installed"}


@pytest.mark.mitsuba
def test_a_still_has_the_bytes_of_the_clip(wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    loaded = load_corpus(wee)
    job = Job(
        mode="clip",
        key="clip-000001",
        split="train",
        scene=randomize(loaded.spec, 1),
        files=loaded.files,
        backend="mitsuba",
        threads=1,
        folder=tmp_path / "stage",
    )
    assert spawn(job).done
    out = tmp_path / "out"
    assert main(["still", wee, "--clip", "1", "--frame", "1", "--out", str(out)]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    streams = ("aif", "bokeh0", "bokeh1", "disparity", "instance")
    assert printed == [out / f"clip-000001.{stream}.001.png" for stream in streams]
    assert sorted(out.iterdir()) == sorted(printed)
    with tarfile.open(tmp_path / "stage" / "clip-000001.tar") as tar:
        for path in printed:
            member = tar.extractfile(path.name)
            assert member is not None and member.read() == path.read_bytes()
    disparity = cv2.imread(str(out / "clip-000001.disparity.001.png"), cv2.IMREAD_UNCHANGED)
    assert disparity is not None and disparity.dtype == np.uint16 and disparity.shape == (36, 64)


@pytest.mark.mitsuba
def test_a_still_of_a_scene_without_anything_is_one_line_and_leaves_nothing(
    wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    away = ["--scenes.0.world.camera.path.look_at_m", "[0, -8, 9]"]
    assert main(["still", wee, *away, "--out", str(tmp_path / "out")]) == 2
    assert one_line(capsys).startswith("scene: nothing but sky is in view.")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.mitsuba
def test_a_broken_renderer_is_status_1_and_names_its_log(
    wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    dark = ["--scenes.0.world.lights", "[]", "--quality.denoise", "false"]
    dark += ["--scenes.0.world.environment", "{type: constant, radiance: [0, 0, 0]}"]
    assert main(["still", wee, *dark, "--out", str(tmp_path / "out")]) == 1
    line = one_line(capsys)
    log = tmp_path / "out" / "clip-000000.log"
    assert line.startswith("clip-000000: FloatingPointError: ") and line.endswith(f"(log: {log})")
    assert "Traceback" in log.read_text()


@pytest.mark.mitsuba
def test_plan_counts_and_measures(wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["plan", wee, "--out", str(tmp_path / "out"), "--splits", "{train: 90, val: 10}"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["corpus"] == "wee: 100 clips (train 90, val 10) in 100 shards"
    assert lines["clip"] == "2 frames of 64x36 px at 24 fps, all in focus and 2 bokeh"
    assert lines["left"] == "100 clips; 0 shards are complete"
    assert lines["timed"].startswith("clip-000000, frame 0: ")
    assert 0 < float(lines["time"].split()[0]) < 10 and "CPU-hours for 100 clips" in lines["time"]
    # 3 colour images of 7 kB raw, disparity and ids, 2 frames, 100 clips.
    assert 0.4 < float(lines["disk"].split()[0]) < 6.5 and lines["disk"].split()[1] == "MB;"
    assert not (tmp_path / "out").exists()


@pytest.mark.mitsuba
def test_debug_writes_a_mitsuba_scene(wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    assert main(["debug", wee, "--clip", "1", "--frame", "1", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{out}/scene.json", f"{out}/scene.xml"]
    scene = json.loads((out / "scene.json").read_text())
    assert scene == randomize(load_corpus(wee).spec, 1).model_dump(mode="json")
    # Mitsuba itself loads it, also from elsewhere. In a process of its own: it ends badly.
    out.rename(tmp_path / "moved")
    code = (
        "import os; from focuspull.render.backends.mitsuba import import_mitsuba; mi = import_mitsuba(1)\n"
        "scene = mi.load_file('moved/scene.xml')\n"
        "print(len(scene.shapes()), *scene.sensors()[0].film().size(), flush=True); os._exit(0)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == ["4", "64", "36"]


@pytest.mark.cycles
def test_debug_writes_a_blender_file(wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    assert main(["debug", wee, "--backend", "cycles", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{out}/scene.json", f"{out}/scene.blend"]
    assert sorted(path.name for path in out.iterdir()) == ["scene.blend", "scene.json"]
    # Blender compresses its files with zstd unless told otherwise.
    assert (out / "scene.blend").read_bytes()[:4] in (b"BLEN", b"\x28\xb5\x2f\xfd")


def test_failed_clips_are_listed_and_status_1(
    wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    log = tmp_path / "stage" / "clip-000001.log"
    failed = (
        FailedClip("clip-000001", "killed by SIGSEGV", str(log)),
        FailedClip("clip-000002", "wrong", None),
    )
    monkeypatch.setattr(farm, "run_corpus", lambda *_, **__: RunReport(1, 1, 1, failed))
    assert main(["run", wee, "--out", str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert output.err.splitlines() == [f"clip-000001: killed by SIGSEGV (log: {log})", "clip-000002: wrong"]
    assert output.out == f"{tmp_path}: 1 of 3 clips in 1 shards, 1 rendered by this run, 2 failed\n"


def test_quarantined_clips_are_counted_with_the_file_and_status_1(
    wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(farm, "run_corpus", lambda *_, **__: RunReport(1, 1, 0, (), 2))
    assert main(["run", wee, "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"{tmp_path}/quarantine.jsonl: 2 clips. Render them again with: focuspull-render retry {tmp_path}\n"
    )


def test_retry_takes_the_spec_from_the_corpus(
    wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[object, object]] = []

    def run(loaded: LoadedCorpus, out: Path, **options: object) -> RunReport:
        asked.append((loaded.spec, options["retry"]))
        return RunReport(3, 3, 1, ())

    monkeypatch.setattr(farm, "run_corpus", run)
    spec = load_corpus(wee, {"seed": "7"}).spec
    (tmp_path / "corpus.json").write_bytes(describe_corpus(spec))
    assert main(["retry", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: no clip is quarantined\n"
    (tmp_path / "quarantine.jsonl").write_text("")
    assert main(["retry", str(tmp_path)]) == 0
    assert main(["retry", str(tmp_path), "--clip", "2", "--clip", "0"]) == 0
    assert asked == [(spec, ()), (spec, [2, 0])]


def test_retry_elsewhere_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["retry", str(tmp_path)]) == 2
    assert one_line(capsys) == f"{tmp_path}/corpus.json: is not there. Give the folder that a run writes to."


def test_status_reads_the_folder_alone(wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "corpus.json").write_bytes(describe_corpus(load_corpus(wee).spec))
    assert main(["status", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "run          none is at work",
        "done         0 of 3 clips: 0 in 0 of 3 shards, 0 staged",
        "running      0",
        "failed       0 to be tried again, 0 without a sign of life",
        "quarantined  0",
        "left         3",
    ]
    stage = tmp_path / "stage"
    stage.mkdir()
    now = time.time()
    run = RunBeat(host="a", pid=7, started_s=now - 120, beat_s=now, workers=2, num_before=0, files={})
    write_beat(Folder(stage), "run.beat", run)
    for name in ("train-000000.json", "train-000000.tar"):
        (tmp_path / name).write_text("")
    beat = ClipBeat(
        key="clip-000001",
        attempt=2,
        host="b",
        pid=8,
        started_s=now - 30,
        beat_s=now,
        frames=1,
        num_frames=2,
        memory_bytes=3 << 30,
    )
    write_beat(Folder(stage), "clip-000001.beat", beat)
    lost = beat.model_copy(update={"key": "clip-000002", "beat_s": now - 300})
    write_beat(Folder(stage), "clip-000002.beat", lost)
    assert main(["status", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"left         2, 12\d\.\d s/clip, 4 min left", lines.pop())
    assert re.fullmatch(r"  clip-000001  1 of 2 frames in 3\d s, 3\.0 GiB, attempt 2 on b", lines.pop(3))
    assert lines == [
        "run          at work on a, process 7, for 2 min, 2 worker(s)",
        "done         1 of 3 clips: 1 in 1 of 3 shards, 0 staged",
        "running      1",
        "failed       0 to be tried again, 1 without a sign of life",
        "  clip-000002  no sign of life for 5 min (limit 120 s), b",
        "quarantined  0",
    ]


def test_status_tells_a_lost_run_from_one_that_has_ended(
    wee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "corpus.json").write_bytes(describe_corpus(load_corpus(wee).spec))
    stage = tmp_path / "stage"
    stage.mkdir()
    clip = Quarantined(key="clip-000000", scene_sha256=None, failure="crash", reason="", attempts=3, log=None)
    write_quarantine(tmp_path, [clip])
    (stage / "clip-000000.log").write_text("")
    (stage / "clip-000001.log").write_text("")
    then = time.time() - 600
    run = RunBeat(host="a", pid=7, started_s=then, beat_s=then, workers=2, num_before=0, files={})
    write_beat(Folder(stage), "run.beat", run)
    assert main(["status", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run          lost: no sign of life on a, process 7 for 10 min"
    file = tmp_path / "quarantine.jsonl"
    assert lines[3:] == [
        "failed       1 to be tried again, 0 without a sign of life",
        f"quarantined  1; see {file}, then: focuspull-render retry {tmp_path}",
        "left         2",
    ]
    write_beat(Folder(stage), "run.beat", run.model_copy(update={"ended": True}))
    assert main(["status", str(tmp_path)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "run          none is at work; the last one, on a, process 7, ended 10 min ago"


def test_status_loads_neither_ray_nor_a_renderer(wee: str, tmp_path: Path):
    (tmp_path / "corpus.json").write_bytes(describe_corpus(load_corpus(wee).spec))
    code = (
        "import sys; from focuspull.render.cli import main\n"
        f"main(['status', {str(tmp_path)!r}]); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"ray", "bpy", "mitsuba", "drjit"} & set(done.stdout.splitlines()[-1].split())


def test_status_elsewhere_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["status", str(tmp_path)]) == 2
    assert one_line(capsys) == f"{tmp_path}/corpus.json: is not there. Give the folder that a run writes to."


@pytest.mark.parametrize(("signum", "status", "name"), [(2, 130, "SIGINT"), (15, 143, "SIGTERM")])
def test_a_stopped_run_says_how_to_go_on(
    wee: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    signum: int,
    status: int,
    name: str,
):
    def stop(*_: object, **__: object) -> RunReport:
        raise StoppedError(signum)

    monkeypatch.setattr(farm, "run_corpus", stop)
    assert main(["run", wee, "--out", str(tmp_path)]) == status
    assert one_line(capsys) == f"stopped by {name}; the same command continues the run"


def test_the_status_line_has_counts_speed_and_time_left():
    text = cli.status_text(Progress(done=12, failed=0, left=88, clip_s=31.2))
    assert text == "12/100 done, 0 failed, 88 left, 31.2 s/clip, 46 min left"
    assert cli.status_text(Progress(done=0, failed=1, left=99)) == "0/100 done, 1 failed, 99 left"
    assert cli.status_text(Progress(1, 0, 2, 30.0)).endswith("60 s left")
    assert cli.status_text(Progress(1, 0, 1000, 30.0)).endswith("8.3 h left")


def test_without_a_terminal_status_lines_are_few(capsys: pytest.CaptureFixture[str]):
    status = cli._Status()
    for done in range(4):
        status.show(Progress(done, 0, 3 - done, note="clip-000001: killed by SIGKILL" if done == 1 else ""))
    status.close()
    assert capsys.readouterr().err.splitlines() == [
        "0/3 done, 0 failed, 3 left",
        "clip-000001: killed by SIGKILL",
        "3/3 done, 0 failed, 0 left",
    ]


def test_on_a_terminal_there_is_one_status_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    status = cli._Status()
    status.show(Progress(0, 0, 2))
    status.show(Progress(1, 0, 1, note="a note"))
    status.close()
    # Over each other, cut to the width, the note above them.
    assert capsys.readouterr().err == (
        "0/2 done, 0 failed,\x1b[K\ra note\x1b[K\n1/2 done, 0 failed,\x1b[K\r\n"
    )
