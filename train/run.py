"""A training run: its folder, and stages one after the other.

    OUT/recipe.yaml                  the recipe with all its fields; a run is continued with the same one
    OUT/STAGE/checkpoints/           see `focuspull.train.checkpoint`
    OUT/STAGE/data/                  frozen lists of shards, with ``follow``
    OUT/STAGE/log.jsonl              and tensorboard/, grids/*.png

A stage starts from the last checkpoint of the one before, which has to be at its end. Calling `train` again
goes on where the run was, whatever ended it.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import cast

import torch
import yaml
from diffusers.models.resnet import ResnetBlock2D, TemporalResnetBlock
from torch import Tensor, nn

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.dataset.loader import Window
from focuspull.dataset.perturb import Perturbation
from focuspull.dataset.transforms import Transform
from focuspull.model.pipeline import load_pipeline
from focuspull.model.presets import Parts, build
from focuspull.train.checkpoint import LAST, PIPELINE, list_checkpoints, read_checkpoint
from focuspull.train.data import Source, TrainingData, full_address, open_sources
from focuspull.train.distributed import Strategy, World, join_world
from focuspull.train.loop import StageJob, train_stage
from focuspull.train.recipe import Recipe
from focuspull.train.stages import Stage, StageName
from focuspull.train.track import Tracker
from focuspull.train.validate import Validation

RECIPE = "recipe.yaml"
COLOUR_GAIN = 8.0
"""Of directions of colour over brightness, in the first layer of a VAE from scratch."""
SCRATCH_GATE = 0.5
"""What gates start at where there is nothing to preserve."""


class RunOptions(FrozenModel):
    """What a run is given besides its recipe: data, and how it is run here.

    Args:
        out: Folder of the run.
        data: What to train on, the split ``train``.
        validation: What to measure on, the split ``val``; None: that of ``data``, where there is one.
        init: Folder of weights to start from, for recipes that say so.
        follow: Whether shards that are committed meanwhile are taken into the next epoch.
        device: Such as ``cpu`` or ``cuda``; None: ``cuda`` if there is a GPU.
        strategy: How several processes share the work.
        num_workers: Threads that read and decode, per process.
        latents: Folder for latents of frozen networks; None: they are computed anew.
        compile: Whether the network that learns is compiled.
        tensorboard: Whether to write its files.
        wandb: Weights & Biases project to log to; None: none.
        peak_tflops: Of the device, where it is not known.
        skip_damaged: Whether damaged clips are replaced by others, instead of ending the run.
    """

    out: Path
    data: tuple[Source, ...]
    validation: tuple[Source, ...] | None = None
    init: Path | None = None
    follow: bool = False
    device: str | None = None
    strategy: Strategy = "ddp"
    num_workers: int = 2
    latents: Path | None = None
    compile: bool = False
    tensorboard: bool = True
    wandb: str | None = None
    peak_tflops: float | None = None
    skip_damaged: bool = False

    def seen_from_anywhere(self) -> RunOptions:
        """The same with full names of all that is on a disk, for processes that start elsewhere."""
        paths = {
            name: None if (path := getattr(self, name)) is None else path.resolve()
            for name in ("out", "init", "latents")
        }
        sources = {
            name: None
            if (given := getattr(self, name)) is None
            else tuple(
                source.model_copy(update={"address": full_address(source.address)}) for source in given
            )
            for name in ("data", "validation")
        }
        return self.model_copy(update={**paths, **sources})


def train(recipe: Recipe, options: RunOptions, stages: tuple[StageName, ...] | None = None) -> Path:
    """Train stages of a recipe, one after the other; goes on where an earlier call was.

    Args:
        recipe: The recipe.
        options: Data, folder, and how it is run.
        stages: Which of its stages; None: all.

    Returns:
        Folder of the trained networks, for `focuspull.model.pipeline.load_pipeline`.

    Raises:
        UserError: For every mistake in what was given, and when training has to end.
    """
    chosen = stages or tuple(stage.name for stage in recipe.stages)
    if unknown := [name for name in chosen if name not in {stage.name for stage in recipe.stages}]:
        have = ", ".join(stage.name for stage in recipe.stages)
        raise UserError(f"stage '{unknown[0]}': the recipe has none of that name. It has: {have}.")
    with join_world(options.device) as world:
        if world.is_first:
            _keep_recipe(recipe, options.out)
        world.wait()
        for name in chosen:
            _train_one(recipe, options, recipe.stage(name), world)
    return trained(recipe, options, stages)


def trained(recipe: Recipe, options: RunOptions, stages: tuple[StageName, ...] | None = None) -> Path:
    """Where the networks lie that a run of these stages leaves."""
    last = (stages or tuple(stage.name for stage in recipe.stages))[-1]
    return options.out / last / "checkpoints" / LAST / PIPELINE


def _keep_recipe(recipe: Recipe, out: Path) -> None:
    """Write the recipe into the run's folder, or compare it with the one that is there."""
    path = out / RECIPE
    given = recipe.model_dump(mode="json")
    if not path.exists():
        write_atomic(path, yaml.safe_dump(given, sort_keys=False).encode())
        return
    try:
        there = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read. Choose another --out.") from error
    if there == given:
        return
    fields = there if isinstance(there, dict) else {}
    field = next((name for name in given if fields.get(name) != given[name]), "format")
    raise UserError(
        f"{path}: this run has another recipe, its {field} is {fields.get(field)!r}, "
        f"got {given.get(field)!r}. Choose another --out, or give the same recipe."
    )


