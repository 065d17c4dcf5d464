"""Verdicts in generated text: one strict parser a format. What does not parse is an error that quotes the answer.

    json_list      {"score": [20, 17], ...}                 numbers in the order of the fields; one alone without []
    json_fields    {"quality": 3, "text": "N/A", ...}       numbers by key; {"quality": {"score": 3}} too
    lines          Image quality: 3.5/4                     numbers by label, one a line, or below it as `Score: 3.5`
    tag            <answer>7</answer>                       one number
    boxed          \\boxed{7}                               one number
    free           any text that is not empty
    checks         [kind] what must hold                    one principle a line

Which of two is better is read in `winners`.

Numbers keep sign and decimals; one outside its field's range makes the verdict unreadable, never a clipped or a
default score. `N/A` counts as missing where the field allows it. Reasoning up to `</think>` is not part of a verdict;
where a format occurs several times the last counts.

Legend: F fields.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Format = Literal["json_list", "json_fields", "lines", "tag", "boxed", "free"]
QUOTED = 80
NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_LAST_COMMA = re.compile(r",(\s*[}\]])")
_MISSING = re.compile(r"n\s*/\s*a|not applicable", re.IGNORECASE)


class Unreadable(ValueError):
    """An answer that holds no verdict of the expected format."""


@dataclass(frozen=True)
class Number:
    """One field of a verdict: what it is called, how the answer labels it, and its range. Labels of a line may be
    several, parted by |. `step` is for those who write: between the numbers they say.
    """

    name: str
    low: float
    high: float
    label: str = ""
    optional: bool = False
    step: float | None = None

    @property
    def words(self) -> str:
        """What the answer calls it (of several labels the first)."""
        return self.labels.split("|")[0]

    @property
    def labels(self) -> str:
        """All that the answer may call it."""
        return self.label or self.name.replace("_", " ")


@dataclass(frozen=True)
class Layout:
    """How a verdict is written: its format, its numbers, the JSON key or tag they stand under, and labelled texts."""

    format: Format
    fields: tuple[Number, ...] = ()
    key: str = "score"
    notes: Mapping[str, str] | None = None  # name -> label of a text to keep, where the answer has it


@dataclass(frozen=True)
class Verdict:
    """Numbers by field (NaN: declared missing), and texts by name."""

    scores: Mapping[str, float]
    notes: Mapping[str, str]


def quote(text: str) -> str:
    """The start of an answer, on one line, for a reason.

    >>> quote("I  cannot\\ntell")
    "'I cannot tell'"
    """
    line = " ".join(text.split())
    return repr(line if len(line) <= QUOTED else line[:QUOTED] + "...")


def read(text: str, layout: Layout) -> Verdict:
    """The verdict in an answer; Unreadable says what is wrong and quotes how the answer starts."""
    said = spoken(text)
    try:
        scores = _READERS[layout.format](said, layout)
    except Unreadable as problem:
        raise Unreadable(f"{problem}; the answer starts {quote(text)}") from None
    return Verdict(scores, _notes(said, layout))


def spoken(text: str) -> str:
    """The answer without its reasoning block.

    >>> spoken("<think>score: 1</think> score: 3")
    'score: 3'
    """
    if "</think>" in text:
        return text.rpartition("</think>")[2].strip()
    return "" if text.lstrip().startswith("<think>") else text.strip()


# ---------------------------------------------------------------- formats of numbers


def _json_list(text: str, layout: Layout) -> dict[str, float]:
    record = last_object(text, layout.key)
    found = record[layout.key]
    if len(layout.fields) == 1 and not isinstance(found, list):
        found = [found]
    if not isinstance(found, list) or len(found) != len(layout.fields):
        raise Unreadable(f'"{layout.key}" must be a list of {len(layout.fields)} numbers')
    return {field.name: _number(value, field) for field, value in zip(layout.fields, found, strict=True)}


def _json_fields(text: str, layout: Layout) -> dict[str, float]:
    record = last_object(text, layout.fields[0].words)
    made = {}
    for field in layout.fields:
        if field.words not in record:
            raise Unreadable(f'the JSON lacks "{field.words}"')
        value = record[field.words]
        if isinstance(value, dict):
            value = value.get("score")
        made[field.name] = _number(value, field)
    return made


def _lines(text: str, layout: Layout) -> dict[str, float]:
    made = {}
    for field in layout.fields:
        start = rf"^[\s>*#\-\d.)]*{_called(field.labels)}[\s*_]*(?:score)?[\s*_]*[:=][\s*_]*"
        pattern = rf"(?im){start}(?:[>#\-\s]+score[\s*_]*[:=][\s*_]*)?([^\n]*)$"
        found = re.findall(pattern, text)
        if not found:
            raise Unreadable(f"no line '{field.words}: number'")
        made[field.name] = _written(found[-1], field)
    return made


def _called(labels: str) -> str:
    """A pattern of a label, or of any of those parted by |; its words may be joined by spaces, dashes or underscores.

    >>> bool(re.fullmatch(_called("quality|visual quality"), "visual_quality"))
    True
    """
    words = [re.split(r"[\s_-]+", label) for label in labels.split("|")]
    each = "|".join(r"[\s_-]+".join(map(re.escape, some)) for some in words)
    return f"(?:{each})"


def _tag(text: str, layout: Layout) -> dict[str, float]:
    (field,) = layout.fields
    return {field.name: _written(last_tag(text, layout.key), field)}


def _boxed(text: str, layout: Layout) -> dict[str, float]:
    (field,) = layout.fields
    found = re.findall(r"\\\s*boxed\s*\{+\s*\[?([^\]}]*)", text)
    if not found:
        raise Unreadable(r"no \boxed{...}")
    return {field.name: _written(found[-1], field)}


def _free(text: str, layout: Layout) -> dict[str, float]:
    if not text:
        raise Unreadable("the answer is empty")
    return {}


_READERS: dict[str, Callable[[str, Layout], dict[str, float]]] = {
    "json_list": _json_list,
    "json_fields": _json_fields,
    "lines": _lines,
    "tag": _tag,
    "boxed": _boxed,
    "free": _free,
}


def _written(text: str, field: Number) -> float:
    """A number at the start of a line's end: `3`, `3.5/4`, `-1 out of 10`, `N/A`."""
    words = text.strip().strip("*_`\"' ").rstrip(".")
    if _MISSING.match(words):
        return _number("N/A", field)
    match = re.match(rf"({NUMBER})(?:\s*(?:/|out of)\s*({NUMBER}))?(?![\w%])", words)
    if match is None:
        raise Unreadable(f"'{field.words}' is no number: {quote(words)}")
    if match[2] is not None and float(match[2]) != field.high:
        raise Unreadable(f"'{field.words}' is out of {match[2]}, not of {field.high:g}")
    return _number(float(match[1]), field)


