"""Questions that share a row are answered as they are alone, and teach the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rewardmodels.clips import Clip
from rewardmodels.judges import packed, trainable
from rewardmodels.judges.chat import Question, ask
from rewardmodels.judges.load import load_judge
from rewardmodels.judges.local import LocalEngine
from rewardmodels.judges.settings import JudgeFile, YesNo
from tests.unit.rewardmodels.judges import tiny_chat
from tests.unit.rewardmodels.stock_processors import placeholder, stock_processor, video_placeholder
from tests.unit.rewardmodels.tiny_vlms import PROCESSORS, tiny_vlm

JUDGED = JudgeFile(
    name="tiny", about="a test", modalities=("image",), scale="[0, 1]",
    judge=YesNo(kind="yes_no", wording="plain/1"),
)  # fmt: skip
RISE = torch.linspace(0.2, 1.0, 4)[:, None, None, None]
PICTURES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SMALL = torch.rand(3, 16, 48, generator=torch.Generator().manual_seed(1))
ASKED = (
    ask(PICTURES[0], "a red circle"), ask(PICTURES[1], "two blue squares"), ask(PICTURES[0], "a circle"),
    ask("a red", PICTURES[0], "circle"), ask(PICTURES[0], PICTURES[2], "a circle"), ask(SMALL, "a circle"),
    ask(PICTURES[0][None][0], "two large green triangles"), ask(PICTURES[0], PICTURES[1], "a circle"),
)  # fmt: skip
"""One picture under three prompts (once as a view of itself), words before it, two pictures, another size."""


def engine(kind: str, folder: Path) -> LocalEngine:
    if kind in PROCESSORS:
        processor = stock_processor(kind)
        processor.chat_template = tiny_chat.chat(placeholder(kind), video_placeholder(kind))
        return LocalEngine(tiny_vlm(kind)[0], processor, kind)
    if kind == "qwen3":
        made = trainable.start_from("shapes-reward", JUDGED).engine
    else:
        write = tiny_chat.qwen if kind == "qwen2.5" else tiny_chat.llava
        made = load_judge(config="vqascore", path=str(write(folder / "model"))).engine  # type: ignore[union-attr]
    assert isinstance(made, LocalEngine)
    return made


@pytest.mark.parametrize("kind", ["qwen3", "qwen2.5", "llava", *PROCESSORS])
def test_the_logits_are_those_of_questions_asked_alone(kind: str, tmp_path: Path) -> None:
    made = engine(kind, tmp_path)
    questions = ASKED if kind != "llava" else ASKED[:3]
    answers = [(5,), (6, 7, 8), (9, 10), (5,), (6, 7), (8,), (11, 12, 13), (5,)][: len(questions)]
    assert packed.can_share(made.model) == (kind != "llava")
    with torch.no_grad():
        together = packed.answer_logits(made, questions, answers)
        for i, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            alone = made.logits([question], [answer])[0]
            torch.testing.assert_close(together[i, : len(answer)], alone, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", ["qwen3", "qwen2.5", *PROCESSORS])
def test_so_are_those_about_videos(kind: str, tmp_path: Path) -> None:
    made, times = engine(kind, tmp_path), (0.0, 0.5, 1.0, 1.5)
    one, other = (Clip(picture.expand(4, 3, 32, 32) * RISE, times, 0.5) for picture in PICTURES[:2])
    questions = [
        ask(one, "a circle"), ask(one, "two large green triangles"), ask(one, "a circle", other, "a circle"),
        ask(other, "a circle"),
    ]  # fmt: skip
    if made.processor.__class__.__name__.startswith("Qwen"):  # others take pictures or videos in a question
        questions += [ask(one, PICTURES[2], "a circle"), ask(PICTURES[2], other, "a circle"), ASKED[0]]
    if not made.watches:
        with pytest.raises(ValueError, match="takes no videos"):
            packed.answer_logits(made, questions, [(5,)] * len(questions))
        return
    with torch.no_grad():
        together = packed.answer_logits(made, questions, [(5,)] * len(questions))
        alone = torch.cat([made.logits([question], [(5,)]) for question in questions])
        torch.testing.assert_close(together, alone, atol=2e-4, rtol=2e-4)
        turned = made.logits([ask(Clip(one.frames.flip(0), times, 0.5), "a circle")], [(5,)])
    assert not torch.allclose(turned[0], alone[0], atol=1e-4), "the order of frames must be seen"


def test_gradients_are_those_of_questions_asked_alone(tmp_path: Path) -> None:
    made = engine("qwen3", tmp_path)
    made.model.requires_grad_(True)
    slopes = []
    for logits in (packed.answer_logits, LocalEngine.logits):
        made.model.zero_grad()
        logits(made, ASKED, [(5,)] * len(ASKED)).log_softmax(-1)[:, 0, 5].sum().backward()
        slopes.append({n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None})
    assert slopes[0].keys() == slopes[1].keys() and len(slopes[0]) > 20
    for name, slope in slopes[0].items():
        torch.testing.assert_close(slope, slopes[1][name], atol=1e-3, rtol=1e-3)


def test_a_picture_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine("qwen3", tmp_path)
    seen: list[int] = []
    inner = LocalEngine.processed

    def processed(self: LocalEngine, texts: list[str], questions: list[Question]) -> object:
        seen.append(sum(len(question.pictures) for question in questions))
        return inner(self, texts, questions)

    monkeypatch.setattr(LocalEngine, "processed", processed)
    packed.answer_logits(made, [ASKED[0], ASKED[2], ASKED[6]], [(5,)] * 3)
    assert seen == [1]


def test_questions_without_pictures_are_asked_alone(tmp_path: Path) -> None:
    made, questions = engine("qwen3", tmp_path), [Question(ask("a circle").messages), ASKED[0]]
    with torch.no_grad():
        found = packed.answer_logits(made, questions, [(5,), (6,)])
        assert torch.equal(found, made.logits(questions, [(5,), (6,)]))
