"""Judges of pairs in both orders and in groups: on answers in published formats, and on published layouts.

The formats are those of the inference code of UnifiedReward-Think, -Flex, -Edit and -2.0; the sentences in them are
ours.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rewardmodels
from mmalign.types import Sample
from rewardmodels.judges.chat import Question
from rewardmodels.judges.load import load_judge
from rewardmodels.judges.pairwise import PairJudge, WinRate, consistency
from rewardmodels.judges.wording import wording
from tests.unit.rewardmodels.judges import planted
from tests.unit.rewardmodels.judges.engines import Scripted
from tests.unit.rewardmodels.judges.published_answers import flex, shares
from tests.unit.rewardmodels.judges.test_published import IMAGE, Stock, samples


def shades(question: Question) -> list[float]:
    return [round(float(picture.mean()), 2) for picture in question.pictures]


def edits(*levels: float) -> list[Sample]:
    source = torch.full((3, 8, 8), 0.25)
    return [Sample("lighter", torch.full((3, 8, 8), level), source) for level in levels]


def judge(config: str, say: Callable[[Question], str]) -> PairJudge:
    made = load_judge(config=config, engine=Scripted(lambda question, how: say(question)))
    assert isinstance(made, PairJudge)
    return made


def test_scores_are_means_over_both_orders_which_cancel_a_liking_for_the_first() -> None:
    def say(question: Question) -> str:
        first, second = shades(question)[-2:]
        return f"Image 1: {first + 0.3:.2f}\nImage 2: {second - 0.3:.2f}"

    made = judge("unifiedreward-edit-scores", say)
    (one,) = made.compare([tuple(edits(0.5, 0.6))])  # type: ignore[list-item]
    assert one.parts["score"] == pytest.approx((0.5, 0.6)) and one.probability == 0.0
    assert not one.consistent and consistency([one]).first_rate == 1.0
    scores = WinRate(made)(samples=edits(0.5, 0.6, 0.9))
    assert scores.names == ("win_rate", "score")
    torch.testing.assert_close(scores.values, torch.tensor([[0.0, 0.5], [0.5, 0.6], [1.0, 0.9]]))
    torch.testing.assert_close(scores.overall, scores.values[:, 1])


def grey(*levels: float) -> list[Sample]:
    return [Sample("light", torch.full((3, 8, 8), level)) for level in levels]


def test_flex_is_half_win_rate_and_half_categories_in_a_group() -> None:
    def say(question: Question) -> str:
        lighter = 1 if shades(question)[0] > shades(question)[1] else 2
        return flex(lighter, lighter, lighter, 3 - lighter)

    scores = WinRate(judge("unifiedreward-flex-image", say))(samples=grey(0.2, 0.9))
    torch.testing.assert_close(scores.values, torch.tensor([[0.0, 1 / 3], [1.0, 2 / 3]]))
    torch.testing.assert_close(scores.overall, scores.values.mean(1))


@pytest.mark.parametrize(
    "name",
    [
        "unifiedreward-pair-video",
        "unifiedreward-think-video",
        "unifiedreward-flex-video",
        "unifiedreward-share-video",
    ],
)
def test_of_two_videos_the_frames_come_first_one_after_the_other(name: str) -> None:
    texts = {
        "unifiedreward-pair-video": "Video 1 moves smoothly. Video 1 is better than Video 2.",
        "unifiedreward-think-video": "<answer>Video 1 is better</answer>",
        "unifiedreward-flex-video": flex(1, 1, 1, 1, noun="Video"),
        "unifiedreward-share-video": shares(0.6, 0.6, 0.6, noun="Video"),
    }
    made = judge(name, lambda question: texts[name])
    first, second = (
        torch.linspace(low, low + 0.4, 12)[:, None, None, None].expand(12, 3, 8, 8) for low in (0, 0.5)
    )
    (one,) = made.compare([(Sample("a fox", first), Sample("a fox", second))])
    assert one.reason is None and one.probability == pytest.approx(0.5)  # whoever is first wins
    question: Question = made.engine.asked[0][0]  # type: ignore[attr-defined]
    (message,) = question.messages
    assert all(isinstance(part, Tensor) for part in message.parts[:16]) and len(message.parts) == 17
    levels = shades(question)
    assert levels == sorted(levels) and levels[7] == 0.4 and levels[8] == 0.5


def test_an_edit_pair_shows_the_source_then_the_first_then_the_second() -> None:
    made = judge("unifiedreward-edit-scores", lambda question: "Image 1: 1.0\nImage 2: 0.0")
    made.compare([tuple(edits(0.5, 0.75))])  # type: ignore[list-item]
    assert [shades(question) for question, _ in made.engine.asked] == [[0.25, 0.5, 0.75], [0.25, 0.75, 0.5]]  # type: ignore[attr-defined]


def test_an_unreadable_answer_is_nan_with_a_reason() -> None:
    broken = "<think>1. Semantic consistency:"
    scores = WinRate(judge("unifiedreward-think-image", lambda question: broken))(samples=grey(0.2, 0.9))
    assert bool(scores.values.isnan().all()) and bool(scores.overall.isnan().all())
    assert all("no <answer>" in str(reason) and "1. Semantic" in str(reason) for reason in scores.reasons)


@dataclass(frozen=True)
class Published:
    """How a judge's checkpoint answers, its question, and what its answer is worth to the first and the second."""

    opening: str
    slots: Sequence[planted.Slot]
    wording: str
    parse: Callable[[str], list[tuple[float, float]]]
    source: bool = False
    seed: int = 1


