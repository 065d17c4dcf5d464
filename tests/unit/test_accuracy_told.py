"""What `evaluate reward` and `data synthesize` say at their end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.accuracy_told import tell
from pipelines.evaluate_reward import Judged, accuracies
from pipelines.left_out import tell_counts

Told = pytest.CaptureFixture[str]


def said(difference: list[float], label: list[int], capsys: Told, **more: Any) -> str:
    """All that is told of pairs, each of its own prompt."""
    groups = [str(k) for k in range(len(label))]
    judged = Judged(difference, label, groups, [None] * len(label), left_out=more.pop("left_out", {}))
    result = {"reward": "r", "dimension": "overall", "score": "overall", "left_out": judged.left_out}
    tell(result | accuracies(judged) | more, Path("out.json"))
    return " ".join(capsys.readouterr().out.split())


def test_a_threshold_of_ties_is_told_in_words(capsys: Told) -> None:
    none = said([1.0, -1.0], [1, 1], capsys)
    assert "2 untied pairs in order" in none and "tie (" not in none and "epsilon" not in none
    useless = said([0.1, 2.0, 3.0, 4.0], [1, 1, 1, 0], capsys)
    assert "with 1 tie: 0.750 where no pair is called a tie (no threshold does better)" in useless
    assert "-1" not in useless and "cross-validated by prompt" in useless
    best = said([0.25, 2.0, 3.0, 4.0], [0, 1, 1, 1], capsys)
    assert "with 1 tie: 1.000 where scores at most 0.25 apart are called a tie (the best threshold" in best


def test_of_one_pair_there_is_no_interval_to_tell(capsys: Told) -> None:
    assert said([1.0], [1], capsys) == "r on overall: 1.000 of 1 untied pair in order"


def test_reasons_beyond_the_first_are_counted_and_their_file_is_named(capsys: Told) -> None:
    reasons = {f"reason {k}": 1 for k in range(6)} | {"often": 3, "twice": 2}
    told = said([1.0], [1], capsys, left_out=reasons)
    assert "3 left out: often 2 left out: twice 1 left out: reason 0" in told
    assert told.endswith("3 left out for 3 further reasons: all are in out.json") and "reason 3" not in told
    tell_counts({f"reason {k}": 2 for k in range(5)}, lambda num: f"{num} samples", Path("out.json"))
    assert "further" not in capsys.readouterr().out
