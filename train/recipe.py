"""`Recipe`: all that decides what a training run makes of its data, read from YAML.

A shipped name or a path, then dotted overrides, as for corpus specs. Where to
run (device, processes, threads) is not in it: the same recipe, data and seed give the same weights on one
process, and on several up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, field_validator, model_validator

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.documents import document_path, read_document, set_field, validated
from focuspull.dataset.perturb import CORRECTED, PRESETS, Perturbation
from focuspull.dataset.transforms import Transform
from focuspull.train.stages import STAGES, Stage, StageName

RECIPES = Path(__file__).parent / "recipes"
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Optimization(FrozenModel):
    """AdamW and what goes with it.

    Args:
        optimizer: ``adamw``, or ``adamw8bit`` whose averages take a quarter of the memory (needs torchao).
        betas: Decay of the averages of gradient and squared gradient.
        eps: Added to the root of the latter.
        weight_decay: Decoupled, per step and unit of learning rate.
        max_grad_norm: Norm to which gradients of all parameters together are clipped.
        warmup_steps: Over which the learning rate grows from 0, linearly.
        schedule: ``constant`` after that, or half a ``cosine`` down to 0 at the last step.
        ema_decay: Of the moving average of the weights, which is what is used in the end; 0: none. In the
            beginning it is less, ``(1 + step) / (10 + step)``.
    """

    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
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
        start: ``scratch``: freshly drawn weights. ``weights``: those of a folder that the run is given.
        preset: Size of the network, a key of `focuspull.model.presets.PRESETS`.
        unet: Options of `focuspull.model.unet.BokehUNet` that differ from the preset's.
        seed: Of weights, order of the data and all that is drawn.
        transform: What is done to every window.
        perturbation: Of the disparity in samples of stages that have some; its probability is the stage's. A
            key of `focuspull.dataset.perturb.PRESETS` will do.
        stages: In the order of `focuspull.train.stages.STAGES`; what is not given of one is as there, so a
            name alone will do.
        batch_size: Samples per optimiser step, of all processes together.
        micro_batch_size: Samples that pass a network at a time; gradients of the others are added up.
        precision: ``float32``, or ``bfloat16`` for what autocast computes with float32 weights.
        gradient_checkpointing: Whether blocks are computed again in the backward pass, to save memory.
        optimization: Of all stages.
        save_every: Steps between checkpoints.
        keep: Checkpoints to keep per stage.
        validate_every: Steps between validations.
        validation_samples: That a validation looks at.
        log_every: Steps between lines of the log.
        stop_above: The run ends when the running mean of the loss is this many times what it was at its
            lowest.
    """

    description: str
    start: Literal["scratch", "weights"]
    preset: str
    unet: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)
    transform: Transform = Transform()
    perturbation: Perturbation = CORRECTED
    stages: tuple[Stage, ...] = Field(min_length=1)
    batch_size: int = Field(gt=0)
    micro_batch_size: int = Field(gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    optimization: Optimization = Optimization()
    save_every: int = Field(gt=0)
    keep: int = Field(default=2, gt=0)
    validate_every: int = Field(gt=0)
    validation_samples: int = Field(default=32, gt=0)
    log_every: int = Field(default=10, gt=0)
    stop_above: float = Field(default=10.0, gt=1, allow_inf_nan=False)

    @field_validator("stages", mode="before")
    @classmethod
    def _filled_in(cls, given: Any) -> Any:
        return [_filled_in(stage) for stage in given] if isinstance(given, list) else given

    @field_validator("perturbation", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if isinstance(given, str) and given not in PRESETS:
            raise ValueError(f"there is none called '{given}'; there are {', '.join(PRESETS)}")
        return PRESETS[given] if isinstance(given, str) else given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size: {self.batch_size} is no multiple of micro_batch_size {self.micro_batch_size}"
            )
        order = list(STAGES)
        for before, after in pairwise(self.stages):
            if order.index(before.name) >= order.index(after.name):
                raise ValueError(f"stages: '{after.name}' cannot come after '{before.name}'")
        return self

    def before(self, name: StageName) -> Stage | None:
        """The stage that one starts from; None for the first.

        Raises:
            KeyError: If the recipe has none of that name.
        """
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise KeyError(name)
        number = names.index(name)
        return self.stages[number - 1] if number else None

    def stage(self, name: StageName) -> Stage:
        """The stage of a name.

        Raises:
            KeyError: If the recipe has none of it.
        """
        return {stage.name: stage for stage in self.stages}[name]


def _filled_in(stage: Any) -> Any:
    """What YAML gives of a stage, with the rest as in `STAGES`; as it is if that has none of its name."""
    given: Any = {"name": stage} if isinstance(stage, str) else stage
    known = STAGES.get(cast(Any, given.get("name"))) if isinstance(given, dict) else None
    return stage if known is None else {**known.model_dump(mode="json"), **given}


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
