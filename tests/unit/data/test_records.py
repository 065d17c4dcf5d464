"""The record in full: strict both ways, the same in JSON and in columns, views by hand, an order that tells nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from mmalign.comparison import Annotation, Candidate, Comparison, MediaInput
from mmalign.data import jsonstream
from mmalign.data.columns import read_records, write_dataset, write_parquet
from mmalign.data.comparisons import pairs, permuted, shuffled
from mmalign.data.formats import read, write
from mmalign.data.labels import views
from mmalign.data.records import from_record, to_record
from mmalign.data.uris import MediaStore
from tests.unit.data.layouts import png

FULL = Comparison(
    "1", "a dog",
    (Candidate("a", "0.png", model="m", seed=3, meta={"z": [1, {"q": None}]}),
     Candidate("b", ("1.png", "2.png"), "images"),
     Candidate("t", None, "text", "hello"),
     Candidate("d", "1.png", sha256="0")),
    (Annotation("overall", "pair", {"i": 0, "j": 3, "label": "i", "counts": [3, 1, 0], "own": {"x": 1}}),
     Annotation("overall", "pair", {"i": 1, "j": 2, "label": "tie", "tie_kind": "bad", "strength": 2}),
     Annotation("aesthetics", "rank", {"ranks": [1, 2, None, 2.5]}),
     Annotation("visual_quality", "rating", {"scores": [1, 2.5, 4, None], "min": 1, "max": 4, "ordinal": True,
                                             "std": [0.5, 0, 0, 0]}),
     Annotation("list", "checklist", {"question": "red?", "answers": [1, 0, None, 1]}),
     Annotation("words", "critique", {"texts": ["good"]}),
     Annotation("motion_quality", "pair", {"i": 0, "j": 1, "label": "invalid"})),
    (MediaInput("source", "0.png", meta={"width": 4, "fps": 2.5, "own": 1}),),
    "g", "test", "edit", 0.5, "here", "MIT", {"type": "human", "n": 4, "own": 1}, {"k": [1]},
    ({"type": "text", "value": "a"}, {"type": "image", "media": 0}),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(png(k))
    return tmp_path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_files_give_back_what_was_written(folder: Path, suffix: str) -> None:
    path = folder / f"c{suffix}"
    assert write(path, [FULL, FULL]) == 2
    first, second = read(path)
    assert first == second == FULL
    assert json.dumps(to_record(first), sort_keys=True) == json.dumps(to_record(FULL), sort_keys=True)


def test_datasets_opens_both_exports(folder: Path) -> None:
    import datasets

    assert write_dataset(folder / "hub", [FULL] * 3) == 3
    opened = datasets.load_from_disk(str(folder / "hub"))
    assert opened.num_rows == 3 and opened[2]["candidates"][1]["uris"] == ["1.png", "2.png"]
    (_, record), *_ = read_records(folder / "hub" / "data-00000-of-00001.arrow")
    assert from_record(record) == FULL
    with pytest.raises(ValueError, match="not an empty folder"):
        write_dataset(folder / "hub", [FULL])


def test_embedded_media_come_back_as_bytes(folder: Path) -> None:
    write_parquet(folder / "c.parquet", [FULL] * 2, embed=MediaStore(folder))
    _, second = read(folder / "c.parquet")
    store = MediaStore(folder, cache=folder / "cache")
    assert second.candidates[0].uri == "table://c.parquet::1/media/1"
    assert store.path("table://c.parquet::1/media/3").read_bytes() == png(2)
    assert store.digest(second.inputs[0].uri) == store.digest("0.png")
    gone = Comparison("2", "p", (Candidate("a", "gone.png"),), ())
    with pytest.raises(ValueError, match="no such file"):
        write_parquet(folder / "d.parquet", [gone], embed=MediaStore(folder))
    assert not (folder / "d.parquet").exists()


def test_a_parquet_file_of_something_else_is_named(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ["1"]}), folder / "x.parquet")
    with pytest.raises(ValueError, match="has no column annotations, candidates, prompt"):
        list(read(folder / "x.parquet"))
    (folder / "y.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match="no parquet file that can be read"):
        list(read(folder / "y.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"annotations": [{"kind": "pair", "i": 0, "j": 9, "label": "i"}]},
            r"annotation 1: pair \(0, 9\) of 4",
        ),
        ({"annotations": [{"kind": "pair", "i": 1, "j": 1, "label": "i"}]}, "differ"),
        ({"annotations": [{"kind": "pair", "j": 1, "label": "i"}]}, "'i' is missing"),
        ({"annotations": [{"kind": "pair", "i": 0, "j": 1, "label": "tie", "p": 0.9}]}, "'tie' contradicts"),
        (
            {"annotations": [{"kind": "pair", "i": 0, "j": 1, "label": "invalid", "p": 0.5}]},
            "'invalid' contradicts",
        ),
        (
            {"annotations": [{"kind": "pair", "i": 0, "j": 1, "label": "i", "tie_kind": "good"}]},
            "needs the label",
        ),
        ({"annotations": [{"kind": "rank", "ranks": [1, 2]}]}, "2 ranks for 4 candidates"),
        (
            {"annotations": [{"kind": "rating", "scores": [1, 2, 3, 9], "min": 1, "max": 4}]},
            "outside the scale",
        ),
        ({"annotations": [{"kind": "opinion"}]}, "kind 'opinion' is unknown"),
        ({"annotations": "none"}, "must be a list of objects"),
        ({"task": "t2x"}, "task 't2x' is unknown"),
        ({"candidates": []}, "at least one candidate"),
        ({"candidates": [{"id": "a"}]}, "neither 'uri' nor 'text'"),
        ({"inputs": [{"role": "hat", "uri": "x"}]}, "input role 'hat'"),
        ({"prompt_parts": [{"type": "image", "media": 5}]}, "names no input"),
        ({"prompt": None}, "'prompt' is missing"),
        ({"prompt": 5}, "must be text"),
        ({"weight": -1}, "weight must be 0 or more"),
        ({"weight": float("inf")}, "and finite"),
        ({"annotations": [{"kind": "rating", "scores": [1, 2, 3, float("nan")]}]}, "score nan is no number"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_record(to_record(FULL) | change)


def test_views_by_hand() -> None:
    found = views(FULL.annotations)
    assert [(p.dim, p.i, p.j, p.p, p.valid) for p in found.pairs if p.kind == "pair"] == [
        ("overall", 0, 3, 0.75, True),
        ("overall", 1, 2, 0.5, True),
        ("motion_quality", 0, 1, None, False),
    ]
    assert [p.p for p in found.pairs if p.dim == "aesthetics"] == [1.0, 1.0, 1.0]
    assert [r.ranks for r in found.rankings] == [(1, 2, None, 2.5), (3.0, 2.0, 1.0, None)]
    quality = [(r.candidate, r.value, r.std) for r in found.ratings if r.dim == "visual_quality"]
    assert quality == [(0, 0.0, 0.5), (1, 0.5, 0), (2, 1.0, 0)]
    assert [(r.candidate, r.value) for r in found.ratings if r.dim == "list"] == [
        (0, 1.0),
        (1, 0.0),
        (3, 1.0),
    ]
    assert {p.dim for p in views(FULL.annotations, dimensions=["overall"]).pairs} == {"overall"}


def test_pairs_of_all_candidates_make_a_ranking_unless_they_run_in_a_circle() -> None:
    def beats(*won: tuple[int, int]) -> list[Annotation]:
        return [Annotation("o", "pair", {"i": i, "j": j, "label": "i"}) for i, j in won]

    (ranking,) = views(beats((2, 0), (0, 1), (2, 1))).rankings
    assert ranking.ranks == (2.0, 3.0, 1.0)
    assert views(beats((0, 1), (1, 2), (2, 0))).rankings == []
    assert views(beats((0, 1), (1, 2))).rankings == []


def test_a_summary_stands_for_its_annotators_and_annotators_are_averaged(folder: Path) -> None:
    two = (Candidate("a", "0.png"), Candidate("b", "1.png"))
    own = [Annotation("o", "pair", {"i": 0, "j": 1, "label": word, "annotator": str(k)})
           for k, word in enumerate("iij")]  # fmt: skip
    (pair,) = pairs(Comparison("1", "p", two, tuple(own)), folder)
    assert pair.labels == {"o": pytest.approx(2 / 3)}
    summary = Annotation("o", "pair", {"i": 1, "j": 0, "label": "i"})
    (pair,) = pairs(Comparison("1", "p", two, (*own, summary)), folder)
    assert pair.labels == {"o": 0.0}


def test_invalid_judgements_stay_in_the_file_and_train_nothing(folder: Path) -> None:
    two = (Candidate("a", "0.png"), Candidate("b", "1.png"))
    notes = (Annotation("o", "pair", {"i": 0, "j": 1, "label": "invalid"}),
             Annotation("q", "pair", {"i": 0, "j": 1, "label": "i"}))  # fmt: skip
    made = Comparison("1", "p", two, notes)
    write(folder / "x.jsonl", [made])
    (again,) = read(folder / "x.jsonl")
    assert again.annotations[0].data["label"] == "invalid"
    (pair,) = pairs(again, folder)
    assert pair.labels == {"q": 1.0}
    assert pairs(again, folder, dimensions=["o"]) == []


def test_shuffling_moves_candidates_and_keeps_every_judgement(folder: Path) -> None:
    def worth(one: Comparison) -> set[tuple[str, str, str, float | None]]:
        made = set()
        for p in views(one.annotations).pairs:
            first, second = one.candidates[p.i].id, one.candidates[p.j].id
            share = p.p
            if first > second:
                first, second, share = second, first, None if share is None else 1.0 - share
            made.add((p.dim, first, second, share))
        return made

    turned = permuted(FULL, [3, 2, 1, 0])
    assert [c.id for c in turned.candidates] == ["d", "t", "b", "a"]
    assert worth(turned) == worth(FULL)
    assert turned.annotations[0].data["counts"] == [1, 3, 0] and turned.annotations[0].data["label"] == "j"
    two = [Comparison(str(k), "p", FULL.candidates[::3], (Annotation("o", "pair", {"i": 0, "j": 1, "label": "i"}),))
           for k in range(200)]  # fmt: skip
    write(folder / "s.jsonl", two)
    first = [one.candidates[0].id for one in read(folder / "s.jsonl", shuffle=0)]
    assert 70 < first.count("a") < 130
    assert first == [one.candidates[0].id for one in read(folder / "s.jsonl", shuffle=0)]
    assert first != [one.candidates[0].id for one in read(folder / "s.jsonl", shuffle=1)]
    assert all(worth(one) == {("o", "a", "d", 1.0)} for one in map(shuffled, two))
    with pytest.raises(ValueError, match="no order of 4"):
        permuted(FULL, [0, 0, 1, 2])


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_json_is_read_record_by_record_whatever_the_block(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonstream, "BLOCK", block)
    data = [{"a": "x" * k, "b": [1, 2, {"c": 'é\n"}'}], "n": k * 1234567} for k in range(60)]
    text = json.dumps(data, indent=2)
    found = list(jsonstream.records(io.StringIO(text)))
    assert [one.value for one in found] == data
    assert all(text.split("\n")[one.line - 1].strip() == "{" for one in found)
    named = {str(k): row for k, row in enumerate(data)}
    keyed = jsonstream.records(io.StringIO(json.dumps(named)))
    assert {one.key: one.value for one in keyed} == named


@pytest.mark.parametrize("text", ["", "5", "[1, 2", '[{"a" 1}]', '{"a": 1'])
def test_json_that_is_none_is_a_sentence_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        list(jsonstream.records(io.StringIO(text)))
