"""The paper's ablation table, from variants that were trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from focuspull.dataset.errors import UserError
from focuspull.train.ablate import VARIANTS
from focuspull.train.ablation import ablation_table, variant_systems
from focuspull.train.metrics.registry import metric_infos
from focuspull.train.results import Cell, Results, SystemInfo


def trained(run: Path, name: str, *stages: str) -> None:
    for stage in stages:
        (run / name / stage / "checkpoints/last/pipeline").mkdir(parents=True)


def test_every_variant_renders_with_its_last_stage(tmp_path: Path) -> None:
    trained(tmp_path, "full", "geometry", "temporal", "detail")
    trained(tmp_path, "no-temporal", "geometry", "detail")
    trained(tmp_path, "no-mpi", "geometry", "temporal")
    systems = {system.name: system for system in variant_systems(tmp_path)}
    assert list(systems) == [name for name in VARIANTS if name in systems]
    assert systems["full"].path == tmp_path / "full/detail/checkpoints/last/pipeline"
    assert systems["no-mpi"].path == tmp_path / "no-mpi/temporal/checkpoints/last/pipeline"
    # No network of its own: the full one, whose windows are fused in no way.
    assert systems["no-wois"].path == systems["full"].path
    assert (systems["no-wois"].fuse, systems["full"].fuse) == ("none", "latent")
    assert "unsigned" not in systems


@pytest.mark.parametrize("names", [[], ["no-mpi"]])
def test_without_the_full_variant_there_is_no_table(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        trained(tmp_path, name, "geometry")
    with pytest.raises(UserError, match="has no trained variant 'full'. Train: focuspull-train ablate"):
        variant_systems(tmp_path)


def test_the_table_has_the_paper_s_columns_and_its_rows_below() -> None:
    infos = metric_infos()
    metrics = [infos[f"corrected/{name}"] for name in ("fd-dis", "vfid-i3d", "fvd-i3d", "psnr")]
    cells = [
        Cell(system=system, metric=metric.id, group="all", value=number + shift, num_items=1, num_clips=1)
        for number, metric in enumerate(metrics)
        for system, shift in (("full", 1.0), ("no-temporal", 2.0))
        if (system, metric.name) != ("no-temporal", "psnr")
    ]
    results = Results(
        title="", facts={}, metrics=tuple(metrics), items=(), scores={}, cells=tuple(cells),
        systems=(SystemInfo(name="full", summary=""), SystemInfo(name="no-temporal", summary="")),
    )  # fmt: skip
    lines = [line for line in ablation_table(results).splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert table[0] == ["variant", "without", "FD (DIS)", "VFID-I", "FVD (I3D)", "PSNR"]
    assert table[2] == ["full", "nothing", "1.000", "2.00", "3.00", "4.00"]
    assert table[3] == ["no-temporal", "the temporal stage", "2.000", "3.00", "4.00", "-"]
    assert table[4] == ["*#1*", "*nothing*", "*0.517*", "*3.865*", "*18.922*", "*32.25*"]
    assert len(table) == 4 + 5
