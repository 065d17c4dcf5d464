"""Plural preferences: K ideal points, and for each annotator how much each of them is his (PAL).

PAL (Chen et al. 2024, arXiv 2406.08469): an item is a point f(x) in a small space, annotator u wants what lies near his
ideal point a_u = sum_k w_uk p_k, a mixture of K prototypes, and P(u prefers x to y) = S(r_u(x) - r_u(y)) with

    distance    r_u(x) = -|f(x) - a_u|^2           inner    r_u(x) = f(x) . a_u

Both are, up to a constant of the annotator, sum_k w_uk s_k(x) with s_k the score of prototype k: so a reward has K
dimensions, an annotator is K numbers on the simplex, and fitting a new one (`adapt`) is a convex problem that a handful
of pairs solves, while f and the prototypes stay as they are.

Differences from the paper: f is applied to frozen features of picture and prompt together (any `FeatureMap`); the
weights of a new annotator are drawn to the mean of the known ones by imagined votes, so that few pairs do not decide
too much.

Legend: V votes, F features, E width of the ideal-point space, K prototypes, U annotators.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from mmalign.types import Modality, Sample, Scores
from rewardmodels.distribution import FeatureMap, feature_map

Form = Literal["distance", "inner"]
SCHEMA = "mmalign.reward/1"
CONFIG, WEIGHTS = "reward_config.json", "plural.safetensors"


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
    """Trained ideal points and the weights (U, K) of the annotators they were trained with."""

    points: IdealPoints
    weights: Tensor  # (U, K), rows on the simplex
    names: tuple[str, ...]
    loss: float

    @property
    def mean(self) -> Tensor:
        """The mean annotator (K,)."""
        return self.weights.mean(dim=0)

    def of(self, annotator: str | None) -> Tensor:
        """The weights (K,) of one by name, or of the mean annotator."""
        if annotator is None:
            return self.mean
        if annotator not in self.names:
            shown = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
            raise ValueError(
                f"annotator '{annotator}' is not known: {shown}; adapt to a few of their pairs first"
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


@dataclass(frozen=True, eq=False)
class PluralReward:
    """A crowd as a reward: a dimension each prototype, overall as one annotator, or the mean of all, sees it."""

    name: str
    features: FeatureMap
    crowd: Crowd
    weights: Tensor  # (K,)
    modalities: frozenset[Modality] = frozenset({"image", "edit", "video"})
    differentiable: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """type_1 ... type_K."""
        return tuple(f"type_{k + 1}" for k in range(len(self.weights)))

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        """Scores of every prototype; a sample without features is NaN with its reason."""
        found = self.features(samples)
        values = torch.full((len(samples), len(self.weights)), float("nan"))
        if bool(found.valid.any()):
            with torch.no_grad():
                values[found.valid] = self.crowd.points(found.values[found.valid].cpu())
        return Scores(values, self.dimensions, values @ self.weights, found.valid, found.reasons)

    def save(self, folder: str | Path) -> Path:
        """Weights and settings; `rewardmodels.load(folder, annotator=...)` gives the same scores."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        state = {f"points.{key}": value.contiguous() for key, value in self.crowd.points.state_dict().items()}
        save_file(state | {"annotators": self.crowd.weights.contiguous()}, target / WEIGHTS)
        points = self.crowd.points
        hidden = points.embed[0].out_features if len(points.embed) > 1 else 0
        record = {
            "schema": SCHEMA, "family": "plural", "name": self.name, "form": points.form, "hidden": hidden,
            "annotators": list(self.crowd.names), "loss": self.crowd.loss, **dict(self.about),
        }  # fmt: skip
        (target / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        return target


def reward(
    crowd: Crowd, *, features: str, name: str = "plural", annotator: str | None = None
) -> PluralReward:
    """A crowd on the features called `features` (see `rewardmodels.distribution`), as one annotator sees them."""
    return PluralReward(name, feature_map(features), crowd, crowd.of(annotator), about={"features": features})


def load_folder(path: Path, *, annotator: str | None = None) -> PluralReward:
    """What `PluralReward.save` wrote, as one annotator (by name) or the mean of all sees it."""
    record = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    if record.get("schema") != SCHEMA or record.get("family") != "plural":
        raise ValueError(f"{path} is not a {SCHEMA} plural reward")
    if "features" not in record:
        raise ValueError(f"{path / CONFIG} names no features: save a reward that was made by plural.reward")
    tensors = load_file(path / WEIGHTS)
    weights = tensors.pop("annotators")
    state = {key.removeprefix("points."): value for key, value in tensors.items()}
    kinds, width = state["prototypes"].shape
    points = IdealPoints(
        len(state["mean"]), prototypes=kinds, width=width, hidden=record["hidden"], form=record["form"]
    )
    points.load_state_dict(state)  # strict: every key, no other
    crowd = Crowd(points.requires_grad_(False), weights, tuple(record["annotators"]), float(record["loss"]))
    return reward(crowd, features=record["features"], name=record["name"], annotator=annotator)
