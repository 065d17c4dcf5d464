"""The recipes of `mmalign train-judge`, by what they train. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from mmalign.config import find_recipe
from mmalign.strict import read_yaml
from rewardmodels.judges.probability_recipe import ChecklistRecipe, ProbabilityRecipe
from rewardmodels.judges.text_recipe import TextRecipe
from rewardmodels.judges.verdict_recipe import JudgeRecipe

AnyJudge = JudgeRecipe | TextRecipe | ProbabilityRecipe | ChecklistRecipe
SCHEMAS: dict[str, type[AnyJudge]] = {
    "judge": JudgeRecipe, "text": TextRecipe, "probability": ProbabilityRecipe, "checklist": ChecklistRecipe
}  # fmt: skip
"""By `method.name`."""


def kind_of(recipe: str | Path) -> str:
    """What a recipe of `train-judge` trains, by `method.name`: verdicts of a small model where it names none."""
    method = read_yaml(find_recipe(recipe)).get("method")
    named = method.get("name") if isinstance(method, dict) else None
    return named if named in SCHEMAS else "judge"
