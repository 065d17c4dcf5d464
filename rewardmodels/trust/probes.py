"""Counterfactual probes: spoil a sample in one known way and see whether the reward minds.

The sensitivity of a probe is P(score of the original > score of the spoiled one), equal scores half; its interval
resamples prompts. Some spoilings every reward must mind (the wrong prompt, a blank picture, an edit that did nothing);
others (JPEG, blur, colour) a reward of quality should mind, and no reward should *prefer*.

Shape legend: `N` samples, `M` of them probed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mmalign.seeds import seed_of
from mmalign.stats import intervals
from mmalign.stats.intervals import Interval
from mmalign.types import Modality, Sample
from rewardmodels.trust import Ask, changes

Change = Callable[[Sample, Sample, np.random.Generator], Sample]
EVERY: frozenset[Modality] = frozenset({"image", "edit", "video"})
SAME = 0.5 / 255
"""Pixels closer than half an 8-bit step are the same."""


@dataclass(frozen=True)
class Probe:
    """One way to spoil a sample. `must`: whether every reward has to mind."""

    name: str
    about: str
    change: Change
    must: bool
    modalities: frozenset[Modality] = EVERY
    of: str = "pixels"  # what is spoiled: pixels, prompt or source


PROBES: tuple[Probe, ...] = (
    Probe("wrong prompt", "the prompt of another sample", changes.wrong_prompt, True, of="prompt"),
    Probe("shuffled prompt", "the prompt's words in another order", changes.shuffled_prompt, False, of="prompt"),
    Probe("blank", "every pixel the mean colour", changes.blank, True),
    Probe("noise", "every pixel random", changes.noise, True),
    Probe(
        "identity edit", "the source handed back as the edit", changes.identity_edit, True, frozenset({"edit"})
    ),
    Probe(
        "swapped source", "the source of another edit", changes.swapped_source, True, frozenset({"edit"}), "source"
    ),
    Probe("JPEG 30", "a JPEG of quality 30", changes.low_jpeg, False),
    Probe("blur", "Gaussian blur, 1/50 of the side", changes.blur, False),
    Probe("saturation x1.5", "colours half as strong again", changes.oversaturated, False),
    Probe("still video", "the first frame throughout", changes.still_video, True, frozenset({"video"})),
    Probe("reversed frames", "last frame first", changes.reversed_frames, False, frozenset({"video"})),
    Probe("shuffled frames", "frames in a random order", changes.shuffled_frames, False, frozenset({"video"})),
)  # fmt: skip


@dataclass
class Answers:
    """What a probe brought: of each probed sample 1 (original higher), 0 (spoiled higher) or 1/2, and its prompt."""

    probe: Probe
    wins: list[float] = field(default_factory=list)
    drops: list[float] = field(default_factory=list)  # score of the original minus that of the spoiled one
    spoiled: list[float] = field(default_factory=list)  # scores of the spoiled samples
    groups: list[str] = field(default_factory=list)
    unchanged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    reason: str | None = None  # why the probe does not apply to this material

    def sensitivity(self) -> Interval:
        """P(original > spoiled) with its interval by prompt; `n` samples.

        Where all agree the bootstrap would claim certainty: Wilson's interval over prompts stands in its place.
        """
        if not self.wins:
            return Interval(float("nan"), float("nan"), float("nan"), 0)
        found = intervals.mean(self.wins, self.groups)
        if len(set(self.wins)) > 1 or found.mean == 0.5:
            return found
        prompts = len(set(self.groups))
        exact = intervals.wilson(found.mean * prompts, prompts)
        return Interval(found.mean, exact.low, exact.high, found.n)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        known = [drop for drop in self.drops if np.isfinite(drop)]
        return {
            "about": self.probe.about,
            "must": self.probe.must,
            "applies": self.reason is None,
            "reason": self.reason,
            "sensitivity": self.sensitivity().as_dict(),
            "num_prompts": len(set(self.groups)),
            "mean_drop": float(np.mean(known)) if known else None,
            "unchanged": self.unchanged,
            "refused": dict(self.refused.most_common()),
        }


def why_not(probe: Probe, samples: Sequence[Sample], groups: Sequence[str]) -> str | None:
    """The reason why a probe does not apply to any of these samples; None if it does."""
    kinds = {sample.modality for sample in samples}
    if not kinds & probe.modalities:
        wanted, given = (
            " and ".join(f"{kind}s" for kind in sorted(some)) for some in (probe.modalities, kinds)
        )
        return f"needs {wanted}, these are {given or 'none'}"
    if probe.name == "wrong prompt" and len({sample.prompt for sample in samples}) < 2:
        return "needs two different prompts, all samples have the same"
    if probe.name == "shuffled prompt" and all(len(set(sample.prompt.split())) < 2 for sample in samples):
        return "needs a prompt of two different words"
    if probe.name == "swapped source" and len(set(groups)) < 2:
        return "needs edits of two sources, all samples are of one"
    return None


def partners(samples: Sequence[Sample], groups: Sequence[str], *, seed: int = 0) -> list[int]:
    """For each of N samples the position of one of another group and prompt, or its own where there is none."""
    found = []
    for i, sample in enumerate(samples):
        rng = np.random.default_rng(seed_of("probe-partner", seed, i))
        found.append(
            next(
                (
                    j
                    for j in rng.permutation(len(samples)).tolist()
                    if groups[j] != groups[i]
                    and samples[j].prompt != sample.prompt
                    and samples[j].modality == sample.modality
                ),
                i,
            )
        )
    return found


def spoil(probe: Probe, sample: Sample, other: Sample, *, seed: int, number: int) -> Sample | None:
    """The spoiled sample; None where the change leaves this one as it is. Both samples are decoded."""
    rng = np.random.default_rng(seed_of("probe", probe.name, seed, number))
    made = probe.change(sample, other, rng)
    if made.prompt != sample.prompt:
        return made
    for before, after in ((sample.frames(), made.frames()), (sample.source_frames(), made.source_frames())):
        if before is not None and after is not None and not _alike(before, after):
            return made
    return None


def kind_of(reason: str) -> str:
    """A reason without what it quotes, so that refusals of one kind are counted together.

    >>> kind_of("cannot read 'of' in prompt 'of a'")
    "cannot read '...' in prompt '...'"
    """
    return re.sub(r"'[^']*'", "'...'", reason)


def _alike(before: torch.Tensor, after: torch.Tensor) -> bool:
    return before.shape == after.shape and float((before - after).abs().max()) <= SAME


def ask_probe(
    answers: Answers,
    ask: Ask,
    samples: Sequence[Sample],
    others: Sequence[Sample],
    scores: Sequence[float],
    groups: Sequence[str],
    *,
    numbers: Sequence[int],
    seed: int = 0,
) -> None:
    """Spoil these decoded samples, ask, and add to `answers`; a sample without a finite score is passed over."""
    spoiled, kept = [], []
    for k, sample in enumerate(samples):
        if not np.isfinite(scores[k]) or sample.modality not in answers.probe.modalities:
            continue
        made = spoil(answers.probe, sample, others[k], seed=seed, number=numbers[k])
        if made is None:
            answers.unchanged += 1
            continue
        spoiled.append(made)
        kept.append(k)
    if not spoiled:
        return
    judged = ask(spoiled)
    for k, after, why in zip(kept, judged.overall.tolist(), judged.reasons, strict=True):
        if not np.isfinite(after):
            answers.refused[kind_of(why or "no score")] += 1
            continue
        answers.wins.append(float(scores[k] > after) + 0.5 * float(scores[k] == after))
        answers.drops.append(scores[k] - after)
        answers.spoiled.append(after)
        answers.groups.append(groups[k])
