"""The recipe of judges that write: what may be trained, and mistakes by name."""

from __future__ import annotations

from typing import Any

import pytest

from mmalign.strict import validate
from rewardmodels.judges.recipes import kind_of
from rewardmodels.judges.settings import FOLDER, Pair, Points, Principles, read_judge
from rewardmodels.judges.text_recipe import TextRecipe

WORLD = {"image": "shapes", "edit": "shapes-edits", "video": "shapes-videos"}


def writes(name: str) -> bool:
    judge = read_judge(name).judge
    return isinstance(judge, Points | Principles) or (
        isinstance(judge, Pair) and judge.style != "probability"
    )


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.yaml")))
def test_every_judge_file_that_writes_can_be_trained(name: str) -> None:
    world = WORLD[read_judge(name).modalities[0]]
    given = {
        "judge": {"asks": name}, "data": {"pairs": world, "heldout": world}, "warm_up": {"critique": "It is fine."}
    }  # fmt: skip
    if not writes(name):
        with pytest.raises(ValueError, match=r"judge\.asks must write"):
            validate(given, TextRecipe)
        return
    made = validate(given, TextRecipe)
    assert set(made.rated.values()) <= {"overall"} and made.scale == (1.0, 4.0)


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ({"warm_up": {"ratings": {"beauty": "overall"}}}, "names .beauty.; numbers of judge.asks: succ"),
        ({"warm_up": {"scale": [5, 1]}}, "lowest and the highest rating"),
        ({"judge": {"asks": "editscore", "dtype": "bfloat16"}}, "set judge.dtype=float32, or judge.weights=lora"),
        ({"data": {"pairs": "x.jsonl", "heldout": None}}, "ratings in a file need warm_up.scale"),
        ({"data": {"pairs": "shapes", "heldout": None}}, "data.pairs=shapes holds the kind 'image'"),
        ({"judge": {"asks": "critique-then-mark"}}, "give the words for it in warm_up.critique"),
    ],
)  # fmt: skip
def test_mistakes_in_a_recipe(given: dict[str, Any], mend: str) -> None:
    edits = {"pairs": "shapes-edits", "heldout": "shapes-edits"}
    with pytest.raises(ValueError, match=mend):
        validate({"data": edits, **given}, TextRecipe)


def test_without_a_warm_up_a_file_needs_no_ratings() -> None:
    given = {"data": {"pairs": "x.jsonl", "heldout": None}, "warm_up": {"updates": 0}}
    assert validate(given, TextRecipe).warm_up.updates == 0 and kind_of("judge/editscore-like") == "text"
