"""Importing and checking preference data: labels by hand, and every kind of fault is found and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign import media
from mmalign.data import importers
from mmalign.data.check import agreement, check
from mmalign.data.formats import read_jsonl, write_jsonl

HEADER = "path_A,path_B,prompt,VQ,MQ,TA,fps_A,num_frames_A,fps_B,num_frames_B\n"


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


def test_videoalign_rows_become_pairs_per_dimension(tmp_path: Path) -> None:
    rows = ["./v/a.mp4,v/b.mp4,a dog,A,B,same,24,48,30.0,", "./v/a.mp4,v/b.mp4,a dog,A,B,same,24,48,30.0,"]
    (tmp_path / "x.csv").write_text(HEADER + "\n".join(rows) + "\n")
    (one,) = importers.read(tmp_path / "x.csv", format="auto", root=tmp_path, split="test")
    labels = {note.dim: note.data["label"] for note in one.annotations}
    assert labels == {"visual_quality": "i", "motion_quality": "j", "text_alignment": "tie"}
    assert [c.uri for c in one.candidates] == ["v/a.mp4", "v/b.mp4"]
    assert one.candidates[0].meta == {"fps": 24.0, "num_frames": 48.0}
    assert (one.split, one.task) == ("test", "t2v")
    assert write_jsonl(tmp_path / "o.jsonl", [one]) == 1
    (again,) = read_jsonl(tmp_path / "o.jsonl")
    assert again.id == one.id


def test_importers_name_the_row(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(HEADER + "a.mp4,b.mp4,dog,C,A,A,,,,\n")
    with pytest.raises(ValueError, match=r"x\.csv:2: VQ is 'C'"):
        list(importers.read(tmp_path / "x.csv", format="auto", root=tmp_path, split="train"))
    (tmp_path / "y.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="no format known"):
        importers.read(tmp_path / "y.csv", format="auto", root=tmp_path, split="train")


def test_clean_data_has_no_faults(tmp_path: Path) -> None:
    path = write(tmp_path, record("x", "p", ("0.png", "1.png")), record("y", "q", ("2.png", "3.png"), "tie"))
    report = check(path)
    assert report.faults == 0
    assert (report.num_comparisons, report.num_media) == (2, 4)
    assert report.dimensions["overall"] == {"pairs": 2, "ties": 1, "tie_rate": 0.5, "first_wins": 1.0}
    assert report.models["m0"] == {"win_rate": 0.75, "n": 2}


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


def test_agreement_of_repeated_judgements() -> None:
    # coincidences: aa 2, bb 2, ab 1, ba 1; observed disagreement 2/6, expected 2*3*3/(6*5)
    found = agreement([["a", "a"], ["a", "b"], ["b", "b"]])
    assert found["raw"] == pytest.approx(2 / 3)
    assert found["alpha"] == pytest.approx(1 - (2 / 6) / (18 / 30))
    assert agreement([["a", "a"]])["alpha"] is None
