"""Critique, then score: words about the picture come first, and a reward model with a head reads them too.

MM-RLHF-Reward (arXiv 2502.10391): a critique is appended to the conversation, and a scalar head on the last token
scores picture, prompt and critique. Here the scorer is any reward that reads its prompt, such as a folder of
`mmalign train-reward`; what it reads as prompt is the wording `joined`, with `{prompt}` and `{critique}` in it. Its
template must read the score after the prompt (`media-prompt/1` and most others do), or the critique is not seen.

The critique is written by an engine, or, without one, stands in `metadata["critique"]`. `CritiquedSource` shows a
scorer in training the same words, from the metadata of its samples: `mmalign train-reward` with `data.critiques: true`.

Differences from the paper: critic and scorer may be different models, and are trained apart.

Legend: B samples, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from mmalign.train.skips import Skips, samples_of, usable
from mmalign.types import Modality, PreferencePair, RewardModel, Sample, Scores
from rewardmodels.combine import needs_group
from rewardmodels.judges.chat import Answer, Engine, Review, Sampling
from rewardmodels.judges.settings import Critiqued, JudgeFile
from rewardmodels.judges.speaking import Shown, own_name, question, reviewed, said
from rewardmodels.judges.verdicts import spoken
from rewardmodels.judges.wording import Wording
from rewardmodels.sources import CRITIQUE, PairSource

JOINED = "prompt-and-critique/1"
"""The wording that scorers are trained with; it is that of `critique-then-score` too."""


@dataclass(eq=False)
class CritiquedReward:
    """The scorer's scores of samples whose prompt is followed by a critique; without one there is no score."""

    engine: Engine | None
    settings: JudgeFile
    critiqued: Critiqued
    wordings: Mapping[str, Wording]
    scorer: RewardModel
    seed: int = 0

    name = own_name

    def __post_init__(self) -> None:
        require_places(self.wordings["joined"])
        if not self.modalities:
            kinds = ", ".join(sorted(self.scorer.modalities))
            raise ValueError(f"{self.settings.name}: its scorer '{self.scorer.name}' judges only {kinds}")

    @property
    def modalities(self) -> frozenset[Modality]:
        """What both critic and scorer judge."""
        return frozenset(self.settings.modalities) & self.scorer.modalities

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The scorer's."""
        return self.scorer.dimensions

    @property
    def differentiable(self) -> bool:
        """Gradients pass through the scorer, with the critique held fixed."""
        return self.scorer.differentiable

    @property
    def needs_group(self) -> bool:
        """Whether the scorer compares the samples of a call."""
        return needs_group(self.scorer)

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """The scorer's scores."""
        return self._scored(samples, self.critiques(samples=samples))

    def review(self, *, samples: Sequence[Sample]) -> list[Review]:
        """Scores with the critique that they rest on, in `notes`."""
        told = self.critiques(samples=samples)
        found = self._scored(samples, told)
        rows = zip(told, found.values.tolist(), found.overall.tolist(), found.reasons, strict=True)
        return [
            replace(one, scores=dict(zip(found.names, row, strict=True)), overall=overall, reason=reason)
            for one, row, overall, reason in rows
        ]

    def critiques(self, *, samples: Sequence[Sample]) -> list[Review]:
        """The critique of every sample in `notes`, or the reason why there is none."""
        if self.engine is None:
            return [_given(sample) for sample in samples]
        return reviewed(samples, self.settings, self._told, self.modalities)

    def _told(self, shown: Sequence[Shown], samples: Sequence[Sample]) -> list[Review]:
        assert self.engine is not None
        draw = self.critiqued.draw
        how = Sampling(draw.max_tokens, draw.temperature, draw.top_p, draw.top_k, self.seed)
        asked = [question(self.wordings["critique"], one, self.critiqued.shows) for one in shown]
        return [_review(answer) for answer in self.engine.generate(asked, [how] * len(asked))]

    def _scored(self, samples: Sequence[Sample], told: Sequence[Review]) -> Scores:
        scores = scored(self.scorer, samples, told, self.wordings["joined"])
        return replace(scores, details=said(told))


