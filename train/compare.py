"""Trained networks beside renderers without weights, on the same held-out samples."""

from __future__ import annotations

from pathlib import Path

import torch

from focuspull.dataset.errors import UserError
from focuspull.dataset.loader import Batch
from focuspull.model.pipeline import load_pipeline
from focuspull.model.presets import Parts
from focuspull.model.renderer import get_renderer
from focuspull.train.checkpoint import LAST, PIPELINE
from focuspull.train.data import open_sources
from focuspull.train.recipe import Recipe
from focuspull.train.run import RunOptions
from focuspull.train.stages import predict
from focuspull.train.validate import (
    Predict,
    Report,
    Validation,
    comparison_table,
    renderer_predict,
    validate,
)

BASELINES = ("identity", "gather", "scatter", "layers")


def compare(recipe: Recipe, options: RunOptions, *, num_samples: int | None = None) -> str:
    """Measure the stages of a run and the baselines, with true and with perturbed disparity.

    Args:
        recipe: Of the run.
        options: Of the run; its held-out data.
        num_samples: How many; None: all.

    Returns:
        Two tables in Markdown.

    Raises:
        UserError: If no stage has been trained, or there is nothing to measure on.
    """
    systems: dict[str, Predict] = {name: renderer_predict(get_renderer(name)) for name in BASELINES}
    for stage in recipe.stages:
        folder = options.out / stage.name / "checkpoints" / LAST / PIPELINE
        if stage.name != "autoencoder" and folder.exists():
            systems[stage.name] = network_predict(folder, options.device)
    if len(systems) == len(BASELINES):
        raise UserError(f"{options.out}: has no trained stage. Train first: focuspull-train all")
    corpora = open_sources(options.validation or options.data, "val")
    tables = []
    for title, perturbation in (("True disparity", None), ("Perturbed disparity", recipe.perturbation)):
        validation = Validation(
            corpora,
            num_frames=max(stage.num_frames for stage in recipe.stages),
            transform=recipe.transform,
            num_samples=num_samples or 2**31,
            perturbation=perturbation,
            seed=recipe.seed,
        )
        reports: dict[str, Report] = {name: validate(system, validation) for name, system in systems.items()}
        tables.append(f"{title}, {len(validation)} samples:\n\n{comparison_table(reports)}")
    return "\n\n".join(tables)


def network_predict(folder: Path, device: str | None) -> Predict:
    """The networks in a folder as something that can be validated.

    Args:
        folder: Of a pipeline.
        device: Where to compute; None: a GPU if there is one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = load_pipeline(folder)
    parts = Parts(pipeline.unet, pipeline.vae, pipeline.image_encoder)
    for network in (parts.unet, parts.vae, parts.image_encoder):
        network.to(device).eval()  # pyright: ignore[reportArgumentType]

    def run(batch: Batch) -> torch.Tensor:
        return predict(parts, batch.to(device)).cpu()

    return run
