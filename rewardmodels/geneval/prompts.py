"""What a prompt asks for: the rules of a sample's metadata, of a file by prompt, or read off a plain prompt.

The grammar is that of GenEval's six kinds of prompt: `[a photo of] THINGS`, where THINGS is one thing, `X and Y`, or
`X RELATION Y`; a thing is `a|an|one` or a number word, perhaps a colour, and a name of up to three words. Everything
else is not understood, and that is said, for half an understanding would be scored 0: so are two clauses on one thing
("a red cup and a blue cup"), which GenEval's rules, looking at the surest cup for both, cannot judge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmalign.lines import numbered_lines
from rewardmodels.geneval.colors import COLORS
from rewardmodels.geneval.rules import RELATIONS, Clause, Rules, read_rules

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_OPENING = re.compile(r"^(?:a|an) (?:photo|picture|image|drawing|painting) of (?=\S)")
_GLUE = frozenset(
    ("a", "an", "and", "at", "by", "for", "from", "in", "is", "near", "next", "of", "on", "one", "or", "that", "the",
     "there", "to", "under", "with", "without")
)  # fmt: skip
"""Words that make more of a name than the name of a thing."""
_RELATION = re.compile(rf"^(.+?) ({'|'.join(RELATIONS)}) (.+)$")
_ENDINGS = (
    ("ies", "y"),
    ("ives", "ife"),
    ("sses", "ss"),
    ("shes", "sh"),
    ("ches", "ch"),
    ("uses", "us"),
    ("xes", "x"),
)
_IRREGULAR = {"ties": "tie", "skis": "skis", "scissors": "scissors", "sheep": "sheep", "people": "person"}


def read_prompt(prompt: str) -> Rules | None:
    """Rules of a plain prompt, or None where it is not of the grammar.

    >>> read_prompt("a photo of two dogs").exclude
    (Clause(thing='dog', count=3, color=None, position=None),)
    >>> read_prompt("a red cup left of a bench").include[1]
    Clause(thing='cup', count=1, color='red', position=('left of', 0))
    """
    text = _OPENING.sub("", " ".join(prompt.lower().rstrip(" .").split()))
    placed = _RELATION.match(text)
    if placed:
        first, relation, second = placed.groups()
        mover, anchor = _thing(first), _thing(second)
        if mover is None or anchor is None or mover.thing == anchor.thing:
            return None
        return Rules((anchor, Clause(mover.thing, mover.count, mover.color, (relation, 0))))
    clauses = [_thing(part) for part in text.split(" and ")]
    known = tuple(clause for clause in clauses if clause is not None)
    if not known or len({clause.thing for clause in known}) < len(clauses):
        return None
    if len(known) == 1 and known[0].count > 1:
        return Rules(known, (Clause(known[0].thing, known[0].count + 1),), counting=True)
    return Rules(known)


def _thing(text: str) -> Clause | None:
    words = text.split()
    if len(words) < 2 or words[0] not in ("a", "an", *NUMBERS):
        return None
    count = NUMBERS.index(words[0]) + 1 if words[0] in NUMBERS else 1
    color = words[1] if words[1] in COLORS and len(words) > 2 else None
    named = words[1 if color is None else 2 :]
    if len(named) > 3 or _GLUE.intersection(named):
        return None
    name = " ".join(named)
    return Clause(_one_of(name) if count > 1 else name, count, color)


def _one_of(name: str) -> str:
    """The singular of a plural."""
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    for plural, single in _ENDINGS:
        if name.endswith(plural):
            return name.removesuffix(plural) + single
    return name.removesuffix("s")


def read_file(path: str | Path) -> dict[str, Rules]:
    """Rules by prompt of a file in the layout of GenEval's `evaluation_metadata.jsonl`."""
    rules: dict[str, Rules] = {}
    for number, line in numbered_lines(Path(path)):
        try:
            record = json.loads(line)
            rules[record["prompt"]] = read_rules(record)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return rules


def rules_of(prompt: str, metadata: Mapping[str, Any], by_prompt: Mapping[str, Rules]) -> Rules:
    """The rules of a sample; ValueError where nothing says what must be seen."""
    if "include" in metadata:
        return read_rules(metadata)
    rules = by_prompt.get(prompt) or read_prompt(prompt)
    if rules is None:
        raise ValueError(
            "nothing says what must be seen: give include (and exclude) in the metadata, or option rules, a JSONL file "
            "with a line for each prompt"
        )
    return rules
