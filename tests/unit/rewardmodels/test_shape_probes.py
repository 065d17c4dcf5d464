"""Probes of rewards and of judges of pairs: who knows the truth passes all, who says the opposite none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import pytest
import torch

import rewardmodels
from mmalign.shapes.worlds import WORLDS
from mmalign.types import RewardModel, Sample, Scores
from rewardmodels.judges.pairwise import Compared, Decision, WinRate
from rewardmodels.judges.settings import Pair
from rewardmodels.shape_probes import probe, wrong_pictures

IMAGES, EDITS = WORLDS["shapes"], WORLDS["shapes-edits"]


class Truth:
    """A judge of pairs that asks the rule of the world; `sign` -1 turns it round."""

    name, modalities, parts = "truth", frozenset({"image", "edit"}), ()
    pair = Pair(kind="pair", wording="better-of-two/1")

    def __init__(self, reward: RewardModel, sign: int = 1) -> None:
        self.reward, self.sign = reward, sign

    def compare(self, pairs: Sequence[Compared]) -> list[Decision]:
        scores = self.reward(samples=[sample for pair in pairs for sample in pair]).overall.view(-1, 2)
        assert all(a.prompt == b.prompt and a.source is b.source for a, b in pairs)
        return [Decision(0.5 + 0.4 * self.sign * float((a > b).float() - (a < b).float())) for a, b in scores]


def test_the_other_picture_was_drawn_for_another_prompt() -> None:
    verifier = rewardmodels.load("shapes-verifier")
    contrasts = list(islice(wrong_pictures(IMAGES, 0), 12))
    samples = [sample for one in contrasts for sample in one[:2]]
    good, bad = verifier(samples=samples).overall.view(-1, 2).T
    assert bool((good > bad).all())
    assert all(a.prompt == b.prompt == prompt and a.media is not b.media for a, b, prompt in contrasts)


@pytest.mark.parametrize(("sign", "rate"), [(1, 1.0), (-1, 0.0)])
def test_a_judge_of_pairs_is_probed_two_by_two(sign: int, rate: float) -> None:
    judge = WinRate(Truth(rewardmodels.load("shapes-verifier"), sign))  # type: ignore[arg-type]
    found = probe(judge, IMAGES, num=20)
    assert set(found) == {"wrong_prompt"} and found["wrong_prompt"]["mean"] == rate
    assert probe(rewardmodels.load("shapes-verifier"), IMAGES, num=20)["wrong_prompt"]["mean"] == 1.0


def test_what_could_not_be_scored_was_not_passed_and_is_counted() -> None:
    class Forgetful:
        name, dimensions, modalities = "forgetful", ("overall",), frozenset({"image"})

        def __call__(self, *, samples: Sequence[Sample]) -> Scores:
            found = rewardmodels.load("shapes-verifier")(samples=samples)
            found.overall[::8] = torch.nan  # the better one of every fourth contrast
            return found

    found = probe(Forgetful(), IMAGES, num=20)["wrong_prompt"]  # type: ignore[arg-type]
    assert found["mean"] == 0.75 and found["unscored"] == 5


def test_an_edit_that_was_not_made_is_shown_beside_one_that_was() -> None:
    seen: list[Compared] = []

    class Recorder(Truth):
        def compare(self, pairs: Sequence[Compared]) -> list[Decision]:
            seen.extend(pairs)
            return [Decision(0.7) for _ in pairs]

    judge = WinRate(Recorder(rewardmodels.load("shapes-verifier")))  # type: ignore[arg-type]
    found = probe(judge, EDITS, num=5)
    assert set(found) == {"wrong_prompt", "identity_edit"} and len(seen) == 10
    assert all(_unmade(b) and not _unmade(a) for a, b in seen[5:])


def _unmade(sample: Sample) -> bool:
    return sample.media is sample.source
