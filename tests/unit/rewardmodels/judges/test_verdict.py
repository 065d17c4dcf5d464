"""The model that says verdicts: its probabilities, its answers, and that pairs teach it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmalign.strict import validate
from mmalign.train.distributed import Processes
from mmalign.types import PreferencePair, Sample
from rewardmodels.judges.earned import by_opponents, by_rule, decided
from rewardmodels.judges.verdict_model import PAIR, POINT, VerdictModel, load_verdict_model, speaking
from rewardmodels.judges.verdict_recipe import JudgeRecipe
from rewardmodels.judges.verdict_training import VerdictTask, WarmUpTask, rated
from rewardmodels.sources import ShapesSource
from tests.unit.rewardmodels.judges.tiny_training import Redder
from tests.unit.rewardmodels.tiny import tiny_reward

NAN = float("nan")
PROMPTS = ("a red circle", "two large blue squares above a green cross", "a circle", "a yellow triangle")


def model(template: str = POINT) -> VerdictModel:
    words = ("1", "2") if template == PAIR else tuple(str(mark) for mark in range(5))
    return speaking(tiny_reward(), name="tiny", template=template, words=words)


def samples(num: int = 4, seed: int = 0) -> list[Sample]:
    pictures = torch.rand(num, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return [Sample(PROMPTS[i % 4], picture) for i, picture in enumerate(pictures)]


@torch.no_grad()
def whole_pass(made: VerdictModel, sample: Sample, answer: Tensor) -> Tensor:
    """Log-probabilities of an answer from one pass over everything, without cache and padding."""
    inputs = made.inputs([sample])
    length = inputs.input_ids.shape[1]
    start = int(inputs.position_ids.max()) + 1
    along = torch.arange(start, start + 3).expand(3, 1, 3)
    arguments = inputs.model_arguments() | {
        "input_ids": torch.cat([inputs.input_ids, answer[None]], 1),
        "attention_mask": torch.ones(1, length + 3, dtype=torch.long),
        "position_ids": torch.cat([inputs.position_ids, along], 2),
    }
    logits = made.vlm(**arguments, use_cache=False).logits[0, length - 1 : -1]
    return logits.float().log_softmax(-1).gather(1, answer[:, None])[:, 0]


def test_probabilities_on_the_cache_are_those_of_one_whole_pass() -> None:
    made, asked = model(), samples()
    answers = torch.tensor([[made.opening, int(made.marks[i]), made.end] for i in (0, 4, 2, 1, 3)])
    rows = torch.tensor([0, 0, 1, 2, 3])
    with torch.no_grad():
        found = made.log_probs(made.read(made.inputs(asked)), rows, answers)
    for row, answer, logs in zip(rows.tolist(), answers, found, strict=True):
        torch.testing.assert_close(logs, whole_pass(made, asked[row], answer), atol=2e-5, rtol=1e-4)


def test_drawn_answers_are_the_same_for_the_same_stream_and_have_their_probability() -> None:
    made = model()
    prefix = made.read(made.inputs(samples(1)))
    first, rows = made.draw(prefix, 500, "a")
    again, _ = made.draw(prefix, 500, "a")
    other, _ = made.draw(prefix, 500, "b")
    assert torch.equal(first, again) and not torch.equal(first, other) and len(rows) == 500
    chances = prefix.logits[0].softmax(-1)
    counts = torch.bincount(first[:, 0], minlength=len(chances)) / 500
    assert float((counts - chances).abs().max()) < 0.08


def test_only_the_exact_form_is_a_verdict() -> None:
    made = model()
    good = made.answer(3)
    rows = [good, (good[1], good[1], good[2]), (good[0], good[0], good[2]), (*good[:2], good[1])]
    assert made.marks_of(torch.tensor(rows)).nan_to_num(-1.0).tolist() == [3.0, -1.0, -1.0, -1.0]


def test_it_is_saved_and_read_back_bit_by_bit(tmp_path: Path) -> None:
    made, asked = model(), samples()
    again = load_verdict_model(made.save(tmp_path / "judge"))
    assert torch.equal(made(samples=asked).overall, again(samples=asked).overall)
    assert again.settings == made.settings


def test_its_expected_mark_is_a_reward() -> None:
    made, asked = model(), samples()
    scores = made(samples=[*asked, Sample("a red circle", torch.full((3, 32, 32), 7.0))])
    assert scores.valid.tolist() == [True] * 4 + [False]
    alone = torch.cat([made(samples=[sample]).overall for sample in asked])
    torch.testing.assert_close(scores.overall[:4], alone, atol=1e-5, rtol=0)
    made.expected = False
    assert set((made(samples=asked).overall * 4).tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_preferences_of_pairs_are_mirrored() -> None:
    made = model(PAIR)
    a, b = samples(4, seed=1), [Sample(s.prompt, s.media.flip(-1)) for s in samples(4, seed=2)]  # type: ignore[union-attr]
    torch.testing.assert_close(made.prefer(a, b), 1 - made.prefer(b, a))
    with pytest.raises(ValueError, match="compares two pictures"):
        made(samples=a)


# ---------------------------------------------------------------- training


def recipe(**method: object) -> JudgeRecipe:
    asks = "pair" if method.get("reward") == "rule" else "point"
    return validate({"judge": {"asks": asks}, "method": {"answers": 6, **method}}, JudgeRecipe)


def test_before_the_first_update_the_ratio_is_exactly_one() -> None:
    task = VerdictTask(model(), recipe(format_weight=1.0), Redder(4), Processes())
    (update,) = task.updates(0)
    (make,) = update.losses
    assert float(make().metrics["ratio_deviation_max"]) == 0.0


def test_marks_earn_what_their_meetings_say() -> None:
    """Sample 0 beats 1 and 2, sample 1 beats 2; the last answer of sample 2 cannot be read."""
    said = torch.tensor([[4.0, 2.0], [3.0, 1.0], [2.0, NAN]])
    reward = by_opponents(said, torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), format_weight=0.5)
    first = [0.5 + (1 + 1) / 2, 0.5 + (0.5 + 0) / 2]  # 4 beats 3, 1 and 2; 2 beats 1 of (3, 1), and not 2
    second = [0.5 + (0.5 + 1) / 2, 0.5 + (1 + 0) / 2]  # below 4 of (4, 2), above 2; below both, not above 2
    third = [0.5 + (0.5 + 0.5) / 2, 0.0]  # below 4 of (4, 2), below 3 of (3, 1)
    torch.testing.assert_close(reward, torch.tensor([first, second, third]))


def test_where_no_opponent_can_be_read_the_form_is_rewarded_still() -> None:
    said = torch.tensor([[torch.nan, torch.nan], [3.0, torch.nan]])
    reward = by_opponents(said, torch.tensor([0]), torch.tensor([1]), format_weight=0.5)
    assert reward.tolist() == [[0.0, 0.0], [0.5, 0.0]]


def test_a_verdict_on_a_pair_is_right_whichever_way_round_it_is_shown() -> None:
    said = torch.tensor([[0.0, 1.0, NAN], [0.0, 1.0, NAN]])
    turned = torch.tensor([0.0, 1.0])
    assert by_rule(said, turned, format_weight=0.5).tolist() == [[1.5, 0.5, 0.0], [0.5, 1.5, 0.0]]


@pytest.mark.parametrize(("reward", "template"), [("gcpo", POINT), ("rule", PAIR)])
def test_a_step_makes_what_earned_more_likelier(reward: str, template: str) -> None:
    made = model(template)
    task = VerdictTask(made, recipe(reward=reward, format_weight=1.0), Redder(2), Processes())
    drawn = task.draw(Redder(2).bundle(0, 0.0), 0)
    gain = torch.linspace(-1, 1, len(drawn.answers))
    drawn = replace(drawn, advantage=gain)
    before = drawn.old.mean(1)
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05)
    task._loss(drawn).per_sample.mean().backward()
    optimizer.step()
    with torch.no_grad():
        prefix = made.read(made.inputs(drawn.samples, drawn.seconds))
        after = made.log_probs(prefix, drawn.rows, drawn.answers).mean(1)
    assert float(((after - before) * gain).sum()) > 0


def test_a_kept_reference_holds_the_judge_back() -> None:
    task = VerdictTask(model(), recipe(kl=0.1), Redder(2), Processes())
    drawn = task.draw(Redder(2).bundle(0, 0.0), 0)
    assert drawn.reference is not None
    torch.testing.assert_close(drawn.reference, drawn.old)


def test_the_warm_up_teaches_the_form_and_is_the_same_again() -> None:
    settings = validate(
        {
            "data": {"shapes": {"families": 2, "prompts": 2, "images": 2}},
            "warm_up": {"noise": 0.1},
            "judge": {"marks": 5},
        },
        JudgeRecipe,
    )
    source = ShapesSource(settings.data.shapes, 0)
    task = WarmUpTask(model(), settings, source, Processes())
    optimizer = torch.optim.AdamW(task.parameters(), lr=5e-3)
    losses = []
    for iteration in range(12):
        (update,) = task.updates(iteration)
        (make,) = update.losses
        loss = make().per_sample.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    first, worth = rated(source.block(3, 0.0))
    again, same = rated(source.block(3, 0.0))
    assert [s.prompt for s in first] == [s.prompt for s in again] and torch.equal(worth, same)
    assert first[0].prompt == first[1].prompt


def test_only_decided_pairs_are_used_and_the_winner_stands_first() -> None:
    a, b = samples(2)
    b = Sample(a.prompt, b.media)
    other = Sample("another", b.media)
    pairs = [
        PreferencePair("", a, b, {"overall": 1.0}),
        PreferencePair("", a, b, {"overall": 0.2}),
        PreferencePair("", a, b, {"overall": 0.5}),
        PreferencePair("", a, other, {"overall": 1.0}),
        PreferencePair("", a, b, {}),
    ]
    comparable = [(pair.a, pair.b) for pair in decided(pairs, one_prompt=True)]
    assert comparable == [(a, b), (b, a)]
    assert [(pair.a, pair.b) for pair in decided(pairs, one_prompt=False)] == [*comparable, (a, other)]


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ({"data": {"pairs": "shapes-edits"}}, "holds the kind 'edit'"),
        ({"data": {"heldout": "shapes-videos"}}, "holds the kind 'video'"),
        (
            {"data": {"pairs": "x.jsonl", "heldout": "x.jsonl"}, "warm_up": {"updates": 0}},
            "give another, or null",
        ),
        ({"judge": {"asks": "pair"}}, "rule with pair"),
        ({"method": {"reward": "rule"}}, "rule with pair"),
        ({"data": {"pairs": "x.jsonl"}}, "set warm_up.updates=0"),
        ({"method": {"reward": "best"}}, "method.reward"),
    ],
)
def test_mistakes_in_a_recipe(given: dict[str, object], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        validate(given, JudgeRecipe)
