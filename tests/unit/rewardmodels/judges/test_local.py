"""The local engine against a plain loop of stock processor and model; batches, padding, drawing, adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from mmalign.media import to_pil
from rewardmodels.judges.adapters import open_model
from rewardmodels.judges.answers import Answers
from rewardmodels.judges.chat import Question, Sampling, ask
from rewardmodels.judges.drawing import Draw
from rewardmodels.judges.local import LocalEngine
from tests.unit.rewardmodels.judges import tiny_chat

GREEDY = Sampling(max_tokens=6)
WARM = Sampling(max_tokens=6, temperature=1.0, top_p=0.9, top_k=20)
PICTURES = torch.rand(3, 3, 40, 30, generator=torch.Generator().manual_seed(1))
QUESTIONS = (
    ask("Is this ", PICTURES[0], " a red circle?"),
    ask(PICTURES[1], PICTURES[2], "Compare.", system="You judge pictures, and take your time."),
    ask("No picture here. " * 5),
    ask(PICTURES[1, :, :28], "x"),
)


BACKBONES = [
    pytest.param(tiny_chat.qwen, id="qwen2_5_vl"),
    pytest.param(tiny_chat.llava, id="llava", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=BACKBONES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write: Callable[[Path], Path] = request.param
    return write(tmp_path_factory.mktemp("model"))


def engine(folder: Path, **options: object) -> LocalEngine:
    opened = open_model(folder)
    return LocalEngine(opened.model, opened.processor, opened.name, **options)  # type: ignore[arg-type]


@lru_cache(maxsize=2)
def stock(folder: Path) -> tuple[Any, Any]:
    """The plain model and processor."""
    return AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


def plain(folder: Path, question: Question, num: int) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens and first logits, token by token without a cache, by stock parts alone."""
    model, processor = stock(folder)
    messages = [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                for part in message.parts
            ],
        }
        for message in question.messages
    ]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    images = [to_pil(picture) for picture in question.pictures] or None
    inputs = processor(text=[text + question.start], images=images, return_tensors="pt")
    tokens: list[int] = []
    first = torch.empty(0)
    inputs = dict(inputs)
    with torch.no_grad():
        for _ in range(num):
            logits = model(**inputs, use_cache=False).logits[0, -1]
            first = logits if not tokens else first
            tokens.append(int(logits.argmax()))
            if tokens[-1] == processor.tokenizer.eos_token_id:
                break
            more = torch.tensor([[tokens[-1]]])
            inputs["input_ids"] = torch.cat([inputs["input_ids"], more], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "mm_token_type_ids" in inputs:
                kinds = inputs["mm_token_type_ids"]
                inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(more)], 1)
    return tokens, first


def test_greedy_answers_are_those_of_a_plain_loop(folder: Path) -> None:
    made = engine(folder, batch_size=4)
    answers = made.generate(QUESTIONS, [GREEDY] * len(QUESTIONS))
    for question, answer in zip(QUESTIONS, answers, strict=True):
        tokens, _ = plain(folder, question, 6)
        said = [token for token in tokens if token != made.tokenizer.eos_token_id]
        assert answer.problem is None and answer.num_tokens == len(said)
        assert answer.text == made.tokenizer.decode(said, skip_special_tokens=True)
        assert answer.cut == (len(said) == 6)


def test_word_probabilities_are_those_of_a_plain_pass(folder: Path) -> None:
    made = engine(folder, batch_size=3)
    found = made.first_words(QUESTIONS, ["yes", "no"])
    exact = made.first_words(QUESTIONS, ["Yes", "no"], variants=False)
    ids = made.tokenizer.convert_tokens_to_ids
    for question, words, one in zip(QUESTIONS, found, exact, strict=True):
        chances = plain(folder, question, 1)[1].double().softmax(-1)
        yes = sum(chances[ids(token)] for token in ("yes", "Yes", " yes"))
        no = sum(chances[ids(token)] for token in ("no", "No", " no"))
        assert words.mass == pytest.approx(float(yes + no), rel=1e-4)
        assert words.shares()[0] == pytest.approx(float(yes / (yes + no)), abs=1e-5)
        assert one.mass == pytest.approx(float(chances[ids("Yes")] + chances[ids("no")]), rel=1e-4)


def test_echo_is_the_mean_log_probability_of_the_answer(folder: Path) -> None:
    made = engine(folder, batch_size=4)
    answers = ["red", "x", "", "two"]
    found = made.echo(QUESTIONS, answers)
    assert found[2].problem == "the text is empty"
    long = made.echo([QUESTIONS[0], QUESTIONS[0]], ["red", "x" * 1000])
    assert long[0].log_probs == pytest.approx(found[0].log_probs, abs=1e-5)
    assert "do not fit" in str(long[1].problem)
    for i in (0, 1, 3):
        ids = made.tokenizer(answers[i], add_special_tokens=False)["input_ids"]
        total = 0.0
        for k, token in enumerate(ids):
            start = made.tokenizer.decode(ids[:k])
            logits = plain(folder, Question(QUESTIONS[i].messages, start=start), 1)[1]
            total += float(logits.log_softmax(-1)[token])
        assert found[i].log_probs[0] == pytest.approx(total / len(ids), abs=1e-4)


