"""Judges that write, in training: what they are taught, what their drawn answers earn, and what is saved of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rewardmodels
from mmalign.train.distributed import Processes
from mmalign.train.skips import WHERE, Skips
from mmalign.types import PreferencePair, Sample
from rewardmodels.judges.chat import Answer, ask
from rewardmodels.judges.pairwise import PairJudge, WinRate
from rewardmodels.judges.speaking import Rollout
from rewardmodels.judges.text_recipe import TextRecipe
from rewardmodels.judges.text_training import ReinforceTask, Replies, WarmUpTask
from rewardmodels.losses import RATINGS
from rewardmodels.sources import CRITIQUE
from tests.unit.rewardmodels.judges import tiny_chat
from tests.unit.rewardmodels.judges.tiny_writing import (
    CHAIN,
    LIST,
    PAIR,
    POINTS,
    PRINCIPLES,
    Rated,
    pairs,
    recipe,
    task_of,
    warm_up_of,
    writer_of,
)

FINE: dict[str, Any] = {"warm_up": {"critique": "it is fine"}}
VERIFY = "{media}{check}"
KINDS = [
    pytest.param(POINTS, {}, id="points"),
    pytest.param(LIST, {}, id="list"),
    pytest.param(CHAIN, FINE, id="chain"),
    pytest.param(PAIR, {}, id="pair"),
    pytest.param(PRINCIPLES, {}, id="principles"),
]


def made_of(kind: dict[str, Any], parts: dict[str, Any], tmp_path: Path, **more: Any) -> Any:
    """The recipe; principles with a question in words that the tiny model has."""
    files = {}
    if kind is PRINCIPLES:
        (tmp_path / "verify.txt").write_text(VERIFY)
        files = {"judge": {"template_file": {"verify": str(tmp_path / "verify.txt")}}}
    return recipe(kind, **{**parts, **files, **more})


def texts(lessons: list[Any], engine: Any) -> list[str]:
    return [engine.tokenizer.decode(tokens, skip_special_tokens=True) for _, tokens in lessons]


def steps(task: Any, num: int, lr: float = 2e-3) -> list[float]:
    """Losses of so many updates."""
    optimizer = torch.optim.AdamW(task.parameters(), lr=lr, weight_decay=0.0)
    found = []
    for iteration in range(num):
        (update,) = task.updates(iteration)
        optimizer.zero_grad()
        losses = [make().per_sample.sum() / update.num_losses for make in update.losses]
        sum(losses).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(list(task.parameters()), 1.0)
        optimizer.step()
        found.append(float(sum(losses).detach()))  # type: ignore[union-attr]
    optimizer.zero_grad()
    return found


# ---------------------------------------------------------------- answers from ratings


def test_ratings_become_numbers_of_the_field_they_rate() -> None:
    made = recipe(LIST, warm_up={"ratings": {"b": "even"}})
    task = warm_up_of(made, Rated(1, ("overall", "even")))
    lessons = task._of_samples(0)
    assert texts(lessons, task.learner.engine) == ['{"score": [ 2 , 1 ]}', '{"score": [ 0 , 1 ]}']
    assert all(tokens[-1] in task.learner.engine.ends for _, tokens in lessons)


def test_a_critique_comes_before_the_mark_and_into_the_next_question() -> None:
    writer = writer_of(recipe(CHAIN, **FINE))
    sample = Sample("a red circle", torch.zeros(3, 32, 32))
    first, second = writer.lessons(sample, {"final": 1.0})
    assert texts([first, second], writer.engine) == ["it is fine", "it is fine \n <score> 4 </score>"]
    assert "A critic wrote: it is fine" in writer.engine.text(second[0])
    own = replace(sample, metadata={CRITIQUE: "a circle"})
    assert texts(writer.lessons(own, {"final": 0.0}), writer.engine)[0] == "a circle"
    assert writer.lessons(sample, {}) == []  # nothing rates the mark


def test_a_label_becomes_a_verdict_in_both_orders() -> None:
    writer = writer_of(recipe(PAIR))
    pair = pairs(1)[0]
    assert texts(writer.lessons_of_pair(pair), writer.engine) == [
        "Image 1 is better than Image 2 .", "Image 2 is better than Image 1 ."
    ]  # fmt: skip
    tie = replace(pair, labels={"overall": 0.5})
    assert texts(writer.lessons_of_pair(tie), writer.engine) == ["Both images are equally good ."] * 2


def test_principles_are_a_plan_and_what_holds_of_it(tmp_path: Path) -> None:
    writer = writer_of(made_of(PRINCIPLES, {}, tmp_path))
    lessons = writer.lessons(Sample("a red circle", torch.zeros(3, 32, 32)), {"follow": 1.0, "keep": 0.1})
    assert texts(lessons, writer.engine) == [
        "[ follow ] follow : a red circle \n[ keep ] keep : a red circle", "<answer> yes </answer>",
        "<answer> no </answer>",
    ]  # fmt: skip
    assert writer.engine.text(lessons[2][0]).endswith("keep: a red circle<|Reward|>")


@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_the_warm_up_teaches_the_form(kind: dict[str, Any], parts: dict[str, Any], tmp_path: Path) -> None:
    task = warm_up_of(made_of(kind, parts, tmp_path))
    losses = steps(task, 12)
    assert losses[-1] < losses[0] / 2


def test_words_that_the_model_lacks_are_named() -> None:
    writer = writer_of(recipe(POINTS))
    with pytest.raises(ValueError, match="cannot write 'splendid'"):
        writer.engine.tokens_of("splendid")


# ---------------------------------------------------------------- reinforcement


def speaking(made: TextRecipe, **options: Any) -> ReinforceTask:
    """A task whose judge has learned the form of its answers."""
    writer = writer_of(made)
    num = 40 if made.judge.settings.judge.kind == "principles" else 16
    steps(WarmUpTask(writer, made, Rated(), Processes()), num, lr=4e-3)
    return ReinforceTask(writer, made, Rated(), Processes(), **options)


def losses_of(task: ReinforceTask, iteration: int = 0) -> list[Any]:
    return [make() for update in task.updates(iteration) for make in update.losses]


@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_before_the_first_update_the_ratio_is_exactly_one(
    kind: dict[str, Any], parts: dict[str, Any], tmp_path: Path
) -> None:
    made = made_of(kind, parts, tmp_path, method={"format_weight": 1.0, "updates_per_iteration": 2})
    task = speaking(made)
    first, second = (list(update.losses) for update in task.updates(0))
    for make in first:
        assert float(make().metrics["ratio_deviation_max"]) == 0.0
    for make in second:  # nothing was updated: the same path gives the same bits again
        assert float(make().metrics["ratio_deviation_max"]) == 0.0
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.mul_(1.05)
    assert max(float(make().metrics["ratio_deviation_max"]) for make in second) > 0.0


def test_drawn_answers_are_those_of_the_stream_and_follow_the_weights() -> None:
    task = speaking(recipe(POINTS))
    first, again, other = (task.draw(pairs(), iteration) for iteration in (0, 0, 1))

    def said(drawn: Any) -> list[Any]:
        return [tokens for part in drawn.parts for tokens in part.answers]

    assert said(first) == said(again) != said(other)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.mul_(1.5)
    assert said(task.draw(pairs(), 0)) != said(first)


def test_log_probabilities_are_those_of_the_drawn_tokens_at_the_temperature() -> None:
    task = speaking(recipe(POINTS, method={"temperature": 0.5, "answers": 2}))
    part = task.draw(pairs(2), 0).parts[0]
    with torch.no_grad():
        found, where = task._log_probs(part)
        for i, (question, tokens) in enumerate(zip(part.questions, part.answers, strict=True)):
            logits = task.learner.engine.logits([question], [tokens])[0]
            alone = (logits / 0.5).log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]
            torch.testing.assert_close(found[i, : len(tokens)], alone, atol=2e-5, rtol=1e-4)
            assert where[i].sum() == len(tokens)


@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_a_step_makes_what_earned_more_likelier(
    kind: dict[str, Any], parts: dict[str, Any], tmp_path: Path
) -> None:
    task = speaking(made_of(kind, parts, tmp_path, method={"format_weight": 1.0}))
    part = task.draw(pairs(2), 0).parts[0]
    gain = torch.linspace(-1, 1, len(part.answers))
    part = replace(part, advantage=gain)

    def means() -> torch.Tensor:
        with torch.no_grad():
            logs, where = task._log_probs(part)
        return (logs * where).sum(1) / where.sum(1)

    before = means()
    optimizer = torch.optim.SGD(task.parameters(), lr=1e-3)
    task.loss(part, {}).per_sample.sum().backward()
    optimizer.step()
    assert float(((means() - before) * gain).sum()) > 0


def test_all_answers_of_a_pass_have_the_advantage_of_its_mark() -> None:
    first, second = ask("one"), ask("two")

    def passed(*tokens: int) -> Rollout:
        answers = [Answer("x", tokens=(token,)) for token in tokens]
        return Rollout(tuple(zip((first, second), answers, strict=False)), 0.0)

    task = task_of(recipe(POINTS, judge={"batch_size": 4}))
    rollouts = [[passed(1, 2), passed(3)], [passed(4, 5), passed(6, 7)]]  # one was unreadable at once
    one, two = task._parts(rollouts, torch.tensor([0.5, -1.0, torch.nan, 2.0]))
    assert [*one.answers, *two.answers] == [(1,), (3,), (2,), (6,), (7,)]
    assert [*one.advantage.tolist(), *two.advantage.tolist()] == [0.5, -1.0, 0.5, 2.0, 2.0]
    assert [*one.questions, *two.questions] == [first, first, second, first, second]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [POINTS, PAIR], ids=["points", "pair"])
def test_pairs_alone_teach_what_is_better(kind: dict[str, Any]) -> None:
    """After a warm-up that tells nothing but the form, redder pictures win."""
    made = recipe(
        kind, method={"answers": 8, "format_weight": 0.5}, warm_up={"noise": 5.0}, judge={"batch_size": 128}
    )
    writer = writer_of(made)
    warm = WarmUpTask(writer, made, Rated(6), Processes())
    if kind is PAIR:  # labels of both kinds for the same question tell nothing
        even = Rated(6)
        turned = [replace(pair, labels={"overall": 1.0 - (i % 2)}) for i, pair in enumerate(even.bundle(0))]
        warm.source = type("Turned", (), {"bundle": lambda self, number, progress=0.0: turned})()
    steps(warm, 20)
    task = ReinforceTask(writer, made, Rated(6), Processes())
    before = task.draw(pairs(6), 999).metrics
    steps(task, 25, lr=1e-3)
    after = task.draw(pairs(6), 999).metrics
    assert before["readable"] > 0.5 and after["reward"] > before["reward"] + 0.2


def test_divergence_is_measured_from_where_reinforcement_began() -> None:
    task = speaking(recipe(POINTS, method={"kl": 0.1, "format_weight": 1.0}))
    assert all(float(made.metrics["kl"]) == 0.0 for made in losses_of(task))
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.mul_(1.1)
    assert all(float(made.metrics["kl"]) > 0.0 for made in losses_of(task))
    assert float(losses_of(task)[0].metrics["ratio_deviation_max"]) == 0.0


def test_an_answer_that_is_left_out_has_no_gradient() -> None:
    task = speaking(recipe(POINTS))
    part = task.draw(pairs(2), 0).parts[0]
    none = Replies(part.questions, part.answers, torch.full((len(part.answers),), torch.nan))
    task.loss(none, {}).per_sample.sum().backward()
    assert all(p.grad is None or not bool(p.grad.any()) for p in task.parameters())


def test_what_cannot_be_read_is_left_out_and_counted() -> None:
    broken = Sample("a circle", Path("nowhere.png"), metadata={WHERE: "x:7"})
    good = pairs(2)
    for kind in (POINTS, PAIR):
        skips = Skips()
        task = speaking(recipe(kind), skips=skips)
        bad = PreferencePair("a circle", replace(good[0].a, prompt="a circle"), broken, {"overall": 1.0})
        alone, drawn = task.draw(good, 0), task.draw([*good, bad], 0)
        assert len(drawn) == len(alone) and task.draw([bad], 0).parts == []
        skips.settle()
        assert skips.media == 1 and "nowhere.png" in skips.reasons[0]
    with pytest.raises(ValueError, match="no such file"):
        task_of(recipe(POINTS)).draw([bad], 0)
    rated = replace(broken, metadata={RATINGS: {"overall": 1.0}, WHERE: "x:7"})
    source = type("One", (), {"rated": lambda self, number, progress: [rated]})()
    warm = warm_up_of(recipe(POINTS), source, skips=Skips())
    assert warm._of_samples(0) == []


# ---------------------------------------------------------------- starts and folders


@pytest.mark.parametrize(("kind", "parts"), KINDS)
def test_it_is_saved_and_read_back_bit_by_bit(
    kind: dict[str, Any], parts: dict[str, Any], tmp_path: Path
) -> None:
    task = speaking(made_of(kind, parts, tmp_path))
    task.save(tmp_path)
    again = rewardmodels.load(str(tmp_path / "judge"), batch_size=32)
    inner: Any = again.judge if isinstance(again, WinRate) else again
    task.learner.engine.forget()
    with task.result() as judge:
        assert inner.settings == judge.settings and type(inner) is type(judge)
        if isinstance(judge, PairJudge):
            both = [(pair.a, pair.b) for pair in pairs()]
            assert [one.answers for one in inner.compare(both)] == [
                one.answers for one in judge.compare(both)
            ]
        else:
            samples = [pair.a for pair in pairs()]
            found, known = inner.review(samples=samples), judge.review(samples=samples)
            assert [one.answers for one in found] == [one.answers for one in known]
    state, theirs = judge.engine.model.state_dict(), inner.engine.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in theirs.items())
    files = sorted(file.name for file in (tmp_path / "judge").glob("question*.txt"))
    several = {"chain": ["critique", "mark"], "principles": ["plan", "verify"]}
    named = several["chain"] if kind is CHAIN else several["principles"] if kind is PRINCIPLES else []
    assert files == ([f"question.{name}.txt" for name in named] or ["question.txt"])
    other = task_of(made_of(kind, parts, tmp_path))
    other.load_state_dict(task.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(task.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("write_model", [tiny_chat.qwen, tiny_chat.llava], ids=["qwen", "llava"])
def test_any_instruction_model_is_a_start_with_adapters_or_without(write_model: Any, tmp_path: Path) -> None:
    folder = str(write_model(tmp_path / "model"))
    kind = {**POINTS, "asks": [{**POINTS["asks"][0], "wording": "grade-image/1"}]}  # type: ignore[index]
    for weights in ("full", "lora"):
        given = {"weights": weights, "vision": "frozen", "lora": {"rank": 2, "alpha": 4.0}, "batch_size": 4}
        made = recipe(kind, folder, judge=given, method={"format_weight": 1.0, "answers": 2})
        writer = writer_of(made)
        losses = steps(WarmUpTask(writer, made, Rated(2), Processes()), 4)
        assert losses[-1] < losses[0]
        task = ReinforceTask(writer, made, Rated(2), Processes())
        assert all(float(one.metrics["ratio_deviation_max"]) == 0.0 for one in losses_of(task))
        task.save(tmp_path / weights)
        again: Any = rewardmodels.load(str(tmp_path / weights / "judge"), batch_size=4)
        samples = [pair.a for pair in pairs(2)]
        task.learner.engine.forget()
        with task.result() as judge:
            known = [one.answers for one in judge.review(samples=samples)]
        assert known == [one.answers for one in again.review(samples=samples)]
