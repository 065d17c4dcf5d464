"""Annotators of different tastes: each type likes one colour and dislikes another, by a known law.

What one type prefers another rejects, so a reward that knows no types can only guess: the world in which personal
rewards are tested. The law is `annotators.Law` with the lure (share of liked things) - (share of disliked things).

Legend: B pictures, H W side, N votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmalign.seeds import seed_of
from mmalign.shapes.annotators import Law, annotate, best_accuracy, color_lure, probabilities
from mmalign.shapes.drawing import draw
from mmalign.shapes.layout import sample_scene
from mmalign.shapes.prompts import phrase, sample_specs
from mmalign.shapes.scene import BACKGROUND, COLORS, PALETTE
from mmalign.types import Sample

TASTES: tuple[tuple[str, str], ...] = (
    ("red", "blue"),
    ("blue", "red"),
    ("green", "yellow"),
    ("yellow", "green"),
)
LAW = Law(temperature=1.0, lure_weight=4.0)
PICTURES = 256


@dataclass(frozen=True, eq=False)
class TasteVotes:
    """N votes: who (annotator k is of type k modulo their number), which two samples, and whether the first won."""

    annotator: list[str]
    pairs: list[tuple[Sample, Sample]]
    label: list[float]
    best: dict[str, float]
    """The accuracy that nobody can beat on an annotator's votes, in expectation."""
    chance: list[float]
    """p(the first wins) by the annotator's law."""


def palette(images: Tensor, prompts: Sequence[str]) -> Tensor:
    """A feature map: the share of pixels (B, 6) of pictures (B, 3, H, W) that are nearest to each colour of the world.

    >>> palette(torch.tensor(BACKGROUND).view(1, 3, 1, 1).expand(1, 3, 4, 4), ["a red circle"]).sum().item()
    0.0
    """
    known = torch.tensor([*PALETTE.values(), BACKGROUND])
    apart = (images[:, None] - known.view(1, -1, 3, 1, 1)).square().sum(dim=2)
    nearest = apart.argmin(dim=1)
    return torch.stack([(nearest == k).float().mean(dim=(1, 2)) for k in range(len(COLORS))], dim=1)


def taste_votes(
    split: str, *, num_annotators: int, num_votes: int, num_tastes: int = 2, law: Law = LAW, seed: int = 0
) -> TasteVotes:
    """Votes on pairs of pictures that differ in what a type cares for, every annotator's from a stream of his own."""
    if not 2 <= num_tastes <= len(TASTES):
        raise ValueError(f"num_tastes must be from 2 to {len(TASTES)}, got {num_tastes}")
    rng = np.random.default_rng(seed_of("shapes-tastes", split, seed))
    specs = sample_specs(split, PICTURES, seed=int(rng.integers(2**31)))
    scenes = [sample_scene(spec, rng) for spec in specs]
    images = draw(scenes)
    samples = [
        Sample(phrase(s, rng), image, id=str(k))
        for k, (s, image) in enumerate(zip(specs, images, strict=True))
    ]
    lures = torch.stack(
        [color_lure(scenes, likes) - color_lure(scenes, dislikes) for likes, dislikes in TASTES]
    )
    made = TasteVotes([], [], [], {}, [])
    for k in range(num_annotators):
        lure, name = lures[k % num_tastes], f"annotator-{k}"
        draws = torch.Generator().manual_seed(seed_of("shapes-taste", split, seed, k))
        rows = torch.randint(PICTURES, (2, 16 * num_votes), generator=draws)
        rows = rows[:, lure[rows[0]] != lure[rows[1]]][:, :num_votes]
        nothing = torch.zeros(rows.shape[1])
        label = annotate(nothing, nothing, law, draws, lure[rows[0]], lure[rows[1]])
        made.annotator.extend([name] * rows.shape[1])
        made.pairs.extend((samples[i], samples[j]) for i, j in rows.T.tolist())
        made.label.extend((label == 0).float().tolist())
        made.chance.extend(probabilities(nothing, nothing, law, lure[rows[0]], lure[rows[1]])[:, 0].tolist())
        made.best[name] = best_accuracy(nothing, nothing, law, lure[rows[0]], lure[rows[1]]).strict_unordered
    return made
