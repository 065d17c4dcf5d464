"""From what a head says and what annotators said to a loss: pairs, all candidates of a prompt, or ratings.

Legend: P pairs, S distinct samples, D dimensions of labels, G prompts, N candidates of each, K levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mmalign.objectives import ordinal, ranking
from mmalign.objectives import reward as objectives
from mmalign.types import Loss, PreferencePair, Sample
from rewardmodels.heads.readout import Overall, Readout, fused_log_std, overall_of
from rewardmodels.recipe import Method

RATINGS = "ratings"
"""The entry of `Sample.metadata` that holds ratings by dimension."""


class TieWidth(nn.Module):
    """A learned tie parameter for each of D dimensions: theta = 1 + softplus(x), or nu = exp(x)."""

    def __init__(self, law: str, start: float, num_dimensions: int) -> None:
        super().__init__()
        if law == "rao_kupper" and start <= 1:
            raise ValueError(f"rao_kupper needs tie_width above 1, got {start}")
        first = math.log(math.expm1(start - 1)) if law == "rao_kupper" else math.log(start)
        self.law, self.raw = law, nn.Parameter(torch.full((num_dimensions,), first))

    def forward(self) -> Tensor:
        """theta or nu (D,)."""
        return 1 + nn.functional.softplus(self.raw) if self.law == "rao_kupper" else self.raw.exp()


def with_overall(readout: Readout, rule: Overall) -> Readout:
    """The readout with the fused score as a last dimension."""
    values = torch.cat([readout.values, overall_of(readout.values, rule)[:, None]], 1)
    if readout.log_std is None:
        return Readout(values)
    spread = fused_log_std(readout.log_std, rule, readout.values)
    return Readout(values, torch.cat([readout.log_std, spread[:, None]], 1))


def loss_of(
    method: Method, read: Readout | Tensor, pairs: Sequence[PreferencePair], first: Tensor, second: Tensor,
    *, width: Tensor | None = None, generator: torch.Generator | None = None,
) -> Loss:  # fmt: skip
    """The loss of every pair from the scores (S, D), summed over dimensions; an absent label is left out."""
    read = Readout(read) if isinstance(read, Tensor) else read
    device, nan = read.values.device, float("nan")
    table = [[pair.labels.get(dim, nan) for dim in method.label_dimensions] for pair in pairs]
    labels = torch.tensor(table, device=device)
    shares = [[float(pair.ties.get(dim, 0.0)) for dim in method.label_dimensions] for pair in pairs]
    ties = torch.tensor(shares, device=device)
    a, b = read.select(first.to(device)), read.select(second.to(device))
    made = _pair_loss(method, a, b, labels, ties, width, generator)
    if method.absolute.weight:
        made = _with_absolute(method, made, a, b, pairs)
    weight = torch.tensor([pair.weight for pair in pairs], device=device)
    return Loss(made.per_sample * weight, made.metrics)


def _with_absolute(
    method: Method, pair_loss: Loss, a: Readout, b: Readout, pairs: Sequence[PreferencePair]
) -> Loss:
    """The loss of pairs, and the mean of both items' own losses by the absolute weight."""
    sides = ((a, [pair.a for pair in pairs]), (b, [pair.b for pair in pairs]))
    first, second = (
        _absolute_loss(method, read, samples, method.label_dimensions) for read, samples in sides
    )
    alone = (first.per_sample + second.per_sample) / 2
    accuracy = (first.metrics["accuracy"] + second.metrics["accuracy"]) / 2
    return Loss(
        pair_loss.per_sample + method.absolute.weight * alone,
        {**pair_loss.metrics, "absolute_accuracy": accuracy, "absolute_loss": alone.detach().mean()},
    )


def _absolute_loss(
    method: Method, read: Readout, samples: Sequence[Sample], dimensions: Sequence[str]
) -> Loss:
    """The binary cross-entropy of every sample that was rated good or bad."""
    asked = method.absolute
    share = (_ratings(samples, dimensions, read.values.device) - asked.bad) / (asked.good - asked.bad)
    if bool(((share < 0) | (share > 1)).any()):
        raise ValueError(
            f"labels good or bad lie from {asked.bad:g} to {asked.good:g}, got others: "
            "set method.absolute.bad and method.absolute.good to what the data says"
        )
    return ordinal.binary(score=read.values, target=share, label_smoothing=asked.label_smoothing)


def _ratings(samples: Sequence[Sample], dimensions: Sequence[str], device: torch.device) -> Tensor:
    """Ratings (S, D); NaN where there is none."""
    nan = float("nan")
    table = [[s.metadata.get(RATINGS, {}).get(dim, nan) for dim in dimensions] for s in samples]
    return torch.tensor(table, dtype=torch.float32, device=device)


