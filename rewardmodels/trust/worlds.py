"""Samples of the built-in world to check a reward on, with the exact judge as gold.

Per prompt some pictures do what was asked (`"faithful": true`, these are what probes spoil) and others went wrong in
the ways generators go wrong: another thing, another place, nothing done, damage, frames out of order.

Shape legend: `P` prompts, `K` candidates of a prompt, `T` frames, `C H W` pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from mmalign.seeds import seed_of
from mmalign.shapes.annotators import Law, annotate, best_accuracy
from mmalign.shapes.changes import change
from mmalign.shapes.damage import damage
from mmalign.shapes.drawing import draw
from mmalign.shapes.edit_verifier import verify_edit
from mmalign.shapes.edits import sample_edits
from mmalign.shapes.layout import sample_scene
from mmalign.shapes.prompts import phrase, sample_specs
from mmalign.shapes.scene import Scene
from mmalign.shapes.verifier import verify
from mmalign.shapes.video_verifier import verify_video
from mmalign.shapes.videos import draw_clips, sample_clips
from mmalign.types import Modality, PreferencePair, Sample, Scores
from rewardmodels.batching import Prepared, score

PASS_BONUS = 0.5
"""What a pass adds to the exact judge's graded score in the eyes of the simulated annotator."""
FAITHFUL = 0.45
"""Part of the candidates that do what was asked, at least one."""

Rng = np.random.Generator


@dataclass(frozen=True)
class World:
    """P * K samples, the group of each, and whose word is the truth."""

    name: str
    samples: tuple[Sample, ...]
    groups: tuple[str, ...]
    gold: ExactJudge


@dataclass(frozen=True)
class ExactJudge:
    """The exact judge of a world as a reward; a prompt outside it is NaN with the reason."""

    name: str
    modality: Modality
    judge: Callable[[Sequence[Prepared]], Tensor]
    dimensions: tuple[str, ...] = ("overall",)
    differentiable: bool = False

    @property
    def modalities(self) -> frozenset[Modality]:
        """The one kind of sample it judges."""
        return frozenset({self.modality})

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Graded scores in [0, 1], and half a point for an exact pass."""
        return score(samples, self.judge, names=self.dimensions, modalities=self.modalities, batch_size=64)


def draw_world(name: str, *, num_prompts: int, num_candidates: int, seed: int = 0) -> World:
    """A world by name: shapes, shapes-edits or shapes-videos, of held-out prompts."""
    if name not in WORLDS:
        raise ValueError(f"no world '{name}': there are {', '.join(WORLDS)}")
    if num_prompts < 2 or num_candidates < 2:
        raise ValueError(
            f"a world needs 2 or more prompts and candidates, got {num_prompts}, {num_candidates}"
        )
    maker, gold = WORLDS[name]
    samples = maker(num_prompts, num_candidates, np.random.default_rng(seed_of("trust-world", name, seed)))
    return World(name, tuple(samples), tuple(str(sample.metadata["group"]) for sample in samples), gold)


def label_pairs(
    samples: Sequence[Sample],
    groups: Sequence[str],
    gold: Sequence[float],
    *,
    temperature: float = 0.1,
    seed: int = 0,
) -> tuple[list[PreferencePair], float]:
    """Every pair within a group, labelled by Bradley and Terry's law over gold, and the accuracy nobody can beat.

    Samples without gold are left out; no pair at all is a ValueError.
    """
    members: dict[str, list[int]] = {}
    for k, (group, value) in enumerate(zip(groups, gold, strict=True)):
        if np.isfinite(value):
            members.setdefault(group, []).append(k)
    pairs = [pair for some in members.values() for pair in combinations(some, 2)]
    if not pairs:
        raise ValueError("no prompt has two samples with a gold score: there is no pair to label")
    worth = torch.as_tensor(np.asarray(gold, dtype=np.float64))
    first, second = torch.tensor(pairs).unbind(1)
    law, chance = Law(temperature=temperature), torch.Generator().manual_seed(seed_of("trust-labels", seed))
    labels = annotate(worth[first], worth[second], law, chance).tolist()
    made = [
        PreferencePair(samples[i].prompt, samples[i], samples[j], {"overall": 1.0 - label}, group=groups[i])
        for (i, j), label in zip(pairs, labels, strict=True)
    ]
    return made, best_accuracy(worth[first], worth[second], law).strict


def _pictures(num_prompts: int, num: int, rng: Rng) -> list[Sample]:
    """Pictures: as asked, or with one to three things changed and then perhaps damaged."""
    drawn = sample_specs("heldout", 4 * num_prompts, int(rng.integers(2**31)))
    specs = list(dict.fromkeys(drawn))[:num_prompts]  # a wrong prompt must not mean the same
    good = _num_faithful(num)
    made = []
    for number, spec in enumerate(specs):
        prompt, scenes = phrase(spec, rng), [sample_scene(spec, rng) for _ in range(num)]
        scenes[good:] = [_changed(scene, int(rng.integers(0, 4)), rng) for scene in scenes[good:]]
        images = draw(scenes)
        images[good:] = damage(images[good:], 0.5, _generator(rng))
        made += [_sample(prompt, image, number, k, good) for k, image in enumerate(images)]
    return made


def _edits(num_prompts: int, num: int, rng: Rng) -> list[Sample]:
    """Edits: as asked, or nothing done, something else changed too, or another task's target; perhaps damaged."""
    tasks = sample_edits("heldout", num_prompts, int(rng.integers(2**31)))
    good = _num_faithful(num)
    made = []
    for number, task in enumerate(tasks):
        other = tasks[(number + 1) % len(tasks)]
        wrong = [task.source, _changed(task.target, 1, rng), other.target, _changed(task.source, 1, rng)]
        scenes = [task.target] * good + [wrong[k % len(wrong)] for k in range(num - good)]
        images = draw([task.source, *scenes])
        source, images = images[0], images[1:]
        images[good:] = damage(images[good:], 0.4, _generator(rng))
        made += [_sample(task.instruction, image, number, k, good, source) for k, image in enumerate(images)]
    return made


