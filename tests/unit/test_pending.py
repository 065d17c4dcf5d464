"""Rewards that answer later: asked first, waited for last, and the same scores as at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest
import torch

from mmalign.pending import Asynchronous, Judging, submit, submit_all
from mmalign.rules import Affine
from mmalign.train.experience import judge, judge_later
from mmalign.types import Modality, Sample, Scores
from rewardmodels.combine import Combined, Scaled


class Means:
    """The mean of the pixels; notes when it was asked."""

    modalities: frozenset[Modality] = frozenset({"image"})
    dimensions = ("mean",)
    differentiable = False

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Scores of any samples but dark ones."""
        self.log.append(self.name)
        means = torch.tensor([[float(sample.frames().mean())] for sample in samples])
        reasons = tuple("dark" if float(mean) == 0 else None for mean in means)
        return Scores(means, ("mean",), means[:, 0], means[:, 0] > 0, reasons)


class Slow(Means):
    """The same in a thread that waits for a sign."""

    def __init__(self, name: str, log: list[str], sign: threading.Event) -> None:
        super().__init__(name, log)
        self.sign, self.pool = sign, ThreadPoolExecutor(1)

    def submit(self, *, samples: Sequence[Sample]) -> Future[Scores]:
        """Begins at once."""
        self.log.append("asked")
        return self.pool.submit(self._wait, samples)

    def _wait(self, samples: Sequence[Sample]) -> Scores:
        assert self.sign.wait(10)
        return self(samples=samples)


SAMPLES = [Sample("x", torch.full((3, 2, 2), k / 4)) for k in range(4)]


def test_the_slow_are_asked_before_the_quick_and_work_meanwhile() -> None:
    log: list[str] = []
    sign = threading.Event()
    quick, slow = Means("quick", log), Slow("slow", log, sign)
    assert isinstance(slow, Asynchronous) and not isinstance(quick, Asynchronous)
    pending = submit_all([quick, slow], SAMPLES)
    assert log == ["asked", "quick"]  # and this line is reached although the slow one waits
    sign.set()
    assert [p.result().names for p in pending] == [("mean",), ("mean",)]
    assert log == ["asked", "quick", "slow"]


def test_combinations_and_scales_hand_the_waiting_on() -> None:
    sign = threading.Event()
    log: list[str] = []
    quick, slow = Means("quick", log), Slow("slow", log, sign)
    scaled = Scaled(slow, "scaled", scales=(Affine(name="affine", mean=1.0, std=2.0),))
    both = Combined([("quick", 1.0, quick), ("scaled", 0.5, scaled)])
    pending = both.submit(samples=SAMPLES)
    sign.set()
    found, expected = pending.result(), both(samples=SAMPLES)
    assert found.valid.tolist() == [False, True, True, True] and found.reasons == expected.reasons
    torch.testing.assert_close(found.overall, expected.overall, equal_nan=True)
    torch.testing.assert_close(found.values, expected.values, equal_nan=True)


def test_training_asks_ahead_where_it_can_and_checks_the_number() -> None:
    sign = threading.Event()
    slow = Slow("slow", [], sign)
    pending = judge_later(Judging(slow), SAMPLES)
    sign.set()
    assert torch.equal(pending.result().valid, judge(Judging(slow), SAMPLES).valid)
    plain = partial(lambda model, samples: model(samples=samples), Means("plain", []))
    assert len(judge_later(plain, SAMPLES).result()) == 4
    with pytest.raises(ValueError, match="3 scores for 4 samples"):
        judge_later(lambda samples: plain(samples[1:]), SAMPLES).result()


def test_an_error_shows_where_the_scores_are_wanted() -> None:
    sign = threading.Event()
    sign.set()
    pending = submit(Slow("slow", [], sign), [Sample("x", torch.zeros(5))])
    with pytest.raises(ValueError, match="must be"):
        pending.result()
