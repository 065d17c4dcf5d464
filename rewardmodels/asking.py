"""Asking a reward safely: what it cannot judge gets NaN and a reason and harms no other sample.

Shape legend: `B` samples, `D` dimensions of a reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from mmalign.types import RewardModel, Sample, Scores
from rewardmodels.combine import group_ids, needs_group
from rewardmodels.defects import Defect, in_one_line, report


def ask(model: RewardModel, samples: Sequence[Sample], *, name: str | None = None) -> Scores:
    """A row a sample, on the CPU, without gradients. When a batch is refused, its samples are asked for one by one; a
    reward that compares them (`needs_group`) is asked again for those that it does not refuse alone.

    A `ValueError` is a refusal. Any other error is a defect of the reward: it costs the same samples, whose reason is
    a `Defect`, and is logged with its traceback; who asks decides when it is too much (`rewardmodels.defects`).
    """
    scores = _fitting(model, samples, name or model.name)
    report(name or model.name, scores)
    return scores


def _fitting(model: RewardModel, samples: Sequence[Sample], name: str) -> Scores:
    """The samples of the kinds that the reward judges; the others are told."""
    lacking = [sorted(sample.kinds - model.modalities) for sample in samples]
    fitting = [k for k, others in enumerate(lacking) if not others]
    if len(fitting) == len(samples):
        return _ask(model, samples, name)
    kinds = " and ".join(sorted(model.modalities))
    reasons = [f"judges {kinds}, not {others[0]}" if others else None for others in lacking]
    if not fitting:
        return Scores.failed([reason for reason in reasons if reason is not None], model.dimensions)
    return among(_ask(model, [samples[k] for k in fitting], name), reasons)


def ask_by_group(model: RewardModel, samples: Sequence[Sample]) -> Scores:
    """As `ask`, each group in a call of its own: no score depends on which groups happen to come together."""
    ids = group_ids(samples)
    places = [torch.nonzero(ids == number).flatten() for number in ids.unique()]
    parts = [ask(model, [samples[k] for k in place.tolist()]) for place in places]
    return joined(parts, model.dimensions).select(torch.cat(places).argsort())


def among(scores: Scores, reasons: Sequence[str | None]) -> Scores:
    """A row for each of `reasons`: the scores, in their order, of those that have none; the others failed."""
    good = [k for k, reason in enumerate(reasons) if reason is None]
    bad = [k for k, reason in enumerate(reasons) if reason is not None]
    lost = Scores.failed([reason for reason in reasons if reason is not None], scores.names)
    return joined([scores, lost], scores.names).select(torch.tensor([*good, *bad]).argsort())


def joined(parts: Sequence[Scores], names: tuple[str, ...]) -> Scores:
    """Rows one after the other; the variance of failed parts is unknown where others have one."""
    if not parts:
        return Scores.failed([], names)
    certain = next((part for part in parts if part.log_variance is not None), None)
    certain = certain or next((part for part in parts if part.overall_log_variance is not None), None)
    return Scores.cat([_like(part, certain) for part in parts])


@torch.no_grad()
def _ask(model: RewardModel, samples: Sequence[Sample], name: str) -> Scores:
    try:
        scores = _on_cpu(model(samples=samples))
    except Exception as problem:  # noqa: BLE001 - a reward is anybody's code: its errors are kept and told
        why = _reason(problem)
    else:
        if len(scores) == len(samples):
            return scores
        wrong = f"it gave {len(scores)} scores for {len(samples)} samples and must give one each"
        return Scores.failed([Defect.of(RuntimeError(wrong))] * len(samples), model.dimensions)
    # Out of the `except` the error has let go of the batch, so that what was too large for memory may fit.
    if len(samples) == 1:
        return Scores.failed([why], model.dimensions)
    if needs_group(model):
        return _without_broken(model, samples, name, why)
    return joined([_ask(model, [sample], name) for sample in samples], model.dimensions)


def _without_broken(model: RewardModel, samples: Sequence[Sample], name: str, why: str) -> Scores:
    """The group without those that are refused alone; where nobody is or all are, the group has no scores."""
    reasons = [_refusal(model, sample) for sample in samples]
    good = [k for k, reason in enumerate(reasons) if reason is None]
    if len(good) in (0, len(samples)):
        return Scores.failed([reason or why for reason in reasons], model.dimensions)
    return among(_ask(model, [samples[k] for k in good], name), reasons)


def _refusal(model: RewardModel, sample: Sample) -> str | None:
    try:
        model(samples=[sample])
    except Exception as problem:  # noqa: BLE001 - as in `_ask`
        return _reason(problem)
    return None


def _reason(problem: Exception) -> str:
    return in_one_line(problem) if isinstance(problem, ValueError) else Defect.of(problem)


def _like(scores: Scores, other: Scores | None) -> Scores:
    """The scores with an unknown variance where the others have one, so that they can stand together."""
    if other is None:
        return scores
    logs, overall = scores.log_variance, scores.overall_log_variance
    if logs is None and other.log_variance is not None:
        logs = torch.full_like(scores.values, float("nan"))
    if overall is None:
        overall = torch.full_like(scores.overall, float("nan"))
    return replace(scores, log_variance=logs, overall_log_variance=overall)


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
