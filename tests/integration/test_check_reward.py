"""The verb `check-reward`: on a world, on files with pairs and gold, with a generator; what it writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign import media
from mmalign.__main__ import main
from mmalign.shapes import Law
from mmalign.shapes.pairs import write_pairs
from pipelines import manifest
from pipelines.check_reward import _files
from tests.unit.trust.made import photos

SMALL = ["num_candidates=4", "batch_size=64"]


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["check-reward", *(str(word) for word in words)])
    return int(stop.value.code or 0)


def trust(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "trust.json").read_text(encoding="utf-8")))


@pytest.mark.slow
def test_file_size_is_no_reward_of_pictures(tmp_path: Path) -> None:
    assert call("jpeg-compressibility", "--world", "shapes", "--num-prompts", 10, "-o", tmp_path, *SMALL) == 3
    found = trust(tmp_path)
    assert found["probes"]["wrong prompt"]["sensitivity"]["mean"] == 0.5
    assert found["probes"]["JPEG 30"]["sensitivity"]["mean"] < 0.1
    assert found["factors"]["JPEG size"]["overall"]["mean"] == pytest.approx(-1.0)
    assert found["verdict"]["grade"] == "bad" and found["about"]["gold"] == "exact judge of pictures"
    rows = (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 40 and set(json.loads(rows[0])) == {
        "id",
        "prompt",
        "group",
        "score",
        "gold",
        "factors",
    }
    assert "Do not optimise" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_files_with_pairs_gold_and_a_broken_one(tmp_path: Path) -> None:
    samples, _ = photos(9, 2, size=32)
    rows = []
    for sample in samples:
        media.write(tmp_path / f"{sample.id}.png", sample.frames())
        rows.append({"id": sample.id, "image": f"{sample.id}.png", "prompt": sample.prompt})
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    rows += [{"id": "cut", "image": "cut.png", "prompt": "x"}, {"id": "lost", "prompt": "no file"}]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    pairs = write_pairs(tmp_path / "pairs", "heldout", num_prompts=6, law=Law(temperature=0.1))
    out = tmp_path / "out"
    code = call(
        "jpeg-compressibility", "--samples", tmp_path / "all.jsonl", "--pairs", pairs, "--gold",
        "jpeg-incompressibility", "-o", out,
    )  # fmt: skip
    found = trust(out)
    assert code == 3 and found["gold_agreement"]["mean"] == pytest.approx(-1.0)
    assert found["health"]["num_invalid"] == 1 and found["calibration"]["n"] == 36
    assert [line.split(":")[0] for line in found["about"]["left_out"]] == ["lost"]
    assert "4 or more samples" in found["not_measured"]["over-optimisation"]


def test_groups_and_notes_count_in_the_row_and_in_its_metadata(tmp_path: Path) -> None:
    """As `score` reads them: one reader for all verbs."""
    media.write(tmp_path / "one.png", torch.rand(3, 16, 16))
    rows = [{"id": str(k), "image": "one.png", "prompt": "x"} for k in range(4)]
    notes = [{"group": "g"}, {"metadata": {"group": "g", "faithful": False}}, {"metadata": "no object"},
             {"group": "h", "metadata": {"group": "g"}}]  # fmt: skip
    lines = [json.dumps(row | note) for row, note in zip(rows, notes, strict=True)]
    (tmp_path / "all.jsonl").write_text("\n".join(lines), encoding="utf-8")
    material = _files(str(tmp_path / "all.jsonl"), 10, None)
    assert dict(zip([sample.id for sample in material.samples], material.groups, strict=True)) == {
        "0": "g", "1": "g", "2": "x", "3": "h"
    }  # fmt: skip
    faithful = {sample.id: sample.metadata.get("faithful") for sample in material.samples}
    assert faithful == {"0": None, "1": False, "2": None, "3": None}
    items = manifest.read(tmp_path / "all.jsonl")
    assert items[0].group == items[1].group != items[3].group and items[2].metadata["metadata"] == "no object"


@pytest.mark.slow
def test_a_generator_draws_the_pool(tmp_path: Path) -> None:
    words = [
        "--generator",
        "shapes-flow",
        "--num-prompts",
        4,
        "sampling.num_steps=2",
        "sampling.seeds_per_prompt=4",
    ]
    call("shapes-verifier", *words, "-o", tmp_path, "batch_size=64")
    found = trust(tmp_path)
    curve = found["over_optimisation"]["reward"]
    assert [point["n"] for point in curve["points"]] == [1, 2, 4] and curve["num_samples"] == 16
    assert (tmp_path / "samples" / "manifest.jsonl").is_file()
    assert found["about"]["num_samples"] == 16 and found["about"]["num_prompts"] == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["jpeg-compressibility", "-o", "out"], "nothing to look at"),
        (["jpeg-compressibility", "--world", "shape", "-o", "out"], "world"),
        (["jpeg-compressibility", "--world", "shapes", "--samples", "x", "-o", "out"], "give one of them"),
        (["jpeg-compressibility", "--samples", "nowhere", "-o", "out"], "no such file or folder"),
        (["jpeg-compressibilty", "--world", "shapes", "-o", "out"], "did you mean"),
        (["--world", "shapes", "-o", "out"], "'reward'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    error = capsys.readouterr().err.strip()
    assert sentence in error and error.startswith("mmalign: ") and "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_an_edit_world_with_a_reward_that_cannot_judge_edits_says_so(tmp_path: Path) -> None:
    assert call("shapes-verifier", "--world", "shapes-edits", "--num-prompts", 2, "-o", tmp_path, *SMALL) == 3
    found = trust(tmp_path)
    assert found["health"]["num_invalid"] == 8
    assert any(one["word"] == "judges none of these samples" for one in found["findings"])
