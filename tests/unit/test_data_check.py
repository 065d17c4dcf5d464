"""Checking preference data: every kind of fault is found and named, agreement by hand."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign import media
from mmalign.data.check import check
from mmalign.data.columns import write_parquet
from mmalign.data.formats import read
from pipelines.data import check_files


def record(id: str, prompt: str, uris: tuple[str, str], label: str = "i", **more: Any) -> dict[str, Any]:
    """One comparison of two pictures."""
    candidates = [{"id": str(k), "uri": uri, "model": f"m{k}"} for k, uri in enumerate(uris)]
    notes = [{"dim": "overall", "kind": "pair", "i": 0, "j": 1, "label": label}]
    return {
        "schema": "mmalign.pref/1",
        "id": id,
        "prompt": prompt,
        "candidates": candidates,
        "annotations": notes,
        **more,
    }


def write(folder: Path, *lines: dict[str, Any] | str) -> Path:
    """A file of comparisons with four different pictures beside it."""
    for k in range(4):
        media.write(folder / f"{k}.png", torch.full((3, 4, 4), k / 4))
    path = folder / "pairs.jsonl"
    path.write_text(
        "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8"
    )
    return path


def test_clean_data_has_no_faults(tmp_path: Path) -> None:
    path = write(tmp_path, record("x", "p", ("0.png", "1.png")), record("y", "q", ("2.png", "3.png"), "tie"))
    report = check(path)
    assert report.faults == 0
    assert (report.num_comparisons, report.num_media) == (2, 4)
    balance = {"pairs": 2, "first": 1, "second": 0, "ties": 1, "tie_rate": 0.5, "first_wins": 1.0}
    assert report.dimensions["overall"] == balance
    assert report.models["m0"] == {"win_rate": 0.75, "n": 2}


def test_empty_and_very_long_prompts_are_noted_and_no_fault(tmp_path: Path) -> None:
    words = "a red circle " * 200
    lines = [("x", "p"), ("y", ""), ("z", " \n"), ("w", words)]
    path = write(
        tmp_path, *(record(name, said, ("0.png", f"{k}.png")) for k, (name, said) in enumerate(lines))
    )
    report = check(path)
    assert report.empty_prompts == ["y", "z"] and report.long_prompts == ["w: 2600 characters"]
    assert report.counts["empty_prompts"] == 2 and report.faults == 0
    assert report.as_dict()["long_prompts"] == ["w: 2600 characters"]


def test_every_fault_is_found(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        record("x", "p", ("0.png", "1.png")),
        record("x", "p2", ("2.png", "3.png")),  # id twice
        record(
            "z", "p", ("2.png", "gone.png"), split="test"
        ),  # prompt p and picture 2 in two splits, one file gone
        record("w", "s", ("0.png", "bad.png"), "j"),
        record("w2", "s", ("0.png", "bad.png"), "j"),  # the same again
        "{",
        record("v", "t", ("0.png", "1.png"), "k"),  # unknown label
        record("u", "u", ("../0.png", "1.png")),  # leaves the folder
    )
    (tmp_path / "bad.png").write_bytes(b"no picture")
    report = check(path)
    assert len(report.bad_lines) == 2
    assert "pairs.jsonl:6" in report.bad_lines[0]
    assert "pairs.jsonl:7" in report.bad_lines[1]
    assert report.duplicate_ids == ["x (2 times)"]
    assert len(report.missing_media) == 2
    assert len(report.damaged_media) == 1
    assert report.duplicate_comparisons == ["w2 repeats w"]
    assert len(report.leaking_prompts) == 1
    assert report.leaking_prompts[0].startswith("p ")
    assert report.leaking_media == ["2.png (test, train)"]
    assert report.faults == 9


def test_lines_that_are_none_are_told_in_words_for_people(tmp_path: Path) -> None:
    """Broken over several lines, as records are often shown; nested without end; in another encoding."""
    shown = json.dumps(record("x", "p", ("0.png", "1.png")), indent=1).splitlines()[:2]
    path = write(tmp_path, *shown, "[" * 100_000)
    path.write_bytes(path.read_bytes() + '{"prompt": "café"}\n'.encode("latin-1"))
    lines = [line.partition(": ")[2] for line in check(path).bad_lines]
    assert lines[0].startswith("not valid JSON (") and lines[0].endswith("; a record is one line)")
    assert lines[1].startswith("not valid JSON (") and "one line" not in lines[1]
    assert lines[2:] == [
        "not valid JSON (nested too deep)",
        "not UTF-8 text (byte 16): save the file as UTF-8",
    ]


def votes(id: str, prompt: str, counts: list[int], **more: Any) -> dict[str, Any]:
    """A comparison of the same two pictures by votes."""
    made = record(id, prompt, ("0.png", "1.png"), **more)
    made["annotations"] = [{"dim": "overall", "kind": "pair", "i": 0, "j": 1, "counts": counts}]
    return made


def test_agreement_comes_from_votes_from_names_and_from_repetition(tmp_path: Path) -> None:
    # units {i: 2}, {i: 1, j: 1}, {j: 2}: observed disagreement 2/6, expected 2*3*3/(6*5)
    expected = {"units": 3, "raw": pytest.approx(2 / 3), "alpha": pytest.approx(1 - (2 / 6) / (18 / 30))}
    path = write(tmp_path, votes("a", "p", [2, 0, 0]), votes("b", "q", [1, 1, 0]), votes("c", "r", [0, 2, 0]))
    assert check(path).agreement["overall"] == expected

    named = record("d", "p", ("0.png", "1.png"), "i")
    own = {"dim": "overall", "kind": "pair", "i": 0, "j": 1}
    named["annotations"] += [own | {"label": "i", "annotator": "x"}, own | {"label": "j", "annotator": "y"}]
    found = check(write(tmp_path, named))
    assert found.agreement["overall"]["units"] == 1  # the summary is no third vote
    assert found.agreement["overall"]["raw"] == 0.0
    assert found.dimensions["overall"]["pairs"] == 1

    twice = (record("e", "p", ("0.png", "1.png"), "i"), record("f", "p", ("1.png", "0.png"), "i"))
    report = check(write(tmp_path, *twice))
    assert report.agreement["overall"] == {"units": 1, "raw": 0.0, "alpha": 0.0}
    assert report.counts == {"contradicting_labels": 1} and report.faults == 0
    assert "e, f" in report.contradicting_labels[0]


def test_a_comparison_that_contradicts_itself_is_a_fault(tmp_path: Path) -> None:
    made = record("x", "p", ("0.png", "1.png"), "i")
    made["annotations"].append({"dim": "overall", "kind": "rating", "scores": [1, 4], "min": 1, "max": 4})
    report = check(write(tmp_path, made))
    assert report.self_contradictions == ["x: 'overall' says both i and j of one pair"]
    assert report.faults == 1


def test_prompts_leak_whatever_their_case_and_by_named_groups(tmp_path: Path) -> None:
    first = record("x", "A  dog", ("0.png", "1.png"), group="g")
    second = record("y", "a dog", ("2.png", "3.png"), split="test")
    third = record("z", "a cat", ("2.png", "3.png"), split="test", group="g")
    report = check(write(tmp_path, first, second, third))
    assert sorted(report.leaking_prompts) == ["A  dog (group g) (test, train)", "A  dog (test, train)"]


def test_a_position_that_tells_the_label_is_said(tmp_path: Path) -> None:
    rows = [record(str(k), f"prompt {k}", ("0.png", "1.png"), "i") for k in range(20)]
    report = check(write(tmp_path, *rows))
    assert report.faults == 0
    assert any("first candidate wins 100% of 20" in line for line in report.warnings)
    rows[::2] = [record(str(k), f"prompt {k}", ("0.png", "1.png"), "j") for k in range(0, 20, 2)]
    assert check(write(tmp_path, *rows)).warnings == []


def test_splits_in_several_files_are_checked_together(tmp_path: Path) -> None:
    one = write(tmp_path, record("x", "p", ("0.png", "1.png")))
    other = tmp_path / "test.jsonl"
    other.write_text(json.dumps(record("y", "q", ("1.png", "2.png"), split="test")) + "\n")
    assert check([one, other]).leaking_media == ["1.png (test, train)"]
    assert check([one, other], with_media=False).faults == 0


def test_media_in_archives_are_checked_and_a_false_hash_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, record("x", "p", ("zip://a.zip::in/0.png", "zip://a.zip::gone.png")))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "0.png", "in/0.png")
    report = check(path)
    assert report.counts == {"missing_media": 1} and "gone.png" in report.missing_media[0]
    false = record("x", "p", ("0.png", "1.png"))
    false["candidates"][0]["sha256"] = "0" * 64
    assert check(write(tmp_path, false)).counts == {"damaged_media": 1}


def test_parquet_is_checked_like_jsonl(tmp_path: Path) -> None:
    path = write(tmp_path, record("x", "p", ("0.png", "1.png")), record("y", "q", ("2.png", "3.png"), "tie"))
    write_parquet(tmp_path / "pairs.parquet", read(path))
    assert check(tmp_path / "pairs.parquet").as_dict() == check(path).as_dict()


def test_a_picture_against_a_video_is_a_fault(tmp_path: Path) -> None:
    media.write(tmp_path / "moves.mp4", torch.rand(4, 3, 16, 16), fps=4)
    mixed, declared = record("x", "p", ("0.png", "moves.mp4")), record("y", "q", ("0.png", "zip://a.zip::1"))
    declared["candidates"][1]["type"] = "video"
    words = record("z", "r", ("0.png", "1.png"))
    words["candidates"][1] = {"id": "1", "type": "text", "text": "a cat"}
    path = write(tmp_path, mixed, declared, words, record("w", "s", ("0.png", "1.png")))
    report = check(path, with_media=False)
    assert report.mixed_candidates == [f"{name}: a video (candidate 1) against a picture" for name in "xy"]
    assert report.counts == {"mixed_candidates": 2} and report.faults == 2
    assert check(path).mixed_candidates == report.mixed_candidates


def test_identical_candidates_are_found_by_bytes_and_without_media_by_uri(tmp_path: Path) -> None:
    path = write(tmp_path, record("x", "p", ("0.png", "0.png")), record("y", "q", ("0.png", "copy.png")))
    (tmp_path / "copy.png").write_bytes((tmp_path / "0.png").read_bytes())
    assert check(path).identical_candidates == ["x", "y"]
    assert check(path, with_media=False).identical_candidates == ["x"]


def test_notes_are_marked_as_notes_and_counted_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, record("x", "", ("0.png", "0.png")), record("y", "q", ("1.png", "2.png")))
    assert check_files([path]).notes == 2
    told = " ".join(capsys.readouterr().out.split())
    assert "note: empty prompts: x" in told and "note: identical candidates: x" in told
    assert told.endswith("2 comparisons (train 2), 3 media: no faults, 2 notes")
    (tmp_path / "other.jsonl").write_text("no JSON\n", encoding="utf-8")
    check_files([tmp_path / "other.jsonl"], with_media=False)
    told = " ".join(capsys.readouterr().out.split())
    assert told.endswith("0 comparisons, media not looked at: 1 fault") and "note" not in told
