"""Clips: what goes in comes out, and what does not fit is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from focuspull.dataset import color
from focuspull.dataset.clip import ClipMeta, decode_clip, decode_meta, encode_clip, encode_meta, member_names


def test_members_are_stream_major_and_frame_minor():
    assert member_names(1, 2) == [
        "json",
        "aif.000.png",
        "aif.001.png",
        "bokeh0.000.png",
        "bokeh0.001.png",
        "disparity.000.png",
        "disparity.001.png",
        "instance.000.png",
        "instance.001.png",
    ]


def test_frame_numbers_grow_so_that_names_sort_by_time():
    assert member_names(0, 1000)[1000] == "aif.999.png"
    assert member_names(0, 1001)[1:1002:1000] == ["aif.0000.png", "aif.1000.png"]


def test_clip_round_trip(make_meta: Callable[..., ClipMeta], make_arrays: Callable[..., dict[str, Any]]):
    meta = make_meta()
    arrays = make_arrays(meta)
    clip = encode_clip(meta, **arrays)
    assert [name for name, _ in clip.members] == member_names(2, 3)
    decoded = decode_clip(dict(clip.members))
    assert decoded.meta == meta
    for stored, radiance in zip(
        [decoded.aif, *decoded.bokeh], [arrays["aif"], *arrays["bokeh"]], strict=True
    ):
        np.testing.assert_array_equal(stored, color.to_uint8(color.encode_display(radiance, exposure_ev=0.5)))
    np.testing.assert_allclose(decoded.disparity, arrays["disparity"], atol=7.7e-6)
    np.testing.assert_array_equal(decoded.instance, arrays["instance"])


def test_some_frames_decode_from_their_members_alone(make_clip: Callable[..., Any]):
    clip = make_clip()
    whole = decode_clip(dict(clip.members))
    few = {name: content for name, content in clip.members if ".000." not in name}
    part = decode_clip(few, frames=[2, 1])
    np.testing.assert_array_equal(part.aif, whole.aif[[2, 1]])
    np.testing.assert_array_equal(part.bokeh[1], whole.bokeh[1][[2, 1]])
    np.testing.assert_array_equal(part.disparity, whole.disparity[[2, 1]])
    assert part.meta.num_frames == 3


def test_same_clip_gives_the_same_bytes(make_clip: Callable[..., Any]):
    assert make_clip().members == make_clip().members


def test_metadata_is_canonical_json(make_meta: Callable[..., ClipMeta]):
    meta = make_meta().model_copy(update={"scene": {"b": 1, "a": "ä"}})
    content = encode_meta(meta)
    assert content.endswith(b"\n") and content.isascii()
    assert content.startswith(b'{"camera":{"camera_to_world":[[[1.0,0.0,')
    assert list(json.loads(content)) == sorted(json.loads(content))
    assert encode_meta(decode_meta(content)) == content
    assert json.loads(content)["disparity"]["z_far_m"] is None
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_meta(meta.model_copy(update={"scene": {"x": float("nan")}}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "clip.000"}, "key: String should match pattern"),
        ({"format": "focuspull-clip-0"}, "format: Input should be 'focuspull-clip-1'"),
        ({"colour": 1}, "colour: Extra inputs are not permitted, got 1"),
        ({"fps": 0}, "fps: Input should be greater than 0, got 0"),
        ({"num_frames": 4}, "camera.camera_to_world needs one entry per frame, 4, got 3"),
        ({"targets": []}, "targets: Tuple should have at least 1 item"),
        ({"instances": {"disc": 0}}, "instances.disc: Input should be greater than 0, got 0"),
    ],
)
def test_wrong_metadata_is_one_line_naming_the_field(
    make_meta: Callable[..., ClipMeta], change: dict[str, Any], message: str
):
    content = json.dumps(json.loads(encode_meta(make_meta())) | change).encode()
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        decode_meta(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("k", (1.0, -1.0, 1.0), "greater than or equal to 0"),
        ("k", (1.0,), "bokeh0.k needs one entry per frame, 3, got 1"),
        ("focus_disparity", (0.0, 1.5, 1.0), "less than or equal to 1"),
        ("focus_distance_m", (1.0, float("inf"), 1.0), "finite number"),
        ("twin_of", "bokeh1", "bokeh0.twin_of must name an earlier target, got bokeh1"),
        ("name", "bokeh1", "targets must be named ['bokeh0', 'bokeh1'] in this order"),
    ],
)
def test_wrong_targets_are_refused(make_meta: Callable[..., ClipMeta], field: str, values: Any, message: str):
    fields = make_meta().model_dump()
    fields["targets"][0][field] = values
    with pytest.raises(ValidationError, match=re.escape(message)):
        ClipMeta(**fields)


def _with_nan(arrays: dict[str, Any]) -> None:
    arrays["disparity"][1, :3, 0] = np.nan


def _with_negative_light(arrays: dict[str, Any]) -> None:
    arrays["bokeh"][1][2, 0, 0, 0] = -0.1


def _with_infinite_light(arrays: dict[str, Any]) -> None:
    arrays["aif"][0, 0, 0, 0] = np.inf


def _with_doubles(arrays: dict[str, Any]) -> None:
    arrays["aif"] = arrays["aif"].astype(np.float64)


def _with_a_frame_missing(arrays: dict[str, Any]) -> None:
    arrays["instance"] = arrays["instance"][:2]


def _with_half_the_range(arrays: dict[str, Any]) -> None:
    arrays["disparity"] /= 2


def _with_too_much_range(arrays: dict[str, Any]) -> None:
    arrays["disparity"] *= 2


def _with_a_target_missing(arrays: dict[str, Any]) -> None:
    del arrays["bokeh"][1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_with_nan, "clip-000000: disparity: 3 values in frame 1 are not finite"),
        (_with_negative_light, "clip-000000: bokeh1: 1 values in frame 2 are negative"),
        (_with_infinite_light, "clip-000000: aif: 1 values in frame 0 are not finite"),
        (_with_doubles, "aif: must be float32 [3, 16, 24, 3], got float64 [3, 16, 24, 3]"),
        (_with_a_frame_missing, "instance: must be uint16 [3, 16, 24], got uint16 [2, 16, 24]"),
        (_with_half_the_range, "must reach 0 and 1 within the clip, but spans [0.000000, 0.500000]"),
        (_with_too_much_range, "disparity: 60 values in frame 0 are outside [0, 1]"),
        (_with_a_target_missing, "metadata has 2 targets, got 1 bokeh arrays"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    make_meta: Callable[..., ClipMeta],
    make_arrays: Callable[..., dict[str, Any]],
    damage: Callable[[dict[str, Any]], None],
    message: str,
):
    meta = make_meta()
    arrays = make_arrays(meta)
    damage(arrays)
    with pytest.raises(ValueError, match=re.escape(message).replace("60", r"\d+")):
        encode_clip(meta, **arrays)


def test_decoding_names_the_member_that_is_wrong(make_clip: Callable[..., Any]):
    members = dict(make_clip().members)
    other = dict(make_clip(width=12, height=8).members)
    with pytest.raises(ValueError, match=r"aif\.001\.png: missing from the clip"):
        decode_clip({name: content for name, content in members.items() if name != "aif.001.png"})
    with pytest.raises(ValueError, match=r"bokeh0\.002\.png: rgb: must be 24x16, got 12x8"):
        decode_clip(members | {"bokeh0.002.png": other["bokeh0.002.png"]})
    with pytest.raises(ValueError, match=r"disparity\.000\.png: disparity: 4 bytes cannot be decoded"):
        decode_clip(members | {"disparity.000.png": b"junk"})


@pytest.mark.parametrize("frames", [[], [3], [-1]])
def test_frames_outside_the_clip_are_refused(make_clip: Callable[..., Any], frames: list[int]):
    with pytest.raises(ValueError, match=r"clip-000000: frames must be in 0\.\.2, got"):
        decode_clip(dict(make_clip().members), frames=frames)
