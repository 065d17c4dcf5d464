"""Engines that say what a test tells them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rewardmodels.judges.chat import Answer, Question, Sampling, Words

Say = Callable[[Question, Sampling], str]
Weigh = Callable[[Question, str], float]


def words_of(question: Question) -> str:
    """The text of a question."""
    return " ".join(part for message in question.messages for part in message.parts if isinstance(part, str))


class Scripted:
    """Answers by a function of question and sampling; probabilities by one of question and word."""

    name = "scripted"

    def __init__(self, say: Say | None = None, weigh: Weigh | None = None) -> None:
        self.say, self.weigh = say, weigh
        self.asked: list[tuple[Question, Sampling]] = []

    def generate(self, questions: Sequence[Question], sampling: Sequence[Sampling]) -> list[Answer]:
        assert self.say is not None
        self.asked += list(zip(questions, sampling, strict=True))
        return [Answer(self.say(q, how)) for q, how in zip(questions, sampling, strict=True)]

    def first_words(
        self, questions: Sequence[Question], words: Sequence[str], *, variants: bool = True
    ) -> list[Words]:
        assert self.weigh is not None
        return [Words(tuple(math.log(self.weigh(q, word)) for word in words)) for q in questions]
