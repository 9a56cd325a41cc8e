"""How close do renderers without weights come to the truth, and what do they cost?

On a corpus, every renderer by its name against the rendered bokeh of every target. Clips hold light clipped
at display white, so a lamp's disc is lost to all of them alike and drowns what they differ in. Hence two
figures: over all pixels, and over those that no clipped pixel's light can reach (its disc, 1.5 px wider). The
corpus is taken to have ideal lenses and blurred light.

With ``--cards``, on a stage of flat cut-outs whose bokeh the plane tracer makes, and whose layers are
rendered one by one for the oracle, with what they hide and a margin beyond the frame. Its lamps are display
white, so nothing is clipped.

Run it from the root of the repository: ``python -m tests.benchmarks.baselines --corpus runs/demo`` (a minute)
or ``--cards`` (some minutes). Figures are PSNR of the 8-bit video, the mean over targets; times are CPU
seconds of one thread.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from focuspull.dataset.color import encode_display, psnr_db, to_uint8
from focuspull.dataset.reader import CorpusReader
from focuspull.model.baselines.lens import scatter
from focuspull.model.baselines.oracle import LayerStack
from focuspull.model.renderer import get_renderer, renderer_names
from focuspull.render import spec
from focuspull.render.frames import Frames
from tests.benchmarks.agreement import Files
from tests.benchmarks.cards import stage
from tests.benchmarks.lenses import labelled
from tests.rendering import render

CLIPPED = 254
"""8-bit values from here on may have been brighter than white."""
NEIGHBOUR_PX = 1.5
NUM_CARDS = 4
MARGIN_PX = 24


@dataclass(frozen=True)
class Case:
    """A video with its truth.

    Attributes:
        name: For the tables.
        aif: ``[T, H, W, 3]`` uint8 sRGB.
        truth: Likewise.
        disparity: ``[T, H, W]``.
        k: ``[T]``.
        focus_disparity: ``[T]``.
        stack: True layers, if they are known.
    """

    name: str
    aif: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    disparity: NDArray[np.float32]
    k: NDArray[np.float32]
    focus_disparity: NDArray[np.float32]
    stack: LayerStack | None = None

    def render(self, name: str) -> NDArray[np.uint8]:
        """The video ``[T, H, W, 3]`` that a renderer makes."""
        options = {"stack": self.stack} if name == "oracle-layers" else {}
        bokeh = get_renderer(name, **options)(
            _tensor(self.aif).permute(0, 3, 1, 2)[None].float() / 255,
            _tensor(self.disparity)[None, :, None],
            _tensor(self.k)[None],
            _tensor(self.focus_disparity)[None],
        )
        return to_uint8(bokeh[0].permute(0, 2, 3, 1).numpy())

    def reached_by_clipped(self) -> NDArray[np.bool_]:
        """``[T, H, W]``: where light of pixels that may have been brighter than white can arrive."""
        result = np.zeros(self.disparity.shape, np.bool_)
        for t, frame in enumerate(self.aif):
            clipped = cv2.dilate((frame >= CLIPPED).any(-1).astype(np.float32), np.ones((3, 3)))
            radius = np.abs(self.k[t] * (self.disparity[t] - self.focus_disparity[t])) + NEIGHBOUR_PX
            result[t] = scatter(_tensor(clipped)[None], _tensor(radius))[0].numpy() > 1e-5
        return result


def _tensor(array: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def corpus_cases(folder: Path, num_frames: int) -> list[Case]:
    """Every target of a corpus, some frames of each."""
    reader = CorpusReader(folder)
    cases = []
    for row in reader.rows:
        frames = np.unique(np.linspace(0, row.num_frames - 1, num_frames).round().astype(int)).tolist()
        for target in range(row.num_targets):
            sample = reader.sample(row, target=target, frames=frames)
            cases.append(
                Case(
                    name=f"{row.key} bokeh{target}",
                    aif=sample.aif,
                    truth=sample.bokeh,
                    disparity=sample.disparity,
                    k=sample.k,
                    focus_disparity=sample.focus_disparity,
                )
            )
    return cases


def card_case(k_at_1024: float, width: int) -> Case:
    """The stage of `tests.benchmarks.cards`: focus near, in the middle and far, one frame each."""
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))
        whole = stage(files, NUM_CARDS, width=width, num_frames=3, k_at_1024=k_at_1024, lamp=1.0)
        parts = [_alone(whole, i, radiance) for i in range(NUM_CARDS) for radiance in (0.0, 1.0)]
        frames, *alone = render("mitsuba", whole, *parts, files=files.paths)
    layers = [
        _layer(frames, over_black, over_white)
        for over_black, over_white in zip(alone[::2], alone[1::2], strict=True)
    ]
    sky = whole.world.environment.model_dump()["radiance"]
    light, alpha, disparity = (np.stack(arrays, 1) for arrays in zip(*layers, strict=True))
    backdrop = np.broadcast_to(np.array(sky, np.float32), light[:, :1].shape)
    stack = LayerStack(
        _tensor(np.concatenate([light, backdrop], 1)).permute(0, 1, 4, 2, 3)[None],
        _tensor(np.concatenate([alpha, np.ones_like(alpha[:, :1])], 1))[None, :, :, None],
        _tensor(np.concatenate([disparity, np.zeros_like(disparity[:, :1])], 1))[None, :, :, None],
        margin_px=MARGIN_PX,
    )
    return Case(
        name=f"cards, K {k_at_1024:g} at 1024",
        aif=to_uint8(encode_display(frames.aif)),
        truth=to_uint8(encode_display(frames.bokeh[0])),
        disparity=frames.disparity,
        k=frames.k[0].astype(np.float32),
        focus_disparity=frames.focus_disparity[0].astype(np.float32),
        stack=stack,
    )


def _alone(whole: spec.SceneSpec, index: int, radiance: float) -> spec.SceneSpec:
    """One card of a scene, on a film with a margin and the same pixel grid."""
    fields = whole.model_dump()
    fields["world"]["objects"] = [fields["world"]["objects"][index]]
    fields["world"]["environment"] = {"type": "constant", "radiance": (radiance,) * 3}
    film, camera = fields["film"], fields["world"]["camera"]
    width = film["width"] + 2 * MARGIN_PX
    camera["sensor_width_mm"] *= width / film["width"]
    film["height"] += 2 * MARGIN_PX
    film["width"] = width
    target = {"k_at_1024": (0.0,) * film["num_frames"], "focus": [{"frame": 0, "disparity": 0.5}]}
    fields["targets"] = [target]
    fields["quality"]["bokeh_samples"] = 1
    return spec.SceneSpec.model_validate(fields)


def _layer(
    whole: Frames, black: Frames, white: Frames
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Light ``[T, h, w, 3]``, alpha and disparity of a card, from images of it over black and over white."""
    alpha = np.clip(1 - (white.aif - black.aif).mean(-1), 0, 1)
    light = black.aif / np.maximum(alpha, 1e-6)[..., None] * (alpha > 1e-4)[..., None]
    y, x = np.mgrid[: alpha.shape[1], : alpha.shape[2]].astype(np.float64)
    grid = np.stack([x, y, np.ones_like(x)], -1)
    disparity = np.empty_like(alpha)
    for t in range(len(alpha)):
        # 1/z is linear over the image of a plane, so it is known beyond the card, too.
        seen = black.instance[t] > 0
        inverse = black.disparity_map.offset + black.disparity_map.scale * black.disparity[t][seen]
        plane = np.linalg.lstsq(grid[seen], inverse, rcond=None)[0]
        disparity[t] = (grid @ plane - whole.disparity_map.offset) / whole.disparity_map.scale
    return light.astype(np.float32), alpha.astype(np.float32), disparity


