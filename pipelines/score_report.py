"""What `score` tells: the summary, the page with histograms and a gallery, the lines on the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.nn import functional as F

from mmalign import console, media
from mmalign.console import counted
from mmalign.inline import data_uri
from mmalign.stats import intervals, report
from pipelines.manifest import Item
from pipelines.settings import Score

THUMBNAIL = 224
LONGEST = 4000
"""Characters of one text of a judge that the page shows; `scores.jsonl` has all."""
MOST = 5
"""Reasons of a reward that the terminal shows."""
FEW = 8
"""Items that the page names for a reason why they were not judged."""
Row = dict[str, Any]


def summarize(rows: Sequence[Row], settings: Score) -> dict[str, Any]:
    """Per reward and dimension the mean with its interval by prompt, spread and range; failures by reason."""
    prompts = [row["prompt"] or row["id"] for row in rows]
    several = len(set(prompts)) > 1
    if not several:
        prompts = [row["id"] for row in rows]
    rewards = {}
    for label in rows[0]["scores"]:
        names = rows[0]["scores"][label]
        columns = {name: [_number(row["scores"][label].get(name)) for row in rows] for name in names}
        reasons = _counted_reasons([(row["reasons"][label], row) for row in rows if label in row["reasons"]])
        rewards[label] = {
            "dimensions": {name: _describe(values, prompts) for name, values in columns.items()},
            "unscored": sum(label in row["reasons"] for row in rows),
            "reasons": reasons,
        }
    unscored = [{"id": row["id"], "reasons": row["reasons"]} for row in rows if row["reasons"]]
    return {
        "input": settings.input,
        "num_items": len(rows),
        "num_unscored": len(unscored),
        "rewards": rewards,
        "unscored": unscored,
        "interval": f"95%, percentile bootstrap over {'prompts' if several else 'items'}",
    }


def _describe(values: Sequence[float], prompts: Sequence[str]) -> dict[str, Any]:
    known = [value for value in values if math.isfinite(value)]
    found = intervals.mean(values, prompts).as_dict()
    if known:
        center = sum(known) / len(known)
        found["sd"] = math.sqrt(sum((value - center) ** 2 for value in known) / len(known))
        found["min"], found["max"] = min(known), max(known)
    return found


def _distinct(dimensions: Mapping[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The dimensions to show: the overall of a single one would only repeat it."""
    return [item for item in dimensions.items() if item[0] != "overall" or len(dimensions) != 2]


def _counted_reasons(given: Sequence[tuple[str, Row]]) -> dict[str, int]:
    """How many rows have each reason, the most frequent first; the reason of a single row names its file."""
    found: dict[str, list[str]] = {}
    for reason, row in given:
        found.setdefault(_kind_of(reason, row), []).append(reason)
    counts: Counter[str] = Counter()
    for kind, own in found.items():
        counts[own[0] if len(own) == 1 else kind] += len(own)
    return dict(counts.most_common())


def _kind_of(reason: str, row: Row) -> str:
    """A reason without the name of its file, so that equal ones are counted together."""
    return reason.replace(row["file"], "the file") if row["file"] else reason


def write(
    path: Path, rows: Sequence[Row], items: Sequence[Item], summary: Mapping[str, Any], settings: Score
) -> None:
    """The page: a table and a histogram a reward, the best and worst pictures, what could not be judged."""
    parts = []
    for label, found in summary["rewards"].items():
        lines = [[name, d["mean"], d["low"], d["high"], d.get("sd"), d.get("min"), d.get("max"), d["n"]]
                 for name, d in _distinct(found["dimensions"])]  # fmt: skip
        overall = [_number(row["scores"][label]["overall"]) for row in rows]
        parts += [
            report.heading(label),
            report.table(["dimension", "mean", "95% from", "to", "sd", "min", "max", "n"], lines),
            report.histogram(overall, title=f"{label}: overall"),
        ]
    first = next(
        (label for label, found in summary["rewards"].items() if found["unscored"] < len(rows)),
        next(iter(summary["rewards"])),
    )
    parts += [report.heading(f"Highest and lowest by {first}"), _gallery(rows, items, first, settings)]
    if summary["unscored"]:
        failed = _failures(rows)
        columns = ["reward", "why", "items", "which"]
        parts += [report.heading("Not judged"), report.table(columns, failed[:500], words=True)]
        parts.append(report.paragraph("All items and reasons are in summary.json."))
    many = counted(summary["num_items"], "item")
    note = f"{many} from {settings.input}{_lacking(summary)}."
    path.write_text(report.page("Scores", parts, note=note), encoding="utf-8", errors="replace")


def _lacking(summary: Mapping[str, Any]) -> str:
    """How many items lack a score, if any does."""
    num = summary["num_unscored"]
    if not num:
        return ", all judged by every reward" if len(summary["rewards"]) > 1 else ", all judged"
    which = "one or more of the rewards" if len(summary["rewards"]) > 1 else "the reward"
    return f", {num:,} of them not judged by {which}"