def think(text: str) -> list[tuple[float, float]]:
    (side,) = re.findall(r"<answer>Image (\d) is better</answer>$", text)
    return [(float(side == "1"), float(side == "2"))]


def categories(text: str) -> list[tuple[float, float]]:
    record = json.loads(text)
    won = [one["cat_winner"] == "Image 1" for one in record["categories"]]
    first = record["winner"] == "Image 1"
    return [(float(first), float(not first)), (sum(won) / 3, 1 - sum(won) / 3)]


def numbers(text: str) -> list[tuple[float, float]]:
    first, second = (float(line.split(": ")[1]) for line in text.split("\n"))
    return [(math.nan, math.nan), (first, second)]


def thirds(text: str) -> list[tuple[float, float]]:
    said = [float(line.split(": ")[1]) for line in text.split("\n") if line.startswith(" Image")]
    pairs = list(zip(said[::2], said[1::2], strict=True))
    return [(sum(first for first, _ in pairs) / 3, sum(second for _, second in pairs) / 3), *pairs]


SIDES, SCORES = ("Image 1", "Image 2"), tuple(f"{k / 4:g}" for k in range(-20, 21))
CATEGORY = '"}, {"name": "B", "dims": [], "cat_winner": "'
TWO_SHARES = tuple(f"{k / 20:.2f}\n Image 2: {1 - k / 20:.2f}" for k in range(21))
PUBLISHED = {
    "unifiedreward-think-image": Published(
        "<think>\n1. Aesthetics:\n    Image 1 (9/10) - so;\n    Image 2 (7/10) - so\n</think>\n<answer>",
        ((SIDES, " is better</answer>"),), "reasoned-image-pair/1", think, seed=4,
    ),
    "unifiedreward-flex-image": Published(
        '{"categories": [{"name": "A", "dims": [], "cat_winner": "',
        ((SIDES, CATEGORY), (SIDES, CATEGORY), (SIDES, '"}], "winner": "'), (SIDES, '"}')),
        "criteria-of-two-images/1", categories,
    ),
    "unifiedreward-edit-scores": Published(
        "Image 1: ", ((SCORES, "\nImage 2: "), (SCORES, "")), "scores-of-two-edits/1", numbers, source=True, seed=3
    ),
    "unifiedreward-share-image": Published(
        "Alignment Score:\n Image 1: ",
        (
            (TWO_SHARES, "\n\nCoherence Score:\n Image 1: "), (TWO_SHARES, "\n\nStyle Score:\n Image 1: "),
            (TWO_SHARES, ""),
        ),
        "shares-of-two-images/1", thirds,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_group_is_scored_as_stock_generate_and_a_hand_parse_say(name: str, tmp_path: Path) -> None:
    published = PUBLISHED[name]
    folder = planted.write(tmp_path / "model", published.opening, published.slots, seed=published.seed)
    stock = Stock(folder, folder)
    group = [one if published.source else Sample(one.prompt, one.media) for one in samples()[:3]]
    if published.source:
        group = [Sample(one.prompt, one.media, group[0].source) for one in group]

    def said(i: int, j: int) -> list[tuple[float, float]]:
        start = [group[0].source_frames()[0]] if published.source else []  # type: ignore[index]
        text = re.sub(r"\{(source|first|second)\}", lambda _: IMAGE, wording(published.wording).text)
        text = text.replace("{prompt}", group[0].prompt)
        return published.parse(stock.says(text, [*start, group[i].frames()[0], group[j].frames()[0]]))

    answers = {(i, j): said(i, j) for i in range(3) for j in range(3) if i != j}
    got = [[*(answers[i, j] for j in range(3) if j != i)] for i in range(3)]
    shown_second = [[*(answers[j, i] for j in range(3) if j != i)] for i in range(3)]
    expected = torch.tensor([
        [
            (sum(one[part][0] for one in got[i]) + sum(one[part][1] for one in shown_second[i])) / 4
            for part in range(len(got[i][0]))
        ]
        for i in range(3)
    ])  # fmt: skip
    ours = rewardmodels.load(name, path=str(folder))(samples=group)
    assert bool(ours.valid.all()), ours.reasons
    start = 1 if published.source else 0
    torch.testing.assert_close(ours.values[:, start:], expected[:, start:])
    assert len({json.dumps(one) for one in answers.values()}) > 1  # the answers depend on the pictures
