"""What a judge in words is made of: the strict schema of `files/*.yaml`. Imports no torch.

A file names the judge's questions (our wordings and their versions), how answers are read, the scale, and the published
checkpoint it is meant for. The section `judge` is chosen by its `kind`:

    points      generated text with numbers, in one or several questions, K passes averaged
    principles  a plan of checks for the prompt, each then verified by itself
    pair        two candidates in one question, in both orders
    yes_no      probability of yes against no as the first word, possibly after reasoning or beside a reference
    digits      expectation over the digits low ... high as the first word
    echo        mean log-probability of the prompt itself
    checklist   yes/no questions and their weights
    critiqued   a critique in words, then the score of a reward model that reads it with the prompt
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mmalign.config import Section, load_config
from rewardmodels.judges.winners import PARTS

FOLDER = Path(__file__).resolve().parent / "files"
Picture = Literal["source", "media"]
Rule = Literal["mean", "sum", "sum_middle", "final", "editscore", "cme", "qma"]


class Number(Section):
    """A number of a verdict; `label` is what the answer calls it (in lines also several, parted by |, such as ours and
    that of a published prompt), `optional` allows N/A. Any number in the range is read; training teaches to say whole
    ones, or those that lie `step` apart.
    """

    name: str
    low: float
    high: float
    label: str = ""
    optional: bool = False
    step: PositiveFloat | None = None


class Draw(Section):
    """How answers are drawn."""

    max_tokens: PositiveInt = 512
    temperature: NonNegativeFloat = 0.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    top_k: NonNegativeInt = 0


class Ask(Section):
    """One question; `after` names an earlier one whose answer stands at `{critique}`."""

    name: str
    wording: str
    shows: tuple[Picture, ...] = ("source", "media")
    system: str | None = None
    after: str | None = None
    format: Literal["json_list", "json_fields", "lines", "tag", "boxed", "free"] = "json_fields"
    key: str = "score"
    fields: tuple[Number, ...] = ()
    notes: dict[str, str] = Field(default_factory=dict)


class Points(Section):
    """Numbers in generated text. Of `passes` drawn answers at least half must be readable.

    `overall` is a rule of `text.OVERALL`. N/A is left out of `mean` and of `sum`, which is the mean times how many
    numbers there are; `sum_middle` puts the middle of the range in its place, as RationalRewards' publishers do.
    """

    kind: Literal["points"]
    asks: tuple[Ask, ...]
    overall: Rule = "mean"
    draw: Draw = Draw()
    passes: PositiveInt = 1

    @model_validator(mode="after")
    def _in_order(self) -> Points:
        known: set[str] = set()
        for ask in self.asks:
            if ask.after is not None and ask.after not in known:
                raise ValueError(f"'{ask.name}' comes after '{ask.after}', which is not asked before it")
            known.add(ask.name)
        names = [field.name for ask in self.asks for field in ask.fields]
        if not names or len(set(names)) != len(names):
            raise ValueError("the fields of all asks need names, each once")
        if self.passes > 1 and self.draw.temperature == 0:
            raise ValueError("several passes at temperature 0 are all the same: raise draw.temperature")
        return self


class Principles(Section):
    """Checks drawn up for the prompt, then verified one by one; `kinds` are their weights in the overall score."""

    kind: Literal["principles"]
    plan: str
    verify: str
    kinds: dict[str, PositiveFloat]
    plan_shows: tuple[Picture, ...] = ("source",)
    verify_shows: tuple[Picture, ...] = ("source", "media")
    most: PositiveInt = 12
    draw: Draw = Draw()


class Pair(Section):
    """Which of two is better, asked in both orders: in words (`winners` has the styles), or from the probabilities of
    two `words`, the first of which says that the first is better.

    Within a group a sample's score is the mean of what `overall` names: `win_rate`, or numbers that the style gives.
    """

    kind: Literal["pair"]
    wording: str
    style: Literal["sentence", "tag", "json", "criteria", "scores", "shares", "probability"] = "sentence"
    key: str = "answer"
    overall: tuple[Literal["win_rate", "criteria", "score", "alignment", "coherence", "style"], ...] = (
        "win_rate",
    )
    words: tuple[str, str] = ("1", "2")
    shows: tuple[Literal["source"], ...] = ("source",)
    draw: Draw = Draw()
    min_mass: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1

    @model_validator(mode="after")
    def _has_these(self) -> Pair:
        known = ("win_rate", *PARTS.get(self.style, ()))
        if not self.overall or not set(self.overall) <= set(known):
            raise ValueError(f"overall of style {self.style} must name some of {', '.join(known)}")
        return self


class YesNo(Section):
    """P(yes) / (P(yes) + P(no)) at the first word of the answer, or after up to `reasoning` tokens and `verdict`."""

    kind: Literal["yes_no"]
    wording: str
    dimension: str = "yes"
    yes: str = "yes"
    no: str = "no"
    variants: bool = True
    min_mass: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    shows: tuple[Picture, ...] = ("source", "media")
    reference: bool = False
    reasoning: NonNegativeInt = 0
    verdict: str = "\nVerdict:"
    pairs_of_frames: bool = False


class Digits(Section):
    """Expectation over the digits as the first word, on [0, 1]."""

    kind: Literal["digits"]
    wording: str
    dimension: str = "score"
    low: NonNegativeInt = 0
    high: Annotated[int, Field(le=9)] = 5
    min_mass: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    shows: tuple[Picture, ...] = ("source", "media")

    @model_validator(mode="after")
    def _a_range(self) -> Digits:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self

    @property
    def worths(self) -> dict[str, float]:
        """Every digit with its place on [0, 1]."""
        width = self.high - self.low
        return {str(self.low + step): step / width for step in range(width + 1)}


class Echo(Section):
    """Mean log-probability of the prompt as an answer to a fixed question about the picture."""

    kind: Literal["echo"]
    wording: str
    dimension: str = "prompt_likelihood"
    shows: tuple[Picture, ...] = ("media",)


class Check(Section):
    """A question of a checklist, with the sample's prompt for `{prompt}`; it counts only where the question named by
    `where` is answered yes. With `probability` its answer is P(yes) on [0, 1], as VQAScore has it, also where the
    checklist is `hard`.
    """

    name: str
    question: str
    weight: float = 1.0
    where: str | None = None
    probability: bool = False


class Checklist(Section):
    """Yes/no questions; the score is the weighted sum of 2 P(yes) - 1, or of +-1 where `hard`; a check may count as
    P(yes) instead.
    """

    kind: Literal["checklist"]
    wording: str
    checks: tuple[Check, ...]
    hard: bool = False
    yes: str = "yes"
    no: str = "no"
    min_mass: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    shows: tuple[Picture, ...] = ("media",)

    @model_validator(mode="after")
    def _gates(self) -> Checklist:
        names = [check.name for check in self.checks]
        for check in self.checks:
            if check.where is not None and (check.where not in names or check.where == check.name):
                raise ValueError(f"check '{check.name}': there is no other check '{check.where}'")
        if not names or len(set(names)) != len(names):
            raise ValueError("checks need names, each once")
        return self


class Critiqued(Section):
    """`critique` asks for the words, `joined` is what the scorer then reads as its prompt."""

    kind: Literal["critiqued"]
    critique: str
    joined: str
    shows: tuple[Picture, ...] = ("source", "media")
    draw: Draw = Draw()


Kind = Points | Principles | Pair | YesNo | Digits | Echo | Checklist | Critiqued


class JudgeFile(Section):
    """A judge: what it is, and how it asks."""

    name: str
    about: str
    modalities: tuple[Literal["image", "edit", "video"], ...]
    scale: str
    licence: str = "see the checkpoint"
    checkpoint: str | None = None
    """Hub id of the published weights this judge is meant for; null: any instruction model with pictures."""
    max_frames: PositiveInt = 8
    """At most so many frames of a video are shown, from first to last."""
    videos: Literal["frames", "clip"] = "frames"
    """How a video is shown: as so many pictures, or as one clip of two frames a second in the model's own tokens, with
    times. Servers, which know no such part of a message, are shown the frames of a clip as pictures."""
    judge: Annotated[Kind, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _sets_have_frames(self) -> JudgeFile:
        if self.videos == "clip" and isinstance(self.judge, YesNo) and self.judge.pairs_of_frames:
            raise ValueError("pairs_of_frames asks about the pictures of a set: set videos to frames")
        return self


def read_judge(name_or_path: str) -> JudgeFile:
    """One of ours by name, or a user's YAML file, which may have changed since it was last read."""
    ours = FOLDER / f"{name_or_path}.yaml"
    if ours.is_file():
        return _ours(ours)
    path = Path(name_or_path)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise ValueError(f"no judge '{name_or_path}': give a YAML file, or one of {names}")
    return load_config(path, [], JudgeFile)


@lru_cache(maxsize=64)
def _ours(path: Path) -> JudgeFile:
    return load_config(path, [], JudgeFile)
