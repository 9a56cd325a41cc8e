"""The data set card ``README.md``, as the Hugging Face Hub reads it, and ``croissant.json`` beside it.

Everything in them is read from the corpus: the index, the markers, ``corpus.json`` and the metadata of every
clip (which alone knows lenses and files). There are no dates and no paths in them: the same corpus gives the
same bytes. The prose is in ``templates/card.md``.

The head of the card declares the columns of the data set. Without it `datasets` derives them from the first
clips and fails, since scenes are no table: a colour may be three numbers or a texture.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from focuspull.dataset.check import CORPUS_NAME
from focuspull.dataset.clip import ClipMeta, decode_meta, frame_member, member_names
from focuspull.dataset.copying import committed_clips, proven_members
from focuspull.dataset.croissant import croissant_json
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.dataset.index import INDEX_NAME
from focuspull.dataset.markers import ShardMarker, read_markers
from focuspull.dataset.scene_files import BUNDLED_PREFIX, scene_files
from focuspull.dataset.stats import (
    FOCUS_EDGES,
    K_EDGES,
    Row,
    focus_videos,
    indexed_rows,
    k_videos,
    per_video,
    size_text,
    span_text,
)

CARD_NAME = "README.md"
CROISSANT_NAME = "croissant.json"
TEMPLATE = Path(__file__).parent / "templates" / "card.md"
TAGS = ("bokeh", "depth-of-field", "refocusing", "disparity", "video", "synthetic", "path-tracing")
CC0_PREFIX = "bpy:studiolights/world/"
"""Files of Blender whose licence is known: HDRIs from Poly Haven, CC0 by the ``license.txt`` beside them."""
QUIET_DB = 35.0
"""A noise floor that the card warns of below this: grain and denoiser's blotches begin to show."""
_SIGNATURE = "<!-- focuspull-dataset card "
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


def write_card(corpus: Path, *, name: str | None, license_id: str) -> list[Path]:
    """Write ``README.md`` and ``croissant.json`` into a corpus.

    Args:
        corpus: Folder of the corpus.
        name: Of the data set; None for that of the folder.
        license_id: SPDX or Hugging Face name; ``other`` says that none is stated.

    Returns:
        The two files.

    Raises:
        UserError: If the corpus is damaged or not as its index says, or there is a README by somebody else,
            or a card that was edited.
    """
    name = name or corpus.resolve().name
    if not _LICENSE.fullmatch(license_id):
        raise UserError(
            f"--license: '{license_id}' is not the name of a licence. Write for example cc-by-4.0."
        )
    if not name.isprintable() or not name.strip():
        raise UserError(f"--name: {name!r} must be one line of text. Write for example my-bokeh.")
    _refuse_others_readme(corpus / CARD_NAME)
    facts = _gather(corpus)
    text = _card(facts, name, license_id.lower())
    files = {CARD_NAME: _signed(text), CROISSANT_NAME: _croissant(corpus, facts, name, license_id)}
    for file, content in files.items():
        write_atomic(corpus / file, content)
    return [corpus / file for file in files]


def _signed(text: str) -> bytes:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text}\n{_SIGNATURE}{digest} -->\n".encode()


def _refuse_others_readme(path: Path) -> None:
    """Raise rather than overwrite what a person wrote; a card as it was written here is nobody's work."""
    if not path.exists():
        return
    try:
        text, _, _ = path.read_text().rpartition(f"\n{_SIGNATURE}")
        if text and path.read_bytes() == _signed(text):
            return
    except (OSError, UnicodeDecodeError):
        pass
    raise UserError(f"{path}: was written or edited by hand. Move it away, then merge the two.")


# --- What there is ------------------------------------------------------------------------------


