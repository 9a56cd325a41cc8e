"""What each idea is worth: the same training without it, side by side.

Every variant is a run of its own in ``OUT/NAME``, with some of the recipe or of the data changed; one that
was interrupted goes on where it was. The VAE from scratch is the same for all, so the variants start from
the one in ``OUT/full``. Recipes that start from weights have theirs fitted to the variant: what has no
counterpart is drawn anew.

All are measured as they would be used: whole clips, in windows of as many frames as the first stage of the
U-Net has, which overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.errors import UserError
from focuspull.model.pipeline import BokehPipeline, Fuse, Settings, load_pipeline
from focuspull.model.presets import Parts, build
from focuspull.train.checkpoint import LAST, PIPELINE
from focuspull.train.compare import network_predict
from focuspull.train.data import Source, open_sources
from focuspull.train.recipe import Recipe
from focuspull.train.run import RunOptions, scratch, train
from focuspull.train.stages import StageName
from focuspull.train.validate import Report, Validation, comparison_table, validate

FULL = "full"
NUM_STEPS = 25
"""Of the variant with many; as Stable Video Diffusion has."""


class Variant(FrozenModel):
    """A change of a training run.

    Args:
        summary: What is taken away.
        unet: Options of the network that change.
        without: Stages that are left out.
        data: Sources in place of the run's; it is measured on the same clips all the same.
        fuse: How windows are put together when it is measured, see `focuspull.model.pipeline.Settings`. A
            variant that differs from the full run in nothing else is not trained.
    """

    summary: str
    unet: dict[str, Any] = Field(default_factory=dict)
    without: tuple[StageName, ...] = ()
    data: tuple[Source, ...] | None = None
    fuse: Fuse = "latent"

    @property
    def is_trained(self) -> bool:
        """Whether it needs a run of its own."""
        return bool(self.unet or self.without or self.data)


VARIANTS: dict[str, Variant] = {
    FULL: Variant(summary="nothing"),
    "no-mpi": Variant(summary="attention to the all-in-focus features of regions", unet={"masks": "none"}),
    "unsigned": Variant(summary="the sign of the defocus", unet={"signed_defocus": False}),
    "multi-step": Variant(
        summary="the single step: 25 steps of denoising", unet={"sampling_steps": NUM_STEPS}
    ),
    "no-temporal": Variant(summary="the temporal stage", without=("temporal",)),
    "no-wois": Variant(summary="the overlap of windows", fuse="none"),
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
        trained = name == FULL or VARIANTS[name].is_trained
        folders[name] = _train(name, recipe, options) if trained else folders[FULL]
    window = min(stage.num_frames for stage in recipe.stages if stage.network == "unet")
    window += window % 2
    tables = []
    for title, perturbation in (("True disparity", None), ("Perturbed disparity", recipe.perturbation)):
        validation = Validation(
            corpora,
            num_frames=min(row.num_frames for corpus in corpora for row in corpus.rows),
            transform=recipe.transform,
            num_samples=recipe.validation_samples,
            perturbation=perturbation,
            seed=recipe.seed,
        )
        reports: dict[str, Report] = {}
        for name, folder in folders.items():
            settings = Settings(window=window, fuse=VARIANTS[name].fuse)
            reports[name] = validate(network_predict(folder, options.device, settings), validation)
        tables.append(f"{title}, {len(validation)} samples:\n\n{comparison_table(reports)}")
    return "\n\n".join(tables)


def _train(name: str, recipe: Recipe, options: RunOptions) -> Path:
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
    if name != FULL:
        start = given.out / "start"
        if recipe.stages[0].name == "autoencoder":
            vae = load_pipeline(options.out / FULL / "autoencoder" / "checkpoints" / LAST / PIPELINE).vae
            _write(replace(scratch(changed), vae=vae), start)
            changed = changed.model_copy(update={"start": "weights", "stages": stages[1:]})
            given = given.model_copy(update={"init": start})
        elif options.init is not None and variant.unet:
            _write(_fitted(options.init, changed), start)
            given = given.model_copy(update={"init": start})
    return train(changed, given)


def _write(parts: Parts, folder: Path) -> None:
    # What marks the folder as one of a pipeline is written last.
    if not (folder / "model_index.json").exists():
        BokehPipeline.of(parts).save_pretrained(folder)


@torch.no_grad()
def _fitted(weights: Path, recipe: Recipe) -> Parts:
    """Weights in a network with other options."""
    there = load_pipeline(weights)
    unet = build(recipe.preset, seed=recipe.seed, **recipe.unet).unet
    known = there.unet.state_dict()
    for key, value in unet.state_dict().items():
        given = known.get(key)
        if given is not None and given.shape == value.shape:
            value.copy_(given)
        elif key == "conv_in.weight" and given is not None:
            # Noisy latents come last here, and are what the first were in Stable Video Diffusion.
            value.copy_(torch.cat([given, given[:, : value.shape[1] - given.shape[1]]], 1))
    return Parts(unet, there.vae, there.image_encoder)