def _videos(num_prompts: int, num: int, rng: Rng) -> list[Sample]:
    """Clips: as asked, or still, backwards, of another prompt, damaged, or with frames out of order."""
    prompts, _, clips = sample_clips("heldout", num_prompts, int(rng.integers(2**31)))
    videos = draw_clips(clips)
    good = _num_faithful(num)
    made = []
    for number, prompt in enumerate(prompts):
        clip, other = videos[number], videos[(number + 1) % len(videos)]
        wrong = [
            clip[:1].expand_as(clip), clip.flip(0), other, damage(clip, 1.0, _generator(rng)),
            clip[torch.from_numpy(rng.permutation(len(clip)))],
        ]  # fmt: skip
        shown = [clip] * good + [wrong[k % len(wrong)] for k in range(num - good)]
        made += [_sample(prompt, frames.contiguous(), number, k, good) for k, frames in enumerate(shown)]
    return made


def _sample(
    prompt: str, media: Tensor, number: int, k: int, good: int, source: Tensor | None = None
) -> Sample:
    notes = {"group": f"{number}: {prompt}", "faithful": k < good}
    return Sample(prompt, media, source, id=f"{number:04d}-{k:02d}", metadata=notes)


def _num_faithful(num: int) -> int:
    return max(1, round(FAITHFUL * num))


def _changed(scene: Scene, times: int, rng: Rng) -> Scene:
    """The scene after so many changes; an empty one (all was removed) offers nothing to change."""
    for _ in range(times if len(scene) else 0):
        scene = change(scene, rng)
    return scene


def _generator(rng: Rng) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


def _judge_pictures(batch: Sequence[Prepared]) -> Tensor:
    verdict = verify(torch.stack([one.frames[0] for one in batch]), [one.prompt for one in batch])
    return (verdict.overall + PASS_BONUS * verdict.passed)[:, None].float()


def _judge_edits(batch: Sequence[Prepared]) -> Tensor:
    sources = torch.stack([one.source[0] for one in batch if one.source is not None])
    edited = torch.stack([one.frames[0] for one in batch])
    verdict = verify_edit(sources, edited, [one.prompt for one in batch])
    return (verdict.overall + PASS_BONUS * verdict.passed)[:, None].float()


def _judge_videos(batch: Sequence[Prepared]) -> Tensor:
    verdict = verify_video(torch.stack([one.frames for one in batch]), [one.prompt for one in batch])
    return (verdict.overall + PASS_BONUS * verdict.passed)[:, None].float()


WORLDS: dict[str, tuple[Callable[[int, int, Rng], list[Sample]], ExactJudge]] = {
    "shapes": (_pictures, ExactJudge("exact judge of pictures", "image", _judge_pictures)),
    "shapes-edits": (_edits, ExactJudge("exact judge of edits", "edit", _judge_edits)),
    "shapes-videos": (_videos, ExactJudge("exact judge of videos", "video", _judge_videos)),
}
