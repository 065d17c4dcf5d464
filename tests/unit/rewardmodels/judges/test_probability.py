"""Token-probability rewards: by hand with a scripted engine, and on tiny checkpoints against stock parts alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import rewardmodels
from mmalign.media import to_pil, write
from mmalign.types import PreferencePair, Sample
from rewardmodels.judges.chat import Question
from rewardmodels.judges.checklist import fit_weights
from rewardmodels.judges.load import load_judge
from rewardmodels.judges.settings import FOLDER
from rewardmodels.judges.wording import wording
from tests.unit.rewardmodels.judges import tiny_chat
from tests.unit.rewardmodels.judges.engines import Scripted, Weigh, words_of

RED, BLUE = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)


def judge(config: str, weigh: Weigh, **options: Any) -> Any:
    return load_judge(config=config, engine=Scripted(weigh=weigh), **options)


def shade(question: Question, number: int = -1) -> float:
    """How bright a picture of the question is."""
    return float(question.pictures[number].mean())


def test_yes_and_no_are_renormalised_and_the_mass_is_kept() -> None:
    reward = judge("vqascore", lambda q, word: 0.6 if word == "yes" else 0.2)
    (review,) = reward.review(samples=[Sample("a red circle", RED)])
    assert review.overall == pytest.approx(0.75) and review.details["mass"] == pytest.approx(0.8)


def test_a_model_that_answers_in_other_words_gives_no_score() -> None:
    reward = judge("vqascore", lambda q, word: 0.01)
    scores = reward(samples=[Sample("a red circle", RED)])
    assert math.isnan(scores.overall[0]) and "probability 0.02 together, below 0.1" in str(scores.reasons[0])
    assert judge("vqascore", lambda q, word: 0.01, min_mass=0.0)(
        samples=[Sample("a", RED)]
    ).overall.tolist() == [0.5]


def test_a_set_of_pictures_is_consistent_as_the_mean_of_its_pairs() -> None:
    def weigh(question: Question, word: str) -> float:
        alike = 1 - abs(shade(question, 0) - shade(question, 1))
        return 0.9 * alike + 0.05 if word == "Yes" else 0.9 * (1 - alike) + 0.05

    frames = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 3, 8, 8)
    scores = judge("paco-reward", weigh)(samples=[Sample("the same dog", frames), Sample("x", BLUE, RED)])
    assert scores.overall.tolist() == pytest.approx([(0.95 + 0.05 + 0.05) / 3, 0.05])


def test_a_reference_is_shown_first_and_its_absence_is_a_reason(tmp_path: Path) -> None:
    reward = judge(
        "rewarddance", lambda q, word: 0.2 + 0.6 * ((shade(q, 0) < shade(q, 1)) == (word == "yes"))
    )
    file = write(tmp_path / "reference.png", BLUE)
    samples = [
        Sample("x", BLUE, metadata={"reference": RED}),
        Sample("x", RED, metadata={"reference": str(file)}),
        Sample("x", RED),
        Sample("x", RED, metadata={"reference": "nowhere.png"}),
    ]
    scores = reward(samples=samples)
    assert scores.valid.tolist() == [True, True, False, False]
    assert scores.overall[:2].tolist() == pytest.approx([0.8, 0.2])
    assert "metadata['reference']" in str(scores.reasons[2]) and "nowhere.png" in str(scores.reasons[3])


def test_reasoning_comes_before_the_verdict() -> None:
    def weigh(question: Question, word: str) -> float:
        good = question.start == "It is rounder.\nVerdict:"
        return 0.9 if good == (word == "yes") else 0.1

    engine = Scripted(lambda q, how: "It is rounder. \nVerdict: no", weigh)
    reward: Any = load_judge(config="rewarddance-reasoned", engine=engine)
    (review,) = reward.review(samples=[Sample("x", RED, metadata={"reference": BLUE})])
    assert review.overall == pytest.approx(0.9) and review.answers == ("It is rounder.\nVerdict:",)


def test_digits_are_an_expectation() -> None:
    weights = {"0": 0.1, "1": 0.0001, "2": 0.0001, "3": 0.0001, "4": 0.2, "5": 0.5}
    reward = judge("uniworld-v2", lambda q, word: weights[word])
    sample = Sample("make it blue", BLUE, RED, metadata={"requirement": "keep the dog"})
    (review,) = reward.review(samples=[sample])
    mean = (0.0001 * (1 + 2 + 3) + 0.2 * 4 + 0.5 * 5) / 0.8003 / 5
    assert review.overall == pytest.approx(mean) and review.details["mass"] == pytest.approx(0.8003)
    asked = reward.wording.fill({"prompt": "p", "requirement": "keep the dog"}, {"source": [], "media": []})
    assert "keep the dog" in str(asked)


def test_a_checklist_is_a_weighted_sum_and_gates_shut() -> None:
    def weigh(question: Question, word: str) -> float:
        yes = 0.75
        if "show a person" in words_of(question):
            yes = 0.9 if shade(question) > 0.5 else 0.1
        return yes if word == "yes" else 1 - yes

    reward = judge("visionreward", weigh)
    empty, peopled = reward(samples=[Sample("x", RED), Sample("x", BLUE)]).overall.tolist()
    shows = 2.354 * 0.75  # P(yes) as it is, not 2 P(yes) - 1
    assert empty == pytest.approx(shows + 10 * 0.5 * 0.195)
    assert peopled == pytest.approx(shows + 13 * 0.5 * 0.195)


def test_a_checklist_reads_the_prompt_as_vqascore_does(tmp_path: Path) -> None:
    def weigh(question: Question, word: str) -> float:
        yes = 0.8
        if 'show "' in words_of(question):
            yes = 0.9 if "a red circle" in words_of(question) else 0.2
        return yes if word == "yes" else 1 - yes

    samples = [Sample("a red circle", RED), Sample("a blue square", RED)]
    reward = judge("visionreward", weigh)
    scores = reward(samples=samples)
    assert reward.dimensions[0] == "alignment" and scores.values[:, 0].tolist() == pytest.approx([0.9, 0.2])
    assert scores.values[0, 1:].tolist() == scores.values[1, 1:].tolist()
    assert float(scores.overall[0] - scores.overall[1]) == pytest.approx(2.354 * 0.7)
    text = (FOLDER / "visionreward.yaml").read_text()
    hard = tmp_path / "hard.yaml"
    hard.write_text(text.replace("kind: checklist", "kind: checklist\n  hard: true"))
    sheets = judge(str(hard), weigh)(samples=samples).values
    assert sheets[:, 0].tolist() == pytest.approx([0.9, 0.2])  # a probability stays one
    assert sheets[:, 1:].abs().unique().tolist() == [1.0]
    hard.write_text(  # and shuts a gate where it says no, though it is above 0
        hard.read_text().replace("people}", "alignment}")
    )
    assert judge(str(hard), weigh)(samples=samples).values[:, -1].tolist() == [1.0, 0.0]


def test_weights_are_those_of_a_logistic_regression() -> None:
    streams = torch.Generator().manual_seed(0)
    first, second = (torch.rand(400, 3, generator=streams) * 2 - 1 for _ in range(2))
    truth = torch.tensor([2.0, -1.0, 0.0])
    chance = torch.sigmoid((first - second) @ truth)
    label = (torch.rand(400, generator=streams) < chance).double()
    weights = fit_weights(first, second, label, ridge=1e-3)
    gap = (first - second).double()
    slope = gap.T @ (torch.sigmoid(gap @ weights) - label) + 1e-3 * weights  # the optimum's own equation
    assert float(slope.abs().max()) < 1e-8
    assert torch.allclose(weights.float(), truth, atol=0.4)
    torch.testing.assert_close(fit_weights(second, first, 1 - label, ridge=1e-3), weights)
    separable = fit_weights(torch.ones(5, 1), torch.zeros(5, 1), torch.ones(5), ridge=1.0)
    assert 0 < float(separable) < 3


def test_learned_weights_are_kept_and_make_the_judge_better(tmp_path: Path) -> None:
    def weigh(
        question: Question, word: str
    ) -> float:  # "sharp" tells the truth, "light" lies, the rest is noise
        words = words_of(question)
        sure = {"sharp": shade(question), "light": 1 - shade(question)}
        yes = next((value for name, value in sure.items() if name in words), 0.5)
        yes = 0.05 + 0.9 * yes
        return yes if word == "yes" else 1 - yes

    reward = judge("visionreward", weigh)
    levels = torch.rand(40, generator=torch.Generator().manual_seed(3))
    samples = [Sample("x", torch.full((3, 8, 8), float(level))) for level in levels]
    pairs = [
        PreferencePair("x", a, b, {"overall": float(a.frames().mean() > b.frames().mean())})
        for a, b in zip(samples[::2], samples[1::2], strict=True)
    ]

    def accuracy() -> float:
        overall = reward(samples=samples).overall
        return float(
            ((overall[::2] > overall[1::2]).float() == torch.tensor([p.labels["overall"] for p in pairs]))
            .float()
            .mean()
        )

    before = accuracy()
    assert reward.learn(pairs) == 20 and accuracy() == 1.0 > before
    learned = dict(zip(reward.dimensions, reward.weights, strict=True))
    assert learned["sharp"] > 0.5 > 0 > learned["light"]
    reward.save_weights(tmp_path / "w.json")
    again = judge("visionreward", weigh, weights_file=str(tmp_path / "w.json"))
    assert again.weights == reward.weights
    (tmp_path / "w.json").write_text('{"other": 1}')
    with pytest.raises(ValueError, match="one weight for each of"):
        judge("visionreward", weigh, weights_file=str(tmp_path / "w.json"))


# ---------------------------------------------------------------- published layouts


def plain_logits(
    folder: Path, base: Path, text: str, pictures: list[torch.Tensor]
) -> tuple[torch.Tensor, Any]:
    """Logits after a question, by stock processor, stock model and peft."""
    from peft import PeftModel

    processor = AutoProcessor.from_pretrained(base)
    model = AutoModelForImageTextToText.from_pretrained(base)
    if folder != base:
        model = PeftModel.from_pretrained(model, folder)
    inputs = processor(text=[text], images=[to_pil(picture) for picture in pictures], return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**inputs).logits[0, -1].double(), processor


@pytest.mark.parametrize("layout", ["merged", "adapter"])
def test_a_paco_checkpoint_scores_as_stock_parts_do(tmp_path: Path, layout: str) -> None:
    base = tiny_chat.qwen(tmp_path / "base")
    folder = base if layout == "merged" else tiny_chat.adapter(tmp_path / "adapter", base)
    source, media = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    reward = rewardmodels.load("paco-reward", path=str(folder), min_mass=0.0)
    ours = float(reward(samples=[Sample("a cat", media, source)]).overall[0])
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    asked = wording("same-subject/1").text.replace("{source}", image).replace("{media}", image)
    text = f"<|im_start|>user\n{asked.replace('{prompt}', 'a cat')}<|im_end|>\n<|im_start|>assistant\n"
    logits, processor = plain_logits(folder, base, text, [source, media])
    ids = processor.tokenizer.convert_tokens_to_ids
    yes = torch.logsumexp(logits[[ids(t) for t in ("yes", "Yes", " yes")]], 0)
    no = torch.logsumexp(logits[[ids(t) for t in ("no", "No", " no")]], 0)
    assert ours == pytest.approx(float(torch.sigmoid(yes - no)), abs=1e-5)


def test_promptecho_is_minus_the_cross_entropy_of_the_prompt(tmp_path: Path) -> None:
    base = tiny_chat.qwen(tmp_path / "base")
    picture = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    ours = rewardmodels.load("promptecho", path=str(base))(samples=[Sample("a cat", picture)]).overall[0]
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    asked = wording("describe/1").text.replace("{media}", image)
    text = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    total = sum(
        float(plain_logits(base, base, text + "a cat"[:k], [picture])[0].log_softmax(-1)[token])
        for k, token in enumerate(AutoProcessor.from_pretrained(base).tokenizer("a cat")["input_ids"])
    )
    assert float(ours) == pytest.approx(total / 5, abs=1e-5)


def test_a_judge_on_an_adapter_says_what_stock_parts_and_peft_say(tmp_path: Path) -> None:
    from peft import PeftModel

    base = tiny_chat.qwen(tmp_path / "base")
    folder = tiny_chat.adapter(tmp_path / "adapter", base)
    short = (FOLDER / "firm-edit.yaml").read_text().replace("max_tokens: 1024", "max_tokens: 6")
    (tmp_path / "short.yaml").write_text(short)
    source, media = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    reward: Any = rewardmodels.load("judge", config=str(tmp_path / "short.yaml"), path=str(folder))
    (review,) = reward.review(samples=[Sample("a cat", media, source)])
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    asked = wording("edit-execution/1").text.replace("{source}", image).replace("{media}", image)
    text = f"<|im_start|>user\n{asked.replace('{prompt}', 'a cat')}<|im_end|>\n<|im_start|>assistant\n"
    processor = AutoProcessor.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), folder).eval()
    inputs = processor(text=[text], images=[to_pil(source), to_pil(media)], return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=6, do_sample=False, repetition_penalty=1.0)
    said = processor.tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert review.answers == (said,) and math.isnan(review.overall)
    assert "no JSON object" in str(review.reason) and "cut off after 6 tokens" in str(review.reason)


def test_echo_is_not_for_servers() -> None:
    with pytest.raises(ValueError, match="needs the model in this process"):
        rewardmodels.load("promptecho", server="http://127.0.0.1:1/v1", model="m")
