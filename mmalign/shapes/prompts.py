"""Prompts of the shapes world: specs to words, words back to specs, seeded samples of both.

Prompts are lower case, at most `MAX_WORDS` words long, without punctuation.

>>> parse("a picture of three blue squares").required
(Requirement(count=3, color='blue', shape='square', size=None),)
>>> parse("a square right of a circle") == parse("a circle to the left of a square")
True
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from mmalign.shapes.scene import COLORS, SHAPES, SIZES
from mmalign.shapes.specs import (
    CATEGORIES,
    PromptSpec,
    Requirement,
    canonical,
    heldout_specs,
    train_specs,
)

SPLITS = ("train", "heldout")
MAX_WORDS = 12
QUOTED = 80
OPENINGS: tuple[str, ...] = ("", "a picture of", "a drawing of", "there is", "there are")
JOINS: dict[str, str | None] = {
    "and": None,
    "with": None,
    "next to": None,
    "left of": "left of",
    "to the left of": "left of",
    "on the left of": "left of",
    "right of": "right of",
    "to the right of": "right of",
    "on the right of": "right of",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
}
"""Every way to put two noun phrases together, and the relation it demands."""

_ONE = ("a", "an", "one")
_NUMBERS = {"two": 2, "three": 3, "four": 4}
_PLURALS = {"cross": "crosses"} | {shape: f"{shape}s" for shape in SHAPES if shape != "cross"}
_SINGULARS = {plural: shape for shape, plural in _PLURALS.items()}
_OPPOSITE = {"left of": "right of", "above": "below"}


def vocabulary() -> tuple[str, ...]:
    """Every word a prompt can hold, sorted."""
    phrases = (*OPENINGS, *JOINS, *_ONE, *_NUMBERS, *COLORS, *SIZES, *SHAPES, *_PLURALS.values())
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))


def phrasings(spec: PromptSpec) -> tuple[str, ...]:
    """Every prompt that says `spec`, plainest first; all are read back by `parse`."""
    plural = spec.required[0].count > 1
    openings = [o for o in OPENINGS if o != ("there is" if plural else "there are")]
    bodies: list[str] = []
    for words in _noun_phrases(spec):
        if len(words) == 1:
            bodies.append(words[0])
            continue
        first, second = words
        for join, relation in JOINS.items():
            if relation == spec.relation:
                bodies.append(f"{first} {join} {second}")
            if spec.relation is None and relation is None:
                bodies.append(f"{second} {join} {first}")
            if spec.relation is not None and relation == _OPPOSITE[spec.relation]:
                bodies.append(f"{second} {join} {first}")
    texts = (f"{opening} {body}".strip() for opening in openings for body in bodies)
    return tuple(text for text in texts if len(text.split()) <= MAX_WORDS)


def _noun_phrases(spec: PromptSpec) -> list[tuple[str, ...]]:
    """The required things in words: with an article, and for single things also with "one"."""
    variants: list[tuple[str, ...]] = []
    for article in ("a", "one"):
        words = tuple(_noun_phrase(need, article) for need in spec.required)
        if words not in variants:
            variants.append(words)
    return variants


def _noun_phrase(need: Requirement, article: str) -> str:
    noun = need.shape if need.count == 1 else _PLURALS[need.shape]
    rest = [word for word in (need.size, need.color, noun) if word]
    if need.count > 1:
        article = next(word for word, number in _NUMBERS.items() if number == need.count)
    elif article == "a" and rest[0][0] in "aeiou":
        article = "an"
    return " ".join((article, *rest))


def phrase(spec: PromptSpec, rng: np.random.Generator | None = None) -> str:
    """One prompt that says `spec`: the plainest, or with `rng` any of its phrasings."""
    texts = phrasings(spec)
    return texts[0] if rng is None else texts[int(rng.integers(len(texts)))]


def parse(prompt: str) -> PromptSpec:
    """The spec that `prompt` says; the exact inverse of every phrasing.

    Raises ValueError naming the word that cannot be read.
    """
    words = prompt.split()
    for opening in OPENINGS[1:]:
        head = opening.split()
        if words[: len(head)] == head:
            words = words[len(head) :]
            break
    first, words = read_noun_phrase(words, prompt)
    if not words:
        return canonical((first,))
    relation, words = _read_join(words, prompt)
    second, words = read_noun_phrase(words, prompt)
    if words:
        raise ValueError(f"cannot read {_quoted(words[0])} in prompt {_quoted(prompt)}: expected its end")
    return canonical((first, second), relation)


def read_noun_phrase(words: Sequence[str], prompt: str) -> tuple[Requirement, list[str]]:
    """Read article or number, size, colour and noun off the front; also gives the words left."""
    left = list(words)

    def take(choices: Sequence[str]) -> str | None:
        return left.pop(0) if left and left[0] in choices else None

    def fail(expected: str) -> ValueError:
        found = _quoted(left[0]) if left else "the end"
        return ValueError(f"cannot read {found} in prompt {_quoted(prompt)}: expected {expected}")

    number = take(_ONE) or take(tuple(_NUMBERS))
    if number is None:
        raise fail("a, an, one, two, three or four")
    count = _NUMBERS.get(number, 1)
    size, color = take(SIZES), take(COLORS)
    noun = take(SHAPES if count == 1 else tuple(_SINGULARS))
    if noun is None:
        raise fail("one of " + ", ".join(SHAPES if count == 1 else _SINGULARS))
    return Requirement(count, color, _SINGULARS.get(noun, noun), size), left


def _read_join(words: list[str], prompt: str) -> tuple[str | None, list[str]]:
    for join in sorted(JOINS, key=len, reverse=True):
        parts = join.split()
        if words[: len(parts)] == parts:
            return JOINS[join], words[len(parts) :]
    raise ValueError(
        f"cannot read {_quoted(words[0])} in prompt {_quoted(prompt)}: expected one of {list(JOINS)}"
    )


def _quoted(text: str) -> str:
    """The start of a text of any length and content, for a sentence.

    >>> _quoted("a big red circle"), len(_quoted("very " * 1000))
    ("'a big red circle'", 85)
    """
    return repr(text if len(text) <= QUOTED else text[:QUOTED] + "...")


def split_specs(split: str) -> tuple[PromptSpec, ...]:
    """The specs of "train" or "heldout"; ValueError for another name."""
    if split not in SPLITS:
        raise ValueError(f"unknown split '{split}': use 'train' or 'heldout'")
    return train_specs() if split == "train" else heldout_specs()


def read_source(name: str) -> tuple[str, tuple[str, ...]]:
    """Split and categories of `shapes:SPLIT` or `shapes:SPLIT:CATEGORY,...`; ValueError for what there is not.

    A category that is named twice is drawn twice as often.

    >>> read_source("shapes:train:counting,position")
    ('train', ('counting', 'position'))
    """
    world, _, rest = name.partition(":")
    split, colon, listed = rest.partition(":")
    if world != "shapes" or split not in SPLITS:
        hint = _near(f"{world}:{split}", [f"shapes:{one}" for one in SPLITS])
        raise ValueError(f"unknown prompts '{name}': {hint}")
    chosen = tuple(listed.split(",")) if colon else CATEGORIES
    for one in chosen:
        if one not in CATEGORIES:
            raise ValueError(f"unknown category '{one}' in prompts '{name}': {_near(one, CATEGORIES)}")
    return split, chosen


def _near(wrong: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1)
    asked = f"did you mean '{near[0]}'? " if near else ""
    return f"{asked}there are {', '.join(known)}"


def sample_specs(
    split: str, num: int, seed: int = 0, categories: Sequence[str] = CATEGORIES
) -> list[PromptSpec]:
    """`num` specs of a split in random order, each category (nearly) equally often."""
    rng = np.random.default_rng(seed)
    unknown = [name for name in categories if name not in CATEGORIES]
    if unknown:
        raise ValueError(f"unknown category '{unknown[0]}': use some of {CATEGORIES}")
    pools = [[s for s in split_specs(split) if s.category == name] for name in categories]
    order = np.resize(rng.permutation(len(pools)), num)
    rng.shuffle(order)
    return [pools[i][int(rng.integers(len(pools[i])))] for i in order]


def sample_prompts(split: str, num: int, seed: int = 0, categories: Sequence[str] = CATEGORIES) -> list[str]:
    """`num` prompts of a split ("train" or "heldout"), balanced over categories, in any phrasing."""
    rng = np.random.default_rng((seed, 1))
    return [phrase(spec, rng) for spec in sample_specs(split, num, seed, categories)]
