"""Judges of pairs: duels with spoiled twins, and a bias towards the first place that is made to order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from mmalign.types import PreferencePair, Sample
from rewardmodels.trust import findings
from rewardmodels.trust.checkup import check
from rewardmodels.trust.duels import (
    compared_pairs,
    comparer_of,
    duel,
    neighbours,
    order_matters,
    win_rates,
)
from rewardmodels.trust.probes import PROBES
from rewardmodels.trust.survey import survey
from tests.unit.trust.made import ask_of, photos


@dataclass(frozen=True)
class Said:
    forward: float
    backward: float
    reason: str | None = None

    @property
    def probability(self) -> float:
        return (self.forward + self.backward) / 2


def detail(sample: Sample) -> float:
    return float(sample.frames().std())


@dataclass(frozen=True)
class Judge:
    """Prefers more detail; `bias` is added to the chance of whatever is shown first; prompts must be one."""

    bias: float = 0.0

    def compare(self, pairs: Sequence[tuple[Sample, Sample]]) -> list[Said]:
        made = []
        for a, b in pairs:
            assert a.prompt == b.prompt
            shown_first, shown_second = (
                float(detail(x) > detail(y)) * 0.6 + 0.2 for x, y in ((a, b), (b, a))
            )
            made.append(Said(min(1.0, shown_first + self.bias), 1 - min(1.0, shown_second + self.bias)))
        return made


def words(bias: float) -> dict[str, str]:
    found = order_matters(Judge(bias), *photos(12, 3))
    assert found is not None
    return {one.name: f"{one.grade}: {one.word}" for one in findings.of_position(found)}


def test_a_fair_judge_has_no_bias_and_a_biased_one_is_told():
    assert words(0.0) == {"order of showing": "good: no bias seen", "swapped order": "good: the same winner"}
    assert words(0.2)["order of showing"] == "bad: favours what is shown first"
    assert words(0.2)["swapped order"] == "good: the same winner"  # a lean, but no verdict turns
    assert words(0.4)["swapped order"] == "bad: the order decides"


def test_the_bias_is_measured_by_hand():
    found = order_matters(Judge(0.1), *photos(4, 2))
    assert found is not None
    assert found.first.mean == pytest.approx(0.6) and found.flipped.mean == 0.0 and found.first.n == 4


def test_duels_spoil_pixels_only():
    samples, groups = photos(10, 2)
    found = {answers.probe.name: answers for answers in duel(Judge(), samples, groups, PROBES)}
    assert found["blank"].sensitivity().mean == 1.0 and found["noise"].sensitivity().mean < 0.5
    assert "one prompt" in str(found["wrong prompt"].reason)
    assert found["still video"].reason == "needs videos, these are images"


def test_neighbours_are_of_one_group_and_few():
    assert neighbours(["a", "a", "a", "b", "c", "c"]) == [(0, 1), (1, 2), (4, 5)]
    assert len(neighbours(["a"] * 200, limit=10)) == 10
    assert order_matters(Judge(), *photos(3, 1)) is None


def test_the_whole_check_of_a_judge_of_pairs():
    samples, groups = photos(10, 3)
    sizes: list[int] = []

    def win_rate(some: Sequence[Sample]):
        sizes.append(len(some))
        return ask_of(detail)(some)

    seen = survey(win_rate, samples, groups, probes=(), factors=(), batch_size=4, whole_groups=True)
    assert sizes == [6] * 5  # a window closes only where a group ends
    checked = check(win_rate, seen, comparer=Judge(0.4))
    named = {one.name: one for one in checked.findings}
    assert named["order of showing"].grade == "bad" and named["blank"].word == "passes"
    assert checked.stability == () and checked.as_dict()["position_bias"]["flipped"]["mean"] == 1.0


def test_win_rates_by_hand_and_a_sample_alone_has_a_reason():
    samples, _ = photos(1, 3)
    order = sorted(range(3), key=lambda k: -detail(samples[k]))
    rates = win_rates(Judge())(samples).overall
    assert [round(float(rates[k]), 6) for k in order] == [0.8, 0.5, 0.2]
    alone = win_rates(Judge())([samples[0], photos(2, 1)[0][1]])
    assert alone.valid.tolist() == [False, False] and "several samples" in str(alone.reasons[0])


def test_labelled_pairs_are_decided_by_the_judge(tmp_path):
    samples, groups = photos(4, 2)
    pairs = [
        PreferencePair(a.prompt, a, b, {"overall": float(detail(a) > detail(b))}, group=g)
        for a, b, g in zip(samples[::2], samples[1::2], groups[::2], strict=True)
    ]
    broken = PreferencePair("p", Sample("p", tmp_path / "none.png"), samples[0], {"overall": 1.0})
    judged = compared_pairs(Judge(), [*pairs, broken])
    assert judged.difference.size == 4 and sum(judged.left_out.values()) == 1
    assert all((d > 0) == (c == 1.0) for d, c in zip(judged.difference, judged.chance, strict=True))


def test_a_reward_that_scores_alone_has_no_comparer():
    assert comparer_of(ask_of(detail)) is None

    class WinRate:
        judge = Judge()

    assert comparer_of(WinRate()) == Judge() == comparer_of(Judge())
