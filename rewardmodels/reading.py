"""From the samples of a bundle to scores: one forward pass, and what cannot be read.

Every sample is scored once however many pairs it is in, every picture is read once however many prompts ask about it.

Legend: P pairs, S distinct samples of a bundle, D dimensions, G prompts with N candidates each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmalign.train.skips import problems
from mmalign.types import PreferencePair, Sample
from rewardmodels.batching import require_kind
from rewardmodels.clips import Clip, read_clip
from rewardmodels.heads import Readout
from rewardmodels.heads.scalar import CandidateHead
from rewardmodels.inputs import InputBuilder, VlmInputs
from rewardmodels.losses import Listed
from rewardmodels.vlm import VlmReward

Clips = dict[object, Clip]
"""Decoded media by path, or by the id() of a tensor."""


def distinct(pairs: Sequence[PreferencePair]) -> tuple[list[Sample], Tensor, Tensor]:
    """The samples of all pairs, each once, and where a and b of every pair stand among them, (P,) each."""
    places: dict[int, int] = {}
    samples: list[Sample] = []
    for pair in pairs:
        for sample in (pair.a, pair.b):
            if id(sample) not in places:
                places[id(sample)] = len(samples)
                samples.append(sample)
    first = torch.tensor([places[id(pair.a)] for pair in pairs])
    second = torch.tensor([places[id(pair.b)] for pair in pairs])
    return samples, first, second


def inputs_of(
    model: VlmReward,
    samples: Sequence[Sample],
    builder: InputBuilder | None = None,
    clips: Clips | None = None,
) -> VlmInputs:
    """One batch for all samples; a picture that several samples share is decoded and read once."""
    media, sources = _decoded(model, samples, clips)
    return (builder or model.builder)(
        [sample.prompt for sample in samples], media, sources,
        share=model.vlm.config._attn_implementation == "sdpa",
    )  # fmt: skip


def _decoded(
    model: VlmReward, samples: Sequence[Sample], clips: Clips | None = None
) -> tuple[list[Clip], list[Clip] | None]:
    """Media and sources (or None), every medium decoded once, however many samples share it; `clips` are known."""
    decoded: Clips = {} if clips is None else clips
    sources = [_clip(model, one.source, one, decoded) for one in samples if one.source is not None]
    if sources and len(sources) != len(samples):
        raise ValueError("all samples of a bundle must have a source, or none: split the data by task")
    return [_clip(model, one.media, one, decoded) for one in samples], sources or None


def _clip(model: VlmReward, media: Tensor | Path, sample: Sample, clips: Clips) -> Clip:
    key = id(media) if isinstance(media, Tensor) else media
    if key not in clips:
        clips[key] = read_clip(media, model.builder.video, sample.metadata)
    return clips[key]


def unreadable(model: VlmReward, samples: Sequence[Sample], clips: Clips) -> dict[int, str]:
    """Why samples (by their id()) cannot be read: media, a source where most have none, or a kind that the model does
    not judge. Fills `clips`.
    """
    with_source = [sample for sample in samples if sample.source is not None]
    edits = 2 * len(with_source) >= len(samples)

    def decode(sample: Sample) -> None:
        if (sample.source is not None) != edits and with_source:
            raise ValueError(
                f"it has {'no' if edits else 'a'} source, unlike most others: split the data by task"
            )
        require_kind(sample, model.modalities)
        for media in (sample.media, sample.source):
            if media is not None:
                _clip(model, media, sample, clips)

    return problems(samples, decode)


def refused(model: VlmReward, samples: Sequence[Sample], clips: Clips) -> dict[int, str]:
    """Why samples (by their id()) that were decoded make no input even alone: prompts that are too long, and such."""

    def build(sample: Sample) -> None:
        media, sources = _decoded(model, [sample], clips)
        for builder in model.builders:
            builder([sample.prompt], media, sources)

    return problems(samples, build)


def read_samples(model: VlmReward, samples: Sequence[Sample], clips: Clips | None = None) -> Readout:
    """What the head says of every sample, one by one."""
    if isinstance(model.head, CandidateHead):
        media, sources = _decoded(model, samples, clips)
        prompts = [sample.prompt for sample in samples]
        return model.read(model.builder.together(prompts, [[one] for one in media], sources))
    return model.read(*(inputs_of(model, samples, builder, clips) for builder in model.builders))


def read_lists(
    model: VlmReward, lists: Sequence[Listed], generator: torch.Generator, clips: Clips | None = None
) -> Tensor:
    """Scores (G, N) of the candidates of G prompts, or of G media under N prompts; all lists are of one kind.

    Candidates that share a forward pass stand in a random order, and in companies of a random size (1, 2, 4 ... up to
    `num_together`): so scores do not depend on the place, and those of different companies can be compared.
    """
    num = len(lists[0].samples)
    if not isinstance(model.head, CandidateHead):
        samples = list({id(s): s for one in lists for s in one.samples}.values())
        place = {id(sample): i for i, sample in enumerate(samples)}
        values = read_samples(model, samples, clips).values[:, 0]
        return values[
            torch.tensor([[place[id(s)] for s in one.samples] for one in lists], device=values.device)
        ]
    most = min(num, model.head.num_together) if lists[0].one_prompt else 1
    sizes = [size for size in range(1, most + 1) if num % size == 0]
    size = sizes[int(torch.randint(len(sizes), (), generator=generator))]
    orders = torch.stack([torch.randperm(num, generator=generator) for _ in lists])
    rows = [
        [one.samples[i] for i in part]
        for one, order in zip(lists, orders, strict=True)
        for part in order.view(-1, size).tolist()
    ]
    media, sources = _decoded(model, [sample for row in rows for sample in row], clips)
    inputs = model.builder.together(
        [row[0].prompt for row in rows],
        [media[n * size : (n + 1) * size] for n in range(len(rows))],
        None if sources is None else sources[::size],
    )
    scores = model.read(inputs).values.view(len(lists), num)
    return scores.gather(1, orders.argsort(dim=1).to(scores.device))
