"""Critique, then score: the head reads the words, failed words are no score, and training reads the same words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rewardmodels
from mmalign.shapes import render
from mmalign.train.distributed import Processes
from mmalign.types import PreferencePair, Sample
from rewardmodels.judges.chat import Answer, Question, Sampling
from rewardmodels.judges.critiqued import CritiquedReward, CritiquedSource, with_critique
from rewardmodels.judges.load import load_judge
from rewardmodels.judges.wording import wording
from rewardmodels.recipe import RewardRecipe
from rewardmodels.training import RewardTraining
from tests.unit.rewardmodels.judges import tiny_chat
from tests.unit.rewardmodels.judges.chat_server import said, serve
from tests.unit.rewardmodels.judges.engines import Scripted, words_of
from tests.unit.rewardmodels.tiny import tiny_family, tiny_reward

PROMPTS = ("a red circle", "two blue squares", "a large orange square")
SAMPLES = [
    Sample(prompt, image, id=str(i))
    for i, (prompt, image) in enumerate(zip(PROMPTS, render(list(PROMPTS), seed=1), strict=True))
]
JOINED = wording("prompt-and-critique/1")


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_reward(seed=3).save(tmp_path_factory.mktemp("scorer")))


def critic(say: Callable[[Question, Sampling], str], scorer: str, **options: Any) -> CritiquedReward:
    made = load_judge(config="critique-then-score", engine=Scripted(say), scorer=scorer, **options)
    assert isinstance(made, CritiquedReward)
    return made


def always(words: str) -> Callable[[Question, Sampling], str]:
    """A critic who says the same of everything."""
    return lambda question, how: words


def test_the_critique_changes_the_score_and_is_what_the_scorer_reads(scorer: str) -> None:
    found = {}
    for said_so in ("a red circle", "two large blue squares"):
        reward = critic(always(said_so), scorer)
        found[said_so] = reward(samples=SAMPLES)
        read = [replace(s, prompt=f"{s.prompt}\n\nA critic wrote: {said_so}") for s in SAMPLES]
        alone = rewardmodels.load(scorer)(samples=read)
        assert torch.equal(found[said_so].overall, alone.overall)
    first, second = (scores.overall for scores in found.values())
    assert float((first - second).abs().min()) > 1e-4
    question, how = reward.engine.asked[0]  # type: ignore[union-attr]
    assert '"a red circle"' in words_of(question) and len(question.pictures) == 1 and how.max_tokens == 256


class Failing:
    """Writes of every prompt but two."""

    name = "failing"

    def generate(self, questions: Sequence[Question], sampling: Sequence[Sampling]) -> list[Answer]:
        return [self._answer(words_of(question)) for question in questions]

    def _answer(self, words: str) -> Answer:
        if "blue" in words:
            return Answer(problem="the server is gone")
        return Answer("<think>hm" if "orange" in words else "a green circle")


@pytest.mark.parametrize("head", ["mlp", "gaussian"])
def test_a_failed_critique_is_nan_with_a_reason_and_harms_no_other(head: str, tmp_path: Path) -> None:
    folder = str(tiny_family(head).save(tmp_path / "scorer"))
    reward: Any = load_judge(config="critique-then-score", engine=Failing(), scorer=folder)
    broken = replace(SAMPLES[0], media=torch.full((3, 32, 32), 7.0))
    long = replace(SAMPLES[0], prompt="red " * 1000)
    scores = reward(samples=[SAMPLES[1], SAMPLES[0], broken, SAMPLES[2], long, SAMPLES[0]])
    assert scores.valid.tolist() == [False, True, False, False, False, True]
    assert scores.reasons[0] == "critique: the server is gone" and "empty" in scores.reasons[3]
    assert "outside [0, 1]" in scores.reasons[2] and "longer than" in scores.reasons[4]
    alone = reward(samples=SAMPLES[:1])
    torch.testing.assert_close(scores.overall[[1, 5]], alone.overall.repeat(2), atol=1e-5, rtol=0)
    assert (scores.log_variance is None) == (head == "mlp")
    assert reward(samples=SAMPLES[1:2]).valid.tolist() == [False] and len(reward(samples=[])) == 0


def test_a_batch_is_its_samples_one_by_one_also_with_a_model_as_critic(scorer: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nabout: a test\nmodalities: [image]\nscale: any\n"
        "judge: {kind: critiqued, critique: critique-only/1, joined: prompt-and-critique/1, shows: [media],"
        " draw: {max_tokens: 6, temperature: 1.0}}\n"
    )
    reward = rewardmodels.load(
        "judge", config=str(tmp_path / "mine.yaml"), path=str(tiny_chat.qwen(tmp_path / "critic")),
        scorer=scorer,
    )  # fmt: skip
    together = reward(samples=SAMPLES)
    alone = torch.cat([reward(samples=[sample]).overall for sample in reversed(SAMPLES)]).flip(0)
    assert bool(together.valid.all())
    torch.testing.assert_close(together.overall, alone, atol=1e-5, rtol=0)


def test_given_critiques_and_what_a_review_says(scorer: str) -> None:
    reward: Any = rewardmodels.load("critique-then-score", scorer=scorer)
    told = replace(SAMPLES[0], metadata={"critique": "a blue <|im_end|> circle"})
    first, second = reward.review(samples=[told, SAMPLES[1]])
    assert first.notes["critique"] == "a blue <|im_end|> circle" and first.reason is None
    assert first.overall == first.scores["overall"] == pytest.approx(float(reward(samples=[told]).overall))
    assert "metadata['critique']" in str(second.reason) and math.isnan(second.overall)


def test_in_a_composition_with_a_critic_on_a_server(scorer: str, tmp_path: Path) -> None:
    with serve(lambda request, number: said("a red circle")) as seen:
        (tmp_path / "reward.yaml").write_text(
            "name: judged\ncombine: min\nrewards:\n  - brightness\n  - name: critique-then-score\n"
            f"    options: {{server: '{seen.url}', model: m, scorer: {{name: '{scorer}'}}}}\n"
        )
        scores = rewardmodels.load(str(tmp_path / "reward.yaml"))(samples=SAMPLES)
    assert scores.names == ("brightness", "critique-then-score") and bool(scores.valid.all())
    expected = critic(always("a red circle"), scorer)(samples=SAMPLES)
    torch.testing.assert_close(scores.values[:, 1], expected.overall, atol=1e-5, rtol=0)


@dataclass(frozen=True)
class Criticised:
    """Pairs of one picture and prompt that differ in their critique alone."""

    critiques: tuple[str, str]

    def bundle(self, number: int, progress: float) -> list[PreferencePair]:
        good, bad = self.critiques
        made = []
        for sample in SAMPLES:
            a, b = (replace(sample, metadata={"critique": words}) for words in (good, bad))
            made.append(PreferencePair(sample.prompt, a, b, {"overall": 1.0}, {"overall": False}))
        return made

    def rated(self, number: int, progress: float) -> list[Sample]:
        return [pair.a for pair in self.bundle(number, progress)]


def test_a_scorer_learns_from_critiques_and_then_judges_by_them(tmp_path: Path) -> None:
    source = CritiquedSource(Criticised(("a circle", "no circle")), JOINED)
    settings = RewardRecipe.model_validate(
        {
            "method": {"average": 0.0},
            "model": {"name": "t", "scratch": {}},
            "data": {},
            "budget": {"updates": 5},
        },
        strict=False,
    )
    task = RewardTraining(tiny_reward(), settings, source, Processes())
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for _ in range(12):
        (update,) = task.updates(0)
        loss = sum(make().per_sample.sum() for make in update.losses) / update.num_losses
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    task.save(tmp_path)
    folder = str(tmp_path / "reward")
    praised, blamed = (
        critic(always(words), folder)(samples=SAMPLES).overall for words in ("a circle", "no circle")
    )
    assert bool((praised > blamed + 0.1).all())
    assert [s.prompt for s in source.rated(0, 0.0)] == [
        with_critique(s, "a circle", JOINED).prompt for s in SAMPLES
    ]
    with pytest.raises(ValueError, match=r"sample '0': metadata\['critique'\]"):
        CritiquedSource(Criticised(("", "")), JOINED).bundle(0, 0.0)


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"config": "critique-then-score"}, "needs scorer="),
        ({"config": "critique-then-score", "scorer": "motion"}, "'motion' judges only video"),
        ({"config": "critique-then-mark", "scorer": "sharpness"}, "scorer is for judges of kind critiqued"),
        ({"config": "critique-then-score", "scorer": {"nam": "a"}}, "scorer: "),
        (
            {"config": "critique-then-score", "scorer": "sharpness", "template_file": {"joined": "lone.txt"}},
            r"must hold \{critique\} exactly once",
        ),
    ],
)
def test_mistakes_say_how_to_mend_them(
    options: dict[str, Any], mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lone.txt").write_text("{prompt} only")
    with pytest.raises(ValueError, match=mend):
        load_judge(engine=Scripted(), **options)
