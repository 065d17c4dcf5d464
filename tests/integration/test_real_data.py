"""Real data by others through the commands: what they count and find is counted again here, by other means.

The data lie beside a checkout (`real_data` in tests/conftest.py); without them the tests skip with that reason.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mmalign import media
from tests.integration.told import call, rows

RATERS = ("rater1_sc", "rater2_sc", "rater3_sc")
VERDICTS = {"A is better": 1.0, "B is better": 0.0, "same good": 0.5, "same bad": 0.5}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def videoalign(real_data: Path, tmp_path: Path) -> Path:
    """Three pairs of generated videos with human labels, imported."""
    out = tmp_path / "v.jsonl"
    assert call("data", "import", real_data / "videoalign" / "example.csv", "-o", out) == 0
    return out


def test_videos_with_human_labels_are_imported_and_checked(videoalign: Path, tmp_path: Path) -> None:
    found = rows(videoalign)
    assert len(found) == 3
    assert all(Path(c["uri"]).is_file() for row in found for c in row["candidates"])
    assert {note["dim"] for row in found for note in row["annotations"]} == {
        "visual_quality",
        "motion_quality",
        "text_alignment",
    }
    assert call("data", "check", videoalign, "-o", tmp_path / "check.json") == 0
    report = json.loads((tmp_path / "check.json").read_text())
    assert (report["num_comparisons"], report["num_media"]) == (3, 6)
    assert not any(
        report[kind] for kind in ("bad_lines", "missing_media", "damaged_media", "duplicate_comparisons")
    )


def test_a_lost_video_is_found(videoalign: Path, tmp_path: Path) -> None:
    text = videoalign.read_text().replace("example_2_A.mp4", "gone.mp4")
    videoalign.write_text(text)
    assert call("data", "check", videoalign, "-o", tmp_path / "check.json") == 3
    report = json.loads((tmp_path / "check.json").read_text())
    assert len(report["missing_media"]) == 1 and "gone.mp4" in report["missing_media"][0]


def test_a_reward_is_held_against_what_people_said_of_videos(
    videoalign: Path, real_data: Path, tmp_path: Path
) -> None:
    """The share of pairs in which the livelier video won, with motion measured here: mean change between 4 frames."""
    out = tmp_path / "o.json"
    words = (
        "--reward",
        "motion",
        "--pairs",
        videoalign,
        "dimension=motion_quality",
        "max_frames=4",
        "-o",
        out,
    )
    assert call("evaluate", "reward", *words) == 0
    result = json.loads(out.read_text())
    right = []
    for row in table(real_data / "videoalign" / "example.csv"):
        if row["MQ"] == "same":
            continue
        moves = {}
        for side in "AB":
            frames = media.read(real_data / "videoalign" / row[f"path_{side}"], max_frames=4)
            moves[side] = float((frames[1:] - frames[:-1]).abs().mean())
        right.append(max(moves, key=moves.__getitem__) == row["MQ"])
    assert (result["num_pairs"], result["num_judged"], result["left_out"]) == (3, 3, {})
    assert result["score"] == "overall" and result["strict_interval"]["n"] == len(right) == 1
    assert result["strict_interval"]["mean"] == pytest.approx(np.mean(right))


def test_a_judge_agrees_with_raters_of_edits_as_scipy_says(real_data: Path, tmp_path: Path) -> None:
    file, out = real_data / "imagenhub_text_guided_ie.csv", tmp_path / "o.json"
    words = ("--table", file, "--human", ",".join(RATERS), "--judge", "gpt4o_0shot_sc0", "--by", "model")
    assert call("evaluate", "agreement", *words, "--resamples", 20, "-o", out) == 0
    result = json.loads(out.read_text())
    told = table(file)
    used = [row for row in told if row["gpt4o_0shot_sc0"] and all(row[rater] for rater in RATERS)]
    assert 0 < len(used) < len(told)
    assert (result["num_rows"], result["num_used"]) == (len(told), len(used))
    lost = len(told) - len(used)
    assert result["left_out"] == {"human rating missing": 0, "judge rating missing": lost, "both missing": 0}
    people = np.array([[float(row[rater]) for rater in RATERS] for row in used])
    judge = np.array([float(row["gpt4o_0shot_sc0"]) for row in used])
    truth = people.mean(axis=1)
    for name, of in (
        ("spearman", stats.spearmanr),
        ("kendall", stats.kendalltau),
        ("pearson", stats.pearsonr),
    ):
        assert result["overall"][name]["value"] == pytest.approx(of(judge, truth).statistic, abs=1e-9)
    pair = stats.spearmanr(people[:, 0], people[:, 2]).statistic
    assert result["human_human"]["pairs"]["rater1_sc ~ rater3_sc"]["spearman"] == pytest.approx(
        pair, abs=1e-9
    )
    models = np.array([row["model"] for row in used])
    each = {
        str(one): stats.spearmanr(judge[models == one], truth[models == one]).statistic for one in set(models)
    }
    found = {name: one["spearman"]["value"] for name, one in result["by"]["groups"].items()}
    assert found == pytest.approx(each, abs=1e-9) and len(each) == 8
    fisher = np.tanh(np.mean(np.arctanh(list(each.values()))))
    assert result["by"]["fisher_mean"]["spearman"]["value"] == pytest.approx(fisher, abs=1e-9)


def test_generators_are_ranked_so_that_expected_wins_are_those_that_people_gave(
    real_data: Path, tmp_path: Path
) -> None:
    """At the top of the likelihood every name's expected wins, ties counted half, are its wins in the table."""
    file, out = real_data / "uve_pairs.csv", tmp_path / "o.json"
    words = ("--pairs", file, "--a", "model_a", "--b", "model_b", "--preference", "preference")
    assert call("evaluate", "rank", *words, "--resamples", 20, "-o", out) == 0
    result = json.loads(out.read_text())
    told = table(file)
    used = [row for row in told if row["preference"] in VERDICTS and row["model_a"] != row["model_b"]]
    assert (result["num_rows"], result["num_used"]) == (len(told), len(used))
    assert sum(result["left_out"].values()) == len(told) - len(used)
    assert result["verdicts"] == dict(Counter(row["preference"] for row in used))
    for found in (result["ratings"], result["davidson"]["ratings"]):
        elo = [one["elo"] for one in found]
        assert elo == sorted(elo, reverse=True) and np.mean(elo) == pytest.approx(1000)
        assert all(one["low"] <= one["elo"] <= one["high"] for one in found)
    count = Counter(row[side] for row in used for side in ("model_a", "model_b"))
    assert {one["name"]: one["n"] for one in result["ratings"]} == count
    strength = {one["name"]: 10 ** (one["elo"] / 400) for one in result["ratings"]}
    expected, won = Counter[str](), Counter[str]()
    for row in used:
        a, b, first = row["model_a"], row["model_b"], VERDICTS[row["preference"]]
        share = strength[a] / (strength[a] + strength[b])
        expected.update({a: share, b: 1 - share})  # type: ignore[dict-item]
        won.update({a: first, b: 1 - first})  # type: ignore[dict-item]
    assert dict(expected) == pytest.approx(dict(won), abs=1e-3)


def test_davidsons_ties_are_as_many_as_people_saw(real_data: Path, tmp_path: Path) -> None:
    file, out = real_data / "uve_pairs.csv", tmp_path / "o.json"
    words = (
        "--pairs",
        file,
        "--a",
        "model_a",
        "--b",
        "model_b",
        "--preference",
        "preference",
        "--by",
        "aspect",
    )
    assert call("evaluate", "rank", *words, "--resamples", 20, "-o", out) == 0
    result = json.loads(out.read_text())
    told = table(file)
    strength = {one["name"]: 10 ** (one["elo"] / 400) for one in result["davidson"]["ratings"]}
    ties = 0.0
    for row in told:
        one, other = strength[row["model_a"]], strength[row["model_b"]]
        even = result["davidson"]["tie_parameter"] * (one * other) ** 0.5
        ties += even / (one + other + even)
    assert ties == pytest.approx(sum(row["preference"].startswith("same") for row in told), abs=1e-3)
    aspects = Counter(row["aspect"] for row in told)
    assert {name: one["num_used"] for name, one in result["by"]["groups"].items()} == aspects
