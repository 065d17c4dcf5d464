"""What `evaluate reward` reads of a file of pairs: what it leaves out, and what kind of tie is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch

from mmalign.comparison import Annotation, Candidate, Comparison, MediaInput
from mmalign.composition import Reward
from mmalign.data.formats import write_jsonl
from mmalign.media import write
from pipelines.evaluate_reward import read_pairs, run
from pipelines.settings import EvaluateReward

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


def test_four_way_accuracy_where_people_say_what_kind_of_tie_it_is(tmp_path: Path) -> None:
    """Colourful pictures are good, grey ones bad: GenAI-Bench's four votes, each once right."""
    for name, colour in {
        "red": (1.0, 0.0),
        "lime": (0.02, 1.0),
        "grey": (0.5, 0.5),
        "dim": (0.4, 0.4),
    }.items():
        pixels = torch.tensor([*colour, colour[1] if name in ("grey", "dim") else 0.0])
        write(tmp_path / f"{name}.png", pixels[None, :, None, None].expand(1, 3, 16, 16))
    votes = {
        ("red", "grey"): {"label": "i"},
        ("dim", "lime"): {"label": "j"},
        ("red", "lime"): {"label": "tie", "tie_kind": "good"},
        ("grey", "dim"): {"label": "tie", "tie_kind": "bad"},
        ("grey", "grey"): {"label": "tie", "tie_kind": "unknown"},
    }
    write_jsonl(
        tmp_path / "pairs.jsonl",
        [
            Comparison(
                f"{a}-{b}", f"{a} {b}", (Candidate("0", f"{a}.png"), Candidate("1", f"{b}.png")),
                (Annotation("overall", "pair", {"i": 0, "j": 1, **vote}),),
            )
            for (a, b), vote in votes.items()
        ],
    )  # fmt: skip
    found = read_pairs(tmp_path / "pairs.jsonl", "overall", Counter())
    assert [pair.tie_kinds.get("overall") for pair in found] == [None, None, "good", "bad", None]
    settings = EvaluateReward(
        reward=Reward(name="saturation"), pairs=str(tmp_path / "pairs.jsonl"), output=str(tmp_path / "o.json")
    )
    told = run(settings)["four_way"]
    assert told["published"]["accuracy"] == 1.0 and told["published"]["n"] == 4
    assert told["ties_of_unknown_kind"] == 1 and told["cross_validated"]["n"] == 4
