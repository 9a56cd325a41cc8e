"""Cards: the same clip every time, discs of the right size, and the truth of lens rays."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from focuspull.dataset.cards import CardsCorpus, open_cards
from focuspull.dataset.cards_lens import Layer, Plane, see_through_lens, see_through_pinhole
from focuspull.dataset.cards_scene import (
    CardsSpec,
    random_generator,
    random_scene,
    random_target,
    what_is_seen,
)
from focuspull.dataset.color import encode_display, psnr_db
from focuspull.dataset.corpus import Corpus
from focuspull.dataset.errors import UserError
from focuspull.dataset.loader import Batch, Loader, Window
from focuspull.dataset.perturb import PRESETS
from focuspull.dataset.reader import CorpusReader, Sample
from focuspull.dataset.transforms import Transform
from focuspull.model.baselines.oracle import LayerStack, OracleLayers

SPEC = CardsSpec(num_clips=12, num_targets=2, width=48, height=32, num_frames=6)
ARRAYS = ("aif", "bokeh", "disparity", "instance", "k", "focus_disparity")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def cards(split: str = "train", **changes: Any) -> CardsCorpus:
    return CardsCorpus(CardsSpec.model_validate(SPEC.model_dump() | changes), split=split)


def window(corpus: CardsCorpus, number: int, *, target: int = 0, frames: Sequence[int] = (1, 2, 3)) -> Sample:
    return corpus.sample(corpus.rows[number], target=target, frames=frames, instance=True)


def same(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ARRAYS)


def loader(corpora: Sequence[Corpus], **options: Any) -> Loader:
    options = {"window": Window(num_frames=2), "batch_size": 2, "seed": 0} | options
    return Loader(corpora, **options)


def batches(loader: Loader, number: int) -> list[Batch]:
    return list(itertools.islice(loader, number))


def equal(a: Batch, b: Batch) -> bool:
    tensors = ("corpora", "targets", "frames", "aif", "bokeh", "disparity", "k", "focus_disparity")
    return a.keys == b.keys and all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)


def layer(
    colour: Sequence[float], alpha: np.ndarray | None, plane: Plane, *, size: tuple[int, int], margin: int
) -> Layer:
    """A card of a colour, wavy so that its blur can be seen."""
    y, x = np.mgrid[0 : size[0] + 2 * margin, 0 : size[1] + 2 * margin]
    waves = 0.65 + 0.35 * np.sin(x * 0.6) * np.sin(y * 0.5)
    light = (waves[..., None] * np.array(colour)).astype(np.float32)
    return Layer(light if alpha is None else light * alpha[..., None], alpha, plane, margin)


def square(size: tuple[int, int], margin: int, side: int) -> np.ndarray:
    """Opacity of a square in the middle with edges of two pixels."""
    y, x = np.mgrid[0 : size[0] + 2 * margin, 0 : size[1] + 2 * margin].astype(np.float32)
    inside = side / 2 - np.maximum(abs(x - x.mean()), abs(y - y.mean()))
    return (0.5 + inside / 2).clip(0, 1).astype(np.float32)


def test_a_clip_depends_on_seed_split_and_number_alone():
    corpus = cards()
    alone = [window(corpus, n) for n in range(6)]
    with ThreadPoolExecutor(3) as pool:
        threaded = list(pool.map(lambda n: window(cards(), n), reversed(range(6))))[::-1]
    assert all(same(a, b) for a, b in zip(alone, threaded, strict=True))
    for other in (cards("val"), cards(seed=1)):
        assert not any(same(window(other, n), alone[m]) for n in range(3) for m in range(6))
    # Neither the window nor the number of targets or clips changes what a frame shows.
    part = window(cards(num_targets=7, num_clips=1000), 4, frames=[2])
    assert np.array_equal(part.aif[0], alone[4].aif[1]) and np.array_equal(part.bokeh[0], alone[4].bokeh[1])


def test_targets_share_what_the_pinhole_sees():
    a, b = (window(cards(), 3, target=p) for p in range(2))
    for name in ("aif", "disparity", "instance"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert not np.array_equal(a.bokeh, b.bokeh) and not np.array_equal(a.k, b.k)


@pytest.mark.parametrize("radius", [0.7, 1.5, 3.0, 6.0, 12.0, 20.0])
@pytest.mark.parametrize("max_points", [48, 128, 1024])
def test_a_point_becomes_a_disc_of_the_radius_asked_for(radius: float, max_points: int):
    light = np.zeros((97, 97, 3), np.float32)
    light[48, 48] = 1000
    point = Layer(light, None, Plane(0.7), 24)
    image = see_through_lens([point], k=2 * radius, focus_disparity=0.2, max_points=max_points, turn=0.3)
    y, x = np.mgrid[-24:25, -24:25]
    share = image[..., 0] / 1000
    assert share.sum() == pytest.approx(1, abs=2e-3)
    assert np.sqrt(2 * (share * (x**2 + y**2)).sum()) == pytest.approx(radius, rel=0.04)
    assert share[np.hypot(x, y) > radius + 2].sum() < 0.01 + 0.0002 * radius**2 * (max_points < 100)
    if radius >= 6 and max_points == 1024:
        inside = share[np.hypot(x, y) < radius - 2]
        assert inside.std() < 0.1 * inside.mean()


def test_pinholes_and_planes_in_focus_are_left_as_they_are():
    size, margin = (32, 48), 12
    far = layer([0.8, 0.5, 0.2], None, Plane(0.1), size=size, margin=margin)
    near = layer([0.2, 0.4, 0.9], square(size, margin, 16), Plane(0.8), size=size, margin=margin)
    sharp = see_through_pinhole([far, near])
    options: dict[str, Any] = {"max_points": 128, "turn": 0.1}
    np.testing.assert_array_equal(see_through_lens([far, near], k=0, focus_disparity=0.5, **options), sharp)
    focused = see_through_lens([far, near], k=10, focus_disparity=0.8, **options)
    np.testing.assert_allclose(focused[10:22, 18:30], sharp[10:22, 18:30], atol=1e-5)
    assert np.abs(focused - sharp)[:6].max() > 0.1


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.004, -0.002)])
@pytest.mark.parametrize("focus", [0.15, 0.5, 0.85])
def test_rays_agree_with_the_oracle_of_the_benchmark(slope: tuple[float, float], focus: float):
    """Near over far, a leaning card between: blurred edges in front, sharp edges before blur."""
    size, margin = (48, 64), 20
    shapes: dict[str, Any] = {"size": size, "margin": margin}
    middle_plane = Plane(0.5 - 32 * slope[0] - 24 * slope[1], slope)
    layers = [
        layer([0.9, 0.6, 0.3], None, Plane(0.1, (0.0005 * (slope[0] > 0), 0.0)), **shapes),
        layer([0.1, 0.9, 0.3], np.roll(square(size, margin, 24), (6, 10), (0, 1)), middle_plane, **shapes),
        layer([0.4, 0.3, 3.0], np.roll(square(size, margin, 18), (-8, -9), (0, 1)), Plane(0.9), **shapes),
    ]
    k = 12.0
    found = see_through_lens(layers, k=k, focus_disparity=focus, max_points=1024, turn=0.0)
    alphas = [np.ones_like(one.light[..., 0]) if one.alpha is None else one.alpha for one in layers]
    plain = [
        one.light / np.maximum(alpha[..., None], 1e-6) for one, alpha in zip(layers, alphas, strict=True)
    ]
    y, x = np.mgrid[0 : size[0] + 2 * margin, 0 : size[1] + 2 * margin] - float(margin)
    stack = LayerStack(
        torch.from_numpy(np.stack(plain).transpose(0, 3, 1, 2))[None, None],
        torch.from_numpy(np.stack(alphas))[None, None, :, None],
        torch.from_numpy(np.stack([one.plane.disparity(x, y) for one in layers]).astype(np.float32))[
            None, None, :, None
        ],
        margin,
    )
    shown = torch.from_numpy(encode_display(see_through_pinhole(layers)).transpose(2, 0, 1))[None, None]
    oracle = OracleLayers(stack, num_points=256)
    expected = oracle(shown, shown[:, :, :1], torch.tensor([[k]]), torch.tensor([[focus]]))
    expected = expected[0, 0].permute(1, 2, 0).numpy()
    assert psnr_db(encode_display(found), expected) > 40
    # Few points come close to many.
    few = see_through_lens(layers, k=k, focus_disparity=focus, max_points=64, turn=0.4)
    assert psnr_db(encode_display(few), encode_display(found)) > 38


def test_disparity_and_instance_are_of_what_is_seen():
    size, margin = (32, 48), 4
    shapes: dict[str, Any] = {"size": size, "margin": margin}
    leaning = Plane(0.3, (0.002, 0.001))
    far = layer([1, 0, 0], None, Plane(0.05), **shapes)
    middle = layer([0, 1, 0], square(size, margin, 20), leaning, **shapes)
    near = layer([0, 0, 1], np.roll(square(size, margin, 14), 8, 1), Plane(0.9), **shapes)
    image = see_through_pinhole([far, middle, near])
    disparity, instance = what_is_seen([far, middle, near])
    pure = image.max(-1) > 0.9 * image.sum(-1)
    np.testing.assert_array_equal(instance[pure], image.argmax(-1)[pure])
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    expected = np.choose(instance, [np.full(size, 0.05), leaning.disparity(x, y), np.full(size, 0.9)])
    np.testing.assert_allclose(disparity, expected, atol=1e-6)


@pytest.mark.parametrize("number_of_cards", [0, 1, 16])
def test_few_and_many_cards_fit(number_of_cards: int):
    sample = window(cards(cards=[number_of_cards] * 2), 0)
    assert sample.instance is not None and sample.instance.max() <= number_of_cards
    ends = [
        (sample.disparity[sample.instance == i].min(), sample.disparity[sample.instance == i].max())
        for i in np.unique(sample.instance)
    ]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))


def test_drawn_cards_stay_one_behind_the_other_and_are_well_exposed():
    corpus = cards(width=96, height=64, slanted=1.0, num_frames=48)
    means, areas = [], []
    for number in range(12):
        sample = window(corpus, number, frames=[0, 20, 47])
        assert sample.disparity.min() >= 0 and sample.disparity.max() <= 1
        assert sample.instance is not None
        ends = [
            (sample.disparity[sample.instance == i].min(), sample.disparity[sample.instance == i].max())
            for i in np.unique(sample.instance)
        ]
        assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))
        means.append(sample.aif.mean() / 255)
        areas.append((sample.instance > 0).mean())
        assert sample.aif.std() > 15
    assert 0.25 < np.mean(means) < 0.7 and min(means) > 0.1
    assert 0.1 < np.mean(areas) < 0.8


def test_things_move_smoothly():
    scene = random_scene(random_generator(SPEC, "train", 0, 0), SPEC, [], [])
    for wave in (wave for card in scene.cards for wave in (card.x, card.y, card.zoom, card.disparity)):
        values = np.array([wave.at(t) for t in np.arange(-12, 12)])
        assert np.abs(np.diff(values, 2)).max() <= 0.16 * wave.swing + 1e-9


def test_lenses_cover_their_ranges():
    spec = CardsSpec(num_clips=1, k_at_1024=(10, 40), num_frames=8)
    scene = random_scene(random_generator(SPEC, "train", 1, 0), SPEC, [], [])
    targets = [random_target(random_generator(spec, "train", 1, n), spec, scene) for n in range(1, 200)]
    k = np.stack([target.k for target in targets]) * 1024 / spec.width
    focus = np.stack([target.focus_disparity for target in targets])
    assert 10 <= k.min() < 11 and 37 < k.max() <= 40.001
    assert focus.min() >= 0 and focus.max() <= 1 and focus.std() > 0.1
    assert 0.1 < np.mean(np.ptp(k, 1) > 0.1) < 0.3, "some are ramps"


def test_loader_mixes_cards_with_rendered_clips_and_resumes(corpus: Path):
    def make(**options: Any) -> Loader:
        corpora: list[Corpus] = [CorpusReader(corpus, split="train"), cards()]
        options = {"weights": [1, 3], "transform": Transform(size=(16, 24), flip=0.5)} | options
        return loader(corpora, perturbation=PRESETS["corrected"], **options)

    whole = batches(make(num_workers=2), 8)
    assert {key.partition("-")[0] for batch in whole for key in batch.keys} == {"clip", "cards"}
    assert torch.cat([batch.corpora for batch in whole]).float().mean() == pytest.approx(0.75, abs=0.2)
    for stop in (1, 3, 6):
        before = make()
        batches(before, stop)
        after = make()
        after.load_state_dict(before.state_dict())
        rest = batches(after, 2)
        assert all(equal(a, b) for a, b in zip(rest, whole[stop:], strict=False))
    dealt = [batches(make(batch_size=1, rank=rank, world_size=2), 4) for rank in range(2)]
    assert [batch.keys[0] for pair in zip(*dealt, strict=True) for batch in pair] == [
        key for batch in whole[:4] for key in batch.keys
    ]


def test_other_cards_are_other_data():
    state = loader([cards()]).state_dict()
    loader([cards()]).load_state_dict(state)
    for other in (cards("val"), cards(seed=1), cards(width=64), cards(num_clips=11)):
        with pytest.raises(UserError, match="the data differ from those of the checkpoint"):
            loader([other]).load_state_dict(state)


def test_clips_shorter_than_the_window_are_named():
    with pytest.raises(UserError, match="^cards, cards-000000: has 6 frames, the window needs 9"):
        loader([cards()], window=Window(num_frames=9))
    with pytest.raises(ValueError, match="has targets 0 to 1 and frames 0 to 5, asked for target 2"):
        window(cards(), 0, target=2)


def write_pictures(folder: Path) -> tuple[Path, Path]:
    cutouts, backgrounds = folder / "cutouts", folder / "backgrounds"
    cutouts.mkdir()
    backgrounds.mkdir()
    leaf = np.zeros((40, 60, 4), np.uint8)
    leaf[5:-5, 5:-5] = (0, 0, 255, 255)  # red, as OpenCV writes it
    cv2.imwrite(str(cutouts / "leaf.png"), leaf)
    cv2.imwrite(str(backgrounds / "sky.png"), np.full((50, 100, 3), (255, 0, 0), np.uint8))
    return cutouts, backgrounds


def test_the_users_own_pictures_are_used(tmp_path: Path):
    cutouts, backgrounds = write_pictures(tmp_path)
    corpus = cards(cutouts=cutouts, backgrounds=backgrounds, cards=[3, 3])
    sample = window(corpus, 0)
    assert sample.instance is not None
    assert (sample.aif[sample.instance == 0][:, 2] > 128).mean() > 0.95, "the sky is blue"
    middle = cv2.erode((sample.instance[0] > 0).astype(np.uint8), np.ones((5, 5))) > 0
    red = sample.aif[0][middle]
    assert middle.any() and (red[:, 0] > 60).all() and (red[:, 1:] < 40).all()
    cv2.imwrite(str(cutouts / "leaf.png"), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(UserError, match=r"leaf\.png: is not an 8-bit RGBA PNG .* Convert it"):
        window(corpus, 0)
    (backgrounds / "sky.png").unlink()
    with pytest.raises(UserError, match="^cards: backgrounds: .* has no PNG files"):
        cards(backgrounds=backgrounds)


def test_specs_are_read_from_yaml(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("num_clips: 5\nwidth: 64\ncards: [1, 2]\n")
    corpus = open_cards(f"cards:{path}", split="train")
    assert len(corpus.rows) == 5 and corpus.spec.width == 64
    assert corpus.folder.path("train-000000.tar") == f"cards:{path}"
    assert len(open_cards("cards", split="train").rows) == 100_000
    assert len(open_cards("cards", split="val").rows) == 32
    for text, message in {
        "widht: 64": r"^mine\.yaml: unknown field 'widht'\. Did you mean 'width'\?",
        "cards: [4, 2]": r"^mine\.yaml: cards: must go from small to large in \[0, 16\], got \[4, 2\]",
        "- 3": r"^mine\.yaml: is not a mapping of fields",
    }.items():
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            open_cards(f"cards:{path}", split="train")
    with pytest.raises(UserError, match="^cards:: names no spec"):
        open_cards("cards:", split="train")
