"""What a chat-completions server sends back, read without trust: anything unexpected is an error that quotes it.

Legend: W words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rewardmodels.judges.chat import Answer, Words, matches
from rewardmodels.judges.verdicts import quote

Record = dict[str, Any]


def parsed(text: str) -> Any:
    """The JSON of a body; ValueError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"the server sent no JSON: {quote(text)}") from None


def _choice(body: Any) -> Record:
    try:
        choice = body["choices"][0]
        if isinstance(choice["message"], dict):
            return dict(choice)
    except (KeyError, IndexError, TypeError):
        pass
    raise ValueError(f"the server sent no chat completion: {quote(json.dumps(body))}")


def _spent(body: Any) -> tuple[int, int]:
    """All tokens of the request, and those of the answer; 0 where the server does not say."""
    usage = body.get("usage")
    record = usage if isinstance(usage, dict) else {}
    total, written = (record.get(name) for name in ("total_tokens", "completion_tokens"))
    return (total if isinstance(total, int) else 0), (written if isinstance(written, int) else 0)


def answer_of(body: Any) -> Record:
    """The fields of an `Answer`, and `_tokens`, what the request cost."""
    choice = _choice(body)
    text = choice["message"].get("content")
    if not isinstance(text, str):
        raise ValueError(f"the server sent an answer without text: {quote(json.dumps(body))}")
    total, written = _spent(body)
    made = asdict(Answer(text, cut=choice.get("finish_reason") == "length", num_tokens=written))
    return made | {"_tokens": total}


def first_tokens(body: Any) -> Record:
    """`tokens`: the likeliest first tokens with their log-probabilities; and `_tokens`, what the request cost."""
    choice = _choice(body)
    try:
        rows = choice["logprobs"]["content"][0]["top_logprobs"]
        tokens = [(str(row["token"]), min(float(row["logprob"]), 0.0)) for row in rows]
    except (KeyError, IndexError, TypeError, ValueError):
        raise ValueError(
            f"the server sent no token probabilities (logprobs): {quote(json.dumps(body))}"
        ) from None
    return {"tokens": tokens, "_tokens": _spent(body)[0]}


def among(tokens: Sequence[Sequence[Any]], words: Sequence[str], *, variants: bool) -> Words:
    """The words among likely tokens (text, log-probability).

    >>> among([("Yes", -0.5), (" yes", -3.0), ("The", -1.0)], ["yes", "no"], variants=False).problem[:23]
    'none of yes, no is amon'
    """
    logs = []
    for word in words:
        mass = math.fsum(math.exp(log) for token, log in tokens if matches(token, word, variants=variants))
        logs.append(math.log(mass) if mass > 0 else -math.inf)
    if max(logs) == -math.inf:
        top = max(tokens, key=lambda row: row[1])[0] if tokens else ""
        return Words(
            problem=f"none of {', '.join(words)} is among the likeliest first tokens; the likeliest is {top!r}"
        )
    return Words(tuple(logs))
