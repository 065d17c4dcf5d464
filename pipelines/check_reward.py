"""The verb `check-reward`: how far a reward can be trusted, on files, a built-in world, or what a generator draws.

Output folder: `report.html` (one file, opens anywhere), `trust.json` (every figure and verdict with its threshold),
`scores.jsonl` (a row a sample: score, gold, factors), and `samples/` if a generator drew.

Shape legend: `N` samples, `P` prompts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table
from tqdm import tqdm

from mmalign import media
from mmalign.console import counted
from mmalign.types import RewardModel, Sample, content_of
from pipelines import generate, judges, manifest, trust_report
from pipelines.evaluate_reward import read_pairs
from pipelines.judges import Judge
from pipelines.settings import CheckReward, Generate
from pipelines.tables import as_json, write_json
from rewardmodels.asking import ask as safely
from rewardmodels.trust import Ask, checkup
from rewardmodels.trust.checkup import Checked
from rewardmodels.trust.duels import compared_pairs, comparer_of, win_rates
from rewardmodels.trust.factors import FACTORS
from rewardmodels.trust.pairs import JudgedPairs, judge_pairs, surveyed_pairs
from rewardmodels.trust.probes import PROBES
from rewardmodels.trust.survey import Survey, survey
from rewardmodels.trust.worlds import draw_world, label_pairs

STYLES = {"good": "green", "note": "dim", "fair": "yellow", "bad": "bold red"}


@dataclass(frozen=True)
class Material:
    """The samples that are looked at, each with its group, and who knows the truth about them."""

    name: str
    samples: tuple[Sample, ...]
    groups: tuple[str, ...]
    gold: Ask | None = None
    gold_name: str | None = None
    left_out: tuple[str, ...] = ()


def run(settings: CheckReward) -> Checked:
    """Everything that can be measured with what is given; the folder is written, the verdicts told."""
    if settings.samples is not None and settings.world is not None:
        raise ValueError("--samples and --world are two materials: give one of them")
    if settings.samples is None and settings.world is None and settings.generator is None:
        raise ValueError("nothing to look at: give --samples FILE, --world shapes or --generator shapes-flow")
    (judge,) = judges.load([settings.reward], company="pairs")
    others = {other.label: other for other in judges.load(settings.rewards)}
    gold = None if settings.gold is None else judges.load([settings.gold])[0]
    folder = Path(settings.output)
    drawn = _drawn(settings, gold, folder) if settings.generator is not None else None
    material = _material(settings, gold) or drawn
    assert material is not None
    comparer = comparer_of(judge.model)
    ask = judge if comparer is None else win_rates(comparer)
    seen = _survey(ask, material, others, settings, whole=comparer is not None)
    pool = seen
    if drawn is not None and drawn is not material:
        pool = _survey(ask, drawn, others, settings, whole=comparer is not None, pool=True)
    checked = checkup.check(
        ask,
        seen,
        pairs=_pairs(judge, seen, settings),
        pool=pool,
        temperature=shipped_temperature(judge.model),
        read=lambda sample: _decoded(sample, settings),
        uwo_weight=settings.uwo_weight,
        comparer=comparer,
    )
    for one in (judge, *others.values(), *([gold] if gold is not None else [])):
        one.conclude()
    _write(folder, settings, judge.label, ask, material, drawn, checked)
    _tell(judge.label, checked, folder)
    return checked


def shipped_temperature(model: RewardModel) -> float | None:
    """The temperature a trained reward brings in its settings, if it does."""
    found = getattr(getattr(model, "settings", None), "temperature", None)
    return float(found) if isinstance(found, (int, float)) and found > 0 else None


def _material(settings: CheckReward, gold: Judge | None) -> Material | None:
    """The samples of a world or of files; None if neither is named."""
    if settings.world is not None:
        world = draw_world(
            settings.world,
            num_prompts=settings.num_prompts,
            num_candidates=settings.num_candidates,
            seed=settings.seed,
        )
        exact = world.gold
        if gold is not None:
            return Material(world.name, world.samples, world.groups, gold, gold.label)
        return Material(
            world.name, world.samples, world.groups, lambda samples: safely(exact, samples), exact.name
        )
    if settings.samples is None:
        return None
    return _files(settings.samples, settings.num_samples, gold)


def _files(path: str, limit: int, gold: Judge | None) -> Material:
    """The usable items of a folder or JSONL file, prompt by prompt, whole prompts until the limit."""
    items = manifest.read(path)
    bad = [f"{item.id}: {item.problem}" for item in items if item.problem is not None or item.file is None]
    good = [item for item in items if item.problem is None and item.file is not None]
    samples = [
        Sample(item.prompt, item.file, item.source, item.id, item.metadata)
        for item in good
        if item.file is not None
    ]
    if not samples:
        raise ValueError(f"{path}: none of its {counted(len(items), 'row')} can be used: {bad[0]}")
    groups = checkup.group_names(samples, lambda sample: content_of(sample.source))
    sizes, total = Counter(groups), 0
    kept: set[str] = set()
    for name in dict.fromkeys(groups):
        if not kept or total + sizes[name] <= limit:
            kept.add(name)
            total += sizes[name]
    order = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    chosen = sorted((k for k, name in enumerate(groups) if name in kept), key=lambda k: order[groups[k]])
    if len(chosen) < len(samples):
        bad.append(f"{counted(len(samples) - len(chosen), 'sample')} beyond num_samples={limit}")
    named = [replace(samples[k], metadata={**samples[k].metadata, "group": groups[k]}) for k in chosen]
    return Material(
        Path(path).name, tuple(named), tuple(groups[k] for k in chosen), gold,
        None if gold is None else gold.label, tuple(bad),
    )  # fmt: skip


def _drawn(settings: CheckReward, gold: Judge | None, folder: Path) -> Material:
    """What the generator draws: `sampling.seeds_per_prompt` pictures of each prompt, kept in `samples/`."""
    assert settings.generator is not None
    path = generate.run(
        Generate(
            generator=settings.generator,
            prompts=settings.prompts,
            num_prompts=settings.num_prompts,
            sampling=settings.sampling,
            output=str(folder / "samples"),
            device=settings.device,
        )
    )
    made = _files(str(path.parent), 10**9, gold)
    if gold is None and settings.prompts.startswith("shapes:"):
        exact = draw_world("shapes", num_prompts=2, num_candidates=2).gold
        made = replace(made, gold=lambda samples: safely(exact, samples), gold_name=exact.name)
    return replace(made, name=f"{settings.generator.label} on {settings.prompts}")


def _survey(
    ask: Ask,
    material: Material,
    others: dict[str, Judge],
    settings: CheckReward,
    *,
    whole: bool,
    pool: bool = False,
) -> Survey:
    """One pass, whole groups together for a judge of pairs; of a pool only the scores matter."""
    with tqdm(total=len(material.samples), desc="looking", unit="sample") as progress:
        seen = survey(
            ask,
            material.samples,
            material.groups,
            gold=material.gold,
            others=dict(others),
            read=lambda sample: _decoded(sample, settings),
            batch_size=settings.batch_size,
            seed=settings.seed,
            tell=progress.update,
            whole_groups=whole,
            probes=() if pool or whole else PROBES,
            factors=() if pool else FACTORS,
        )
    return seen


def _decoded(sample: Sample, settings: CheckReward, judge: Judge | None = None) -> Sample:
    """Media and source as tensors, videos thinned as the settings say; not those that the judge reads as files."""

    def tensor(what: Any) -> Any:
        if not isinstance(what, Path) or (judge is not None and judge.takes(what)):
            return what
        return media.read(what, fps=settings.fps, max_frames=settings.max_frames)

    return replace(sample, media=tensor(sample.media), source=tensor(sample.source))


def _pairs(judge: Judge, seen: Survey, settings: CheckReward) -> JudgedPairs | None:
    """Labelled pairs of a file, or of the world's own annotator."""
    if settings.pairs is not None:
        path, bad = Path(settings.pairs), Counter[str]()
        found = read_pairs(path, settings.dimension, bad)
        if not found:
            raise ValueError(
                f"{path} has no pair with a label on '{settings.dimension}'; set dimension=NAME to another"
            )
        comparer, dimension = comparer_of(judge.model), settings.dimension

        def read(sample: Sample) -> Sample:
            return _decoded(sample, settings, judge)

        if comparer is not None:
            judged = compared_pairs(comparer, found, dimension=dimension, read=read)
        else:
            judged = judge_pairs(judge, found, dimension=dimension, read=read, batch_size=settings.batch_size)
        judged.left_out.update(bad)
        return judged
    if settings.world is None or settings.gold is not None or seen.gold is None:
        return None
    labelled, best = label_pairs(seen.samples, seen.groups, seen.gold.tolist(), seed=settings.seed)
    return surveyed_pairs(labelled, seen, best=best)


