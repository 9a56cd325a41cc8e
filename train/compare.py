"""Trained networks beside renderers without weights, on the same held-out samples."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.dataset.loader import Batch
from focuspull.model.pipeline import Settings, load_pipeline
from focuspull.model.presets import Parts
from focuspull.model.renderer import get_renderer
from focuspull.train.checkpoint import LAST, PIPELINE
from focuspull.train.data import open_sources
from focuspull.train.obey import obedience, obedience_table
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
    systems |= _stages(recipe, options)
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


def obey(recipe: Recipe, options: RunOptions, *, num_samples: int | None = None) -> str:
    """Measure how the last stage of a run obeys K and the focus, and how renderers without weights do.

    Arguments and errors are those of `compare`.

    Returns:
        A table in Markdown, see `focuspull.train.obey`.
    """
    stages = _stages(recipe, options)
    last = list(stages)[-1]
    systems: dict[str, Predict] = {
        name: renderer_predict(get_renderer(name)) for name in ("gather", "layers")
    }
    systems[last] = stages[last]
    validation = Validation(
        open_sources(options.validation or options.data, "val"),
        num_frames=min(stage.num_frames for stage in recipe.stages),
        transform=recipe.transform,
        num_samples=num_samples or 2**31,
        seed=recipe.seed,
    )
    return obedience_table(obedience(systems, validation))


def _stages(recipe: Recipe, options: RunOptions) -> dict[str, Predict]:
    """What has been trained, in order."""
    found = {
        stage.name: options.out / stage.name / "checkpoints" / LAST / PIPELINE
        for stage in recipe.stages
        if stage.name != "autoencoder"
    }
    systems = {
        name: network_predict(folder, options.device) for name, folder in found.items() if folder.exists()
    }
    if not systems:
        raise UserError(f"{options.out}: has no trained stage. Train first: focuspull-train all")
    return dict(systems)


def network_predict(folder: Path, device: str | None, settings: Settings | None = None) -> Predict:
    """The networks in a folder as something that can be validated.

    Args:
        folder: Of a pipeline.
        device: Where to compute; None: a GPU if there is one.
        settings: How videos are cut into windows; None: all frames are one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = load_pipeline(folder)
    if settings is not None:
        pipeline = pipeline.to(device)

        def render(aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
            return pipeline(aif, disparity, k, focus_disparity, settings).frames

        return renderer_predict(render)
    parts = Parts(pipeline.unet, pipeline.vae, pipeline.image_encoder)
    for network in (parts.unet, parts.vae, parts.image_encoder):
        network.to(device).eval()  # pyright: ignore[reportArgumentType]

    def run(batch: Batch) -> Tensor:
        return predict(parts, batch.to(device)).cpu()

    return run
