"""The recipe of `mmalign train-judge` for judges that write: warmed up on ratings, then reinforced by pairs.

Imports no torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from mmalign.config import Checkpoint, Section
from rewardmodels.judges.probability_recipe import Start
from rewardmodels.judges.settings import Pair, Points, Principles
from rewardmodels.judges.verdict_recipe import Budget, Evaluation, Fraction, JudgedPairs, Reinforcement
from rewardmodels.recipe import WORLDS, RewardOptimizer, require_judged


class Answers(Section):
    """Supervised answers in the judge's own format, so that there is something to reinforce (EditScore's SFT).

    Numbers come from ratings: a field from those of the dimension that `ratings` names for it, else of `overall`, and
    `scale` is the range of the ratings (null: levels of the built-in worlds); `noise` is added to every rating, as a
    share of its range. Which of two is better comes from the labels of pairs. `critique` is said before every verdict
    (in JSON as its reason) where the data hold none.
    """

    updates: NonNegativeInt = 60
    lr: PositiveFloat = 3e-4
    schedule: Literal["constant", "cosine"] = "constant"
    noise: NonNegativeFloat = 0.0
    ratings: dict[str, str] = Field(default_factory=dict)
    scale: tuple[float, float] | None = None
    critique: str = ""

    @model_validator(mode="after")
    def _a_range(self) -> Answers:
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError("warm_up.scale is the lowest and the highest rating, such as [1, 5]")
        return self


class TextMethod(Reinforcement):
    """Drawn answers and what they earn: marks of the better of two must beat those of the worse (GCPO), or a verdict on
    two must name the better (R1-Reward); a readable answer earns `format_weight`. StableReinforce clips and filters.
    """

    name: Literal["text"] = "text"
    temperature: PositiveFloat = 1.0
    average: Fraction = 0.0
    """Decay of the averaged weights that are measured and saved; 0 takes the last ones."""


class TextRecipe(Section):
    """A whole run of training a judge that writes."""

    judge: Start = Start(asks="editscore")
    data: JudgedPairs = JudgedPairs()
    warm_up: Answers = Answers()
    method: TextMethod = TextMethod()
    optimizer: RewardOptimizer = RewardOptimizer(lr=1e-4)
    budget: Budget = Budget()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    seed: int = 0
    output: str = "runs/judge"
    trackers: tuple[str, ...] = ()

    @property
    def scale(self) -> tuple[float, float]:
        """The range of the ratings."""
        return self.warm_up.scale or (1.0, float(self.data.shapes.levels))

    @property
    def rated(self) -> dict[str, str]:
        """By what a judge of single pictures says (fields, or kinds of checks) the dimension that rates it."""
        judge, given = self.judge.settings.judge, self.warm_up.ratings
        names: tuple[str, ...] = ()
        if isinstance(judge, Points):
            names = tuple(field.name for ask in judge.asks for field in ask.fields)
        elif isinstance(judge, Principles):
            names = tuple(judge.kinds)
        return {name: given.get(name, "overall") for name in names}

    @model_validator(mode="after")
    def _trainable(self) -> TextRecipe:
        judge, first = self.judge.settings.judge, self.warm_up
        if not isinstance(judge, Points | Principles | Pair) or (
            isinstance(judge, Pair) and judge.style == "probability"
        ):
            raise ValueError(
                "judge.asks must write: kind points, principles, or pair but for style probability"
            )
        unknown = sorted(set(first.ratings) - set(self.rated))
        if unknown:
            known = ", ".join(self.rated) or "none: it compares two"
            raise ValueError(f"warm_up.ratings names '{unknown[0]}'; numbers of judge.asks: {known}")
        free = isinstance(judge, Points) and any(ask.format == "free" for ask in judge.asks)
        if first.updates and free and not first.critique:
            raise ValueError("judge.asks writes a free critique: give the words for it in warm_up.critique")
        if first.updates and self.rated and self.data.pairs not in WORLDS and first.scale is None:
            raise ValueError("ratings in a file need warm_up.scale, such as [1, 5]; or set warm_up.updates=0")
        self.judge.require_precise()
        require_judged(self.data, self.judge.settings.modalities, "one of data and judge.asks.modalities")
        return self
