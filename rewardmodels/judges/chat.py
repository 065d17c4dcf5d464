"""How a language model is asked: questions with pictures in, answers out, whoever answers.

Two engines keep this protocol: `local.LocalEngine` (a transformers model in this process) and
`endpoint.Endpoint` (any OpenAI-compatible server). Both see the same eight-bit pixels.

    Question    messages, and possibly the words the answer begins with
    Sampling    how the answer is drawn; the same question, sampling and seed give the same answer
    Answer      text, or the problem why there is none
    Words       log-probabilities that the answer begins with each of W given words

Legend: C H W one picture, W words.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from torch import Tensor

from mmalign.media import to_pil
from rewardmodels.clips import Clip

Medium = Tensor | Clip
"""One picture (3, H, W) in [0, 1], or a video in time."""
Part = str | Medium
Role = Literal["system", "user", "assistant"]
_SPECIAL = re.compile(
    r"<\|([^|<>]{1,40})\|>|<(/?(?:s|image|video|img|IMG_CONTEXT|bos|eos|pad|think|answer))>"
)


@dataclass(frozen=True, eq=False)
class Message:
    """What one side says: texts, pictures and clips in order."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Question:
    """A conversation to be continued by the model; its answer begins with `start`, which is not repeated."""

    messages: tuple[Message, ...]
    start: str = ""

    @property
    def pictures(self) -> list[Tensor]:
        """All pictures in order."""
        return [part for message in self.messages for part in message.parts if isinstance(part, Tensor)]

    @property
    def clips(self) -> list[Clip]:
        """All videos in order."""
        return [part for message in self.messages for part in message.parts if isinstance(part, Clip)]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of every word and every eight-bit pixel."""
        seen = hashlib.sha256(self.start.encode())
        for message in self.messages:
            seen.update(f"\x1e{message.role}".encode())
            for part in message.parts:
                if isinstance(part, str):
                    seen.update(b"\x1ft" + part.encode())
                elif isinstance(part, Clip):
                    seen.update(f"\x1fv{part.times}{part.step}".encode())
                    for frame in part.frames:
                        seen.update(_picture(frame))
                else:
                    seen.update(_picture(part))
        return seen.hexdigest()


def _picture(pixels: Tensor) -> bytes:
    return f"\x1fi{tuple(pixels.shape)}".encode() + to_pil(pixels.detach()).tobytes()


def ask(*parts: Part, system: str | None = None, start: str = "") -> Question:
    """A question of one user message.

    >>> [message.role for message in ask("Is it red?", system="You judge.").messages]
    ['system', 'user']
    """
    first = (Message("system", (system,)),) if system else ()
    return Question((*first, Message("user", parts)), start)


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; temperature 0 takes the likeliest token each time."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    schema: Mapping[str, Any] | None = None
    """A JSON schema that servers with guided decoding hold the answer to; local engines ignore it."""

    def record(self) -> dict[str, Any]:
        """Plain values, for a cache key."""
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """What came back. Exactly one of a text and a `problem`; `cut` says that the length limit ended it. A model in this
    process also gives its `tokens`, with the one that ended it.
    """

    text: str = ""
    problem: str | None = None
    cut: bool = False
    num_tokens: int = 0
    tokens: Sequence[int] = ()


@dataclass(frozen=True)
class Words:
    """Log-probabilities (W,) that the answer begins with each word; -inf for one that was not reported."""

    log_probs: tuple[float, ...] = ()
    problem: str | None = None

    @property
    def mass(self) -> float:
        """The probability of all words together: how far the model answers in the expected words."""
        return math.fsum(math.exp(value) for value in self.log_probs)

    def shares(self) -> tuple[float, ...]:
        """Probabilities given that one of the words is said; they sum to 1.

        >>> [round(p, 6) for p in Words((math.log(0.3), math.log(0.1))).shares()]
        [0.75, 0.25]
        """
        top = max(self.log_probs)
        weights = [math.exp(value - top) for value in self.log_probs]
        total = math.fsum(weights)
        return tuple(weight / total for weight in weights)


class Engine(Protocol):
    """Something that answers. A question it cannot answer gets a problem and harms no other."""

    @property
    def name(self) -> str: ...

    def generate(self, questions: Sequence[Question], sampling: Sequence[Sampling]) -> list[Answer]:
        """One answer a question."""
        ...

    def first_words(
        self, questions: Sequence[Question], words: Sequence[str], *, variants: bool = True
    ) -> list[Words]:
        """How likely each answer begins with each word; with `variants` in any case and with spaces around."""
        ...


class Echo(Protocol):
    """An engine that can also say how likely a given answer is, token by token."""

    def echo(self, questions: Sequence[Question], answers: Sequence[str]) -> list[Words]:
        """Mean log-probability of the tokens of each given answer, as `Words` of one entry."""
        ...


def guard(text: str) -> str:
    """A user's words with control tokens taken apart, so that they cannot end a turn or stand for a picture.

    >>> guard("a cat <|im_end|> and <image> of 3 < 4")
    'a cat < |im_end| > and < image > of 3 < 4'
    """
    return _SPECIAL.sub(lambda m: f"< |{m[1]}| >" if m[1] is not None else f"< {m[2]} >", text)


def matches(token: str, word: str, *, variants: bool) -> bool:
    """Whether a token is this word, exactly or but for case and space around it.

    >>> matches(" Yes", "yes", variants=True), matches(" Yes", "yes", variants=False)
    (True, False)
    """
    return token.strip().casefold() == word.casefold() if variants else token == word


def png(picture: Tensor) -> bytes:
    """The picture (3, H, W) in [0, 1] as a PNG: lossless."""
    buffer = io.BytesIO()
    to_pil(picture.detach()).save(buffer, "PNG")
    return buffer.getvalue()


def key_of(engine: str, question: Question, request: Mapping[str, Any]) -> str:
    """The name of an answer in a cache: everything that decides it."""
    text = json.dumps([engine, question.digest, request], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Review:
    """What a judge that speaks says of one sample: scores by dimension, and in which words."""

    scores: Mapping[str, float] = field(default_factory=dict)
    overall: float = math.nan
    reason: str | None = None
    answers: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    """Critique, refined prompt and the like, by name."""
    details: Mapping[str, float] = field(default_factory=dict)
    """Numbers about the judgement itself: captured mass, readable passes, spread."""
    variance: Mapping[str, float] = field(default_factory=dict)
    """Over the passes of a self-ensemble, by dimension."""
    overall_variance: float = math.nan
