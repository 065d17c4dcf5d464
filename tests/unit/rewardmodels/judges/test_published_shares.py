"""Shares of two in three respects, as the inference code of UnifiedReward-2.0 prints them.

Its checkpoint in the published layout is asked in `test_published_pairs`.
"""

from __future__ import annotations

import re

import pytest
import torch

from rewardmodels.judges.chat import Question
from rewardmodels.judges.pairwise import WinRate, consistency
from rewardmodels.judges.verdicts import Unreadable
from rewardmodels.judges.winners import outcome
from tests.unit.rewardmodels.judges.published_answers import shares
from tests.unit.rewardmodels.judges.test_published_pairs import grey, judge, shades

LONG = """Alignment Score:
 Image 1: 0.435699999332428
 Image 2: 0.564300000667572

Coherence Score:
 Image 1: 0.4180000126361847
 Image 2: 0.5820000171661377

Style Score:
 Image 1: 0.40790000557899475
 Image 2: 0.5921000242233276
"""
SHARED = {"alignment": (0.4357, 0.5643), "coherence": (0.418, 0.582), "style": (0.4079, 0.5921)}


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        shares(0.4357, 0.418, 0.4079),
        shares(0.4357, 0.418, 0.4079, noun="Video"),
        shares(0.9, 0.9, 0.9) + "\n\nOnce more:\n" + shares(0.4357, 0.418, 0.4079),
        f"<think>{shares(0.9, 0.9, 0.9)}</think>{shares(0.4357, 0.418, 0.4079)}",
        re.sub(r"(\w+ Score:)", r"**\1**", LONG).replace(" Image", " - Image"),
        "\n\n".join(reversed(LONG.strip().split("\n\n"))) + "\n\nOverall:\n Image 1: 0.9\n Image 2: 0.1",
    ],
)
def test_shares_are_read_by_respect_and_their_mean_is_the_chance_of_the_first(text: str) -> None:
    found = outcome(text, "shares")
    assert list(found.parts) == list(SHARED)
    for respect, pair in SHARED.items():
        assert found.parts[respect] == pytest.approx(pair, abs=1e-6) and sum(found.parts[respect]) == 1.0
    assert found.first == pytest.approx((0.4357 + 0.418 + 0.4079) / 3, abs=1e-6)


def test_shares_that_were_rounded_are_scaled_and_equal_ones_are_a_tie() -> None:
    found = outcome(shares(0.5, 0.3, 0.7).replace("0.3000", "0.303"), "shares")
    assert found.parts["coherence"] == pytest.approx((0.303 / 1.003, 0.7 / 1.003))
    assert outcome(shares(0.3, 0.5, 0.7), "shares").first == 0.5
    assert outcome(shares(1.0, 0.0, 1.0, digits=0), "shares").first == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no alignment score for each"),
        (shares(0.4, 0.4), "no style score for each"),
        (LONG.replace(" Image 2: 0.5820000171661377\n", ""), "no coherence score for each"),
        (LONG.partition("0.5921")[0], "no style score for each"),
        (LONG.replace("0.5820000171661377", "Y"), "no coherence score for each"),
        (LONG.replace("0.435699999332428", "0.43/1"), "no alignment score for each"),
        (LONG.replace("0.435699999332428", "43%"), "no alignment score for each"),
        (LONG.replace("Alignment Score", "Accuracy"), "no alignment score for each"),
        (LONG.replace("0.5643", "0.9643"), "alignment scores 0.4357 and 0.9643 must be shares that sum to 1"),
        (LONG.replace("0.5643", "0.5843"), "must be shares that sum to 1"),
        (LONG.replace("0.4079", "-0.4079").replace("0.5921", "1.4079"), "style scores -0.4079 and 1.4079 must"),
        (LONG.replace("0.5643", "1e999, not 0.5643"), "must be shares that sum to 1"),
        (LONG.replace("0.435699999332428", "4").replace("0.564300000667572", "3"), "alignment scores 4 and 3 must"),
        ("Image 1: 0.4\nImage 2: 0.6", "no alignment score for each"),
    ],
)  # fmt: skip
def test_what_are_no_shares_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        outcome(text, "shares")


# ---------------------------------------------------------------- both orders, and groups


def test_shares_are_means_over_both_orders_which_cancel_a_liking_for_the_first() -> None:
    def say(question: Question) -> str:
        first, second = shades(question)
        return shares(0.6 + (first - second) / 4, 0.6, 0.6 + (second - first) / 2)

    made = judge("unifiedreward-share-image", say)
    (one,) = made.compare([tuple(grey(0.9, 0.5))])  # type: ignore[list-item]
    assert one.forward == pytest.approx(0.6 - 0.1 / 3) and one.backward == pytest.approx(0.4 - 0.1 / 3)
    assert one.probability == pytest.approx(0.5 - 0.1 / 3)  # though the two orders contradict each other
    assert not one.consistent and consistency([one]).first_rate == 1.0
    expected = {"alignment": (0.6, 0.4), "coherence": (0.5, 0.5), "style": (0.3, 0.7)}
    assert {name: pytest.approx(pair) for name, pair in one.parts.items()} == expected
    (turned,) = made.compare([tuple(grey(0.5, 0.9))])  # type: ignore[list-item]
    assert turned.probability == pytest.approx(1 - one.probability)
    assert turned.parts == {name: pytest.approx(pair[::-1]) for name, pair in one.parts.items()}


def test_a_group_has_its_mean_share_in_all_and_in_each_respect() -> None:
    def say(question: Question) -> str:
        first, second = shades(question)
        return shares(0.5 + (first - second) / 2, 0.5, 0.5 + (second - first) / 4)

    scores = WinRate(judge("unifiedreward-share-image", say))(samples=grey(0.2, 0.4, 0.8))
    assert scores.names == ("win_rate", "alignment", "coherence", "style")
    alignment, style = torch.tensor([0.3, 0.45, 0.75]), torch.tensor([0.6, 0.525, 0.375])
    expected = torch.stack([alignment, torch.full((3,), 0.5), style], 1)
    torch.testing.assert_close(scores.values[:, 1:], expected)
    torch.testing.assert_close(scores.overall, scores.values[:, 1:].mean(1))
    torch.testing.assert_close(scores.overall, scores.values[:, 0])


def test_shares_that_do_not_sum_to_one_are_nan_with_a_reason() -> None:
    text = LONG.replace("0.5643", "0.9643")
    scores = WinRate(judge("unifiedreward-share-image", lambda question: text))(samples=grey(0.2, 0.9))
    assert bool(scores.values.isnan().all()) and bool(scores.overall.isnan().all())
    assert all("as given: the alignment scores" in str(reason) for reason in scores.reasons)
