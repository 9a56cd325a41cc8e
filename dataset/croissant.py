"""``croissant.json``: the corpus as a Croissant 1.1 document, for tools that search and load data sets.

It names every shard and the index with size and SHA-256, every stream as a set of files, and every clip as a
record over the index file. The records stream with ``mlcroissant`` from the folder alone; pixels are read
from the shards, as the card says. There are no dates in it: the same corpus gives the same bytes.

Source: MLCommons, Croissant format specification 1.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from focuspull.dataset.clip import frame_member
from focuspull.dataset.index import INDEX_NAME, SCHEMA
from focuspull.dataset.markers import ShardMarker

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in [
            "arrayShape",
            "citeAs",
            "column",
            "extract",
            "field",
            "fileObject",
            "fileProperty",
            "fileSet",
            "format",
            "includes",
            "isArray",
            "isLiveDataset",
            "jsonPath",
            "key",
            "md5",
            "parentField",
            "path",
            "recordSet",
            "references",
            "regex",
            "repeated",
            "replace",
            "samplingRate",
            "separator",
            "source",
            "subField",
            "transform",
            "value",
            "equivalentProperty",
        ]
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}

COLUMNS: dict[str, str] = {
    "key": "Name of the clip, the start of its members' names.",
    "split": "Split of the clip.",
    "shard": "File name of its shard.",
    "offset": "First byte of the clip in the shard.",
    "size": "Bytes of the clip in the shard, tar headers included.",
    "scene_sha256": "SHA-256 of the resolved scene it was rendered from.",
    "members_sha256": "SHA-256 over the hashes of its members.",
    "width": "Pixels.",
    "height": "Pixels.",
    "num_frames": "Frames of every stream.",
    "fps": "Frames per second.",
    "num_targets": "Bokeh videos.",
    "k_at_1024_min": "Of each bokeh video, the least K over its frames, for an image 1024 px wide.",
    "k_at_1024_max": "Likewise the largest.",
    "focus_disparity_min": "Of each bokeh video, the least disparity in focus over its frames, in [0, 1].",
    "focus_disparity_max": "Likewise the largest.",
    "z_near_m": "Depth at disparity 1, metres.",
    "z_far_m": "Depth at disparity 0, metres; null is infinity.",
    "family": "Family of the scene; null if the corpus has neither strata nor notes.",
    "stratum": "Part of the corpus that the clip is of, such as thin-structure; null if there are none.",
    "occluded_fraction": "Share of pixels that blur of something nearer reaches; null, as the next, where a "
    "corpus has no notes.",
    "thin_fraction": "Share of pixels of structures narrower than a hundredth of the width.",
    "highlight_energy": "Part of the all-in-focus light that is beyond white.",
    "max_radius_px": "Blur radius at 1024 px, 99.5th percentile, of the target where it is largest.",
    "mean_radius_px": "Mean blur radius at 1024 px, likewise.",
    "motion_px": "Mean shift from one frame to the next, pixels at 1024 px.",
    "transparent_fraction": "Share of pixels that show glass or mirrors first.",
    "disparity_spread": "5th to 95th percentile of disparity.",
    "backend": "What rendered it.",
    "backend_version": "Its version.",
    "variant": "Its variant or device.",
    "method": "separate: every video by itself; rebinned: all from one set of rays; planes: cards, traced as "
    "planes.",
    "noise_floor_db_aif": "Estimated PSNR of the all-in-focus video to its converged self, dB; null: not "
    "measured.",
    "noise_floor_db": "The same of each bokeh video.",
    "render_seconds": "Wall clock; null if not known.",
    "render_cpu_seconds": "CPU time; null if not known.",
    "peak_memory_bytes": "Resident memory of the process that rendered it; null if not known.",
    "attempts": "Times it was tried in the run that finished it; null if not known.",
    "bytes": "Of the members' contents.",
}
"""What the columns of the index mean, in its order."""

STREAMS: dict[str, str] = {
    "aif": "All-in-focus video: 8-bit sRGB PNG, one per frame.",
    "bokeh": "Bokeh video of one target: 8-bit sRGB PNG, one per frame, same pixels grid and exposure as "
    "aif.",
    "disparity": "Disparity: 16-bit grey PNG, value / 65535 in [0, 1], 1 is nearest, one per frame.",
    "instance": "Instance ids: 16-bit grey PNG, 0 is none, names in the metadata, one per frame.",
    "json": "Metadata of a clip: K and focus per frame, lens, camera, disparity map, scene.",
}
"""What the members of a clip are, by the start of their names."""


def croissant_json(
    *,
    name: str,
    description: str,
    license_id: str,
    markers: Sequence[ShardMarker],
    index_sha256: str,
    index_size: int,
    num_targets: int,
    num_frames: int,
    keywords: Sequence[str],
) -> bytes:
    """The document, as bytes of a file that lies in the folder of the corpus.

    Args:
        name: Of the data set.
        description: One paragraph.
        license_id: As on the card.
        markers: Of all shards.
        index_sha256: Hash of the index file.
        index_size: Its bytes.
        num_targets: Bokeh videos of every clip.
        num_frames: Frames of every clip.
        keywords: Tags.
    """
    shards = [{"@id": marker.shard} for marker in markers]
    streams = ["json", "aif", *(f"bokeh{number}" for number in range(num_targets)), "disparity", "instance"]
    distribution: list[Mapping[str, Any]] = [
        _file(INDEX_NAME, "application/x-parquet", index_size, index_sha256, "The index, one row per clip."),
        *(
            _file(
                marker.shard,
                "application/x-tar",
                marker.size,
                marker.sha256,
                f"WebDataset of {len(marker.clips)} clips.",
            )
            for marker in markers
        ),
        *(_file_set(stream, num_frames, shards) for stream in streams),
    ]
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "license": license_id,
        # Content decides: the same corpus has the same version, another one another.
        "version": f"1.0.0+{index_sha256[:12]}",
        "keywords": list(keywords),
        "isLiveDataset": False,
        "distribution": distribution,
        "recordSet": [_splits(sorted({clip.split for marker in markers for clip in marker.clips})), _clips()],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _file(name: str, kind: str, size: int, sha256: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": description,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": kind,
        "sha256": sha256,
    }


def _file_set(stream: str, num_frames: int, shards: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    is_meta = stream == "json"
    example = "json" if is_meta else frame_member(stream, 0, num_frames)
    return {
        "@type": "cr:FileSet",
        "@id": f"stream-{stream}",
        "name": f"stream-{stream}",
        "description": f"{STREAMS[stream.rstrip('0123456789')]} Named <key>.{example}.",
        "containedIn": list(shards),
        "encodingFormat": "application/json" if is_meta else "image/png",
        "includes": "*.json" if is_meta else f"*.{stream}.*.png",
    }


def _splits(splits: Sequence[str]) -> dict[str, Any]:
    kinds = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
        ],
        "data": [{"splits/name": split, "splits/url": kinds.get(split, "")} for split in splits],
    }


def _clips() -> dict[str, Any]:
    fields: list[dict[str, Any]] = []
    for column in SCHEMA:
        is_list = pa.types.is_list(column.type)
        field = {
            "@type": "cr:Field",
            "@id": f"clips/{column.name}",
            "name": column.name,
            "description": COLUMNS[column.name],
            "dataType": _data_type(column.type.value_type if is_list else column.type),
            "source": {"fileObject": {"@id": INDEX_NAME}, "extract": {"column": column.name}},
        }
        if is_list:
            field |= {"isArray": True, "arrayShape": "-1"}
        if column.name == "split":
            field["references"] = {"field": {"@id": "splits/name"}}
        fields.append(field)
    return {
        "@type": "cr:RecordSet",
        "@id": "clips",
        "name": "clips",
        "description": "One record per clip. Its members are in the shard it names, from offset on.",
        "key": {"@id": "clips/key"},
        "field": fields,
    }


def _data_type(kind: Any) -> str:
    if pa.types.is_string(kind):
        return "sc:Text"
    return "sc:Integer" if pa.types.is_integer(kind) else "sc:Float"
