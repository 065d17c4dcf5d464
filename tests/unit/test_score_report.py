"""What `score` tells people: reasons counted once, and names and figures whole in 80 columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmalign import console
from mmalign.composition import Reward
from mmalign.stats import report
from pipelines import score_report
from pipelines.score_report import _failures
from pipelines.settings import Score


def test_equal_reasons_are_one_line_with_a_count() -> None:
    rows = [
        {
            "id": str(k),
            "file": f"{k}.png",
            "reasons": {"a": f"{k}.png is damaged", "b": f"{k}.png is damaged"},
        }
        for k in range(10)
    ]
    rows.append({"id": "x", "file": "x.png", "reasons": {"b": "no prompt"}})
    rows.append({"id": "y", "file": "y.png", "reasons": {}})
    assert _failures(rows) == [
        ["a, b", "the file is damaged", 10, "0, 1, 2, 3, 4, 5, 6, 7, ..."],
        ["b", "no prompt", 1, "x"],
    ]
    assert '<table class="words">' in report.table(["why"], [["no prompt"]], words=True)


def test_names_and_figures_are_whole_in_80_columns() -> None:
    names = {"reward": ["jpeg-compressibility"], "dimension": ["instruction_following"]}
    figures = {"mean": ["-0.00369"], "95%": ["-0.00371 to -0.00367"], "n": ["4"], "not judged": ["10"]}
    paper = Console(width=80)
    with paper.capture() as caught:
        paper.print(console.table(names, figures))
    words = caught.get().split()
    assert {*names["reward"], *names["dimension"], "-0.00369", "-0.00371", "-0.00367"} <= set(words)
    assert max(map(len, caught.get().splitlines())) <= 80


def lost(num: int, reason: str) -> list[dict[str, Any]]:
    """Rows that no reward judged; `#` in the reason is the row's number."""
    return [
        {"id": str(k), "file": f"{k}.png", "prompt": "", "scores": {"a": {"overall": None}}, "details": {},
         "reasons": {"a": reason.replace("#", str(k))}}
        for k in range(num)
    ]  # fmt: skip


SETTINGS = Score(input="in", rewards=(Reward(name="a"),), output="out")


def test_the_reason_of_one_file_alone_names_it() -> None:
    alone = score_report.summarize(lost(1, "#.png: no such file"), SETTINGS)
    assert alone["rewards"]["a"]["reasons"] == {"0.png: no such file": 1}
    assert score_report.summarize(lost(2, "#.png: no such file"), SETTINGS)["rewards"]["a"]["reasons"] == {
        "the file: no such file": 2
    }
    assert _failures(lost(1, "#.png: no such file")) == [["a", "0.png: no such file", 1, "0"]]


def test_reasons_that_are_not_shown_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    summary = score_report.summarize(lost(9, "reason #"), SETTINGS)
    score_report.tell(summary, Path("out"), 1)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("1 not judged: reason") == 5
    assert "a: 4 more not judged, for other reasons; all are in out/summary.json" in said
    assert "– to –" not in said and "9 items, 1 of them done before" in said


def test_the_page_says_how_many_were_not_judged(tmp_path: Path) -> None:
    rows = lost(3, "reason #")
    score_report.write(tmp_path / "r.html", rows, [], score_report.summarize(rows, SETTINGS), SETTINGS)
    assert "3 items from in, 3 of them not judged by the reward." in (tmp_path / "r.html").read_text()
