"""The nouns: invariants of the records, and that importing mmalign needs no torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mmalign
import rewardmodels
from mmalign.types import Conditions, PreferencePair, RewardModel, Sample, Scores, Trajectory
from rewardmodels.asking import ask


def test_import_is_lazy() -> None:
    code = "import sys, mmalign; assert 'torch' not in sys.modules; mmalign.Sample; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        mmalign.Nothing  # noqa: B018
    assert all(getattr(mmalign, name) is not None for name in mmalign.__all__)


def test_sample_frames_are_float_in_time_channel_height_width() -> None:
    image = torch.full((3, 4, 5), 255, dtype=torch.uint8)
    assert Sample("p", image).frames().shape == (1, 3, 4, 5)
    assert Sample("p", image).frames().max() == 1.0
    assert Sample("p", torch.rand(2, 3, 4, 4).half()).frames().dtype == torch.float32
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        Sample("p", torch.rand(4, 4)).frames()
    with pytest.raises(ValueError, match="uint8"):
        Sample("p", torch.zeros(3, 4, 4, dtype=torch.int64)).frames()


def test_sample_reads_files(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4, 2), (255, 0, 0)).save(tmp_path / "red.png")
    sample = Sample("p", tmp_path / "red.png", source=tmp_path / "red.png")
    assert sample.frames().shape == (1, 3, 2, 4)
    torch.testing.assert_close(sample.frames()[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.0]))
    source = sample.source_frames()
    assert source is not None and torch.equal(source, sample.frames())


def test_modality_follows_from_the_media() -> None:
    assert Sample("p", torch.rand(3, 4, 4)).modality == "image"
    assert Sample("p", torch.rand(1, 3, 4, 4)).modality == "image"
    assert Sample("p", torch.rand(2, 3, 4, 4)).modality == "video"
    assert Sample("p", Path("a.MP4")).modality == "video"
    assert Sample("p", Path("a.png")).modality == "image"
    assert Sample("p", torch.rand(3, 4, 4), source=Path("a.png")).modality == "edit"


def test_a_video_made_from_a_still_is_judged_only_by_what_judges_videos_too() -> None:
    still, clip = torch.rand(3, 4, 4), torch.rand(2, 3, 4, 4)
    assert Sample("p", clip, source=still).kinds == {"edit", "video"}
    assert Sample("p", Path("a.mp4"), source=Path("a.png")).kinds == {"edit", "video"}
    assert Sample("p", clip, source=clip).kinds == Sample("p", still, source=still).kinds == {"edit"}
    assert Sample("p", clip).kinds == {"video"}
    for name in ("shapes-edits-reward", "jpeg-compressibility"):
        reward = rewardmodels.load(name)
        scores = [
            ask(reward, [Sample("p", clip, source=still)]),
            reward(samples=[Sample("p", clip, source=still)]),
        ]
        assert all(not one.valid[0] and "not video" in str(one.reasons[0]) for one in scores)
    assert ask(rewardmodels.load("sharpness"), [Sample("p", clip, source=still)]).valid[0]


def test_scores_invalid_rows_are_nan_with_a_reason() -> None:
    scores = Scores(
        torch.ones(2, 1), ("x",), torch.ones(2), torch.tensor([True, False]), (None, "broken file")
    )
    assert scores.overall[0] == 1 and scores.overall[1].isnan() and scores.values[1].isnan().all()
    with pytest.raises(ValueError, match="no reason"):
        Scores(torch.ones(1, 1), ("x",), torch.ones(1), torch.tensor([False]), (None,))
    with pytest.raises(ValueError, match="not finite"):
        Scores.of(torch.tensor([[float("nan")]]), ("x",))
    with pytest.raises(ValueError, match="need"):
        Scores.of(torch.ones(2, 3), ("x",))


def test_scores_keep_their_gradient() -> None:
    values = torch.ones(2, 1, requires_grad=True)
    Scores.of(values, ("x",)).overall.sum().backward()
    assert values.grad is not None and values.grad.eq(1).all()


def test_scores_cat_and_select_are_inverse() -> None:
    a, b = Scores.of(torch.rand(2, 2), ("x", "y")), Scores.failed(["why"], ("x", "y"))
    both = Scores.cat([a, b])
    assert len(both) == 3 and both.reasons == (None, None, "why")
    back = both.select([2, 0])
    assert back.reasons == ("why", None) and back.overall[1] == a.overall[0]
    with pytest.raises(ValueError, match="one set of names"):
        Scores.cat([a, Scores.failed(["why"], ("z",))])


def test_the_variance_of_overall_is_that_of_a_mean_unless_told() -> None:
    plain, logs = Scores.of(torch.tensor([[1.0, 3.0]]), ("x", "y")), torch.tensor([[1.0, 3.0]]).log()
    mean = replace(plain, log_variance=logs)
    assert mean.overall_log_variance is not None
    assert mean.overall_log_variance.exp().item() == pytest.approx((1 + 3) / 4)
    told = replace(plain, log_variance=logs, overall_log_variance=torch.tensor([2.0]))
    both = Scores.cat([told, mean]).select([1, 0])
    assert both.overall_log_variance is not None and both.overall_log_variance.tolist() == [0.0, 2.0]
    for name, expected in (("y", logs[0, 1]), ("overall", torch.tensor(2.0))):
        found = told.of_dimension(name)[1]
        assert found is not None and found.item() == expected.item()
    with pytest.raises(ValueError, match="shape of overall"):
        replace(plain, overall_log_variance=torch.zeros(2))
    with pytest.raises(ValueError, match=r"all parts of .* have log_variance"):
        Scores.cat([plain, told])


def test_conditions_repeat_select_cat_both_sides() -> None:
    sides = [Conditions({"p": torch.arange(2.0) + i}, {"p": torch.zeros(2)}) for i in (0, 10)]
    both = Conditions.cat(sides)
    assert both.batch_size == 4 and both.tensors["p"].tolist() == [0, 1, 10, 11]
    assert both.negative is not None and both.negative["p"].shape == (4,)
    assert both.select([3, 0]).tensors["p"].tolist() == [11, 0]
    assert both.repeat_interleave(2).tensors["p"].tolist() == [0, 0, 1, 1, 10, 10, 11, 11]
    assert both.without_prompt(torch.tensor([True, False, False, True])).tensors["p"].tolist() == [
        0,
        1,
        10,
        0,
    ]
    mixed = Conditions({"p": torch.ones(1), "ids": torch.ones(1, dtype=torch.long)}).to(dtype=torch.float16)
    assert mixed.tensors["p"].dtype == torch.float16 and mixed.tensors["ids"].dtype == torch.long
    with pytest.raises(ValueError, match="negative side"):
        Conditions.cat([sides[0], Conditions({"p": torch.ones(1)})])
    with pytest.raises(ValueError, match="no negative side"):
        mixed.without_prompt(torch.tensor([True]))


def test_trajectory_select_keeps_what_belongs_to_steps() -> None:
    trajectory = Trajectory(
        latents=torch.rand(3, 5, 2),
        levels=torch.linspace(1, 0, 5),
        steps=torch.tensor([1, 2]),
        log_probs=torch.rand(3, 2),
        means=torch.rand(3, 2, 2),
        stds=torch.rand(2),
        conditions=Conditions({"p": torch.arange(3)}),
        groups=torch.tensor([0, 0, 1]),
    )
    part = trajectory.select([2, 1])
    assert torch.equal(part.clean, trajectory.latents[[2, 1], -1])
    assert part.groups.tolist() == [1, 0] and part.levels.shape == (5,) and part.stds.shape == (2,)
    assert part.means is not None and part.means.shape == (2, 2, 2)
    assert part.conditions.tensors["p"].tolist() == [2, 1]


def test_a_swapped_pair_says_the_same() -> None:
    a, b = Sample("p", torch.zeros(3, 2, 2)), Sample("p", torch.ones(3, 2, 2))
    pair = PreferencePair("p", a, b, {"overall": 0.75})
    assert pair.swapped().a is b and pair.swapped().labels == {"overall": 0.25}


def test_reward_model_is_a_protocol() -> None:
    class Bright:
        name, modalities, dimensions, differentiable = "bright", frozenset({"image"}), ("brightness",), True

        def __call__(self, *, samples: list[Sample]) -> Scores:
            return Scores.of(torch.stack([s.frames().mean() for s in samples])[:, None], self.dimensions)

    assert isinstance(Bright(), RewardModel)
    assert Bright()(samples=[Sample("p", torch.ones(3, 2, 2))]).overall.tolist() == [1.0]
