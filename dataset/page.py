"""Pages in one file that open offline: a template, all it shows, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from focuspull.dataset.clip import canonical_json


def fill(template: Path, parts: Mapping[str, str]) -> bytes:
    """A page from a template with places such as ``<!--{title}-->``.

    Args:
        template: The file.
        parts: What goes into each place, as it is: escape it before.
    """
    text = template.read_text(encoding="utf-8")
    # One pass: what is put in is never searched for more places.
    return re.sub(r"<!--\{(\w+)\}-->", lambda match: parts[match[1]], text).encode("utf-8")


def inline_json(value: object) -> str:
    """JSON that no HTML parser takes for markup: ``<``, ``>`` and ``&`` occur in strings only, as escapes."""
    text = canonical_json(value).decode("ascii").strip()
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def policy(style: str, script: str, *, media: bool = False) -> str:
    """A content security policy for a page of this style, this script and embedded pictures only.

    Args:
        style: Text of the only style element.
        script: Text of the only script element that runs.
        media: Whether embedded videos are allowed too.
    """
    sources = "img-src data:; media-src data:" if media else "img-src data:"
    return (
        f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )


def as_base64(content: bytes) -> str:
    """Bytes for a ``data:`` address."""
    return base64.b64encode(content).decode("ascii")


def _hash(text: str) -> str:
    return f"sha256-{as_base64(hashlib.sha256(text.encode('utf-8')).digest())}"
