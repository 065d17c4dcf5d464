"""Judges that write, on checkpoints in published layouts: our score is that of stock `generate` and a hand parse."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

import rewardmodels
from mmalign.media import to_pil
from mmalign.types import Sample
from rewardmodels.judges.wording import wording
from tests.unit.rewardmodels.judges import planted, tiny_chat

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
PROMPTS = ("make it blue", "make it blue", "make it blue", "remove the dog")
TO_25 = tuple(f"{k / 2:g}" for k in range(1, 51))
TO_5, TO_4 = ("1", "2", "3", "4", "5"), tuple(f"{k / 4:g}" for k in range(4, 17))
MARKS = tuple(f"{k / 4:g}/5" for k in range(4, 21))
PAIR: Sequence[planted.Slot] = ((TO_25, ", "), (TO_25, "]}"))


def samples() -> list[Sample]:
    """Edits; a judge of pictures is shown the results alone."""
    noise = torch.rand(2, len(PROMPTS), 3, 40, 40, generator=torch.Generator().manual_seed(0))
    colours = torch.tensor([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1], [0.1, 0.1, 1.0], [1.0, 1.0, 1.0]])
    media, sources = (
        (noise[0] * colours[:, :, None, None]).mul(255).round() / 255,
        noise[1].mul(255).round() / 255,
    )
    return [Sample(p, m, s) for p, m, s in zip(PROMPTS, media, sources, strict=True)]


class Stock:
    """Processor, model, peft and `generate`, and nothing of ours."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(base)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(base).eval()
        if folder != base:
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, folder).eval()

    def says(self, asked: str, pictures: Sequence[Tensor], **how: Any) -> str:
        text = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
        inputs = self.processor(text=[text], images=[to_pil(one) for one in pictures], return_tensors="pt")
        how = {"do_sample": False, "temperature": None} | how
        made = self.model.generate(**inputs, max_new_tokens=40, repetition_penalty=1.0, **how)
        new = made[0, inputs["input_ids"].shape[1] :]
        assert int(new[-1]) == self.processor.tokenizer.eos_token_id  # it ended by itself
        return str(self.processor.tokenizer.decode(new, skip_special_tokens=True))


def asked(name: str, sample: Sample) -> str:
    text = wording(name).text.replace("{source}", IMAGE).replace("{media}", IMAGE)
    return text.replace("{prompt}", sample.prompt)


def shown(sample: Sample) -> tuple[list[Tensor], list[Tensor]]:
    """Both pictures, and the result alone."""
    source, media = sample.source_frames(), sample.frames()
    assert source is not None
    return [source[0], media[0]], [media[0]]


def by_line(text: str, label: str) -> float:
    """The number of a line; NaN for N/A."""
    (line,) = [line for line in text.split("\n") if line.startswith(f"{label}: ")]
    word = line.split(": ")[1]
    return math.nan if word == "N/A" else float(word.removesuffix("/5"))


# ---------------------------------------------------------------- the papers' formulas, once more


def editscore(stock: Stock, sample: Sample) -> tuple[list[float], float]:
    """sqrt(min SC x min PQ) on [0, 10], drawn as published."""
    both, result = shown(sample)
    how = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 20}
    follow = json.loads(stock.says(asked("edit-following/1", sample), both, **how))["score"]
    quality = json.loads(stock.says(asked("edit-quality/1", sample), result, **how))["score"]
    return [*follow, *quality], math.sqrt(min(follow) / 2.5 * (min(quality) / 2.5))


def unified_image(stock: Stock, sample: Sample) -> tuple[list[float], float]:
    text = stock.says(asked("grade-image/1", sample), shown(sample)[1])
    mark = by_line(text, "Final Score")
    return [mark], mark


def unified_edit(stock: Stock, sample: Sample) -> tuple[list[float], float]:
    pair = json.loads(stock.says(asked("edit-following/1", sample), shown(sample)[0]))["score"]
    return pair, sum(pair) / 2


def rational(
    name: str, num_pictures: int, *labels: str
) -> Callable[[Stock, Sample], tuple[list[float], float]]:
    """The total of the marks; where one was not given, their mean in its place."""

    def score(stock: Stock, sample: Sample) -> tuple[list[float], float]:
        text = stock.says(asked(name, sample), shown(sample)[2 - num_pictures])
        marks = [by_line(text, label) for label in labels]
        given = [mark for mark in marks if mark == mark]
        return marks, sum(given) / len(given) * len(marks)

    return score


