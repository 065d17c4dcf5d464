"""Plural preferences: K ideal points, and for each annotator how much each of them is his (PAL).

PAL (Chen et al. 2024, arXiv 2406.08469): an item is a point f(x) in a small space, annotator u wants what lies near his
ideal point a_u = sum_k w_uk p_k, a mixture of K prototypes, and P(u prefers x to y) = S(r_u(x) - r_u(y)) with

    distance    r_u(x) = -|f(x) - a_u|^2           inner    r_u(x) = f(x) . a_u

Both are, up to a constant of the annotator, sum_k w_uk s_k(x) with s_k the score of prototype k: so a reward has K
dimensions, an annotator is K numbers on the simplex, and fitting a new one (`adapt`) is a convex problem that a handful
of pairs solves, while f and the prototypes stay as they are. A crowd as a reward, saved and loaded, is in `personal`.

Differences from the paper: f is applied to frozen features of picture and prompt together (any `FeatureMap`); the
weights of a new annotator are drawn to the mean of the known ones by imagined votes, so that few pairs do not decide
too much.

Legend: V votes, F features, E width of the ideal-point space, K prototypes, U annotators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

Form = Literal["distance", "inner"]


class IdealPoints(nn.Module):
    """Features (B, F) to the scores of K prototypes (B, K)."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, num_features: int, *, prototypes: int, width: int = 8, hidden: int = 32, form: Form = "distance"
    ) -> None:
        super().__init__()
        if form not in ("distance", "inner"):
            raise ValueError(f"form must be distance or inner, got {form!r}")
        self.form = form
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))
        layers: list[nn.Module] = [nn.Linear(num_features, hidden), nn.GELU()] if hidden else []
        self.embed = nn.Sequential(*layers, nn.Linear(hidden or num_features, width))
        self.prototypes = nn.Parameter(torch.randn(prototypes, width) / width**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """The K scores of each sample."""
        points = self.embed((features.float() - self.mean) / self.std)
        if self.form == "inner":
            return points @ self.prototypes.T
        return -(points[:, None] - self.prototypes[None]).square().sum(-1)

    def center_on(self, features: Tensor) -> None:
        """Take mean and spread of these features (B, F) out from now on."""
        self.mean.copy_(features.float().mean(dim=0))
        self.std.copy_(features.float().std(dim=0).clamp(min=1e-6))


@dataclass(frozen=True)
class PluralVotes:
    """V votes on pairs: features of both sides, p(first is better), and whose vote it is.

    `chance` is p(the first wins) by the annotator's law, where that is known: for measuring only.
    """

    first: Tensor  # (V, F)
    second: Tensor  # (V, F)
    label: Tensor  # (V,) in [0, 1]
    annotator: Tensor  # (V,) int64 in [0, U)
    chance: Tensor | None = None  # (V,)

    def __post_init__(self) -> None:
        num = len(self.label)
        if (
            not num
            or self.first.shape != self.second.shape
            or not len(self.first) == len(self.annotator) == num
        ):
            raise ValueError(
                "votes need features of both sides, a label and an annotator each, and one or more of them"
            )


@dataclass(frozen=True, eq=False)
class Crowd:
    """Trained ideal points and the weights (U, K) of the annotators they were trained with.

    Whoever joined since (the last `num_joined`) is no part of the mean: what others are told of it stays the same.
    """

    points: IdealPoints
    weights: Tensor  # (U, K), rows on the simplex
    names: tuple[str, ...]
    loss: float
    num_joined: int = 0

    @property
    def trained(self) -> tuple[str, ...]:
        """The names of those it was trained with."""
        return self.names[: len(self.names) - self.num_joined]

    @property
    def mean(self) -> Tensor:
        """The mean (K,) of those it was trained with."""
        return self.weights[: len(self.trained)].mean(dim=0)

    def joined_by(self, name: str, weights: Tensor) -> Crowd:
        """The crowd with one more person of these weights (K,); who joined before under that name is replaced."""
        if name in self.trained:
            raise ValueError(
                f"annotator '{name}' was trained with: load the reward with annotator={name} and no pairs, or give "
                "the new person another name"
            )
        kept = [k for k, known in enumerate(self.names) if known != name]
        names = (*(self.names[k] for k in kept), name)
        grown = torch.cat([self.weights[kept], weights[None]])
        return replace(self, weights=grown, names=names, num_joined=len(names) - len(self.trained))

    def of(self, annotator: str | None) -> Tensor:
        """The weights (K,) of one by name, or of the mean annotator."""
        if annotator is None:
            return self.mean
        if annotator not in self.names:
            shown = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
            raise ValueError(
                f"annotator '{annotator}' is not known: {shown}; adapt to a few of their pairs first "
                "(`mmalign adapt-reward`)"
            )
        return self.weights[self.names.index(annotator)]


@dataclass(frozen=True)
class Fit:
    """How ideal points are trained: full batches with Adam, the best of several starts."""

    prototypes: int = 2
    width: int = 8
    hidden: int = 32
    form: Form = "distance"
    num_steps: int = 300
    lr: float = 2e-2
    decay: float = 1e-3
    starts: int = 2
    seed: int = 0
    strength: float = 1.0
    """Imagined votes that draw an annotator to the mean of all."""


def fit(votes: PluralVotes, names: Sequence[str], options: Fit = Fit()) -> Crowd:
    """Ideal points and annotators from votes; of several starts the one of lowest loss."""
    crowds = [_fit(votes, tuple(names), options, options.seed + start) for start in range(options.starts)]
    return min(crowds, key=lambda crowd: crowd.loss)


def _fit(votes: PluralVotes, names: tuple[str, ...], options: Fit, seed: int) -> Crowd:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        points = IdealPoints(
            votes.first.shape[1], prototypes=options.prototypes, width=options.width, hidden=options.hidden,
            form=options.form,
        )  # fmt: skip
        logits = nn.Parameter(0.1 * torch.randn(len(names), options.prototypes))
    points.center_on(torch.cat([votes.first, votes.second]))
    groups = [
        {"params": list(points.parameters()), "weight_decay": options.decay},
        {"params": [logits], "weight_decay": 0.0, "lr": 5 * options.lr},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.num_steps)
    loss = torch.tensor(torch.inf)
    for _ in range(options.num_steps):
        optimizer.zero_grad()
        weights = logits.softmax(dim=1)
        gap = ((points(votes.first) - points(votes.second)) * weights[votes.annotator]).sum(dim=1)
        loss = cross_entropy(gap, votes.label).mean()
        pull = -(weights.mean(dim=0).detach() * weights.clamp(min=1e-9).log()).sum() / len(votes.label)
        (loss + options.strength * pull).backward()
        optimizer.step()
        schedule.step()
    return Crowd(points.requires_grad_(False), logits.softmax(dim=1).detach(), names, float(loss.detach()))


def cross_entropy(gap: Tensor, label: Tensor) -> Tensor:
    """-p log S(gap) - (1 - p) log S(-gap)."""
    return -label * logsigmoid(gap) - (1 - label) * logsigmoid(-gap)


def adapt(crowd: Crowd, first: Tensor, second: Tensor, label: Tensor, *, strength: float = 1.0) -> Tensor:
    """The weights (K,) of a new annotator from pairs (V, F), (V, F) with p(first is better) (V,); convex.

    `strength` imagined votes speak for the mean of the known annotators; with no pairs that is the answer.
    """
    with torch.no_grad():
        gap = (crowd.points(first) - crowd.points(second)).double().numpy()
    p, usual = label.double().numpy(), crowd.mean.double().numpy()

    def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
        w = np.exp(logits - logits.max())
        w = w / w.sum()
        margin = gap @ w
        cost = float((np.logaddexp(0, -margin) * p + np.logaddexp(0, margin) * (1 - p)).sum())
        cost -= strength * float(usual @ np.log(w.clip(1e-12)))
        slope = gap.T @ (1 / (1 + np.exp(-margin)) - p) - strength * usual / w.clip(1e-12)
        return cost, w * (slope - w @ slope)

    found = minimize(loss, np.log(usual.clip(1e-6)), jac=True, method="L-BFGS-B").x
    made = np.exp(found - found.max())
    return torch.from_numpy(made / made.sum()).float()
