"""A corpus without files: cards before a background, made anew whenever a window of them is asked for.

    corpora = [CorpusReader("corpora/tabletop", split="train"), CardsCorpus(CardsSpec(), split="train")]
    loader = Loader(corpora, weights=[1, 1], window=Window(num_frames=8), batch_size=4, seed=0, num_workers=8)

Earlier papers trained on such composites: cut-outs on planes of disparity. Here they lean, move, have soft
edges and detail of all scales, and lamps far over white, and the truth is that of lens rays in linear light
(`focuspull.dataset.cards_lens`) with all that is hidden, not a blur of the all-in-focus image. There is no
shading, no shadow and no reflection, and nothing is round: it is meant beside path-traced clips.

A clip is a function of the seed of its spec, split and number, the same in any order, thread or process, with
one version of NumPy and OpenCV and CPUs that round alike; its scene does not depend on the number of targets.
The user's own pictures are told apart by their names and sizes in bytes. Disparity and instance are those of
the nearest card that is at least half opaque.

What a window costs grows with pixels, frames, cards and points of the lens. With six cards and the default
spec otherwise, one core (EPYC) takes 45 ms for 4 frames of 96x64, 0.25 s of 256x144, 1.4 s of 512x288.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.cards_lens import see_through_lens, see_through_pinhole
from focuspull.dataset.cards_scene import (
    CardsSpec,
    random_generator,
    random_scene,
    random_target,
    what_is_seen,
)
from focuspull.dataset.clip import canonical_json
from focuspull.dataset.color import encode_display, to_uint8
from focuspull.dataset.documents import read_document, validated
from focuspull.dataset.errors import UserError
from focuspull.dataset.reader import ClipRow, Sample

ADDRESS = "cards"
"""What stands for the folder of this corpus: ``cards``, or ``cards:PATH.yaml`` with a spec of one's own."""
_VERSION = 1
"""Goes up when the same spec gives other pixels, so that no run goes on with them unnoticed."""
_CLIPS_PER_SHARD = 100


@dataclass
class _Nowhere:
    address: str

    def path(self, name: str) -> str:
        return self.address


class CardsCorpus:
    """Clips of cards, in the place of a `focuspull.dataset.reader.CorpusReader`; threads may share it.

    Args:
        spec: What they are like.
        split: Name of a split; clips of two splits have nothing in common but the user's pictures.
        address: What it is called in messages.

    Raises:
        UserError: If a folder of pictures has none.
    """

    def __init__(self, spec: CardsSpec, *, split: str, address: str = ADDRESS) -> None:
        self.spec = spec
        self.folder = _Nowhere(address)
        self._split = split
        self._cutouts = _pictures(spec.cutouts, f"{address}: cutouts")
        self._backgrounds = _pictures(spec.backgrounds, f"{address}: backgrounds")
        files = [(path.name, path.stat().st_size) for path in self._cutouts + self._backgrounds]
        # Neither the number of clips nor where the pictures lie changes a clip.
        facts = spec.model_dump(mode="json", exclude={"num_clips", "num_held_out", "cutouts", "backgrounds"})
        facts |= {"version": _VERSION, "split": split, "files": files}
        digest = hashlib.sha256(canonical_json(facts)).hexdigest()
        self.rows: list[ClipRow] = [
            ClipRow(
                key=f"cards-{number:06d}",
                split=split,
                shard=f"{split}-{number // _CLIPS_PER_SHARD:06d}.tar",
                num_frames=spec.num_frames,
                num_targets=spec.num_targets,
                members_sha256=digest,
            )
            for number in range(spec.num_clips if split == "train" else spec.num_held_out)
        ]
        """The clips. All have one hash: of what, besides their names, they depend on."""

    def sample(self, row: ClipRow, *, target: int, frames: Sequence[int], instance: bool = False) -> Sample:
        """Make a window.

        Args:
            row: One of `rows`.
            target: Number of the target.
            frames: Frame numbers, any.
            instance: Whether instance ids are wanted; 0 is the background.

        Raises:
            UserError: If one of the user's pictures cannot be used.
            ValueError: If the clip has no such target or frame.
        """
        spec = self.spec
        if not 0 <= target < spec.num_targets or not all(0 <= f < spec.num_frames for f in frames):
            raise ValueError(
                f"{row.key}: has targets 0 to {spec.num_targets - 1} and frames 0 to {spec.num_frames - 1}, "
                f"asked for target {target} and frames {list(frames)}"
            )
        number = int(row.key.rpartition("-")[2])
        scene = random_scene(
            random_generator(spec, self._split, number, 0), spec, self._cutouts, self._backgrounds
        )
        lens = random_target(random_generator(spec, self._split, number, 1 + target), spec, scene)
        shape = (len(frames), spec.height, spec.width)
        # As `CorpusReader` has them: planes behind the usual order of axes.
        aif, bokeh = (np.empty((shape[0], 3, *shape[1:]), np.uint8).transpose(0, 2, 3, 1) for _ in range(2))
        disparity, ids = np.empty(shape, np.float32), np.empty(shape, np.uint16)
        for i, frame in enumerate(frames):
            layers = scene.layers(frame)
            disparity[i], ids[i] = what_is_seen(layers)
            aif[i] = _displayed(see_through_pinhole(layers))
            bokeh[i] = _displayed(
                see_through_lens(
                    layers,
                    k=float(lens.k[frame]),
                    focus_disparity=float(lens.focus_disparity[frame]),
                    max_points=spec.lens_samples,
                    turn=float(lens.turns[frame]),
                )
            )
        return Sample(
            key=row.key,
            target=target,
            frames=tuple(frames),
            aif=aif,
            bokeh=bokeh,
            disparity=disparity,
            instance=ids if instance else None,
            k=lens.k[list(frames)],
            focus_disparity=lens.focus_disparity[list(frames)],
        )


def is_cards(address: str) -> bool:
    """Whether an address means cards; a folder of that name is ``./cards``."""
    return address == ADDRESS or address.startswith(f"{ADDRESS}:")


def open_cards(address: str, *, split: str) -> CardsCorpus:
    """The clips that ``cards`` or ``cards:PATH.yaml`` stand for.

    Raises:
        UserError: If the spec cannot be read or is not one, or a folder of pictures has none.
    """
    name = address.removeprefix(ADDRESS).removeprefix(":")
    spec = CardsSpec()
    if name:
        path = Path(name)
        hint = f"Give fields of a CardsSpec, such as 'width: {spec.width}'."
        spec = validated(CardsSpec, read_document(path, hint), path.name)
    elif address != ADDRESS:
        raise UserError(f"{address}: names no spec. Write cards for the default one, or cards:PATH.yaml.")
    return CardsCorpus(spec, split=split, address=address)


def _pictures(folder: Path | None, where: str) -> list[Path]:
    if folder is None:
        return []
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() == ".png")
    if not found:
        raise UserError(f"{where}: {folder} has no PNG files. Give a folder that has.")
    return found


def _displayed(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    return to_uint8(encode_display(light))
