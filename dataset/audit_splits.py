"""What all clips of a corpus are together: who shares what with whom, and which K and focus there are.

Leakage, between two splits: the same scene, the same pixels, or the same file. Twice the same clip is a fault
in one split too. A scene is its ``world``: another seed, other samples or other targets do not make it
another one. Files are known by their SHA-256, as scenes name them: meshes, images, HDRIs. The HDRIs that come
with Blender (their names start with ``bpy:``) are exempt and counted: there are eight, every family lights
its scenes with them, and a split without any in common with another could not be made.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np

from focuspull.dataset.clip import ClipMeta, canonical_json
from focuspull.dataset.markers import ClipEntry
from focuspull.dataset.scene_files import BUNDLED_PREFIX, scene_files

FOCUS_BINS = 10
"""Equal parts of [0, 1] in which the disparities in focus are counted."""
K_BINS_PER_OCTAVE = 2
"""Parts of a doubling of K in which its values are counted, between the smallest and the largest of the
corpus."""
VIDEOS_PER_BIN = 10
"""Videos per bin from which an empty one is a hole: if they were spread evenly, chance would leave one empty
in e^-10, 1 of 20000."""


@dataclass
class Corpus:
    """What is gathered, clip by clip; memory grows by a few hundred bytes per clip.

    Args:
        problems: Duplicates and leaks, found when the second clip of a pair comes.
        focus: Videos with a frame in focus in each of `FOCUS_BINS`.
        k: Videos with such a K at 1024 px, by ``floor(K_BINS_PER_OCTAVE log2 k)``; K of 0 is not counted.
        num_clips: Clips gathered.
        num_videos: Their bokeh videos.
        num_files: Different files that scenes name, bundled ones included.
        shared_bundled: Bundled files in more than one split.
        floors_db: Recorded noise floors of AIF and bokeh videos, dB.
        num_without_floor: Videos of which none is recorded.
    """

    problems: list[str] = field(default_factory=list)
    focus: list[int] = field(default_factory=lambda: [0] * FOCUS_BINS)
    k: dict[int, int] = field(default_factory=dict)
    num_clips: int = 0
    num_videos: int = 0
    floors_db: list[float] = field(default_factory=list)
    num_without_floor: int = 0
    shared_bundled: set[str] = field(default_factory=set)
    _seen: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    _files: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def num_files(self) -> int:
        """Different files that scenes name, bundled ones included."""
        return len(self._files)

    def add(self, shard: str, clip: ClipEntry, meta: ClipMeta) -> None:
        """Take up one clip.

        Args:
            shard: File name of its shard, for messages.
            clip: Its entry in the shard's marker.
            meta: Its metadata.
        """
        self.num_clips += 1
        self._add_identity(f"{shard}, {clip.key}", clip, meta)
        self._add_files(f"{shard}, {clip.key}", meta)
        for floor in meta.sampling.noise_floor_db:
            if floor is None:
                self.num_without_floor += 1
            else:
                self.floors_db.append(floor)
        for target in meta.targets:
            self.num_videos += 1
            for part in {min(FOCUS_BINS - 1, int(FOCUS_BINS * d)) for d in target.focus_disparity}:
                self.focus[part] += 1
            for part in {math.floor(K_BINS_PER_OCTAVE * math.log2(k)) for k in target.k_at_1024 if k > 0}:
                self.k[part] = self.k.get(part, 0) + 1

    def _add_identity(self, where: str, clip: ClipEntry, meta: ClipMeta) -> None:
        """Report what an earlier clip has already been; one line, the strongest."""
        streams = {member.name.split(".")[0] for member in clip.members} - {"json"}
        pixels = _digest([m.sha256 for m in clip.members if m.name != "json"])
        aif = _digest([m.sha256 for m in clip.members if m.name.startswith("aif.")])
        world = meta.scene.get("world")
        shown = hashlib.sha256(canonical_json(world if isinstance(world, dict) else meta.scene)).hexdigest()
        identities = [
            ("pixels", pixels, f"the same pixels in all {len(streams)} streams", True),
            ("scene", clip.scene_sha256, "the same scene_sha256", True),
            ("aif", aif, "the same all-in-focus video", False),
            ("world", shown, "the same world in its scene", False),
        ]
        reported = False
        for kind, digest, what, always in identities:
            first, split = self._seen.setdefault((kind, digest), (where, meta.split))
            if first == where or reported or not (always or split != meta.split):
                continue
            reported = True
            splits = sorted({split, meta.split})
            places = f"split{'s' * (len(splits) > 1)} {' and '.join(splits)}"
            self.problems.append(
                f"{where}: must be a clip of its own, has {what} as {first} ({places}). Remove one of the "
                "two, or render it with another seed."
            )

    def _add_files(self, where: str, meta: ClipMeta) -> None:
        for name, sha256 in sorted(set(scene_files(meta.scene))):
            splits = self._files.setdefault(sha256, {})
            if meta.split in splits:
                continue
            if splits:
                if name.startswith(BUNDLED_PREFIX):
                    self.shared_bundled.add(sha256)
                else:
                    split, first = next(iter(splits.items()))
                    self.problems.append(
                        f"{where}: its file {name} (SHA-256 {sha256[:12]}) must be in one split, is in "
                        f"{meta.split} and, with {first}, in {split}. Give the splits files of their own, or "
                        "make new splits with: focuspull-dataset split"
                    )
            splits[meta.split] = where


def _digest(hashes: list[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def focus_holes(corpus: Corpus) -> list[str] | None:
    """Parts of [0, 1] in which no video ever focuses; None if there are too few videos to say."""
    if corpus.num_videos < VIDEOS_PER_BIN * FOCUS_BINS:
        return None
    edges = np.linspace(0.0, 1.0, FOCUS_BINS + 1)
    return [f"{edges[i]:.1f} to {edges[i + 1]:.1f}" for i, count in enumerate(corpus.focus) if count == 0]


def k_holes(corpus: Corpus) -> list[str] | None:
    """Ranges of K at 1024 px without a video, from the smallest to the largest; None if too few to say."""
    if not corpus.k or corpus.num_videos < VIDEOS_PER_BIN * (max(corpus.k) - min(corpus.k) + 1):
        return None
    return [
        f"{2 ** (i / K_BINS_PER_OCTAVE):.3g} to {2 ** ((i + 1) / K_BINS_PER_OCTAVE):.3g}"
        for i in range(min(corpus.k), max(corpus.k) + 1)
        if i not in corpus.k
    ]
