"""Every odd file, prompt and line at once through `mmalign score`: each is scored or told why not, and harms none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmalign.__main__ import main
from tests.integration.odd_files import FILES, LINES, PROMPTS, SCORED, plain


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything in one JSONL, scored once and again."""
    folder = tmp_path_factory.mktemp("bad")
    lines: list[str] = []
    expected: list[str] = []
    for name, (make, words) in FILES.items():
        make(folder / name)
        lines.append(json.dumps({"image": name, "prompt": "a circle"}, ensure_ascii=False))
        expected.append(words)
    for name, (prompt, words) in PROMPTS.items():
        lines.append(
            json.dumps({"image": "fine.png", "prompt": prompt, "id": name}, ensure_ascii=name[:4] == "half")
        )
        expected.append(words)
    lines += [line for line, _ in LINES]
    expected += [words for _, words in LINES]
    given = folder / "all.jsonl"
    lines.append('{"image": "fine.png", "id": "a byte that is not text: ?"}')
    given.write_bytes("\n".join(lines).encode("utf-8").replace(b"text: ?", b"text: \xff"))
    expected.append(f"all.jsonl:{len(lines)} is not UTF-8")
    words = [
        "score",
        str(given),
        "--reward",
        "brightness",
        "--reward",
        "jpeg-compressibility",
        "-o",
        str(folder / "out"),
    ]
    codes = []
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(words)
        codes.append(ended.value.code)
    text = (folder / "out/scores.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line]
    return {"rows": rows, "expected": expected, "codes": codes, "folder": folder}


def test_each_is_scored_or_told_why_not(outcome: dict[str, Any]) -> None:
    rows, expected = outcome["rows"], outcome["expected"]
    assert len(rows) == len(expected)
    wrong = []
    for row, words in zip(rows, expected, strict=True):
        score, reason = row["scores"]["brightness"]["overall"], row["reasons"].get("brightness")
        good = (
            (score is not None and reason is None)
            if words == SCORED
            else (score is None and words in (reason or ""))
        )
        if not good:
            wrong.append(f"{row['id']!r:.60}: expected {words or 'a score'}, got {score} {reason!r:.200}")
    assert not wrong, "\n".join(wrong)


def test_what_was_lost_is_told_by_the_exit_code_and_nothing_is_judged_twice(outcome: dict[str, Any]) -> None:
    assert outcome["codes"] == [3, 3]


def test_odd_pictures_have_the_right_pixels(outcome: dict[str, Any]) -> None:
    """All that is grey is 0.4 bright, however it is stored; white is 1."""
    scores = {row["id"]: row["scores"]["brightness"]["overall"] for row in outcome["rows"]}
    grey = [name for name, (_, words) in FILES.items() if words == SCORED]
    for name in set(grey) - {"bits.png", "clear.png", "animated.gif"}:
        assert scores[name] == pytest.approx(0.4, abs=0.012), name
    assert scores["bits.png"] == scores["clear.png"] == pytest.approx(1.0)
    assert len({scores[name] for name, (_, words) in PROMPTS.items() if words == SCORED}) == 1


def test_a_reason_is_one_line_for_people(outcome: dict[str, Any]) -> None:
    reasons = [reason for row in outcome["rows"] for reason in row["reasons"].values()]
    assert reasons and all("\n" not in reason and len(reason) < 6000 for reason in reasons)
    assert not any("Traceback" in reason or "object at 0x" in reason for reason in reasons)


def test_nothing_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    """Every file that is named as a picture or video stands in the table, read or told why not."""
    made = [name for name in FILES if name not in ("missing.png", "folder.png", "notes.docx", "UPPER.PNG")]
    for name in made:
        FILES[name][0](tmp_path / name)
    with pytest.raises(SystemExit) as ended:
        main(["score", str(tmp_path), "--reward", "brightness", "-o", str(tmp_path / "out")])
    text = (tmp_path / "out/scores.jsonl").read_text(encoding="utf-8")
    rows = {row["id"]: row["reasons"].get("brightness", SCORED) for row in map(json.loads, text.splitlines())}
    assert ended.value.code == 3 and sorted(rows) == sorted(made)
    assert all(
        FILES[name][1] in reason and bool(FILES[name][1]) == bool(reason) for name, reason in rows.items()
    )


def test_prompts_beside_the_files(tmp_path: Path) -> None:
    """A folder: each picture with a text file of its name; one that is not text loses that picture only."""
    for name, words in (("a", "красный".encode()), ("b", "café".encode("latin-1")), ("c", b"")):
        plain()(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_bytes(words)
    with pytest.raises(SystemExit) as ended:
        main(
            ["score", str(tmp_path), "--reward", "brightness", "--prompt", "all", "-o", str(tmp_path / "out")]
        )
    assert ended.value.code == 3
    rows = [
        json.loads(line) for line in (tmp_path / "out/scores.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [row["prompt"] for row in rows] == ["красный", "", "all"]
    assert [row["scores"]["brightness"]["overall"] is None for row in rows] == [False, True, False]
    assert "UTF-8" in rows[1]["reasons"]["brightness"]
