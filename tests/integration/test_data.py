"""`mmalign data` as people call it: import, export, check, synthesize end to end, and large files in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rewardmodels
from mmalign import media, shapes
from mmalign.__main__ import main
from mmalign.data.formats import read
from mmalign.data.importing import FORMATS
from pipelines import synthesize
from rewardmodels.rules import shapes_verifier
from tests.unit.data.layouts import png, write_json, write_parquet

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ("a red circle", "two blue squares", "a green cross")


def call(*words: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def test_help_names_every_format(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert call("data", "import", "--help") == 0
    shown = capsys.readouterr().out
    assert [name for name in FORMATS if name not in shown] == []


def test_import_export_and_check_give_the_same_comparisons(tmp_path: Path) -> None:
    rows = [{"caption": f"prompt {k}", "jpg_0": png(2 * k), "jpg_1": png(2 * k + 1), "label_0": 1.0, "label_1": 0.0,
             "image_0_uid": f"{k}a", "image_1_uid": f"{k}b", "has_label": True} for k in range(3)]  # fmt: skip
    write_parquet(tmp_path / "train.parquet", rows)
    pairs, report = tmp_path / "pairs.jsonl", tmp_path / "report.json"
    assert (
        call("data", "import", "pickapic-v2", tmp_path / "train.parquet", "-o", pairs, "--report", report)
        == 0
    )
    assert json.loads(report.read_text())["num_comparisons"] == 3
    found = list(read(pairs))
    for name in ("pairs2.parquet", "again.jsonl"):
        assert call("data", "export", pairs, "-o", tmp_path / name) == 0
        assert list(read(tmp_path / name)) == found
    assert call("data", "export", pairs, "-o", tmp_path / "embedded.parquet", "--embed") == 0
    (tmp_path / "train.parquet").rename(tmp_path / "away.parquet")
    assert call("data", "check", pairs) == 3
    assert call("data", "check", tmp_path / "embedded.parquet", "-o", tmp_path / "check.json") == 0
    assert json.loads((tmp_path / "check.json").read_text())["num_media"] == 6
    out = tmp_path / "files" / "pairs.jsonl"
    assert call("data", "import", tmp_path / "away.parquet", "-o", out, "--extract", "--split", "test") == 0
    uris = [candidate.uri for one in read(out) for candidate in one.candidates]
    assert all(isinstance(uri, str) and (out.parent / uri).is_file() for uri in uris)
    assert call("data", "export", pairs, "-o", tmp_path / "x.csv") == 2


def test_bad_rows_are_told_and_nothing_at_all_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good: dict[str, Any] = {"prompt": "p", "file_path": ["a", "b"], "human_preference": [1, 0], "more": 1}
    path = write_json(tmp_path / "t.json", [good, good | {"human_preference": [1, 1]}])
    assert call("data", "import", "hpdv2", path, "-o", tmp_path / "o.jsonl") == 3
    shown = capsys.readouterr().out
    assert "bad row: t.json:" in shown and "human_preference is [1, 1]" in shown and "left: more" in shown
    assert len(list(read(tmp_path / "o.jsonl"))) == 1
    write_json(path, [good | {"prompt": None}])
    assert call("data", "import", "hpdv2", path, "-o", tmp_path / "none.jsonl") == 2
    assert "gave no comparison as hpdv2" in capsys.readouterr().err
    assert not (tmp_path / "none.jsonl").exists()
    assert call("data", "import", "hpdv22", path) == 2
    assert "did you mean 'hpdv2" in capsys.readouterr().err


def test_import_says_what_no_reward_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "Q? [Response 1]: yes [Response 2]: no"
    message = [
        {"role": "user", "content": [{"type": "image", "image": "1.png"}, {"type": "text", "text": words}]}
    ]
    path = write_json(
        tmp_path / "t.json", [{"message": message, "question": "Q?", "answer": "<answer>1</answer>"}]
    )
    assert call("data", "import", "r1-reward", path, "-o", tmp_path / "o.jsonl") == 0
    assert "note: 1 of them are checked, but no reward is given them" in capsys.readouterr().out
    row = {"prompt": "p", "file_path": ["a", "b"], "human_preference": [1, 0]}
    assert call("data", "import", "hpdv2", write_json(path, [row]), "-o", tmp_path / "o.jsonl") == 0
    assert "no reward" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_bad_line_costs_export_and_votes_itself_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(number: int, *uris: str) -> str:
        note = {"dim": "overall", "kind": "pair", "i": 0, "j": 1, "label": "i", "annotator": "ann"}
        shown = [{"uri": uri} for uri in uris]
        row = {
            "schema": "mmalign.pref/1",
            "id": f"{number}",
            "prompt": f"prompt {number}",
            "candidates": shown,
        }
        return json.dumps(row | {"annotations": [note]})

    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(len(name)))
    twins, gone = line(2, "a.png", "a.png"), line(3, "a.png", "gone.png")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join([line(1, "a.png", "b.png"), "rubbish{", twins, gone]), encoding="utf-8")
    for arguments, ids in (
        (("export", pairs, "-o", tmp_path / "out.jsonl"), ["1", "2", "3"]),
        (("export", pairs, "-o", tmp_path / "out.parquet", "--embed"), ["1", "2"]),
        (("votes", pairs, "-o", tmp_path / "out.jsonl"), ["1", "3"]),
    ):
        assert call("data", *arguments) == 3
        assert [one.id for one in read(arguments[3])] == ids
        told = capsys.readouterr().out
        assert "left out: pairs.jsonl:2: not valid JSON" in told
        assert ("comparison 3: " in told) == ("--embed" in arguments)
        assert ("comparison 2: two of its candidates" in told) == (arguments[0] == "votes")
    pairs.write_text("rubbish{\n", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    for name in ("none.parquet", "none.jsonl", "none"):
        assert call("data", "export", pairs, "-o", tmp_path / name) == 2
        assert "holds no comparison: pairs.jsonl:1" in capsys.readouterr().err
        assert sorted(tmp_path.iterdir()) == before


def test_media_that_cannot_be_taken_out_cost_their_row_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"caption": f"prompt {k}", "jpg_0": png(2 * k), "jpg_1": png(9) if k else b"", "label_0": 1.0,
             "label_1": 0.0, "image_0_uid": f"{k}a", "image_1_uid": f"{k}b", "has_label": True}
            for k in range(3)]  # fmt: skip
    write_parquet(tmp_path / "train.parquet", rows)
    out, report = tmp_path / "out" / "pairs.jsonl", tmp_path / "report.json"
    done = call("data", "import", tmp_path / "train.parquet", "-o", out, "--extract", "--report", report)
    assert done == 3 and len(list(read(out))) == 2
    found = json.loads(report.read_text())
    assert (found["num_comparisons"], found["num_bad"]) == (2, 1), found
    assert "bad row" in capsys.readouterr().out


def test_a_generators_samples_become_pairs_that_the_exact_judge_confirms(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS) + "\n")
    pictures, out = tmp_path / "pictures", tmp_path / "synthetic.jsonl"
    words = ("generate", "--prompts", prompts, "--seeds", 4, "-o", pictures, "sampling.num_steps=4")
    assert call(*words) == 0
    (pictures / "media" / "00000-00.png").write_bytes(b"damaged")
    asked = (
        "data",
        "synthesize",
        pictures,
        "--reward",
        "shapes-reward",
        "--helper",
        "shapes-verifier",
        "-o",
        out,
    )
    assert call(*asked, "filters.margin=0.1") == 0
    report = json.loads((tmp_path / "synthetic.report.json").read_text())
    assert report["num_samples"] == 12 and sum(report["unscored"].values()) == 1
    assert report["kept"] + sum(report["dropped"].values()) == report["num_pairs"] == 3 + 6 + 6
    found = list(read(out))
    assert report["kept"] == sum(len(one.annotations) for one in found) > 0
    for one in found:
        for note in one.annotations:
            i, j = note.data["i"], note.data["j"]
            better, worse = (i, j) if note.data["label"] == "i" else (j, i)
            first, second = one.candidates[better].meta, one.candidates[worse].meta
            assert first["score"] - second["score"] >= 0.1
            assert first["helpers"]["shapes-verifier"] > second["helpers"]["shapes-verifier"]
            assert one.candidates[i].seed is not None and one.candidates[i].model == "shapes-flow"
    assert call("data", "check", out) == 0
    assert call(*asked, "--pairwise", "shapes-verifier") == 2  # it judges one by one
    assert call(*asked, "filters.helpers_needed=2") == 2


class Contrary:
    """A judge of pairs that knows the exact scores, and cannot see one picture."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def compare(self, pairs: Any) -> list[Any]:
        self.calls.append(len(pairs))
        return [self._decide(both) for both in pairs]

    def _decide(self, both: Any) -> Any:
        if any(sample.id == "blind" for sample in both):
            return SimpleNamespace(probability=float("nan"), reason="no answer")
        first, second = (float(shapes_verifier()(samples=[sample]).overall[0]) for sample in both)
        return SimpleNamespace(probability=0.9 if first > second else 0.1, reason=None)