@dataclass
class _Facts:
    """What the card tells, gathered clip by clip; memory grows with rows of the index and different files."""

    rows: list[dict[str, Any]]
    markers: list[ShardMarker]
    document: Mapping[str, Any]
    files: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """Name and SHA-256 of every file, and the splits it is in."""
    lenses: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    shutters: set[float] = field(default_factory=set)
    samples: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    """Paths per pixel of AIF, of bokeh."""
    software: set[str] = field(default_factory=set)

    @property
    def splits(self) -> list[str]:
        """In the order in which people name them."""
        usual = ("train", "val", "test")
        return sorted(
            {row["split"] for row in self.rows},
            key=lambda split: (usual.index(split) if split in usual else len(usual), split),
        )

    def of(self, split: str) -> list[dict[str, Any]]:
        """Rows of one split."""
        return [row for row in self.rows if row["split"] == split]

    def add(self, meta: ClipMeta) -> None:
        """Take up one clip."""
        for named in scene_files(meta.scene):
            self.files.setdefault(named, set()).add(meta.split)
        for target in meta.targets:
            self.lenses[target.lens_label] += 1
            self.domains[target.domain] += 1
        film = meta.scene.get("film")
        if isinstance(film, dict) and isinstance(film.get("shutter"), int | float):
            self.shutters.add(float(film["shutter"]))
        self.samples[0].append(meta.sampling.samples[0])
        self.samples[1].extend(meta.sampling.samples[1:])
        self.software.add(meta.renderer.focuspull_version)


def _gather(corpus: Path) -> _Facts:
    clips = committed_clips(corpus)
    rows = indexed_rows(corpus)
    remedy = f"Rebuild it with: focuspull-dataset index {corpus}"
    indexed = {(row["key"], row["split"], row["members_sha256"]) for row in rows}
    there = {(clip.key, clip.split, clip.members_sha256) for _, clip in clips}
    if different := sorted(indexed ^ there):
        raise UserError(f"{corpus / INDEX_NAME}: and the shards differ in {different[0][0]}. {remedy}")
    shapes = {(row["num_targets"], row["num_frames"]) for row in rows}
    if len(shapes) > 1:
        raise UserError(
            f"{corpus}: clips must have the same members, there are some with {len(shapes)} different "
            "numbers of "
            "targets or frames. Make a corpus of each."
        )
    path = corpus / CORPUS_NAME
    try:
        document: dict[str, Any] = {"spec": None, **json.loads(path.read_bytes())}
        document["spec_sha256"][:1].encode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Copy the corpus again.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not a JSON object with 'spec_sha256'. Copy the corpus again.") from error
    facts = _Facts(rows, read_markers(corpus), document)
    for marker, clip in clips:
        (content,) = proven_members(corpus, marker, clip, ["json"]).values()
        try:
            facts.add(decode_meta(content))
        except ValueError as error:
            raise UserError(f"{corpus / marker.shard}, {clip.key}: {error}.") from error
    return facts


# --- The card ------------------------------------------------------------------------------------


def _card(facts: _Facts, name: str, license_id: str) -> str:
    row = facts.rows[0]
    num_targets, num_frames = row["num_targets"], row["num_frames"]
    spec_sha256 = facts.document["spec_sha256"]
    values = {
        "name": name,
        "summary": _summary(facts),
        "at_a_glance": _table(["", ""], _glance(facts)),
        "shards_pattern": _pattern(facts, facts.splits[0]),
        "first_split": _hub_split(facts.splits[0]),
        "frame0": frame_member("aif", 0, num_frames).split(".")[1],
        "num_members": str(len(member_names(num_targets, num_frames))),
        "num_streams": str(num_targets + 3),
        "num_frames": str(num_frames),
        "members": _members(facts),
        "splits": _table(
            ["split", "clips", "shards", "bokeh videos", "frames of AIF", "size"], _split_rows(facts)
        ),
        "sharing": _sharing(facts),
        "k_coverage": _coverage(facts, "K at 1024 px", K_EDGES, k_videos),
        "focus_coverage": _coverage(facts, "d_f", FOCUS_EDGES, focus_videos),
        "how": _how(facts),
        "noise": _noise(facts),
        "spec": yaml.safe_dump(
            facts.document["spec"], sort_keys=False, width=110, default_flow_style=None
        ).rstrip(),
        "spec_sha256": f"SHA-256 {spec_sha256}",
        "spec_short": f"`{spec_sha256[:12]}...`",
        "limits": _list(_limits(facts)),
        "licences": _licences(facts, license_id),
    }
    # One pass, so that nothing in a value is taken for a placeholder.
    body = re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], TEMPLATE.read_text())
    return f"---\n{_front_matter(facts, name, license_id)}---\n\n{body}"


