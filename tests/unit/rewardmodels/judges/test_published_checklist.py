"""VisionReward's published files, in their layout with other words: scores rebuilt by hand and from stock parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import rewardmodels
from mmalign.media import to_pil
from mmalign.types import Sample
from rewardmodels.judges.chat import Question
from rewardmodels.judges.load import load_judge
from rewardmodels.judges.wording import wording
from tests.unit.rewardmodels.judges import tiny_chat
from tests.unit.rewardmodels.judges.engines import Scripted, words_of

VIDEO = ('Is all of "[[prompt]]" shown?', "Is it smooth?", "Is it sharp?", "Is it real?")
WEIGHTS = (0.9, 0.25, 0.1, 0.4)
IMAGE = tuple(f"Is number {n:02d} so?" for n in range(30))
COEF = (2.0, *(round(0.01 * n, 2) for n in range(1, 28)))
CLIP = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def published(folder: Path, questions: Sequence[str], weights: object, *, end: str = "\n") -> dict[str, str]:
    """The two files and the options that name them."""
    asked, weighed = folder / "qa_select.txt", folder / "weight.json"
    asked.write_text("\n".join(questions) + end)
    weighed.write_text(json.dumps(weights))
    return {"checklist_file": str(asked), "weights_file": str(weighed)}


def answering(*agreed: str) -> Scripted:
    """Says yes with 0.9 to questions that hold one of these texts, with 0.2 to others."""

    def weigh(question: Question, word: str) -> float:
        yes = 0.9 if any(text in words_of(question) for text in agreed) else 0.2
        return yes if word == "yes" else 1 - yes

    return Scripted(weigh=weigh)


def test_a_video_is_the_mean_of_weight_times_answer(tmp_path: Path) -> None:
    files = published(tmp_path, VIDEO, list(WEIGHTS))
    engine = answering('of "a red ball" shown', "sharp")
    reward: Any = load_judge(config="visionreward-video", engine=engine, hard=True, **files)
    scores = reward(samples=[Sample("a red ball", CLIP), Sample("a cube", CLIP)])
    assert scores.names == ("q1", "q2", "q3", "q4")
    assert scores.values.tolist() == [[1, -1, 1, -1], [-1, -1, 1, -1]]
    assert scores.overall.tolist() == pytest.approx(
        [(0.9 - 0.25 + 0.1 - 0.4) / 4, (-0.9 - 0.25 + 0.1 - 0.4) / 4]
    )
    soft: Any = load_judge(config="visionreward-video", engine=engine, **files)
    assert soft(samples=[Sample("a cube", CLIP)]).values[0].tolist() == pytest.approx([-0.6, -0.6, 0.8, -0.6])


def by_stock_parts(folder: Path, text: str, frames: torch.Tensor) -> float:
    """2 P(yes) - 1 of a question, from the stock processor and model."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = processor(text=[text], images=[to_pil(frame) for frame in frames], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1].double()
    place = processor.tokenizer.convert_tokens_to_ids
    yes, no = (
        torch.logsumexp(logits[[place(t) for t in tokens]], 0)
        for tokens in (("yes", "Yes", " yes"), ("no", "No", " no"))
    )
    return 2 * float(torch.sigmoid(yes - no)) - 1


def test_a_video_checklist_scores_as_stock_parts_do(tmp_path: Path) -> None:
    base = tiny_chat.qwen(tmp_path / "base")
    files = published(tmp_path, VIDEO, list(WEIGHTS))
    reward = rewardmodels.load("visionreward-video", path=str(base), min_mass=0.0, **files)
    scores = reward(samples=[Sample("a red ball", CLIP)])
    frames = "<|vision_start|><|image_pad|><|vision_end|>" * 3
    answers = []
    for line in VIDEO:
        asked = wording("checklist-question-video/1").text.replace("{media}", frames)
        asked = asked.replace("{question}", line.replace("[[prompt]]", "a red ball"))
        answers.append(
            by_stock_parts(base, f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n", CLIP)
        )
    assert len({round(answer, 3) for answer in answers}) == 4
    assert scores.values[0].tolist() == pytest.approx(answers, abs=1e-5)
    mean = sum(w * a for w, a in zip(WEIGHTS, answers, strict=True)) / 4
    assert float(scores.overall[0]) == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("body", [True, False])
def test_a_picture_is_a_sum_and_three_questions_only_shut_others(tmp_path: Path, body: bool) -> None:
    files = published(tmp_path, IMAGE, {"coef": list(COEF), "intercept": [0.0]}, end="")
    agreed = {0: body, 2: True, 10: True, 22: True, 25: True, 27: True, 29: True}
    texts = [IMAGE[n] for n, yes in agreed.items() if yes]
    reward: Any = load_judge(config="visionreward", engine=answering(*texts), hard=True, **files)
    scores = reward(samples=[Sample("a red ball", CLIP[0])])
    answers = [1 if agreed.get(n) else -1 for n in range(30)]
    shut = {22: 0, 23: 0, 24: 0, 28: 0, 29: 0, 25: 1, 26: 1, 27: 2}  # by body, by face, by hands
    for place, gate in shut.items():
        answers[place] *= int(answers[gate] > 0)
    counted = [0.2, *answers[3:]]  # VQAScore, then all but the gates
    expected = sum(w * a for w, a in zip(COEF, counted, strict=True))
    assert float(scores.overall[0]) == pytest.approx(expected, abs=1e-5)
    assert scores.names[:2] == ("alignment", "q1") and len(scores.names) == 31


@pytest.mark.parametrize(
    ("config", "questions", "weights", "problem"),
    [
        ("visionreward-video", VIDEO, [0.1] * 3, "must hold 4 weights for these questions, it has 3 entries"),
        ("visionreward", VIDEO, list(WEIGHTS), "laid out for videos; visionreward judges images"),
        ("visionreward-video", IMAGE, {"coef": list(COEF)}, "laid out for images; visionreward-video judges videos"),
        ("visionreward", VIDEO, {"coef": list(COEF)}, "has 4 questions, the list for pictures has 30"),
        ("visionreward", IMAGE, {"coef": list(COEF), "intercept": [0.5]}, "an intercept of 0"),
        ("visionreward", IMAGE, {}, "must hold 28 weights for these questions, it has NoneType"),
        ("vqascore", VIDEO, list(WEIGHTS), "vqascore is no checklist"),
    ],
)  # fmt: skip
def test_files_that_do_not_belong_together_are_told(
    tmp_path: Path, config: str, questions: Sequence[str], weights: object, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        load_judge(config=config, engine=answering(), **published(tmp_path, questions, weights))


def test_questions_need_their_weights_and_weights_their_questions(tmp_path: Path) -> None:
    files = published(tmp_path, VIDEO, list(WEIGHTS))
    with pytest.raises(ValueError, match="need their weights: give weights_file too"):
        load_judge(config="visionreward-video", engine=answering(), checklist_file=files["checklist_file"])
    with pytest.raises(ValueError, match="give checklist_file too"):
        load_judge(config="visionreward-video", engine=answering(), weights_file=files["weights_file"])


def test_our_video_checklist_is_a_weighted_mean(tmp_path: Path) -> None:
    engine = answering("smoothly", "writing in")
    scores = load_judge(config="visionreward-video", engine=engine, hard=True)(samples=[Sample("x", CLIP)])  # type: ignore[operator]
    assert float(scores.overall[0]) == pytest.approx(-(0.0329 + 0.0087 + 0.0394) + 0.0097 - 13 * 0.0097)