def _pair_loss(
    method: Method, a: Readout, b: Readout, labels: Tensor, ties: Tensor,
    width: Tensor | None, generator: torch.Generator | None,
) -> Loss:  # fmt: skip
    sides = {"score_a": a.values, "score_b": b.values, "label": labels}
    if method.loss == "bradley_terry":
        return objectives.bradley_terry(
            **sides, margin=method.margin, label_smoothing=method.label_smoothing,
            label_noise=method.label_noise, centre=method.center,
        )  # fmt: skip
    if method.loss == "gaussian":
        if a.log_std is None or b.log_std is None:
            raise ValueError("the gaussian loss needs a head with an uncertainty: 'gaussian' or 'fused'")
        return objectives.gaussian(
            mean_a=a.values, mean_b=b.values, log_std_a=a.log_std, log_std_b=b.log_std, label=labels,
            margin=method.margin, method=method.gaussian.method, num_points=method.gaussian.points, generator=generator,
        )  # fmt: skip
    scale = method.tie_width if width is None else width
    if method.loss == "davidson":
        return objectives.davidson(**sides, tie=ties, nu=scale)
    tied = partial(objectives.rao_kupper, score_a=a.values, score_b=b.values, label=labels, tie=ties)
    if method.loss == "win_tie":
        return tied(theta=math.exp(method.margin), constant=False)
    assert method.loss == "rao_kupper", f"{method.loss} is no loss of pairs"
    return tied(theta=scale)


def rating_loss(method: Method, read: Readout, samples: Sequence[Sample]) -> Loss:
    """The loss of every sample from its ratings (levels 1 ... K, or any scale for a regression)."""
    if method.loss == "binary":
        return _absolute_loss(method, read, samples, method.dimensions)
    target = _ratings(samples, method.dimensions, read.values.device)
    if method.loss in ("mse", "huber"):
        kind = "mse" if method.loss == "mse" else "huber"
        return ordinal.regression(
            score=read.values, target=target, centre=method.rating_center, kind=kind, delta=method.huber_delta  # type: ignore[arg-type]
        )  # fmt: skip
    if read.logits is None:
        raise ValueError(f"the loss {method.loss} needs a head of ordered levels: 'corn' or 'coral'")
    num_levels = read.logits.shape[2] + 1
    if bool(((target < 1) | (target > num_levels)).any()):
        raise ValueError(f"ratings of this head are levels from 1 to {num_levels}; got others")
    level = torch.where(target.isfinite(), target.round() - 1, torch.full_like(target, -1)).long().flatten()
    judge = ordinal.corn if method.loss == "corn" else ordinal.thresholds
    made = judge(logits=read.logits.flatten(0, 1), target=level)
    return Loss(made.per_sample.view(target.shape).sum(dim=1), made.metrics)


@dataclass(frozen=True, eq=False)
class Listed:
    """The candidates of one prompt, or the prompts of one medium, and how often each won (a tie is half a win)."""

    samples: tuple[Sample, ...]
    wins: tuple[float, ...]
    weight: float = 1.0

    @property
    def one_prompt(self) -> bool:
        """Whether it is media that are compared."""
        return len({sample.prompt for sample in self.samples}) == 1


def lists_of(pairs: Sequence[PreferencePair], dimension: str) -> list[Listed]:
    """All candidates of every prompt and source among the pairs, and all prompts of every medium.

    Pairs that have neither in common say nothing here.
    """
    found: dict[tuple[object, object], dict[int, tuple[Sample, float]]] = {}
    weights: dict[tuple[object, object], float] = {}
    for pair in pairs:
        label = pair.labels.get(dimension, float("nan"))
        shared = pair.a.prompt if pair.a.prompt == pair.b.prompt else _identity(pair.a.media)
        if math.isnan(label) or (shared != pair.a.prompt and shared != _identity(pair.b.media)):
            continue
        key = (shared, _identity(pair.a.source))
        members = found.setdefault(key, {})
        weights[key] = pair.weight
        for sample, share in ((pair.a, label), (pair.b, 1 - label)):
            members[id(sample)] = (sample, members.get(id(sample), (sample, 0.0))[1] + share)
    return [
        Listed(tuple(s for s, _ in members.values()), tuple(w for _, w in members.values()), weights[key])
        for key, members in found.items()
    ]


def _identity(media: Tensor | Path | None) -> object:
    return id(media) if isinstance(media, Tensor) else media


def list_loss(method: Method, scores: Tensor, lists: Sequence[Listed]) -> Loss:
    """The loss of every prompt from the scores (G, N) of its candidates, all lists being of one length."""
    wins = torch.tensor([one.wins for one in lists], device=scores.device)
    if method.loss == "choice":
        best = (wins == wins.amax(dim=1, keepdim=True)).float()
        made = ranking.choice(scores=scores, target=best)
    elif method.loss == "plackett_luce":
        made = ranking.plackett_luce(scores=scores, ranks=-wins)
    else:
        made = ranking.all_pairs(scores=scores, ranks=-wins)
    weight = torch.tensor([one.weight for one in lists], device=scores.device)
    return replace(made, per_sample=made.per_sample * weight)