def _front_matter(facts: _Facts, name: str, license_id: str) -> str:
    row = facts.rows[0]
    dtypes = {"json": "json"}
    columns = [*member_names(row["num_targets"], row["num_frames"]), "__key__", "__url__"]
    head: dict[str, Any] = {
        "pretty_name": name,
        "license": license_id,
        **({"license_name": "not-stated"} if license_id == "other" else {}),
        "task_categories": ["image-to-image", "depth-estimation"],
        "tags": list(TAGS),
        "size_categories": [_size_category(len(facts.rows))],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    # Digits, so that another split whose name begins alike is not meant.
                    {"split": _hub_split(split), "path": f"{split}-[0-9]*.tar"}
                    for split in facts.splits
                ],
            }
        ],
        "dataset_info": {
            "config_name": "default",
            "features": [
                {
                    "name": column,
                    "dtype": dtypes.get(column, "image" if column.endswith(".png") else "string"),
                }
                for column in columns
            ],
        },
    }
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=110)


def _hub_split(split: str) -> str:
    """The name of a split on the Hub, where it may have no dash."""
    return split.replace("-", "_")


def _size_category(count: int) -> str:
    bounds = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    for number, bound in enumerate(bounds):
        if count < 10 ** (3 + number):
            return f"n<{bound}" if number == 0 else f"{bounds[number - 1]}<n<{bound}"
    return "n>1B"


def _pattern(facts: _Facts, split: str) -> str:
    """The shards of a split as webdataset expands them."""
    names = sorted({row["shard"] for row in facts.of(split)})
    if len(names) == 1:
        return names[0]
    first, last = (name.removesuffix(".tar").rpartition("-")[2] for name in (names[0], names[-1]))
    if len(names) == int(last) - int(first) + 1 and len(first) == len(last):
        return f"{split}-{{{first}..{last}}}.tar"
    return f"{split}-{{{','.join(name.removesuffix('.tar').rpartition('-')[2] for name in names)}}}.tar"


def _summary(facts: _Facts) -> str:
    row = facts.rows[0]
    num_targets = row["num_targets"]
    videos = "a bokeh video" if num_targets == 1 else f"{num_targets} bokeh videos"
    clips = "1 clip" if len(facts.rows) == 1 else f"{len(facts.rows)} clips"
    return (
        f"{clips} of path-traced video for refocusing: each has an all-in-focus video (AIF), {videos} of the "
        "same "
        "frames through an open lens with known blur strength K and focus d_f per frame, the exact disparity "
        "of every "
        "pixel, instance ids, and the scene, lens and camera it was rendered from. It was made by focuspull, "
        "from "
        "scenes that are synthetic throughout."
    )


def _glance(facts: _Facts) -> list[list[str]]:
    rows = facts.rows
    sizes = Counter(f"{row['width']}x{row['height']}" for row in rows)
    rates = Counter(f"{row['fps']:g}" for row in rows)
    total = sum(row["bytes"] for row in rows)
    finite = [row["z_far_m"] for row in rows if row["z_far_m"] is not None]
    num_sky = len(rows) - len(finite)
    far = [span_text(finite, 2)] * bool(finite) + [f"infinite in {num_sky} clips"] * bool(num_sky)
    k, focus = (
        span_text(per_video(rows, f"{what}_min", f"{what}_max"), digits)
        for what, digits in (("k_at_1024", 1), ("focus_disparity", 2))
    )
    return [
        ["clips", " + ".join(f"{len(facts.of(split))} {split}" for split in facts.splits)],
        [
            "a clip",
            f"{rows[0]['num_frames']} frames, {_counted(sizes)} px, {_counted(rates)} frames per second",
        ],
        [
            "bokeh videos",
            f"{rows[0]['num_targets']} a clip, {sum(row['num_targets'] for row in rows)} in all",
        ],
        *([["strata", _strata(rows)]] if any(row["stratum"] for row in rows) else []),
        ["K at 1024 px", k],
        ["d_f", focus],
        ["depth, m", f"nearest {span_text([row['z_near_m'] for row in rows], 2)}; farthest {', '.join(far)}"],
        ["lens", _counted(facts.lenses)],
        ["size", f"{size_text(total)}, {size_text(total / len(rows))} a clip, {len(facts.markers)} shards"],
    ]


