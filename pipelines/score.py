"""The verb `score`: files times rewards, resumable, one broken file harming no other.

Output folder: `scores.jsonl` (one row an item: per reward its dimensions and overall, null with a reason where it could
not be judged; for each reward that says how sure it is `log_variance` has the log of the variance of each dimension, on
the scale of the scores), `summary.json`, `report.html`, and `shards/` that a re-run continues: what has a score, for
the same file and prompt, is not judged again; what failed is tried again.

Shape legend: `B` items of a batch, `T` frames, `C H W` pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
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
from pipelines.settings import Score
from pipelines.shards import Shards

VIDEO_WEIGHT = 4
"""A video counts as so many pictures when a window of decoded files is filled."""
MANY_PIXELS = 2**21
"""So many pixels more (25 MB as float32) and a picture counts as one more."""

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
    """Scores everything that has no score yet; see the module for what is written."""
    items = manifest.read(settings.input, prompt=settings.prompt)
    folder = Path(settings.output)
    loaded = judges.load(settings.rewards)
    remember(settings, folder / "rewards.json")
    with Shards(folder / "shards") as shards:
        todo = _missing(items, loaded, shards)
        already_done = len(items) - len({item.id for item, _ in todo})
        if todo:
            _score(todo, settings, shards)
        rows = [_row(item, loaded, shards) for item in items]
    unscored = sum(any(found["overall"] is None for found in row["scores"].values()) for row in rows)
    _write_rows(folder / "scores.jsonl", rows)
    summary = score_report.summarize(rows, settings)
    (folder / "summary.json").write_text(
        json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    score_report.write(folder / "report.html", rows, items, summary, settings)
    score_report.tell(summary, folder, already_done)
    return Outcome(len(items), unscored, already_done, folder)


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


def _missing(
    items: Sequence[Item], loaded: Sequence[Judge], shards: Shards
) -> list[tuple[Item, list[Judge]]]:
    """Every item with the rewards that have not judged it yet."""
    todo = []
    for item in items:
        lacking = [judge for judge in loaded if not shards.has_score(judge.label, item.id, item.fingerprint)]
        if lacking:
            todo.append((item, lacking))
    return todo


def _score(todo: Sequence[tuple[Item, list[Judge]]], settings: Score, shards: Shards) -> None:
    """Window by window: decode ahead, group by size, ask every reward for what it lacks, write."""
    wanted = {item.id: lacking for item, lacking in todo}
    windows = _windows([item for item, _ in todo], settings.batch_size)
    with tqdm(total=len(todo), desc="scoring", unit="file") as progress:
        for decoded in _decode_ahead(windows, settings):
            for item in decoded:
                if item.problem is not None:
                    for judge in wanted[item.item.id]:
                        shards.add(judge.label, _failed(item.item, judge, item.problem))
            for group in _alike([item for item in decoded if item.problem is None]):
                for judge in {j.label: j for d in group for j in wanted[d.item.id]}.values():
                    asked = [d for d in group if judge in wanted[d.item.id]]
                    scores = judge([_sample(d) for d in asked])
                    for row, d in enumerate(asked):
                        shards.add(judge.label, _judged(d.item, scores, row))
            shards.flush()
            progress.update(len(decoded))


def _windows(items: Sequence[Item], batch_size: int) -> Iterator[list[Item]]:
    """Items in order, as many at a time as may be decoded together; a large picture counts as several."""
    window: list[Item] = []
    weight = 0
    for item in items:
        cost = _cost(item)
        if window and weight + cost > batch_size:
            yield window
            window, weight = [], 0
        window.append(item)
        weight += cost
    if window:
        yield window


def _cost(item: Item) -> int:
    if item.file is None or item.problem is not None:
        return 1
    if media.is_video(item.file):
        return VIDEO_WEIGHT
    return 1 + media.num_pixels(item.file) // MANY_PIXELS


def _decode_ahead(windows: Iterable[list[Item]], settings: Score) -> Iterator[list[_Decoded]]:
    """The next window is decoded by workers while the present one is judged; memory holds two windows."""
    if settings.workers == 0:
        yield from ([_decode(item, settings) for item in window] for window in windows)
        return
    with ThreadPoolExecutor(settings.workers) as pool:
        ahead: list[list[Future[_Decoded]]] = []
        for window in windows:
            ahead.append([pool.submit(_decode, item, settings) for item in window])
            if len(ahead) == 2:
                yield [future.result() for future in ahead.pop(0)]
        for futures in ahead:
            yield [future.result() for future in futures]


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


def _alike(decoded: Sequence[_Decoded]) -> list[list[_Decoded]]:
    """Groups of one shape, so that a reward may stack what it is given."""
    groups: dict[tuple[Any, ...], list[_Decoded]] = {}
    for one in decoded:
        assert one.frames is not None
        shape = (tuple(one.frames.shape), None if one.source is None else tuple(one.source.shape))
        groups.setdefault(shape, []).append(one)
    return list(groups.values())


def _sample(decoded: _Decoded) -> Sample:
    item = decoded.item
    assert decoded.frames is not None
    return Sample(item.prompt, decoded.frames, decoded.source, item.id, item.metadata)


def _judged(item: Item, scores: Scores, row: int) -> Row:
    valid, overall = bool(scores.valid[row]), float(scores.overall[row])
    made = {
        "id": item.id,
        "fingerprint": item.fingerprint,
        "scores": _by_name(scores, scores.values[row]) | {"overall": _plain(overall)},
        "reason": None if valid else scores.reasons[row],
    }
    if valid and scores.log_variance is not None:
        made["log_variance"] = _by_name(scores, scores.log_variance[row])
    return made


def _by_name(scores: Scores, values: Tensor) -> dict[str, float | None]:
    return {name: _plain(value) for name, value in zip(scores.names, values.tolist(), strict=True)}


def _failed(item: Item, judge: Judge, reason: str) -> Row:
    nothing = dict.fromkeys((*judge.model.dimensions, "overall"))
    return {"id": item.id, "fingerprint": item.fingerprint, "scores": nothing, "reason": reason}


def _row(item: Item, loaded: Sequence[Judge], shards: Shards) -> Row:
    """One line of `scores.jsonl`."""
    found = {judge.label: shards.get(judge.label, item.id) for judge in loaded}
    row: Row = {
        "id": item.id,
        "file": None if item.file is None else item.file.as_posix(),
        "prompt": item.prompt,
    }
    row["scores"] = {label: record["scores"] for label, record in found.items()}
    row["log_variance"] = {
        label: record["log_variance"] for label, record in found.items() if "log_variance" in record
    }
    row["reasons"] = {label: record["reason"] for label, record in found.items() if record["reason"]}
    return row


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    partial = path.with_suffix(".part")
    with partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    partial.replace(path)