def scored(scorer: RewardModel, samples: Sequence[Sample], told: Sequence[Review], joined: Wording) -> Scores:
    """The scorer's scores of samples with their critiques; without one there is none."""
    good = [i for i, one in enumerate(told) if one.reason is None]
    found = scorer(samples=[with_critique(samples[i], told[i].notes[CRITIQUE], joined) for i in good])
    lost = Scores.failed([one.reason for one in told if one.reason is not None], found.names)
    if found.log_variance is not None:
        lost = replace(lost, log_variance=torch.full_like(lost.values, float("nan")))
    order = [*good, *(i for i, one in enumerate(told) if one.reason is not None)]
    return Scores.cat([found, lost]).select(torch.tensor(order, dtype=torch.long).argsort())


def _given(sample: Sample) -> Review:
    text = sample.metadata.get(CRITIQUE)
    if isinstance(text, str) and text.strip():
        return Review(notes={CRITIQUE: text.strip()})
    return Review(
        reason=f"metadata['{CRITIQUE}'] holds no text: give one, or name who writes it (path=, or server= with model=)"
    )


def _review(answer: Answer) -> Review:
    if answer.problem is not None:
        return Review(reason=f"{CRITIQUE}: {answer.problem}")
    text = spoken(answer.text)
    if not text:
        return Review(reason=f"{CRITIQUE}: the answer is empty", answers=(answer.text,))
    return Review(answers=(answer.text,), notes={CRITIQUE: text})


@dataclass(frozen=True, eq=False)
class GivenCritiques:
    """A scorer of samples that bring their critiques along, in the words that `CritiquedSource` trains it with."""

    scorer: RewardModel
    joined: Wording

    @property
    def name(self) -> str:
        """The scorer's, like all else."""
        return self.scorer.name

    @property
    def modalities(self) -> frozenset[Modality]:
        """The scorer's."""
        return self.scorer.modalities

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The scorer's."""
        return self.scorer.dimensions

    @property
    def differentiable(self) -> bool:
        """Gradients pass through the scorer."""
        return self.scorer.differentiable

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """The scorer's scores; a sample without a critique has none, with the reason."""
        return scored(self.scorer, samples, [_given(sample) for sample in samples], self.joined)


# ---------------------------------------------------------------- what the scorer reads


def require_places(joined: Wording) -> None:
    """ValueError unless a wording holds both the prompt and the critique, and no picture."""
    for place in ("prompt", CRITIQUE):
        if joined.text.count("{" + place + "}") != 1:
            raise ValueError(f"wording {joined.key} must hold {{{place}}} exactly once: the scorer reads it")
    joined.fill({"prompt": "", CRITIQUE: ""}, {})


def with_critique(sample: Sample, critique: str, joined: Wording) -> Sample:
    """The sample as the scorer reads it: the critique stands with the prompt.

    >>> plain = Sample("a cat", torch.zeros(3, 8, 8))
    >>> with_critique(plain, "It is a dog.", Wording("j", "{prompt}: {critique}")).prompt
    'a cat: It is a dog.'
    """
    parts = joined.fill({"prompt": sample.prompt, CRITIQUE: critique}, {})
    return replace(sample, prompt="".join(part for part in parts if isinstance(part, str)))


@dataclass(frozen=True, eq=False)
class CritiquedSource:
    """Training data as a scorer reads it: every sample of `source` holds its critique in its metadata.

    What has none is left out and counted in `skips`, or refused without.
    """

    source: PairSource
    joined: Wording
    skips: Skips | None = None

    def bundle(self, number: int, progress: float) -> list[PreferencePair]:
        """Pairs; two pairs of one sample still share it."""
        found = self.source.bundle(number, progress)
        pairs = usable(found, samples_of(found), self._read, self.skips)
        made = {id(sample): self._read(sample) for pair in pairs for sample in (pair.a, pair.b)}
        return [replace(pair, a=made[id(pair.a)], b=made[id(pair.b)]) for pair in pairs]

    def rated(self, number: int, progress: float) -> list[Sample]:
        """Rated samples."""
        found = self.source.rated(number, progress)
        return [self._read(sample) for sample in usable(found, found, self._read, self.skips)]

    def _read(self, sample: Sample) -> Sample:
        told = _given(sample)
        if told.reason is not None:
            raise ValueError(f"sample {sample.id or sample.prompt!r}: metadata['{CRITIQUE}'] holds no text")
        return with_critique(sample, told.notes[CRITIQUE], self.joined)
