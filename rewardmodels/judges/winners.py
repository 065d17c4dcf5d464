"""What an answer says of two: which is better, or a tie, and maybe numbers for each.

    sentence   ... Image 1 is better than Image 2.               the last such sentence; `equally good` is a tie
    tag        <answer>Image 1 is better</answer>                UnifiedReward-Think (arXiv 2505.03318)
    json       {"answer": "A"}
    criteria   {"categories": [{"cat_winner": "Image 1"}, ...], "winner": "Image 1"}
                                                                 UnifiedReward-Flex (2602.02380)
    scores     Image 1: 0.52  Image 2: -1.3                      UnifiedReward-Edit's pairwise scores
    shares     Alignment Score: Image 1: 0.44  Image 2: 0.56     UnifiedReward-2.0's pairwise scores
               Coherence Score: ...  Style Score: ...

`criteria` also has what each wins of the first three categories, the mandatory ones, as in the published reward.
`shares` are what each of two has of 1 in three respects; their mean is p(the first is better).

Differences from the published code: it gives half a point to both where no winner is named, and drops the minus of a
score; here the one is unreadable and the other is kept. Of shares it names no overall and reads no answer: the mean is
ours, and shares that do not sum to 1 but for rounding, as they are asked to, are unreadable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from rewardmodels.judges.verdicts import NUMBER, Unreadable, last_object, last_tag, quote, spoken

Style = Literal["sentence", "tag", "json", "criteria", "scores", "shares"]
PARTS: Mapping[str, tuple[str, ...]] = {
    "criteria": ("criteria",),
    "scores": ("score",),
    "shares": ("alignment", "coherence", "style"),
}
"""By style the numbers that each of two gets beside the verdict."""
MANDATORY = 3
ROUNDING = 0.01
"""How far from 1 two shares may sum, as in the importer of the published training data."""
_NOUN = r"(?:image|video|picture|edit|candidate|response|option|answer)"
_SIDE = {"1": 1.0, "a": 1.0, "first": 1.0, "2": 0.0, "b": 0.0, "second": 0.0}
_MEANS = r"(?:\s+score)?[\s*_\"']*(?::|=|\bis\b)[\s*_\"']*"
_END = r"(?!\.?\d|[\w%/])"
"""What may not follow a number: more of it, or the other half of a fraction."""
_TIE = re.compile(r"(?i)\b(tie|equal|equally|both|same)\b")


@dataclass(frozen=True)
class Outcome:
    """1 where the first of two is better, 0 for the second, 0.5 for a tie; of shares the first's; `parts` are numbers
    for each.
    """

    first: float
    parts: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def outcome(text: str, style: Style = "sentence", key: str = "answer") -> Outcome:
    """What an answer says of two; Unreadable quotes how it starts.

    >>> outcome("... Image 2 is better than Image 1.").first, outcome("<answer>A</answer>", "tag").first
    (0.0, 1.0)
    >>> outcome("Image 1: 0.5, Image 2: -1.3", "scores").parts
    {'score': (0.5, -1.3)}
    """
    said = spoken(text)
    try:
        if style == "scores":
            pair = _scores(said)
            return Outcome(larger(*pair), {"score": pair})
        if style == "shares":
            return _shares(said)
        if style == "criteria":
            return _criteria(last_object(said, key), key)
        if style == "json":
            return Outcome(_side(str(last_object(said, key)[key])))
        return Outcome(_side(last_tag(said, key)) if style == "tag" else _sentence(said))
    except Unreadable as problem:
        raise Unreadable(f"{problem}; the answer starts {quote(text)}") from None


def larger(first: float, second: float) -> float:
    """1 where the first number is larger, 0 for the second, 0.5 for equal ones."""
    return 0.5 if first == second else float(first > second)


def _scores(text: str) -> tuple[float, float]:
    """Numbers by label, each the last of its kind; without labels the only two decimals of the answer."""
    plain = text.replace("\N{MINUS SIGN}", "-")
    first, second = (
        re.findall(rf"(?i)\b{_NOUN}\s*{side}\b{_MEANS}({NUMBER}){_END}", plain) for side in (1, 2)
    )
    loose = [] if first or second else re.findall(rf"(?<![\w.])[-+]?\d+\.\d+{_END}", plain)
    found = [float(first[-1]), float(second[-1])] if first and second else [float(one) for one in loose]
    if len(found) != 2 or not all(map(math.isfinite, found)):
        raise Unreadable("no score for each of two, as 'Image 1: number' and 'Image 2: number'")
    return found[0], found[1]


def _shares(text: str) -> Outcome:
    found = {respect: _shared(text, respect) for respect in PARTS["shares"]}
    return Outcome(fmean(first for first, _ in found.values()), found)


def _shared(text: str, respect: str) -> tuple[float, float]:
    """What each of two has in a respect, below its heading, where it is said last; scaled to sum to exactly 1."""
    gap = r"[\s,;.*_-]*"
    first, second = (rf"{gap}\b{_NOUN}\s*{side}\b{_MEANS}({NUMBER}){_END}" for side in (1, 2))
    said = re.findall(rf"(?i)\b{respect}{_MEANS}{first}{second}", text)
    if not said:
        raise Unreadable(
            f"no {respect} score for each of two, as 'Image 1: number' and 'Image 2: number' below it"
        )
    one, other = map(float, said[-1])
    if min(one, other) < 0 or abs(one + other - 1) > ROUNDING:
        raise Unreadable(f"the {respect} scores {one:g} and {other:g} must be shares that sum to 1")
    return one / (one + other), other / (one + other)


def _criteria(record: Mapping[str, Any], key: str) -> Outcome:
    categories = record.get("categories")
    if not isinstance(categories, list) or not categories:
        raise Unreadable('the JSON lacks "categories"')
    won = [_category(one) for one in categories[:MANDATORY]]
    return Outcome(_side(str(record[key])), {"criteria": (fmean(won), 1 - fmean(won))})


def _category(record: Any) -> float:
    if not isinstance(record, Mapping) or "cat_winner" not in record:
        raise Unreadable('a category has no "cat_winner"')
    return _side(str(record["cat_winner"]))


def _sentence(text: str) -> float:
    side = r"(1|2|a|b)"
    better = rf"\b{_NOUN}\s+{side}\s+is\s+(?:clearly\s+|slightly\s+|much\s+)?better"
    found = list(re.finditer(rf"(?i){better}|\bequally\s+(?:good|bad)\b", text))
    if not found:
        raise Unreadable("no sentence says which is better")
    return 0.5 if found[-1][1] is None else _SIDE[found[-1][1].lower()]


def _side(text: str) -> float:
    words = text.strip().strip("\"'*.` ").lower()
    short = re.fullmatch(rf"(?:{_NOUN}\s+)?(1|2|a|b|first|second)(?:\s+{_NOUN})?", words)
    if short is not None:
        return _SIDE[short[1]]
    try:
        return _sentence(text)
    except Unreadable:
        if _TIE.search(words) and not re.search(r"(?i)\bbetter\b", words):
            return 0.5
    raise Unreadable(f"{quote(text)} names neither the first, nor the second, nor a tie")
