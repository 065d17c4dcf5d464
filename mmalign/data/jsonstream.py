"""Records of large JSON files, one after the other: a list of objects, or an object of objects, at any size.

Most published preference files are one JSON list of up to a million objects. This reads a block at a time and decodes
record by record with the standard library's decoder, so only one record and one block are in memory.

>>> import io
>>> [(r.line, r.key, r.value) for r in records(io.StringIO('[{"a": 1},\\n {"a": 2}]'))]
[(1, None, {'a': 1}), (2, None, {'a': 2})]
>>> [(r.key, r.value) for r in records(io.StringIO('{"x": {"a": 1}, "y": {"a": 2}}'))]
[('x', {'a': 1}), ('y', {'a': 2})]
>>> [r.value for r in records(io.StringIO('{"version": 2, "pairs": [{"a": 1}]}'), inside="pairs")]
[{'a': 1}]
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

BLOCK = 1 << 18
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class Found:
    """A record, the line it begins on, and its key where records stand in an object."""

    line: int
    key: str | None
    value: Any


def records(stream: TextIO, *, inside: str | None = None) -> Iterator[Found]:
    """The records of a list, of an object's values, or of the list called `inside` of an object.

    ValueError with the line where the text is no JSON: what comes after cannot be told apart any more.
    """
    text = _Text(stream)
    opening = text.next()
    if opening == "{" and inside is not None:
        _enter(text, inside)
        opening = "["
    if opening == "[":
        yield from _items(text)
    elif opening == "{":
        yield from _members(text)
    else:
        raise ValueError(f"line {text.line} must begin a list or an object of records")


def _items(text: _Text) -> Iterator[Found]:
    if text.peek() == "]":
        return
    while True:
        text.peek()
        line = text.line
        yield Found(line, None, text.value())
        if text.expect(",]") == "]":
            return


def _members(text: _Text) -> Iterator[Found]:
    if text.peek() == "}":
        return
    while True:
        text.peek()
        line, key = text.line, text.value()
        text.expect(":")
        yield Found(line, str(key), text.value())
        if text.expect(",}") == "}":
            return


def _enter(text: _Text, name: str) -> None:
    """Up to the first element of the list called `name`."""
    while True:
        key = text.value()
        text.expect(":")
        if key == name:
            text.expect("[")
            return
        text.value()
        if text.expect(",}") == "}":
            raise ValueError(f"the object has no list '{name}'")


class _Text:
    """A window on the text, with the line it begins on."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.window, self.position, self.line = stream, "", 0, 1
        self.decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            while self.position < len(self.window) and self.window[self.position] in _SPACE:
                self.line += self.window[self.position] == "\n"
                self.position += 1
            if self.position < len(self.window):
                return self.window[self.position]
            if not self._more():
                raise ValueError(f"line {self.line}: the text ends in the middle; fetch the file again")

    def next(self) -> str:
        """That character, passed over."""
        found = self.peek()
        self.position += 1
        return found

    def expect(self, choices: str) -> str:
        """One of these characters."""
        found = self.next()
        if found not in choices:
            raise ValueError(f"line {self.line}: '{found}' stands where one of '{choices}' should")
        return found

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        size = BLOCK
        while True:
            try:
                made, end = self.decoder.raw_decode(self.window, self.position)
            except json.JSONDecodeError as problem:
                # text that is cut short fails near its end; text that is wrong fails before
                if problem.pos < len(self.window) - 64 and not problem.msg.startswith("Unterminated"):
                    raise ValueError(f"line {self.line}: {problem.msg}") from problem
                if not self._more(size):
                    raise ValueError(f"line {self.line}: {problem.msg}") from problem
                size *= 2
                continue
            if end == len(self.window) and self._more(size):
                continue  # a number may go on in the next block
            self.line += self.window.count("\n", self.position, end)
            self.position = end
            return made

    def _more(self, size: int = BLOCK) -> bool:
        block = self.stream.read(size)
        self.window, self.position = self.window[self.position :] + block, 0
        return bool(block)
