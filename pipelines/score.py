"""The verb `score`: files times rewards, resumable, one broken file harming no other.

Output folder: `scores.jsonl` (one row an item: per reward its dimensions and overall, null with a reason where it could
not be judged; for each reward that says how sure it is `log_variance` has the log of the variance of each dimension and
of overall, on the scale of the scores; for each judge in words `details` has its `notes`, such as a critique or a
refined prompt, its `answers`, and `numbers` about the judgement), `summary.json`, `report.html`, and `shards/` that a
re-run continues: what has a score, for the same file and prompt, is not judged again; what failed is tried again.
Rewards that compare samples are given whole groups, and a group of which any member lacks a score is judged again
(`pipelines.score_plan`).

Shape legend: `B` items of a batch, `T` frames, `C H W` pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from mmalign import media
from mmalign.composition import labels, with_files
from mmalign.types import Sample, Scores
from pipelines import judges, manifest, score_report
from pipelines.judges import Judge
from pipelines.manifest import Item
from pipelines.score_plan import Plan, Unit, windows
from pipelines.settings import Score
from pipelines.shards import Shards
from rewardmodels.defects import GivenUp

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    num_items: int
    unscored: int
    already_done: int
    folder: Path


@dataclass(frozen=True)
class _Decoded:
    item: Item
    frames: Tensor | None
    source: Tensor | None
    problem: str | None


def run(settings: Score) -> Outcome:
    """Scores everything that has no score yet; see the module for what is written.

    A reward's own error costs the file, or group, that it struck; `GivenUp` where it strikes all of them, once the
    scores of the other rewards are written.
    """
    items = manifest.read(settings.input, prompt=settings.prompt)
    folder = Path(settings.output)
    loaded = judges.load(settings.rewards, company="groups")
    plan = Plan.of(items, loaded)
    remember(settings, folder / "rewards.json")
    with Shards(folder / "shards") as shards:
        todo = plan.units(loaded, shards)
        already_done = len(items) - sum(len(unit.items) for unit in todo)
        for judge in loaded:
            judge.tally.proven = shards.has_any_score(judge.label)
        if todo:
            _score(plan, todo, settings, shards)
        lost = _given_up(loaded)
        rows = [_row(item, loaded, shards, plan) for item in items]
    unscored = sum(any(found["overall"] is None for found in row["scores"].values()) for row in rows)
    _write_rows(folder / "scores.jsonl", rows)
    summary = score_report.summarize(rows, settings)
    (folder / "summary.json").write_text(
        json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    score_report.write(folder / "report.html", rows, items, summary, settings)
    score_report.tell(summary, folder, already_done)
    if lost:
        told = "; ".join(str(end) for end in lost)
        raise GivenUp(f"{told}; the scores of the other rewards are in {folder / 'scores.jsonl'}") from (
            lost[0].__cause__
        )
    return Outcome(len(items), unscored, already_done, folder)


def _given_up(loaded: Sequence[Judge]) -> list[GivenUp]:
    """The ends of rewards whose own errors leave nothing judged; raised where those are all rewards."""
    ends = []
    for judge in loaded:
        try:
            judge.conclude()
        except GivenUp as end:
            ends.append(end)
    if len(ends) == len(loaded):
        raise ends[0]
    return ends


def remember(settings: Score, path: Path) -> None:
    """Note how each reward is made; ValueError where scores under one name come from another reward."""
    wanted = zip(labels(settings.rewards), settings.rewards, strict=True)
    made = {label: with_files(reward).model_dump(mode="json", exclude={"weight"}) for label, reward in wanted}
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for label, reward in made.items():
        if known.get(label, reward) != reward:
            raise ValueError(
                f"{path.parent} holds scores of another '{label}' (other options or parts): name a new --output"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known | made, indent=2) + "\n", encoding="utf-8")


def _score(plan: Plan, todo: Sequence[Unit], settings: Score, shards: Shards) -> None:
    """Window by window: decode ahead, ask every reward for what it lacks, write; as long as one is not given up."""
    asked = {j.label: j for unit in todo for judges in (*unit.alone.values(), unit.whole) for j in judges}
    with tqdm(total=sum(len(unit.items) for unit in todo), desc="scoring", unit="file") as progress:
        for units, decoded in _decode_ahead(windows(todo, settings.batch_size), settings):
            wanted = {id: lacking for unit in units for id, lacking in unit.alone.items()}
            for one in decoded.values():
                if one.problem is not None:
                    for judge in wanted[one.item.id]:
                        shards.add(judge.label, _failed(one.item, judge, one.problem, plan))
            for alike in _alike(
                [one for one in decoded.values() if one.problem is None], settings.batch_size
            ):
                for judge in {j.label: j for one in alike for j in wanted[one.item.id]}.values():
                    _ask(judge, [one for one in alike if judge in wanted[one.item.id]], plan, shards)
            for unit in units:
                _compare(unit, [decoded[item.id] for item in unit.items], plan, shards)
            shards.flush()
            progress.update(len(decoded))
            if all(judge.given_up for judge in asked.values()):
                return


def _compare(unit: Unit, members: Sequence[_Decoded], plan: Plan, shards: Shards) -> None:
    """A group as a whole; a member that could not be read is told why, and the others are judged without it."""
    for judge in unit.whole:
        for one in members:
            if one.problem is not None:
                shards.add(judge.label, _failed(one.item, judge, one.problem, plan))
        readable = [one for one in members if one.problem is None]
        if readable:
            _ask(judge, readable, plan, shards)


def _ask(judge: Judge, asked: Sequence[_Decoded], plan: Plan, shards: Shards) -> None:
    if judge.given_up:
        return
    try:
        scores = judge([_sample(one, judge) for one in asked])
    except GivenUp:  # told at the end of the run
        return
    for row, one in enumerate(asked):
        shards.add(judge.label, _judged(one.item, scores, row, plan.mark(judge, one.item)))


def _decode_ahead(
    planned: Iterable[list[Unit]], settings: Score
) -> Iterator[tuple[list[Unit], dict[str, _Decoded]]]:
    """The next window is decoded by workers while the present one is judged; memory holds two windows."""
    if settings.workers == 0:
        for units in planned:
            yield units, {item.id: _decode(item, settings) for unit in units for item in unit.items}
        return
    with ThreadPoolExecutor(settings.workers) as pool:
        ahead: list[tuple[list[Unit], dict[str, Future[_Decoded]]]] = []
        for units in planned:
            items = [item for unit in units for item in unit.items]
            ahead.append((units, {item.id: pool.submit(_decode, item, settings) for item in items}))
            if len(ahead) == 2:
                yield _waited(*ahead.pop(0))
        for one in ahead:
            yield _waited(*one)


def _waited(
    units: list[Unit], futures: Mapping[str, Future[_Decoded]]
) -> tuple[list[Unit], dict[str, _Decoded]]:
    return units, {id: future.result() for id, future in futures.items()}


def _decode(item: Item, settings: Score) -> _Decoded:
    if item.problem is not None or item.file is None:
        return _Decoded(item, None, None, item.problem or "no file")
    try:
        frames = media.read(item.file, fps=settings.fps, max_frames=settings.max_frames)
        source = None
        if item.source is not None:
            source = media.read(item.source, fps=settings.fps, max_frames=settings.max_frames)
    except (ValueError, OSError) as problem:
        return _Decoded(item, None, None, " ".join(str(problem).split()))
    return _Decoded(item, frames, source, None)


def _alike(decoded: Sequence[_Decoded], most: int) -> list[list[_Decoded]]:
    """At most so many of one shape, so that a reward may stack what it is given."""
    groups: dict[tuple[Any, ...], list[_Decoded]] = {}
    for one in decoded:
        assert one.frames is not None
        shape = (tuple(one.frames.shape), None if one.source is None else tuple(one.source.shape))
        groups.setdefault(shape, []).append(one)
    return [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]


def _sample(decoded: _Decoded, judge: Judge) -> Sample:
    item = decoded.item
    assert item.file is not None
    assert decoded.frames is not None
    metadata = {**item.metadata, "group": item.group} if judge.needs_group else item.metadata
    shown = item.file if judge.takes(item.file) else decoded.frames
    source = item.source if item.source is not None and judge.takes(item.source) else decoded.source
    return Sample(item.prompt, shown, source, item.id, metadata)


def _judged(item: Item, scores: Scores, row: int, mark: str) -> Row:
    valid, overall = bool(scores.valid[row]), float(scores.overall[row])
    made: Row = {
        "id": item.id,
        "fingerprint": mark,
        "scores": _by_name(scores, scores.values[row]) | {"overall": _plain(overall)},
        "reason": None if valid else scores.reasons[row],
    }
    if valid and scores.overall_log_variance is not None:
        logs = {} if scores.log_variance is None else _by_name(scores, scores.log_variance[row])
        made["log_variance"] = logs | {"overall": _plain(float(scores.overall_log_variance[row]))}
    if scores.details is not None and scores.details[row]:
        made["details"] = scores.details[row]
    return made


def _by_name(scores: Scores, values: Tensor) -> dict[str, float | None]:
    return {name: _plain(value) for name, value in zip(scores.names, values.tolist(), strict=True)}


def _failed(item: Item, judge: Judge, reason: str, plan: Plan) -> Row:
    nothing = dict.fromkeys((*judge.model.dimensions, "overall"))
    return {"id": item.id, "fingerprint": plan.mark(judge, item), "scores": nothing, "reason": reason}


def _row(item: Item, loaded: Sequence[Judge], shards: Shards, plan: Plan) -> Row:
    """One line of `scores.jsonl`."""
    found = {
        judge.label: shards.get(judge.label, item.id) or _failed(item, judge, judge.tally.reason, plan)
        for judge in loaded
    }
    row: Row = {
        "id": item.id,
        "file": None if item.file is None else item.file.as_posix(),
        "prompt": item.prompt,
    }
    row["scores"] = {label: record["scores"] for label, record in found.items()}
    for more in ("log_variance", "details"):
        row[more] = {label: record[more] for label, record in found.items() if more in record}
    row["reasons"] = {label: record["reason"] for label, record in found.items() if record["reason"]}
    return row


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    partial = path.with_suffix(".part")
    with partial.open("w", encoding="utf-8", errors="replace") as file:  # an answer may hold half a character
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    partial.replace(path)
