"""Rewards that are asked now and answer later, so that the next pictures are sampled while these are judged.

A reward may offer `submit(samples=...)`, which returns at once something whose `.result()` waits for the scores: a
`concurrent.futures.Future` will do. `submit` below asks any reward so; one without the method has answered already.

Shape legend: `B` samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mmalign.types import RewardModel, Sample, Scores


class Pending(Protocol):
    """Scores (B,) under way."""

    def result(self) -> Scores:
        """Waits for them; asked again it gives the same."""


@runtime_checkable
class Asynchronous(Protocol):
    """A reward that answers later. It must not need the samples' tensors to stay as they are."""

    def submit(self, *, samples: Sequence[Sample]) -> Pending:
        """Begins to judge and returns at once."""


@dataclass(frozen=True, eq=False)
class Ready:
    """Scores that are there."""

    scores: Scores

    def result(self) -> Scores:
        """At once."""
        return self.scores


@dataclass(frozen=True, eq=False)
class Later:
    """Scores that a step makes of other scores under way."""

    parts: Sequence[Pending]
    finish: Callable[[list[Scores]], Scores]

    def result(self) -> Scores:
        """Waits for all parts, then finishes."""
        return self.finish([part.result() for part in self.parts])


@dataclass(frozen=True, eq=False)
class Judging:
    """A reward as the function the library takes, samples to scores, which can be asked ahead as well."""

    model: RewardModel

    def __call__(self, samples: Sequence[Sample]) -> Scores:
        """The scores, waited for."""
        return self.model(samples=samples)

    def submit(self, *, samples: Sequence[Sample]) -> Pending:
        """The scores, later where the reward can."""
        return submit(self.model, samples)


def submit(model: RewardModel, samples: Sequence[Sample]) -> Pending:
    """Begins to judge: at once finished, unless the reward is asynchronous."""
    if isinstance(model, Asynchronous):
        return model.submit(samples=samples)
    return Ready(model(samples=samples))


def submit_all(models: Sequence[RewardModel], samples: Sequence[Sample]) -> list[Pending]:
    """Begins to judge with several rewards; those that answer later are asked first and work while the others do."""
    under_way = {k: m.submit(samples=samples) for k, m in enumerate(models) if isinstance(m, Asynchronous)}
    return [under_way[k] if k in under_way else Ready(m(samples=samples)) for k, m in enumerate(models)]
