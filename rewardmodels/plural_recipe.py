"""The recipe of a personal reward (`mmalign train-reward plural/shapes`): votes by annotator, features, ideal points.

Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mmalign.strict import Section

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class PluralModel(Section):
    """K prototypes in a space of `width`; `hidden` 0 is a linear map. `features`: see `rewardmodels.distribution`."""

    name: str
    prototypes: Annotated[int, Field(ge=1)]
    features: str
    width: PositiveInt = 8
    hidden: NonNegativeInt = 32
    form: Literal["distance", "inner"] = "distance"


class PluralData(Section):
    """`votes`: comparisons that name their annotators (mmalign.pref/1), or `shapes`, simulated tastes.

    A share of every annotator's votes is held out, and a share of the annotators altogether: these are the new ones, of
    whom only `few` votes are shown.
    """

    votes: str = "shapes"
    dimension: str = "overall"
    heldout: Share = 0.2
    new_annotators: Share = 0.2
    few: PositiveInt = 12
    num_annotators: PositiveInt = 40
    votes_each: PositiveInt = 60
    num_tastes: Annotated[int, Field(ge=2, le=4)] = 2


class PluralFit(Section):
    """Full batches with Adam, the best of several starts; `strength` imagined votes draw annotators to the mean."""

    num_steps: PositiveInt = 200
    lr: PositiveFloat = 2e-2
    decay: NonNegativeFloat = 1e-3
    starts: PositiveInt = 2
    strength: PositiveFloat = 1.0


class PluralRecipe(Section):
    """A whole run."""

    model: PluralModel
    data: PluralData = PluralData()
    fit: PluralFit = PluralFit()
    seed: int = 0
    output: str = "runs/plural"
