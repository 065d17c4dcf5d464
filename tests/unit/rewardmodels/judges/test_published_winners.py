"""What is read from answers in the published formats: winners, categories, scores, or why not.

The formats are those of the inference code of UnifiedReward-Think, -Flex and -Edit.
"""

from __future__ import annotations

import pytest

from rewardmodels.judges.verdicts import Unreadable
from rewardmodels.judges.winners import outcome
from tests.unit.rewardmodels.judges.published_answers import THINK, flex


def test_think_is_read_after_its_reasoning() -> None:
    assert outcome(THINK.format(answer="Image 2 is better"), "tag").first == 0.0
    assert outcome(THINK.format(answer="Image 1 is better"), "tag").first == 1.0
    assert outcome("<think>...</think>\n<answer>Video 2 is better</answer>", "tag").first == 0.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (THINK.partition("</think>")[0], "no <answer>"),
        (THINK.replace("</think>", "").format(answer="Image 1 is better"), "no <answer>"),
        (THINK.partition("<answer>")[0] + "Image 1 is better", "no <answer>"),
        (THINK.partition("</answer>")[0].format(answer="Image 1 is better"), "no <answer>"),
        (THINK.format(answer=""), "names neither"),
        (THINK.format(answer="Image 3 is better"), "names neither"),
        (THINK.format(answer="Image 1/2"), "names neither"),
    ],
)
def test_think_that_says_no_winner_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=f"(?s){why}.*the answer starts '<think>"):
        outcome(text, "tag")


def test_flex_has_a_winner_and_what_each_wins_of_the_mandatory_categories() -> None:
    found = outcome(flex(2, 1, 2, 2), "criteria", "winner")
    assert found.first == 0.0 and found.parts["criteria"] == pytest.approx((1 / 3, 2 / 3))
    assert outcome(flex(1, 1, 1, 1, 2), "criteria", "winner").parts["criteria"] == (
        1.0,
        0.0,
    )  # not the fourth
    video = outcome(flex(1, 1, "2", 1, noun="Video"), "criteria", "winner")
    assert video.first == 1.0 and video.parts["criteria"] == pytest.approx((2 / 3, 1 / 3))
    assert (
        outcome('{"categories": [{"cat_winner": "Tie"}], "winner": "Tie"}', "criteria", "winner").first == 0.5
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (flex(1, 1, 2, 1)[:-30], 'no JSON object with "winner"'),
        (flex("1/2", 1, 2, 1), "names neither"),
        (flex(1, 1, "1/2", 1), "names neither"),
        (flex(1), 'lacks "categories"'),
        (flex(1, 1).replace('"cat_winner"', '"won"'), 'no "cat_winner"'),
        ('{"categories": {"A": "Image 1"}, "winner": "Image 1"}', 'lacks "categories"'),
        ('{"categories": ["Image 1"], "winner": "Image 1"}', 'no "cat_winner"'),
        ("Image 1 is better than Image 2.", 'no JSON object with "winner"'),
    ],
)
def test_flex_that_is_incomplete_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        outcome(text, "criteria", "winner")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Image 1: 0.52\nImage 2: -1.3", (0.52, -1.3)),
        ("Edited Image 1 score: -2.25, Edited Image 2 score: 3.0", (-2.25, 3.0)),
        ("**Image 1:** 4\n**Image 2:** \N{MINUS SIGN}1", (4.0, -1.0)),
        ('{"Image 1": 1.5, "Image 2": 1.5}', (1.5, 1.5)),
        ("The first gets 0.5, the second -0.25.", (0.5, -0.25)),
        ("Image 1: 9.0, no. Image 1: 1.0. Image 2: 2.0.", (1.0, 2.0)),
    ],
)
def test_scores_of_two_edits_keep_their_sign(text: str, expected: tuple[float, float]) -> None:
    found = outcome(text, "scores")
    assert found.parts["score"] == expected
    assert found.first == (0.5 if expected[0] == expected[1] else float(expected[0] > expected[1]))


@pytest.mark.parametrize(
    "text",
    [
        "", "Image 1: 0.5", "Image 1: good\nImage 2: bad", "0.5 and 0.25 and 0.125", "3 and 4", "Image 1: 1.2.3",
        "Image 1: 3/4\nImage 2: 0.5", "Image 1: 0.5/1\nImage 2: 0.75/1", "Image 1: 80%\nImage 2: 70%",
        "Image 1: 1e999\nImage 2: 0.5",
    ],
)  # fmt: skip
def test_what_are_no_two_scores_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="no score for each"):
        outcome(text, "scores")