@pytest.mark.parametrize("how", [GREEDY, WARM], ids=["greedy", "drawn"])
def test_a_batch_is_its_questions_one_by_one_in_any_order(folder: Path, how: Sampling) -> None:
    together = engine(folder, batch_size=4).generate(QUESTIONS, [how] * 4)
    alone = engine(folder, batch_size=1).generate(QUESTIONS[::-1], [how] * 4)[::-1]
    assert [answer.text for answer in together] == [answer.text for answer in alone]


def test_seeds_decide_what_is_drawn(folder: Path) -> None:
    made = engine(folder)
    seeds = [Sampling(max_tokens=6, temperature=2.0, seed=seed) for seed in (0, 1, 0)]
    first, second, again = made.generate([QUESTIONS[0]] * 3, seeds)
    assert first.text == again.text != second.text


def test_draws_follow_the_probabilities() -> None:
    """3000 draws of one token against softmax(logits / T) cut to its nucleus: chi-square with 5 degrees of freedom."""
    logits = torch.tensor([2.0, 1.0, 0.0, 3.0, 1.5, 2.5, -4.0, -4.0])
    how = Sampling(temperature=2.0, top_p=0.97)
    batch = [(QUESTIONS[2], replace(how, seed=seed)) for seed in range(3000)]
    drawn = Draw(batch, how)(torch.empty(3000, 0), logits.expand(3000, -1)).argmax(1)
    counts = torch.bincount(drawn, minlength=8).double()
    expected = 3000 * (logits[:6] / 2).softmax(0).double()
    assert counts[6:].sum() == 0 and float(((counts[:6] - expected) ** 2 / expected).sum()) < 20.5


def test_control_tokens_and_long_questions_are_problems_of_their_own(folder: Path) -> None:
    made = engine(folder, batch_size=8)
    bad = [ask("end <|im_end|> here"), ask("word " * 2000), QUESTIONS[0]]
    control, long, good = made.generate(bad, [GREEDY] * 3)
    assert "control token <|im_end|>" in str(control.problem) and "do not fit into 1024" in str(long.problem)
    assert good.text == made.generate([QUESTIONS[0]], [GREEDY])[0].text and good.problem is None


def test_a_word_without_a_token_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="no single token for 'perhaps'"):
        engine(folder).first_words(QUESTIONS, ["perhaps"])


def test_kept_answers_are_not_asked_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine(folder, answers=Answers(tmp_path / "a.db")).generate(QUESTIONS, [GREEDY] * 4)
    again = engine(folder, answers=Answers(tmp_path / "a.db"))
    monkeypatch.setattr(again.model, "generate", None)
    assert again.generate(QUESTIONS, [GREEDY] * 4) == first


# ---------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat.qwen(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"alpha_pattern": {"layers.1.self_attn.q_proj": 16}}]
)
def test_a_merged_adapter_is_what_peft_makes_of_it(
    base: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    folder = tiny_chat.adapter(tmp_path / "adapter", base, **settings)
    stock = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), folder)
    expected = stock.merge_and_unload().state_dict()
    merged = open_model(folder).model.state_dict()
    assert merged.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(merged[name], weight, atol=1e-6, rtol=1e-5)


def test_names_of_older_versions_are_understood(base: Path, tmp_path: Path) -> None:
    new = open_model(tiny_chat.adapter(tmp_path / "new", base)).model.state_dict()
    old = open_model(tiny_chat.adapter(tmp_path / "old", base, names="old")).model.state_dict()
    assert all(torch.equal(new[name], old[name]) for name in new)


def test_adapters_that_do_nothing_or_do_not_fit_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every lora_B is zero"):
        open_model(tiny_chat.adapter(tmp_path / "zero", base, zero=True))
    with pytest.raises(ValueError, match="use_dora"):
        open_model(tiny_chat.adapter(tmp_path / "dora", base, use_dora=True))
    with pytest.raises(ValueError, match="belongs to another base"):
        open_model(tiny_chat.adapter(tmp_path / "deep", base, names="deep"))
    with pytest.raises(ValueError, match=r"is \(32, 32\) in the base, the adapter is for"):
        open_model(tiny_chat.adapter(tmp_path / "wide", base, names="wide"))
    with pytest.raises(ValueError, match="no such folder"):
        open_model(tmp_path / "nowhere")


@pytest.mark.parametrize("names", ["new", "old"])
def test_an_adapter_must_have_a_pair_for_every_module_that_it_names(
    base: Path, tmp_path: Path, names: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_chat.adapter(tmp_path / "adapter", base, names=names)
    file = folder / "adapter_model.safetensors"
    rest = {name: value for name, value in load_file(file).items() if "layers.1.self_attn.q_proj" not in name}
    save_file(rest, file)
    with pytest.raises(ValueError, match=r"adapter_model.* 1 module of 4 .*layers\.1\.self_attn\.q_proj"):
        open_model(folder)
    record = json.loads((folder / "adapter_config.json").read_text())
    for legitimate in (
        {"exclude_modules": ["layers.1.self_attn.q_proj"]},
        {"target_modules": r".*(layers\.0\.self_attn\.[qv]_proj|v_proj)"},
    ):
        (folder / "adapter_config.json").write_text(json.dumps(record | legitimate))
        assert open_model(folder).model.training is False


def test_missing_weights_are_an_error(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_chat.qwen(tmp_path / "cut")
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="the weights do not fit the model"):
        open_model(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "qwen2_5_vl"
