"""Rewards that compare samples, over HTTP: a group is judged whole and by itself; what judges said comes back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from mmalign.rules import LogTame, ZScores
from mmalign.types import Modality, Sample, Scores
from rewardmodels.asking import ask_by_group, joined
from rewardmodels.combine import Combined, group_ids, needs_group
from rewardmodels.desk import Desk, Full
from rewardmodels.reception import Limits
from rewardmodels.remote import Remote
from tests.unit.rewardmodels.serving import HTTP, Brightness, asked, picture, serving, text


class Compared(Brightness):
    """Each picture less the mean of its call; its calls are in `calls`."""

    needs_group = True

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        scores = super().__call__(samples=samples)
        return replace(scores, overall=scores.values[:, 0] - scores.values[:, 0].mean())


class Talking:
    """Says something of each sample, and how sure it is of the whole, not of its parts."""

    name = "talking"
    modalities: frozenset[Modality] = frozenset({"image"})
    dimensions = ("grade", "style")
    differentiable = False

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        if any(sample.prompt == "refuse" for sample in samples):
            raise ValueError("this prompt is refused")
        if any(sample.prompt == "defect" for sample in samples):
            raise RuntimeError("a defect of the reward")
        scores = Scores.of(torch.ones(len(samples), 2), self.dimensions)
        said = tuple({"notes": {"critique": sample.prompt}, "mass": float("nan")} for sample in samples)
        return replace(scores, details=said, overall_log_variance=torch.full((len(samples),), -1.0))


def grey(prompt: str, level: float, id: str, **metadata: object) -> Sample:
    return Sample(prompt, torch.full((3, 8, 8), round(level * 255) / 255), id=id, metadata=metadata)


def mixed() -> list[Sample]:
    """Two groups of a prompt and one of two prompts, their samples among each other."""
    return [
        grey("a", 0.1, "a0"), grey("b", 0.5, "b0"), grey("a", 0.3, "a1"), grey("c", 0.9, "c0", group="third"),
        grey("b", 0.9, "b1"), grey("d", 0.2, "c1", group="third"), grey("a", 0.8, "a2"),
    ]  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_groups_are_judged_whole_and_by_themselves_however_they_are_sent(batch_size: int) -> None:
    reward = Compared()
    with serving({"compared": reward}) as url:
        remote = Remote(url=url, batch_size=batch_size)
        assert needs_group(remote)
        found = remote(samples=mixed())
    assert sorted(reward.calls) == [["a0", "a1", "a2"], ["b0", "b1"], ["c0", "c1"]]
    torch.testing.assert_close(found.overall, ask_by_group(Compared(), mixed()).overall, atol=1e-6, rtol=0)
    assert float(found.overall[1]) == pytest.approx(-0.2, abs=0.01)


def test_rules_over_groups_score_there_as_here() -> None:
    parts = [("one", 1.0, Brightness()), ("two", 0.5, Brightness())]
    rewards = {
        rule.name: Combined(parts, rule) for rule in (ZScores(name="zscore"), LogTame(name="log_tame"))
    }
    with serving(rewards) as url:
        for name, reward in rewards.items():
            group = [sample for sample in mixed() if sample.prompt == "a"]
            found = Remote(url=url, reward=name, batch_size=2)(samples=group)
            torch.testing.assert_close(found.overall, reward(samples=group).overall, atol=1e-5, rtol=0)


def test_the_groups_of_two_clients_with_one_prompt_are_not_mixed() -> None:
    reward = Compared()
    reward.free.clear()
    body = [
        asked(*(text(picture(level=level)) for level in levels)) for levels in ((0, 255), (10, 20), (30, 60))
    ]
    with serving({"compared": reward}, max_wait=0.2) as url, ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(HTTP.post, f"{url}/score", json=one) for one in body]
        time.sleep(0.5)
        reward.free.set()
        rows = [answer.result().json()["scores"] for answer in answers]
    assert [len(call) for call in reward.calls] == [2, 2, 2]
    steps = [one[1]["overall"] - one[0]["overall"] for one in rows]
    assert steps == pytest.approx([1.0, 10 / 255, 30 / 255], abs=1e-6)
    assert all(one[0]["overall"] + one[1]["overall"] == pytest.approx(0.0, abs=1e-6) for one in rows)


def test_a_group_is_judged_without_those_that_cannot_be() -> None:
    with serving({"compared": Compared(), "brightness": Brightness()}) as url:
        served = {one["name"]: one["groups"] for one in HTTP.get(f"{url}/rewards").json()["rewards"]}
        assert served == {"compared": True, "brightness": False}
        body = asked(text(picture(level=0)), text(b"no picture"), text(picture(level=255)), reward="compared")
        rows = HTTP.post(f"{url}/score", json=body).json()["scores"]
        assert [row["overall"] for row in rows] == [pytest.approx(-0.5), None, pytest.approx(0.5)]


def test_a_group_may_be_named_by_anything_and_null_names_none() -> None:
    named = [["one"], ["two"], ["one"], {"of": "three"}, 1.5, None, None]
    samples = [grey("a", k / 10, f"a{k}", group=name) for k, name in enumerate(named)]
    assert group_ids(samples).tolist() == [0, 1, 0, 2, 3, 4, 4]
    reward = Compared()
    with serving({"compared": reward}) as url:
        assert Remote(url=url)(samples=samples).valid.all()
    assert sorted(reward.calls) == [["a0", "a2"], ["a1"], ["a3"], ["a4"], ["a5", "a6"]]


def test_a_full_desk_counts_the_groups_before_a_client_not_their_samples() -> None:
    reward = Compared()
    reward.free.clear()
    desk = Desk(reward, max_waiting=60)
    desk._seconds = 2.0  # a request lately took so long
    group = [grey("a", k / 30, f"a{k}") for k in range(30)]
    try:
        desk.submit(group)
        while desk.waiting:
            time.sleep(0.01)  # until it is being judged
        desk.submit(group)
        desk.submit(group)
        with pytest.raises(Full) as full:
            desk.submit(group)
    finally:
        reward.free.set()
        desk.close()
    assert full.value.seconds == pytest.approx(6.0)


def test_a_group_too_large_for_the_server_has_no_scores_and_harms_no_other() -> None:
    samples = [grey("many", k / 8, f"m{k}") for k in range(6)] + [
        grey("few", k / 8, f"f{k}") for k in range(2)
    ]
    for limits, words in (
        (Limits(max_media=5), "6 files go together"),
        (Limits(max_pixels=5 * 64), "a group of 6 is sent whole"),
    ):
        reward = Compared()
        with serving({"compared": reward}, limits=limits) as url:
            found = Remote(url=url)(samples=samples)
        assert found.valid.tolist() == [False] * 6 + [True] * 2 and reward.calls == [["f0", "f1"]]
        assert words in str(found.reasons[0])


def test_details_and_the_variance_of_the_whole_come_back() -> None:
    samples = [grey(prompt, 0.5, prompt) for prompt in ("good", "refuse", "fine", "defect")]
    with serving({"talking": Talking()}) as url:
        found = Remote(url=url, batch_size=3)(samples=samples)
    assert found.valid.tolist() == [True, False, True, False]
    assert found.details is not None
    assert found.details[0] == {"notes": {"critique": "good"}, "mass": None} and found.details[1] is None
    assert found.log_variance is None and found.overall_log_variance is not None
    assert found.overall_log_variance.isnan().tolist() == [False, True, False, True]


def test_scores_stand_together_with_those_that_failed_whatever_variance_is_known() -> None:
    whole = replace(Scores.of(torch.ones(1, 2), ("x", "y")), overall_log_variance=torch.tensor([0.5]))
    each = replace(Scores.of(torch.ones(1, 2), ("x", "y")), log_variance=torch.zeros(1, 2))
    parts = [Scores.failed(["broken"], ("x", "y")), whole, each]
    both = joined(parts, ("x", "y"))
    assert both.log_variance is not None and both.log_variance.isnan().all(dim=1).tolist() == [
        True,
        True,
        False,
    ]
    assert both.overall_log_variance is not None and float(both.overall_log_variance[1]) == 0.5
    assert len(joined([], ("x", "y"))) == 0