def sheet(case: Case, names: Sequence[str], frame: int) -> NDArray[np.uint8]:
    """AIF, truth and every renderer, each with four times its difference from the truth, RGB."""
    rows = [("all in focus", case.aif[frame]), ("truth", case.truth[frame])]
    rows += [(name, case.render(name)[frame]) for name in names]
    tiles = []
    for name, image in rows:
        apart = np.clip(np.abs(image.astype(np.int16) - case.truth[frame]) * 4, 0, 255).astype(np.uint8)
        text = f"{case.name}, frame {frame}: {name}, {psnr_db(image, case.truth[frame]):.1f} dB"
        tiles.append(np.hstack([labelled(image, text), labelled(apart, "4 x difference from the truth")]))
    if len(tiles) % 2:
        tiles.append(np.zeros_like(tiles[0]))
    return np.vstack([np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)])


def main() -> None:
    """Prints the table; fails if what knows more is not better."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--corpus", type=Path, help="folder of a rendered corpus")
    what.add_argument("--cards", action="store_true", help="render a stage of cards, and its true layers")
    parser.add_argument("--frames", type=int, default=2, help="of each clip of the corpus")
    parser.add_argument("--k-at-1024", type=float, default=32.0, help="of the cards' clip")
    parser.add_argument("--width", type=int, default=448, help="of the cards' clip, pixels")
    parser.add_argument("--sheet", type=Path, help="picture of all results for one target")
    parser.add_argument("--sheet-case", type=int, default=0, help="which target, from 0")
    parser.add_argument("--sheet-frame", type=int, default=0, help="which of its frames, from 0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.cards:
        cases = [card_case(options.k_at_1024, options.width)]
    else:
        cases = corpus_cases(options.corpus, options.frames)
    names = [*renderer_names(), *(["oracle-layers"] if options.cards else [])]

    print(f"| renderer | {' | '.join(case.name for case in cases)} | mean | not clipped | CPU s per frame |")
    print("|---|" + "---|" * (len(cases) + 3))
    reached = [case.reached_by_clipped() for case in cases]
    score: dict[str, float] = {}
    for name in names:
        seconds, decibels, unclipped = 0.0, [], []
        for case, lit in zip(cases, reached, strict=True):
            started = time.process_time()
            found = case.render(name)
            seconds += time.process_time() - started
            decibels.append(psnr_db(found, case.truth))
            unclipped.append(psnr_db(found[~lit], case.truth[~lit]) if (~lit).any() else math.nan)
        score[name] = float(np.nanmean(unclipped))
        cells = [f"{db:.1f}" for db in decibels] + [f"{np.mean(decibels):.2f}", f"{score[name]:.2f}"]
        seconds /= sum(len(case.aif) for case in cases)
        print(f"| {name} | {' | '.join(cells)} | {seconds:.2f} |", flush=True)

    if options.sheet:
        picture = sheet(cases[options.sheet_case], names, options.sheet_frame)
        cv2.imwrite(str(options.sheet), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    ranking = ["identity", "gather", "mpi-32-fill", "layers", *(["oracle-layers"] if options.cards else [])]
    wrong = [
        f"{b} is not better than {a}"
        for a, b in zip(ranking, ranking[1:], strict=False)
        if not score[b] > score[a]
    ]
    if wrong:
        raise SystemExit("; ".join(wrong))


if __name__ == "__main__":
    main()
