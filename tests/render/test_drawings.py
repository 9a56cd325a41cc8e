import numpy as np
import pytest
from pydantic import ValidationError

from focuspull.render import spec
from focuspull.render.build import build
from focuspull.render.drawings import SMALLEST_COVER, drawn
from focuspull.render.spec import CameraSpec, SceneSpec, StaticPath, World

KINDS = ("cutout", "figure", "bird", "tree", "bloom", "scenery")


def scene(card: spec.Card) -> SceneSpec:
    path = StaticPath(type="static", position_m=(0, -3, 0.5), look_at_m=(0, 0, 0.5))
    world = World(objects=(spec.ObjectSpec(name="card", shape=card),), camera=CameraSpec(path=path))
    film = spec.FilmSpec(width=32, height=18, num_frames=1)
    target = spec.TargetSpec(k_at_1024=(0.0,), focus=(spec.FocusKey(frame=0, disparity=0.5),))
    return SceneSpec(seed=0, film=film, quality=spec.QualitySpec(), world=world, targets=(target,))


@pytest.mark.parametrize("kind", KINDS)
def test_drawings_are_the_same_for_a_seed_and_differ_between_seeds(kind: str) -> None:
    first, again, other = (
        drawn(spec.Drawing.model_validate({"kind": kind, "seed": seed, "resolution": 64}))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == (64, 64, 4) and first.dtype == np.float32
    assert np.isfinite(first).all() and first.min() >= 0 and first[..., 3].max() <= 1
    if kind == "scenery":
        assert first[..., 3].min() == 1
    else:
        assert SMALLEST_COVER * 0.5 < first[..., 3].mean() < 0.9


def test_a_lit_card_reflects_no_more_than_it_gets() -> None:
    drawing = spec.Drawing(kind="scenery", seed=4, resolution=64, aspect=2.0)
    for unlit in (False, True):
        card = spec.Card(type="card", drawing=drawing, unlit=unlit)
        (item,) = build(scene(card), {}).items
        surface = item.surfaces[0]
        light = surface.emission if unlit else surface.base_color
        assert not isinstance(light, tuple)
        assert light.pixels.shape == (64, 128, 3)
        assert (light.pixels.max() > 1) == unlit


def test_a_card_has_one_source() -> None:
    with pytest.raises(ValidationError, match="exactly one of 'image', 'sequence' and 'drawing'"):
        spec.Card(type="card", drawing=spec.Drawing(), image=spec.FileRef(name="a.png"))


def test_new_fields_of_cards_are_left_out_at_their_defaults() -> None:
    card = spec.Card(type="card", image=spec.FileRef(name="a.png"))
    assert not {"drawing", "opaque", "bend_deg"} & set(card.model_dump())
