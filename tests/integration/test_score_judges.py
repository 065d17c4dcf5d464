"""`mmalign score` with judges in words on a server: pairs as win rates, references, and what was said."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mmalign import media
from mmalign.composition import Reward
from pipelines import judges
from rewardmodels.trust.duels import comparer_of
from tests.integration.test_score_groups import call, grey, note, overall, rows
from tests.unit.rewardmodels.judges.chat_server import Reply, Seen, likely, said, serve

LEVELS = {"a": (0.2, 0.4, 0.9), "b": (0.5, 0.7)}


def shades(request: Mapping[str, Any]) -> list[float]:
    """How light each picture of a request is."""
    parts = [part for message in request["messages"] for part in message["content"]]
    links = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [float(media.read_bytes(base64.b64decode(link.partition(",")[2])).mean()) for link in links]


def lighter(request: dict[str, Any], number: int) -> Reply:
    """Prefers the lighter of two pictures."""
    first, second = shades(request)
    better, worse = (1, 2) if first > second else (2, 1)
    return said(f"Image {better} is better than Image {worse}.")


@pytest.fixture
def lines(tmp_path: Path) -> list[dict[str, Any]]:
    """Three pictures of one prompt, two of another."""
    made = []
    for prompt, levels in LEVELS.items():
        for k, level in enumerate(levels):
            media.write(tmp_path / f"{prompt}{k}.png", grey(level))
            made.append({"id": f"{prompt}{k}", "image": f"{prompt}{k}.png", "prompt": prompt})
    return made


def ask(folder: Path, lines: Sequence[Mapping[str, Any]], seen: Seen, **reward: Any) -> int:
    """The exit code of `score` with a judge on a server."""
    reward["options"] = {"server": seen.url, "model": "m", "retries": 0, **reward.get("options", {})}
    (folder / "judge.yaml").write_text(yaml.safe_dump(reward))
    return call("score", note(folder, lines), "--reward", folder / "judge.yaml", "-o", folder / "out")


@pytest.mark.parametrize(
    "reward", [{"name": "judge", "options": {"config": "unifiedreward-pair"}}, {"name": "unifiedreward-pair"}]
)
def test_a_judge_of_pairs_scores_win_rates(
    lines: list[dict[str, Any]], tmp_path: Path, reward: dict[str, Any]
) -> None:
    with serve(lighter) as seen:
        assert ask(tmp_path, lines, seen, **reward) == 0
    assert len(seen.requests) == 8  # 3 pairs and 1, in both orders
    found = overall(tmp_path / "out", tmp_path / "judge.yaml")
    assert found == {"a0": 0.0, "a1": 0.5, "a2": 1.0, "b0": 0.0, "b1": 1.0}


def test_a_lone_or_unread_picture_has_no_win_rate(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "a1.png").write_bytes(b"no picture")
    with serve(lighter) as seen:
        assert ask(tmp_path, lines[:4], seen, name="unifiedreward-pair") == 3
    assert len(seen.requests) == 2
    label = str(tmp_path / "judge.yaml")
    assert overall(tmp_path / "out", label) == {"a0": 0.0, "a1": None, "a2": 1.0, "b0": None}
    assert "nothing to compare with" in rows(tmp_path / "out")["b0"]["reasons"][label]


def test_verbs_that_see_lone_samples_say_what_judges_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.yaml").write_text(
        "name: one-or-two\noptions: {server: 'http://127.0.0.1:9/v1', model: m}"
    )
    words = ("--reward", tmp_path / "pairs.yaml", "-o", tmp_path / "out")
    assert call("evaluate", "generator", *words) == 2
    assert "is a judge of pairs" in capsys.readouterr().err
    assert comparer_of(judges.load([Reward(name=str(tmp_path / "pairs.yaml"))], company="pairs")[0].model)


def test_a_reference_is_found_beside_the_file(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    def surer(request: dict[str, Any], number: int) -> Reply:
        reference, shown = shades(request)
        return likely([("yes", -0.1), ("no", -2.4)] if shown > reference else [("no", -0.1), ("yes", -2.4)])

    middle = tmp_path / "beside" / "middle.png"
    media.write(middle, grey(0.45))
    rivals = [line | {"reference": "beside/middle.png"} for line in lines[:3]]
    with serve(surer) as seen:
        assert ask(tmp_path, [*rivals, lines[3]], seen, name="rewarddance") == 3
        found = overall(tmp_path / "out", tmp_path / "judge.yaml")
        assert found["a0"] < 0.2 and found["a1"] < 0.2 and found["a2"] > 0.8 and found["b0"] is None
        media.write(middle, torch.rand(3, 8, 8) * 0.1)  # another rival: asked again
        assert ask(tmp_path, rivals, seen, name="rewarddance") == 0
        assert min(overall(tmp_path / "out", tmp_path / "judge.yaml").values()) > 0.8
        assert len(seen.requests) == 6


def critic(request: dict[str, Any], number: int) -> Reply:
    """Marks by lightness, with a refined prompt; the lightest picture gets half a character and no marks."""
    (shown,) = shades(request)
    if shown > 0.8:
        return said("Lovely \ud83d")
    mark = 1 + 3 * shown
    lines = [f"{name}: {mark:.2f}" for name in ("Text faithfulness", "Physical quality", "Text rendering")]
    return said("\n".join([*lines, f"Refined prompt: a picture of {shown:.2f}"]))


def test_what_a_judge_says_stands_beside_its_scores(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    label = str(tmp_path / "judge.yaml")
    with serve(critic) as seen:
        assert ask(tmp_path, lines[:3], seen, name="rationalrewards-t2i") == 3
        assert len(seen.requests) == 3  # nobody is asked twice, not even for words
        found = {id: row["details"][label] for id, row in rows(tmp_path / "out").items()}
        assert found["a0"]["notes"]["refined_prompt"] == "a picture of 0.20"
        assert "Physical quality: 1.60" in found["a0"]["answers"][0]
        assert found["a0"]["numbers"]["readable_passes"] == 1.0
        assert found["a2"]["answers"] == ["Lovely ?"] and "notes" not in found["a2"]
        page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        folded = f"<details><summary>{label}: refined prompt</summary>a picture of 0.20</details>"
        assert folded in page and "Physical quality: 1.60\nText rendering: 1.60" in page
        both = tmp_path / "both.yaml"
        both.write_text("name: both\ncombine: zscore\nrewards: [judge.yaml, brightness]")
        assert call("score", note(tmp_path, lines[:2]), "--reward", both, "-o", tmp_path / "both") == 0
        row = rows(tmp_path / "both")["a1"]
        assert row["details"][str(both)]["judge.yaml"]["notes"]["refined_prompt"] == "a picture of 0.40"
        page = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
        assert "judge.yaml: refined prompt</summary>a picture of 0.40" in page
        assert len(seen.requests) == 5
    assert call("score", tmp_path / "pictures.jsonl", "--reward", "brightness", "-o", tmp_path / "mute") == 0
    assert rows(tmp_path / "mute")["a0"]["details"] == {}