def test_a_judge_of_pairs_is_asked_for_what_scores_let_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    for k, (name, drawn) in enumerate((("good", PROMPTS[0]), ("bad", PROMPTS[1]), ("blind", PROMPTS[2]))):
        media.write(tmp_path / f"{name}.png", shapes.render([drawn], seed=k)[0].clamp(0, 1))
        lines.append(json.dumps({"id": name, "image": f"{name}.png", "prompt": PROMPTS[0]}))
    (tmp_path / "list.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(
        rewardmodels, "load", lambda name, **_: Contrary() if name == "c" else shapes_verifier()
    )
    out = tmp_path / "pairs.parquet"
    words = (
        "data",
        "synthesize",
        tmp_path / "list.jsonl",
        "--reward",
        "shapes-verifier",
        "--pairwise",
        "c",
        "-o",
        out,
    )
    assert call(*words, "filters.temperature=0.5") == 0
    report = json.loads((tmp_path / "pairs.report.json").read_text())
    (one,) = read(out)
    (note,) = one.annotations
    better = one.candidates[note.data["i"] if note.data["label"] == "i" else note.data["j"]]
    assert better.id == "good" and 0.5 < max(note.data["p"], 1 - note.data["p"]) < 1
    assert report["agreement"] == {"c": 1.0} and report["kept"] == 1
    assert any(reason.startswith("c cannot say: no answer") for reason in report["dropped"])


