"""The corpus audit: whether the stored pixels obey the physics that the metadata claim.

`focuspull.dataset.check` verifies bytes and metadata; this measures. Of clips drawn by seed it measures the
blur radius against ``r = K |d - d_f|`` (`audit_blur`) and the picture in focus (`audit_focus`), the order of
frames (`audit_order`) and the disparity (`audit_disparity`); of all clips it compares identities and files
across splits and counts K and focus (`audit_splits`); `audit_verdicts` says what it
means. Every tolerance is a
constant there, with its reason. What cannot be measured is counted as such and never passes for measured.
Memory is bounded by one clip.

A fault is named once, by the check that is about it: where the disparity or the order of frames is wrong,
blur is not measured against them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from focuspull.dataset.audit_blur import BlurScale, measure_blur
from focuspull.dataset.audit_disparity import lattice_bits, measure_hardness, measure_steadiness
from focuspull.dataset.audit_focus import Focus, measure_focus
from focuspull.dataset.audit_order import measure_order
from focuspull.dataset.audit_report import Audit, ClipAudit
from focuspull.dataset.audit_splits import Corpus
from focuspull.dataset.audit_verdicts import conclude
from focuspull.dataset.clip import DecodedClip, decode_clip, decode_meta
from focuspull.dataset.errors import UserError
from focuspull.dataset.markers import committed_names, read_marker, read_members

__all__ = ["Audit", "audit_corpus"]

NUM_FRAMES = 6
"""Frames of a clip in which blur is measured, evenly spaced: tiles of one place say the same again and
again."""


def audit_corpus(corpus: Path, *, max_clips: int, seed: int) -> Audit:
    """Measure whether a corpus obeys its own physics.

    Args:
        corpus: Folder with shards and markers.
        max_clips: Clips whose pixels are measured, at most; identities and coverage are those of all clips.
        seed: Of the draw of clips; the same seed draws the same clips.

    Returns:
        The measurements. Clips that cannot be read are problems, not errors.

    Raises:
        UserError: If there is no such folder, or it has no committed shard.
    """
    if not corpus.is_dir():
        raise UserError(f"{corpus}: is not a folder. Give the folder of a corpus.")
    if not (names := committed_names(corpus)):
        raise UserError(f"{corpus}: has no committed shard. Give the folder of a corpus.")
    unread: list[str] = []
    gathered = Corpus()
    readable: list[tuple[str, str]] = []
    for name in names:
        try:
            marker = read_marker(corpus, name)
        except UserError as error:
            unread.append(str(error))
            continue
        for entry in marker.clips:
            try:
                meta = decode_meta(read_members(corpus, marker, entry.key, ["json"])["json"])
            except (UserError, ValueError) as error:
                unread.append(_unread(corpus, name, entry.key, error))
                continue
            gathered.add(marker.shard, entry, meta)
            readable.append((name, entry.key))
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    drawn = sorted(rng.choice(len(readable), size=min(max_clips, len(readable)), replace=False).tolist())

    measured: list[ClipAudit] = []
    for name, key in (readable[index] for index in drawn):
        try:
            marker = read_marker(corpus, name)
            clip = decode_clip(read_members(corpus, marker, key))
        except (UserError, ValueError) as error:
            unread.append(_unread(corpus, name, key, error))
            continue
        measured.append(_audit_clip(f"{marker.shard}, {key}", clip))
    audit = Audit(corpus)
    conclude(audit, measured, gathered, unread)
    return audit


def _unread(corpus: Path, name: str, key: str, error: Exception) -> str:
    return (
        f"{name}.tar, {key}: cannot be read: {str(error).rstrip('.')}. "
        f"See what else is damaged with: focuspull-dataset check {corpus}"
    )


def _audit_clip(where: str, clip: DecodedClip) -> ClipAudit:
    steadiness = measure_steadiness(clip)
    hardness = measure_hardness(clip)
    orders = measure_order(clip)
    last = clip.meta.num_frames - 1
    frames = sorted({round(last * i / max(1, NUM_FRAMES - 1)) for i in range(NUM_FRAMES)})
    reason = None
    if steadiness.unsteady or hardness.fits or hardness.is_soft:
        reason = "disparity is wrong"
    blurs, focuses = [], []
    for index, (target, order) in enumerate(zip(clip.meta.targets, orders, strict=True)):
        # If every frame fits another one better, it may be the whole video that is not where it should be.
        few = 0 < len(order.misplaced) <= clip.meta.num_frames / 2
        why = "frames are out of order" if few else reason
        if why:
            blurs.append(BlurScale(target.name, None, None, 0, why))
            focuses.append(Focus(target.name, 0))
        else:
            blurs.append(measure_blur(clip, index, frames))
            focuses.append(measure_focus(clip, index, frames))
    bits = lattice_bits(clip.disparity)
    return ClipAudit(where, clip.meta, steadiness, hardness, bits, orders, blurs, focuses)
