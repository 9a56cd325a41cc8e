"""What an audit says: a table of what was checked, and one line per fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from focuspull.dataset.audit_blur import BlurScale
from focuspull.dataset.audit_disparity import Hardness, Steadiness
from focuspull.dataset.audit_focus import Focus
from focuspull.dataset.audit_order import Order
from focuspull.dataset.clip import ClipMeta, canonical_json
from focuspull.dataset.files import write_atomic

Verdict = Literal["ok", "FAIL", "warning", "not measured"]


@dataclass(frozen=True)
class Row:
    """One line of the table: what was checked, what came out, what is allowed, and the verdict."""

    check: str
    measured: str
    tolerance: str
    verdict: Verdict


@dataclass(frozen=True)
class ClipAudit:
    """The measurements of one clip.

    Args:
        where: Shard and key.
        meta: Its metadata.
        steadiness: Of its disparity.
        hardness: Of its disparity.
        bits: Bits of the integers that its disparity was widened from; None if it uses its 16.
        orders: Of its bokeh videos.
        blurs: Of its bokeh videos.
        focuses: Of its bokeh videos.
    """

    where: str
    meta: ClipMeta
    steadiness: Steadiness
    hardness: Hardness
    bits: int | None
    orders: list[Order]
    blurs: list[BlurScale]
    focuses: list[Focus]


@dataclass
class Audit:
    """The result of an audit.

    Args:
        corpus: The folder.
        rows: The table.
        problems: One line per fault, saying where, what is wrong, what was found and what to do.
        clips: The measurements of every clip that was measured, ready for JSON.
    """

    corpus: Path
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    clips: list[dict[str, Any]] = field(default_factory=list)

    def table(self) -> str:
        """The table, then the problems, one per line."""
        lines = [("check", "measured", "tolerance", "verdict")]
        lines += [(row.check, row.measured, row.tolerance, row.verdict) for row in self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        ending = [f"{self.corpus}: no problems"] if not self.problems else self.problems
        return "\n".join([*text, "", *ending])

    def write_json(self, path: Path) -> None:
        """Write table, problems and all measurements as JSON.

        Raises:
            UserError: If the operating system refuses.
        """
        content = {
            "format": "focuspull-audit-1",
            "corpus": str(self.corpus),
            "rows": [asdict(row) for row in self.rows],
            "problems": self.problems,
            "clips": self.clips,
        }
        write_atomic(path, canonical_json(content))


def json_ready(clip: ClipAudit) -> dict[str, Any]:
    """The measurements of a clip as JSON knows them: keys are strings."""

    def named(values: Sequence[BlurScale | Focus | Order]) -> list[dict[str, Any]]:
        return [{key: _string_keys(value) for key, value in asdict(item).items()} for item in values]

    return {
        "clip": clip.where,
        "backend": clip.meta.renderer.backend,
        "steadiness": {key: _string_keys(value) for key, value in asdict(clip.steadiness).items()},
        "hardness": {key: _string_keys(value) for key, value in asdict(clip.hardness).items()},
        "bits": 16 if clip.bits is None else clip.bits,
        "order": named(clip.orders),
        "blur": named(clip.blurs),
        "focus": named(clip.focuses),
    }


def _string_keys(value: Any) -> Any:
    return {str(key): part for key, part in value.items()} if isinstance(value, dict) else value