def _strata(rows: Sequence[Row]) -> str:
    """Every stratum with its clips, in the order in which the clips have them."""
    counts = Counter(row["stratum"] or "none" for row in rows)
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _counted(counts: Mapping[str, int], most: int = 6) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [name if len(ordered) == 1 else f"{name} ({count})" for name, count in ordered[:most]]
    return ", ".join([*shown, f"and {len(ordered) - most} more"] if len(ordered) > most else shown)


def _members(facts: _Facts) -> str:
    row = facts.rows[0]
    num_frames = row["num_frames"]
    sizes = {(row["height"], row["width"]) for row in facts.rows}
    height, width = map(str, next(iter(sizes))) if len(sizes) == 1 else ("H", "W")

    def line(stream: str, channels: str, dtype: str, values: str, unit: str) -> list[str]:
        first, last = (frame_member(stream, frame, num_frames) for frame in (0, num_frames - 1))
        names = f"`{first}`" if first == last else f"`{first}` ... `{last}`"
        return [names, f"[{height}, {width}{channels}]", dtype, values, unit]

    return _table(
        ["member", "shape", "dtype", "range", "what"],
        [
            ["`json`", "", "JSON", "", "metadata, below"],
            line("aif", ", 3", "uint8", "0 to 255", "all in focus, sRGB display values"),
            *(
                line(
                    f"bokeh{number}",
                    ", 3",
                    "uint8",
                    "0 to 255",
                    f"through the lens of `targets[{number}]`, alike",
                )
                for number in range(row["num_targets"])
            ),
            line(
                "disparity",
                "",
                "uint16",
                "0 to 65535",
                "disparity d = value / 65535, 1 is nearest; exact to 7.7e-6",
            ),
            line("instance", "", "uint16", "0 to 65535", "instance ids, 0 is none; their names in `json`"),
        ],
    )


def _split_rows(facts: _Facts) -> list[list[str]]:
    table = []
    for split in facts.splits:
        rows = facts.of(split)
        table.append(
            [
                split,
                str(len(rows)),
                str(len({row["shard"] for row in rows})),
                str(sum(row["num_targets"] for row in rows)),
                str(sum(row["num_frames"] for row in rows)),
                size_text(sum(row["bytes"] for row in rows)),
            ]
        )
    return table


def _sharing(facts: _Facts) -> str:
    if len(facts.splits) == 1:
        return "There is one split."
    scenes: dict[str, set[str]] = {}
    for row in facts.rows:
        scenes.setdefault(row["scene_sha256"], set()).add(row["split"])
    shared = {
        "scenes": sum(len(splits) > 1 for splits in scenes.values()),
        "files given by users": sum(
            len(splits) > 1
            for (name, _), splits in facts.files.items()
            if not name.startswith(BUNDLED_PREFIX)
        ),
        "files that come with Blender (HDRIs that light scenes)": sum(
            len(splits) > 1 for (name, _), splits in facts.files.items() if name.startswith(BUNDLED_PREFIX)
        ),
    }
    words = [f"{count or 'no'} {what}" for what, count in shared.items()]
    return f"Splits share {', '.join(words)}."


def _coverage(
    facts: _Facts, what: str, edges: Sequence[float], count: Callable[[Iterable[Row]], list[int]]
) -> str:
    by_split = [count(facts.of(split)) for split in facts.splits]
    bins = range(len(edges) - 1)
    filled = [number for number in bins if any(counts[number] for counts in by_split)]
    table = [
        [f"{edges[number]:g} to {edges[number + 1]:g}", *(str(counts[number]) for counts in by_split)]
        for number in bins
        # Holes are shown, what lies below the least and above the largest is not; focus has a whole range.
        if edges is FOCUS_EDGES or filled[0] <= number <= filled[-1]
    ]
    return _table([what, *facts.splits], table)