def _number(value: Any, field: Number) -> float:
    if isinstance(value, str) and _MISSING.fullmatch(value.strip()):
        value = None
    if value is None:
        if field.optional:
            return math.nan
        raise Unreadable(f"'{field.words}' is missing")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(f"'{field.words}' is no number: {quote(str(value))}")
    if not field.low <= value <= field.high:
        shown = str(value)[:20]
        raise Unreadable(f"'{field.words}' is {shown}, outside {field.low:g} to {field.high:g}")
    return float(value)


def last_object(text: str, key: str) -> dict[str, Any]:
    """The last outermost JSON object that has `key`."""
    found = [record for record in _objects(text) if key in record]
    if not found:
        raise Unreadable(f'no JSON object with "{key}"')
    return found[-1]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every outermost JSON object in the text, in order; a comma before a closing bracket is passed over, since the
    example in UnifiedReward-Edit's published prompt has one.
    """
    decoder = json.JSONDecoder(strict=False)
    text = _LAST_COMMA.sub(r"\1", text)
    place = text.find("{")
    while place >= 0:
        try:
            record, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):  # also an integer of thousands of digits
            end = place + 1
        else:
            if isinstance(record, dict):
                yield record
        place = text.find("{", end)


def last_tag(text: str, name: str) -> str:
    """What the last `<name>...</name>` holds."""
    found = re.findall(rf"(?is)<{re.escape(name)}>(.*?)</{re.escape(name)}>", text)
    if not found:
        raise Unreadable(f"no <{name}>...</{name}>")
    return str(found[-1])


def _notes(text: str, layout: Layout) -> dict[str, str]:
    """Labelled texts of an answer: in JSON under their label, in lines up to the next blank or labelled line."""
    made: dict[str, str] = {}
    records = list(_objects(text)) if layout.notes else []
    for name, label in (layout.notes or {}).items():
        for record in records:
            for key in label.split("|"):
                if isinstance(record.get(key), str) and record[key].strip():
                    made[name] = record[key].strip()
        if name not in made:
            end = r"(?=\n\s*\n|\n[\s>*#\-]*[A-Z][\w ]{0,40}\**:|\Z)"
            pattern = rf"(?ims)^[\s>*#\-]*{_called(label)}[\s*_]*:[\s*_]*(.+?){end}"
            found = re.findall(pattern, text)
            if found:
                made[name] = found[-1].strip().strip('"')
    return made


# ---------------------------------------------------------------- checks one by one


def tagged(text: str, name: str) -> str:
    """What stands in the last `<name>...</name>` of an answer; Unreadable without one."""
    try:
        return last_tag(spoken(text), name)
    except Unreadable as problem:
        raise Unreadable(f"{problem}; the answer starts {quote(text)}") from None


@dataclass(frozen=True)
class Check:
    """One principle that a result must meet."""

    kind: str
    text: str


def checks(text: str, kinds: Sequence[str], *, most: int = 20) -> tuple[Check, ...]:
    """Lines `[kind] what must hold`, of known kinds; Unreadable for none, or more than `most`.

    >>> checks("1. [keep] the dog stays", ("keep", "follow"))
    (Check(kind='keep', text='the dog stays'),)
    """
    found = re.findall(r"(?m)^[\s\-*\d.)]*\[\s*(\w+)\s*\]\s*(.+?)\s*$", spoken(text))
    made = [Check(kind.lower(), words) for kind, words in found if kind.lower() in kinds]
    if not 1 <= len(made) <= most:
        expected = f"1 to {most} lines '[{'|'.join(kinds)}] what must hold'"
        raise Unreadable(f"{expected} were expected, {len(made)} found; the answer starts {quote(text)}")
    return tuple(made)
