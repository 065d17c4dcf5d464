"""Answers said after one reading of a question, against the stock `generate` that reads it for each of them."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from rewardmodels.judges import passes
from rewardmodels.judges.chat import Sampling, ask
from rewardmodels.judges.drawing import Draw
from tests.unit.rewardmodels.stock_processors import eight, picture, placeholder, stock_processor
from tests.unit.rewardmodels.tiny_vlms import PROCESSORS, tiny_vlm

COUNTS = (2, 1, 3)
TEXTS = ("one ", "another, longer question: is this ", "no picture here ")
WARM = Sampling(max_tokens=7, temperature=2.0)


def asked(kind: str) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    """A tiny model and three questions, the last without a picture, padded on the left."""
    model, tokenizer = tiny_vlm(kind)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.convert_tokens_to_ids(["<|im_end|>", "e", "a"]), pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=tokenizer.convert_tokens_to_ids(["<image>", "<|image_pad|>", "<IMG_CONTEXT>", "b"]),
    )  # fmt: skip
    texts = [text + placeholder(kind) + "?" for text in TEXTS[:2]] + [TEXTS[2]]
    pictures = [[eight(picture(40, 60, 1))], [eight(picture(28, 28, 2))]]
    pictures += [] if kind in ("internvl", "llava_onevision") else [[]]
    made = stock_processor(kind)(
        text=texts, images=pictures, padding=True, padding_side="left", return_tensors="pt"
    )
    return model, {name: value for name, value in made.items() if isinstance(value, Tensor)}


def draws(counts: tuple[int, ...]) -> Draw:
    batch = [
        (ask(TEXTS[q]), Sampling(7, 2.0, seed=n)) for q, count in enumerate(counts) for n in range(count)
    ]
    return Draw(batch, WARM)


def cut(rows: list[list[int]], ends: Any) -> list[list[int]]:
    """Up to the first token that ends an answer."""
    return [row[: next((i for i, token in enumerate(row) if token in ends), len(row)) + 1] for row in rows]


@pytest.mark.parametrize("drawn", [False, True], ids=["greedy", "drawn"])
@pytest.mark.parametrize("kind", list(PROCESSORS))
def test_they_are_those_of_generate(kind: str, drawn: bool) -> None:
    model, inputs = asked(kind)
    ends = model.generation_config.eos_token_id
    together = passes.say(model, inputs, COUNTS, draws(COUNTS) if drawn else None, 7)
    apart = [
        passes.say(model, inputs, (1, 1, 1), _round(n) if drawn else None, 7) for n in range(max(COUNTS))
    ]
    expected = [apart[n][q] for q, count in enumerate(COUNTS) for n in range(count)]
    assert cut(together, ends) == cut(expected, ends)
    assert (len({tuple(row) for row in together}) > len(COUNTS)) == drawn
    assert passes.shares_reading(model)


def _round(number: int) -> Draw:
    """One answer to each question, of this number."""
    return Draw([(ask(text), Sampling(7, 2.0, seed=number)) for text in TEXTS], WARM)


@pytest.mark.parametrize("kind", ["qwen3_vl", "smolvlm"])
def test_a_question_is_read_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = asked(kind)
    sizes = []
    forward = model.model.visual.forward if kind == "qwen3_vl" else model.model.vision_model.forward

    def counted(*given: Any, **named: Any) -> Any:
        pixels = given[0] if given else named["pixel_values"]
        sizes.append(len(pixels))
        return forward(*given, **named)

    owner = model.model.visual if kind == "qwen3_vl" else model.model.vision_model
    monkeypatch.setattr(owner, "forward", counted)
    passes.say(model, inputs, (1, 1, 1), None, 3)
    (once,) = sizes
    passes.say(model, inputs, COUNTS, draws(COUNTS), 3)
    assert sizes == [once, once]


def test_what_the_model_last_read_does_not_matter() -> None:
    model, inputs = asked("qwen2_5_vl")
    words = {name: inputs[name][2:] for name in ("input_ids", "attention_mask")}
    fresh = passes.say(model, words, (2,), None, 5)
    passes.say(model, inputs, COUNTS, None, 5)
    assert passes.say(model, words, (2,), None, 5) == fresh
    assert fresh[0] == fresh[1]
