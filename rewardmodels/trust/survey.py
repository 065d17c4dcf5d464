"""One pass over the samples: every one is decoded once, scored, measured and spoiled, a window at a time.

Memory holds one window of decoded media, whatever the number of samples.

Shape legend: `N` samples, `D` dimensions of the reward.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmalign.types import Sample, Scores
from rewardmodels.trust import Ask
from rewardmodels.trust.factors import FACTORS, Factor, measure
from rewardmodels.trust.probes import PROBES, Answers, Probe, ask_probe, partners, why_not

Floats = NDArray[np.float64]
Decode = Callable[[Sample], Sample]
WINDOW_PIXELS = 2**24
"""A window of decoded samples closes when it holds so many pixels: 200 MB in float32."""


@dataclass
class Survey:
    """What one reward said of N samples, and what they are like."""

    samples: Sequence[Sample]
    groups: tuple[str, ...]
    scores: Floats  # (N,), NaN where there is none
    gold: Floats | None  # (N,)
    others: dict[str, Floats]  # further rewards by name, (N,) each
    log_variance: Floats | None  # (N,) of the overall score
    reasons: Counter[str]
    factors: dict[str, Floats]  # (N,) each
    probes: list[Answers]
    names: tuple[str, ...] = ()

    @property
    def num_invalid(self) -> int:
        """Samples without a score."""
        return int(np.isnan(self.scores).sum())


def decode(sample: Sample) -> Sample:
    """The sample with its media and source as tensors; ValueError or OSError where they cannot be read."""
    return replace(sample, media=sample.frames(), source=sample.source_frames())


def survey(
    ask: Ask,
    samples: Sequence[Sample],
    groups: Sequence[str],
    *,
    gold: Ask | None = None,
    others: dict[str, Ask] | None = None,
    probes: Sequence[Probe] = PROBES,
    factors: Sequence[Factor] = FACTORS,
    read: Decode = decode,
    batch_size: int = 16,
    whole_groups: bool = False,
    seed: int = 0,
    tell: Callable[[int], object] = lambda done: None,
) -> Survey:
    """Everything that needs the pixels. Samples whose metadata says `"faithful": false` are not spoiled: an original
    that is wrong already cannot be told from its spoiled twin. `tell` hears how many samples each window held.
    """
    if len(samples) != len(groups) or not samples:
        raise ValueError(f"a survey needs samples, each with its group, got {len(samples)} and {len(groups)}")
    probed = [s for s in samples if _faithful(s)]
    owners = [g for s, g in zip(samples, groups, strict=True) if _faithful(s)]
    answers = [Answers(probe, reason=why_not(probe, probed, owners)) for probe in probes]
    partner = partners(samples, groups, seed=seed)
    columns = _Columns(len(samples), factors, others or {}, gold is not None)
    edges = groups if whole_groups else None
    for window in _windows(samples, read, batch_size, columns, edges):
        places, decoded = [k for k, _ in window], [sample for _, sample in window]
        columns.judged(places, ask(decoded))
        if gold is not None:
            columns.other("gold", places, gold(decoded))
        for name, other in (others or {}).items():
            columns.other(name, places, other(decoded))
        for place, sample in window:
            columns.measured(place, measure(sample, factors))
        kept = [i for i, sample in enumerate(decoded) if _faithful(sample)]
        _spoil(answers, ask, [window[i] for i in kept], samples, groups, partner, columns.scores, read, seed)
        tell(len(window))
    return columns.survey(samples, groups, answers)


def _spoil(
    answers: Sequence[Answers],
    ask: Ask,
    window: Sequence[tuple[int, Sample]],
    samples: Sequence[Sample],
    groups: Sequence[str],
    partner: Sequence[int],
    scores: Floats,
    read: Decode,
    seed: int,
) -> None:
    """Put every probe that applies to a window of decoded faithful samples."""
    needs = any(a.probe.of == "source" and a.reason is None for a in answers)
    there, rest = [], []
    for place, sample in window:
        other = samples[partner[place]]
        if needs:
            try:
                other = read(other)
            except (ValueError, OSError):  # counted where it stands itself; this sample lends none
                continue
        there.append((place, sample))
        rest.append(other)
    places = [place for place, _ in there]
    for one in answers:
        if one.reason is not None:
            continue
        fit = [i for i, place in enumerate(places) if one.probe.of == "pixels" or partner[place] != place]
        ask_probe(
            one,
            ask,
            [there[i][1] for i in fit],
            [rest[i] for i in fit],
            [float(scores[places[i]]) for i in fit],
            [groups[places[i]] for i in fit],
            numbers=[places[i] for i in fit],
            seed=seed,
        )


class _Columns:
    """The columns of a survey while they are filled."""

    def __init__(self, num: int, factors: Sequence[Factor], others: dict[str, Ask], with_gold: bool) -> None:
        names = [*others, *(["gold"] if with_gold else [])]
        self.scores = np.full(num, np.nan)
        self.log_variance: Floats | None = None
        self.further = {name: np.full(num, np.nan) for name in names}
        self.factors = {factor.name: np.full(num, np.nan) for factor in factors}
        self.reasons: Counter[str] = Counter()
        self.names: tuple[str, ...] = ()

    def judged(self, places: Sequence[int], scores: Scores) -> None:
        """Scores of the reward that is checked."""
        self.names = scores.names
        self.scores[list(places)] = scores.overall.double().numpy()
        self.reasons.update(reason for reason in scores.reasons if reason is not None)
        if scores.overall_log_variance is not None:
            if self.log_variance is None:
                self.log_variance = np.full(self.scores.size, np.nan)
            self.log_variance[list(places)] = scores.overall_log_variance.double().numpy()

    def other(self, name: str, places: Sequence[int], scores: Scores) -> None:
        """Scores of gold or of a further reward."""
        self.further[name][list(places)] = scores.overall.double().numpy()

    def measured(self, place: int, found: dict[str, float]) -> None:
        """The factors of one sample."""
        for name, value in found.items():
            self.factors[name][place] = value

    def survey(self, samples: Sequence[Sample], groups: Sequence[str], answers: list[Answers]) -> Survey:
        """Everything together."""
        gold = self.further.pop("gold", None)
        return Survey(
            samples, tuple(groups), self.scores, gold, self.further, self.log_variance, self.reasons,
            self.factors, answers, self.names,
        )  # fmt: skip


def _windows(
    samples: Sequence[Sample],
    read: Decode,
    batch_size: int,
    columns: _Columns,
    groups: Sequence[str] | None,
) -> Iterator[list[tuple[int, Sample]]]:
    """Decoded samples with their places, as many at a time as fit; what cannot be read gets its reason.

    With `groups` a window closes only where a group ends.
    """
    window: list[tuple[int, Sample]] = []
    pixels = 0
    for place, sample in enumerate(samples):
        try:
            decoded = read(sample)
        except (ValueError, OSError) as problem:
            columns.reasons[" ".join(str(problem).split())] += 1
            continue
        window.append((place, decoded))
        frames = decoded.frames().shape
        pixels += frames[0] * frames[2] * frames[3]
        if groups is not None and place + 1 < len(samples) and groups[place + 1] == groups[place]:
            continue
        if len(window) >= batch_size or pixels > WINDOW_PIXELS:
            yield window
            window, pixels = [], 0
    if window:
        yield window


def _faithful(sample: Sample) -> bool:
    return sample.metadata.get("faithful") is not False
