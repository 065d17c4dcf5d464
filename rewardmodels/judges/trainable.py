"""Judges that can be trained, saved and read again: where they start, and their folder.

    start_from("shapes-reward", settings)       the bundled reward model learns the words that a judge answers in
    start_from("Qwen/Qwen2.5-VL-7B-Instruct", settings)      any instruction model with pictures: folder or hub id

Folder layout: a plain VLM checkpoint with its processor, `judge.yaml` (`settings.JudgeFile`), `question.txt` (the text
it asks; `question.NAME.txt` where it asks several) and `reward_config.json`, which may name another folder or hub id
that holds the weights, and where scores can be calibrated holds how they were (`calibration`): those of token
probabilities and checklists. Judges that write fit no temperature and no tie threshold.

Legend: no tensors but weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from torch import nn
from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

from mmalign.shapes.bundle import model_path
from mmalign.strict import to_yaml
from mmalign.types import RewardModel
from rewardmodels.clip.weights import aligned
from rewardmodels.folders import CONFIG, HEAD, pixels_record, plain_state, quiet
from rewardmodels.judges.adapters import Opened, open_model
from rewardmodels.judges.calibration import Calibration
from rewardmodels.judges.checklist import ChecklistReward
from rewardmodels.judges.load import build, load_judge
from rewardmodels.judges.local import LocalEngine
from rewardmodels.judges.pairwise import PairJudge
from rewardmodels.judges.principles import PrincipleReward
from rewardmodels.judges.probability import DigitReward, YesNoReward
from rewardmodels.judges.settings import Checklist, Digits, JudgeFile, Pair, Points, Principles, YesNo
from rewardmodels.judges.text import TextReward
from rewardmodels.judges.verdict_model import add_words
from rewardmodels.judges.wording import Wording
from rewardmodels.judges.writing import examples, pieces
from rewardmodels.settings import record_of
from rewardmodels.vlm import VlmReward
from rewardmodels.vlm import load_folder as load_reward

Calibrating = YesNoReward | DigitReward | PairJudge | ChecklistReward
Judge = Calibrating | TextReward | PrincipleReward
FAMILY, JUDGE, QUESTION, SCHEMA = "judge", "judge.yaml", "question.txt", "mmalign.judge/1"
PICTURE, VIDEO = "<|vision_start|><|image_pad|><|vision_end|>", "<|video_pad|>"
ANSWER = "<|Reward|>"
CHAT = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}"
    + PICTURE
    + "{% elif part.type == 'video' %}"
    + VIDEO
    + "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}" + ANSWER + "{% endif %}"
)
"""What a reward model reads when it is asked: pictures and words as they come, then the token that it judged at."""
TEMPLATES = ("media-prompt/1", "source-media-prompt/1")
"""Those of reward models that have read so before."""


def sayable(settings: JudgeFile, critique: str = "") -> list[str]:
    """The words that a judge of this file answers in: those it weighs, or of which its verdicts are made."""
    judge = settings.judge
    if isinstance(judge, Points | Principles) or (isinstance(judge, Pair) and judge.style != "probability"):
        return pieces(list(examples(settings, critique)))
    if isinstance(judge, YesNo | Digits | Pair | Checklist):
        return list(worths_of(judge))
    raise ValueError(f"{settings.name} (kind {judge.kind}) gives no answers that can be trained")


def worths_of(judge: YesNo | Digits | Pair | Checklist) -> dict[str, float]:
    """The words that are weighed against each other, with what each says: 1 is all for it, 0 all against it."""
    if isinstance(judge, Digits):
        return judge.worths
    good, bad = judge.words if isinstance(judge, Pair) else (judge.yes, judge.no)
    return {good: 1.0, bad: 0.0}


def start_from(
    path: str, settings: JudgeFile, *, batch_size: int = 8, dtype: str = "float32", device: str = "cpu",
    template_file: str | Mapping[str, str] | None = None, critique: str = "",
) -> Judge:  # fmt: skip
    """The judge of these settings on an instruction model, or on the backbone of a hidden-state reward model, which
    learns the words of its verdicts and of the `critique` before them.
    """
    words = sayable(settings, critique)
    if is_reward_model(path):
        opened = _talking(path, words, settings.max_frames)
    else:
        opened = open_model(path, device=device, dtype=dtype)
    aligned(opened.model)
    engine = LocalEngine(opened.model.to(device), opened.processor, opened.name, batch_size)
    made = build(settings, engine, template_file=template_file)
    assert isinstance(made, Judge)
    return made


def is_reward_model(path: str) -> bool:
    """Whether it is a hidden-state reward model, which has words to learn first."""
    return (Path(model_path(path)) / HEAD).is_file()


def _talking(path: str, words: Sequence[str], most_frames: int) -> Opened:
    """The backbone of a reward model as an instruction model that may answer with the words and reads clips of at most
    so many frames.
    """
    reward: VlmReward = load_reward(model_path(path))
    kind = reward.vlm.config.model_type
    if kind != "qwen3_vl" or reward.settings.template not in TEMPLATES:
        raise ValueError(
            f"{path} ({kind}, {reward.settings.template}): only reward models on Qwen3-VL with template "
            f"{' or '.join(TEMPLATES)} can learn to answer; start from an instruction model"
        )
    tokenizer = reward.builder.tokenizer
    add_words(reward.vlm, tokenizer, [_token(word) for word in words], like=_form(words))
    reward.vlm.model.visual.config._attn_implementation = "sdpa"  # as the folder will be read
    pixels = pixels_record(reward.builder)
    pixels.pop("image_processor_type")
    low, high = reward.builder.video.pixels(most_frames)
    volume = {"shortest_edge": low, "longest_edge": high * most_frames}
    videos = Qwen3VLVideoProcessor(**{**pixels, "size": volume, "max_frames": most_frames})
    processor = Qwen3VLProcessor(Qwen2VLImageProcessor(**pixels), tokenizer, videos, chat_template=CHAT)
    return Opened(reward.vlm.eval(), processor, reward.name)


def _form(words: Sequence[str]) -> dict[str, str]:
    """What stands between numbers and words begins as the token that the reward model judged at: what follows it is
    judged from what the model sees there.
    """
    return {word: ANSWER for word in words if not any(map(str.isalnum, word)) or word[0] in '<{"'}


def _token(word: str) -> str | AddedToken:
    """A word in small letters as the vocabulary has them; anything else as it is written, a number or word whole."""
    if word.isalpha() and word.islower():
        return word
    return AddedToken(word, normalized=False, single_word=word.isalnum())


def save(judge: Judge, folder: str | Path, *, model: str | None = None) -> Path:
    """Write the layout above; with `model` the weights stay where they are."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    engine = judge.engine
    assert isinstance(engine, LocalEngine)
    if model is None:
        state = {name: value.detach() for name, value in plain_state(engine.model).items()}
        with quiet():
            engine.model.save_pretrained(target, state_dict=state)
        engine.processor.save_pretrained(target)
    (target / JUDGE).write_text(to_yaml(_as_it_is(judge)), encoding="utf-8")
    for name, wording in _wordings(judge).items():
        (target / name).write_text(wording.text + "\n", encoding="utf-8")
    record = {"schema": SCHEMA, "family": FAMILY, "name": judge.settings.name, "model": model}
    _write(record, target)
    write_calibration(judge, target)
    return target


