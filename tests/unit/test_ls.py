"""What `mmalign ls rewards` prints: every reward once, in columns, within 100 characters; nothing eaten as markup."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

import rewardmodels
from mmalign.config import available_recipes
from mmalign.types import Sample
from pipelines import ls
from rewardmodels.judges.settings import FOLDER, read_judge
from rewardmodels.judges.wording import wording

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


def test_what_reads_no_prompt_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    blind = {name for name, entry in CATALOGUE.items() if "reads no prompt" in entry.about}
    measures = {"jpeg-compressibility", "jpeg-incompressibility", "sharpness", "saturation", "brightness"}
    assert blind == measures | {"motion", "laion-aesthetic", "set-vendi", "set-frechet", "exemplars"}
    assert "reads no prompt" in re.sub(r"[│\s]+", " ", printed(capsys, "rewards", "sharpness"))
    samples = [Sample(prompt, torch.rand(3, 32, 32)) for prompt in ("a red circle", "a blue square")]
    samples[1] = replace(samples[1], media=samples[0].media)
    for name in measures:
        assert len(set(rewardmodels.load(name)(samples=samples).overall.tolist())) == 1, name
    for file in FOLDER.glob("*.yaml"):  # judges: the prompt is in what they ask, or is itself the answer
        settings = read_judge(file.stem)
        fields = settings.judge.model_dump()
        asked = [fields.get("wording"), fields.get("plan"), fields.get("joined")]
        asked += [ask["wording"] for ask in fields.get("asks", ())]
        texts = [wording(key).text for key in asked if key]
        texts += [check["question"] for check in fields.get("checks", ())]
        assert settings.judge.kind == "echo" or any("{prompt}" in text for text in texts), file.stem


def test_options_are_shown_with_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "rewards", "hpsv2")
    assert "path: " in text and "version" not in text.split("options")[1]  # the name fixes the version
