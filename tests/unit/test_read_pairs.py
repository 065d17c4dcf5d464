"""What `evaluate reward` leaves out of a file of pairs, and says so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mmalign.comparison import Annotation, Candidate, Comparison, MediaInput
from mmalign.data.formats import write_jsonl
from pipelines.evaluate_reward import read_pairs

FIRST_BETTER = (Annotation("overall", "pair", {"i": 0, "j": 1, "label": "i"}),)
TWO = (Candidate("0", "a.png"), Candidate("1", "b.png"))


def test_what_is_no_single_medium_or_lacks_its_references_is_left_out_with_a_reason(tmp_path: Path) -> None:
    words = (Candidate("0", "a.png"), Candidate("1", None, "text", "a cat"))
    shown = (MediaInput("reference", "r.png"), MediaInput("reference", "s.png"))
    write_jsonl(
        tmp_path / "pairs.jsonl",
        [
            Comparison("whole", "p", TWO, FIRST_BETTER),
            Comparison("words", "p", words, FIRST_BETTER),
            Comparison("several", "put r into s", TWO, FIRST_BETTER, shown, task="multiref"),
        ],
    )
    left_out: Counter[str] = Counter()
    assert len(read_pairs(tmp_path / "pairs.jsonl", "overall", left_out)) == 1
    reasons = " | ".join(left_out)
    assert "words: candidate 1 has no single media" in reasons
    assert "several: its prompt shows reference pictures" in reasons
