"""Falls: they obey gravity, end on the table, and are the same every time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from focuspull.render import motion, spec
from focuspull.render.families import props
from focuspull.render.geometry import make_mesh
from focuspull.render.physics import GAP_M, Start, at_rest, settled, simulate

PLAIN = spec.MaterialSpec()
TABLE = spec.ObjectSpec(
    name="table", shape=spec.Box(type="box", size_m=(4.0, 4.0, 0.04)), position_m=(0.0, 0.0, -0.02)
)


def thing(name: str, shape: spec.Shape, position_m, rotation_deg=(0.0, 0.0, 0.0), **fields):
    return spec.ObjectSpec(name=name, shape=shape, position_m=position_m, rotation_deg=rotation_deg, **fields)


def ball(radius: float = 0.05) -> spec.Sphere:
    return spec.Sphere(type="sphere", radius_m=radius, segments=24)


def heap(seed: int = 0) -> list[spec.ObjectSpec]:
    """Ten props that fall onto each other."""
    rng = np.random.default_rng(seed)
    kinds = [
        props.ball(0.08, PLAIN),
        props.fruit(0.08, 3, PLAIN),
        props.ring(0.04, PLAIN),
        props.block(0.08, PLAIN),
        props.cone(0.15, PLAIN),
        *(props.turned(name, 0.12, PLAIN) for name in ("vase", "bottle", "cup", "bowl", "pawn")),
    ]
    return [
        thing(
            f"thing-{i}",
            kind.shape,
            (*rng.uniform(-0.15, 0.15, 2).tolist(), 0.2 + 0.12 * i),
            tuple(rng.uniform(0, 360, 3).tolist()),
        )
        for i, kind in enumerate(kinds)
    ]


def falls(bodies, starts=None, **options):
    return simulate(bodies, starts or [Start()] * len(bodies), (TABLE,), **options)


def vertices(item: spec.ObjectSpec, fall: spec.Baked, time_s: float) -> np.ndarray:
    moving = item.model_copy(update={"motion": (fall,)})
    mesh = make_mesh(item.shape).scaled(item.scale)
    return mesh.moved(motion.object_pose(moving, time_s))[0]


def test_a_free_fall_is_a_parabola():
    body = thing("ball", ball(), (0.1, 0.2, 3.0), (10.0, 20.0, 30.0))
    (fall,) = falls([body], [Start(velocity_m_s=(0.5, 0.0, 1.0))], duration_s=0.5)
    t = np.arange(len(fall.positions_m)) / fall.rate_hz
    np.testing.assert_allclose(np.array(fall.positions_m)[:, 0], 0.5 * t, atol=2e-3)
    np.testing.assert_allclose(np.array(fall.positions_m)[:, 2], t - 9.81 / 2 * t**2, atol=5e-3)
    moving = body.model_copy(update={"motion": (fall,)})
    np.testing.assert_allclose(motion.object_pose(moving, 0.0), motion.rest_pose(body), atol=1e-5)


def test_a_spin_is_about_the_worlds_axis():
    body = thing("block", spec.Box(type="box", size_m=(0.1, 0.1, 0.1)), (0, 0, 5), (90.0, 0.0, 0.0))
    (fall,) = falls([body], [Start(spin_deg_s=(0.0, 0.0, 90.0))], duration_s=0.5)
    turned = motion.object_pose(body.model_copy(update={"motion": (fall,)}), 0.5)[:3, :3]
    before = motion.rest_pose(body)[:3, :3]
    c = np.sqrt(0.5)
    np.testing.assert_allclose(turned, np.array([[c, -c, 0], [c, c, 0], [0, 0, 1]]) @ before, atol=5e-3)


@pytest.mark.parametrize("bounce", [0.1, 0.5, 0.8])
def test_a_ball_bounces_about_as_asked_and_never_gains_energy(bounce):
    body = thing("ball", ball(), (0, 0, 0.55))
    (fall,) = falls([body], [Start(bounce=bounce)], duration_s=1.2, rate_hz=240.0)
    height = np.array(fall.positions_m)[:, 2] + 0.5
    hit = int(np.argmax(height < 0.004))
    again = height[hit:].max()
    assert np.sqrt(again / 0.5) == pytest.approx(bounce, abs=0.15)
    assert height.max() <= 0.5 + 1e-6
    speed = np.diff(height) * 240
    energy = 9.81 * (height[1:] + height[:-1]) / 2 + speed**2 / 2
    assert energy.max() < 9.81 * 0.5 * 1.01


def test_a_heap_comes_to_rest_on_the_table_neither_floating_nor_sunk():
    bodies = heap()
    results = falls(bodies, duration_s=4.0)
    lying = [(b, f) for b, f in zip(bodies, results, strict=True) if at_rest(f) and f.positions_m[-1][2] > -3]
    assert len(lying) >= 7
    on_table = 0
    for body, fall in lying:
        lowest = vertices(body, fall, 9.0)[:, 2].min()
        assert lowest > -0.001, "sunk"
        on_table += lowest < GAP_M + 0.0015
    assert on_table >= len(lying) - 2, "others lie on top of these"


def test_nothing_sinks_into_the_table_on_the_way():
    bodies = heap(1)
    for body, fall in zip(bodies, falls(bodies), strict=True):
        for time in np.arange(0, 2.5, 0.05):
            points = vertices(body, fall, float(time))
            over = (np.abs(points[:, :2]) < 1.95).all(axis=1)
            assert points[over, 2].min(initial=1.0) > -0.006


def test_balls_do_not_pass_through_each_other():
    bodies = [thing(f"b{i}", ball(), (0.001 * i, 0.0, 0.06 + 0.12 * i)) for i in range(5)]
    results = falls(bodies)
    at = [np.array([motion.object_pose(b.model_copy(update={"motion": (f,)}), t)[:3, 3] for t in
                    np.arange(0, 2.5, 0.02)]) for b, f in zip(bodies, results, strict=True)]  # fmt: skip
    for i in range(5):
        for j in range(i):
            assert np.linalg.norm(at[i] - at[j], axis=1).min() > 0.1 - 0.004


def test_settled_things_lie_as_they_fell():
    bodies = heap(2)
    for body, fall in zip(bodies, falls(bodies), strict=True):
        lying = settled(body, fall)
        expected = motion.object_pose(body.model_copy(update={"motion": (fall,)}), 99.0)
        np.testing.assert_allclose(motion.rest_pose(lying), expected, atol=2e-5)
        assert lying.motion == ()


@pytest.mark.parametrize(("profile", "height"), [("bowl", 0.08), ("cup", 0.12)])
def test_a_ball_falls_into_a_vessel_and_stays_in_it(profile, height):
    vessel = thing("vessel", props.turned(profile, height, PLAIN).shape, (0.0, 0.0, 0.001))
    marble = thing("marble", ball(0.012), (0.01, 0.0, height + 0.15))
    _, fall = falls([vessel, marble], [Start(density_kg_m3=2000), Start(bounce=0.1)])
    x, y, z = np.add(fall.positions_m[-1], marble.position_m)
    inside = 0.15 if profile == "bowl" else 0.1
    assert 0.9 * inside * height < z - 0.012 < (inside + 0.12) * height
    assert np.hypot(x, y) < 0.6 * height


def test_a_ball_lies_in_the_hole_of_a_ring():
    ring = thing("ring", props.ring(0.06, PLAIN).shape, (0.0, 0.0, 0.031))
    marble = thing("marble", ball(0.02), (0.004, 0.0, 0.2))
    _, fall = falls([ring, marble], [Start(density_kg_m3=3000), Start(bounce=0.1)])
    assert marble.position_m[2] + fall.positions_m[-1][2] == pytest.approx(0.02, abs=0.004)


def test_a_still_thing_gets_few_samples():
    body = thing("block", spec.Box(type="box", size_m=(0.1, 0.1, 0.1)), (0, 0, 0.051))
    (fall,) = falls([body])
    assert len(fall.positions_m) < 20


def test_compounds_and_tilted_grounds_are_taken_as_they_are():
    leg = {"type": "cylinder", "radius_m": 0.02, "height_m": 0.4}
    chair = spec.Compound.model_validate(
        {
            "type": "compound",
            "parts": [
                {"shape": {"type": "box", "size_m": (0.4, 0.4, 0.04)}, "position_m": (0, 0, 0.4)},
                *({"shape": leg, "position_m": (x, y, 0)} for x in (-0.17, 0.17) for y in (-0.17, 0.17)),
            ],
        }
    )
    ground = thing("ground", spec.Plane(type="plane"), (0, 0, 0), (20.0, 0.0, 0.0))
    (fall,) = simulate([thing("chair", chair, (0, 0, 0.3))], [Start(friction=0.1)], (ground,))
    assert fall.positions_m[-1][1] < -0.5, "it slides down"
    (fall,) = simulate([thing("chair", chair, (0, 0, 0.05))], [Start()], (TABLE,))
    assert fall.positions_m[-1][2] == pytest.approx(-0.05 + GAP_M, abs=0.001), "it stands on its legs"
    np.testing.assert_allclose(np.abs(fall.quaternions[-1]), (1, 0, 0, 0), atol=1e-3)


def test_a_mesh_of_unknown_size_is_refused():
    mesh = spec.MeshFile.model_validate({"type": "mesh", "file": "a.glb"})
    with pytest.raises(ValueError, match="height_m"):
        falls([thing("a", mesh, (0, 0, 1))])


OLDER = {
    "OPENBLAS_CORETYPE": "Nehalem",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,-AVX2_Usable,-FMA_Usable",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
}
"""An older processor, as far as BLAS, the C library and numpy are concerned."""


@pytest.mark.parametrize("processor", [{}, OLDER], ids=["same", "older"])
def test_another_process_finds_the_same_bytes(processor):
    code = (
        "import hashlib\n"
        "from tests.render.test_physics import falls, heap\n"
        "print(hashlib.sha256(repr(falls(heap())).encode()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | processor,
    )
    assert done.stdout.strip() == hashlib.sha256(repr(falls(heap())).encode()).hexdigest()
