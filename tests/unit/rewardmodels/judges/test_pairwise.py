"""Pair judges: both orders, ties where they disagree, and what is reported."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mmalign.types import Sample
from rewardmodels.combine import Combined, needs_group
from rewardmodels.judges.chat import Question, Sampling
from rewardmodels.judges.load import load_judge
from rewardmodels.judges.pairwise import PairJudge, WinRate, consistency
from rewardmodels.judges.settings import JudgeFile, Pair
from rewardmodels.judges.wording import wording
from tests.unit.rewardmodels.judges.engines import Scripted

DARK, GREY, LIGHT = (Sample("a light picture", torch.full((3, 8, 8), level)) for level in (0.1, 0.5, 0.9))


def shades(question: Question) -> tuple[float, float]:
    first, second = question.pictures[-2:]
    return float(first.mean()), float(second.mean())


def honest(question: Question, how: Sampling) -> str:
    first, second = shades(question)
    if abs(first - second) < 0.01:
        return "Both images are equally good."
    return f"Image {1 if first > second else 2} is better than Image {2 if first > second else 1}."


def judge(say: Any = None, weigh: Any = None, config: str = "unifiedreward-pair") -> PairJudge:
    made = load_judge(config=config, engine=Scripted(say, weigh))
    assert isinstance(made, PairJudge)
    return made


def test_an_honest_judge_is_consistent() -> None:
    decisions = judge(honest).compare([(LIGHT, DARK), (DARK, GREY), (GREY, GREY)])
    assert [one.probability for one in decisions] == [1.0, 0.0, 0.5]
    assert all(one.consistent for one in decisions)
    report = consistency(decisions)
    assert (report.num, report.failed, report.agreement, report.first_rate) == (3, 0, 1.0, 0.5)


def test_a_judge_that_always_likes_the_first_gives_ties_and_is_found_out() -> None:
    decisions = judge(lambda q, how: "Image 1 is better than Image 2.").compare(
        [(LIGHT, DARK), (DARK, LIGHT)]
    )
    assert [one.probability for one in decisions] == [0.5, 0.5] and not any(
        one.consistent for one in decisions
    )
    assert consistency(decisions).agreement == 0.0 and consistency(decisions).first_rate == 1.0


def test_a_winner_in_one_order_and_a_tie_in_the_other_is_between() -> None:
    def say(question: Question, how: Sampling) -> str:
        first, second = shades(question)
        return "Image 1 is better than Image 2." if first > second else "Both images are equally good."

    (one,) = judge(say).compare([(LIGHT, DARK)])
    assert one.probability == 0.75 and not one.consistent


def test_an_unreadable_order_is_a_reason_and_harms_no_other() -> None:
    def say(question: Question, how: Sampling) -> str:
        return (
            "I would rather not." if shades(question) == pytest.approx((0.9, 0.1)) else honest(question, how)
        )

    broken = Sample("a light picture", torch.full((3, 8, 8), 7.0))
    other = Sample("another prompt", DARK.media)
    decisions = judge(say).compare(
        [(LIGHT, DARK), (DARK, LIGHT), (LIGHT, GREY), (broken, DARK), (DARK, other)]
    )
    assert [math.isnan(one.probability) for one in decisions] == [True, True, False, True, True]
    reasons = [str(one.reason) for one in decisions]
    assert reasons[0].startswith("as given: no sentence") and reasons[1].startswith("swapped: no sentence")
    assert (
        "'I would rather not.'" in reasons[0]
        and "outside [0, 1]" in reasons[3]
        and "one prompt" in reasons[4]
    )
    assert consistency(decisions).failed == 4


def test_of_two_videos_the_livelier_wins_by_the_published_sentences() -> None:
    still = torch.full((4, 3, 8, 8), 0.5)
    lively = still + torch.tensor([0.0, 0.2, 0.0, 0.2]).view(4, 1, 1, 1)

    def say(question: Question, how: Sampling) -> str:
        frames = torch.stack([picture.flatten()[0] for picture in question.pictures])
        first, second = (float(half.std()) for half in frames.chunk(2))
        if abs(first - second) < 0.01:
            return "Both move alike. Both videos are equally good."
        better, worse = (1, 2) if first > second else (2, 1)
        return f"Video {worse} stands still. Video {better} is better than Video {worse}."

    videos = [Sample("a fox runs", media) for media in (lively, still, still.clone())]
    made = judge(say, config="unifiedreward-pair-video")
    decisions = made.compare([(videos[0], videos[1]), (videos[1], videos[0]), (videos[1], videos[2])])
    assert [one.probability for one in decisions] == [1.0, 0.0, 0.5] and all(
        one.consistent for one in decisions
    )
    assert WinRate(made)(samples=videos).overall.tolist() == [1.0, 0.25, 0.25]
    (picture,) = made.compare([(LIGHT, DARK)])
    assert math.isnan(picture.probability) and "image" in str(picture.reason)


def test_probabilities_of_both_orders_cancel_a_liking_for_the_first_place() -> None:
    def weigh(question: Question, word: str) -> float:
        first, second = shades(question)
        chance = 1 / (
            1 + math.exp(-(2 * (first - second) + 1.5))
        )  # log-odds: the truth, and 1.5 for the first
        return chance if word == "1" else 1 - chance

    light, tied = judge(weigh=weigh, config="one-or-two").compare([(LIGHT, DARK), (GREY, GREY)])
    assert light.probability == pytest.approx(1 / (1 + math.exp(-2 * 0.8)), abs=1e-6)
    assert tied.probability == pytest.approx(0.5, abs=1e-9) and not tied.consistent


def test_win_rates_rank_a_group() -> None:
    alone = Sample("another prompt", DARK.media)
    scores = WinRate(judge(honest))(samples=[GREY, DARK, LIGHT, alone])
    assert scores.overall[:3].tolist() == [0.5, 0.0, 1.0]
    assert math.isnan(scores.overall[3]) and "nothing to compare with" in str(scores.reasons[3])


def test_edits_compete_where_their_sources_show_the_same_whoever_decoded_them() -> None:
    start = torch.full((3, 8, 8), 0.3)
    other = start.clone()
    other[:, 4, 4] = 0.6
    levels, sources = (0.9, 0.1, 0.5, 0.2), (start, start.clone(), other, other.clone())
    edits = [
        Sample("x", torch.full((3, 8, 8), level), source)
        for level, source in zip(levels, sources, strict=True)
    ]
    scores = WinRate(judge(honest, config="unifiedreward-edit-pair"))(samples=edits)
    assert scores.overall.tolist() == [1.0, 0.0, 1.0, 0.0]


def test_a_win_rate_must_see_whole_groups() -> None:
    model = WinRate(judge(honest))
    assert needs_group(model) and needs_group(Combined([("wins", 1.0, model)]))


def test_edits_show_their_source_first() -> None:
    made = judge(honest, config="unifiedreward-edit-pair")
    source = torch.full((3, 8, 8), 0.3)
    edits = [Sample("x", torch.full((3, 8, 8), level), source) for level in (0.9, 0.1)]
    (one,) = made.compare([(edits[0], edits[1])])
    assert one.probability == 1.0
    asked = made.engine.asked[0][0]  # type: ignore[attr-defined]
    assert [round(float(picture.mean()), 1) for picture in asked.pictures] == [0.3, 0.9, 0.1]


def test_the_source_may_stand_before_each_of_two() -> None:
    source = torch.full((3, 8, 8), 0.3)
    first, second = (Sample("brighter", torch.full((3, 8, 8), level), source) for level in (0.9, 0.1))
    pair = Pair(kind="pair", style="probability", wording="plain-edit-pair/1")
    settings = JudgeFile(name="a", about="a test", modalities=("edit",), scale="p", judge=pair)
    made = PairJudge(Scripted(), settings, pair, wording(pair.wording))
    there, back = made.questions(first, second)
    assert [round(float(picture.mean()), 1) for picture in there.pictures] == [0.3, 0.9, 0.3, 0.1]
    assert [round(float(picture.mean()), 1) for picture in back.pictures] == [0.3, 0.1, 0.3, 0.9]
    assert [part for part in there.messages[0].parts if isinstance(part, str)] == ["brighter", "brighter"]
