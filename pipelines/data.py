"""The verb `data`: import published preference data, check it, and draw the built-in world's.

`shapes` writes a folder: `pairs.jsonl` (mmalign.pref/1, every two pictures of a prompt judged) with its pictures,
`prompts.jsonl`, and `manifest.jsonl`, by which `mmalign score FOLDER` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmalign.data import importers
from mmalign.data.check import Report, check
from mmalign.data.formats import read_jsonl, write_jsonl
from mmalign.shapes.annotators import Law
from mmalign.shapes.pairs import write_pairs
from pipelines.manifest import MANIFEST
from pipelines.tables import write_json

SHOWN = 10


def import_file(input: Path, *, format: str, output: Path, split: str) -> int:
    """A published file as mmalign.pref/1 JSONL; how many comparisons it holds."""
    if output.resolve() == input.resolve():
        raise ValueError(f"--output {output} would overwrite the file that is imported")
    num = write_jsonl(output, importers.read(input, format=format, root=output.parent, split=split))
    print(f"{num} comparisons in {output}; mmalign data check {output} looks them over")
    return num


def check_file(input: Path, *, output: Path | None = None) -> Report:
    """The findings, told and, where asked for, written."""
    report = check(input)
    if output is not None:
        write_json(report.as_dict(), output)
    _tell(report)
    return report


def draw_shapes(
    output: Path,
    *,
    num_prompts: int,
    num_candidates: int,
    split: str,
    seed: int,
    temperature: float = 0.1,
    tie_width: float = 1.0,
) -> Path:
    """Prompts, pictures and pairs of the built-in world, labelled by a simulated annotator; the path of the pairs."""
    if num_prompts < 1 or num_candidates < 2:
        raise ValueError("data shapes needs at least 1 prompt and 2 pictures of each")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"--output {output} is not an empty folder: name a new one")
    law = Law(temperature=temperature, theta=tie_width)
    written = write_pairs(
        output, split, num_prompts=num_prompts, law=law, seed=seed, num_images=num_candidates
    )
    pairs = written.replace(output / "pairs.jsonl")
    comparisons = list(read_jsonl(pairs))
    prompts = dict.fromkeys(comparison.prompt for comparison in comparisons)
    _write_lines(output / "prompts.jsonl", [{"prompt": prompt} for prompt in prompts])
    rows = [
        {"id": f"{comparison.id}-{candidate.id}", "file": candidate.uri, "prompt": comparison.prompt}
        for comparison in comparisons
        for candidate in comparison.candidates
    ]
    _write_lines(output / MANIFEST, rows)
    print(f"{len(comparisons)} comparisons of {num_candidates} pictures each: {pairs}")
    return pairs


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _tell(report: Report) -> None:
    console = Console()
    table = Table("dimension", "pairs", "ties", "tie rate", "first wins")
    for dim, found in report.dimensions.items():
        cells = ["–" if found[k] is None else f"{found[k]:.2f}" for k in ("tie_rate", "first_wins")]
        table.add_row(dim, str(found["pairs"]), str(found["ties"]), *cells)
    console.print(table)
    kinds = ("bad_lines", "missing_media", "damaged_media", "duplicate_ids", "duplicate_comparisons",
             "leaking_prompts", "leaking_media", "identical_candidates")  # fmt: skip
    for kind in kinds:
        lines: list[str] = getattr(report, kind)
        for line in lines[:SHOWN]:
            console.print(f"{kind.replace('_', ' ')}: {line}", style="yellow", markup=False)
        if len(lines) > SHOWN:
            console.print(f"{kind.replace('_', ' ')}: and {len(lines) - SHOWN} more", style="yellow")
    faults = "no faults" if report.faults == 0 else f"{report.faults} faults"
    console.print(f"{report.num_comparisons} comparisons, {report.num_media} media files: {faults}")