def write_calibration(judge: Judge, folder: Path) -> None:
    """What was fitted on the scores of a judge that is saved already."""
    if isinstance(judge, Calibrating):
        _write(record_of(folder / CONFIG) | asdict(judge.calibration), folder)


def _write(record: Mapping[str, Any], folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _wordings(judge: Judge) -> dict[str, Wording]:
    """Its questions by the name of their file."""
    if not isinstance(judge, TextReward | PrincipleReward):
        return {QUESTION: judge.wording}
    if len(judge.wordings) == 1:
        return dict.fromkeys((QUESTION,), *judge.wordings.values())
    return {f"question.{name}.txt": wording for name, wording in judge.wordings.items()}


def _questions(folder: Path) -> Path | dict[str, str]:
    """The file of its question, or those of several by name."""
    several = {
        file.name.split(".", 1)[1].removesuffix(".txt"): str(file) for file in folder.glob("question.*.txt")
    }
    return several or folder / QUESTION


def _as_it_is(judge: Judge) -> JudgeFile:
    """The judge file, with the weights that a checklist has now."""
    if not isinstance(judge, ChecklistReward):
        return judge.settings
    checks = tuple(
        check.model_copy(update={"weight": weight})
        for check, weight in zip(judge.checklist.checks, judge.weights, strict=True)
    )
    return judge.settings.model_copy(update={"judge": judge.checklist.model_copy(update={"checks": checks})})


def load_folder(
    path: str | Path, *, batch_size: int = 8, device: str = "cpu", dtype: str = "float32",
    weights_file: str | None = None, min_mass: float | None = None,
) -> RewardModel | PairJudge:  # fmt: skip
    """What `save` wrote; the same judge, to the last bit. With weights of another file a checklist has other scores,
    and so no calibration.
    """
    folder = Path(path)
    record = record_of(folder / CONFIG)
    if record.get("schema") != SCHEMA:
        raise ValueError(f"{folder / CONFIG} is no {SCHEMA}: train it again, or update mmalign")
    made = load_judge(
        config=str(folder / JUDGE), path=record["model"] or str(folder), template_file=_questions(folder),
        weights_file=weights_file, min_mass=min_mass, batch_size=batch_size, device=device, dtype=dtype,
    )  # fmt: skip
    model: nn.Module = made.engine.model  # type: ignore[union-attr]
    aligned(model)
    if isinstance(made, Calibrating) and weights_file is None:
        made.calibration = Calibration.of(record)
    return made
