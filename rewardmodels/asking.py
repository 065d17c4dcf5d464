"""Asking a reward safely: what it cannot judge gets NaN and a reason and harms no other sample.

Shape legend: `B` samples, `D` dimensions of a reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from mmalign.types import RewardModel, Sample, Scores


def ask(model: RewardModel, samples: Sequence[Sample], *, name: str | None = None) -> Scores:
    """A row a sample, on the CPU, without gradients. When a batch is refused, its samples are asked for one by one; a
    reward that compares them (`needs_group`) is asked again for those that it does not refuse alone.

    Only a `ValueError` is a refusal; any other error is a defect of the reward and is passed on.
    """
    fitting = [k for k, sample in enumerate(samples) if sample.modality in model.modalities]
    if len(fitting) == len(samples):
        return _ask(model, samples, name or model.name)
    asked = _ask(model, [samples[k] for k in fitting], name or model.name) if fitting else None
    rows = {k: row for row, k in enumerate(fitting)}
    kinds = " and ".join(sorted(model.modalities))
    parts = []
    for k, sample in enumerate(samples):
        if k in rows and asked is not None:
            parts.append(asked.select([rows[k]]))
        else:
            parts.append(
                _like(Scores.failed([f"judges {kinds}, not {sample.modality}"], model.dimensions), asked)
            )
    return Scores.cat(parts)


@torch.no_grad()
def _ask(model: RewardModel, samples: Sequence[Sample], name: str) -> Scores:
    try:
        scores = model(samples=samples)
    except ValueError as problem:
        if len(samples) == 1:
            return Scores.failed([_words(problem)], model.dimensions)
        if getattr(model, "needs_group", False):
            return _without_broken(model, samples, name, _words(problem))
        parts = [_ask(model, [sample], name) for sample in samples]
        certain = next((part for part in parts if part.overall_log_variance is not None), None)
        return Scores.cat([_like(part, certain) for part in parts])
    if len(scores) != len(samples):
        raise ValueError(
            f"{name} gave {len(scores)} scores for {len(samples)} samples: it must give one each"
        )
    return _on_cpu(scores)


def _without_broken(model: RewardModel, samples: Sequence[Sample], name: str, why: str) -> Scores:
    """The group without those that are refused alone; where nobody is or all are, the group has no scores."""
    reasons = [_refusal(model, sample) for sample in samples]
    good = [k for k, reason in enumerate(reasons) if reason is None]
    if len(good) in (0, len(samples)):
        return Scores.failed([reason or why for reason in reasons], model.dimensions)
    rest = _ask(model, [samples[k] for k in good], name)
    lost = _like(Scores.failed([reason for reason in reasons if reason is not None], model.dimensions), rest)
    order = [*good, *(k for k, reason in enumerate(reasons) if reason is not None)]
    return Scores.cat([rest, lost]).select(torch.tensor(order).argsort())


def _refusal(model: RewardModel, sample: Sample) -> str | None:
    try:
        model(samples=[sample])
    except ValueError as problem:
        return _words(problem)
    return None


def _words(problem: ValueError) -> str:
    return " ".join(str(problem).split())


def _like(failed: Scores, other: Scores | None) -> Scores:
    """Failed scores with an unknown variance where the others have one, so that they can stand together."""
    if other is None or other.overall_log_variance is None or failed.overall_log_variance is not None:
        return failed
    dimensions = None if other.log_variance is None else torch.full_like(failed.values, float("nan"))
    overall = torch.full_like(failed.overall, float("nan"))
    return replace(failed, log_variance=dimensions, overall_log_variance=overall)


def _on_cpu(scores: Scores) -> Scores:
    variance, fused = scores.log_variance, scores.overall_log_variance
    return replace(
        scores,
        values=scores.values.cpu(),
        overall=scores.overall.cpu(),
        valid=scores.valid.cpu(),
        log_variance=None if variance is None else variance.cpu(),
        overall_log_variance=None if fused is None else fused.cpu(),
    )
