"""Families of edits and videos: reproducible, judged as the verifiers judge, with true ones and near misses in them."""

from __future__ import annotations

import pytest
import torch

from mmalign.shapes.annotators import Law
from mmalign.shapes.edit_verifier import verify_edit
from mmalign.shapes.pairs import preference_pairs, samples_of
from mmalign.shapes.ratings import rate
from mmalign.shapes.video_verifier import verify_video
from mmalign.shapes.worlds import WORLDS

SMALL = {"num_families": 4, "num_prompts": 3, "num_images": 3}


@pytest.mark.parametrize("name", ["shapes-edits", "shapes-videos"])
def test_a_block_is_a_function_of_its_number_and_says_what_its_world_can(name: str) -> None:
    world = WORLDS[name]
    first, again, other = (world.make("train", 3, number, **SMALL) for number in (5, 5, 6))
    assert first.prompts == again.prompts and torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert tuple(first.aspects) == world.dimensions
    words = set(world.words())
    for prompts in first.prompts:
        for prompt in prompts:
            assert world.parse(prompt) and set(prompt.split()) <= words
    with pytest.raises(ValueError, match="no dimension 'beauty'"):
        first.worth("beauty")
    with pytest.raises(ValueError, match="unknown kind"):
        world.make("train", 0, 0, categories=["colors"], **SMALL)


def test_edits_are_judged_as_the_verifier_judges() -> None:
    block = WORLDS["shapes-edits"].make("train", 0, 1, **SMALL)
    assert block.sources is not None
    samples = samples_of(block)
    sources = torch.stack([sample.source for sample in samples])  # type: ignore[misc]
    edited = torch.stack([sample.media for sample in samples])  # type: ignore[misc]
    verdict = verify_edit(sources, edited, [sample.prompt for sample in samples])
    for aspect in ("instruction_following", "preservation", "visual_quality"):
        torch.testing.assert_close(block.aspects[aspect].flatten(), getattr(verdict, aspect).float())
    expected = verdict.overall + 0.3 * verdict.preservation + 0.5 * verdict.passed
    torch.testing.assert_close(block.utility.flatten(), expected.float())


def test_videos_are_judged_as_the_verifier_judges() -> None:
    block = WORLDS["shapes-videos"].make("train", 0, 1, **SMALL)
    samples = samples_of(block)
    verdict = verify_video(torch.stack([s.media for s in samples]), [s.prompt for s in samples])  # type: ignore[misc]
    torch.testing.assert_close(block.aspects["motion_quality"].flatten(), verdict.motion_quality)
    torch.testing.assert_close(block.utility.flatten(), verdict.overall + 0.5 * verdict.passed)
    assert samples[0].modality == "video"


@pytest.mark.parametrize("name", ["shapes-edits", "shapes-videos"])
def test_true_ones_and_near_misses_are_both_there(name: str) -> None:
    worth = torch.cat([WORLDS[name].make("train", 1, n, damage_share=0.0, **SMALL).utility for n in range(3)])
    assert 0.08 < float((worth >= 1.2).float().mean()) < 0.6
    assert float((worth < 0.6).float().mean()) > 0.2


def test_nothing_done_is_among_the_edits() -> None:
    blocks = [WORLDS["shapes-edits"].make("train", 1, n, damage_share=0.0, **SMALL) for n in range(4)]
    same = [bool((b.images[f, k] == b.sources[f]).all()) for b in blocks for f in range(4) for k in range(3)]  # type: ignore[index]
    assert 0 < sum(same) < len(same) / 2


def test_dimensions_are_labelled_apart_and_overall_as_before() -> None:
    block = WORLDS["shapes"].make("train", 0, 0, num_families=2, num_prompts=2, num_images=2)
    plain = preference_pairs(block, Law(temperature=0.1), seed=1)
    both = preference_pairs(block, Law(temperature=0.1), seed=1, dimensions=("overall", "visual_quality"))
    assert [pair.labels["overall"] for pair in plain] == [pair.labels["overall"] for pair in both]
    assert [pair.labels["overall"] for pair in both] != [pair.labels["visual_quality"] for pair in both]


def test_raters_give_more_to_what_is_worth_more() -> None:
    worth = torch.linspace(0, 1, 5).repeat_interleave(500)
    levels = rate(worth, num_levels=4, temperature=0.1, generator=torch.Generator().manual_seed(0))
    means = levels.view(5, 500).mean(1)
    assert bool((means.diff() > 0.3).all()) and set(levels.tolist()) == {1.0, 2.0, 3.0, 4.0}
    assert float(means[2]) == pytest.approx(2.5, abs=0.15)  # the middle of the scale
    averaged = rate(
        worth, num_levels=4, temperature=0.1, generator=torch.Generator().manual_seed(0), raters=4
    )
    assert float(averaged[:500].std()) <= float(levels[:500].std())
    with pytest.raises(ValueError, match="2 or more levels"):
        rate(worth, num_levels=1, temperature=0.1, generator=torch.Generator())
