"""The command line: what it prints, and its exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from focuspull.dataset.cli import main
from focuspull.dataset.index import read_index

VERBS = ("preview", "check", "ls", "index")


@pytest.mark.parametrize("arguments", [[], *([verb] for verb in VERBS)])
def test_help_ends_with_two_commands_that_parse(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--help"])
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert lines[-3] == "examples:"
    assert all(line.startswith("  focuspull-dataset ") for line in lines[-2:])


def test_help_loads_nothing_heavy():
    code = "import sys, focuspull.dataset.cli; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "cv2", "pydantic", "pyarrow", "PIL", "av", "torch"} & set(found)


def test_ls_prints_a_row_per_clip(corpus: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["ls", str(corpus)]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["key", "split", "shard", "size"]
    assert [row.split()[0] for row in rows] == ["clip-000000", "clip-000001", "clip-000002"]
    assert " ".join(rows[2].split()) == (
        "clip-000002 val val-000000.tar 24x16 3 2 0.0..100.0 0.00..1.00 0.0 1.5 discs 1.0 cpu"
    )


def test_check_of_a_sound_corpus_succeeds(corpus: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["check", str(corpus)]) == 0
    assert capsys.readouterr().out == f"{corpus}: no problems\n"


def test_check_fails_with_one_line_per_problem(corpus: Path, capsys: pytest.CaptureFixture[str]):
    (corpus / ".tmp-a").write_bytes(b"")
    (corpus / "index.parquet").unlink()
    assert main(["check", str(corpus)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [".tmp-a", f"{corpus}/index.parquet"]


def test_preview_writes_sheet_and_video_where_asked(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["preview", str(corpus), "--out", str(tmp_path / "look"), "--max-clips", "1"]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert paths == [tmp_path / "look" / "preview.png", tmp_path / "look" / "preview.mp4"]
    assert paths[0].read_bytes().startswith(b"\x89PNG") and paths[1].read_bytes()[4:8] == b"ftyp"


def test_previews_inside_a_corpus_are_no_problem_for_the_check(corpus: Path):
    assert main(["preview", str(corpus), "--max-clips", "1"]) == 0
    assert main(["check", str(corpus)]) == 0


def test_index_is_rebuilt(corpus: Path, capsys: pytest.CaptureFixture[str]):
    (corpus / "index.parquet").unlink()
    assert main(["index", str(corpus)]) == 0
    assert capsys.readouterr().out == f"{corpus}/index.parquet: 3 clips\n"
    assert len(read_index(corpus)) == 3


@pytest.mark.parametrize("verb", ["preview", "check", "ls"])
def test_folder_that_is_not_there_is_one_line_and_status_2(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
):
    assert main([verb, str(tmp_path / "nothing")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"focuspull-dataset: {tmp_path}/nothing") and captured.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["check"], ["preview", "x", "--max-clips", "0"], ["destroy", "x"]])
def test_wrong_arguments_are_status_2(arguments: list[str]):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_reader_that_goes_away_causes_no_traceback(corpus: Path):
    command = [sys.executable, "-m", "focuspull.dataset", "ls", str(corpus)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (141, b"")
