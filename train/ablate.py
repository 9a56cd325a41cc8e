"""What each idea is worth: the same training without it, side by side.

Every variant is a run of its own in ``OUT/NAME``, with some of the recipe or of the data changed; one that
was interrupted goes on where it was. The VAE from scratch is the same for all, so the variants start from the
one in ``OUT/full``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.errors import UserError
from focuspull.model.pipeline import BokehPipeline, load_pipeline
from focuspull.train.checkpoint import LAST, PIPELINE
from focuspull.train.compare import network_predict
from focuspull.train.data import Source, open_sources
from focuspull.train.recipe import Recipe
from focuspull.train.run import RunOptions, scratch, train
from focuspull.train.stages import StageName
from focuspull.train.validate import Report, Validation, comparison_table, validate

FULL = "full"


class Variant(FrozenModel):
    """A change of a training run.

    Args:
        summary: What is taken away.
        unet: Options of the network that change.
        without: Stages that are left out.
        data: Sources in place of the run's; it is measured on the same clips all the same.
    """

    summary: str
    unet: dict[str, Any] = Field(default_factory=dict)
    without: tuple[StageName, ...] = ()
    data: tuple[Source, ...] | None = None


VARIANTS: dict[str, Variant] = {
    FULL: Variant(summary="nothing"),
    "no-mpi": Variant(summary="attention to the all-in-focus features of regions", unet={"masks": "none"}),
    "unsigned": Variant(summary="the sign of the defocus", unet={"signed_defocus": False}),
    "no-temporal": Variant(summary="the temporal stage", without=("temporal",)),
    "cards": Variant(summary="scenes: flat cards in their place", data=(Source(address="cards"),)),
}
"""By the names that the command takes."""


def ablate(recipe: Recipe, options: RunOptions, names: Sequence[str]) -> str:
    """Train variants and measure them on the same held-out samples, with true and with perturbed disparity.

    Args:
        recipe: Of the run that nothing is taken from.
        options: ``out`` is the folder for all of them.
        names: Keys of `VARIANTS`; the full run is always among what is trained.

    Returns:
        Two tables in Markdown.

    Raises:
        UserError: For an unknown name, and as `focuspull.train.run.train` does.
    """
    if unknown := [name for name in names if name not in VARIANTS]:
        raise UserError(f"variant '{unknown[0]}': there is none. There are: {', '.join(VARIANTS)}.")
    chosen = [FULL, *(name for name in VARIANTS if name in names and name != FULL)]
    corpora = open_sources(options.validation or options.data, "val", follow=options.follow)
    folders: dict[str, Path] = {}
    for name in chosen:
        variant = VARIANTS[name]
        stages = tuple(stage for stage in recipe.stages if stage.name not in variant.without)
        changed = recipe.model_copy(update={"unet": {**recipe.unet, **variant.unet}, "stages": stages})
        given = options.model_copy(
            update={
                "out": options.out / name,
                "data": variant.data or options.data,
                "validation": options.validation or options.data,
            }
        )
        if name != FULL and recipe.stages[0].name == "autoencoder":
            init = given.out / "start"
            _start_with_vae(changed, options.out / FULL / "autoencoder", init)
            changed = changed.model_copy(update={"start": "weights", "stages": stages[1:]})
            given = given.model_copy(update={"init": init})
        folders[name] = train(changed, given)
    tables = []
    for title, perturbation in (("True disparity", None), ("Perturbed disparity", recipe.perturbation)):
        validation = Validation(
            corpora,
            num_frames=max(stage.num_frames for stage in recipe.stages),
            transform=recipe.transform,
            num_samples=recipe.validation_samples,
            perturbation=perturbation,
            seed=recipe.seed,
        )
        reports: dict[str, Report] = {
            name: validate(network_predict(folder, options.device), validation)
            for name, folder in folders.items()
        }
        tables.append(f"{title}, {len(validation)} samples:\n\n{comparison_table(reports)}")
    return "\n\n".join(tables)


def _start_with_vae(recipe: Recipe, stage: Path, folder: Path) -> None:
    """Write the networks that a recipe starts with from scratch, with the VAE that a stage has trained."""
    if (folder / "model_index.json").exists():
        return
    parts = scratch(recipe)
    vae = load_pipeline(stage / "checkpoints" / LAST / PIPELINE).vae
    # What marks the folder as one of a pipeline is written last.
    BokehPipeline(unet=parts.unet, vae=vae, image_encoder=parts.image_encoder).save_pretrained(folder)
