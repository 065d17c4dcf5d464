"""Recipes of judges of token probabilities: mistakes are told with their mend, and each names its kind."""

from __future__ import annotations

from typing import Any

import pytest

from mmalign.strict import validate
from rewardmodels.judges.probability_recipe import ProbabilityRecipe
from rewardmodels.judges.recipes import SCHEMAS, kind_of

GRADES = {"kind": "digits", "wording": "plain/1"}
DIGITS = {"name": "digits", "about": "a test", "modalities": ["image"], "scale": "[0, 1]", "judge": GRADES}


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ({"judge": {"asks": "visionreward"}}, "kind yes_no or digits, or pair"),
        ({"judge": {"asks": "unifiedreward-pair"}}, "kind yes_no or digits, or pair"),
        ({"judge": {"asks": "rewarddance-reasoned"}}, "set reasoning to 0"),
        ({"method": {"loss": "margin", "critiques": True}}, "belong to first_token"),
        ({"judge": {"weights": "lora", "lora": {"dropout": 0.1}}}, "leave lora.dropout at 0"),
        ({"judge": {"dtype": "bfloat16"}}, "trains in float32: bfloat16 would round .*judge.weights=lora"),
        ({"method": {"anchor": 0.1}}, "anchor belongs to margin"),
        ({"method": {"scale": 2.0}}, "scale belongs to margin"),
        ({"method": {"published": True}}, "needs critiques"),
        ({"method": {"loss": "margin", "ranking": 1.0}}, "ranking belongs to first_token"),
        ({"method": {"critiques": True}}, "critiques are of single pictures, in files"),
        (
            {"judge": {"asks": DIGITS}, "method": {"critiques": True}, "data": {"pairs": "x.jsonl"}},
            "critiques are of single pictures, in files: use kind yes_no",
        ),
        ({"judge": {"asks": "uniworld-v2"}}, "data.pairs=shapes holds the kind 'image'.*judges edit"),
        ({"data": {"pairs": "x.jsonl", "heldout": "x.jsonl"}}, "give another, or null"),
        (
            {"data": {"pairs": "shapes-edits"}},
            "data.pairs=shapes-edits holds the kind 'edit'.*judges image and video",
        ),
        (
            {"data": {"pairs": "x.jsonl", "heldout": "shapes-edits"}},
            "data.heldout=shapes-edits holds the kind",
        ),
    ],
)
def test_mistakes_in_a_recipe(given: dict[str, Any], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        validate(given, ProbabilityRecipe)


def test_the_kind_of_a_recipe_is_read_from_its_method() -> None:
    kinds = dict.fromkeys(("paco-like", "rewarddance-like", "uniworld-like"), "probability")
    kinds["checklist-like"] = "checklist"
    assert {name: kind_of(f"judge/{name}") for name in kinds} == kinds and kind_of("judge/shapes") == "judge"
    assert set(SCHEMAS) == {"judge", "text", "probability", "checklist"}
