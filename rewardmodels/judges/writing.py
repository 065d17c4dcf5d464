"""Verdicts written out as a judge must answer them: the inverse of `verdicts` and `winners`, for supervised answers.

    verdict_text   numbers in any format of `verdicts`          read(verdict_text(x)) == x
    outcome_text   which of two is better, in any style         outcome(outcome_text(x)) == x
    plan_text      one check of every kind, for a plan          checks(plan_text(x)) == x
    holds_text     whether a check holds, yes, partly or no
    pieces         the words, numbers and marks a text is made of, for a model that has to learn them

What comes before a verdict is a critique, empty for none.

Legend: no tensors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence

from rewardmodels.judges.settings import Ask, JudgeFile, Pair, Points, Principles
from rewardmodels.judges.text import layout_of
from rewardmodels.judges.verdicts import Layout, Number
from rewardmodels.judges.winners import MANDATORY, PARTS

STEPS = 10
"""Into how many steps a range is cut that holds fewer than two whole steps."""
WORTHS: Mapping[float, float] = {1.0: 0.8, 0.5: 0.5, 0.0: 0.2}
"""What the first of two is said to be worth where it wins, ties and loses; the second has the rest of 1."""
_PIECE = re.compile(r"[-+]?\d+(?:\.\d+)?|</?\w+>|[^\W\d_]+|(?:\"\w+\"|(?!</?\w+>)[^\w+-])+|[+_-]")
_TAIL = {1.0: "Image 1 is better", 0.0: "Image 2 is better"}


def grid(field: Number) -> tuple[float, ...]:
    """The numbers that a field is answered with, lowest first: `step` apart, or whole ones where the range holds any.

    >>> grid(Number("x", 1, 4)), len(grid(Number("x", 0, 1))), grid(Number("x", 1, 2, step=0.25))
    ((1.0, 2.0, 3.0, 4.0), 11, (1.0, 1.25, 1.5, 1.75, 2.0))
    """
    width = field.high - field.low
    num = round(width / field.step) if field.step else math.floor(width) if width >= 2 else STEPS
    return tuple(round(field.low + i * width / num, 6) for i in range(num + 1))


def on_grid(share: float, field: Number) -> float:
    """The answer nearest to a place in the range, `share` from 0 at its low end to 1.

    >>> on_grid(0.55, Number("x", 0, 25))
    14.0
    """
    known = grid(field)
    return known[round(min(max(share, 0.0), 1.0) * (len(known) - 1))]


# ---------------------------------------------------------------- what a judge answers


def verdict_text(scores: Mapping[str, float], layout: Layout, critique: str = "") -> str:
    """The numbers of all fields (NaN is N/A) as an answer.

    >>> verdict_text({"a": 20, "b": 17}, Layout("json_list", (Number("a", 0, 25), Number("b", 0, 25))))
    '{"score": [20, 17]}'
    """
    said = [_number(scores[field.name], field) for field in layout.fields]
    names = [field.words for field in layout.fields]
    if layout.format == "json_list":
        values = [None if one == "N/A" else json.loads(one) for one in said]
        return json.dumps({**({"reasoning": critique} if critique else {}), layout.key: values})
    if layout.format == "json_fields":
        record = {
            name: one if one == "N/A" else json.loads(one) for name, one in zip(names, said, strict=True)
        }
        return _after(critique, json.dumps(record))
    if layout.format == "lines":
        rows = [f"{name.capitalize()}: {one}" for name, one in zip(names, said, strict=True)]
        return _after(critique, "\n".join(rows))
    if layout.format == "tag":
        return _after(critique, f"<{layout.key}>{said[0]}</{layout.key}>")
    if layout.format == "boxed":
        return _after(critique, f"\\boxed{{{said[0]}}}")
    if not critique:
        raise ValueError("a free answer needs a critique: there are no numbers to say")
    return critique


def outcome_text(first: float, pair: Pair, critique: str = "") -> str:
    """That the first of two is better (1), the second (0), or neither (0.5), as an answer.

    >>> outcome_text(1.0, Pair(kind="pair", wording="x", style="tag"))
    '<answer>Image 1 is better</answer>'
    """
    worth = WORTHS[first]
    two = (f"{worth:g}", f"{1 - worth:g}")
    if pair.style == "sentence":
        tie = "Both images are equally good."
        text = tie if first == 0.5 else f"Image {2 - int(first)} is better than Image {1 + int(first)}."
        return _after(critique, text)
    if pair.style == "tag":
        return _after(critique, f"<{pair.key}>{_TAIL.get(first, 'equally good')}</{pair.key}>")
    if pair.style == "scores":
        return _after(critique, "\n".join(f"Image {i}: {one}" for i, one in enumerate(two, 1)))
    if pair.style == "shares":
        rows = [
            f"{respect.capitalize()} Score:\n Image 1: {two[0]}\n Image 2: {two[1]}"
            for respect in PARTS["shares"]
        ]
        return _after(critique, "\n".join(rows))
    named = {1.0: "Image 1", 0.0: "Image 2"}.get(first, "tie")
    reason = {"reason": critique} if critique else {}
    if pair.style == "criteria":
        return json.dumps({"categories": [{"cat_winner": named}] * MANDATORY, **reason, pair.key: named})
    return json.dumps({**reason, pair.key: named})


def plan_text(checks: Mapping[str, str]) -> str:
    """A plan with one check of every kind.

    >>> plan_text({"keep": "the dog stays"})
    '[keep] the dog stays'
    """
    return "\n".join(f"[{kind}] {text}" for kind, text in checks.items())


def holds_text(share: float, critique: str = "") -> str:
    """Whether a check holds: yes from two thirds on, no up to one third."""
    word = "yes" if share >= 2 / 3 else "no" if share <= 1 / 3 else "partly"
    return _after(critique, f"<answer>{word}</answer>")


def _after(critique: str, verdict: str) -> str:
    return f"{critique}\n{verdict}" if critique else verdict


def _number(value: float, field: Number) -> str:
    if math.isnan(value):
        if not field.optional:
            raise ValueError(f"'{field.name}' cannot be N/A")
        return "N/A"
    return f"{value:g}"


# ---------------------------------------------------------------- what must be sayable


def examples(settings: JudgeFile, critique: str = "") -> Iterator[str]:
    """Answers that hold every word and number a judge of this file is taught to say; the end of a line, too, where a
    critique in the data may stand before a verdict.
    """
    judge = settings.judge
    if isinstance(judge, Points):
        for ask in judge.asks:
            yield from _verdicts(ask, critique)
    elif isinstance(judge, Pair):
        yield from (outcome_text(first, judge, critique) for first in WORTHS)
        if judge.style not in ("json", "criteria"):
            yield "\n"
    elif isinstance(judge, Principles):
        yield plan_text({kind: f"{kind}: {kind}" for kind in judge.kinds})
        yield from (holds_text(share, critique) for share in (0.0, 0.5, 1.0))
        yield "\n"


def _verdicts(ask: Ask, critique: str) -> Iterator[str]:
    layout = layout_of(ask)
    grids = {field.name: grid(field) for field in layout.fields}
    for place in range(max(map(len, grids.values()), default=1)):
        scores = {name: known[min(place, len(known) - 1)] for name, known in grids.items()}
        yield verdict_text(scores, layout, critique)
    if layout.format not in ("json_list", "free"):
        yield "\n"
    optional = {field.name: math.nan for field in layout.fields if field.optional}
    if optional:
        yield verdict_text({name: known[0] for name, known in grids.items()} | optional, layout, critique)


def pieces(texts: Sequence[str]) -> list[str]:
    """The different pieces of texts in order, so cut that they mean the same with spaces in between: numbers, words,
    tags, and what stands between them.

    >>> pieces(['{"score": [20, 17]}', "<answer>yes</answer>"])
    ['{"score": [', '20', ',', '17', ']}', '<answer>', 'yes', '</answer>']
    """
    found = (piece.strip(" ") for text in texts for piece in _PIECE.findall(text))
    return list(dict.fromkeys(piece for piece in found if piece))
