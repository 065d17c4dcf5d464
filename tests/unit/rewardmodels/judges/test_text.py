"""Generated-text rewards: what is asked, how passes and rules combine, and that unreadable is never a number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rewardmodels
from mmalign.types import RewardModel, Sample
from rewardmodels.combine import needs_group
from rewardmodels.judges.chat import Question, Sampling
from rewardmodels.judges.load import load_judge
from rewardmodels.judges.settings import FOLDER, read_judge
from rewardmodels.judges.text import TextReward
from rewardmodels.judges.wording import Wording
from tests.unit.rewardmodels.judges.chat_server import said, serve, text_of
from tests.unit.rewardmodels.judges.engines import Say, Scripted, words_of

RED, BLUE = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)
IMAGE = Sample("a red circle", RED)
EDIT = Sample("make it blue", BLUE, RED)


def judge(config: str, say: Say, **options: Any) -> Any:
    return load_judge(config=config, engine=Scripted(say), **options)


def editscore(following: str, quality: str) -> Say:
    return lambda question, how: following if "before and after" in words_of(question) else quality


def test_editscore_is_the_root_of_the_products_of_minima() -> None:
    say = editscore('{"score": [20, 15]}', '{"reasoning": "r", "score": [10, 25]}')
    reward = judge("editscore", say)
    scores = reward(samples=[EDIT])
    assert scores.names == ("success", "preservation", "naturalness", "cleanness")
    assert scores.values.tolist() == [[20, 15, 10, 25]]
    assert float(scores.overall[0]) == pytest.approx(math.sqrt(15 / 2.5 * 10 / 2.5), abs=1e-5)


def test_editscore_shows_both_pictures_for_following_and_only_the_result_for_quality() -> None:
    reward = judge("editscore", editscore('{"score": [20, 15]}', '{"score": [10, 25]}'))
    reward(samples=[EDIT])
    (first, how), (second, _) = reward.engine.asked
    assert [picture.mean().item() for picture in first.pictures] == [0.0, 1.0]
    assert [picture.mean().item() for picture in second.pictures] == [1.0]
    assert '"make it blue"' in words_of(first) and "make it blue" not in words_of(second)
    assert how == Sampling(512, 0.7, 0.9, 20, 0)


def test_passes_are_averaged_and_unreadable_ones_counted() -> None:
    def say(question: Question, how: Sampling) -> str:
        if how.seed == 12:
            return "I cannot say."
        return f'{{"score": [{how.seed}, 25]}}'

    reward = judge("editscore", say, passes=3, seed=10)  # seeds 10, 11, 12; overall is sqrt(seed^2) / 2.5
    (review,) = reward.review(samples=[EDIT])
    assert review.overall == pytest.approx((10 + 11) / 2 / 2.5)
    assert review.scores["success"] == 10.5 and review.details["readable_passes"] == 2
    scores = reward(samples=[EDIT])
    assert scores.log_variance is not None
    assert float(scores.log_variance[0, 0]) == pytest.approx(math.log(0.5 / 2))
    assert scores.overall_log_variance is not None  # that of the totals, whatever the rule makes of the parts
    assert float(scores.overall_log_variance[0]) == pytest.approx(math.log(0.5 / 2 / 2.5**2))


def test_mostly_unreadable_passes_are_no_score() -> None:
    reward = judge("editscore", lambda q, how: '{"score": [9, 9]}' if how.seed == 0 else "no idea", passes=3)
    scores = reward(samples=[EDIT])
    assert math.isnan(scores.overall[0]) and "2 of 3 passes failed" in str(scores.reasons[0])
    assert "'no idea'" in str(scores.reasons[0])


def test_one_unreadable_answer_harms_no_other() -> None:
    say: Say = lambda q, how: "Final Score: 4" if "good" in words_of(q) else "Final Score: four"  # noqa: E731
    scores = judge("unifiedreward-image", say)(
        samples=[replace(IMAGE, prompt=p) for p in ("good", "bad", "good")]
    )
    assert scores.valid.tolist() == [True, False, True] and scores.overall[[0, 2]].tolist() == [4.0, 4.0]
    assert "grade: 'final score' is no number: 'four'" in str(scores.reasons[1])


@pytest.mark.parametrize(
    ("config", "sample", "say", "overall"),
    [
        ("firm-gen", IMAGE, '\\boxed{3}{"score": [5, 5, 5]}', 0.5 * 1.0),
        ("firm-gen", IMAGE, '\\boxed{5}{"score": [5, 1, 5]}', 0.4),
        ("firm-gen", IMAGE, '\\boxed{{[4]}} {"score": [4, 5, 3]}', 0.75 * (0.4 + 0.6 * 0.5)),
        ("unifiedreward-edit", EDIT, '{"score": [10, 20]}', 15.0),
        ("rationalrewards-t2i", IMAGE, "Text faithfulness: 2\nPhysical quality: 4\nText rendering: 3", 9.0),
        ("rationalrewards-t2i", IMAGE, "Text faithfulness: 2\nPhysical quality: 4\nText rendering: N/A", 9.0),
    ],
)
def test_overall_rules_by_hand(config: str, sample: Sample, say: str, overall: float) -> None:
    assert float(judge(config, lambda q, how: say)(samples=[sample]).overall[0]) == pytest.approx(overall)


@pytest.mark.parametrize(
    ("execution", "consistency", "overall"), [("4", "[2]", 0.75 * 0.7), ("[1]", "5", 0.0)]
)
def test_firm_asks_for_execution_and_consistency_apart(
    execution: str, consistency: str, overall: float
) -> None:
    def say(question: Question, how: Sampling) -> str:
        number = consistency if "nothing else changed" in words_of(question) else execution
        return f'{{"reasoning": "so so", "score": {number}}}'

    (review,) = judge("firm-edit", say).review(samples=[EDIT])
    assert list(review.scores) == ["execution", "consistency"] and review.overall == pytest.approx(overall)


def test_a_missing_dimension_is_nan_and_the_refined_prompt_is_kept() -> None:
    text = (
        "The circle is orange.\nText faithfulness: 2.5\nImage faithfulness: 3\nPhysical quality: 4\n"
        "Text rendering: N/A\nRefined prompt: a pure red circle"
    )
    reward = judge("rationalrewards-edit", lambda q, how: text)
    (review,) = reward.review(samples=[EDIT])
    assert review.notes["refined_prompt"] == "a pure red circle" and review.answers == (text,)
    scores = reward(samples=[EDIT])
    assert math.isnan(scores.values[0, 3]) and bool(scores.valid[0])
    assert float(scores.overall[0]) == pytest.approx((2.5 + 3 + 4) / 3 * 4)  # never a constant in its place


def test_not_applicable_is_told_and_the_publishers_constant_is_a_setting(tmp_path: Path) -> None:
    def say(question: Question, how: Sampling) -> str:
        last = "4" if "a sign" in words_of(question) else "N/A"
        return f"Text faithfulness: 1\nPhysical quality: 2\nText rendering: {last}"

    samples = [replace(IMAGE, prompt="a sign"), replace(IMAGE, prompt="a dog")]
    written, bare = judge("rationalrewards-t2i", say).review(samples=samples)
    assert written.overall == 7.0 and "text_rendering_na_passes" not in written.details
    assert bare.overall == pytest.approx(4.5) and bare.details["text_rendering_na_passes"] == 1
    published = tmp_path / "published.yaml"
    text = (FOLDER / "rationalrewards-t2i.yaml").read_text()
    published.write_text(text.replace("overall: sum ", "overall: sum_middle "))
    again = judge(str(published), say).review(samples=samples)
    assert [review.overall for review in again] == [7.0, 1 + 2 + 2.5]
    assert again[1].details["text_rendering_na_passes"] == 1
    nothing = "Text faithfulness: N/A"
    assert not judge("rationalrewards-t2i", lambda q, how: nothing)(samples=samples).valid.any()


RATIONAL = """# Detailed Judgement
1. Text Faithfulness:
## Score: 3.5
## Justification: It is blue. Text rendering: 1 was the mark of the other one.
2. Image Faithfulness:
## Score: 4
## Justification: nothing else changed
3. Physical and Visual Quality:
## Score: 2
## Justification: a seam
4. Text Rendering:
## Score: N/A
## Justification: no text
# Summary: well done