def test_a_judge_of_pairs_is_asked_in_batches_and_keeps_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    for k, drawn in enumerate(PROMPTS * 3):
        media.write(tmp_path / f"{k}.png", shapes.render([drawn], seed=k)[0].clamp(0, 1))
        name = "blind" if k == 4 else str(k)
        lines.append(json.dumps({"id": name, "image": f"{k}.png", "prompt": PROMPTS[k % 2]}))
    (tmp_path / "list.jsonl").write_text("\n".join(lines) + "\n")
    decode = synthesize._decoded

    def damaged(name: str, *rest: Any) -> Any:  # since it was scored
        if name == "5":
            raise ValueError("5.png is gone")
        return decode(name, *rest)

    monkeypatch.setattr(synthesize, "_decoded", damaged)
    judge, found = Contrary(), {}
    monkeypatch.setattr(rewardmodels, "load", lambda name, **_: judge if name == "c" else shapes_verifier())
    for size in (1, 4):
        judge.calls.clear()
        out = tmp_path / f"{size}.jsonl"
        words = ("--reward", "shapes-verifier", "--pairwise", "c", "-o", out, f"batch_size={size}")
        assert call("data", "synthesize", tmp_path / "list.jsonl", *words) == 0
        report = json.loads((tmp_path / f"{size}.report.json").read_text())
        found[size] = (list(judge.calls), out.read_text(), report["dropped"], report["agreement"])
    (alone, *one_by_one), (together, *in_batches) = found[1], found[4]
    assert one_by_one == in_batches and found[1][1]
    assert any("5.png is gone" in reason for reason in found[4][2])
    assert set(alone) == {1} and sum(alone) == sum(together) and max(together) <= 4
    assert len(together) <= len(alone) / 2


MEMORY = """
import sys
from pathlib import Path
from mmalign.data import formats
from mmalign.data.importing import reading

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

folder, num = Path(sys.argv[1]), int(sys.argv[2])
row = '{"prompt": "a picture of number %d", "path1": "%d-a.jpg", "path2": "%d-b.jpg", "choice_dist": [9, %d], '
row += '"confidence": 0.9}'
with open(folder / "list.json", "w") as out:
    out.write("[" + row % (0, 0, 0, 0))
    out.writelines(",\\n" + row % (k, k, k, k % 9) for k in range(1, num))
    out.write("]")
before = peak()
found = reading.read(folder / "list.json", format="hpdv3", root=folder, split="train", outcome=reading.Outcome())
assert formats.write(folder / "pairs.jsonl", found) == num
assert sum(1 for _ in formats.read(folder / "pairs.jsonl")) == num
print((folder / "pairs.jsonl").stat().st_size / 2**20, peak() - before)
"""


@pytest.mark.slow
def test_a_large_file_is_imported_and_read_in_little_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path), "50000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    size, growth = map(float, done.stdout.split())
    assert size > 25 and growth < 20, f"{growth:.0f} MB for a file of {size:.0f} MB"


def test_a_check_keeps_its_memory_on_disk(tmp_path: Path) -> None:
    from mmalign.data.check import check

    note = '"annotations": [{"dim": "overall", "kind": "pair", "i": 0, "j": 1, "label": "i"}]'

    def write(num: int) -> Path:
        path = tmp_path / f"{num}.jsonl"
        with path.open("w") as out:
            for k in range(num):
                uris = f'[{{"uri": "{k}-a.png"}}, {{"uri": "{k}-b.png"}}]'
                out.write(f'{{"id": "{k}", "prompt": "picture {k}", "candidates": {uris}, {note}}}\n')
        return path

    def resident() -> float:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    check(write(200), with_media=False)
    before = resident()
    report = check(write(20_000), with_media=False)
    assert report.num_comparisons == 20_000 and report.faults == 0
    assert resident() - before < 40
