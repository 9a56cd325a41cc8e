"""Sheets, costs, probes and batches of the programs that look at scene families; see ``tests/benchmarks``."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focuspull.render.families import FAMILIES
from focuspull.render.randomize import randomize
from tests.benchmarks import costs, gallery, probes
from tests.benchmarks.sheets import EMPTY, GAP, MARGIN, Tile, fitting, font, jpeg, overview, sheet
from tests.benchmarks.worlds import Worlds, chosen_families, family_names, probe_all, size, worlds_of

RED = np.full((18, 32, 3), (200, 10, 10), np.uint8)
FILM = {"width": 64, "height": 36}


def test_families_are_those_of_the_specs() -> None:
    assert set(family_names()) == set(FAMILIES) - {"world"}
    assert chosen_families("night,tabletop") == ("night", "tabletop")
    with pytest.raises(Exception, match=r"'moon' is no family\. Use some of: tabletop,"):
        chosen_families("night,moon")


def test_sizes_are_two_numbers() -> None:
    assert size("320x180") == (320, 180)
    for text in ("320", "320x", "x180", "320x8", "axb"):
        with pytest.raises(Exception, match="such as 320x180"):
            size(text)


@pytest.mark.parametrize("family", family_names())
def test_every_family_is_drawn_with_its_defaults(family: str) -> None:
    worlds = worlds_of(family, 2, FILM, {}, None)
    scene = randomize(worlds.spec, 1)
    assert len(scene.targets) == 2
    assert worlds.id != worlds_of(family, 2, FILM | {"fps": 30.0}, {}, None).id


def test_tiles_lie_in_rows_and_columns_and_missing_ones_are_grey() -> None:
    page = sheet(
        "night", "facts", ("a", "b"), [[Tile(RED, "one"), Tile(None)], [Tile(RED), Tile(RED)]], (64, 36)
    )
    pixels = np.asarray(page).astype(int)
    assert page.width == 2 * MARGIN + 2 * 64 + GAP
    red = (np.abs(pixels - (200, 10, 10)) < 3).all(axis=-1)
    assert red.sum() == 3 * 64 * 36
    lines, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert np.diff(lines).max() > 13  # captions lie between
    assert (columns[0], columns[-1]) == (MARGIN, page.width - MARGIN - 1)
    empty = (pixels == EMPTY).all(axis=-1)
    assert empty.sum() == 64 * 36
    assert empty[lines[0] : lines[0] + 36, MARGIN + 64 + GAP :].sum() == 64 * 36


def test_long_texts_are_cut_to_the_width() -> None:
    assert fitting("short", 13, 200) == "short"
    cut = fitting("a caption that is far too long for its picture", 13, 100)
    assert cut.endswith("…")
    assert 80 < font(13).getlength(cut) <= 100


def test_the_overview_breaks_lines_of_pictures() -> None:
    one = overview([("night", [Tile(RED)] * 4)], 4, (64, 36))
    two = overview([("night", [Tile(RED)] * 5), ("street", [Tile(RED)])], 4, (64, 36))
    assert one.width == two.width == 4 * 68 + 4
    assert two.height > 3 * 40 > one.height


def test_jpegs_are_as_good_as_fits() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    large, small = jpeg(image, 1_000_000), jpeg(image, 14_000)
    assert len(small) <= 14_000 < len(large)
    assert Image.open(io.BytesIO(small)).size == (160, 120)
    with pytest.raises(ValueError, match="do not fit into 500 bytes"):
        jpeg(image, 500)


def test_rows_of_a_sheet_stay_empty_until_clips_are_rendered(tmp_path: Path) -> None:
    worlds = worlds_of("night", 1, FILM, {}, None)
    (mitsuba,), (cycles,) = (gallery.shots_of(worlds, b, tmp_path) for b in ("mitsuba", "cycles"))
    assert mitsuba.frames == (0, 24)
    assert cycles.frames == (0,)
    assert cycles.scene is not None and len(cycles.scene.targets) == 1
    for pair in ((mitsuba, cycles), (mitsuba, None), (None, cycles)):
        tiles = gallery.clip_tiles(*pair)
        assert [tile.caption for tile in tiles] == ["not rendered"] * len(gallery.TITLES)


@pytest.mark.mitsuba
def test_a_clip_is_rendered_once_and_shown(tmp_path: Path) -> None:
    film = FILM | {"num_frames": 3}
    worlds = worlds_of("tabletop", 1, film, {"aif_samples": 2, "bokeh_samples": 2, "denoise": False}, None)
    (shot,) = gallery.shots_of(worlds, "mitsuba", tmp_path)
    assert gallery.render_shot(shot, threads=1) == ""
    rendered = sorted((path.name, path.stat().st_mtime_ns) for path in shot.folder.iterdir())
    assert gallery.render_shot(shot, threads=1) == ""
    assert sorted((path.name, path.stat().st_mtime_ns) for path in shot.folder.iterdir()) == rendered
    tiles = gallery.clip_tiles(shot, None)
    shapes = [None if tile.image is None else tile.image.shape for tile in tiles]
    assert shapes == [(36, 64, 3)] * 3 + [None] + [(36, 64, 3)] * 3
    disparity = tiles[-1].image
    assert disparity is not None and len(np.unique(disparity.reshape(-1, 3), axis=0)) > 8


def test_a_clip_costs_its_setup_once_and_its_frames_each() -> None:
    parts = {"setup": 10.0, "truth": 0.5, "encoding": 0.25, "fixed": 1.25, "per_path": 0.1}
    assert costs.frame_s(parts, 20) == pytest.approx(4.0)
    assert costs.clip_s(parts, 25, 20) == pytest.approx(10 + 25 * 4)
    assert costs.clip_s(parts, 25, 20, pixels=4) == pytest.approx(10 + 25 * 16)
    other = parts | {"setup": 30.0}
    assert costs.medians([parts, other, {"crash": "x"}]) == parts | {"setup": 20.0}
    assert costs.medians([{"crash": "x"}]) is None
    text = costs.table({("night", "Mitsuba"): parts}, gallery.CLIP, 20, 1.0)
    assert text.splitlines()[-1].startswith("| night | Mitsuba | 10.0 | 4.0 | 0.100 | 1.8 | 1.3 |")


# --- Probes ---------------------------------------------------------------------------------------


def test_problems_of_a_probe() -> None:
    instance = np.zeros((3, 10, 10), np.uint16)
    assert probes.subject_problems(instance, [4]) == ["subject small"]
    instance[:2, :5] = 4
    assert probes.subject_problems(instance, [4]) == ["subject hidden"]
    instance[2, 0, 0] = 4
    assert probes.subject_problems(instance, [3, 4]) == []
    assert probes.subject_problems(instance, []) == ["subject small"]

    grey = np.full((1, 10, 10, 3), 0.4)
    assert probes.exposure_problems(grey) == []
    assert probes.exposure_problems(grey / 20) == ["dark"]
    assert probes.exposure_problems(np.ones_like(grey)) == ["bright", "burnt out"]
    grey[:, :3] = 1
    assert probes.exposure_problems(grey) == ["burnt out"]

    depth = np.linspace(5, 6, 100).reshape(1, 10, 10)
    assert probes.depth_problems(depth) == ["flat"]
    depth[:, :2] = np.inf
    assert probes.depth_problems(depth) == []


def test_rows_of_the_table_count_what_failed_and_leave_out_imports() -> None:
    good = {"draw_s": 0.1, "build_s": 0.4, "probe_s": 0.5, "triangles": 2000, "objects": 7}
    rows = [
        good | {"number": 0, "is_first": True, "build_s": 9.0, "problems": []},
        good | {"number": 1, "is_first": False, "problems": ["dark", "flat"]},
        {"number": 2, "crash": "the child ended with -11"},
        {"number": 3, "is_first": False, "refused": "nothing in view"},
    ]
    cells = dict(zip(probes.HEADINGS, probes.table_row("night", rows), strict=True))
    assert [cells[h] for h in ("specs", "crashed", "refused", "with problems")] == ["4", "1", "1", "50.0%"]
    assert cells["draw + build, CPU s: median"] == "0.50"
    assert probes.reasons(rows) == [
        ("dark", [1]),
        ("flat", [1]),
        ("the child ended with -11", [2]),
        ("nothing in view", [3]),
    ]
    assert probes.table_row("night", rows[2:3])[4:] == ["0.0%", *["-"] * 7]


def fails_at_two(worlds: Worlds, number: int, calls: str) -> dict[str, int]:
    with open(calls, "a") as file:
        file.write(f"{number}\n")
    if number == 2:
        os.abort()
    return {"square": number * number}


def test_a_child_that_dies_costs_one_clip_and_what_is_done_is_kept(tmp_path: Path) -> None:
    worlds, calls = worlds_of("night", 5, FILM, {}, None), tmp_path / "calls"
    rows = list(probe_all(fails_at_two, worlds, range(5), tmp_path / "rows", str(calls), batch=4))
    assert [row.get("square") for row in rows] == [0, 1, None, 9, 16]
    assert rows[2]["crash"].startswith("the child ended with -6")
    assert [row.get("is_first") for row in rows] == [True, False, None, True, False]
    again = list(probe_all(fails_at_two, worlds, range(5), tmp_path / "rows", str(calls), batch=4))
    assert again == rows
    assert calls.read_text().split() == ["0", "1", "2", "3", "4"]