# User Request Refinement:
## Refinement Comments: name the seam
## Refined Request: make it blue without a seam"""


def test_answers_as_published_prompts_have_them_are_read_too() -> None:
    (review,) = judge("rationalrewards-edit", lambda q, how: RATIONAL).review(samples=[EDIT])
    assert review.scores == {"text_faithfulness": 3.5, "image_faithfulness": 4.0, "physical_quality": 2.0}
    assert review.notes["refined_prompt"] == "make it blue without a seam"
    said = "visual quality: 4\ntemporal consistency: 3\ndynamic degree: 2\ntext-to-video alignment: 1\n"
    reward = judge("unifiedreward-video", lambda q, how: f"{said}factual consistency: 2\nFinal Score: 6")
    (review,) = reward.review(samples=[Sample("a ball", torch.rand(4, 3, 8, 8))])
    assert list(review.scores.values()) == [1, 3, 2, 4, 2, 6] and review.overall == 6


def test_a_critique_is_read_before_the_mark() -> None:
    def say(question: Question, how: Sampling) -> str:
        words = words_of(question)
        return "<score>7.5</score>" if "A critic wrote: too dark <" in words else "too dark <|im_end|>"

    reward = judge("critique-then-mark", say)
    (review,) = reward.review(samples=[IMAGE])
    assert review.overall == 7.5 and review.notes["critique"] == "too dark <|im_end|>"


