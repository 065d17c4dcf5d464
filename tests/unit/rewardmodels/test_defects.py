"""Errors of a reward's own code: what they cost, and where they end a run."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

import rewardmodels
from mmalign.types import Modality, Sample, Scores
from pipelines.judges import Judge
from rewardmodels.asking import ask, ask_by_group
from rewardmodels.defects import PATIENCE, Defect, defects
from rewardmodels.remote import Remote
from tests.unit.rewardmodels.serving import HTTP, Brightness, asked, picture, serving, text


class Forgetful(Brightness):
    """A KeyError on every prompt but those it knows."""

    name = "forgetful"
    known = frozenset({"a", "b"})

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        for sample in samples:
            dict.fromkeys(self.known)[sample.prompt]
        return super().__call__(samples=samples)


class Picky(Forgetful):
    """The same, and what it knows it refuses."""

    known = frozenset({"refuse"})


class Ranking(Forgetful):
    """The same, and it compares the samples of a call."""

    needs_group = True

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        scores = super().__call__(samples=samples)
        return replace(scores, overall=scores.values[:, 0] - scores.values[:, 0].mean())


class Short:
    """One score too few."""

    name = "short"
    modalities: frozenset[Modality] = frozenset({"image"})
    dimensions = ("one",)
    differentiable = False

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        return Scores.of(torch.zeros(len(samples) - 1, 1), self.dimensions)


def greys(prompts: str) -> list[Sample]:
    return [Sample(p, torch.full((3, 8, 8), k / 10), id=f"{p}{k}") for k, p in enumerate(prompts)]


def test_an_error_costs_its_sample_and_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "mmalign.rewards"):
        found = ask(Forgetful(), greys("axbx"))
    assert found.valid.tolist() == [True, False, True, False]
    assert found.reasons[1] == found.reasons[3] == "the reward failed: KeyError: 'x'"
    (record,) = caplog.records
    assert "2 of 4 samples" in record.getMessage() and "dict.fromkeys" in str(record.exc_text)


def test_an_error_lets_go_of_the_batch_before_its_samples_are_asked_alone() -> None:
    batches: list[weakref.ref[torch.Tensor]] = []

    class Large(Brightness):
        def __call__(self, *, samples: Sequence[Sample]) -> Scores:
            assert all(batch() is None for batch in batches)
            batch = torch.zeros(len(samples), 3, 8, 8)
            batches.append(weakref.ref(batch))
            if len(samples) > 1 or samples[0].prompt == "x":
                raise torch.OutOfMemoryError("out of memory")
            return super().__call__(samples=samples)

    assert ask(Large(), greys("axaxa")).valid.tolist() == [True, False, True, False, True]
    assert len(batches) == 6


def test_an_error_costs_its_group_only() -> None:
    found = ask_by_group(Ranking(), greys("axabxb"))
    assert found.valid.tolist() == [True, False, True, True, False, True]
    assert [type(reason) for reason in found.reasons].count(Defect) == 2
    assert float(found.overall[0]) == pytest.approx(-0.1) and float(found.overall[5]) == pytest.approx(0.1)


def test_a_reason_is_one_line_of_bounded_length() -> None:
    long = Sample("very\n" * 50_000, torch.zeros(3, 8, 8))
    (struck,) = ask(Forgetful(), [long]).reasons
    (refused,) = ask(rewardmodels.load("shapes-verifier"), [long]).reasons
    for reason in (struck, refused):
        assert reason is not None and len(reason) < 1100 and "\n" not in reason
    assert refused is not None and refused.startswith("cannot read 'very' in prompt 'very")


def test_a_wrong_number_of_scores_is_the_error_of_the_whole_call() -> None:
    found = ask(Short(), greys("aaa"))
    assert len(defects(found)) == 3 and "2 scores for 3 samples" in str(found.reasons[0])


def test_a_reward_that_fails_on_everything_ends_loudly() -> None:
    judge = Judge("forgetful", Forgetful())
    judge(greys("x" * (PATIENCE - 1)))
    said = rf"judged none of {PATIENCE} samples, and failed on {PATIENCE}, the first time with KeyError: 'x'"
    with pytest.raises(RuntimeError, match=said):
        judge(greys("x"))
    picky = Judge("picky", Picky())
    picky([replace(sample, prompt="refuse") for sample in greys("aa")])
    with pytest.raises(RuntimeError, match=rf"none of {PATIENCE + 2} samples, and failed on {PATIENCE}"):
        picky(greys("x" * PATIENCE))
    few = Judge("forgetful", Forgetful())
    few(greys("x"))
    with pytest.raises(RuntimeError, match="forgetful"):
        few.conclude()
    once = Judge("forgetful", Forgetful())
    once(greys("a" + "x" * PATIENCE * 2))
    once.conclude()
    Judge("forgetful", Forgetful()).conclude()  # asked for nothing


def test_served_it_costs_its_group_and_no_other_client_nor_group() -> None:
    for reward in (Ranking(), Forgetful()):
        with serving({reward.name: reward}) as url:
            remote = Remote(url=url)
            found = remote(samples=greys("axabxb"))
            assert found.valid.tolist() == [True, False, True, True, False, True]
            assert found.reasons[1] == "the reward failed: KeyError: 'x'"
            body = asked(text(picture()))  # its prompt is x: nothing of this request can be judged
            answer = HTTP.post(f"{url}/score", json=body)
            assert answer.status_code == 500 and "KeyError: 'x'" in answer.json()["error"]
            assert remote(samples=greys("aab")).valid.all()
