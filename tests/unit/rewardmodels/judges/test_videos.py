"""Videos shown to judges as clips: against the builder of reward models, whose tokens and positions the tests of
backbones hold against the stock processors.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mmalign import media
from mmalign.shapes.bundle import model_path
from mmalign.strict import to_yaml
from mmalign.types import Sample
from rewardmodels.clips import Clip
from rewardmodels.combine import reads_files
from rewardmodels.judges import endpoint, trainable
from rewardmodels.judges.chat import Sampling, ask
from rewardmodels.judges.load import load_judge
from rewardmodels.judges.local import LocalEngine
from rewardmodels.judges.probability import YesNoReward
from rewardmodels.judges.settings import JudgeFile, YesNo
from rewardmodels.judges.speaking import show
from rewardmodels.judges.videos import unframed
from rewardmodels.vlm import load_folder
from tests.unit.rewardmodels.judges import tiny_chat

JUDGED = JudgeFile(
    name="tiny", about="a test", modalities=("image", "edit", "video"), scale="[0, 1]", videos="clip", max_frames=6,
    judge=YesNo(kind="yes_no", wording="plain/1", min_mass=0.0),
)  # fmt: skip
FRAMES = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def judge() -> tuple[YesNoReward, LocalEngine]:
    made = trainable.start_from("shapes-videos-reward", JUDGED)
    assert isinstance(made, YesNoReward) and isinstance(made.engine, LocalEngine)
    return made, made.engine


@pytest.mark.parametrize("num", [2, 3, 4])
def test_the_model_sees_what_the_reward_saw_that_it_was(num: int) -> None:
    made, engine = judge()
    samples = [Sample("a red circle", FRAMES[0, :num]), Sample("two blue squares", FRAMES[1, :num])]
    asked = [made.questions(show(one, JUDGED), one)[0] for one in samples]
    stock = engine.processed([engine.text(one) for one in asked], asked)
    builder = load_folder(model_path("shapes-videos-reward")).builder
    ours = builder([one.prompt for one in samples], [one.frames() for one in samples])
    for row, real, theirs, mask in zip(
        ours.input_ids,
        ours.attention_mask.bool(),
        stock["input_ids"],
        stock["attention_mask"].bool(),
        strict=True,
    ):
        assert row[real].tolist() == theirs[mask].tolist()
    assert torch.equal(ours.visual["video_grid_thw"], stock["video_grid_thw"])
    away = (ours.visual["pixel_values_videos"] - stock["pixel_values_videos"]).abs()
    assert float(away.max()) <= 0.51 / 255 / 0.5, "a judge sees eight-bit pixels"


def test_the_seconds_of_a_temporal_patch_are_told(tmp_path: Path) -> None:
    engine = load_judge(config="vqascore", path=str(tiny_chat.qwen(tmp_path / "model"))).engine  # type: ignore[union-attr]
    clips = [Clip(FRAMES[0], (0.0, 0.5, 1.0, 1.5), 0.5), Clip(FRAMES[0], (0.0, 1.0, 2.0, 3.0), 1.0)]
    made: list[Any] = []
    engine.processor._process_videos, inner = (  # type: ignore[union-attr]
        lambda *args, **kwargs: made.append(inner(*args, **kwargs)) or made[-1],
        engine.processor._process_videos,  # type: ignore[union-attr]
    )
    questions = [ask(clip, "a circle") for clip in clips]
    engine.processed([engine.text(one) for one in questions], questions)  # type: ignore[union-attr]
    assert [float(one) for one in made[0][0]["second_per_grid_ts"]] == [1.0, 2.0]


def test_times_and_order_decide_the_answer_and_its_key() -> None:
    _, engine = judge()
    clip = Clip(FRAMES[0], (0.0, 0.5, 1.0, 1.5), 0.5)
    others = [
        replace(clip, times=(0.0, 2.0, 4.0, 6.0), step=2.0),
        replace(clip, frames=FRAMES[0].flip(0)),
        replace(clip, frames=FRAMES[1]),
    ]
    questions = [ask(one, "a red circle") for one in (clip, *others)]
    assert len({question.digest for question in questions}) == 4
    words = engine.first_words(questions, ["yes"])
    assert len({word.log_probs[0] for word in words}) == 4


@pytest.mark.parametrize("write", [None, tiny_chat.qwen], ids=["qwen3_vl", "qwen2_5_vl"])
def test_answers_after_one_look_at_a_clip_are_those_of_a_look_each(
    write: Callable[[Path], Path] | None, tmp_path: Path
) -> None:
    engine = judge()[1] if write is None else load_judge(config="vqascore", path=str(write(tmp_path))).engine  # type: ignore[union-attr]
    assert isinstance(engine, LocalEngine)
    clips = [Clip(FRAMES[0], (0.0, 0.5, 1.0, 1.5), 0.5), Clip(FRAMES[1, :2], (0.0, 0.5), 0.5)]
    questions = [ask(clips[0], "a red circle"), ask(clips[1], "two longer blue squares")]
    asked = [(one, Sampling(5, 2.0, seed=seed)) for one in questions for seed in range(3)]
    together = engine.generate(*zip(*asked, strict=True))
    engine.forget()
    alone = [engine.generate([one], [how])[0] for one, how in asked]
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    assert len({one.text for one in together}) > 2


def test_a_file_is_read_twice_a_second_and_a_picture_stays_one(tmp_path: Path) -> None:
    path = media.write(tmp_path / "a.mp4", torch.rand(24, 3, 32, 32), fps=8)
    (clip,) = show(Sample("a", path), JUDGED).pictures["media"]
    assert (
        isinstance(clip, Clip) and len(clip.frames) == 6 and clip.times[0] == 0 and clip.times[-1] == 23 / 8
    )
    (picture,) = show(Sample("a", FRAMES[0, :1]), JUDGED).pictures["media"]
    assert torch.equal(picture, FRAMES[0, 0])  # type: ignore[arg-type]
    frames = show(Sample("a", FRAMES[0]), JUDGED.model_copy(update={"videos": "frames"})).pictures["media"]
    assert len(frames) == 4


def test_servers_are_shown_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip(FRAMES[0], (0.0, 0.5, 1.0, 1.5), 0.5)
    parts = endpoint._content(clip)
    assert [part["type"] for part in parts] == ["image_url"] * 4
    data = base64.b64decode(parts[2]["image_url"]["url"].partition(",")[2])
    assert Image.open(io.BytesIO(data)).tobytes() == media.to_pil(FRAMES[0, 2]).tobytes()


def test_a_model_without_videos_says_so_and_judges_pictures(tmp_path: Path) -> None:
    engine = load_judge(config="vqascore", path=str(tiny_chat.llava(tmp_path / "model"))).engine  # type: ignore[union-attr]
    made = YesNoReward(JUDGED, judge()[0].wording, engine=engine, asked=JUDGED.judge)  # type: ignore[arg-type]
    found = made(samples=[Sample("a", FRAMES[0]), Sample("a", FRAMES[0, :1])])
    assert found.valid.tolist() == [False, True]
    assert "takes no videos" in str(found.reasons[0]) and "videos: frames" in str(found.reasons[0])


def test_a_start_and_an_end_around_the_whole_video_are_taken_away_for_qwen3_alone(tmp_path: Path) -> None:
    text = "<|vision_start|><|video_pad|><|vision_end|> <|vision_start|><|image_pad|><|vision_end|>"
    _, engine = judge()
    assert unframed(text, engine.processor) == "<|video_pad|> <|vision_start|><|image_pad|><|vision_end|>"
    other = load_judge(config="vqascore", path=str(tiny_chat.qwen(tmp_path / "model"))).engine  # type: ignore[union-attr]
    assert unframed(text, other.processor) == text  # type: ignore[union-attr]


def test_sets_of_pictures_have_frames() -> None:
    sets = JUDGED.judge.model_copy(update={"pairs_of_frames": True})
    with pytest.raises(ValueError, match="set videos to frames"):
        JudgeFile(**{**JUDGED.model_dump(), "judge": sets.model_dump()})


def test_a_judge_of_ours_is_shown_clips_where_an_option_says_so(tmp_path: Path) -> None:
    config = tmp_path / "judge.yaml"
    config.write_text(to_yaml(JUDGED.model_copy(update={"videos": "frames"})), encoding="utf-8")
    options = {"config": str(config), "path": str(tiny_chat.qwen(tmp_path / "model"))}
    frames, clips = load_judge(**options), load_judge(**options, videos="clip")
    assert not reads_files(frames) and reads_files(clips)  # type: ignore[arg-type]
    path = media.write(tmp_path / "a.mp4", FRAMES[0].repeat_interleave(6, 0), fps=8)
    samples = [
        Sample("a circle", path), Sample("a circle", media.read(path), metadata={"fps": 8.0}),
        Sample("a circle", media.read(path)),
    ]  # fmt: skip
    found = clips(samples=samples).overall.tolist()  # type: ignore[operator]
    assert found[0] == found[1] != found[2], "frames without a rate are taken as two a second"
    assert found[0] != float(frames(samples=samples[:1]).overall)  # type: ignore[operator]
    with pytest.raises(ValueError, match="videos"):
        load_judge(**options, videos="both")
