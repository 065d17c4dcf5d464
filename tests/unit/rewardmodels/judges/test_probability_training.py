"""Judges of token probabilities that are trained: what an update does, and what it learns from."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign.media import write
from mmalign.train.skips import Skips
from mmalign.types import PreferencePair, Sample
from rewardmodels.judges.pairwise import PairJudge
from rewardmodels.sources import FileSource
from tests.unit.rewardmodels.judges.tiny_training import (
    DIGITS,
    KINDS,
    PAIR,
    POINT,
    PROMPTS,
    Redder,
    chances,
    recipe,
    task_of,
)

LOSSES = ("first_token", "binary", "margin", "probability")


@pytest.mark.parametrize("judge", KINDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_few_updates_make_the_right_answer_likelier(judge: dict[str, Any], loss: str) -> None:
    task = task_of(recipe(judge, method={"name": "probability", "loss": loss}))
    pairs = Redder().bundle(0)
    before = chances(task.learner.judge, pairs)
    optimizer = torch.optim.AdamW(task.parameters(), lr=5e-4)
    losses = []
    for _ in range(4):
        (update,) = task.updates(0)
        made = [make() for make in update.losses]
        assert update.num_losses == sum(len(one.per_sample) for one in made) == 4
        optimizer.zero_grad()
        total = torch.cat([one.per_sample for one in made]).mean()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[-1] < losses[0]
    assert float((chances(task.learner.judge, pairs) - before).mean()) > 0


@pytest.mark.parametrize("judge", KINDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_turned_pair_with_a_turned_label_is_the_same_pair(judge: dict[str, Any], loss: str) -> None:
    task = task_of(recipe(judge, method={"name": "probability", "loss": loss}))
    pairs = Redder(2).bundle(1)
    with torch.no_grad():
        there = task.loss(pairs).per_sample
        same = task.loss([pair.swapped() for pair in pairs]).per_sample
        wrong = task.loss([replace(pair, labels={"overall": 0.0}) for pair in pairs]).per_sample
    torch.testing.assert_close(there, same, atol=1e-5, rtol=1e-5)
    assert float((there - wrong).abs().min()) > 1e-4


@pytest.mark.parametrize(
    "kind", [POINT, DIGITS, {**DIGITS, "low": 1, "high": 4}], ids=["point", "digits", "1-4"]
)
def test_verdicts_are_those_that_scores_are_made_of(kind: dict[str, Any]) -> None:
    task = task_of(recipe(kind))
    asked = task.learner.asked(Redder(2).bundle(0))
    samples = [sample for pair in Redder(2).bundle(0) for sample in (pair.a, pair.b)]
    judge = task.learner.judge
    assert not isinstance(judge, PairJudge)
    with torch.no_grad():
        said = task.learner.verdicts(asked.questions)
    torch.testing.assert_close(
        (said[:, 0] - said[:, 1]).sigmoid(), judge(samples=samples).overall, atol=1e-5, rtol=1e-5
    )


def test_a_digit_is_so_much_of_a_yes_as_it_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """P(0 ... 5) = 0, 1/10, 2/10, 0, 3/10, 4/10 of the whole: 3.7 of 5 is expected; a sure 0 still has a gradient."""
    learner = task_of(recipe(DIGITS)).learner
    logits = torch.full((2, 1, len(learner.engine.tokenizer)), -90.0)
    logits[0, 0, list(learner.words)] = torch.tensor([0.0, 0.1, 0.2, 0.0, 0.3, 0.4]).log().clamp(min=-90)
    logits[1, 0, learner.words[0]] = 0.0
    logits.requires_grad_(True)
    monkeypatch.setattr("rewardmodels.judges.learner.answer_logits", lambda *given: logits)
    said = learner.verdicts([])
    torch.testing.assert_close(said[0].exp(), torch.tensor([0.74, 0.26]))
    (said[1, 0] - said[1, 1]).backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())
    slope = logits.grad[1, 0, list(learner.words)]
    torch.testing.assert_close(slope, torch.tensor([-1.0, 1 / 15, 2 / 15, 3 / 15, 4 / 15, 5 / 15]))


def made_pairs(*labels: float) -> list[PreferencePair]:
    """Pairs of the same two pictures under the same prompt with these labels."""
    (pair,) = Redder(1).bundle(0)
    return [replace(pair, labels={"overall": label}) for label in labels]


def test_ranking_adds_the_order_of_the_two_to_their_cross_entropies() -> None:
    (pair,) = made_pairs(1.0)
    values = {}
    for loss, ranking in (("first_token", 0.0), ("first_token", 2.0), ("binary", 1.0), ("binary", 0.0)):
        task = task_of(recipe(POINT, method={"loss": loss, "ranking": ranking}))
        with torch.no_grad():
            values[loss, ranking] = float(task.loss([pair]).per_sample)
            said = task.learner.verdicts(task.learner.asked([pair]).questions).double()
    margins = (said[:, 0] - said[:, 1]).tolist()
    order = math.log1p(math.exp(-(margins[0] - margins[1])))
    assert values["first_token", 0.0] == pytest.approx(-float(said[0, 0] + said[1, 1]) / 2, rel=1e-5)
    assert values["first_token", 2.0] - values["first_token", 0.0] == pytest.approx(2 * order, rel=1e-4)
    assert values["binary", 1.0] - values["binary", 0.0] == pytest.approx(order, rel=1e-4)


def test_ties_teach_the_losses_that_can_say_one() -> None:
    @dataclass(frozen=True)
    class Tied:
        def bundle(self, number: int, progress: float) -> list[PreferencePair]:
            other = replace(made_pairs(1.0)[0], labels={"quality": 1.0})
            return [*made_pairs(1.0, 0.5), other]

    for loss, num in (("first_token", 1), ("binary", 2), ("margin", 2)):
        (update,) = task_of(recipe(POINT, method={"loss": loss}), Tied()).updates(0)
        assert update.num_losses == num
    task = task_of(recipe(POINT, method={"loss": "binary"}), Tied())
    (tie,) = made_pairs(0.5)
    loss = task.loss([tie]).per_sample
    said = task.learner.verdicts(task.learner.asked([tie]).questions)
    wanted = -(torch.nn.functional.logsigmoid(torch.stack([m := said[:, 0] - said[:, 1], -m])).mean())
    torch.testing.assert_close(loss[0], wanted, atol=1e-5, rtol=1e-5)


def test_a_bundle_is_cut_into_passes_that_ask_no_more_than_fit() -> None:
    samples = [Sample(PROMPTS[i % 2], torch.rand(3, 8, 8)) for i in range(6)]
    crossed = [
        PreferencePair(samples[i].prompt, samples[i], samples[j], {"overall": 1.0})
        for i, j in ((0, 1), (2, 3), (4, 5), (0, 2), (2, 1), (4, 0))
    ]
    task = task_of(recipe(POINT, judge={"batch_size": 3}))
    passes = task._passes(crossed)
    assert sorted(id(pair) for part in passes for pair in part) == sorted(map(id, crossed))
    assert all(len({id(s) for pair in part for s in (pair.a, pair.b)}) <= 3 for part in passes)
    assert len(passes) == 3  # {0, 1, 2}, {2, 3, 1}, {4, 5, 0}; in their order there would be five
    several = task_of(recipe(PAIR, judge={"batch_size": 4}))
    kept = several._teaching(crossed)
    assert all(pair.a.prompt == pair.b.prompt for pair in kept) and 0 < len(kept) < len(crossed)
    assert [len(part) for part in several._passes(kept)] == [2] * (len(kept) // 2) + [1] * (len(kept) % 2)


def test_the_critique_follows_the_verdict_and_ends() -> None:
    task = task_of(recipe(POINT))
    learner = task.learner
    yes, no = learner.words
    assert learner.answer(True, "") == (yes,)
    answer = learner.answer(False, "the circle is blue")
    assert answer[0] == no and answer[-1] in learner.engine.ends and len(answer) > 4
    asked = learner.asked(Redder(1).bundle(0))
    with torch.no_grad():
        logs, where = learner.log_probs(asked.questions, [answer, (yes,)])
        alone, _ = learner.log_probs(asked.questions[1:], [(yes,)])
    assert where.sum(1).tolist() == [len(answer), 1]
    torch.testing.assert_close(logs[1, 0], alone[0, 0], atol=1e-5, rtol=1e-5)


def test_files_bring_critiques_and_lose_only_what_cannot_be_read(tmp_path: Path) -> None:
    for name, level in (("red", 1.0), ("blue", 0.0)):
        write(tmp_path / f"{name}.png", torch.tensor([level, 0.0, 1 - level]).view(3, 1, 1).expand(3, 32, 32))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    rows = [
        {"schema": "mmalign.pref/1", "id": str(i), "prompt": "a red circle", "task": "t2i",
         "candidates": [{"id": "a", "uri": "red.png"}, {"id": "b", "uri": other}],
         "annotations": [{"dim": "overall", "kind": "pair", "i": 0, "j": 1, "label": "i"},
                         {"dim": "overall", "kind": "critique", "texts": ["red as asked", None]}]}
        for i, other in enumerate(("blue.png", "bad.png"))
    ]  # fmt: skip
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    skips = Skips()
    source = FileSource(file, 2, 0, ("overall",), skips=skips)
    pairs = source.heldout()
    assert [(p.a.metadata.get("critique"), p.b.metadata.get("critique")) for p in pairs] == [
        ("red as asked", None)
    ] * 2
    made = recipe(
        POINT, data={"pairs": str(file), "heldout": None},
        method={"name": "probability", "loss": "first_token", "critiques": True},
    )  # fmt: skip
    task = task_of(made, skips=skips)
    loss = task.loss(pairs)
    assert len(loss.per_sample) == 1 and bool(torch.isfinite(loss.per_sample).all())
    skips.settle()
    assert skips.media == 1 and "bad.png" in skips.reasons[0]
