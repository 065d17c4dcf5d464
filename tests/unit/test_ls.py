"""What `mmalign ls rewards` prints: every reward once, in columns, within 100 characters; nothing eaten as markup."""

from __future__ import annotations

import re

import pytest

import rewardmodels
from mmalign.config import available_recipes
from pipelines import ls

CATALOGUE = rewardmodels.available()


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    ls.run(*words)
    return capsys.readouterr().out


def test_every_reward_is_a_row_of_a_table_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "rewards")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100 and len(lines) < 3 * len(CATALOGUE) and "…" not in text
    for heading in ("reward", "judges", "dimensions", "licence", "size", "memory"):
        assert heading in lines[1] or heading in lines[2]
    for name in CATALOGUE:
        assert len(re.findall(rf"(?m)^ *{re.escape(name)}\s", text)) == 1, name
    (row,) = [line for line in lines if line.split()[:1] == ["pickscore"]]
    assert re.split(r" {2,}", row.strip()) == [
        "pickscore",
        "image video",
        "alignment",
        "MIT",
        "3.9 GB",
        "3.9 GB",
    ]


def test_rewards_stand_under_the_heading_of_their_kind(capsys: pytest.CaptureFixture[str]) -> None:
    under: dict[str, str] = {}
    heading = ""
    for line in printed(capsys, "rewards").splitlines():
        heading = line.strip() if line.strip() in ls.FAMILIES else heading
        under |= {name: heading for name in CATALOGUE if line.split()[:1] == [name]}
    assert under.keys() == CATALOGUE.keys()
    assert under["ocr"] == "Rules and probes" and under["hpsv2.1"] == "CLIP and BLIP"
    assert under["videoreward"] == under["shapes-reward"] == "VLMs with a head"
    assert under["editscore"] == "Judges in words"


def test_recipes_have_a_whole_sentence_under_their_verb(capsys: pytest.CaptureFixture[str]) -> None:
    verb, under, told = "", {}, {}
    for line in printed(capsys, "recipes").splitlines():
        name, _, about = line.strip().partition(" ")
        if name == "mmalign":
            verb = about.split()[0]
        elif name in available_recipes():
            under[name], told[name] = verb, about.strip()
        elif verb and name and under:
            told[list(told)[-1]] += f" {line.strip()}"
    assert set(under) == set(available_recipes())
    assert under["quickstart"] == under["grpo/shapes-flow"] == "finetune"
    assert under["clip/pick-like"] == under["plural/shapes"] == "train-reward"
    assert under["judge/shapes"] == "train-judge"
    assert all(about.endswith((".", "?")) for about in told.values()), told


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_one_reward_is_told_whole(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    entry = CATALOGUE[name]
    text = printed(capsys, "rewards", name)
    assert max(map(len, text.splitlines())) <= 100
    words = " ".join(re.sub(r"[│\s]+", " ", text).split())
    for fact in (
        entry.about,
        entry.scale,
        entry.licence,
        entry.weights,
        entry.size,
        ", ".join(entry.dimensions),
    ):
        assert " ".join(fact.split()) in words
    if entry.extra:
        assert f"pip install 'mmalign[{entry.extra}]'" in words


def test_options_are_shown_with_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "rewards", "hpsv2")
    assert "path: " in text and "version" not in text.split("options")[1]  # the name fixes the version
