"""Votes from files: the same pair in any order, annotators weighed, one settled label, and the verb."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmalign.__main__ import main
from mmalign.data.comparisons import pairs
from mmalign.data.formats import read_jsonl, write_jsonl
from mmalign.data.votes import gather, merged, settle
from mmalign.types import Annotation, Candidate, Comparison

LABELS = ("i", "j", "tie")


def vote(item: int, who: str | None, label: int, *, turned: bool = False, **data: object) -> Comparison:
    """One vote on the two pictures of an item; `turned` shows them in the other order."""
    shown = [Candidate("a", f"{item}-a.png"), Candidate("b", f"{item}-b.png")]
    label = (1, 0, 2)[label] if turned else label
    note = Annotation("overall", "pair", {"i": 0, "j": 1, "label": LABELS[label], **data})
    return Comparison(
        f"{item}-{who}", f"prompt {item}", tuple(shown[::-1] if turned else shown), (note,),
        annotator={} if who is None else {"type": "human", "name": who},
    )  # fmt: skip


def crowd(num: int = 200) -> tuple[list[Comparison], np.ndarray]:
    """Two careful annotators and three who toss coins, pictures in random order."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, num)
    right = {"ann": 0.95, "bob": 0.9, "coin1": 0.5, "coin2": 0.5, "coin3": 0.5}
    made = [
        vote(item, who, int(t if rng.random() < p else 1 - t), turned=bool(rng.random() < 0.5))
        for item, t in enumerate(truth.tolist())
        for who, p in right.items()
    ]
    return made, truth


def test_order_of_showing_does_not_matter() -> None:
    votes = [vote(0, "x", 0), vote(0, "y", 0, turned=True), vote(0, "z", 1, turned=True)]
    ballot = gather(votes)["overall"]
    assert list(ballot.counts.values()) == [[2.0, 1.0, 0.0]]
    assert [label for _, _, label in ballot.votes] == [0, 0, 1]


def test_settled_labels_follow_the_careful(tmp_path: Path) -> None:
    votes, truth = crowd()
    settled = settle(gather(votes)["overall"], "dawid-skene")
    done = list(merged(votes, {"overall": settled}, "dawid-skene"))
    assert len(done) == 200
    chances = [pairs(one, tmp_path)[0] for one in done]
    first_is_a = [pair.a.id.endswith("/a") for pair in chances]
    p = np.array([pair.labels["overall"] for pair in chances])
    found = np.where(np.where(first_is_a, p, 1 - p) > 0.5, 0, 1)
    majority = np.array([0 if a > b else 1 for a, b, _ in settled.counts.values()])
    assert (found == truth).mean() > 0.9 > (majority == truth).mean() + 0.05
    assert settled.annotators is not None
    ranked = sorted(zip(settled.annotators.reliability, settled.names, strict=True), reverse=True)
    assert [name for _, name in ranked[:2]] == ["ann", "bob"]


def test_counts_need_no_names_and_ties_stay_ties() -> None:
    counted = [vote(0, None, 0), vote(1, None, 2)]
    many = replace(
        vote(2, None, 0), annotations=(Annotation("overall", "pair", {"i": 1, "j": 0, "counts": [1, 8, 0]}),)
    )
    ballot = gather([*counted, many])["overall"]
    with pytest.raises(ValueError, match="name no annotator"):
        settle(ballot, "dawid-skene")
    done = list(merged([*counted, many], {"overall": settle(ballot, "counts")}, "counts"))
    data = [dict(one.annotations[0].data) for one in done]
    assert data[1] == {"i": 0, "j": 1, "label": "tie"}
    assert data[2]["label"] == "i" and 0.5 < data[0]["p"] < data[2]["p"] < 1


def test_settled_ties_keep_their_share(tmp_path: Path) -> None:
    mixed = [vote(0, who, label) for who, label in zip("vwxyz", (0, 0, 0, 2, 2), strict=True)]
    mostly = [vote(1, who, label) for who, label in zip("vwxyz", (0, 2, 2, 2, 1), strict=True)]
    rest = [vote(n, who, n % 2) for n in range(2, 12) for who in "vwxyz"]
    ballot = gather([*mixed, *mostly, *rest])["overall"]
    for method in ("counts", "dawid-skene"):
        settled = settle(ballot, method)  # type: ignore[arg-type]
        done = list(merged([*mixed, *mostly, *rest], {"overall": settled}, method))
        for one, raw in zip(done[:2], settled.chances.values(), strict=False):
            (pair,) = pairs(one, tmp_path)
            assert pair.ties["overall"] == pytest.approx(raw[2], abs=1e-5)
        if method == "counts":
            first, tied = (dict(one.annotations[0].data) for one in done[:2])
            assert first["label"] == "i" and 0.3 < first["p_tie"] < 0.4 and 0.6 < first["p"] < 0.8
            assert tied == {"i": 0, "j": 1, "label": "tie", "p_tie": 0.6}


def test_the_verb_writes_labels_and_annotators(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    votes, _ = crowd(60)
    write_jsonl(tmp_path / "votes.jsonl", votes)
    with pytest.raises(SystemExit) as done:
        main(["data", "votes", str(tmp_path / "votes.jsonl"), "-o", str(tmp_path / "pairs.jsonl")])
    assert not done.value.code
    report = json.loads((tmp_path / "pairs.votes.json").read_text())
    people = report["dimensions"]["overall"]["annotators"]
    assert {people[0]["annotator"], people[1]["annotator"]} == {"ann", "bob"} and people[0]["num_votes"] == 60
    assert len(list(read_jsonl(tmp_path / "pairs.jsonl"))) == 60 == report["comparisons"]
    assert "5 annotators" in capsys.readouterr().out
