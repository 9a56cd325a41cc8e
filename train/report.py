"""The report of an evaluation: one HTML file that opens offline, with tables, plots and videos in it.

What is shown and how it is sorted is decided in the page (``templates/report.js``); here everything that it
needs is put into it. Pictures and videos are those of the worst videos of every system first, until the page
is as large as it may be; what is left out is counted on the page.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from focuspull.dataset.files import write_atomic
from focuspull.dataset.page import as_base64, fill, inline_json, policy
from focuspull.train.published import COLUMNS, PUBLISHED, SOURCE
from focuspull.train.results import Preview, Results

TEMPLATES = Path(__file__).parent / "templates"
MAX_BYTES = 60_000_000
"""Of the page, pictures and videos included."""
_RANKED_BY = "corrected/psnr"
_COMMON = ("truth", "aif")


def write_report(results: Results, folder: Path, path: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Write the page.

    Args:
        results: What to report.
        folder: Of the evaluation, where previews lie.
        path: Of the page.
        max_bytes: How large it may become, about.

    Raises:
        UserError: If the operating system refuses.
    """
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    document = results.model_dump(mode="json", exclude={"previews"})
    document["columns"] = COLUMNS
    document["published"] = {"source": SOURCE, "rows": PUBLISHED}
    media, left_out = _media(results, folder, max_bytes - len(inline_json(document)))
    document |= {"media": media, "left_out": left_out}
    parts = {
        "policy": html.escape(policy(style, script, media=True)),
        "title": html.escape(results.title),
        "style": style,
        "script": script,
        "document": inline_json(document),
    }
    write_atomic(path, fill(TEMPLATES / "report.html", parts))
    return path


def _media(results: Results, folder: Path, budget: float) -> tuple[dict[str, dict[str, Any]], int]:
    """Pictures and videos by item and system, and how many items of systems have none for want of space."""
    previews = {(preview.item, preview.system): preview for preview in results.previews}
    media: dict[str, dict[str, Any]] = {}
    left_out = 0
    for item, system in _worst_first(results):
        wanted = [(item, name) for name in (*_COMMON, system) if name not in media.get(item, {})]
        found = {
            name: _embedded(previews[key], folder) for key in wanted if key in previews for name in [key[1]]
        }
        size = sum(len(text) for files in found.values() for text in files.values())
        if size > budget:
            left_out += 1
            continue
        budget -= size
        if system in found:
            media.setdefault(item, {}).update(found)
    return media, left_out


def _worst_first(results: Results) -> Iterator[tuple[str, str]]:
    """Items and systems: the worst of every system, then the second worst, and so on."""
    names = [item.name for item in results.items]
    orders: dict[str, list[str]] = {}
    for system in results.systems:
        values = results.scores.get(system.name, {}).get(_RANKED_BY, ())
        known = [(value, name) for value, name in zip(values, names, strict=False) if value is not None]
        ranked = [name for _, name in sorted(known)]
        orders[system.name] = ranked + [name for name in names if name not in ranked]
    for rank in range(len(names)):
        for system, order in orders.items():
            yield order[rank], system


def _embedded(preview: Preview, folder: Path) -> dict[str, str]:
    """Addresses of the files of a preview that are there, by kind."""
    files = {"image": preview.image, "error": preview.error, "video": preview.video}
    types = {"image": "image/webp", "error": "image/webp", "video": "video/mp4"}
    return {
        kind: f"data:{types[kind]};base64,{as_base64((folder / name).read_bytes())}"
        for kind, name in files.items()
        if name is not None and (folder / name).exists()
    }