def firm_gen(stock: Stock, sample: Sample) -> tuple[list[float], float]:
    """f (0.4 + 0.6 q), q the least of three numbers; the second question does not hold the prompt."""
    picture = shown(sample)[1]
    (follow,) = re.findall(r"boxed\{(\d)\}", stock.says(asked("image-following/1", sample), picture))
    said = stock.says(asked("image-quality/1", sample), picture)
    made = json.loads(said[said.index("{", said.index("}")) :])["score"]
    return [float(follow), *made], (float(follow) - 1) / 4 * (0.4 + 0.6 * (min(made) - 1) / 4)


def firm_edit(stock: Stock, sample: Sample) -> tuple[list[float], float]:
    """e (0.6 + 0.4 c), each of a question of its own."""
    names = ("edit-execution/1", "edit-consistency/1")
    a, b = (float(json.loads(stock.says(asked(name, sample), shown(sample)[0]))["score"]) for name in names)
    return [a, b], (a - 1) / 4 * (0.6 + 0.4 * (b - 1) / 4)


@dataclass(frozen=True)
class Published:
    """How a judge's checkpoint answers, and its score by hand; `adapter` as peft writes it, else whole weights."""

    opening: str
    slots: Sequence[planted.Slot]
    score: Callable[[Stock, Sample], tuple[list[float], float]]
    adapter: bool = False
    edits: bool = True


CRITIQUE = "It is nearly done.\nText faithfulness: "
PHYSICAL, RENDERING = "\nPhysical quality: ", "\nText rendering: "
REFINED = "\nRefined prompt: do it again"
PUBLISHED = {
    "editscore": Published('{"reasoning": "so so", "score": [', PAIR, editscore, adapter=True),
    "unifiedreward-image": Published(
        "The prompt names one thing.\nFinal Score: ", ((MARKS, ""),), unified_image, edits=False
    ),
    "unifiedreward-edit": Published('{"reasoning": "so so", "score": [', PAIR, unified_edit),
    "rationalrewards-t2i": Published(
        CRITIQUE, ((TO_4, PHYSICAL), (TO_4, RENDERING), ((*TO_4, "N/A"), REFINED)),
        rational("critique-image/1", 1, "Text faithfulness", "Physical quality", "Text rendering"), edits=False,
    ),
    "rationalrewards-edit": Published(
        CRITIQUE,
        ((TO_4, "\nImage faithfulness: "), (TO_4, PHYSICAL), (TO_4, RENDERING), ((*TO_4, "N/A"), REFINED)),
        rational(
            "critique-edit/1", 2, "Text faithfulness", "Image faithfulness", "Physical quality", "Text rendering"
        ),
    ),
    "firm-edit": Published(
        '{"reasoning": "so so", "score": ', ((TO_5, "}"),), firm_edit,
    ),
    "firm-gen": Published(
        "It shows this.\n\\boxed{",
        ((TO_5, '}\n{"reasoning": "so so", "score": ['), (TO_5, ", "), (TO_5, " , "), (TO_5, "]}")),
        firm_gen, edits=False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_score_is_that_of_stock_generate_and_a_hand_parse(name: str, tmp_path: Path) -> None:
    judge = PUBLISHED[name]
    base = planted.write(tmp_path / "base", judge.opening, judge.slots, seed=1)
    folder = tiny_chat.adapter(tmp_path / "adapter", base) if judge.adapter else base
    stock = Stock(folder, base)
    expected = [judge.score(stock, sample) for sample in samples()]
    asked_for = [sample if judge.edits else Sample(sample.prompt, sample.media) for sample in samples()]
    ours = rewardmodels.load(name, path=str(folder))(samples=asked_for)
    assert bool(ours.valid.all()), ours.reasons
    torch.testing.assert_close(ours.values, torch.tensor([v for v, _ in expected]), equal_nan=True)
    torch.testing.assert_close(ours.overall, torch.tensor([total for _, total in expected]))
    same_prompt = ours.values[:3].nan_to_num(-1.0)
    assert len(same_prompt.unique(dim=0)) > 1  # the answers depend on the pictures
