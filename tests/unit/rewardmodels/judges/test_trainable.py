"""Judges of token probabilities that are trained: what they start from, and what is saved of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rewardmodels
from mmalign.strict import validate
from mmalign.types import Scores
from rewardmodels.judges import trainable
from rewardmodels.judges.calibration import Calibration
from rewardmodels.judges.checklist import ChecklistReward
from rewardmodels.judges.pairwise import PairJudge, WinRate
from rewardmodels.judges.probability import DigitReward, YesNoReward
from tests.unit.rewardmodels.judges import tiny_chat
from tests.unit.rewardmodels.judges.tiny_training import (
    DIGITS,
    KINDS,
    POINT,
    Redder,
    chances,
    recipe,
    task_of,
)


def test_the_averaged_weights_are_measured_saved_and_continued(tmp_path: Path) -> None:
    task = task_of(recipe(POINT, method={"average": 0.5}))
    before = {name: p.detach().clone() for name, p in task.learner.vlm.named_parameters()}
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
    kinds = {"yes_no": YesNoReward, "pair": PairJudge, "digits": DigitReward}
    assert isinstance(inner, kinds[judge["kind"]])
    with task.learner.finished() as finished:
        assert torch.equal(chances(finished, pairs), chances(inner, pairs))
    assert inner.settings == task.learner.judge.settings and task.parameters()
    state = task.state_dict()
    other = task_of(recipe(judge))
    other.load_state_dict(state)
    with other.learner.finished() as finished:
        assert torch.equal(chances(finished, pairs), chances(inner, pairs))


@pytest.mark.parametrize(
    ("write_model", "kind"),
    [
        (tiny_chat.qwen, {**POINT, "wording": "does-it-show/1", "variants": True}),
        (tiny_chat.llava, {**POINT, "wording": "does-it-show/1", "variants": True}),
        (tiny_chat.qwen, {**DIGITS, "wording": "does-it-show/1"}),
    ],
    ids=["qwen", "llava", "qwen-digits"],
)
def test_any_instruction_model_is_a_start_with_adapters_or_without(
    write_model: Any, kind: dict[str, Any], tmp_path: Path
) -> None:
    folder = str(write_model(tmp_path / "model"))
    pairs = Redder(2).bundle(0)
    for weights in ("full", "lora"):
        made = recipe(
            kind,
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


@pytest.mark.parametrize("judge", KINDS)
def test_what_was_fitted_is_read_back_and_older_folders_have_none(
    judge: dict[str, Any], tmp_path: Path
) -> None:
    task = task_of(recipe(judge))
    task.save(tmp_path)
    made = rewardmodels.load(str(tmp_path / "judge"), batch_size=6)
    loaded = made.judge if isinstance(made, WinRate) else made
    assert isinstance(loaded, trainable.Calibrating) and loaded.calibration == Calibration(1.0, 0.0)
    loaded.calibration = Calibration(0.25, 0.125)
    trainable.write_calibration(loaded, tmp_path / "judge")
    again = trainable.load_folder(tmp_path / "judge", batch_size=6)
    assert isinstance(again, trainable.Calibrating) and again.calibration == Calibration(0.25, 0.125)
    if not isinstance(again, PairJudge):
        said = Scores.of(torch.tensor([[0.5], [0.25]]), ("overall",))
        chance = again.probability(said.select([0]), said.select([1]))
        torch.testing.assert_close(chance, torch.tensor([1.0]).sigmoid())
    file = tmp_path / "judge" / "reward_config.json"
    record = json.loads(file.read_text())
    assert (record["temperature"], record["tie_threshold"]) == (0.25, 0.125)
    old = {key: value for key, value in record.items() if key not in ("temperature", "tie_threshold")}
    assert set(old) == {"schema", "family", "name", "model"}
    file.write_text(json.dumps(old))
    older = trainable.load_folder(tmp_path / "judge", batch_size=6)
    assert isinstance(older, trainable.Calibrating) and older.calibration == Calibration(1.0, 0.0)
    file.write_text(json.dumps(old | {"temperature": 0}))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        trainable.load_folder(tmp_path / "judge", batch_size=6)


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
    judge.calibration = Calibration(2.0, 0.5)
    kept = trainable.save(judge, tmp_path / "judge", model=str(folder))
    assert not list(kept.glob("*.safetensors"))
    again = rewardmodels.load(str(kept))
    assert isinstance(again, ChecklistReward) and again.calibration == Calibration(2.0, 0.5)
    assert torch.equal(again(samples=samples).overall, judge(samples=samples).overall)
    other = trainable.start_from(str(folder), listed)
    assert isinstance(other, ChecklistReward)
    assert not torch.equal(other(samples=samples).overall, judge(samples=samples).overall)
    reread = rewardmodels.load(str(kept), weights_file=str(tmp_path / "w.json"))
    assert isinstance(reread, ChecklistReward) and reread.calibration == Calibration()  # of whatever weights
    assert torch.equal(reread(samples=samples).overall, judge(samples=samples).overall)
    sheets = judge.sheets(samples=[samples[0], replace(samples[0], prompt="something else")])
    assert sheets[0, 0] != sheets[1, 0] and sheets[0, 1] == sheets[1, 1]


def test_judges_that_answer_nothing_of_their_own_are_no_start() -> None:
    settings = validate({"asks": "promptecho"}, type(recipe(POINT).judge)).settings
    with pytest.raises(ValueError, match=r"promptecho \(kind echo\) gives no answers that can be trained"):
        trainable.start_from("shapes-reward", settings)
