"""Recipes: what is refused, and what the refusal says."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from training.config import Recipe
from training.loss_kinds import BradleyTerry, Margin, Scaled
from training.recipe import RecipeError, digest, read

SMALLEST: dict[str, Any] = {
    "name": "smallest",
    "base": {"kind": "checkpoint", "source": "somewhere"},
    "stages": [
        {"name": "images", "data": [{"source": "builtin"}], "learning_rate": 1e-3, "steps": 2}
    ],
}


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "smallest.yaml"
    path.write_text(yaml.safe_dump(SMALLEST))
    return path


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        pytest.param("stages.0.learning_rat=1", "did you mean 'learning_rate'", id="near_a_key"),
        pytest.param("sed=1", "did you mean 'seed'", id="near_a_key_at_the_top"),
        pytest.param("base.zzz=1", "known: kind, source", id="near_nothing"),
        pytest.param("stages.0.data.0.wieght=1", "did you mean 'weight'", id="deep"),
        pytest.param("stages.1.steps=1", "no entry '1' among 1", id="no_such_stage"),
        pytest.param("stages.0.frozen=[tail]", "stages.0.frozen.0", id="no_such_part"),
        pytest.param("stages.0.epochs=1", "exactly one of 'steps' and 'epochs'", id="two_lengths"),
        pytest.param("stages.0.unfreeze_after={head: 0.5}", "does not list", id="thaw_the_thawed"),
        pytest.param("base.kind=magic", "base", id="unknown_base"),
        pytest.param(
            "stages.0={name: s, data: [{source: builtin}], steps: 1, learning_rate: 1, "
            "lora: {}, frozen: [language]}",
            "take 'language' out of 'frozen'",
            id="adapters_in_a_frozen_part",
        ),
        pytest.param("stages.0.lora.rnk=4", "did you mean 'rank'", id="near_an_adapter_key"),
        pytest.param("stages.0.loss=margn", "did you mean 'margin'", id="near_a_loss"),
        pytest.param("stages.0.loss.thresh=1", "known: centering, kind", id="not_this_loss's_key"),
        pytest.param(
            "stages.0.loss={kind: ties, treshold: 1}", "did you mean 'threshold'", id="near_its_key"
        ),
        pytest.param("seed.x=1", "below a plain value", id="below_a_value"),
        pytest.param("seed", "an override looks like", id="no_value"),
    ],
)
def test_a_bad_override_is_refused_with_a_hint(
    recipe_file: Path, override: str, complaint: str
) -> None:
    start = ["seed=0"] if override.startswith("seed.") else []
    with pytest.raises(RecipeError, match=complaint.replace("(", r"\(")):
        read(recipe_file, [*start, override])


def test_overrides_reach_stages_by_number_and_by_name(recipe_file: Path) -> None:
    recipe = read(recipe_file, ["stages.0.learning_rate=1e-4", "stages.images.steps=7"])
    assert recipe.stages[0].learning_rate == 1e-4
    assert recipe.stages[0].steps == 7


def test_a_missing_recipe_names_the_packaged_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="packaged recipes"):
        read(tmp_path / "nowhere.yaml")


def test_digest_ignores_what_cannot_change_the_weights(recipe_file: Path) -> None:
    plain = digest(read(recipe_file))
    assert digest(read(recipe_file, ["workers=1", "output.save_every_minutes=1"])) == plain
    assert digest(read(recipe_file, ["seed=1"])) != plain


def test_a_loss_is_its_name_or_a_mapping_and_takes_dotted_overrides(recipe_file: Path) -> None:
    loss = "stages.images.loss"
    assert read(recipe_file).stages[0].loss == BradleyTerry()
    assert read(recipe_file, [f"{loss}=scaled"]).stages[0].loss == Scaled()
    dotted = read(recipe_file, [f"{loss}.kind=margin", f"{loss}.margin=2", f"{loss}.centering=0.1"])
    assert dotted.stages[0].loss == Margin(margin=2.0, centering=0.1)
    assert read(recipe_file, [f"{loss}.centering=0.1"]).stages[0].loss == BradleyTerry(
        centering=0.1
    )


def test_keys_added_later_leave_the_digest_of_older_recipes_alone(recipe_file: Path) -> None:
    """The packaged recipe's digest as it was before there was a choice of losses."""
    assert digest(read("tiny.yaml")).startswith("9be3c02806cf")
    plain = digest(read(recipe_file))
    assert digest(read(recipe_file, ["stages.0.loss=bradley_terry"])) == plain
    assert digest(read(recipe_file, ["stages.0.loss.centering=0.1"])) != plain
    assert digest(read(recipe_file, ["stages.0.loss=ties"])) != plain


@pytest.mark.parametrize("override", ["loss=ties", "loss.centering=0.1", "loss=bradley_terry"])
def test_a_written_recipe_reads_back_as_itself(recipe_file: Path, override: str) -> None:
    recipe = read(recipe_file, [f"stages.0.{override}"])
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_a_recipe_is_frozen() -> None:
    recipe = Recipe.model_validate(SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3
