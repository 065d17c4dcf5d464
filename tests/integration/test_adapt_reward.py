"""A new person's few pairs become scores of `mmalign score`: joined and kept, or read when the reward is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import rewardmodels
from mmalign.__main__ import main
from mmalign.data.formats import write_jsonl
from mmalign.media import write
from mmalign.shapes.tastes import taste_votes
from mmalign.types import Annotation, Candidate, Comparison, Sample
from pipelines import train_plural

Pair = tuple[Sample, Sample]
SHOWN = 12
NEW = taste_votes("train", num_annotators=2, num_votes=80, seed=5)
"""Two new people, one of each taste."""


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("crowd")
    small = ["fit.num_steps=120", "fit.starts=1", "data.num_annotators=16", "data.votes_each=40"]
    train_plural.run("plural/shapes", [*small, f"output={out}"], say=lambda line: None)
    return out / "reward"


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(word) for word in words])
    return int(done.value.code or 0)


def votes_of(person: int) -> tuple[list[Pair], list[float]]:
    rows = [k for k, name in enumerate(NEW.annotator) if name == f"annotator-{person}"]
    return [NEW.pairs[k] for k in rows], [NEW.label[k] for k in rows]


def file_of(folder: Path, person: int, *, name: str | None = None, dim: str = "overall") -> Path:
    """The first pairs of one of the two, with their pictures."""
    pairs, labels = votes_of(person)
    made = []
    for n, ((a, b), label) in enumerate(zip(pairs[:SHOWN], labels[:SHOWN], strict=True)):
        for sample in (a, b):
            write(folder / f"{sample.id}.png", sample.media)
        note = Annotation(dim, "pair", {"i": 0, "j": 1, "label": "i" if label else "j"})
        shown = (Candidate("a", f"{a.id}.png"), Candidate("b", f"{b.id}.png"))
        who = {} if name is None else {"type": "human", "name": name}
        made.append(Comparison(f"{person}-{n}", a.prompt, shown, (note,), annotator=who))
    write_jsonl(folder / f"person{person}.jsonl", made)
    return folder / f"person{person}.jsonl"


def accuracy(folder: Path, person: int, **options: object) -> float:
    """Of a reward on the pairs that were not shown."""
    pairs, labels = votes_of(person)
    flat = [sample for pair in pairs[SHOWN:] for sample in pair]
    first, second = rewardmodels.load(str(folder), **options)(samples=flat).overall.view(-1, 2).T
    return float(((first > second) == (torch.tensor(labels[SHOWN:]) == 1)).float().mean())


@pytest.mark.parametrize("person", [0, 1])
def test_a_joined_person_is_known_better_than_the_mean_one(crowd: Path, person: int, tmp_path: Path) -> None:
    pairs, joined = file_of(tmp_path, person), tmp_path / "joined"
    assert call("adapt-reward", crowd, pairs, "--annotator", "mia", "-o", joined) == 0
    assert accuracy(joined, person, annotator="mia") > accuracy(joined, person) + 0.1
    assert accuracy(crowd, person, annotator_pairs=pairs) == accuracy(joined, person, annotator="mia")
    assert accuracy(joined, 1 - person, annotator="mia") < 0.5  # the other taste wants the contrary


def test_whoever_joins_changes_nobody_elses_scores(crowd: Path, tmp_path: Path) -> None:
    samples, joined = [pair[0] for pair in NEW.pairs[:9]], tmp_path / "joined"
    known = json.loads((crowd / "reward_config.json").read_text())["annotators"]
    assert call("adapt-reward", crowd, file_of(tmp_path, 0), "-o", joined) == 0
    assert call("adapt-reward", joined, file_of(tmp_path, 1)) == 0
    assert call("adapt-reward", joined, file_of(tmp_path, 0)) == 0  # again: replaced, not twice
    assert json.loads((joined / "reward_config.json").read_text())["annotators"] == [
        *known,
        "person1",
        "person0",
    ]
    for who in (None, known[0], known[-1]):
        before, after = (
            rewardmodels.load(str(folder), annotator=who)(samples=samples) for folder in (crowd, joined)
        )
        assert torch.equal(before.overall, after.overall)


def test_score_takes_the_pairs_as_an_option(crowd: Path, tmp_path: Path) -> None:
    pairs, (first, *_) = file_of(tmp_path, 0), votes_of(0)[0]
    write(tmp_path / "pictures" / "one.png", first[0].media)
    (tmp_path / "score.yaml").write_text(
        f"input: {tmp_path / 'pictures'}\nprompt: a red circle\noutput: {tmp_path / 'scores'}\nrewards:\n"
        f"  - {{name: {crowd}, options: {{annotator_pairs: {pairs}}}}}\n"
    )
    assert call("score", "--config", tmp_path / "score.yaml") == 0
    (row,) = [json.loads(line) for line in (tmp_path / "scores" / "scores.jsonl").read_text().splitlines()]
    (scores,) = row["scores"].values()
    expected = rewardmodels.load(str(crowd), annotator_pairs=pairs)
    told = expected(samples=[replace(first[0], media=tmp_path / "pictures" / "one.png")]).overall
    assert scores["overall"] == pytest.approx(float(told), abs=1e-4)


def test_what_cannot_be_read_is_counted(
    crowd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pairs = file_of(tmp_path, 0)
    bad = votes_of(0)[0][0][0]
    (tmp_path / f"{bad.id}.png").write_text("no picture")
    with pairs.open("a") as lines:
        lines.write('{"id": \n')
    num = sum(bad in pair for pair in votes_of(0)[0][:SHOWN])
    assert call("adapt-reward", crowd, pairs, "-o", tmp_path / "joined") == 0
    said = capsys.readouterr().out
    assert f"left out {num + 1} of {SHOWN + 1} comparisons" in said and f"person0.jsonl:{SHOWN + 1}" in said
    assert f"person0: {SHOWN - num} pairs" in said
    rewardmodels.load(str(crowd), annotator_pairs=pairs)
    assert f"left out {num + 1} of {SHOWN + 1}" in caplog.text


def refusal(crowd: Path, pairs: Path, **options: object) -> str:
    with pytest.raises(ValueError) as problem:
        rewardmodels.load(str(crowd), annotator_pairs=pairs, **options)
    return str(problem.value)


def together(folder: Path, *files: Sequence[str]) -> Path:
    path = folder / "several.jsonl"
    path.write_text("".join(line + "\n" for lines in files for line in lines))
    return path


def test_mistakes_say_how_to_mend_them(crowd: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    assert "holds no preference pair on 'overall'" in refusal(crowd, tmp_path / "empty.jsonl")
    assert "no such file" in refusal(crowd, tmp_path / "nowhere.jsonl")
    assert "it has pairs on 'looks'" in refusal(crowd, file_of(tmp_path, 0, dim="looks"))
    lines = [file_of(tmp_path, k, name=f"p{k}").read_text().splitlines() for k in (0, 1)]
    both = together(tmp_path, *lines)
    assert "pairs of 2 people (p0, p1): say with annotator" in refusal(crowd, both)
    assert "no pair of annotator 'mia': it names p0, p1" in refusal(crowd, both, annotator="mia")
    assert accuracy(crowd, 1, annotator_pairs=both, annotator="p1") > 0.7
    trained = json.loads((crowd / "reward_config.json").read_text())["annotators"][0]
    assert f"'{trained}' was trained with" in refusal(crowd, file_of(tmp_path, 0), annotator=trained)
    assert "no vote has features" in refusal(crowd, file_of_broken(tmp_path))


def file_of_broken(folder: Path) -> Path:
    """Pairs whose pictures all cannot be read."""
    file = file_of(folder, 0)
    for picture in folder.glob("*.png"):
        picture.write_text("no picture")
    return file
