"""What can be evaluated: names that are read, systems that are opened, and what they must deliver."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.model.pipeline import BokehPipeline
from focuspull.model.renderer import renderer_names
from focuspull.train.metrics.base import Truth
from focuspull.train.published import PUBLISHED as PUBLISHED_ROWS
from focuspull.train.results import SystemInfo
from focuspull.train.systems import (
    OURS,
    PUBLISHED,
    Predictor,
    SystemSpec,
    adapter_systems,
    fingerprint,
    open_system,
    parse_systems,
    probe_renderer,
    self_test_line,
    unique,
)
from tests.model.checkouts import stand_in
from tests.model.networks import tiny
from tests.train.metrics.examples import make_truth

torch.set_num_threads(1)

TRUTH = make_truth()
CPU = torch.device("cpu")


def cropped(truth: Truth) -> Truth:
    """A corner: networks take their time."""
    aif, bokeh, disparity = (x[..., :16, :24].clone() for x in (truth.aif, truth.bokeh, truth.disparity))
    return Truth(truth.item, aif, bokeh, disparity, truth.k, truth.focus_disparity)


def adapters_file(folder: Path, name: str, **fields: object) -> Path:
    """The configuration of one stand-in."""
    checkout = stand_in(name, folder / name)
    entry = {"checkout": name, "python": sys.executable, "options": dict(checkout.options)} | fields
    path = folder / "adapters.yaml"
    path.write_text(yaml.safe_dump({"systems": {name: entry}}))
    return path


def test_all_is_every_renderer_without_weights_once() -> None:
    names = [system.name for system in parse_systems("gather,all")]
    assert sorted(names) == sorted(renderer_names())
    assert names[0] == "gather"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gathre", r"--systems gathre: there is no such renderer. There are: .*gather.*; or all\."),
        ("any-to-bokeh", "--systems any-to-bokeh: needs .*Give --network NAME=FOLDER instead"),
        ("", "--systems : there is no such renderer"),
    ],
)
def test_names_that_are_not_known_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_systems(text)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no system was given. Give --systems, --network, --predictions or --adapters"),
        (["a", "a"], "system 'a': was given twice"),
        (["a/b"], "system 'a/b': must be a name that a file can have"),
        ([".a"], "system '.a': must be a name that a file can have"),
        (["truth"], "system 'truth': is what the truth's own files are called"),
    ],
)
def test_names_of_rows_are_names_of_files(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        unique([SystemSpec(name=name, kind="predictions", path=Path()) for name in names])


def test_every_adapter_stands_beside_a_published_row() -> None:
    assert set(PUBLISHED.values()) <= set(PUBLISHED_ROWS)
    assert OURS in PUBLISHED_ROWS


def test_a_renderer_gets_inputs_and_the_disparity_it_is_given() -> None:
    predictor = open_system(parse_systems("gather")[0], CPU)
    made = predictor(TRUTH, TRUTH.disparity)
    assert made.shape == TRUTH.bokeh.shape and made.dtype == torch.float32
    torch.testing.assert_close((made * 255).round() / 255, made)
    # With everything at the focus, nothing is blurred.
    focus = TRUTH.focus_disparity[:, None, None, None].expand_as(TRUTH.disparity)
    assert float((predictor(TRUTH, focus) - TRUTH.aif).abs().max()) <= 1 / 255


def test_a_factor_on_k_reaches_the_renderer() -> None:
    (raw,) = parse_systems("gather")
    halved = open_system(raw.model_copy(update={"k_factor": 0.5}), CPU)(TRUTH, TRUTH.disparity)
    weaker = Truth(TRUTH.item, TRUTH.aif, TRUTH.bokeh, TRUTH.disparity, 0.5 * TRUTH.k, TRUTH.focus_disparity)
    assert torch.equal(halved, open_system(raw, CPU)(weaker, TRUTH.disparity))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (TRUTH.bokeh[:2], r"bad: made \[2, 3, 80, 128\] of a video of \[3, 3, 80, 128\]"),
        (TRUTH.bokeh * torch.nan, "bad: 92160 values of the video are not finite"),
    ],
)
def test_what_is_not_a_video_of_the_clip_is_refused(wrong: Tensor, message: str) -> None:
    spec = SystemSpec(name="bad", kind="renderer")
    predictor = Predictor(spec, lambda truth, disparity: wrong, SystemInfo(name="bad", summary=""))
    with pytest.raises(UserError, match=message):
        predictor(TRUTH, TRUTH.disparity)


def test_a_network_of_ours_is_opened_and_counted(tmp_path: Path) -> None:
    parts = tiny()
    BokehPipeline.of(parts).save_pretrained(tmp_path / "weights")
    spec = SystemSpec(name="ours", kind="network", path=tmp_path / "weights")
    predictor = open_system(spec, CPU)
    assert predictor.info.published == OURS
    modules = (parts.unet, parts.vae, parts.image_encoder)
    assert predictor.info.num_parameters == sum(p.numel() for m in modules for p in m.parameters())
    small = cropped(TRUTH)
    assert predictor(small, small.disparity).shape == small.bokeh.shape
    with pytest.raises(UserError, match="nowhere"):
        open_system(spec.model_copy(update={"path": tmp_path / "nowhere"}), CPU)


def test_predictions_are_read_for_the_clip(tmp_path: Path) -> None:
    folder = tmp_path / "clip-000000"
    folder.mkdir()
    pixels = (TRUTH.bokeh * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.save(folder / "bokeh0.npy", pixels)
    predictor = open_system(SystemSpec(name="theirs", kind="predictions", path=tmp_path), CPU)
    assert torch.equal(predictor(TRUTH, TRUTH.disparity), TRUTH.bokeh)
    assert predictor.renderer is None


def test_fingerprints_follow_files_and_options_but_not_names(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"1")
    spec = SystemSpec(name="ours", kind="network", path=tmp_path)
    mark = fingerprint(spec, "clip-000000", 0)
    assert fingerprint(spec.model_copy(update={"name": "again"}), "clip-000000", 0) == mark
    assert fingerprint(spec.model_copy(update={"fuse": "none"}), "clip-000000", 0) != mark
    (tmp_path / "a.bin").write_bytes(b"12")
    assert fingerprint(spec, "clip-000000", 0) != mark


def test_a_renderer_that_keeps_the_convention_needs_no_other_k() -> None:
    test = probe_renderer(open_system(parse_systems("scatter")[0], CPU).renderer)  # type: ignore[arg-type]
    assert test.factor == pytest.approx(1, abs=0.03)
    assert self_test_line(test).startswith("radii are off by 0.")


def test_a_published_system_is_measured_raw_and_with_the_k_that_fits(tmp_path: Path) -> None:
    lines: list[str] = []
    path = adapters_file(tmp_path, "bokehme")
    renderer = tmp_path / "bokehme/classical_renderer/scatter.py"
    exact = "radius = defocus.abs()"
    assert exact in renderer.read_text()
    renderer.write_text(renderer.read_text().replace(exact, f"{exact} * 0.8"))
    systems = adapter_systems(path, fitted=True, say=lines.append)
    assert [system.name for system in systems] == ["bokehme", "bokehme (fitted K)"]
    assert systems[0].k_factor == 1
    assert systems[1].k_factor == pytest.approx(1.25, abs=0.03)
    assert f"with K times {systems[1].k_factor:.3f}" in lines[0]
    predictor = open_system(systems[1], CPU)
    assert predictor.info.published == "BokehMe"
    assert "K times" in predictor.info.summary
    predictor.renderer.close()  # type: ignore[union-attr]


def test_a_published_system_that_cannot_be_fitted_keeps_its_raw_row(tmp_path: Path) -> None:
    path = adapters_file(tmp_path, "bokehme", python="./no-python")
    lines: list[str] = []
    systems = adapter_systems(path, fitted=True, say=lines.append)
    assert [system.name for system in systems] == ["bokehme"]
    assert "bokehme: its K could not be fitted" in lines[0]
    assert "no-python" in lines[0]


def test_without_fitting_nothing_is_started(tmp_path: Path) -> None:
    path = adapters_file(tmp_path, "bokehme", python="./no-python")
    assert [s.name for s in adapter_systems(path, fitted=False, say=pytest.fail)] == ["bokehme"]
