"""What `score` tells people: reasons counted once, and names and figures whole in 80 columns."""

from __future__ import annotations

from rich.console import Console

from mmalign import console
from mmalign.stats import report
from pipelines.score_report import _failures


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
