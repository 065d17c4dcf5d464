"""What every reward keeps: batch = single, any order, the same twice, one bad sample harms no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import rewardmodels
from mmalign.media import write
from mmalign.shapes import render
from mmalign.types import RewardModel, Sample
from rewardmodels.combine import Combined
from tests.contract import tiny_rewards
from tests.unit.rewardmodels.tiny import tiny_family, tiny_reward

PROMPTS = [
    "a red circle",
    "two blue squares",
    "a green cross above a yellow triangle",
    "a large orange square",
]


def brightness(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    """A function reward."""
    return images.mean(dim=(1, 2, 3)) + torch.tensor([0.01 * len(prompt) for prompt in prompts])


def _combined(rule: str) -> RewardModel:
    parts = [(name, 1.0, rewardmodels.load(name)) for name in ("shapes-verifier", "jpeg-compressibility")]
    return Combined(parts, rule=rule)  # type: ignore[arg-type]


COMPOSITION = """
name: composition
combine: {name: gate, base: shapes-verifier, share: 0.6}
rewards:
  - shapes-verifier
  - {name: both, combine: uwo, rewards: [sharpness, {name: saturation, scale: sigmoid}]}
"""


def _composition(folder: Path) -> RewardModel:
    (folder / "composition.yaml").write_text(COMPOSITION, encoding="utf-8")
    return rewardmodels.load(str(folder / "composition.yaml"))


REWARDS: dict[str, Callable[[Path], RewardModel]] = {
    **{
        name: lambda folder, name=name: tiny_rewards.load(name, folder)
        for name, entry in rewardmodels.available().items()
        if "image" in entry.modalities and not entry.over_sets and not entry.beside
    },
    "shapes-verifier, passed": lambda _: rewardmodels.load("shapes-verifier", score="passed"),
    "function": lambda _: rewardmodels.load(f"{__name__}:brightness"),
    "random VLM, prompt first": lambda _: tiny_reward(template="prompt-media/1").requires_grad_(False),
    "random VLM, sequential positions": lambda _: tiny_reward(positions="sequential").requires_grad_(False),
    **{
        f"random VLM, {name} head": lambda _, name=name: tiny_family(name).requires_grad_(False)
        for name in ("fused", "query", "candidates")
    },
    "weighted sum": lambda _: _combined("sum"),
    "composition in a file": lambda folder: _composition(folder),
}
"""By name, what builds it below an empty folder; rewards of videos only are tested at the end of this file."""


@pytest.fixture(scope="module", params=list(REWARDS))
def reward(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RewardModel:
    return REWARDS[request.param](tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    images = torch.cat([render(PROMPTS, seed=1), render(PROMPTS, seed=2).roll(1, 0)])
    return [
        Sample(prompt, image, id=str(i))
        for i, (prompt, image) in enumerate(zip(PROMPTS * 2, images, strict=True))
    ]


def test_it_is_a_reward_model(reward: RewardModel) -> None:
    assert isinstance(reward, RewardModel)
    assert reward.name and "image" in reward.modalities and reward.dimensions


def test_shapes_and_names(reward: RewardModel, samples: list[Sample]) -> None:
    scores = reward(samples=samples)
    assert scores.names == reward.dimensions and scores.values.shape == (8, len(reward.dimensions))
    assert bool(scores.valid.all()) and scores.values.dtype == torch.float32
    assert len(reward(samples=[])) == 0


def test_arguments_are_keywords(reward: RewardModel, samples: list[Sample]) -> None:
    with pytest.raises(TypeError):
        reward(samples)  # type: ignore[misc]


def test_a_batch_is_its_samples_one_by_one(reward: RewardModel, samples: list[Sample]) -> None:
    together = reward(samples=samples)
    alone = torch.cat([reward(samples=[sample]).overall for sample in samples])
    torch.testing.assert_close(together.overall, alone, atol=1e-5, rtol=0)


def test_order_does_not_matter(reward: RewardModel, samples: list[Sample]) -> None:
    order = [5, 0, 7, 2, 1, 6, 4, 3]
    turned = reward(samples=[samples[i] for i in order]).overall
    torch.testing.assert_close(turned, reward(samples=samples).overall[order], atol=1e-5, rtol=0)


def test_twice_is_the_same(reward: RewardModel, samples: list[Sample]) -> None:
    assert torch.equal(reward(samples=samples).overall, reward(samples=samples).overall)


def test_pictures_of_several_sizes_are_judged(reward: RewardModel, samples: list[Sample]) -> None:
    mixed = [samples[0], Sample(PROMPTS[1], render([PROMPTS[1]], size=64)[0]), samples[2]]
    scores = reward(samples=mixed)
    assert bool(scores.valid.all())
    torch.testing.assert_close(
        scores.overall[[0, 2]], reward(samples=samples).overall[[0, 2]], atol=1e-5, rtol=0
    )


def test_files_score_as_their_pixels(reward: RewardModel, samples: list[Sample], tmp_path: Path) -> None:
    image = (samples[0].frames()[0] * 255).round() / 255
    path = write(tmp_path / "a.png", image)
    both = reward(samples=[Sample(PROMPTS[0], image), Sample(PROMPTS[0], path)])
    torch.testing.assert_close(both.overall[0], both.overall[1], atol=1e-5, rtol=0)


def test_a_bad_sample_is_nan_with_a_reason_and_harms_no_other(
    reward: RewardModel, samples: list[Sample], tmp_path: Path
) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    bad = [
        Sample("a red circle", tmp_path / "missing.png"),
        Sample("a red circle", tmp_path / "cut.png"),
        replace(samples[0], media=torch.full((3, 32, 32), float("nan"))),
        replace(samples[0], media=torch.full((3, 32, 32), 7.0)),
        replace(samples[0], media=torch.rand(1, 32, 32)),
        replace(samples[0], media=torch.zeros(0, 3, 32, 32)),
        *([] if "video" in reward.modalities else [replace(samples[0], media=torch.rand(5, 3, 32, 32))]),
    ]
    mixed = [samples[0], *bad, samples[1]]
    scores = reward(samples=mixed)
    assert scores.valid.tolist() == [True, *[False] * len(bad), True]
    assert bool(torch.isnan(scores.overall[1:-1]).all()) and bool(torch.isnan(scores.values[1:-1]).all())
    assert all(reason for reason in scores.reasons[1:-1]) and scores.reasons[0] is None
    torch.testing.assert_close(
        scores.overall[[0, -1]], reward(samples=samples[:2]).overall, atol=1e-5, rtol=0
    )


def test_odd_prompts_are_judged_or_refused_with_a_reason(reward: RewardModel, samples: list[Sample]) -> None:
    odd = ["", "красный круг", "<|Reward|> <|image_pad|>", "red " * 1000, "a RED circle"]
    scores = reward(samples=[*(replace(samples[0], prompt=prompt) for prompt in odd), samples[0]])
    for valid, reason in zip(scores.valid.tolist(), scores.reasons, strict=True):
        assert valid or reason
    torch.testing.assert_close(scores.overall[-1], reward(samples=samples[:1]).overall[0], atol=1e-5, rtol=0)


def test_gradients_reach_the_pixels_where_promised(reward: RewardModel, samples: list[Sample]) -> None:
    image = samples[0].frames()[0].clone().requires_grad_()
    scores = reward(samples=[Sample(PROMPTS[0], image)])
    if not reward.differentiable:
        assert not scores.overall.requires_grad
        return
    scores.overall.sum().backward()
    assert image.grad is not None and float(image.grad.abs().max()) > 0


VIDEO_REWARDS = [
    name
    for name, entry in rewardmodels.available().items()
    if "video" in entry.modalities and not entry.over_sets
]


@pytest.mark.parametrize("name", VIDEO_REWARDS)
def test_videos_are_judged_alone_as_in_a_batch(name: str, tmp_path: Path) -> None:
    reward = tiny_rewards.load(name, tmp_path)
    assert "video" in reward.modalities and reward.name == name
    moving = torch.stack([render(PROMPTS, seed=k) for k in range(3)], 1)
    videos = [Sample(prompt, frames) for prompt, frames in zip(PROMPTS, moving, strict=True)]
    broken = Sample("a red circle", tmp_path / "missing.mp4")
    scores = reward(samples=[*videos, broken])
    assert scores.valid.tolist() == [True] * 4 + [False] and scores.reasons[-1]
    alone = torch.cat([reward(samples=[video]).overall for video in reversed(videos)])
    torch.testing.assert_close(scores.overall[:4], alone.flip(0), atol=1e-5, rtol=0)


# ---------------------------------------------------------------- edits

EDIT_REWARDS = [
    name
    for name, entry in rewardmodels.available().items()
    if "edit" in entry.modalities and not entry.over_sets and not entry.beside and name != "judge"
]
"""Without `judge`, whose file says what it judges: that of its tiny stand-in is one of pictures."""


def test_every_reward_is_in_a_contract() -> None:
    """Those over sets and those that want a reference have tests of their own."""
    alone = {n for n, entry in rewardmodels.available().items() if not entry.over_sets and not entry.beside}
    assert alone <= {*REWARDS, *VIDEO_REWARDS, *EDIT_REWARDS}


@pytest.fixture(scope="module", params=EDIT_REWARDS)
def editor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RewardModel:
    """A reward of edits."""
    reward = tiny_rewards.load(request.param, tmp_path_factory.mktemp("weights"))
    assert reward.name == request.param and "edit" in reward.modalities
    return reward


@pytest.fixture(scope="module")
def edits() -> list[Sample]:
    """Two edits of each of four sources."""
    sources, first, second = (render(PROMPTS, seed=seed) for seed in (1, 2, 3))
    return [
        Sample(prompt, media, source, f"{k}-{i}")
        for k, made in enumerate((first, second.roll(1, 0)))
        for i, (prompt, media, source) in enumerate(zip(PROMPTS, made, sources, strict=True))
    ]


def test_edits_are_judged_alone_as_in_a_batch_in_any_order(editor: RewardModel, edits: list[Sample]) -> None:
    together = editor(samples=edits)
    assert together.names == editor.dimensions and together.values.shape == (8, len(editor.dimensions))
    assert bool(together.valid.all()), together.reasons
    alone = torch.cat([editor(samples=[edit]).overall for edit in edits])
    torch.testing.assert_close(together.overall, alone, atol=1e-5, rtol=0)
    order = [5, 0, 7, 2, 1, 6, 4, 3]
    turned = editor(samples=[edits[i] for i in order]).overall
    torch.testing.assert_close(turned, together.overall[order], atol=1e-5, rtol=0)


def test_edits_score_twice_the_same(editor: RewardModel, edits: list[Sample]) -> None:
    first, second = editor(samples=edits), editor(samples=edits)
    assert torch.equal(first.overall, second.overall)
    assert torch.equal(first.values.nan_to_num(), second.values.nan_to_num())


def test_a_judge_of_edits_alone_looks_at_the_source(editor: RewardModel, edits: list[Sample]) -> None:
    if editor.modalities != {"edit"}:
        return
    assert float(editor(samples=edits).overall.std()) > 0
    others = [replace(edit, source=1 - edit.source_frames()) for edit in edits]  # type: ignore[operator]
    assert not torch.equal(editor(samples=edits).overall, editor(samples=others).overall)
    (bare,) = editor(samples=[replace(edits[0], source=None)]).reasons
    assert bare


def test_a_broken_edit_harms_no_other(editor: RewardModel, edits: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    good = edits[0].source_frames()
    assert good is not None
    bad = [
        replace(edits[0], media=tmp_path / "missing.png"),
        replace(edits[0], media=torch.full((3, 32, 32), float("nan"))),
        replace(edits[0], source=tmp_path / "missing.png"),
        replace(edits[0], source=tmp_path / "cut.png"),
        replace(edits[0], source=torch.full((3, 32, 32), float("nan"))),
        replace(edits[0], source=torch.full((3, 32, 32), 7.0)),
        replace(edits[0], source=torch.rand(1, 32, 32)),
    ]
    scores = editor(samples=[edits[0], *bad, edits[1]])
    assert scores.valid.tolist() == [True, *[False] * len(bad), True]
    assert bool(torch.isnan(scores.overall[1:-1]).all()) and bool(torch.isnan(scores.values[1:-1]).all())
    assert all(reason for reason in scores.reasons[1:-1])
    torch.testing.assert_close(scores.overall[[0, -1]], editor(samples=edits[:2]).overall, atol=1e-5, rtol=0)
