"""`Recipe`: all that decides what a training run makes of its data, read from YAML.

A shipped name or a path, then dotted overrides, as for corpus specs. Where to
run (device, processes, threads) is not in it: the same recipe, data and seed give the same weights on one
process, and on several up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.documents import document_path, read_document, set_field, validated
from focuspull.dataset.perturb import Perturbation
from focuspull.dataset.transforms import Transform
from focuspull.train.stages import STAGES, Stage, StageName

RECIPES = Path(__file__).parent / "recipes"
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Optimization(FrozenModel):
    """AdamW and what goes with it.

    Args:
        betas: Decay of the averages of gradient and squared gradient.
        eps: Added to the root of the latter.
        weight_decay: Decoupled, per step and unit of learning rate.
        max_grad_norm: Norm to which gradients of all parameters together are clipped.
        warmup_steps: Over which the learning rate grows from 0, linearly.
        schedule: ``constant`` after that, or half a ``cosine`` down to 0 at the last step.
        ema_decay: Of the moving average of the weights, which is what is used in the end; 0: none. In the
            beginning it is less, ``(1 + step) / (10 + step)``.
    """

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    ema_decay: Fraction = 0.0


class Recipe(FrozenModel):
    """A training run.

    Args:
        description: One line.
        preset: Size of the network, a key of `focuspull.model.presets.PRESETS`.
        unet: Options of `focuspull.model.unet.BokehUNet` that differ from the preset's.
        seed: Of weights, order of the data and all that is drawn.
        transform: What is done to every window.
        perturbation: Of the disparity in samples of stages that have some; its probability is the stage's.
        stages: In their order.
        batch_size: Samples per optimiser step, of all processes together.
        micro_batch_size: Samples that pass a network at a time; gradients of the others are added up.
        precision: ``float32``, or ``bfloat16`` for what autocast computes with float32 weights.
        gradient_checkpointing: Whether blocks are computed again in the backward pass, to save memory.
        optimization: Of all stages.
        save_every: Steps between checkpoints.
        keep: Checkpoints to keep per stage.
        validate_every: Steps between validations.
        log_every: Steps between lines of the log.
    """

    description: str
    preset: str
    unet: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)
    transform: Transform = Transform()
    perturbation: Perturbation = Perturbation()
    stages: tuple[Stage, ...] = tuple(STAGES.values())
    batch_size: int = Field(gt=0)
    micro_batch_size: int = Field(gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    optimization: Optimization = Optimization()
    save_every: int = Field(gt=0)
    keep: int = Field(default=2, gt=0)
    validate_every: int = Field(gt=0)
    log_every: int = Field(default=10, gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size: {self.batch_size} is no multiple of micro_batch_size {self.micro_batch_size}"
            )
        before: StageName | None = None
        for number, stage in enumerate(self.stages):
            if stage.after != before:
                wanted = "nothing" if before is None else f"'{before}'"
                raise ValueError(
                    f"stages.{number}.after: '{stage.name}' comes after {wanted}, got '{stage.after}'"
                )
            before = stage.name
        return self

    def stage(self, name: StageName) -> Stage:
        """The stage of a name.

        Raises:
            KeyError: If the recipe has none of it.
        """
        return {stage.name: stage for stage in self.stages}[name]


def load_recipe(name_or_path: str, overrides: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        name_or_path: A shipped name, or the path of a YAML file.
        overrides: Dotted field to YAML text, such as ``{"stages.0.num_steps": "100"}``.

    Raises:
        UserError: For every mistake, with file, field, value and what to do.
    """
    path = document_path(name_or_path, RECIPES, "recipe")
    document = read_document(path, f"Start from a shipped recipe: {RECIPES.name}/*.yaml.")
    for field, text in (overrides or {}).items():
        set_field(document, field, text)
    return validated(Recipe, document, path.name)
