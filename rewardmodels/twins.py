"""Further training pairs with known answers, made of the pairs of a file: what must not count, and what must.

- neutral: a picture beside its twin, in which one spurious factor alone is changed: saturation, sharpness or the size
  of the file (JPEG). They must tie, in every dimension.
- contrast: a sample under its own prompt and under another one of the file, which must lose, in the dimensions that are
  about the prompt (`rewardmodels.recipe.PROMPTED`).

Changes are so small that people would hardly see them: colours a tenth to a quarter stronger or weaker, edges
sharpened or softened over 1/400 of the shorter side, JPEG of quality 67 to 95. Larger ones are faults, which a reward
should mind (`rewardmodels.trust.probes`). Everything follows from the pairs and a seeded generator, so that a resumed
run makes the same.

Legend: C H W of one picture in [0, 1]; an amount lies in -1 to -0.4 or 0.4 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmalign.media import is_video
from mmalign.shapes.neutral import compress, saturate
from mmalign.types import PreferencePair, Sample
from rewardmodels.recipe import PROMPTED
from rewardmodels.trust.changes import gaussian

Change = Callable[[Tensor, float], Tensor]


def _saturated(picture: Tensor, amount: float) -> Tensor:
    return saturate(picture[None], torch.tensor([0.5 * amount]))[0]


def _sharpened(picture: Tensor, amount: float) -> Tensor:
    blurred = gaussian(picture[None], max(0.5, min(picture.shape[-2:]) / 400))[0]
    return (picture + amount * (picture - blurred)).clamp(0, 1)


def _compressed(picture: Tensor, amount: float) -> Tensor:
    return compress(picture[None], torch.tensor([(1 + amount) / 2]))[0]


CHANGES: dict[str, Change] = {"saturation": _saturated, "sharpness": _sharpened, "file_size": _compressed}


def is_picture(sample: Sample) -> bool:
    """Whether it is a single picture and no edit, whose twin can be made."""
    if sample.source is not None:
        return False
    return sample.media.ndim == 3 if isinstance(sample.media, Tensor) else not is_video(sample.media)


def neutral_pairs(
    pairs: Sequence[PreferencePair], num: int, dimensions: Sequence[str], draws: torch.Generator
) -> list[PreferencePair]:
    """`num` pairs of a picture among these pairs and its twin, each factor in turn; less those that cannot be read."""
    made = []
    for place, sample in enumerate(_drawn([s for s in _samples(pairs) if is_picture(s)], num, draws)):
        name = tuple(CHANGES)[place % len(CHANGES)]
        size, sign = 0.4 + 0.6 * _uniform(draws), 1 if _uniform(draws) < 0.5 else -1
        try:
            picture = sample.frames()[0]
        except (ValueError, OSError):
            continue  # whoever reads the picture itself says so, and counts it
        about = {**sample.metadata, "change": f"neutral/{name}"}
        twin = replace(sample, media=CHANGES[name](picture, sign * size), metadata=about)
        made.append(_pair(sample, twin, dict.fromkeys(dimensions, 0.5)))
    return made


def contrast_pairs(
    pairs: Sequence[PreferencePair], num: int, dimensions: Sequence[str], draws: torch.Generator,
    other_prompt: Callable[[str, torch.Generator], str | None],
) -> list[PreferencePair]:  # fmt: skip
    """`num` pairs of a sample under its prompt and under another; less those for which no other was found."""
    made = []
    labels = {name: 1.0 for name in dimensions if name in PROMPTED}
    for sample in _drawn(_samples(pairs), num, draws):
        other = other_prompt(sample.prompt, draws)
        if other is not None:
            wrong = replace(sample, prompt=other, metadata={**sample.metadata, "change": "contrast"})
            made.append(_pair(sample, wrong, labels))
    return made


def _pair(sample: Sample, other: Sample, labels: dict[str, float]) -> PreferencePair:
    ties = {name: p == 0.5 for name, p in labels.items()}
    return PreferencePair(sample.prompt, sample, other, labels, ties, group=sample.prompt)


def _samples(pairs: Sequence[PreferencePair]) -> list[Sample]:
    return list({id(s): s for pair in pairs for s in (pair.a, pair.b)}.values())


def _drawn(samples: Sequence[Sample], num: int, draws: torch.Generator) -> list[Sample]:
    """`num` of the samples in random order, all of them before one comes again."""
    order: list[int] = []
    while samples and len(order) < num:
        order += torch.randperm(len(samples), generator=draws).tolist()
    return [samples[k] for k in order[:num]]


def _uniform(draws: torch.Generator) -> float:
    return float(torch.rand((), generator=draws))
