"""From measurements to verdicts: which of them are within tolerance, and how a fault is worded.

A fault is named once, by the check that is about it; what could not be measured is counted in its row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from focuspull.dataset import audit_blur, audit_disparity, audit_focus, audit_order, audit_splits
from focuspull.dataset.audit_blur import BlurScale
from focuspull.dataset.audit_focus import Focus
from focuspull.dataset.audit_report import Audit, ClipAudit, Row, Verdict, json_ready
from focuspull.dataset.audit_splits import Corpus

MIN_POOLED = 3
"""Videos from which their pooled blur scale means more than theirs alone."""


def conclude(audit: Audit, clips: Sequence[ClipAudit], corpus: Corpus, unread: Sequence[str]) -> None:
    """Fill in table, problems and measurements.

    Args:
        audit: Still empty.
        clips: The clips that were measured.
        corpus: What was gathered of all.
        unread: A problem for everything that could not be read.
    """
    audit.clips = [json_ready(clip) for clip in clips]
    text = f"{len(clips)} of {corpus.num_clips} clips measured"
    _conclude(audit, "clips", text, "all readable", unread, was_measured=True)
    _conclude_blur(audit, clips)
    _conclude_focus(audit, clips, corpus)
    _conclude_order(audit, clips)
    _conclude_disparity(audit, clips)
    _conclude_corpus(audit, corpus)


def _conclude(
    audit: Audit, check: str, measured: str, tolerance: str, problems: Sequence[str], *, was_measured: bool
) -> None:
    """Add a row and its problems."""
    verdict: Verdict = "FAIL" if problems else "ok" if was_measured else "not measured"
    audit.rows.append(Row(check, measured, tolerance, verdict))
    audit.problems.extend(problems)


def _again(audit: Audit, where: str) -> str:
    name = where.split(".tar")[0]
    return (
        f"Render it again with: rm -f {audit.corpus}/{name}.*; focuspull-render run SPEC --out {audit.corpus}"
    )


def _frames(numbers: Collection[int]) -> str:
    """``frame 3``, ``frames 2, 3``, ``frames 0, 1, 2, 3 and 8 more``."""
    shown, more = sorted(numbers)[:4], len(numbers) - 4
    text = ", ".join(str(number) for number in shown)
    return f"frame{'s' * (len(shown) > 1)} {text}" + (f" and {more} more" if more > 0 else "")


def _conclude_blur(audit: Audit, clips: Sequence[ClipAudit]) -> None:
    problems: list[str] = []
    known: list[BlurScale] = []
    left_out: Counter[str] = Counter()
    for clip in clips:
        for target, blur in zip(clip.meta.targets, clip.blurs, strict=True):
            if blur.log_scale is None or blur.standard_error is None:
                left_out[blur.left_out or ""] += 1
                continue
            known.append(blur)
            if blur.is_wrong:
                scale = math.exp(blur.log_scale)
                frame = int(np.argmax(target.k))
                problems.append(
                    f"{clip.where}: {blur.target}, frames 0 to {len(target.k) - 1}: the blur radius must be "
                    f"K |d - d_f|, is {scale:.3f} times that (+- {blur.standard_error:.3f}, {blur.num_tiles} "
                    f"tiles): the metadata say K = {target.k[frame]:.4g} px in frame {frame}, the pixels "
                    f"{scale * target.k[frame]:.4g}. {_again(audit, clip.where)}"
                )
    num_videos = len(known) + sum(left_out.values())
    text = f"{len(known)} of {num_videos} videos"
    if known:
        scales = [math.exp(blur.log_scale or 0.0) for blur in known]
        text += f": {min(scales):.3f} to {max(scales):.3f} times, median {float(np.median(scales)):.3f}"
    text += "".join(f"; {count} not measured: {reason}" for reason, count in sorted(left_out.items()))
    more = (
        "" if all(blur.noise_known for blur in known) else f", + {audit_blur.UNKNOWN_NOISE} for unknown noise"
    )
    tolerance = f"1 +- {audit_blur.CLIP_TOLERANCE:.2f} each{more}"
    _conclude(audit, "blur radius", text, tolerance, problems, was_measured=bool(known))
    pooled = audit_blur.pool_scales(known)
    if pooled is None or len(known) < MIN_POOLED:
        text, was_measured, problems = f"needs {MIN_POOLED} videos", False, []
    else:
        text, was_measured = f"{math.exp(pooled[0]):.3f} +- {pooled[1]:.3f}", True
        problems = [
            f"{audit.corpus}: the blur radius over all videos must be K |d - d_f|, is "
            f"{math.exp(pooled[0]):.3f} times that (+- {pooled[1]:.3f}). Look for what all clips share: how "
            "K follows from the lens."
        ] * pooled[2]
    tolerance = f"1 +- {audit_blur.CORPUS_TOLERANCE:.2f}{more}"
    _conclude(audit, "blur radius, all videos", text, tolerance, problems, was_measured=was_measured)


def _conclude_focus(audit: Audit, clips: Sequence[ClipAudit], corpus: Corpus) -> None:
    problems: list[str] = []
    impossible: list[str] = []
    num_checked = 0
    known: list[Focus] = []
    num_videos = 0
    for clip in clips:
        for index, focus in enumerate(clip.focuses):
            num_videos += 1
            if focus.psnr_db is None or focus.gain is None or focus.difference is None:
                continue
            if focus.shift_px is None or focus.blur_px is None:
                continue
            known.append(focus)
            expected = audit_focus.expected_agreement_db(clip.meta, index)
            num_checked += expected is not None
            where = f"{clip.where}: {focus.target}, frames 0 to {clip.meta.num_frames - 1}"
            shift = math.hypot(*focus.shift_px)
            wrong: list[str] = []
            differs = abs(focus.difference) > audit_focus.MIN_DIFFERENCE
            if differs and abs(focus.gain - 1) > audit_focus.GAIN_TOLERANCE:
                wrong.append(f"has {focus.gain:.3f} times its light")
            allowed = audit_focus.SHIFT_TOLERANCE_PX + audit_focus.SHIFT_ERRORS * focus.shift_error_px
            if shift > allowed:
                wrong.append(f"is displaced by {shift:.2f} px")
            if focus.blur_px > audit_focus.FOCUS_BLUR_TOLERANCE_PX:
                wrong.append(f"is blurred by another {focus.blur_px:.1f} px")
            if expected is None and focus.psnr_db < audit_focus.AGREEMENT_DB:
                wrong.append(f"agrees to {focus.psnr_db:.1f} dB only")
            if wrong:
                problems.append(
                    f"{where}: where K |d - d_f| is below {audit_focus.IN_FOCUS_PX} px "
                    f"({focus.num_pixels} pixels) it must be the all-in-focus image, but {', '.join(wrong)}. "
                    f"Check d_f, camera and exposure. {_again(audit, clip.where)}"
                )
            elif expected is not None and focus.psnr_db < expected - audit_focus.FLOOR_MARGIN_DB:
                floors = clip.meta.sampling.noise_floor_db
                impossible.append(
                    f"{where}: the recorded noise floors {floors[0]:.1f} and {floors[1 + index]:.1f} dB "
                    f"promise {expected:.1f} dB between AIF and bokeh in focus, found {focus.psnr_db:.1f}: "
                    f"one of them is impossible. {_again(audit, clip.where)}"
                )
    text = f"{len(known)} of {num_videos} videos"
    if known:
        worst_gain = max((focus.gain or 1.0 for focus in known), key=lambda gain: abs(gain - 1))
        worst_shift = max(math.hypot(*(focus.shift_px or (0.0, 0.0))) for focus in known)
        text += (
            f": {min(focus.psnr_db or 0.0 for focus in known):.1f} dB and more; light {worst_gain:.3f}, "
            f"shift {worst_shift:.2f} px, blur {max(focus.blur_px or 0.0 for focus in known):.1f} px at worst"
        )
    if left := num_videos - len(known):
        text += (
            f"; {left} not measured: less than {audit_focus.MIN_FOCUS_PX} px in focus, or order or disparity "
            "is wrong"
        )
    tolerance = (
        f"light 1 +- {audit_focus.GAIN_TOLERANCE}, shift {audit_focus.SHIFT_TOLERANCE_PX} px, "
        f"blur {audit_focus.FOCUS_BLUR_TOLERANCE_PX} px"
    )
    _conclude(audit, "AIF is bokeh in focus", text, tolerance, problems, was_measured=bool(known))

    text = f"{corpus.num_without_floor} videos without"
    if corpus.floors_db:
        low, median, high = np.percentile(corpus.floors_db, (0, 50, 100))
        text = f"{low:.1f} to {high:.1f} dB, median {median:.1f}, {len(corpus.floors_db)} videos; {text}"
    text += f"; {num_checked} held against the agreement in focus"
    tolerance = f"{audit_focus.FLOOR_MARGIN_DB:g} dB less"
    _conclude(audit, "recorded noise floors", text, tolerance, impossible, was_measured=num_checked > 0)


def _conclude_order(audit: Audit, clips: Sequence[ClipAudit]) -> None:
    problems: list[str] = []
    judged, still, largest = 0, 0, []
    for clip in clips:
        suspect = set(clip.hardness.fits) | {frame for pair in clip.steadiness.swapped for frame in pair}
        for order in clip.orders:
            judged, still = judged + order.num_judged, still + order.num_still
            largest += [] if order.largest is None else [order.largest]
            is_permutation = set(order.misplaced) == set(order.misplaced.values())
            cause = (
                "frames are swapped" if is_permutation else "frames are swapped, or the video is displaced"
            )
            for frame, other in order.misplaced.items():
                if frame in suspect:  # what is wrong there is the disparity
                    continue
                problems.append(
                    f"{clip.where}: {order.target}, frame {frame}: must show what AIF frame {frame} shows, "
                    f"but fits frame {other}: {cause}. {_again(audit, clip.where)}"
                )
    text = f"{judged} frames, {still} too still to tell"
    text += f"; place {max(largest):.2f} at most (0: its own AIF frame, 1: another's)" if largest else ""
    _conclude(
        audit, "order of bokeh frames", text, f"{audit_order.MISPLACED}", problems, was_measured=judged > 0
    )


def _conclude_disparity(audit: Audit, clips: Sequence[ClipAudit]) -> None:
    order: list[str] = []
    steady: list[str] = []
    hard: list[str] = []
    depth: list[str] = []
    for clip in clips:
        again = _again(audit, clip.where)
        fits = dict(clip.hardness.fits)
        for first, second in clip.steadiness.swapped:
            fits |= {first: second, second: first}
        order += [
            f"{clip.where}: disparity, frame {frame}: must fit camera and instances of frame {frame}, fits "
            f"those of frame {other}: the frames are swapped. {again}"
            for frame, other in sorted(fits.items())
        ]
        unsteady = {f: v for f, v in clip.steadiness.unsteady.items() if f not in fits}
        if clip.bits is not None:
            depth.append(
                f"{clip.where}: disparity: must have 16 bits, has {clip.bits}: all values are multiples of "
                f"1/{2**clip.bits - 1}. {again}"
            )
        elif unsteady and not (fits and len(unsteady) <= len(fits)):
            frame = max(unsteady, key=lambda number: unsteady[number])
            cause = (
                "as if every frame had been normalised by itself"
                if clip.steadiness.is_rescaled
                else "neither camera nor motion explains it"
            )
            steady.append(
                f"{clip.where}: disparity, {_frames(unsteady)}: points that do not move must stay within "
                f"{audit_disparity.UNSTEADY:g} of where camera and disparity of other frames put them, are "
                f"{unsteady[frame]:.2g} off in frame {frame}, {cause}. {again}"
            )
        if clip.hardness.is_soft:
            frames = clip.hardness.soft_frames or range(clip.meta.num_frames)
            hard.append(
                f"{clip.where}: disparity, {_frames(frames)}: must step between two pixels where an instance "
                f"hides another, is spread over more at {100 * (clip.hardness.soft_share or 0):.0f} % of "
                f"{clip.hardness.num_places} places: it comes from an open lens, or was filtered. {again}"
            )
    compared = [clip for clip in clips if clip.steadiness.worst is not None]
    moving = sum(clip.steadiness.moves for clip in compared)
    outlined = [clip for clip in clips if clip.hardness.soft_share is not None]
    text = f"{moving} clips by a moving camera, {len(outlined)} by instances, of {len(clips)}"
    _conclude(
        audit, "order of disparity frames", text, "own frame", order, was_measured=moving + len(outlined) > 0
    )
    text = f"{len(compared)} of {len(clips)} clips"
    if compared:
        text += f": {max(clip.steadiness.worst or 0.0 for clip in compared):.1e} at most"
    tolerance = f"{audit_disparity.UNSTEADY:g} of disparity"
    _conclude(audit, "steadiness of disparity", text, tolerance, steady, was_measured=bool(compared))
    text = f"{len(outlined)} of {len(clips)} clips"
    if outlined:
        text += f": {100 * max(clip.hardness.soft_share or 0.0 for clip in outlined):.1f} % soft at most"
    tolerance = f"{100 * audit_disparity.SOFT_SHARE:.0f} % soft"
    _conclude(audit, "edges of disparity", text, tolerance, hard, was_measured=bool(outlined))
    bits = [clip.bits or 16 for clip in clips]
    text = f"{len(clips)} clips: {min(bits, default=0)} bits and more"
    _conclude(audit, "bits of disparity", text, "16 bits", depth, was_measured=bool(clips))


def _conclude_corpus(audit: Audit, corpus: Corpus) -> None:
    focus = " ".join(str(count) for count in corpus.focus)
    _cover(audit, "coverage of d_f", f"videos per tenth: {focus}", audit_splits.focus_holes(corpus))
    k = " ".join(
        str(corpus.k.get(i, 0)) for i in range(min(corpus.k, default=0), max(corpus.k, default=-1) + 1)
    )
    low = f"{2 ** (min(corpus.k) / audit_splits.K_BINS_PER_OCTAVE):.3g}" if corpus.k else "none"
    text = f"videos per half octave at 1024 px, from {low}: {k}"
    _cover(audit, "coverage of K", text, audit_splits.k_holes(corpus))
    shared = len(corpus.shared_bundled)
    text = f"{corpus.num_clips} clips, {corpus.num_files} files, {shared} of Blender's shared"
    _conclude(audit, "splits", text, "nothing in common", corpus.problems, was_measured=True)


def _cover(audit: Audit, check: str, text: str, holes: list[str] | None) -> None:
    if holes:
        text += f"; holes: {', '.join(holes)}"
    verdict: Verdict = "not measured" if holes is None else "warning" if holes else "ok"
    tolerance = f"no empty bin, from {audit_splits.VIDEOS_PER_BIN} videos per bin on"
    audit.rows.append(Row(check, text, tolerance, verdict))
