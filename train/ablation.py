"""The paper's ablation table from the variants that ``focuspull-train ablate`` has trained.

Rows are variants, columns FD, VFID-I, FVD and PSNR as in the paper's Table 5, whose rows stand below. Which
weights a variant renders with, and how its windows are fused, is what `focuspull.train.ablate` says.
"""

from __future__ import annotations

from pathlib import Path

from focuspull.dataset.errors import UserError
from focuspull.train.ablate import FULL, VARIANTS
from focuspull.train.checkpoint import LAST, PIPELINE
from focuspull.train.published import ABLATION_COLUMNS, ablation_rows
from focuspull.train.results import Results
from focuspull.train.systems import SystemSpec

STAGES = ("detail", "temporal", "geometry")
"""The last of these that was trained is what a variant is measured by."""
METRICS: dict[str, tuple[str, ...]] = {
    "FD": ("fd-raft", "fd-dis"),
    "VFID-I": ("vfid-i3d",),
    "FVD": ("fvd-i3d",),
    "PSNR": ("psnr",),
}
"""Counterparts of the paper's columns; the first that was computed is shown."""


def variant_systems(run: Path) -> list[SystemSpec]:
    """Systems for the variants in the folder of ``focuspull-train ablate``.

    Raises:
        UserError: If none is there, or not the full one.
    """
    found: list[SystemSpec] = []
    for name, variant in VARIANTS.items():
        folder = run / (name if name == FULL or variant.is_trained else FULL)
        places = [folder / stage / "checkpoints" / LAST / PIPELINE for stage in STAGES]
        weights = next((path for path in places if path.exists()), None)
        if weights is not None:
            found.append(SystemSpec(name=name, kind="network", path=weights, fuse=variant.fuse))
    if not found or found[0].name != FULL:
        raise UserError(f"{run}: has no trained variant '{FULL}'. Train: focuspull-train ablate --out {run}")
    return found


def ablation_table(results: Results) -> str:
    """A table in Markdown: variants with what each takes away, then the paper's rows, on its own data."""
    columns = {
        column: next((f"corrected/{name}" for name in names if _has(results, f"corrected/{name}")), None)
        for column, names in METRICS.items()
    }
    heading = [
        column if metric is None else results.metric(metric).label for column, metric in columns.items()
    ]
    rows = [["variant", "without", *heading], ["---", "---", *("---:" for _ in columns)]]
    for system in results.systems:
        cells: list[str] = []
        for metric in columns.values():
            cell = None if metric is None else results.cell(system.name, metric)
            cells.append(
                "-" if metric is None or cell is None else f"{cell.value:.{results.metric(metric).digits}f}"
            )
        rows.append([system.name, VARIANTS[system.name].summary, *cells])
    for name, without, values in ablation_rows():
        rows.append([f"*{name}*", f"*{without}*", *(f"*{values[column]}*" for column in ABLATION_COLUMNS)])
    note = "In italics: the paper's Table 5, on its own data and with its own metrics; not comparable."
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{note}"


def _has(results: Results, metric: str) -> bool:
    return any(cell.metric == metric for cell in results.cells)
