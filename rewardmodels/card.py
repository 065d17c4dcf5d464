"""The model card that is saved beside a reward model."""

from __future__ import annotations

import json

from mmalign.shapes.worlds import WORLDS
from rewardmodels.recipe import RewardRecipe
from rewardmodels.vlm import VlmReward, describe

CARD = """---
license: apache-2.0
library_name: mmalign
tags: [reward-model, preference, {architecture}]
---
# {name}

A reward model: {architecture} with a {head} head on the hidden state of the reward token, template `{template}`,
{parameters:,} parameters, dimensions {dimensions}. Scores are normalised (mean 0, standard deviation 1 on calibration
prompts); P(a is better) = sigmoid((score a - score b) / {temperature:.3f}).

```python
import rewardmodels
from mmalign.types import Sample

reward = rewardmodels.load("{folder}")
scores = reward(samples=[Sample("a red circle", "picture.png")])
```

{critiques}## How it was made

`mmalign train-reward {recipe}`, seed {seed}, {updates} updates{pairs}{cost}.

## What was measured

On prompts that were neither trained nor calibrated on:

```json
{quality}
```

`accuracy` is agreement with annotators' answers (interval: bootstrap over prompts); `expected` is agreement with fresh
answers of the same annotators, `best` the most anyone who knows the truth can expect, `ratio` their quotient.

## What it is not

It knows what it was trained on and nothing else. Watch a reward that was never optimised beside it.
"""


CRITIQUED = """It was trained to read a critique after the prompt: ask it as `critique-then-score`, with
`options: {{scorer: {folder}}}`.

"""


def card(model: VlmReward, recipe: RewardRecipe, *, folder: str = "", name: str = "") -> str:
    """The card of a model that a recipe has trained."""
    facts = describe(model)
    quality, shapes = facts["quality"], recipe.data.shapes
    drawn = (
        f" of {shapes.families} families of {shapes.prompts} prompts and {shapes.images} pictures"
        if recipe.data.pairs in WORLDS else f" of {recipe.data.comparisons_per_bundle} comparisons"
    )  # fmt: skip
    return CARD.format(
        architecture=type(model.vlm).__name__,
        name=facts["name"],
        head=facts["head"],
        template=facts["template"],
        parameters=facts["parameters"],
        dimensions=", ".join(facts["dimensions"]),
        temperature=facts["temperature"],
        folder=folder or f"{recipe.output}/reward",
        critiques=CRITIQUED.format(folder=folder or f"{recipe.output}/reward")
        if recipe.data.critiques
        else "",
        recipe=name or f"{recipe.output}/config.yaml",
        seed=recipe.seed,
        updates=recipe.budget.updates,
        pairs=drawn,
        cost=f"; {quality['seconds']:,} seconds with {quality['threads']} thread(s)"
        if "seconds" in quality
        else "",
        quality=json.dumps(quality, indent=1),
    )