def _train_one(recipe: Recipe, options: RunOptions, stage: Stage, world: World) -> None:
    folder = options.out / stage.name
    perturbation = recipe.perturbation.model_copy(update={"probability": stage.perturbed})
    transform = recipe.transform
    if stage.crop is not None:
        transform = Transform(size=stage.crop, crop=stage.crop, flip=transform.flip)
    version = metadata.version("focuspull")

    def data() -> TrainingData:
        return TrainingData(
            options.data,
            split="train",
            window=Window(num_frames=stage.num_frames),
            batch_size=recipe.micro_batch_size,
            samples_per_step=recipe.batch_size,
            seed=recipe.seed,
            transform=transform,
            perturbation=perturbation if stage.perturbed else None,
            num_workers=options.num_workers,
            rank=world.rank,
            world_size=world.size,
            on_error="skip" if options.skip_damaged else "raise",
            follow=options.follow,
            folder=folder / "data",
        )

    def make_tracker(step: int) -> Tracker:
        config = {"recipe": recipe.model_dump(mode="json"), "stage": stage.name}
        return Tracker(
            folder, tensorboard=options.tensorboard, wandb=options.wandb, start_step=step, config=config
        )

    job = StageJob(
        recipe=recipe,
        stage=stage,
        folder=folder,
        parts=_starting_point(recipe, options, stage),
        data=data,
        validations=_validations(recipe, options, stage),
        strategy=options.strategy,
        cache=options.latents,
        compile=options.compile,
        make_tracker=make_tracker,
        peak_tflops=options.peak_tflops,
        version=version,
    )
    train_stage(job, world)


def _starting_point(recipe: Recipe, options: RunOptions, stage: Stage) -> Parts:
    """The networks at the last checkpoint of this stage, else at the end of the one before, else the first.

    Only what learns is overwritten by the checkpoint's state; the rest has to come from somewhere.
    """
    own = list_checkpoints(options.out / stage.name / "checkpoints")
    if own:
        return _load(recipe, own[max(own)] / PIPELINE)
    before = recipe.before(stage.name)
    if before is None:
        if recipe.start == "scratch":
            if options.init is not None:
                raise UserError(
                    "--init: the recipe starts from scratch. Leave it out, or set --start weights."
                )
            return scratch(recipe)
        if options.init is None:
            raise UserError(
                "--init: the recipe starts from weights and was given none. "
                "python -m focuspull.model.weights makes a folder from Stable Video Diffusion."
            )
        return _load(recipe, options.init)
    folder = options.out / before.name / "checkpoints"
    found = list_checkpoints(folder)
    done = read_checkpoint(found[max(found)]).step if found else 0
    if done < before.num_steps:
        raise UserError(
            f"stage '{stage.name}': starts from the end of '{before.name}', of which {folder} has {done} of "
            f"{before.num_steps} steps. Train that first, or all."
        )
    return _load(recipe, found[max(found)] / PIPELINE)


