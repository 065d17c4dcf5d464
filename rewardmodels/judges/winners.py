"""Which of two is better, read from an answer: a sentence, a tag or JSON that names one of them, or a tie."""

from __future__ import annotations

import re
from typing import Literal

from rewardmodels.judges.verdicts import Unreadable, last_object, last_tag, quote, spoken

Style = Literal["sentence", "tag", "json"]
_NOUN = r"(?:image|video|picture|edit|candidate|response|option|answer)"
_SIDE = {"1": 1.0, "a": 1.0, "first": 1.0, "2": 0.0, "b": 0.0, "second": 0.0}
_TIE = re.compile(r"(?i)\b(tie|equal|equally|both|same)\b")


def winner(text: str, style: Style = "sentence", key: str = "answer") -> float:
    """1 where the answer names the first of two as better, 0 for the second, 0.5 for a tie.

    >>> winner("... Image 2 is better than Image 1."), winner("<answer>A</answer>", "tag")
    (0.0, 1.0)
    """
    said = spoken(text)
    try:
        if style == "json":
            return _side(str(last_object(said, key)[key]))
        if style == "tag":
            return _side(last_tag(said, key))
        return _sentence(said)
    except Unreadable as problem:
        raise Unreadable(f"{problem}; the answer starts {quote(text)}") from None


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
