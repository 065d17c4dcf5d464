"""Canonical comparisons: records, the pair view, contradictions, bad lines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mmalign.data.comparisons import from_record, group_of, kinds, pair_verdict, pairs, resolve, to_record
from mmalign.data.formats import read_jsonl, write_jsonl
from mmalign.types import Annotation, Candidate, Comparison, MediaInput

ABC = tuple(Candidate(name, f"{name}.png", model="m", seed=1) for name in "abc")


def comparison(*notes: Annotation, **fields: object) -> Comparison:
    return Comparison("1", "a red circle", ABC, notes, **fields)  # type: ignore[arg-type]


def test_a_record_read_back_is_equal() -> None:
    made = comparison(
        Annotation("overall", "pair", {"i": 0, "j": 1, "label": "i", "counts": [3, 1, 0]}),
        Annotation("visual_quality", "rating", {"scores": [1, 2, 4], "min": 1, "max": 4}),
        inputs=(MediaInput("source", "s.png", meta={"width": 8}),), split="test", task="edit", weight=0.5,
        group="g", source="here", license="MIT", annotator={"type": "human", "n": 4}, meta={"k": [1]},
    )  # fmt: skip
    record = json.loads(json.dumps(to_record(made)))
    assert record["schema"] == "mmalign.pref/1" and record["inputs"][0]["width"] == 8
    assert to_record(from_record(record)) == to_record(made)


@pytest.mark.parametrize(
    ("source", "shown", "held"),
    [
        (MediaInput("source", "s.png"), "a.png", {"edit"}),
        (MediaInput("first_frame", "s.png"), "a.mp4", {"edit", "video"}),
        (MediaInput("source", "s.mp4"), "a.mp4", {"edit"}),
        (MediaInput("source", "table://t#1", "video"), "a.mp4", {"edit"}),
    ],
)
def test_a_video_made_from_a_still_is_of_two_kinds(source: MediaInput, shown: str, held: set[str]) -> None:
    made = comparison(inputs=(source,))
    assert kinds(replace(made, candidates=(replace(made.candidates[0], uri=shown),))) == held


def test_all_kinds_become_pairs_of_one_view() -> None:
    made = comparison(
        Annotation("overall", "rank", {"ranks": [1, 2, 2]}),
        Annotation("visual_quality", "rating", {"scores": [2, 3, None], "min": 1, "max": 4}),
        Annotation("following", "pair", {"i": 2, "j": 0, "counts": [1, 2, 1]}),
        Annotation("following", "pair", {"i": 0, "j": 1, "label": "invalid"}),
        Annotation("notes", "critique", {"texts": ["..."]}),
    )
    found = {(p.a.id[-1], p.b.id[-1]): p for p in pairs(made, Path("root"))}
    assert found["a", "b"].labels == {"overall": 1.0, "visual_quality": 0.0}
    assert found["a", "c"].labels == {"overall": 1.0, "following": 1 - 1.5 / 4}
    assert found["b", "c"].labels == {"overall": 0.5} and found["b", "c"].ties == {"overall": True}
    assert found["a", "b"].a is found["a", "c"].a
    assert found["a", "b"].a.media == Path("root/a.png")
    assert [p.labels for p in pairs(made, Path("."), dimensions=["following"])] == [{"following": 0.625}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"i": 0, "j": 1, "label": "i", "p": 0.2}, "contradicts"),
        ({"i": 0, "j": 1, "p": 0.9, "counts": [1, 9, 0]}, "contradicts the votes"),
        ({"i": 0, "j": 1}, "needs a label"),
        ({"i": 0, "j": 1, "p": 1.5}, "probability"),
        ({"i": 0, "j": 1, "label": "left"}, "unknown"),
        ({"i": 0, "j": 1, "counts": [0, 0, 0]}, "at least one vote"),
        ({"i": 0, "j": 1, "p": 0.9, "p_tie": 0.4}, "contradicts p = 0.9"),
        ({"i": 0, "j": 1, "counts": [1, 1, 2], "p_tie": 0.1}, "p_tie 0.1 contradicts the votes"),
        ({"i": 0, "j": 1, "label": "invalid", "p_tie": 0.1}, "an invalid judgement has none"),
    ],
)
def test_contradictions_are_refused_before_they_are_written(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_record(comparison(Annotation("overall", "pair", data)))


def test_verdicts_by_hand() -> None:
    assert pair_verdict({"label": "tie"}).p == 0.5 and pair_verdict({"label": "tie"}).tie
    assert pair_verdict({"counts": [3, 1, 2]}).p == pytest.approx(4 / 6)
    assert pair_verdict({"label": "j", "p": 0.25}).p == 0.25


def test_the_share_of_ties_is_kept_beside_p(tmp_path: Path) -> None:
    assert pair_verdict({"counts": [3, 1, 2]}).tie_share == pytest.approx(2 / 6)
    assert [pair_verdict({"label": label}).tie_share for label in ("i", "j", "tie")] == [0.0, 0.0, 1.0]
    assert pair_verdict({"p": 0.5}).tie_share == 0.0 and pair_verdict({"label": "tie", "p_tie": 0.6}).p == 0.5
    said = {"label": "i", "p": 0.7, "p_tie": 0.2}
    made = comparison(
        Annotation("overall", "pair", {"i": 1, "j": 0, **said}),
        Annotation("quality", "pair", {"i": 0, "j": 1, "label": "tie", "annotator": "x"}),
        Annotation("quality", "pair", {"i": 0, "j": 1, "label": "i", "annotator": "y"}),
    )
    write_jsonl(tmp_path / "pairs.jsonl", [made])
    (read,) = read_jsonl(tmp_path / "pairs.jsonl")
    (pair,) = pairs(read, tmp_path)
    assert pair.labels == {"overall": pytest.approx(0.3), "quality": 0.75}
    assert pair.ties == {"overall": 0.2, "quality": 0.5} == pair.swapped().ties


def test_groups_hold_prompt_and_inputs_together() -> None:
    source = MediaInput("source", "s.png")
    assert group_of("a") == group_of("a") != group_of("b")
    assert group_of("a", [source]) != group_of("a")


def test_media_paths_stay_in_their_folder() -> None:
    assert resolve("a/b.png", Path("root")) == Path("root/a/b.png")
    with pytest.raises(ValueError, match="leaves the media folder"):
        resolve("../b.png", Path("root"))
    with pytest.raises(ValueError, match="download"):
        resolve("https://example.org/a.png", Path("root"))


def test_files_stream_and_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    good = [comparison(Annotation("overall", "pair", {"i": 0, "j": 1, "label": "i"}))] * 2
    assert write_jsonl(path, good) == 2
    with path.open("a") as file:
        file.write("{not json\n\n[1]\n" + json.dumps({"id": "x"}) + "\n")
        file.write(json.dumps(to_record(good[0]) | {"schema": "other/2"}) + "\n")
        bad_pair = to_record(good[0]) | {
            "annotations": [{"dim": "overall", "kind": "pair", "i": 0, "j": 9, "label": "i"}]
        }
        file.write(json.dumps(bad_pair) + "\n")
    told: list[int] = []
    assert len(list(read_jsonl(path, on_error=lambda line, reason: told.append(line)))) == 2
    assert told == [3, 5, 6, 7, 8]
    with pytest.raises(ValueError, match=r"pairs\.jsonl:3"):
        list(read_jsonl(path))
    with pytest.raises(ValueError, match="no such file"):
        next(read_jsonl(tmp_path / "none.jsonl"))
