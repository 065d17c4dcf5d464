"""What the comparison page compares: generators on one prompt and equal seeds, judged by rewards.

The page needs no more of a generator than `Generator`, and of a reward no more than `mmalign.types.RewardModel`.
Here is also how the words of a command line become generators.

Shapes: media is (T, C, H, W) in [0, 1]; an image has T = 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from mmalign.types import Modality, RewardModel

MAX_PICTURES = 8


class Generator(Protocol):
    """Makes one medium a seed for a prompt; equal seeds start from equal noise in every generator."""

    name: str
    modality: Modality

    def __call__(self, prompt: str, settings: Settings) -> list[Tensor]: ...


@dataclass(frozen=True)
class Settings:
    """What all generators are given alike; `source` is the image to edit, (3, H, W)."""

    seeds: tuple[int, ...]
    num_steps: int
    guidance: float
    source: Tensor | None = None


@dataclass(frozen=True)
class Named:
    """A path with the name it is shown under."""

    name: str
    path: str


@dataclass(frozen=True)
class Opinion:
    """What one reward says of one medium: a value, or the reason why there is none; right or wrong, if it knows."""

    value: float
    reason: str | None = None
    right: bool | None = None

    @property
    def known(self) -> bool:
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Entry:
    """What one generator made from one seed, with the opinions by reward."""

    generator: str
    media: Tensor
    opinions: dict[str, Opinion] = field(default_factory=dict)


CLOSE = 0.005


@dataclass(frozen=True)
class Round:
    """The entries of all generators for one seed."""

    seed: int
    entries: tuple[Entry, ...]

    def preferred(self, reward: str) -> str | None:
        """The generator whose entry this reward scores highest; None for a tie or when one score is missing.

        Scores that differ by less than `CLOSE` of the larger are a tie.
        """
        opinions = [entry.opinions.get(reward) for entry in self.entries]
        values = [opinion.value for opinion in opinions if opinion is not None and opinion.known]
        if len(values) < max(2, len(self.entries)):
            return None
        second, first = sorted(values)[-2:]
        if math.isclose(first, second, rel_tol=CLOSE):
            return None
        return self.entries[values.index(max(values))].generator


@dataclass(frozen=True)
class Tally:
    """How often each generator was preferred by one reward, and how many rounds were ties or unjudged."""

    reward: str
    wins: dict[str, int]
    undecided: int


def parse_named(text: str, flag: str) -> Named:
    """`name=path`, or a path whose last part becomes the name.

    >>> parse_named("tuned=runs/quickstart/lora", "--lora")
    Named(name='tuned', path='runs/quickstart/lora')
    >>> parse_named("runs/other/", "--model")
    Named(name='other', path='runs/other/')
    """
    name, sign, path = text.partition("=")
    if not sign:
        path, name = text, Path(text).name
    if not name.strip() or not path.strip():
        raise ValueError(f"{flag} {text!r} must be a path or name=path")
    return Named(name.strip(), path.strip())


def unique(names: Sequence[str]) -> None:
    """Names must differ: they head the columns of the page."""
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ValueError(f"two generators are called {double[0]!r}: give them different names with name=path")


def read_prompt(prompt: str | None) -> str:
    """The prompt without stray white space; an empty one is refused."""
    words = re.sub(r"\s+", " ", prompt or "").strip()
    if not words:
        raise ValueError("Please type a prompt first.")
    return words


def read_seeds(seed: float | None, num_pictures: float) -> tuple[int, ...]:
    """`num_pictures` consecutive seeds from `seed` on."""
    if seed is None or seed != int(seed) or not 0 <= seed < 2**31:
        raise ValueError("The seed must be a whole number from 0 to 2147483647.")
    if not 1 <= num_pictures <= MAX_PICTURES:
        raise ValueError(f"Choose 1 to {MAX_PICTURES} pictures.")
    return tuple(int(seed) + offset for offset in range(int(num_pictures)))


def judge(
    media: Sequence[Tensor], prompt: str, rewards: Sequence[RewardModel], source: Tensor | None = None
) -> list[dict[str, Opinion]]:
    """The opinions of every reward on every medium."""
    from mmalign.types import Sample  # torch is loaded only when there is something to judge

    samples = [Sample(prompt=prompt, media=item, source=source) for item in media]
    opinions: list[dict[str, Opinion]] = [{} for _ in samples]
    for reward in rewards:
        scores = reward(samples=samples)
        passes = getattr(reward, "passes", None)  # a judge that knows the truth says this too
        right = [None] * len(samples) if passes is None else passes(samples=samples)
        for index, found in enumerate(opinions):
            found[reward.name] = Opinion(float(scores.overall[index]), scores.reasons[index], right[index])
    return opinions


def compete(
    generators: Sequence[Generator],
    rewards: Sequence[RewardModel],
    prompt: str,
    settings: Settings,
) -> Iterator[list[Round]]:
    """Run the generators one by one on `prompt`; after each, the rounds so far."""
    done: list[tuple[str, list[Tensor], list[dict[str, Opinion]]]] = []
    for generator in generators:
        media = generator(prompt, settings)
        done.append((generator.name, media, judge(media, prompt, rewards, settings.source)))
        yield [
            Round(seed, tuple(Entry(name, made[i], said[i]) for name, made, said in done))
            for i, seed in enumerate(settings.seeds)
        ]


def tally(rounds: Sequence[Round], reward: str) -> Tally:
    """Count what `reward` prefers over all rounds."""
    wins = {entry.generator: 0 for entry in rounds[0].entries}
    for contest in rounds:
        best = contest.preferred(reward)
        if best is not None:
            wins[best] += 1
    return Tally(reward, wins, len(rounds) - sum(wins.values()))
