"""The scales a reward can be brought to, and the rules that make one of several, as strict sections of YAML.

A scale is applied to one reward (`scale: {name: sigmoid, temperature: 2}`), a rule to the parts of a composition
(`combine: min`); `mmalign.composition` says how rewards are written. Their arithmetic is in
`mmalign.objectives.scaling` and `mmalign.objectives.combining`. Imports no torch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from mmalign.strict import Section

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

# ---------------------------------------------------------------- scales: of one reward


class Affine(Section):
    """(r - mean) / std: known bounds or published constants, e.g. scores from 1 to 5 as mean 1, std 4."""

    name: Literal["affine"]
    mean: float = 0.0
    std: PositiveFloat = 1.0


class Clip(Section):
    """Within [low, high]."""

    name: Literal["clip"]
    low: float = -5.0
    high: float = 5.0

    @model_validator(mode="after")
    def _in_order(self) -> Clip:
        if self.low >= self.high:
            raise ValueError(f"clip needs low below high, got {self.low} and {self.high}")
        return self


class Sigmoid(Section):
    """S((r - center) / temperature): the chance to beat a sample of score `center`, in [0, 1]."""

    name: Literal["sigmoid"]
    center: float = 0.0
    temperature: PositiveFloat = 1.0


class Percentile(Section):
    """The share of a reference sample below r, in [0, 1], from its evenly spaced quantiles (lowest to highest)."""

    name: Literal["percentile"]
    quantiles: tuple[float, ...]

    @model_validator(mode="after")
    def _increasing(self) -> Percentile:
        rising = all(a < b for a, b in pairwise(self.quantiles))
        if len(self.quantiles) < 2 or not rising:
            raise ValueError("quantiles must be two or more numbers, each larger than the one before")
        return self


class LogSigmoid(Section):
    """log S(r - reference), so that a sum says "all are good" (arXiv 2402.00742).

    `reference`: a number (the reward of an acceptable sample), or the `mean` or a `quantile` of the sample's group.
    """

    name: Literal["log_sigmoid"]
    reference: float | Literal["mean", "quantile"] = "mean"
    quantile: Fraction = 0.85


class Confidence(Section):
    """center + exp(-strength * variance) * (r - center): Ctrl-U's weight exp(-u), u the variance the reward reports."""

    name: Literal["confidence"]
    strength: NonNegativeFloat = 1.0
    center: float = 0.0


class ZScore(Section):
    """(r - group mean) / (group std + eps)."""

    name: Literal["zscore"]
    eps: NonNegativeFloat = 1e-4


class Rank(Section):
    """The rank within the group, in [0, 1]; ties share theirs, a sample alone has 0.5."""

    name: Literal["rank"]


Scale = Annotated[
    Affine | Clip | Sigmoid | Percentile | LogSigmoid | Confidence | ZScore | Rank,
    Field(discriminator="name"),
]

# ---------------------------------------------------------------- rules: several rewards as one


class Sum(Section):
    """Weighted sum of the parts as they are."""

    name: Literal["sum"] = "sum"


class Mean(Section):
    """Weighted mean: an ensemble."""

    name: Literal["mean"]


class ZScores(Section):
    """Weighted sum of z-scores within the group."""

    name: Literal["zscore"]
    eps: NonNegativeFloat = 1e-4


class Gdpo(Section):
    """Weighted sum of group z-scores, whitened over the batch (arXiv 2601.05242)."""

    name: Literal["gdpo"]


class Worst(Section):
    """The lowest part: worst-case ensemble (WCO). Weights say nothing here and must be left out."""

    name: Literal["min"]


class Uwo(Section):
    """Weighted mean minus `strength` times the weighted variance of the parts: UWO (arXiv 2310.02743)."""

    name: Literal["uwo"]
    strength: NonNegativeFloat = 0.5


class Gate(Section):
    """FIRM's Base-and-Bonus: base * (share + (1 - share) * bonus); without the base the bonus is worth nothing.

    `base` names a part (the first, if left out); the bonus is the weighted mean or the lowest of the others. CME is
    share 0.6 on [execution, consistency]; QMA is share 0.4 with bonus `min` (arXiv 2603.12247). Parts in [0, 1].
    """

    name: Literal["gate"]
    base: str | None = None
    share: Fraction = 0.6
    bonus: Literal["mean", "min"] = "mean"


class Geometric(Section):
    """Weighted geometric mean of parts that are not negative: one zero makes zero."""

    name: Literal["geometric"]


class LogTame(Section):
    """log(1 + r) for the parts whose spread std / mean over the batch exceeds the threshold, then the weighted sum
    (PaCo-GRPO, arXiv 2512.04784).
    """

    name: Literal["log_tame"]
    threshold: float | Literal["mean", "median"] = "mean"


class Ensemble(Section):
    """The mean of the parts, pulled by exp(-strength * their variance) towards 0 or their group's mean (Ctrl-U)."""

    name: Literal["confidence"]
    strength: NonNegativeFloat = 1.0
    center: Literal["zero", "group"] = "zero"


Rule = Annotated[
    Sum | Mean | ZScores | Gdpo | Worst | Uwo | Gate | Geometric | LogTame | Ensemble,
    Field(discriminator="name"),
]
POSITIVE_WEIGHTS = ("mean", "uwo", "gate", "geometric", "confidence")


def rule_needs_group(rule: Rule) -> bool:
    """Whether a rule looks at more than one sample."""
    return rule.name in ("zscore", "gdpo", "log_tame") or (
        rule.name == "confidence" and rule.center == "group"
    )


def scale_needs_group(scale: Scale) -> bool:
    """Whether a scale looks at more than one sample."""
    return scale.name in ("zscore", "rank") or (
        scale.name == "log_sigmoid" and isinstance(scale.reference, str)
    )