def scratch(recipe: Recipe) -> Parts:
    """Freshly drawn networks of a recipe, as training starts with them."""
    parts = build(recipe.preset, seed=recipe.seed, **recipe.unet)
    open_paths(parts)
    return parts


@torch.no_grad()
def open_paths(parts: Parts) -> None:
    """Open what is closed at first, to preserve what weights know, where they know nothing.

    Else K would hardly reach the U-Net for as long as its gates are nearly closed, nor detail the decoder.
    Blocks of convolutions, on the other hand, begin as what goes around them (Dhariwal and Nichol, "Diffusion
    models beat GANs on image synthesis", NeurIPS 2021, and their code), and the decoder frame by frame
    (Blattmann et al., "Align your latents", CVPR 2023), so that a VAE that has seen single frames decodes
    videos too. Colour varies much less than brightness: the encoder's first layer makes up for it, or only
    greys would be learned for long.
    """
    for convolution in parts.vae.decoder.modules():
        if isinstance(convolution, nn.Conv3d):
            convolution.weight[:, :, [0, -1]] = 0
    parts.vae.decoder.time_conv_out.weight[:, :, 1, 0, 0] = torch.eye(3)
    first = parts.vae.encoder.conv_in.weight
    grey = first.mean(1, keepdim=True)
    first.copy_(grey + COLOUR_GAIN * (first - grey))
    for network in (parts.unet, parts.vae):
        for block in network.modules():
            if isinstance(block, ResnetBlock2D | TemporalResnetBlock):
                nn.init.zeros_(block.conv2.weight)
                nn.init.zeros_(cast(Tensor, block.conv2.bias))
    for name, parameter in parts.unet.named_parameters():
        if name.rpartition(".")[2].startswith("gate_"):
            parameter.fill_(SCRATCH_GATE)
    rng = torch.Generator().manual_seed(0)
    for skip in parts.vae.skips:
        weight = cast(nn.Conv2d, skip).weight
        weight.copy_(torch.randn(weight.shape, generator=rng) * weight.shape[1] ** -0.5)


def _load(recipe: Recipe, folder: Path) -> Parts:
    """Weights that must be of the recipe's network."""
    pipeline = load_pipeline(folder)
    parts = Parts(pipeline.unet, pipeline.vae, pipeline.image_encoder)
    with torch.device("meta"):
        wanted = build(recipe.preset, **recipe.unet)
    for name in ("unet", "vae", "image_encoder"):
        shapes, shapes_there = (
            {key: tuple(value.shape) for key, value in getattr(networks, name).state_dict().items()}
            for networks in (wanted, parts)
        )
        for key in sorted(shapes.keys() | shapes_there.keys()):
            if shapes.get(key) != shapes_there.get(key):
                there, here = shapes_there.get(key, "missing"), shapes.get(key, "in it")
                raise UserError(
                    f"{folder}: its {name} is not that of the recipe (preset '{recipe.preset}'): {key} is "
                    f"{there}, not {here}. Give weights that fit."
                )
    return parts


def _validations(recipe: Recipe, options: RunOptions, stage: Stage) -> dict[str, Validation]:
    """What a stage is measured on: clean disparity first; perturbed disparity if it learns from that."""
    if options.validation is not None:
        corpora = open_sources(options.validation, "val", follow=options.follow)
    else:
        corpora = open_sources(options.data, "val", missing="skip", follow=options.follow)
        if not corpora:
            return {}
    perturbations: dict[str, Perturbation | None] = {"val": None}
    if stage.perturbed:
        perturbations["val perturbed"] = recipe.perturbation
    return {
        name: Validation(
            corpora,
            num_frames=stage.num_frames,
            transform=recipe.transform,
            num_samples=recipe.validation_samples,
            perturbation=perturbation,
            seed=recipe.seed,
        )
        for name, perturbation in perturbations.items()
    }
