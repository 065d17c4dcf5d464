"""What the verb `data synthesize` can be told. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mmalign.config import Reward, Section
from mmalign.data.synthesis import Rules


class Filters(Section):
    """Which pairs are kept; `mmalign/data/synthesis.py` says in which order. `rank`: all, extremes, or a number k."""

    rank: Literal["all", "extremes"] | PositiveInt = "all"
    margin: NonNegativeFloat = 0.0
    floor: float | None = None
    top_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    helper_margin: NonNegativeFloat = 0.0
    helpers_needed: NonNegativeInt | None = None
    pair_confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.5
    temperature: PositiveFloat | None = None

    def rules(self) -> Rules:
        """The same for the library."""
        return Rules(**self.model_dump())


class Synthesize(Section):
    """Samples of a generator, a reward, further judges that must agree, and the filters."""

    input: str
    reward: Reward
    helpers: tuple[Reward, ...] = ()
    pairwise: Reward | None = None
    output: str
    split: str = "train"
    dimension: str = "overall"
    filters: Filters = Filters()
    batch_size: PositiveInt = 16
    workers: NonNegativeInt = 2
    fps: PositiveFloat | None = None
    max_frames: PositiveInt | None = 16
