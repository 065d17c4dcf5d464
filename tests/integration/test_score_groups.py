"""`mmalign score` with rewards that compare samples: whole groups, broken members, going on, and company of one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import rewardmodels
from mmalign import media
from mmalign.__main__ import main
from mmalign.types import Sample
from rewardmodels.heads import Seen
from rewardmodels.inputs import VlmInputs
from rewardmodels.vlm import VlmReward
from tests.unit.rewardmodels.tiny import tiny_family

LEVELS = {"a": (0.2, 0.4, 0.9), "b": (0.5, 0.7, 0.1)}
"""Brightness of the pictures of two prompts."""
ZSCORES = "name: z\nscale: {name: zscore, eps: 0}\nrewards: [brightness]"


def call(*words: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The lines of scores.jsonl by id."""
    lines = (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def overall(folder: Path, label: object) -> dict[str, float]:
    """The scores of one reward by id."""
    return {id: row["scores"][str(label)]["overall"] for id, row in rows(folder).items()}


def grey(level: float, size: int = 8) -> torch.Tensor:
    return torch.full((3, size, size), round(level * 255) / 255)


def zscores(levels: Sequence[float]) -> list[float]:
    known = torch.tensor([round(level * 255) / 255 for level in levels])
    return ((known - known.mean()) / known.std(correction=0)).tolist()


def note(folder: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    path = folder / "pictures.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def lines(tmp_path: Path) -> list[dict[str, Any]]:
    """Pictures of two prompts, interleaved, of two sizes."""
    made = []
    for k in range(3):
        for prompt, levels in LEVELS.items():
            media.write(tmp_path / f"{prompt}{k}.png", grey(levels[k], 8 if k else 12))
            made.append({"id": f"{prompt}{k}", "image": f"{prompt}{k}.png", "prompt": prompt})
    return made


@pytest.fixture
def z(tmp_path: Path) -> Path:
    (tmp_path / "z.yaml").write_text(ZSCORES)
    return tmp_path / "z.yaml"


def expected(levels: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        f"{prompt}{k}": pytest.approx(value, abs=1e-4)
        for prompt, row in levels.items()
        for k, value in enumerate(zscores(row))
    }


@pytest.mark.parametrize("settings", [("batch_size=1", "workers=0"), ("batch_size=4",), ()])
def test_groups_are_judged_whole_whatever_the_batch(
    lines: list[dict[str, Any]], z: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    path, out = note(tmp_path, lines), tmp_path / "out"
    assert call("score", path, "--reward", z, "--reward", "brightness", "-o", out, *settings) == 0
    assert overall(out, z) == expected(LEVELS)
    assert list(rows(out)) == [line["id"] for line in lines]
    assert overall(out, "brightness")["a2"] == pytest.approx(0.9, abs=0.01)


def test_a_broken_member_has_a_reason_and_the_rest_is_judged_without_it(
    lines: list[dict[str, Any]], z: Path, tmp_path: Path
) -> None:
    path, out, whole = note(tmp_path, lines), tmp_path / "out", (tmp_path / "a2.png").read_bytes()
    (tmp_path / "a2.png").write_bytes(whole[:50])
    assert call("score", path, "--reward", z, "-o", out) == 3
    found = overall(out, z)
    assert found.pop("a2") is None and "a2.png" in rows(out)["a2"]["reasons"][str(z)]
    assert found == expected({"a": LEVELS["a"][:2], "b": LEVELS["b"]})
    (tmp_path / "a2.png").write_bytes(whole)
    assert call("score", path, "--reward", z, "-o", out) == 0
    assert overall(out, z) == expected(LEVELS)


def test_going_on_judges_a_group_again_only_when_its_company_changed(
    lines: list[dict[str, Any]], z: Path, tmp_path: Path
) -> None:
    path, out = note(tmp_path, lines), tmp_path / "out"
    words = ("score", path, "--reward", z, "-o", out, "batch_size=1")
    assert call(*words) == 0
    (shard,) = out.glob("shards/*/*.jsonl")
    first = shard.read_text()
    assert call(*words) == 0 and shard.read_text() == first
    shard.write_text("".join(line for line in first.splitlines(keepends=True) if '"b1"' not in line))
    assert call(*words) == 0  # b1's score was lost: b is judged again, with b1 in its company
    assert overall(out, z) == expected(LEVELS)
    note(tmp_path, [line for line in lines if line["id"] != "a0"])
    written = shard.read_text()
    assert call(*words) == 0
    assert overall(out, z) == expected({"b": LEVELS["b"]}) | {
        f"a{k + 1}": pytest.approx(value, abs=1e-4) for k, value in enumerate(zscores(LEVELS["a"][1:]))
    }
    assert [json.loads(line)["id"] for line in shard.read_text()[len(written) :].splitlines()] == ["a1", "a2"]


def test_a_group_is_named_by_the_manifest_or_is_one_prompt_and_source(
    lines: list[dict[str, Any]], z: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for line in lines:
        line["group"] = 7
    lines[0] = {**lines[0], "group": None, "metadata": {"group": [7, "mine"]}}
    lines[1] = {**lines[1], "group": [7, "mine"]}
    assert call("score", note(tmp_path, lines), "--reward", z, "-o", out) == 0
    found = overall(out, z)
    assert [found["a0"], found["b0"]] == pytest.approx([-1.0, 1.0], abs=1e-4)
    rest = zscores([LEVELS[p][k] for k in (1, 2) for p in "ab"])
    assert [found[f"{p}{k}"] for k in (1, 2) for p in "ab"] == pytest.approx(rest, abs=1e-4)
    edits = [{"id": line["id"], "image": line["image"], "prompt": "brighter"} for line in lines]
    for line in edits:
        line["source"] = f"{line['id'][0]}0.png"
    assert call("score", note(tmp_path, edits), "--reward", z, "-o", tmp_path / "edits") == 0
    assert overall(tmp_path / "edits", z) == expected(LEVELS)


RULES = {
    "gdpo": "combine: gdpo\nrewards: [brightness, saturation]",
    "log-tame": "combine: log_tame\nrewards: [brightness, saturation]",
    "mean-centred": "scale: log_sigmoid\nrewards: [brightness]",
    "ranks": "scale: rank\nrewards: [brightness]",
    "within": "combine: {name: confidence, center: group}\nrewards: [brightness, sharpness]",
    "zscores": "combine: zscore\nrewards: [brightness, sharpness]",
    "diverse": "combine: sum\nrewards: [brightness, {name: set-vendi, weight: 0.5}]",
}


def test_every_rule_that_compares_is_scored_and_one_alone_has_its_honest_outcome(
    lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    media.write(tmp_path / "c0.png", grey(0.5))
    path = note(tmp_path, [*lines, {"id": "c0", "image": "c0.png", "prompt": "nobody else's"}])
    names = {name: tmp_path / f"{name}.yaml" for name in RULES}
    for name, file in names.items():
        file.write_text(f"name: {name}\n{RULES[name]}")
    words = [word for file in names.values() for word in ("--reward", file)]
    out = tmp_path / "out"
    assert call("score", path, *words, "--reward", "set-vendi", "-o", out) == 3  # a set of one is none
    found = rows(out)
    assert all(row["reasons"] == {} for id, row in found.items() if id != "c0")
    assert found["a2"]["scores"][str(names["ranks"])]["overall"] == 1.0
    alone = {name: found["c0"]["scores"][str(file)]["overall"] for name, file in names.items()}
    assert alone["ranks"] == 0.5 and alone["zscores"] == 0.0
    assert alone["gdpo"] == pytest.approx(0.0, abs=1e-6)
    assert alone["mean-centred"] == pytest.approx(-math.log(2))
    assert alone["diverse"] is None
    assert "three or more samples" in found["c0"]["reasons"]["set-vendi"]


def picky(images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
    """Refuses every batch in which a picture is black, as a whole."""
    if bool((images.mean(dim=(1, 2, 3)) == 0).any()):
        raise ValueError("a black picture")
    return images.mean(dim=(1, 2, 3))


def test_a_member_that_the_reward_refuses_harms_no_other(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    media.write(tmp_path / "a1.png", grey(0.0))
    file, out = tmp_path / "picky.yaml", tmp_path / "out"
    file.write_text(f"name: picky\nscale: rank\nrewards: ['{__name__}:picky']")
    assert call("score", note(tmp_path, lines), "--reward", file, "-o", out) == 3
    found = overall(out, file)
    assert "a black picture" in rows(out)["a1"]["reasons"][str(file)]
    assert found == {"a0": 0.0, "a1": None, "a2": 1.0, "b0": 0.5, "b1": 1.0, "b2": 0.0}


def test_verbs_that_look_at_one_sample_say_where_groups_are_judged(
    z: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("evaluate", "generator", "--reward", z, "-o", tmp_path / "out") == 2
    assert "`mmalign score`, which judges groups" in capsys.readouterr().err


@pytest.fixture
def yojo(tmp_path: Path) -> Path:
    """A saved reward with a head over candidates, three at a time, and a YAML file that asks for them together."""
    model = tiny_family("candidates", head_options={"num_together": 3})
    model.save(tmp_path / "saved")
    file = tmp_path / "together.yaml"
    file.write_text(f"name: {tmp_path / 'saved'}\noptions: {{together: true}}")
    return file


def test_candidates_share_a_forward_pass_when_asked(
    lines: list[dict[str, Any]], yojo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(3):  # of one prompt, noise; the fourth is alone in a second pass
        media.write(tmp_path / f"a{k}.png", torch.rand(3, 32, 32))
        lines.append({"id": f"d{k}", "image": f"a{k}.png", "prompt": "red"})
    lines.append({"id": "d3", "image": "a0.png", "prompt": "red"})
    path, out, see, passes = note(tmp_path, lines), tmp_path / "out", VlmReward.see, []

    def counted(self: VlmReward, inputs: VlmInputs) -> Seen:
        passes.append(inputs)
        return see(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(VlmReward, "see", counted)
        assert call("score", path, "--reward", yojo, "-o", out, "batch_size=2") == 0
    assert len(passes) == 4  # one each for a and b, two for red
    assert call("score", path, "--reward", yojo, "--reward", tmp_path / "saved", "-o", out) == 0
    plain = rewardmodels.load(str(tmp_path / "saved"))
    assert isinstance(plain, VlmReward)
    samples = [Sample("red", media.read(tmp_path / f"a{k}.png")) for k in range(3)]
    found, alone = overall(out, yojo), overall(out, tmp_path / "saved")
    with torch.no_grad():
        together = plain.together(samples).tolist()
    assert [found[f"d{k}"] for k in range(3)] == pytest.approx(together, abs=1e-5)
    assert found["d0"] == pytest.approx(found["d3"], abs=1e-5) == pytest.approx(alone["d3"], abs=1e-5)
    assert abs(found["d1"] - alone["d1"]) > 1e-6  # off by default: a score of its own
    (tmp_path / "a0.png").write_bytes(b"no picture")
    assert call("score", path, "--reward", yojo, "-o", out) == 3
    with torch.no_grad():
        rest = plain.together(samples[1:]).tolist()
    found = overall(out, yojo)
    assert [found["d1"], found["d2"]] == pytest.approx(rest, abs=1e-5) and found["d0"] is None


def test_a_head_that_judges_one_by_one_is_not_asked_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    media.write(tmp_path / "p.png", grey(0.5))
    tiny_family("mlp").save(tmp_path / "saved")
    (tmp_path / "no.yaml").write_text(f"name: {tmp_path / 'saved'}\noptions: {{together: true}}")
    words = (
        "score",
        tmp_path / "p.png",
        "--prompt",
        "red",
        "--reward",
        tmp_path / "no.yaml",
        "-o",
        tmp_path / "o",
    )
    assert call(*words) == 2
    assert "judges one by one" in capsys.readouterr().err


def forgetful(images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
    """Has a mistake in its code: it knows no prompt but two."""
    return torch.tensor([{"a": 1.0, "c": 3.0}[prompt] for prompt in prompts])


def test_an_error_in_a_reward_costs_what_it_strikes_and_is_loud_where_that_is_all(
    lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    file, out, alone = tmp_path / "forgetful.yaml", tmp_path / "out", f"{__name__}:forgetful"
    file.write_text(f"name: forgetful\nscale: rank\nrewards: ['{alone}']")
    words = ("--reward", file, "--reward", alone, "-o")
    for _ in range(2):  # the second time only what failed is asked for
        assert call("score", note(tmp_path, lines), *words, out, "batch_size=1") == 3
        for label in (file, alone):
            found = overall(out, label)
            assert [found[id] is None for id in ("a0", "a1", "a2", "b0", "b1", "b2")] == [False] * 3 + [
                True
            ] * 3
            assert rows(out)["b1"]["reasons"][str(label)] == "the reward failed: KeyError: 'b'"
    lost = [line for line in lines if line["prompt"] == "b"]
    with pytest.raises(RuntimeError, match=r"judged none of 3 samples, and failed on 3, .*KeyError: 'b'"):
        main(["score", str(note(tmp_path, lost)), *map(str, words), str(tmp_path / "none")])
    assert not (tmp_path / "none" / "scores.jsonl").exists()


@pytest.mark.parametrize("num", [2, 20])
def test_a_reward_that_is_given_up_takes_no_score_of_the_others_along(
    lines: list[dict[str, Any]], tmp_path: Path, num: int
) -> None:
    (lost,) = [line for line in lines if line["prompt"] == "b"][:1]
    broken, whole, out = f"{__name__}:forgetful", "jpeg-compressibility", tmp_path / "out"
    file = note(tmp_path, [lost | {"id": f"n{k}"} for k in range(num)])
    words = ["score", str(file), "--reward", broken, "--reward", whole, "-o", str(out), "batch_size=4"]
    for _ in range(2):
        said = rf"failed on {min(num, 16)}, .*KeyError: 'b'.* other rewards are in .*scores\.jsonl"
        with pytest.raises(RuntimeError, match=said):
            main(words)
        assert all(value is not None for value in overall(out, whole).values())
        assert list(overall(out, broken).values()) == [None] * num
        reasons = [row["reasons"][broken] for row in rows(out).values()]
        assert all("the reward failed: KeyError: 'b'" in reason for reason in reasons)
        assert sum("given up after 16 failures" in reason for reason in reasons) == (8 if num == 20 else 0)
        summary = json.loads((out / "summary.json").read_text())
        assert (
            summary["num_unscored"] == num
            and "Highest and lowest by jpeg" in (out / "report.html").read_text()
        )