def _how(facts: _Facts) -> str:
    rows = facts.rows
    backends = Counter(f"{row['backend']} {row['backend_version']} ({row['variant']})" for row in rows)
    methods = {
        "separate": "every video rendered by itself",
        "rebinned": "all bokeh videos of a clip from one set of rays, so that their noise is correlated",
        "planes": "flat cards, traced as planes",
    }
    used = Counter(f"{methods.get(row['method'], row['method'])}" for row in rows)
    cpu = [row["render_cpu_seconds"] for row in rows if row["render_cpu_seconds"] is not None]
    spec = facts.document["spec"]
    lines = []
    if isinstance(spec, dict) and "operation" in spec:
        names = ", ".join(str(source.get("name")) for source in spec.get("sources", []))
        lines.append(f"Put together by `focuspull-dataset {spec['operation']}` from clips of: {names}.")
    lines += [
        f"Rendered by {_counted(backends)} through focuspull {', '.join(sorted(facts.software))}: "
        f"{_counted(used)}.",
        f"Paths per pixel: AIF {span_text(facts.samples[0], 0)}; bokeh {span_text(facts.samples[1], 0)}.",
    ]
    if set(facts.domains) != {"linear_hdr"}:
        lines.append(
            f"Of the bokeh videos {facts.domains['encoded8']} are blurred in 8-bit display values (`domain: "
            "encoded8`) "
            "instead of light, for comparison."
        )
    if facts.shutters:
        open_part = span_text(sorted(facts.shutters), 2)
        lines.append(
            "The shutter is instantaneous: there is no motion blur."
            if facts.shutters == {0.0}
            else f"The shutter is open for {open_part} of the frame interval."
        )
    if cpu:
        known = "" if len(cpu) == len(rows) else f" ({len(cpu)} clips of {len(rows)} have it recorded)"
        lines.append(f"Rendering took {sum(cpu) / 3600:.2f} CPU hours{known}.")
    lines.append("The pixels of a clip depend on the `scene` in its metadata and on these versions alone.")
    return " ".join(lines)


def _noise(facts: _Facts) -> str:
    rows = facts.rows
    floors = {
        "AIF": [row["noise_floor_db_aif"] for row in rows],
        "bokeh": [x for row in rows for x in row["noise_floor_db"]],
    }
    if all(x is None for values in floors.values() for x in values):
        return "The noise left in the videos was not measured."
    table = []
    for what, values in floors.items():
        known = sorted(x for x in values if x is not None)
        cells = (
            [f"{known[0]:.1f}", span_text(known, 1).rpartition(" ")[2], f"{known[-1]:.1f}"]
            if known
            else ["-"] * 3
        )
        table.append(
            [
                what,
                str(len(values)),
                *cells,
                str(sum(x < QUIET_DB for x in known)),
                str(len(values) - len(known)),
            ]
        )
    heading = [
        "noise floor, dB",
        "videos",
        "least",
        "median",
        "largest",
        f"below {QUIET_DB:g}",
        "not measured",
    ]
    return (
        "The noise floor is the estimated PSNR of the 8-bit video to its converged self, from two "
        "independent halves "
        f"of the samples:\n\n{_table(heading, table)}"
    )


def _limits(facts: _Facts) -> list[str]:
    rows = facts.rows
    floors = [x for row in rows for x in (row["noise_floor_db_aif"], *row["noise_floor_db"])]
    known = [x for x in floors if x is not None]
    limits = [
        "It is synthetic: procedural scenes of a few families, no people and no captured footage unless the "
        "specification names files; no sensor noise, no lossy compression, no focus breathing.",
        "Images have 8 bits and highlights are clipped at display white, after the blur. The light of a "
        "lamp's bokeh "
        "disc cannot be recovered from the AIF where that is clipped.",
        "Disparity and instances have one value per pixel, of the ray through its centre: at an edge, where "
        "colour is "
        "a mixture, they belong to one side. Glass has the depth of its own surface, a cut-out is looked "
        "through "
        "where its alpha is below one half.",
        "`d` is relative to its clip. Compare clips in metres, by `scale` and `offset`.",
    ]
    if noisy := [x for x in known if x < QUIET_DB]:
        limits.append(
            f"{len(noisy)} of {len(known)} videos have a noise floor below {QUIET_DB:g} dB, the noisiest "
            f"{min(noisy):.1f}: "
            "grain or the denoiser's blotches are part of these targets. The index has it per video, to "
            "choose by."
        )
    if len(known) < len(floors):
        limits.append(f"The noise of {len(floors) - len(known)} of {len(floors)} videos was not measured.")
    if facts.shutters == {0.0}:
        limits.append("There is no motion blur.")
    if set(facts.lenses) == {"disc"}:
        limits.append("All lenses are ideal: round, thin, without aberrations or vignetting.")
    if rows[0]["num_frames"] == 1:
        limits.append("Clips are single frames.")
    holes = [
        f"{FOCUS_EDGES[n]:g} to {FOCUS_EDGES[n + 1]:g}"
        for n, count in enumerate(focus_videos(rows))
        if not count
    ]
    if holes:
        limits.append(f"No video focuses on a disparity of {', '.join(holes)}.")
    if len(rows) < 100:
        limits.append(
            f"{len(rows)} clips are for looking at and for trying out code, too few to train or to rank "
            "methods."
        )
    return limits


