"""A training with a remote reward: the same as with the reward in this process, and judged while it samples."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign.pending import Judging
from mmalign.train import alignment
from mmalign.train.experience import Rollouts
from mmalign.types import Modality, Sample, Scores
from rewardmodels.remote import Remote
from tests.integration.tiny_run import build, redness, tiny_recipe
from tests.unit.rewardmodels.serving import serving

ROLLOUT = {"num_steps": 2, "group_size": 2, "groups_per_iteration": 4, "batch_size": 2}


class Redness:
    """`tiny_run.redness` as a reward model that takes its time."""

    name = "redness"
    modalities: frozenset[Modality] = frozenset({"image"})
    dimensions = ("redness",)
    differentiable = False

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Red minus green."""
        assert self.may_answer.wait(30)
        time.sleep(self.seconds)
        return redness(samples)


def credits(task: alignment.Alignment) -> torch.Tensor:
    """What an iteration's samples earned."""
    return torch.cat([batch.credit for chunk in task._gather(0) for batch in chunk])


def trainer(folder: Path, reward: Any, name: str = "nft") -> Any:
    return build(tiny_recipe(name, rollout=ROLLOUT), folder, reward=reward)


def test_sampling_goes_on_while_the_server_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers nothing before the last rollout has begun: a loop that waited would never end."""
    expected = credits(trainer(tmp_path / "here", redness).task)
    reward = Redness()
    reward.may_answer.clear()
    drawn: list[int] = []
    draw = Rollouts.draw

    def watched(self: Rollouts, *arguments: Any) -> Any:
        drawn.append(1)
        if len(drawn) == 4:
            reward.may_answer.set()
        return draw(self, *arguments)

    monkeypatch.setattr(Rollouts, "draw", watched)
    with serving({"redness": reward}) as url:
        found = credits(trainer(tmp_path / "there", Judging(Remote(url=url, timeout=60))).task)
    assert len(drawn) == 4 and bool(torch.isfinite(found).any())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0, equal_nan=True)


def test_an_iteration_takes_the_longer_of_both_not_their_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 rollouts of 0.5 s and 4 judgements of 0.5 s: 4 s one after the other, about 2.5 s side by side."""
    draw = Rollouts.draw

    def slow(self: Rollouts, *arguments: Any) -> Any:
        time.sleep(0.5)
        return draw(self, *arguments)

    seconds: dict[str, float] = {}
    found: dict[str, torch.Tensor] = {}
    with serving({"redness": Redness(seconds=0.5)}, max_batch=2) as url:
        remote = Remote(url=url, timeout=60)
        ways = {"waiting": lambda samples: remote(samples=samples), "meanwhile": Judging(remote)}
        for name, reward in ways.items():
            task = trainer(tmp_path / name, reward).task
            with monkeypatch.context() as patch:
                credits(task)  # once, so that nothing is loaded for the first time while the clock runs
                patch.setattr(Rollouts, "draw", slow)
                started = time.perf_counter()
                found[name] = credits(task)
                seconds[name] = time.perf_counter() - started
    assert torch.equal(found["waiting"].isnan(), found["meanwhile"].isnan())
    torch.testing.assert_close(found["waiting"], found["meanwhile"], atol=1e-6, rtol=0, equal_nan=True)
    assert seconds["waiting"] >= 4.0
    assert seconds["meanwhile"] < seconds["waiting"] - 0.9, seconds


def test_a_run_with_a_remote_reward_ends_in_the_same_weights(tmp_path: Path) -> None:
    here = trainer(tmp_path / "here", redness)
    here.train()
    with serving({"redness": Redness()}) as url:
        there = trainer(tmp_path / "there", Judging(Remote(url=url)))
        there.train()
    for one, other in zip(here.parameters, there.parameters, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_server_that_dies_stops_nothing(tmp_path: Path) -> None:
    with serving({"redness": Redness()}) as url:
        remote = Remote(url=url, retries=0)
    run = trainer(tmp_path, Judging(remote))
    before = [p.detach().clone() for p in run.parameters]
    run.train()
    assert all(
        torch.equal(a, b) for a, b in zip(before, run.parameters, strict=True)
    )  # nothing known, nothing learned
