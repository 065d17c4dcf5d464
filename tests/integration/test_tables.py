"""`evaluate rank` and `evaluate agreement` on tables with a few bad rows, and with mostly bad ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmalign.__main__ import main
from mmalign.stats import intervals, ranking
from mmalign.stats.intervals import Interval
from pipelines import agreement, rank


def ranked(folder: Path, verdicts: list[str]) -> dict[str, object]:
    table = folder / "p.csv"
    table.write_text("a,b,v\n" + "".join(f"x,y,{verdict}\n" for verdict in verdicts))
    out = folder / "o.json"
    rank.run(table, a="a", b="b", preference="v", output=out, num_resamples=100)
    found: dict[str, object] = json.loads(out.read_text())
    return found


def test_a_verdict_that_is_not_understood_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = ["A is better"] * 6 + ["B is better"] * 4
    found = ranked(tmp_path, [*good, "perhaps", ""])
    assert found["left_out"] == {"verdict not understood": 1, "verdict missing": 1}
    assert found["not_understood"] == ["p.csv:12: verdict 'perhaps' is not understood"]
    assert found["ratings"] == ranked(tmp_path, good)["ratings"] and found["num_used"] == 10
    assert "'perhaps' is not understood" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(
        ValueError, match=r"6 of 16 rows cannot be used: p.csv:12: verdict 'perhaps' is not und"
    ):
        ranked(tmp_path, [*good, *["perhaps"] * 6])


def test_dropped_resamples_say_why_and_give_no_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ranked(tmp_path, ["A"] * 60 + ["B"])  # most resamples have one B or more, a third has none
    dropped = found["resamples_left_out"]
    assert isinstance(dropped, dict) and set(dropped) == {ranking.ONE_SIDED}
    assert found["num_resamples"] == 100 - dropped[ranking.ONE_SIDED] > 50
    assert all(row["low"] is not None for row in found["ratings"])  # type: ignore[attr-defined]
    assert "resamples some name won, or lost, all" in " ".join(capsys.readouterr().out.split())
    a, b = [*"pqrst", *"qrstp"], [*"qrstp", *"pqrst"]  # each pair once in either order, each won once
    few = ranking.fit(a, b, [1.0] * 10, num_resamples=200)
    assert sum(few.left_out.values()) == 200 - few.num_resamples > 100
    assert {row["low"] for row in few.as_rows()} == {None}


def test_a_cell_that_is_no_number_is_left_out_and_named(tmp_path: Path) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "o.json"
    lines = [f"{k % 5},{k % 4},{(k * 7) % 5}" for k in range(20)]
    table.write_text("\n".join(["r1,r2,judge", *lines, "3,good,1", ",2,oops", ",2,1"]) + "\n")
    result = agreement.run(table, human=["r1", "r2"], judge="judge", output=out, num_resamples=50)
    assert result["left_out"] == {
        "human rating missing": 1, "judge rating missing": 0, "both missing": 0, "not a number": 2,
    }  # fmt: skip
    assert result["not_understood"] == [
        "t.csv:22: column 'r2' holds 'good', which is not a number",
        "t.csv:23: column 'judge' holds 'oops', which is not a number",
    ]
    assert result["num_used"] == 20 and json.loads(out.read_text())["num_used"] == 20
    table.write_text("\n".join(["r1,r2,judge", *lines, *["3,good,1"] * 9]) + "\n")
    with pytest.raises(ValueError, match=r"9 of 29 rows cannot be used: t.csv:22: column 'r2' holds 'good'"):
        agreement.run(table, human=["r1", "r2"], judge="judge", output=out)


@pytest.fixture
def usual_cells() -> Iterator[None]:
    """Python's own limit of a cell, which is one for the whole process and others raise."""
    limit = csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(limit)