def _licences(facts: _Facts, license_id: str) -> str:
    stated = (
        "Its owner has not stated a licence for the data set itself (`license: other`); ask before you use "
        "it."
        if license_id == "other"
        else f"The data set itself: `{license_id}`."
    )
    cc0 = {name for name, _ in facts.files if name.startswith(CC0_PREFIX)}
    other_bundled = {name for name, _ in facts.files if name.startswith(BUNDLED_PREFIX)} - cc0
    given = sorted((name, sha) for name, sha in facts.files if not name.startswith(BUNDLED_PREFIX))
    # Of the frames of a sequence all have the licence of the whole.
    assets = (facts.document.get("spec") or {}).get("assets", {}).get("credits", ())
    credits = {credit["name"]: credit for credit in assets if credit["licence"] != "user"}
    known = [(name, sha) for name, sha in given if name.partition("#")[0] in credits]
    given = [entry for entry in given if entry not in known]
    lines = [
        "Geometry, materials, textures and lights that scenes describe in words are procedural: no licence "
        "needed."
    ]
    if cc0:
        names = ", ".join(f"`{name.removeprefix(CC0_PREFIX)}`" for name in sorted(cc0))
        lines.append(f"{len(cc0)} HDRIs that come with Blender, by Poly Haven, CC0: {names}.")
    if other_bundled:
        names = ", ".join(f"`{name}`" for name in sorted(other_bundled))
        lines.append(
            f"{len(other_bundled)} other files that come with Blender, licence not stated here: {names}."
        )
    tables: list[str] = []
    if known:
        lines.append(f"{len(known)} files of assets with a known licence, in the table of assets.")
        tables.append(_credits_table(known, credits))
    if not given:
        lines.append("No other file was used.")
        return "\n\n".join([stated, _list(lines), *tables])
    lines.append(
        f"{len(given)} files given by users. Their licences are not recorded; whoever publishes this data "
        "set must state "
        "them:"
    )
    table = _table(
        ["file", "SHA-256", "licence"], [[f"`{name}`", f"`{sha}`", "not stated"] for name, sha in given]
    )
    return "\n\n".join([stated, _list(lines), *tables, table])


def _credits_table(files: Iterable[tuple[str, str]], credits: Mapping[str, Mapping[str, str]]) -> str:
    """Assets with their licences and whom they ask to name; the frames of a sequence are one row."""
    names = sorted({name.partition("#")[0] for name, _ in files})
    rows = [[f"`{n}`", credits[n]["licence"], credits[n]["attribution"] or "-"] for n in names]
    return _table(["asset", "licence", "by"], rows)


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


# --- Croissant -----------------------------------------------------------------------------------


def _croissant(corpus: Path, facts: _Facts, name: str, license_id: str) -> bytes:
    index = (corpus / INDEX_NAME).read_bytes()
    return croissant_json(
        name=name,
        description=_summary(facts),
        license_id=license_id,
        markers=facts.markers,
        index_sha256=hashlib.sha256(index).hexdigest(),
        index_size=len(index),
        num_targets=facts.rows[0]["num_targets"],
        num_frames=facts.rows[0]["num_frames"],
        keywords=TAGS,
    )
