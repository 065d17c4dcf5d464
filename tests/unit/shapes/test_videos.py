"""The video world: prompts read back, true clips pass, still and reversed and other clips fail."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from mmalign.shapes.scene import PALETTE
from mmalign.shapes.video_verifier import verify_video
from mmalign.shapes.videos import (
    VIDEO_KINDS,
    Clip,
    VideoSpec,
    all_video_specs,
    draw_clips,
    parse_video,
    sample_clip,
    sample_clips,
    video_phrasings,
    video_specs,
)


def clips_and_videos(num: int, frames: int = 8):
    train, held = (sample_clips(split, num // 2, 3, frames) for split in ("train", "heldout"))
    prompts, specs, clips = (a + b for a, b in zip(train, held, strict=True))
    return prompts, specs, clips, draw_clips(clips)


def entails(clip: Clip, spec: VideoSpec, asked: VideoSpec) -> bool:
    """Whether a clip of `spec` is also one of `asked`: only a free colour can make it so."""
    colors = (None, clip.start.things[0].color)
    same = (spec.kind, spec.value, spec.still) == (asked.kind, asked.value, asked.still)
    return same and spec.subject.shape == asked.subject.shape and asked.subject.color in colors


def video_of(prompt: str, frames: int = 8, seed: int = 0) -> torch.Tensor:
    return draw_clips([sample_clip(parse_video(prompt), np.random.default_rng(seed), frames)])


def test_every_prompt_is_read_back_and_the_split_is_disjoint():
    for spec in all_video_specs():
        text = video_phrasings(spec)[-1]
        assert parse_video(text) == spec and len(text.split()) <= 12
    for spec in all_video_specs()[::17]:
        assert all(parse_video(text) == spec for text in video_phrasings(spec))
    train, held = video_specs("train"), video_specs("heldout")
    assert not set(train) & set(held) and len(train) + len(held) == len(all_video_specs())
    assert {spec.kind for spec in held} == set(VIDEO_KINDS)
    assert {(spec.kind, spec.value) for spec in train} == {(s.kind, s.value) for s in all_video_specs()}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a red circle flies away", "flies away"),
        ("a pink circle grows", "pink"),
        ("a red circle turns red", "outside this world"),
        ("a large red circle grows", "outside this world"),
        ("a red circle grows near a blue square", "near"),
        ("a red circle grows and a blue square sings", "sings"),
        ("", "the end"),
    ],
)
def test_unreadable_prompt_is_named(text, named):
    with pytest.raises(ValueError, match=named):
        parse_video(text)


def test_clips_are_seeded_and_valid_in_every_frame():
    prompts, specs, clips, videos = clips_and_videos(60, 12)
    assert videos.shape == (60, 12, 3, 32, 32) and videos.min() >= 0 and videos.max() <= 1
    assert all(scene.valid() for clip in clips for scene in clip.frames())
    assert sample_clips("train", 10, 1)[2] == sample_clips("train", 10, 1)[2]
    assert [parse_video(prompt) for prompt in prompts] == specs
    with pytest.raises(ValueError, match="one length"):
        draw_clips([clips[0], sample_clip(specs[0], np.random.default_rng(0), 8)])


def test_colours_change_evenly():
    clip = sample_clip(parse_video("a red square turns blue"), np.random.default_rng(0), 9)
    thing = clip.start.things[0]
    video = draw_clips([clip])[0, :, :, int(thing.y * 32), int(thing.x * 32)]
    ends = torch.tensor([PALETTE["red"], PALETTE["blue"]])
    assert torch.allclose(video[[0, -1]], ends, atol=1e-6)
    assert torch.allclose(video[4], ends.mean(0), atol=1e-6)


def test_true_clips_pass_and_others_fail():
    check_clips(150, 8)


@pytest.mark.slow
def test_many_true_clips():
    check_clips(2500, 8)
    check_clips(200, 16)


def check_clips(num: int, frames: int):
    prompts, specs, clips, videos = clips_and_videos(num, frames)
    verdict = verify_video(videos, prompts)
    assert verdict.passed.float().mean() >= 0.995
    assert torch.equal(verdict.passed, verdict.instruction_following == 1)
    assert verdict.motion_quality.mean() > 0.97 and verdict.visual_quality.mean() > 0.95
    still = verify_video(videos[:, :1].expand_as(videos), prompts)
    backward = verify_video(videos.flip(1), prompts)
    assert not still.passed.any() and not backward.passed.any()
    assert still.overall.max() < 0.4 and backward.overall.max() < 0.4
    order = np.random.default_rng(0).permutation(num).tolist()
    wrong = [i for i, j in enumerate(order) if not entails(clips[i], specs[i], specs[j])]
    other = verify_video(videos[wrong], [prompts[order[i]] for i in wrong])
    assert len(wrong) > 0.9 * num and other.passed.float().mean() <= 0.02


def test_true_clips_pass_after_the_blur_and_noise_of_a_reconstruction():
    prompts, _, _, videos = clips_and_videos(90)
    blurred = torch.from_numpy(ndimage.gaussian_filter(videos.numpy(), (0, 0, 0, 0.5, 0.5)))
    noise = 0.03 * torch.randn(videos.shape, generator=torch.Generator().manual_seed(0))
    verdict = verify_video((blurred + noise).clamp(0, 1), prompts)
    assert verdict.passed.float().mean() >= 0.97


def test_direction_and_companion_are_judged():
    video = video_of("a red circle moves right while a blue square stays still")
    asked = [
        "a red circle moves right and a blue square stays still",
        "a red circle moves left and a blue square stays still",
        "a red circle moves right",
        "a blue square moves right and a red circle stays still",
        "a red circle moves right and a green square stays still",
    ]
    verdict = verify_video(video.expand(5, -1, -1, -1, -1), asked)
    assert verdict.passed.tolist() == [True, False, False, False, False]
    mirrored = verify_video(video.flip(-1), asked[1:2])
    assert mirrored.passed.all()


def test_jumps_cost_motion_quality():
    video = video_of("a red circle moves right", 9)
    jump = video[:, [0, 0, 0, 0, 0, 8, 8, 8, 8]]
    back_and_forth = video[:, [0, 4, 1, 5, 2, 6, 3, 7, 8]]
    verdict = verify_video(torch.cat([video, jump, back_and_forth]), ["a red circle moves right"] * 3)
    assert verdict.passed.tolist() == [True, True, False]
    even, jumpy, erratic = verdict.motion_quality.tolist()
    assert even > 0.95 > 0.75 > jumpy > erratic
    assert verdict.overall[0] > verdict.overall[1] > verdict.overall[2]


def test_a_thing_that_vanishes_or_doubles_fails():
    video = video_of("a red circle grows")
    gone = video.clone()
    gone[:, 2:6] = video[:, 0, :, :1, :1].unsqueeze(1)
    double = torch.minimum(video, video_of("a green cross moves up"))
    verdict = verify_video(torch.cat([video, gone, double]), ["a red circle grows"] * 3)
    assert verdict.passed.tolist() == [True, False, False]
    assert verdict.motion_quality[1] < 0.7


def test_odd_pixels_fail_and_odd_arguments_are_named():
    prompts, _, _, videos = clips_and_videos(24)
    noise = torch.rand(videos.shape, generator=torch.Generator().manual_seed(0))
    for video in (noise, videos * float("nan"), torch.ones_like(videos)):
        verdict = verify_video(video, prompts)
        assert not verdict.passed.any() and verdict.overall.max() < 0.05
    with pytest.raises(ValueError, match="B, T, 3"):
        verify_video(videos[:, 0], prompts)
    with pytest.raises(ValueError, match="3 or more frames"):
        verify_video(videos[:, :2], prompts)
