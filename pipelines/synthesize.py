"""The verb `data synthesize`: a generator's samples scored by a reward, and the sure pairs kept as comparisons.

Scoring is the verb `score` (resumable, in a folder beside the output); the rules are `mmalign.data.synthesis`. Written
are the comparisons (mmalign.pref/1, .jsonl or .parquet) and `<output>.report.json`: what was kept, what was dropped for
which reason, how often further judges agreed.

Held in memory are the scores and names of all samples, with every pair that their scores let pass, but the media of one
batch alone: `batch_size` samples while they are scored, `batch_size` pairs while a judge of pairs is asked. With
`rank=all` a prompt of n samples has up to n (n - 1) / 2 pairs.

Shape legend: `T` frames, `C H W` pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import rewardmodels
from mmalign import media
from mmalign.config import Reward
from mmalign.console import counted
from mmalign.data import formats, synthesis
from mmalign.data.synthesis import Account, Proposal, Scored
from mmalign.types import Sample
from pipelines import manifest, score
from pipelines.left_out import tell_counts
from pipelines.manifest import Item
from pipelines.settings import Score
from pipelines.synthesis import Synthesize
from pipelines.tables import write_json


def run(settings: Synthesize) -> Account:
    """Scores what has no score yet, keeps the sure pairs, writes them with a report."""
    output = Path(settings.output)
    if output.suffix not in formats.SUFFIXES:
        raise ValueError(f"--output {output} must end in {' or '.join(formats.SUFFIXES)}")
    rules, account = settings.filters.rules(), Account()
    needed, num = rules.helpers_needed, len(settings.helpers)
    if needed is not None and needed > num:
        raise ValueError(f"filters.helpers_needed is {needed} and there are {num} helpers")
    items = {item.id: item for item in manifest.read(settings.input)}
    samples = list(_scored(settings, items, output))
    proposals = synthesis.propose(synthesis.groups_of(samples, account), rules, account)
    verdicts, judge = _ask_pairs(settings, proposals, items)
    kept = synthesis.settle(proposals, rules, account, verdicts=verdicts, judge=judge)
    found = synthesis.comparisons(
        kept, rules=rules, reward=settings.reward.name, split=settings.split, source="mmalign synthesize"
    )
    num_comparisons = formats.write(output, found)
    report = {
        "reward": settings.reward.name,
        "helpers": [helper.name for helper in settings.helpers],
        "pairwise": None if settings.pairwise is None else settings.pairwise.name,
        "filters": settings.filters.model_dump(),
        "num_comparisons": num_comparisons,
        **account.as_dict(),
    }
    told = output.with_name(f"{output.stem}.report.json")
    write_json(report, told)
    _tell(report, output, told)
    return account


def _scored(settings: Synthesize, items: dict[str, Item], output: Path) -> Iterator[Scored]:
    """Every item with the reward's and the helpers' scores, through the verb `score`."""
    folder = output.with_name(f"{output.stem}-scores")
    score.run(
        Score(
            input=settings.input,
            rewards=(settings.reward, *settings.helpers),
            output=str(folder),
            batch_size=settings.batch_size,
            workers=settings.workers,
            fps=settings.fps,
            max_frames=settings.max_frames,
            gallery=0,
        )
    )
    with (folder / "scores.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield _sample(row, items[row["id"]], settings, output.parent)


def _sample(row: dict[str, Any], item: Item, settings: Synthesize, root: Path) -> Scored:
    first, *rest = row["scores"]  # in the order the rewards were given
    dimension, own = settings.dimension, row["scores"][first]
    if dimension not in own:
        raise ValueError(f"{first} has no dimension '{dimension}': set dimension to one of {', '.join(own)}")
    seed = item.metadata.get("seed")
    return Scored(
        id=item.id,
        uri="" if item.file is None else _relative(item.file, root),
        prompt=item.prompt,
        score=own[dimension],
        reason=row["reasons"].get(first),
        helpers={label: row["scores"][label]["overall"] for label in rest},
        source=None if item.source is None else _relative(item.source, root),
        model=None if item.metadata.get("model") is None else str(item.metadata["model"]),
        seed=seed if isinstance(seed, int) else None,
        video=item.file is not None and media.is_video(item.file),
    )


def _ask_pairs(
    settings: Synthesize, proposals: Sequence[Proposal], items: dict[str, Item]
) -> tuple[list[float | str] | None, str]:
    """What the pairwise judge says of each proposal: p(i better), or why not. None without a judge."""
    if settings.pairwise is None:
        return None, "pairwise judge"
    judge, size = _pair_judge(settings.pairwise), settings.batch_size
    made: list[float | str] = []
    for start in range(0, len(proposals), size):
        made += _compared(judge, proposals[start : start + size], items, settings)
    return made, settings.pairwise.name


def _compared(
    judge: Any, proposals: Sequence[Proposal], items: dict[str, Item], settings: Synthesize
) -> list[float | str]:
    """The verdicts of one call; a pair that cannot be read is not asked about and harms no other."""
    shown = {
        name: _shown(name, items, settings)
        for name in dict.fromkeys(x.id for p in proposals for x in (p.i, p.j))
    }
    couples = [(shown[one.i.id], shown[one.j.id]) for one in proposals]
    asked = [(a, b) for a, b in couples if isinstance(a, Sample) and isinstance(b, Sample)]
    decisions = iter(judge.compare(asked) if asked else ())
    made: list[float | str] = []
    for couple in couples:
        problem = next((one for one in couple if isinstance(one, str)), None)
        made.append(_verdict(next(decisions)) if problem is None else problem)
    return made


def _verdict(decision: Any) -> float | str:
    return decision.probability if decision.reason is None else decision.reason


def _shown(name: str, items: dict[str, Item], settings: Synthesize) -> Sample | str:
    """A sample, or why it cannot be read."""
    try:
        return _decoded(name, items, settings)
    except ValueError as problem:
        return " ".join(str(problem).split())


def _pair_judge(reward: Reward) -> Any:
    loaded: Any = rewardmodels.load(reward.name, **reward.options)
    judge = getattr(loaded, "judge", loaded)  # a win rate holds the judge it asks
    if not hasattr(judge, "compare"):
        raise ValueError(
            f"--pairwise {reward.name} scores samples one by one: give it as --helper, or name a judge of pairs"
        )
    return judge


def _decoded(id: str, items: dict[str, Item], settings: Synthesize) -> Sample:
    item = items[id]
    assert item.file is not None
    frames = media.read(item.file, fps=settings.fps, max_frames=settings.max_frames)
    source = None if item.source is None else media.read(item.source, max_frames=settings.max_frames)
    return Sample(item.prompt, frames, source, item.id, item.metadata)


def _relative(file: Path, root: Path) -> str:
    place = Path(os.path.abspath(file))
    try:
        return place.relative_to(os.path.abspath(root)).as_posix()
    except ValueError:
        return place.as_posix()


def _tell(report: dict[str, Any], output: Path, told: Path) -> None:
    console = Console()
    for reason, num in sorted(report["dropped"].items(), key=lambda pair: -pair[1]):
        console.print(f"{counted(num, 'pair')} dropped: {reason}", markup=False)
    tell_counts(report["unscored"], lambda num: f"{counted(num, 'sample')} without a score", told)
    for name, share in report["agreement"].items():
        console.print(
            f"{name} agrees in {share:.0%} of {counted(report['asked'][name], 'pair')}", markup=False
        )
    samples, prompts = counted(report["num_samples"], "sample"), counted(report["num_groups"], "prompt")
    console.print(
        f"{report['kept']} of {counted(report['num_pairs'], 'pair')} kept, of {samples} of {prompts}: {output}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
