"""A crowd of annotators as a reward: as one of them, a new person, or the mean of all sees it; saved and loaded.

    reward = rewardmodels.load("runs/plural/reward", annotator="ann")               # trained with, or joined since
    reward = rewardmodels.load("runs/plural/reward", annotator_pairs="mia.jsonl")   # new, from a few pairs
    personal.join("runs/plural/reward", "mia.jsonl")                                # and kept: annotator="mia"

A new person's few pairs move the person's own weights and nothing else (`plural.adapt`).

Legend: B samples, K prototypes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmalign.console import counted
from mmalign.train.skips import Skips
from mmalign.types import Modality, Sample, Scores
from rewardmodels.distribution import FeatureMap, feature_map
from rewardmodels.plural import Crowd, IdealPoints, adapt
from rewardmodels.plural_votes import votes_of_one, with_features
from rewardmodels.settings import SCHEMA, record_of

CONFIG, WEIGHTS = "reward_config.json", "plural.safetensors"
log = logging.getLogger("mmalign.rewards")


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
            "annotators": list(self.crowd.names), "num_joined": self.crowd.num_joined, "loss": self.crowd.loss,
            **dict(self.about),
        }  # fmt: skip
        (target / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        return target


def reward(
    crowd: Crowd,
    *,
    features: str,
    name: str = "plural",
    annotator: str | None = None,
    dimension: str = "overall",
) -> PluralReward:
    """A crowd on the features called `features` (see `rewardmodels.distribution`), as one annotator sees them.

    `dimension` is what its votes were on.
    """
    about = {"features": features, "dimension": dimension}
    return PluralReward(name, feature_map(features), crowd, crowd.of(annotator), about=about)


def load_folder(
    path: Path, *, annotator: str | None = None, annotator_pairs: str | Path | None = None
) -> PluralReward:
    """What `PluralReward.save` wrote, as one annotator (by name) or the mean of all sees it.

    `annotator_pairs` is a file of comparisons by a person who is not known yet: the reward is as this person sees it.
    """
    if annotator_pairs is None:
        return _opened(path, annotator)
    placed = place(_opened(path), annotator_pairs, annotator=annotator)
    if placed.skips.bad:
        log.warning("%s", placed.skips.summary(str(annotator_pairs)))
    return placed.reward


def _opened(path: Path, annotator: str | None = None) -> PluralReward:
    record = record_of(path / CONFIG)
    if record.get("schema") != SCHEMA or record.get("family") != "plural":
        raise ValueError(
            f"{path} is not a {SCHEMA} plural reward: give the `reward` folder of a plural/... run"
        )
    if "features" not in record:
        raise ValueError(f"{path / CONFIG} names no features: save a reward that was made by personal.reward")
    tensors = load_file(path / WEIGHTS)
    weights = tensors.pop("annotators")
    state = {key.removeprefix("points."): value for key, value in tensors.items()}
    kinds, width = state["prototypes"].shape
    points = IdealPoints(
        len(state["mean"]), prototypes=kinds, width=width, hidden=record["hidden"], form=record["form"]
    )
    points.load_state_dict(state)  # strict: every key, no other
    crowd = Crowd(
        points.requires_grad_(False), weights, tuple(record["annotators"]), float(record["loss"]),
        int(record.get("num_joined", 0)),
    )  # fmt: skip
    return reward(
        crowd, features=record["features"], name=record["name"], annotator=annotator,
        dimension=record.get("dimension", "overall"),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Placed:
    """A reward as a new person sees it, who is the last of its crowd; from how many pairs, and what was left out."""

    reward: PluralReward
    num_pairs: int
    skips: Skips

    @property
    def annotator(self) -> str:
        """The person's name."""
        return self.reward.crowd.names[-1]

    def summary(self) -> str:
        """One line for people."""
        shares = ", ".join(f"{share:.2f}" for share in self.reward.weights.tolist())
        return f"{self.annotator}: {counted(self.num_pairs, 'pair')}, weights {shares}"


def place(known: PluralReward, pairs: str | Path, *, annotator: str | None = None) -> Placed:
    """A new person in the crowd of a reward, by a file of the person's comparisons (`plural_votes.votes_of_one`)."""
    skips = Skips()
    told = votes_of_one(Path(pairs), str(known.about.get("dimension", "overall")), annotator, skips)
    name = told.annotator[0]
    votes, _ = with_features(told, known.features, [name], skips)
    skips.require_few(str(pairs), last=True)
    weights = adapt(known.crowd, votes.first, votes.second, votes.label)
    made = replace(known, crowd=known.crowd.joined_by(name, weights), weights=weights)
    return Placed(made, len(votes.label), skips)


def join(
    folder: str | Path, pairs: str | Path, *, annotator: str | None = None, output: str | Path | None = None
) -> Placed:
    """`place` in a saved reward, and keep: in `output`, or in the same folder."""
    placed = place(_opened(Path(folder)), pairs, annotator=annotator)
    placed.reward.save(output or folder)
    return placed