@pytest.mark.usefixtures("usual_cells")
@pytest.mark.parametrize(
    "content",
    [b"a,b,v\nx,caf\xe9,A\n", b"\x89PNG\r\n\x1a\n\x00\x00", b"a,b,v\n" + b"x" * 200_000],
    ids=["Latin-1", "a picture", "one endless cell"],
)
def test_a_table_that_cannot_be_read_is_named_with_the_mend(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "p.csv", tmp_path / "o.json"
    table.write_bytes(content)
    asked = {
        "rank": ["--pairs", str(table), "--a", "a", "--b", "b", "--preference", "v"],
        "agreement": ["--table", str(table), "--human", "a,b", "--judge", "v"],
    }
    for verb, words in asked.items():
        with pytest.raises(SystemExit) as done:
            main(["evaluate", verb, *words, "-o", str(out)])
        said = " ".join(capsys.readouterr().err.split())
        assert done.value.code == 2 and not out.exists()
        assert "p.csv is no" in said and "in UTF-8" in said and "Traceback" not in said


def test_groups_and_people_get_as_many_resamples_as_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = tmp_path / "p.csv", tmp_path / "o.json"
    verdicts = ["A", "B", "A", "B", "A", "A", "tie", "B"] * 3
    table.write_text("a,b,v,t\n" + "".join(f"x,y,{v},{t}\n" for t in "pq" for v in verdicts))
    found = rank.run(table, a="a", b="b", preference="v", by="t", output=out, num_resamples=40)
    for part in (found, *found["by"]["groups"].values()):
        assert part["num_resamples"] + sum(part["resamples_left_out"].values()) == 40
        davidson = part["davidson"]
        assert davidson["num_resamples"] + sum(davidson["resamples_left_out"].values()) == 40
    asked: list[int] = []
    statistic = intervals.statistic

    def counting(*given: Any, num_resamples: int, **more: Any) -> Interval:
        asked.append(num_resamples)
        return statistic(*given, num_resamples=num_resamples, **more)

    monkeypatch.setattr(intervals, "statistic", counting)
    table.write_text("r,s,j,m\n" + "".join(f"{k % 5},{k % 4},{k % 3},{'pq'[k % 2]}\n" for k in range(20)))
    agreement.run(table, human=["r", "s"], judge="j", by="m", output=out, num_resamples=40)
    assert set(asked) == {40} and len(asked) == 3 * (1 + 2 + 1 + 1)  # overall, two groups, their mean, people


def test_a_group_without_a_usable_row_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "o.json"
    whole = [f"{k % 5},{(k * 3) % 7},whole" for k in range(9)]
    table.write_text("\n".join(["r,j,m", *whole, "1,,whole", *["3,,Imagic"] * 4]) + "\n")
    agreement.run(table, human=["r"], judge="j", by="m", output=out, num_resamples=20)
    within = json.loads(out.read_text())["by"]
    assert set(within["groups"]) == {"whole"}
    assert within["left_out"] == {"Imagic": {"judge rating missing": 4}, "whole": {"judge rating missing": 1}}
    assert within["undefined"] == {kind: ["Imagic"] for kind in ("spearman", "kendall", "pearson")}
    told = " ".join(capsys.readouterr().out.split())
    assert "note: left out: 5 rows (judge rating missing)" in told
    assert "Imagic: nothing can be said, all its rows are left out: 4 rows (judge rating missing)" in told
    assert "whole: nothing" not in told


def test_groups_of_a_ranking_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = tmp_path / "p.csv", tmp_path / "o.json"
    rows = [f"x,y,{verdict},{aspect}" for aspect in "cdefgh" for verdict in "AABAB"] + ["x,y,A,b"] * 2
    table.write_text("\n".join(["a,b,v,aspect", *rows]) + "\n")
    rank.run(table, a="a", b="b", preference="v", by="aspect", output=out, num_resamples=40)
    told = " ".join(capsys.readouterr().out.split())
    assert "aspect b: 2 comparisons: no finite rating" in told
    assert "aspect c: 5 comparisons" in told and "aspect f: 5 comparisons" in told
    assert "aspect g" not in told and f"and 2 more groups of aspect: all are in {out}" in told
