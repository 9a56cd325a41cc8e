"""Recipes: those that ship, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from focuspull.dataset.errors import UserError
from focuspull.dataset.perturb import CORRECTED, OFFICIAL
from focuspull.model.presets import PRESETS
from focuspull.train.recipe import RECIPES, load_recipe
from focuspull.train.stages import DETAIL, GEOMETRY, STAGES, TEMPORAL

SHIPPED = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def test_three_recipes_ship() -> None:
    assert SHIPPED == ["paper", "small", "tiny"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads_and_ends_with_the_three_stages(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.preset in PRESETS and recipe.description
    names = [stage.name for stage in recipe.stages]
    assert names[-3:] == ["geometry", "temporal", "detail"]
    assert (names[0] == "autoencoder") == (recipe.start == "scratch")


def test_paper_is_what_the_paper_and_its_scripts_do() -> None:
    recipe = load_recipe("paper")
    assert recipe.stages == (GEOMETRY, TEMPORAL, DETAIL)
    assert [stage.learning_rate for stage in recipe.stages] == [1e-5, 5e-6, 5e-6]
    assert [stage.num_steps for stage in recipe.stages] == [50_000, 20_000, 30_000]
    assert (
        recipe.perturbation == load_recipe("paper", {"perturbation": "corrected"}).perturbation == CORRECTED
    )
    assert load_recipe("paper", {"perturbation": "official"}).perturbation == OFFICIAL
    assert recipe.preset == "svd" and recipe.transform.size == (576, 1024)
    assert recipe.optimization.weight_decay == 0.01 and recipe.optimization.betas == (0.9, 0.999)


def test_fields_are_set_from_the_command_line_and_the_rest_is_filled_in() -> None:
    recipe = load_recipe("tiny", {"stages": "[geometry, {name: detail, num_steps: 7}]", "batch_size": "8"})
    assert recipe.batch_size == 8
    assert recipe.stages[0] == STAGES["geometry"]
    assert recipe.stages[1] == STAGES["detail"].model_copy(update={"num_steps": 7})
    assert recipe.before("detail") == recipe.stages[0] and recipe.before("geometry") is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"batch_sise": "4"}, "tiny.yaml: unknown field 'batch_sise'. Did you mean 'batch_size'?"),
        ({"batch_size": "6"}, "tiny.yaml: batch_size: 6 is no multiple of micro_batch_size 4"),
        ({"batch_size": "0"}, "tiny.yaml: field 'batch_size': Input should be greater than 0, got 0"),
        ({"stages": "[detail, geometry]"}, "tiny.yaml: stages: 'geometry' cannot come after 'detail'"),
        ({"stages": "[detail, detail]"}, "tiny.yaml: stages: 'detail' cannot come after 'detail'"),
        ({"stages": "[]"}, "tiny.yaml: field 'stages'"),
        ({"stages": "[polish]"}, "tiny.yaml: field 'stages.0'"),
        ({"precision": "float16"}, "tiny.yaml: field 'precision'"),
        ({"perturbation": "estimated"}, "tiny.yaml: perturbation: there is none called 'estimated'"),
        ({"stages.0.num_steps": "-1"}, "tiny.yaml: field 'stages.0.num_steps'"),
    ],
)
def test_mistakes_are_one_line(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe("tiny", overrides)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_an_unknown_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="recipe: 'tinny' is unknown. Did you mean 'tiny'?"):
        load_recipe("tinny")
    with pytest.raises(UserError, match="cannot be read"):
        load_recipe(str(tmp_path / "mine.yaml"))
