"""Judges of token probabilities that are trained: what an update does, what is saved, and mistakes in recipes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rewardmodels
from mmalign.media import write
from mmalign.strict import validate
from mmalign.train.distributed import Processes
from mmalign.train.skips import Skips
from mmalign.types import PreferencePair, Sample
from rewardmodels.judges import trainable
from rewardmodels.judges.checklist import ChecklistReward
from rewardmodels.judges.learner import Learner
from rewardmodels.judges.pairwise import PairJudge, WinRate
from rewardmodels.judges.probability import YesNoReward
from rewardmodels.judges.probability_recipe import SCHEMAS, ProbabilityRecipe, kind_of
from rewardmodels.judges.probability_training import CritiquedSource, ProbabilityTask
from tests.unit.rewardmodels.judges import tiny_chat

POINT = {"kind": "yes_no", "wording": "plain/1", "variants": False, "min_mass": 0.0}
PAIR = {
    "kind": "pair",
    "wording": "plain-pair/1",
    "style": "probability",
    "words": ["yes", "no"],
    "min_mass": 0.0,
}
KINDS = [pytest.param(POINT, id="point"), pytest.param(PAIR, id="pair")]
LOSSES = ("first_token", "binary", "margin", "probability")
PROMPTS = ("a red circle", "two large blue squares", "a circle", "a yellow triangle")


def recipe(kind: dict[str, Any], path: str = "shapes-reward", **parts: Any) -> ProbabilityRecipe:
    asks = {"name": "tiny", "about": "a test", "modalities": ["image"], "scale": "[0, 1]", "judge": kind}
    start = {"path": path, "asks": asks, "batch_size": 6, **parts.pop("judge", {})}
    return validate({"judge": start, "data": {"heldout": None}, **parts}, ProbabilityRecipe)


def started(made: ProbabilityRecipe) -> YesNoReward | PairJudge:
    judge = trainable.start_from(
        made.judge.path, made.judge.settings, batch_size=made.judge.batch_size, dtype=made.judge.dtype
    )
    assert not isinstance(judge, ChecklistReward)
    return judge


@dataclass(frozen=True)
class Redder:
    """People prefer the redder of a red and a green picture."""

    num: int = 4

    def bundle(self, number: int, progress: float = 0.0) -> list[PreferencePair]:
        streams = torch.Generator().manual_seed(number % 3)
        made = []
        for i in range(self.num):
            share = torch.rand(2, generator=streams) * 0.3
            red, green = (
                torch.tensor([level, 1 - level, 0.0]).view(3, 1, 1).expand(3, 32, 32)
                for level in (1 - float(share[0]), float(share[1]))
            )
            prompt = PROMPTS[i % 4]
            made.append(PreferencePair(prompt, Sample(prompt, red), Sample(prompt, green), {"overall": 1.0}))
        return made


def task_of(made: ProbabilityRecipe, bundles: Any = None, **options: Any) -> ProbabilityTask:
    return ProbabilityTask(
        Learner(started(made), made.judge), made, bundles or Redder(), Processes(), **options
    )


def chances(judge: Any, pairs: list[PreferencePair]) -> torch.Tensor:
    """How much more the judge likes the first of each pair."""
    if isinstance(judge, PairJudge):
        return torch.tensor([one.probability for one in judge.compare([(p.a, p.b) for p in pairs])])
    return judge(samples=[p.a for p in pairs]).overall - judge(samples=[p.b for p in pairs]).overall


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


def test_verdicts_are_those_that_scores_are_made_of() -> None:
    task = task_of(recipe(POINT))
    asked = task.learner.asked(Redder(2).bundle(0))
    samples = [sample for pair in Redder(2).bundle(0) for sample in (pair.a, pair.b)]
    judge = task.learner.judge
    assert isinstance(judge, YesNoReward)
    with torch.no_grad():
        said = task.learner.verdicts(asked.questions)
    torch.testing.assert_close(
        (said[:, 0] - said[:, 1]).sigmoid(), judge(samples=samples).overall, atol=1e-5, rtol=1e-5
    )


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


def test_the_averaged_weights_are_measured_saved_and_continued(tmp_path: Path) -> None:
    task = task_of(recipe(POINT, method={"average": 0.5}))
    before = {name: p.detach().clone() for name, p in task._trained()}
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.11)
    task.finish(0, 0)  # the first update moves nine tenths of the way
    with task.result() as judge:
        for name, parameter in judge.engine.model.named_parameters():  # type: ignore[union-attr]
            torch.testing.assert_close(parameter, before[name] + 0.099, atol=1e-5, rtol=0)
    task.save(tmp_path)
    samples = [pair.a for pair in Redder().bundle(0)]
    again = rewardmodels.load(str(tmp_path / "judge"), batch_size=6)
    with task.result() as judge:
        assert isinstance(judge, YesNoReward)
        assert torch.equal(judge(samples=samples).overall, again(samples=samples).overall)
    assert not torch.equal(task.learner.judge(samples=samples).overall, again(samples=samples).overall)  # type: ignore[operator]
    other = task_of(recipe(POINT, method={"average": 0.5}))
    other.load_state_dict(task.state_dict())
    assert all(
        torch.equal(other.averages.values[name], value) for name, value in task.averages.values.items()
    )


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


@pytest.mark.parametrize("judge", KINDS)
def test_it_is_saved_and_read_back_bit_by_bit(judge: dict[str, Any], tmp_path: Path) -> None:
    task = task_of(recipe(judge))
    pairs = Redder().bundle(0)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.mul_(1.01)
    task.save(tmp_path)
    again = rewardmodels.load(str(tmp_path / "judge"), batch_size=6)
    inner = again.judge if isinstance(again, WinRate) else again
    assert isinstance(inner, PairJudge if judge is PAIR else YesNoReward)
    with task.learner.finished() as finished:
        assert torch.equal(chances(finished, pairs), chances(inner, pairs))
    assert inner.settings == task.learner.judge.settings and task.parameters()
    state = task.state_dict()
    other = task_of(recipe(judge))
    other.load_state_dict(state)
    with other.learner.finished() as finished:
        assert torch.equal(chances(finished, pairs), chances(inner, pairs))


@pytest.mark.parametrize("write_model", [tiny_chat.qwen, tiny_chat.llava])
def test_any_instruction_model_is_a_start_with_adapters_or_without(write_model: Any, tmp_path: Path) -> None:
    folder = str(write_model(tmp_path / "model"))
    pairs = Redder(2).bundle(0)
    for weights in ("full", "lora"):
        made = recipe(
            {**POINT, "wording": "does-it-show/1", "variants": True},
            folder,
            judge={"weights": weights, "vision": "frozen", "lora": {"rank": 2, "alpha": 4.0}},
        )
        task = task_of(made)
        before = chances(task.learner.judge, pairs)
        optimizer = torch.optim.AdamW(task.parameters(), lr=2e-3)
        for _ in range(3):
            optimizer.zero_grad()
            task.loss(pairs).per_sample.mean().backward()
            optimizer.step()
        with task.learner.finished() as judge:
            after = chances(judge, pairs)
        task.save(tmp_path / weights)
        again = rewardmodels.load(str(tmp_path / weights / "judge"), batch_size=6)
        assert not torch.equal(before, after) and torch.equal(after, chances(again, pairs))


def test_adapters_of_a_bfloat16_model_learn_in_float32(tmp_path: Path) -> None:
    """A step of 1e-5 is nothing to most bfloat16 numbers."""
    folder, pairs = str(tiny_chat.qwen(tmp_path / "model")), Redder(2).bundle(0)
    made = recipe(
        POINT, folder, judge={"weights": "lora", "dtype": "bfloat16", "lora": {"rank": 2, "alpha": 4.0}}
    )
    task = task_of(made)
    assert task.learner.vlm.dtype == torch.bfloat16
    trained = task.parameters()
    before = [parameter.detach().clone() for parameter in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.0)
    for _ in range(2):  # the first moves every B, which is zero, and with it the gradient of A
        optimizer.zero_grad()
        task.loss(pairs).per_sample.mean().backward()
        optimizer.step()
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    moved = [(p.detach() != old)[p.grad != 0].float().mean() for p, old in zip(trained, before, strict=True)]
    assert min(share for share in moved if share == share) > 0.9
    with task.learner.finished() as judge:
        assert judge.engine.model.dtype == torch.bfloat16 and bool(chances(judge, pairs).isfinite().all())  # type: ignore[union-attr]


def test_a_trained_checklist_names_the_model_it_was_learned_with(tmp_path: Path) -> None:
    folder = tiny_chat.qwen(tmp_path / "model")
    made = recipe(POINT, str(folder)).judge.settings
    checks = [{"name": "shown", "question": "Is it {prompt}?"}, {"name": "red", "question": "Is it red?"}]
    listed = made.model_copy(
        update={
            "judge": validate(
                {"name": "x", "about": "x", "modalities": ["image"], "scale": "x", "judge": {
                    "kind": "checklist", "wording": "checklist-question/1", "checks": checks, "min_mass": 0.0}},
                type(made),
            ).judge
        }
    )  # fmt: skip
    judge = trainable.start_from(str(folder), listed)
    assert isinstance(judge, ChecklistReward)
    pairs = Redder(4).bundle(0)
    assert judge.learn(pairs) == 4
    judge.save_weights(tmp_path / "w.json")
    samples = [pair.a for pair in pairs]
    kept = trainable.save(judge, tmp_path / "judge", model=str(folder))
    assert not list(kept.glob("*.safetensors"))
    again = rewardmodels.load(str(kept))
    assert torch.equal(again(samples=samples).overall, judge(samples=samples).overall)
    other = trainable.start_from(str(folder), listed)
    assert isinstance(other, ChecklistReward)
    assert not torch.equal(other(samples=samples).overall, judge(samples=samples).overall)
    reread = rewardmodels.load(str(kept), weights_file=str(tmp_path / "w.json"))
    assert torch.equal(reread(samples=samples).overall, judge(samples=samples).overall)
    sheets = judge.sheets(samples=[samples[0], replace(samples[0], prompt="something else")])
    assert sheets[0, 0] != sheets[1, 0] and sheets[0, 1] == sheets[1, 1]


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
    source = CritiquedSource(file, 2, 0, ("overall",), skips=skips)
    pairs = source.all()
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


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ({"judge": {"asks": "visionreward"}}, "kind yes_no, or pair"),
        ({"judge": {"asks": "unifiedreward-pair"}}, "kind yes_no, or pair"),
        ({"judge": {"asks": "rewarddance-reasoned"}}, "set reasoning to 0"),
        ({"method": {"loss": "margin", "critiques": True}}, "belong to first_token"),
        ({"judge": {"weights": "lora", "lora": {"dropout": 0.1}}}, "leave lora.dropout at 0"),
        ({"judge": {"dtype": "bfloat16"}}, "trains in float32: bfloat16 would round .*judge.weights=lora"),
        ({"method": {"anchor": 0.1}}, "anchor belongs to margin"),
        ({"method": {"scale": 2.0}}, "scale belongs to margin"),
        ({"method": {"published": True}}, "needs critiques"),
        ({"method": {"loss": "margin", "ranking": 1.0}}, "ranking belongs to first_token"),
        ({"method": {"critiques": True}}, "critiques are of single pictures, in files"),
        ({"data": {"pairs": "x.jsonl", "heldout": "x.jsonl"}}, "give another, or null"),
        (
            {"data": {"pairs": "shapes-edits"}},
            "data.pairs=shapes-edits holds the kind 'edit'.*judges image and video",
        ),
        (
            {"data": {"pairs": "x.jsonl", "heldout": "shapes-edits"}},
            "data.heldout=shapes-edits holds the kind",
        ),
    ],
)
def test_mistakes_in_a_recipe(given: dict[str, Any], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        validate(given, ProbabilityRecipe)


def test_only_judges_of_probabilities_and_models_that_can_answer_are_a_start(tmp_path: Path) -> None:
    settings = validate({"asks": "editscore"}, type(recipe(POINT).judge)).settings
    with pytest.raises(ValueError, match="no judge of token probabilities"):
        trainable.start_from("shapes-reward", settings)


def test_the_kind_of_a_recipe_is_read_from_its_method() -> None:
    kinds = {"paco-like": "probability", "rewarddance-like": "probability", "checklist-like": "checklist"}
    assert {name: kind_of(f"judge/{name}") for name in kinds} == kinds and kind_of("judge/shapes") == "judge"
    assert set(SCHEMAS) == {"judge", "probability", "checklist"}
