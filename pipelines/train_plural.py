"""The verb `train-reward` for personal rewards: votes that name their annotators become ideal points and weights.

Output folder: `config.yaml`, `reward/` (`rewardmodels.load("runs/.../reward", annotator=NAME)`), and `quality.json`:
pair accuracy on held-out votes as each annotator sees it, as the mean annotator would, and of annotators that were not
trained on, from a few of their pairs.

Legend: V votes, F features, K prototypes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.config import load_config, to_yaml
from mmalign.console import counted
from mmalign.shapes.tastes import taste_votes
from mmalign.stats import intervals
from mmalign.train.skips import Skips
from rewardmodels import personal, plural
from rewardmodels.distribution import feature_map
from rewardmodels.examination import Judged, against_law
from rewardmodels.plural import Crowd, Fit, PluralVotes
from rewardmodels.plural_recipe import PluralData, PluralRecipe
from rewardmodels.plural_votes import Told, named_votes, with_features

FEWEST = 5
"""Votes of an annotator below which nothing is held out of them."""


def run(
    config: str | Path, overrides: Sequence[str] = (), *, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train, measure, save; gives what was measured."""
    recipe = load_config(config, overrides, PluralRecipe)
    skips = Skips()
    told = read(recipe.data, recipe.seed, skips)
    names = list(dict.fromkeys(told.annotator))
    if len(names) < 2:
        raise ValueError(f"a personal reward needs two or more annotators, got {len(names)}")
    votes, left_out = with_features(told, feature_map(recipe.model.features), names)
    rng = np.random.default_rng(recipe.seed)
    new = set(rng.permutation(len(names))[: round(recipe.data.new_annotators * len(names))].tolist())
    known = [k for k in range(len(names)) if k not in new]
    shown, hidden = split(votes, known, recipe.data.heldout, rng)
    say(
        f"{counted(len(votes.label), 'vote')} of {counted(len(names), 'annotator')}, {left_out} left out; "
        f"training on {len(shown)}"
    )
    options = Fit(
        prototypes=recipe.model.prototypes, width=recipe.model.width, hidden=recipe.model.hidden,
        form=recipe.model.form, seed=recipe.seed, **recipe.fit.model_dump(),
    )  # fmt: skip
    crowd = plural.fit(renumbered(votes, shown, known), [names[k] for k in known], options)
    quality = {
        "votes": len(votes.label),
        "left_out": left_out,
        "bad_lines": skips.lines,
        "annotators": len(names),
        "known": measure(
            votes, hidden, [crowd.of(names[k]) for k in votes.annotator[hidden].tolist()], crowd
        ),
        **newcomers(crowd, votes, sorted(new), recipe.data.few),
    }
    save(recipe, crowd, quality)
    if skips.bad:
        say(skips.summary(recipe.data.votes))
    say(f"{summary(quality)}; {Path(recipe.output) / 'reward'}")
    return quality


def read(data: PluralData, seed: int, skips: Skips | None = None) -> Told:
    """Votes of the built-in tastes, or of a file, whose bad lines are counted in `skips` (or refused without)."""
    if data.votes == "shapes":
        made = taste_votes(
            "train", num_annotators=data.num_annotators, num_votes=data.votes_each, num_tastes=data.num_tastes,
            seed=seed,
        )  # fmt: skip
        return Told(made.annotator, made.pairs, made.label, made.chance)
    return named_votes(Path(data.votes), data.dimension, skips)


def split(
    votes: PluralVotes, known: Sequence[int], share: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Rows of known annotators to train on, and a share of each annotator's rows that is held out."""
    shown, hidden = [], []
    for who in known:
        rows = rng.permutation(torch.nonzero(votes.annotator == who).flatten().numpy())
        num = round(share * len(rows)) if len(rows) >= FEWEST else 0
        hidden.append(rows[:num])
        shown.append(rows[num:])
    return torch.from_numpy(np.concatenate(shown)), torch.from_numpy(np.concatenate(hidden))


def renumbered(votes: PluralVotes, rows: Tensor, known: Sequence[int]) -> PluralVotes:
    """The votes at these rows, annotators counted among the known."""
    order = {who: k for k, who in enumerate(known)}
    who = torch.tensor([order[one] for one in votes.annotator[rows].tolist()])
    return PluralVotes(votes.first[rows], votes.second[rows], votes.label[rows], who)


def newcomers(crowd: Crowd, votes: PluralVotes, new: Sequence[int], few: int) -> dict[str, Any]:
    """Annotators who were not trained on: the first `few` of their votes place them, the others measure it."""
    rows, weights = [], []
    for who in new:
        own = torch.nonzero(votes.annotator == who).flatten()
        if len(own) <= few:
            continue
        first = own[:few]
        placed = plural.adapt(crowd, votes.first[first], votes.second[first], votes.label[first])
        rows.append(own[few:])
        weights += [placed] * (len(own) - few)
    return {"new": measure(votes, torch.cat(rows), weights, crowd) | {"few": few}} if rows else {}


def measure(votes: PluralVotes, rows: Tensor, weights: Sequence[Tensor], crowd: Crowd) -> dict[str, Any]:
    """Pair accuracy over untied votes, intervals by annotator: personal, and of the mean annotator.

    Where the law is known, also what fresh answers can be expected to give, the best, and their ratio.
    """
    decided = votes.label[rows] != 0.5
    if not bool(decided.any()):
        return {}
    gap = crowd.points(votes.first[rows]) - crowd.points(votes.second[rows])
    gap, truth = gap[decided], votes.label[rows][decided]
    whose = tuple(str(who) for who in votes.annotator[rows][decided].tolist())
    chance = torch.full_like(truth, torch.nan) if votes.chance is None else votes.chance[rows][decided]
    made = {}
    for name, share in (
        ("personal", torch.stack(list(weights))[decided]),
        ("mean_annotator", crowd.mean.expand_as(gap)),
    ):
        ahead = (gap * share).sum(dim=1)
        made[name] = intervals.mean(((ahead > 0) == (truth > 0.5)).double().numpy(), whose).as_dict()
        if votes.chance is not None:
            made[name] |= against_law(Judged(ahead, torch.zeros_like(ahead), truth, chance, whose, whose))
    return made


def save(recipe: PluralRecipe, crowd: Crowd, quality: dict[str, Any]) -> None:
    """Everything a run leaves behind."""
    folder = Path(recipe.output)
    made = personal.reward(
        crowd, features=recipe.model.features, name=recipe.model.name, dimension=recipe.data.dimension
    )
    made.save(folder / "reward")
    (folder / "config.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    (folder / "quality.json").write_text(json.dumps(quality, indent=2) + "\n", encoding="utf-8")


def summary(quality: dict[str, Any]) -> str:
    """One line for people."""
    parts = [
        f"{title} {quality[key]['personal']['mean']:.3f} (mean annotator {quality[key]['mean_annotator']['mean']:.3f})"
        for key, title in (
            ("known", "held-out votes"),
            ("new", f"new annotators from {counted(quality.get('new', {}).get('few', 0), 'pair')}"),
        )
        if quality.get(key)
    ]
    return ", ".join(parts) or "nothing was held out"
