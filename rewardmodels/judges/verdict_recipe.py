"""The recipe of `mmalign train-judge`: a model that says its verdict, warmed up on ratings, then trained on pairs.

Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mmalign.config import Checkpoint, Optimizer, Section
from rewardmodels.recipe import WORLDS, PairData, Shapes, require_judged

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Judge(Section):
    """The start: a bundled reward or a folder of a reward model with hidden-state head, or of a verdict model."""

    path: str = "shapes-reward"
    name: str = "spoken-judge"
    asks: Literal["point", "pair"] = "point"
    """`point`: a mark from 0 to 9 for one picture; `pair`: which of two pictures, 1 or 2."""
    marks: Annotated[int, Field(ge=2, le=10)] = 10


class JudgedPairs(PairData):
    """The data of a judge; the built-in worlds keep their held-out prompts apart themselves. Judges of probabilities
    and checklists are measured on half of the held-out prompts, and calibrated on the other half.
    """

    @model_validator(mode="after")
    def _apart(self) -> JudgedPairs:
        if self.heldout == self.pairs and self.pairs not in WORLDS:
            raise ValueError("heldout is the file that is trained on: give another, or null")
        return self


class WarmUp(Section):
    """Supervised verdicts, so that there is something to reinforce: ratings of shapes with `noise` added, rounded."""

    updates: NonNegativeInt = 60
    noise: NonNegativeFloat = 0.3
    lr: PositiveFloat = 3e-4


class Reinforcement(Section):
    """How often a question is answered, what an answer earns for its form, and the policy update on what was drawn."""

    answers: Annotated[int, Field(ge=2)] = 8
    format_weight: NonNegativeFloat = 0.5
    clip_range: PositiveFloat = 0.2
    pre_clip: tuple[PositiveFloat, PositiveFloat] | None = (1e-3, 1e3)
    filter_sigmas: PositiveFloat | None = 3.0
    kl: NonNegativeFloat = 0.0
    advantages: Literal["group", "global", "none"] = "group"
    updates_per_iteration: PositiveInt = 1


class Method(Reinforcement):
    """`gcpo`: marks of the better must beat marks of the worse; `rule`: a pair's verdict must be right."""

    name: Literal["judge"] = "judge"
    reward: Literal["gcpo", "rule"] = "gcpo"


class Budget(Section):
    """Iterations of reinforcement, each on `bundles_per_iteration` bundles of pairs, shared out over the processes."""

    iterations: PositiveInt = 300
    bundles_per_iteration: PositiveInt = 1


class Evaluation(Section):
    """Held-out pairs: every so many iterations on `num_prompts`, before and after on `final_prompts`. Of a file these
    are at most so many of its prompts, drawn once and for all: every time, and in every run, the same.
    """

    every: PositiveInt | None = 50
    num_prompts: PositiveInt = 56
    final_prompts: PositiveInt = 560


class JudgeRecipe(Section):
    """A whole run of verdict training."""

    judge: Judge = Judge()
    data: JudgedPairs = JudgedPairs(shapes=Shapes(families=8, prompts=2, cross=0))
    warm_up: WarmUp = WarmUp()
    method: Method = Method()
    optimizer: Optimizer = Optimizer(lr=1e-4)
    budget: Budget = Budget()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    seed: int = 0
    output: str = "runs/judge"
    trackers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> JudgeRecipe:
        if (self.method.reward == "rule") != (self.judge.asks == "pair"):
            raise ValueError("method.reward gcpo goes with judge.asks point, and rule with pair")
        if self.data.pairs not in WORLDS and self.warm_up.updates:
            raise ValueError(
                "the warm-up has ratings of shapes only: set warm_up.updates=0 and start from a verdict model"
            )
        require_judged(self.data, ("image",), "the data")
        return self
