"""The verb `evaluate generator`: several generators on the same prompts and seeds, judged by rewards.

The first generator is the one compared with. Every mean has an interval by prompt; differences and win rates are paired
by prompt and seed, which is what makes small gains visible. Output folder: `results.json`, `pictures.jsonl` (a row a
picture with its scores), `report.html` (tables, gallery), `config.yaml`.

Shape legend: `N` requests (prompts x seeds), `T` frames, `C H W` pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor
from tqdm import tqdm

from mmalign import console
from mmalign.config import to_yaml
from mmalign.inline import data_uri
from mmalign.stats import intervals, report
from mmalign.stats.agreement import win_rate
from mmalign.types import Sample
from pipelines import judges
from pipelines.judges import Judge
from pipelines.sampling import Painter, Request, read_requests
from pipelines.settings import EvaluateGenerator, Generator
from pipelines.tables import write_json

SHOWN = 12
Table_ = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Drawn:
    """What one generator made: per reward and dimension N scores, and the first pictures."""

    name: str
    scores: Table_
    reasons: dict[str, dict[str, str]]
    pictures: list[Tensor]


def run(settings: EvaluateGenerator) -> dict[str, Any]:
    """Draws, judges, compares; the content of `results.json`."""
    requests = read_requests(settings.prompts, settings.num_prompts, settings.sampling)
    names = [generator.label for generator in settings.generators]
    if len(set(names)) < len(names):
        raise ValueError(f"generators need different names, got {', '.join(names)}")
    loaded = judges.load(settings.rewards)
    folder = Path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(to_yaml(settings), encoding="utf-8")
    drawn = [_draw(generator, requests, loaded, settings) for generator in settings.generators]
    for judge in loaded:
        judge.conclude()
    results = compare(drawn, [request.prompt.text for request in requests])
    results |= {"prompts": settings.prompts, "sampling": settings.sampling.model_dump(mode="json")}
    write_json(results, folder / "results.json")
    _write_pictures(folder / "pictures.jsonl", requests, drawn)
    (folder / "report.html").write_text(_page(results, requests, drawn), encoding="utf-8")
    _tell(results, folder)
    return results


def _draw(
    generator: Generator, requests: Sequence[Request], loaded: Sequence[Judge], settings: EvaluateGenerator
) -> Drawn:
    """All requests through one generator and every reward, a batch at a time; only the first pictures are kept."""
    painter = Painter(generator, settings.sampling, device=settings.device)
    places = {request.id: k for k, request in enumerate(requests)}
    scores: Table_ = {judge.label: {} for judge in loaded}
    reasons: dict[str, dict[str, str]] = {}
    pictures: dict[int, Tensor] = {}
    batch: list[Sample] = []

    def judge_batch() -> None:
        for judge in loaded:
            found = judge(batch)
            columns = {**{n: found.values[:, d] for d, n in enumerate(found.names)}, "overall": found.overall}
            for name, column in columns.items():
                row = scores[judge.label].setdefault(name, [math.nan] * len(requests))
                for sample, value in zip(batch, column.tolist(), strict=True):
                    row[places[sample.id]] = value
            for sample, reason in zip(batch, found.reasons, strict=True):
                if reason is not None:
                    reasons.setdefault(sample.id, {})[judge.label] = reason
        batch.clear()

    progress = tqdm(painter.draw(requests), total=len(requests), desc=generator.label, unit="picture")
    for request, frames in progress:
        batch.append(request.sample(frames))
        if places[request.id] < SHOWN:
            pictures[places[request.id]] = frames
        if len(batch) == settings.sampling.batch_size:
            judge_batch()
    if batch:
        judge_batch()
    return Drawn(generator.label, scores, reasons, [pictures[k] for k in sorted(pictures)])


def compare(drawn: Sequence[Drawn], prompts: Sequence[str]) -> dict[str, Any]:
    """Means, and against the first generator paired differences and win rates, intervals by prompt."""
    base = drawn[0]
    rows = []
    for one in drawn:
        for label, columns in one.scores.items():
            for name, values in columns.items():
                row: dict[str, Any] = {"generator": one.name, "reward": label, "dimension": name}
                row["mean"] = intervals.mean(values, prompts).as_dict()
                row["not_judged"] = int(np.isnan(values).sum())
                if one is not base:
                    before = base.scores[label][name]
                    row["difference"] = intervals.paired(before, values, prompts).as_dict()
                    row["win_rate"] = intervals.mean(win_rate(before, values), prompts).as_dict()
                rows.append(row)
    return {
        "protocol": "paired by prompt and seed; win rate counts equal scores as half; 95% percentile bootstrap over "
        "prompts",
        "compared_with": base.name,
        "num_prompts": len(set(prompts)),
        "num_pictures": len(prompts),
        "rows": rows,
    }


def _write_pictures(path: Path, requests: Sequence[Request], drawn: Sequence[Drawn]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for one in drawn:
            for k, request in enumerate(requests):
                row: dict[str, Any] = {"id": request.id, "generator": one.name, "prompt": request.prompt.text}
                row["seed"] = request.seed
                row["scores"] = {
                    label: {name: _plain(values[k]) for name, values in columns.items()}
                    for label, columns in one.scores.items()
                }
                row["reasons"] = one.reasons.get(request.id, {})
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _page(results: Mapping[str, Any], requests: Sequence[Request], drawn: Sequence[Drawn]) -> str:
    lines = [[row["generator"], row["reward"], row["dimension"], _cell(row["mean"]), _cell(row.get("difference")),
              _cell(row.get("win_rate")), row["not_judged"]] for row in results["rows"]]  # fmt: skip
    columns = ["generator", "reward", "dimension", "mean", "difference", "win rate", "not judged"]
    parts = [report.table(columns, lines), report.heading("Same prompt, same noise")]
    for k, request in enumerate(requests[:SHOWN]):
        figures = []
        for one in drawn:
            told = [f"{label} {report.show(columns['overall'][k])}" for label, columns in one.scores.items()]
            small = "small" if max(one.pictures[k].shape[-2:]) <= 224 else "large"
            picture = f'<img class="{small}" alt="{escape(one.name)}" src="{data_uri(one.pictures[k])}">'
            figures.append(
                f"<figure>{picture}<figcaption>{escape(one.name)}<br>{escape(' · '.join(told))}</figcaption></figure>"
            )
        parts.append(f'<p>{escape(request.prompt.text)}</p><div class="gallery">{"".join(figures)}</div>')
    note = (
        f"{results['num_prompts']} prompts, {results['num_pictures']} pictures each. {results['protocol']}."
    )
    return report.page("Generators compared", parts, note=note)


def _cell(found: Mapping[str, Any] | None) -> str | None:
    if found is None or found["mean"] is None:
        return None
    return f"{report.show(found['mean'])} [{report.show(found['low'])}, {report.show(found['high'])}]"


def _tell(results: Mapping[str, Any], folder: Path) -> None:
    names = {key: [row[key] for row in results["rows"]] for key in ("generator", "reward", "dimension")}
    headings = {
        "mean": "mean",
        f"against {results['compared_with']}": "difference",
        "win rate": "win_rate",
    }
    figures = {
        heading: [_cell(row.get(key)) or "–" for row in results["rows"]] for heading, key in headings.items()
    }
    out = Console()
    out.print(console.table(names, figures))
    out.print(f"report: {folder / 'report.html'}", markup=False)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
