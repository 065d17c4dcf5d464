"""The scales and rules of a composition, as written in YAML (`mmalign.rules`), applied to tensors.

Shape legend: `B` samples, `R` parts; values (B, R), scores, group ids and results (B,). NaN is "not judged".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmalign.objectives import combining, scaling
from mmalign.objectives.advantages import combined_advantages
from mmalign.objectives.shaping import clip_rewards, rank_rewards
from mmalign.rules import Gate, Rule, Scale


def apply_scale(scale: Scale, scores: Tensor, groups: Tensor, variance: Tensor | None = None) -> Tensor:
    """One reward's scores on a scale; ValueError where it needs a variance that the reward does not report."""
    match scale.name:
        case "affine":
            return scaling.affine(scores, mean=scale.mean, std=scale.std)
        case "clip":
            return clip_rewards(scores, low=scale.low, high=scale.high)
        case "sigmoid":
            return scaling.sigmoid(scores, center=scale.center, temperature=scale.temperature)
        case "percentile":
            return scaling.percentile(scores, scale.quantiles)
        case "log_sigmoid":
            return scaling.centred_log_sigmoid(
                scores, groups, reference=scale.reference, quantile=scale.quantile
            )
        case "confidence":
            if variance is None:
                raise ValueError("scale confidence needs a reward that reports a variance: this one does not")
            return scaling.confidence(scores, variance, strength=scale.strength, center=scale.center)
        case "zscore":
            return scaling.zscore(scores, groups, eps=scale.eps)
        case "rank":
            return rank_rewards(scores, groups)


def apply_rule(
    rule: Rule, values: Tensor, weights: Sequence[float], groups: Tensor, names: Sequence[str]
) -> Tensor:
    """The parts as one score by a rule; NaN where any part is NaN."""
    share = torch.tensor(list(weights), dtype=torch.float32, device=values.device)
    total = _apply_rule(rule, values, share, groups, names)
    return total.masked_fill(~torch.isfinite(values.detach()).all(dim=1), torch.nan)


def _apply_rule(rule: Rule, values: Tensor, share: Tensor, groups: Tensor, names: Sequence[str]) -> Tensor:
    match rule.name:
        case "sum":
            return combining.weighted_sum(values, share)
        case "mean":
            return combining.weighted_mean(values, share)
        case "min":
            return combining.worst(values)
        case "uwo":
            return combining.uwo(values, share, strength=rule.strength)
        case "gate":
            return _gated(rule, values, share, names)
        case "geometric":
            return combining.geometric(values, share)
        case "confidence":
            return combining.confident(values, share, groups, strength=rule.strength, center=rule.center)
        case "log_tame":
            return combining.log_tamed(values, share, threshold=rule.threshold)
        case "zscore":
            known = values.masked_fill(~torch.isfinite(values).all(dim=1, keepdim=True), torch.nan)
            columns = [scaling.zscore(column, groups, eps=rule.eps) for column in known.unbind(1)]
            return combining.weighted_sum(torch.stack(columns, dim=1), share)
        case "gdpo":
            return combined_advantages(values, groups, weights=share.tolist(), rule="gdpo")


def _gated(rule: Gate, values: Tensor, share: Tensor, names: Sequence[str]) -> Tensor:
    place = 0 if rule.base is None else list(names).index(rule.base)
    rest = [k for k in range(values.shape[1]) if k != place]
    bonus = values[:, rest]
    made = combining.worst(bonus) if rule.bonus == "min" else combining.weighted_mean(bonus, share[rest])
    return combining.gate(values[:, place], made, share=rule.share)