def _write(
    folder: Path,
    settings: CheckReward,
    label: str,
    ask: Ask,
    material: Material,
    drawn: Material | None,
    checked: Checked,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "reward": label,
        "material": material.name,
        "num_samples": len(material.samples),
        "num_prompts": len(set(material.groups)),
        "gold": material.gold_name,
        "pool": None if drawn is None else drawn.name,
        "pairs": settings.pairs or ("the world's simulated annotator" if checked.pairs is not None else None),
        "left_out": list(material.left_out)[:50],
        "seed": settings.seed,
    }
    write_json({"about": about, **checked.as_dict()}, folder / "trust.json")
    with (folder / "scores.jsonl").open("w", encoding="utf-8") as file:
        for row in _rows(checked.survey):
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    exhibit = trust_report.exhibits(ask, checked.survey, lambda sample: _decoded(sample, settings))
    trust_report.write(folder / "report.html", about, checked, exhibit)


def _rows(seen: Survey) -> Sequence[dict[str, Any]]:
    """What was measured of every sample."""
    columns = {"score": seen.scores, **({} if seen.gold is None else {"gold": seen.gold}), **seen.others}
    return [
        {"id": sample.id, "prompt": sample.prompt, "group": group}
        | {name: as_json(float(column[k])) for name, column in columns.items()}
        | {"factors": {name: as_json(float(column[k])) for name, column in seen.factors.items()
                       if np.isfinite(column[k])}}
        for k, (sample, group) in enumerate(zip(seen.samples, seen.groups, strict=True))
    ]  # fmt: skip


def _tell(label: str, checked: Checked, folder: Path) -> None:
    """What is not good on the terminal, worst first, and the verdict."""
    order = {"bad": 0, "fair": 1, "note": 2}
    table = Table(*(Column(name, overflow="fold") for name in ("about", "", "verdict", "figure")))
    for one in sorted((f for f in checked.findings if f.grade != "good"), key=lambda one: order[one.grade]):
        table.add_row(one.topic, one.name, f"[{STYLES[one.grade]}]{one.word}[/]", one.figure)
    console = Console()
    if table.rows:
        console.print(table)
    for what, why in checked.missing.items():
        console.print(f"{what} not measured: {why}", style="dim", markup=False)
    verdict = checked.verdict
    console.print(f"{label}: {verdict.word} ({verdict.figure})", style=STYLES[verdict.grade], markup=False)
    console.print(f"report: {folder / 'report.html'}", markup=False)
