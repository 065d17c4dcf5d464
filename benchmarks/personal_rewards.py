"""Personal rewards against one reward for all, and how many pairs a new annotator must answer.

    python -m benchmarks.personal_rewards          # writes results/personal_rewards.json

Annotators of 2 or 4 tastes (`mmalign.shapes.tastes`), whose law is known, vote on pairs of pictures; who has which
taste is not told. `shared` is one reward for all (ideal points with a single prototype), `personal` has a prototype a
taste and finds each annotator's mixture, both as `mmalign train-reward plural/shapes` trains them. Known annotators are
measured on votes that were held out, new ones after the first k of theirs, which move their mixture and nothing else.
Accuracy is what fresh votes can be expected to give, in parts of the best that anyone could reach.

Shape legend: V votes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.overhead import machine
from mmalign.config import load_config
from mmalign.stats import intervals
from pipelines import train_plural
from rewardmodels import plural
from rewardmodels.distribution import feature_map
from rewardmodels.plural import Fit
from rewardmodels.plural_recipe import PluralRecipe
from rewardmodels.plural_votes import with_features

RESULTS = Path(__file__).parent / "results" / "personal_rewards.json"
SHOWN = (0, 1, 2, 4, 8, 16, 32)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tastes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--annotators", type=int, default=40)
    parser.add_argument("--votes", type=int, default=60, help="of each annotator")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--output", default=str(RESULTS))
    options = parser.parse_args(arguments)
    rows = [crowd_row(num, options) for num in options.tastes]
    result = {
        "command": "python -m benchmarks.personal_rewards",
        "machine": machine(),
        "annotators": options.annotators, "votes_each": options.votes, "seeds": options.seeds,
        "rows": rows,
    }  # fmt: skip
    Path(options.output).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(rows))


def crowd_row(num_tastes: int, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of crowds of so many tastes, each a mean over the seeds."""
    found = [measured(num_tastes, seed, options) for seed in range(options.seeds)]
    return {"tastes": num_tastes} | {
        name: intervals.mean([one[name] for one in found]).as_dict() for name in found[0]
    }


def measured(num_tastes: int, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The figures of one crowd."""
    changes = [
        f"seed={seed}", f"model.prototypes={num_tastes}", f"data.num_tastes={num_tastes}",
        f"data.num_annotators={options.annotators}", f"data.votes_each={options.votes}",
    ]  # fmt: skip
    recipe = load_config("plural/shapes", changes, PluralRecipe)
    told = train_plural.read(recipe.data, seed)
    names = list(dict.fromkeys(told.annotator))
    votes, _ = with_features(told, feature_map(recipe.model.features), names)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(names)).tolist()
    num_new = round(recipe.data.new_annotators * len(names))
    new, known = order[:num_new], order[num_new:]
    shown, hidden = train_plural.split(votes, known, recipe.data.heldout, rng)
    whose = [known.index(k) for k in votes.annotator[hidden].tolist()]
    made: dict[str, float] = {}
    for name, prototypes in (("shared", 1), ("personal", num_tastes)):
        fit = Fit(
            prototypes=prototypes, width=recipe.model.width, hidden=recipe.model.hidden, form=recipe.model.form,
            seed=seed, **recipe.fit.model_dump(),
        )  # fmt: skip
        crowd = plural.fit(train_plural.renumbered(votes, shown, known), [names[k] for k in known], fit)
        found = train_plural.measure(votes, hidden, list(crowd.weights[torch.tensor(whose)]), crowd)
        made |= {f"known_{name}": found["personal"]["ratio"], "best": found["personal"]["best"]}
    for few in (few for few in SHOWN if few < options.votes):  # the crowd is the personal one
        placed = train_plural.newcomers(crowd, votes, new, few)
        made[f"new_after_{few}"] = placed["new"]["personal"]["ratio"]
    return made


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table, in parts of the best."""
    names = [name for name in rows[0] if name not in ("tastes", "best")]
    lines = [f"| tastes | best | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        cells = [str(row["tastes"]), f"{row['best']['mean']:.3f}"]
        cells += [f"{row[n]['mean']:.1%} [{row[n]['low']:.1%}, {row[n]['high']:.1%}]" for n in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
