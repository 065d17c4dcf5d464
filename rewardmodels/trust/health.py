"""Is there a signal to learn from, and is it the same tomorrow: spread, saturation, invalid rate, stability.

Shape legend: `N` samples. Changes are told in units of `spread`, the median standard deviation within a prompt, which
is what a group-relative method learns from (of all samples where no prompt has two).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign.stats.agreement import spearman
from mmalign.types import Sample
from rewardmodels.trust import Ask, changes

Floats = NDArray[np.float64]
NUM_SEEN = 32
"""So many samples are asked for again and again."""
FLAT_SHARE = 0.05
"""A prompt whose spread is below this part of the overall spread teaches next to nothing."""


@dataclass(frozen=True)
class Health:
    """The scores of a batch as a learner meets them."""

    num: int
    num_invalid: int
    num_groups: int  # prompts with two or more scores
    mean: float
    std: float
    within_std: float  # median over prompts; NaN if none has two scores
    flat_share: float  # of prompts, with a spread below FLAT_SHARE of the overall one
    top_share: float  # of scores, that equal the highest
    bottom_share: float
    num_distinct: int
    relative_spread: float  # (95th - 5th percentile) / |median|, over originals and their spoiled twins

    @property
    def spread(self) -> float:
        """What changes are measured in."""
        return self.within_std if np.isfinite(self.within_std) and self.within_std > 0 else self.std

    @property
    def invalid_rate(self) -> float:
        """Share of samples without a score."""
        return self.num_invalid / self.num if self.num else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = asdict(self) | {"spread": self.spread, "invalid_rate": self.invalid_rate}
        return {key: value if np.isfinite(value) else None for key, value in found.items()}


def health(scores: Floats, groups: Sequence[str], *, spoiled: Sequence[float] = ()) -> Health:
    """Spread and saturation of N scores (NaN: none); `spoiled` are scores of blank and noise twins."""
    known = np.isfinite(scores)
    values = scores[known]
    names = [group for group, good in zip(groups, known, strict=True) if good]
    stds = _group_stds(values, names)
    everything = np.concatenate([values, np.asarray(spoiled, dtype=np.float64)])
    std = float(values.std()) if values.size else float("nan")
    many = values.size > 0
    return Health(
        int(scores.size),
        int((~known).sum()),
        len(stds),
        float(values.mean()) if many else float("nan"),
        std,
        float(np.median(stds)) if stds else float("nan"),
        float(np.mean([one <= FLAT_SHARE * std for one in stds])) if stds else float("nan"),
        float((values == values.max()).mean()) if many else float("nan"),
        float((values == values.min()).mean()) if many else float("nan"),
        len(np.unique(values)),
        _relative_spread(everything),
    )


def _group_stds(values: Floats, names: Sequence[str]) -> list[float]:
    members: dict[str, list[float]] = {}
    for name, value in zip(names, values.tolist(), strict=True):
        members.setdefault(name, []).append(value)
    return [float(np.std(some)) for some in members.values() if len(some) > 1]


def _relative_spread(values: Floats) -> float:
    if values.size < 2:
        return float("nan")
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    if high == low:
        return 0.0
    return float((high - low) / abs(middle)) if middle != 0 else float("inf")


@dataclass(frozen=True)
class Stability:
    """How scores change when nothing that matters does; `mean` and `largest` in units of the spread."""

    name: str
    about: str
    exact: bool  # whether any change is a fault, or only a large one
    mean: float
    largest: float
    rank: float  # Spearman of before and after
    num: int
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()
        }


def stability(ask: Ask, samples: Sequence[Sample], spread: float, *, num_repeats: int = 3) -> list[Stability]:
    """Ask for up to NUM_SEEN decoded samples again: repeated, one by one, in another order, as JPEG, resized."""
    seen = list(samples[:NUM_SEEN])
    base = _overall(ask, seen)
    again = np.stack([_overall(ask, seen) for _ in range(num_repeats - 1)]) if num_repeats > 1 else base[None]
    order = np.random.default_rng(0).permutation(len(seen))
    turned = np.full_like(base, np.nan)
    turned[order] = _overall(ask, [seen[k] for k in order])
    alone = np.asarray([_overall(ask, [sample])[0] for sample in seen])
    worst = base + np.nanmax(np.abs(np.nan_to_num(again - base)), axis=0) if len(seen) else base
    rows = [
        _compare("repeated passes", f"the same samples {num_repeats} times", True, base, worst, spread),
        _compare("batch size", "one by one instead of together", True, base, alone, spread),
        _compare("order", "together in another order", True, base, turned, spread),
    ]
    for name, about, change in RETOUCHES:
        made = [_retouched(sample, change) for sample in seen]
        rows.append(_compare(name, about, False, base, _overall(ask, made), spread))
    return rows


Retouch = Callable[[torch.Tensor], torch.Tensor]
RETOUCHES: tuple[tuple[str, str, Retouch], ...] = (
    ("JPEG round trip", "sent as JPEG of quality 95", lambda frames: changes.jpeg(frames, 95)),
    ("half resolution", "half as wide and high", lambda frames: changes.resized(frames, 0.5)),
    ("double resolution", "twice as wide and high", lambda frames: changes.resized(frames, 2.0)),
)


def _retouched(sample: Sample, change: Retouch) -> Sample:
    """The sample with the same small change to media and source."""
    source = sample.source_frames()
    return replace(sample, media=change(sample.frames()), source=None if source is None else change(source))


def _overall(ask: Ask, samples: Sequence[Sample]) -> Floats:
    return np.asarray(ask(samples).overall.double().numpy()) if samples else np.zeros(0)


def _compare(name: str, about: str, exact: bool, before: Floats, after: Floats, spread: float) -> Stability:
    known = np.isfinite(before) & np.isfinite(after)
    if not known.any():
        nan = float("nan")
        return Stability(name, about, exact, nan, nan, nan, 0, "no sample has a score both times")
    moved = np.abs(after - before)[known] / (spread if spread > 0 else 1.0)
    rank = spearman(before[known], after[known])
    return Stability(name, about, exact, float(moved.mean()), float(moved.max()), rank, int(known.sum()))