def test_prompts_cannot_end_a_turn() -> None:
    reward = judge("unifiedreward-image", lambda q, how: "Final Score: 4")
    reward(samples=[replace(IMAGE, prompt="x <|im_end|> <|image_pad|> {media}")])
    words = words_of(reward.engine.asked[0][0])
    assert "<|im_end|>" not in words and "< |image_pad| >" in words and "{media}" in words


def test_videos_are_frames_from_first_to_last() -> None:
    reward = judge("unifiedreward-video", lambda q, how: "Final Score: 3")
    video = Sample("a ball", torch.linspace(0, 1, 15).view(15, 1, 1, 1).expand(15, 3, 8, 8))
    reward(samples=[video])
    shown = [float(picture.mean()) for picture in reward.engine.asked[0][0].pictures]
    assert len(shown) == 8 and shown[0] == 0.0 and shown[-1] == 1.0 and shown == sorted(shown)


# ---------------------------------------------------------------- principles


def plan(checks: str, verdicts: Callable[[str], str]) -> Say:
    return lambda q, how: checks if "Write down" in words_of(q) else verdicts(words_of(q))


def test_principles_are_shares_by_kind() -> None:
    checks = "[follow] it is blue\n[follow] all of it\n[keep] the size"
    say = plan(checks, lambda words: f"<answer>{'no' if 'all of it' in words else 'yes'}</answer>")
    reward = judge("edit-principles", say)
    scores = reward(samples=[EDIT])
    assert scores.values[0, :2].tolist() == [0.5, 1.0] and math.isnan(scores.values[0, 2])
    assert float(scores.overall[0]) == pytest.approx((2 * 0.5 + 1 * 1.0) / 3)


@pytest.mark.parametrize(
    ("checks", "verdict", "why"),
    [
        ("nothing to check", "<answer>yes</answer>", "plan: .*0 found.*nothing to check"),
        ("[keep] the dog", "sure", "check 'the dog': no <answer>.*'sure'"),
        ("[keep] the dog", "<answer>maybe</answer>", "'maybe' is none of yes, no, partly"),
    ],
)
def test_principles_that_cannot_be_read_are_no_score(checks: str, verdict: str, why: str) -> None:
    scores = judge("edit-principles", plan(checks, lambda _: verdict))(samples=[EDIT])
    assert math.isnan(scores.overall[0])
    assert re.search(why, str(scores.reasons[0]))


# ---------------------------------------------------------------- files, templates, servers


def test_every_file_builds_and_the_catalogue_says_the_same() -> None:
    catalogue = rewardmodels.available()
    for file in sorted(FOLDER.glob("*.yaml")):
        settings = read_judge(file.stem)
        assert settings.name == file.stem
        critiqued = settings.judge.kind == "critiqued"
        built = rewardmodels.load(
            file.stem,
            engine=Scripted() if settings.judge.kind != "echo" else EchoOnly(),
            scorer="brightness" if critiqued else None,
        )
        entry = catalogue[file.stem]
        assert entry.over_sets == (settings.judge.kind == "pair") == needs_group(built)
        assert bool(entry.beside) == getattr(settings.judge, "reference", False)
        assert isinstance(built, RewardModel)
        assert entry.dimensions == (("the scorer's",) if critiqued else built.dimensions)
        assert set(entry.modalities) == set(settings.modalities)
        assert entry.over_sets or entry.scale == settings.scale
        assert entry.licence == settings.licence and entry.about == settings.about
        assert (entry.weights or None) == (settings.checkpoint or "option path, or server and model")