def _failures(rows: Sequence[Row]) -> list[list[report.Cell]]:
    """By rewards and reason how many items failed so, and the first of them; the most frequent first."""
    items: dict[tuple[str, str], list[str]] = {}
    own: dict[tuple[str, str], str] = {}
    for row in rows:
        labels: dict[str, list[str]] = {}
        for label, reason in row["reasons"].items():
            labels.setdefault(_kind_of(reason, row), []).append(label)
        for reason, those in labels.items():
            key = (", ".join(those), reason)
            items.setdefault(key, []).append(row["id"])
            own[key] = row["reasons"][those[0]]
    return [
        [
            those,
            reason if len(ids) > 1 else own[those, reason],
            len(ids),
            ", ".join(ids[:FEW]) + (", ..." if len(ids) > FEW else ""),
        ]
        for (those, reason), ids in sorted(items.items(), key=lambda found: -len(found[1]))
    ]


def _gallery(rows: Sequence[Row], items: Sequence[Item], label: str, settings: Score) -> str:
    """At most `settings.gallery` thumbnails, the best half and the worst half."""
    scored = [k for k, row in enumerate(rows) if row["scores"][label]["overall"] is not None]
    scored.sort(key=lambda k: -rows[k]["scores"][label]["overall"])
    half = settings.gallery // 2
    shown = scored if len(scored) <= settings.gallery else scored[:half] + scored[len(scored) - half :]
    figures = []
    for k in shown:
        file = items[k].file
        assert file is not None
        lines = [f"{name} {report.show(found['overall'])}" for name, found in rows[k]["scores"].items()]
        caption = f"{escape(rows[k]['prompt'] or rows[k]['id'])}<br>{escape(' · '.join(lines))}"
        caption += "".join(_folded(f"{name}: {what}", text)
                           for name, told in rows[k]["details"].items() for what, text in _said(told))  # fmt: skip
        figures.append(f"<figure>{_thumbnail(file)}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="gallery">{"".join(figures)}</div>'


def _said(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a judge in words said, by title: its notes, then its whole answers; of a composition part by part."""
    if not told.keys() <= {"notes", "answers", "numbers"}:
        return [
            (f"{part}: {what}", text) for part, more in told.items() if more for what, text in _said(more)
        ]
    notes = told.get("notes", {})
    answers = [answer for answer in told.get("answers", ()) if answer.strip() not in notes.values()]
    found = [(name.replace("_", " "), text) for name, text in notes.items()]
    return [
        *found,
        *([("answers" if len(answers) > 1 else "answer", "\n\n".join(answers))] if answers else []),
    ]


def _folded(title: str, text: str) -> str:
    """A text that opens on a click."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return f"<details><summary>{escape(title)}</summary>{escape(shown)}</details>"


def _thumbnail(file: Path) -> str:
    frames = media.read(file, max_frames=6)
    height, width = frames.shape[-2:]
    kind = "small" if max(height, width) <= THUMBNAIL else "large"
    if kind == "large":
        scale = THUMBNAIL / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        frames = F.interpolate(frames, size=size, mode="area")
    return f'<img class="{kind}" alt="{escape(file.name)}" src="{data_uri(frames)}">'


def tell(summary: Mapping[str, Any], folder: Path, already_done: int) -> None:
    """The table on the terminal."""
    shown = [
        (label, name, d, found["unscored"])
        for label, found in summary["rewards"].items()
        for name, d in _distinct(found["dimensions"])
    ]
    names = {"reward": [label for label, *_ in shown], "dimension": [name for _, name, *_ in shown]}
    figures = {
        "mean": [report.show(d["mean"]) for *_, d, _ in shown],
        "95%": [_interval(d) for *_, d, _ in shown],
        "n": [str(d["n"]) for *_, d, _ in shown],
        "not judged": [str(unscored) for *_, unscored in shown],
    }
    out = Console()
    out.print(console.table(names, figures))
    for label, found in summary["rewards"].items():
        reasons = list(found["reasons"].items())
        for reason, count in reasons[:MOST]:
            out.print(f"{label}: {count} not judged: {reason}", style="yellow", markup=False)
        if rest := sum(count for _, count in reasons[MOST:]):
            told = f"{label}: {rest} more not judged, for other reasons; all are in {folder / 'summary.json'}"
            out.print(told, style="yellow", markup=False)
    done = f", {already_done} of them done before" if already_done else ""
    out.print(
        f"{counted(summary['num_items'], 'item')}{done}; report: {folder / 'report.html'}", markup=False
    )


def _interval(found: Mapping[str, Any]) -> str:
    """Its ends, or a dash where there are none."""
    if found["low"] is None or found["high"] is None:
        return report.show(None)
    return f"{report.show(found['low'])} to {report.show(found['high'])}"


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
