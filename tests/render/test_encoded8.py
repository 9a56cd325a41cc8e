"""The blur domain ``encoded8`` against what is known: an edge between flat colours, and the AIF in focus."""

from __future__ import annotations

import numpy as np
import pytest

from focuspull.dataset import color
from focuspull.dataset.errors import UserError
from focuspull.render import spec
from focuspull.render.frames import Aperture, Frames, View, fit_disparity_map
from tests.rendering import in_child, open_session, render, simple_scene

DARK, BRIGHT = 0.05, 0.6
SIZE = (64, 36)


def box(name: str, x: float, y: float, width: float, radiance: float) -> dict[str, object]:
    return {
        "name": name,
        "shape": {"type": "box", "size_m": (width, 0.01, 20)},
        "position_m": (x, y, 1),
        "material": {"emission": (radiance,) * 3},
    }


def edge_scene() -> spec.SceneSpec:
    """A wall, dark on the left and bright on the right, behind a strip; focus on the wall, then the strip."""
    wall = [box("dark", -20, 5, 40, DARK), box("bright", 20, 5, 40, BRIGHT)]
    scene = simple_scene([*wall, box("strip", -1.6, 0, 0.3, 0.3)], size=SIZE, samples=256, environment=None)
    targets = [
        spec.TargetSpec.model_validate(
            {"k_at_1024": (128.0,), "focus": [{"frame": 0, "disparity": focus}], "domain": domain}
        )
        for focus in (0.0, 1.0)
        for domain in ("linear_hdr", "encoded8")
    ]
    quality = scene.quality.model_copy(update={"bokeh_samples": 1024})
    return scene.model_copy(update={"targets": tuple(targets), "quality": quality})


@pytest.fixture(scope="module")
def edge() -> Frames:
    return render("mitsuba", edge_scene())[0]


def middle_row(image: np.ndarray) -> np.ndarray:
    return color.encode_display(image[0])[SIZE[1] // 2 - 6 : SIZE[1] // 2 + 6].mean(axis=(0, 2))


@pytest.mark.mitsuba
def test_an_edge_is_blurred_in_display_values(edge: Frames) -> None:
    """Between the two pixels at the edge lies the mean: of the light, or of what is displayed."""
    linear, encoded = middle_row(edge.bokeh[2]), middle_row(edge.bokeh[3])
    at = slice(SIZE[0] // 2 - 1, SIZE[0] // 2 + 1)
    display = color.encode_display(np.full((2, 3), [[DARK], [BRIGHT]]))[:, 0]
    assert linear[at].mean() == pytest.approx(
        color.encode_display(np.full(3, (DARK + BRIGHT) / 2))[0], abs=0.02
    )
    assert encoded[at].mean() == pytest.approx(display.mean(), abs=0.02)
    assert linear[at].mean() > encoded[at].mean() + 0.05
    # Away from it both are flat.
    for row in (linear, encoded):
        assert row[-3:] == pytest.approx(display[1], abs=0.005)


@pytest.mark.mitsuba
def test_in_focus_it_is_the_aif_in_8_bits(edge: Frames) -> None:
    encoded, aif = middle_row(edge.bokeh[1]), middle_row(edge.aif)
    away = [25, 40, 50, 60]
    assert encoded[away] == pytest.approx(np.round(aif[away] * 255) / 255, abs=0.003)


@pytest.mark.mitsuba
def test_what_the_aif_does_not_show_is_the_light_that_is_there(edge: Frames) -> None:
    """Beside the strip, in focus, rays pass to the dark wall that it hides from the pinhole."""
    found = color.encode_display(edge.bokeh[1][0])
    strip = color.encode_display(np.full(3, 0.3))[0]
    dark = color.encode_display(np.full(3, DARK))[0]
    # Blurred over the wall behind, the strip is everywhere a mixture of itself and of the wall.
    columns = np.flatnonzero(edge.instance[0, SIZE[1] // 2] == 3)
    assert dark + 0.01 < found[SIZE[1] // 2, columns].mean() < strip - 0.01


def plan(scene_json: str, variant: str) -> str:
    """The method chosen, or why there is none; in a child."""
    scene = spec.SceneSpec.model_validate_json(scene_json)
    session, _ = open_session("mitsuba", scene, {}, 1)
    disparity_map = fit_disparity_map(session.truth(0)[0])
    session.variant = variant
    views = [
        View(Aperture(8.0, focus, 50.0, disparity_map, target.lens), 16, 1 + i, target.domain)
        for i, target in enumerate(scene.targets)
        for focus in (0.0, 0.3, 0.6, 1.0)
    ]
    try:
        return session.plan([views])
    except UserError as error:
        return str(error)


@pytest.mark.mitsuba
def test_only_targets_of_light_count_towards_rebinning():
    scene = edge_scene().model_copy(
        update={"quality": edge_scene().quality.model_copy(update={"denoise": False})}
    )
    encoded = [t.model_copy(update={"domain": "encoded8"}) for t in scene.targets]
    light = [t.model_copy(update={"domain": "linear_hdr"}) for t in scene.targets]
    found = [
        in_child(plan, scene.model_copy(update={"targets": tuple(targets)}).canonical_json(), "llvm_ad_rgb")
        for targets in (light, encoded)
    ]
    assert found == ["rebinned", "separate"]


@pytest.mark.mitsuba
def test_the_scalar_variant_refuses_it_in_one_line():
    message = in_child(plan, edge_scene().canonical_json(), "scalar_rgb")
    assert message.startswith("targets: domain 'encoded8' cannot be rendered with scalar_rgb")