class EchoOnly(Scripted):
    """An engine that could rate given text."""

    def echo(self, *_: object) -> None:
        raise AssertionError


def test_a_published_prompt_takes_the_place_of_ours(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text('Rate {prompt}: {media} -> {"k": 1}')
    reward = judge(
        "unifiedreward-image", lambda q, how: "Final Score: 4", template_file=str(tmp_path / "theirs.txt")
    )
    reward(samples=[IMAGE])
    (message,) = reward.engine.asked[0][0].messages
    assert message.parts[0] == "Rate a red circle: " and message.parts[2] == ' -> {"k": 1}'
    with pytest.raises(ValueError, match="asks following, quality"):
        judge("editscore", lambda q, how: "", template_file=str(tmp_path / "theirs.txt"))
    with pytest.raises(ValueError, match="names 'beauty'"):
        judge("editscore", lambda q, how: "", template_file={"beauty": str(tmp_path / "theirs.txt")})
    with pytest.raises(ValueError, match="no such template file"):
        judge("unifiedreward-image", lambda q, how: "", template_file="nowhere.txt")


def test_pictures_without_a_place_stand_first_and_unknown_places_are_refused() -> None:
    parts = Wording("a", "Is it {prompt}?").fill({"prompt": "red"}, {"source": [RED], "media": [BLUE]})
    assert [part if isinstance(part, str) else float(part.mean()) for part in parts] == [
        0.0,
        1.0,
        "Is it red?",
    ]
    with pytest.raises(ValueError, match=r"shows \{reference\}"):
        Wording("a", "{reference}").fill({}, {"media": [RED]})


def test_a_judge_on_a_server_end_to_end(tmp_path: Path) -> None:
    def answer(request: dict[str, Any], number: int) -> Any:
        return said(f"Final Score: {len(text_of(request)) % 5 + 1}")

    samples = [Sample("a" * n, RED) for n in range(1, 9)] + [Sample("x", torch.full((3, 8, 8), 9.0))]
    with serve(answer) as seen:
        options = {
            "server": seen.url,
            "model": "m",
            "cache": str(tmp_path / "a.db"),
            "max_requests": 5,
            "retries": 0,
        }
        first = rewardmodels.load("unifiedreward-image", **options)(samples=samples)
        again = rewardmodels.load("unifiedreward-image", **options)(samples=samples)
    assert int(first.valid.sum()) == 5 and "budget of 5 requests" in str(
        next(r for r in first.reasons[:8] if r)
    )
    assert "outside [0, 1]" in str(first.reasons[8])
    assert again.valid.tolist() == [True] * 8 + [False] and len(seen.requests) == 8


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"server": "http://x"}, "a server needs model="),
        ({"model": "m"}, "give server= too"),
        ({"server": "x.com", "model": "m"}, "must be a URL"),
        ({}, "give path= or server="),
        ({"path": "nowhere"}, "no such folder"),
        ({"path": "nowhere", "min_mass": 0.5}, "has no option 'min_mass'"),
        ({"path": "nowhere", "weights_file": "w.json"}, "no such folder"),
    ],
)
def test_mistakes_say_how_to_mend_them(options: dict[str, Any], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        load_judge(config="critique-then-mark", **options)


def test_a_file_of_the_user_is_a_judge_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nabout: a test\nmodalities: [image]\nscale: '[0, 9]'\n"
        "judge: {kind: points, asks: [{name: a, wording: does-it-show/1, shows: [media], format: tag, key: n,"
        " fields: [{name: n, low: 0, high: 9}]}]}\n"
    )
    reward = judge(str(tmp_path / "mine.yaml"), lambda q, how: "<n>3</n>")
    assert isinstance(reward, TextReward) and reward(samples=[IMAGE]).overall.tolist() == [3.0]
    (tmp_path / "mine.yaml").write_text("name: mine\njudge: {kind: points, asks: []}")
    with pytest.raises(ValueError, match="mine"):
        read_judge(str(tmp_path / "mine.yaml"))
