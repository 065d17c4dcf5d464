"""From kept evaluations to the quickstart's figures: hand-made rows with known answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmalign.shapes import CATEGORIES as KINDS
from mmalign.train.trackers import evaluation_file
from pipelines import quickstart
from pipelines import quickstart_results as results
from pipelines.quickstart_results import Graded

PROMPTS = ("a red circle", "a circle", "two blue squares", "a red circle and a blue square")


def graded(passes: str, proxies: list[float]) -> list[Graded]:
    """One picture a prompt; `passes` has a 1 for each that the verifier passes."""
    return [Graded(p, 0, c == "1", v) for p, c, v in zip(PROMPTS, passes, proxies, strict=False)]


def write(folder: Path, iteration: int, rows: list[tuple[str, int, float, float | None]]) -> None:
    path = evaluation_file(folder, iteration)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"prompt": p, "seed": s, "scores": {results.GOLD: f, results.PROXY: r}})
        for p, s, f, r in rows
    ]
    path.write_text("\n".join(lines) + "\n")


def test_reads_what_the_loop_keeps(tmp_path):
    write(tmp_path, 0, [("a red circle", 0, 1.0, 0.5), ("a circle", 1, 0.0, None)])
    write(tmp_path, 10, [("a red circle", 0, 1.0, 1.5), ("a circle", 1, 1.0, 0.5)])
    first, second = results.read_evaluation(tmp_path, 0)
    assert first == Graded("a red circle", 0, True, 0.5)
    assert not second.passed and second.proxy != second.proxy
    gold, proxy = results.curves(tmp_path)
    assert [p.iteration for p in gold] == [0, 10]
    assert [p.estimate.mean for p in gold] == [0.5, 1.0]
    assert [p.estimate.mean for p in proxy] == [0.5, 1.0]
    with pytest.raises(ValueError, match="000020"):
        results.read_evaluation(tmp_path, 20)


def test_changes_are_paired():
    base, aligned = graded("0011", [0.0, 1.0, 2.0, 3.0]), graded("1101", [1.0, 2.0, 3.0, 4.0])
    gold, proxy = results.gold_change(base, aligned), results.proxy_change(base, aligned)
    assert (gold.base.mean, gold.aligned.mean, gold.difference.mean) == (0.5, 0.75, 0.25)
    # every reward rose by exactly one: the paired difference is certain though each mean is not
    assert (proxy.difference.mean, proxy.difference.low, proxy.difference.high) == (1.0, 1.0, 1.0)
    assert proxy.base.low < proxy.base.high
    assert results.outcomes(base, aligned) == ("fixed", "fixed", "broken", "kept")
    with pytest.raises(ValueError, match="other prompts or seeds"):
        results.gold_change(base, aligned[::-1])


def test_categories_cover_the_world_and_only_those_that_occur():
    assert set(results.CATEGORIES) == set(KINDS)
    base, aligned = graded("0000", [0.0] * 4), graded("0010", [0.0] * 4)
    changes = dict(results.by_category(base, aligned))
    assert changes["a count"].difference.mean == 1.0
    assert sum(change.base.n for change in changes.values()) == 4
    assert "a position" not in changes


def test_judge_ignores_unknown_rewards_and_orders_examples():
    base = graded("1010", [2.0, float("nan"), 0.0, 1.0])
    found = results.judge(base, torch.zeros(4, 1, 3, 2, 2))
    assert found.passing == (2.0, 0.0) and found.failing == (1.0,)
    assert found.agreement == 0.5
    assert [p.scores["learned reward"] for _, p in found.examples] == [0.0, 1.0, 2.0]
    many = [Graded("a red circle", i, False, float(-i)) for i in range(40)]
    shown = results.judge(many, torch.zeros(40, 1, 3, 2, 2)).examples
    assert len(shown) == results.NUM_EXAMPLES
    assert shown[0][1].scores["learned reward"] == -39.0 and shown[-1][1].scores["learned reward"] == 0.0


def test_gallery_shows_each_prompt_once():
    base = [Graded(p, seed, seed == 0, 0.0) for p in PROMPTS for seed in (0, 1)]
    pictures = torch.arange(6.0)[:, None, None, None, None] / 10  # the first six of eight pairs have pictures
    rows = results.gallery(base, base, (pictures, pictures + 0.05))
    assert [row.prompt for row in rows] == list(PROMPTS[:3])
    assert [float(row.panels[0].media) for row in rows] == pytest.approx([0.0, 0.2, 0.4])
    assert [panel.label for panel in rows[0].panels] == ["base", "aligned"]


def test_folder_of_other_things_is_refused(tmp_path):
    quickstart.check_folder(tmp_path / "new")
    quickstart.check_folder(tmp_path)
    file = tmp_path / "letter.txt"
    file.write_text("dear reader")
    with pytest.raises(ValueError, match="holds files of something else"):
        quickstart.check_folder(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        quickstart.check_folder(file)
    (tmp_path / quickstart.STARTED).write_text("")
    quickstart.check_folder(tmp_path)


def test_refusal_comes_before_torch(tmp_path):
    (tmp_path / "letter.txt").write_text("dear reader")
    code = (
        "import sys\nfrom pipelines import quickstart\n"
        f"try:\n    quickstart.run({str(tmp_path)!r})\nexcept ValueError as error:\n    print(error)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "something else" in done.stdout and done.stdout.strip().endswith("False")


def test_hub_setting_is_put_back(monkeypatch):
    import os

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with quickstart.offline():
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with quickstart.offline():
        pass
    assert os.environ["HF_HUB_OFFLINE"] == "0"
