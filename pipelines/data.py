"""The verb `data`: import published preference data, export, check, and draw the built-in world's.

`shapes` writes a folder: `pairs.jsonl` (mmalign.pref/1, every two pictures of a prompt judged) with its pictures,
`prompts.jsonl`, and `manifest.jsonl`, by which `mmalign score FOLDER` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmalign.comparison import Candidate, Comparison, MediaInput
from mmalign.console import counted
from mmalign.data import columns
from mmalign.data.check import FAULTS, NOTES, Report, check
from mmalign.data.formats import read, read_jsonl, write
from mmalign.data.importing import reading
from mmalign.data.uris import MediaStore
from mmalign.shapes.annotators import Law
from mmalign.shapes.pairs import write_pairs
from pipelines.left_out import LeftOut
from pipelines.manifest import MANIFEST
from pipelines.tables import write_json

SHOWN = 10


def import_file(
    input: Path,
    *,
    format: str,
    output: Path,
    split: str,
    media: Path | None = None,
    extract: bool = False,
    min_confidence: float | None = None,
    report: Path | None = None,
) -> reading.Outcome:
    """A published file as mmalign.pref/1, .jsonl or .parquet; what became of its rows is told and given back."""
    if output.resolve() == input.resolve():
        raise ValueError(f"--output {output} would overwrite the file that is imported")
    outcome = reading.Outcome()
    root = output.parent
    found = reading.read(
        input,
        format=format,
        root=root,
        split=split,
        media=media,
        min_confidence=min_confidence,
        outcome=outcome,
    )
    if extract:
        found = _extracted(found, MediaStore(root, cache=root / "media"), outcome)
    write(output, found)
    if report is not None:
        write_json(asdict(outcome) | {"unknown_columns": sorted(outcome.unknown_columns)}, report)
    _tell_import(outcome, output)
    if outcome.num_comparisons == 0:
        output.unlink()
        why = outcome.bad[0] if outcome.bad else "; ".join(outcome.left_out) or "it has no rows"
        raise ValueError(f"{input} gave no comparison as {outcome.format}: {why}")
    return outcome


def export_file(input: Path, *, output: Path, embed: bool, root: Path | None = None) -> LeftOut:
    """Comparisons as .jsonl, .parquet, or a folder of Hugging Face `datasets`.

    Lines that cannot be read, and with `embed` comparisons without their media, are left out, told and given back.
    """
    if output.resolve() == input.resolve():
        raise ValueError(f"--output {output} would overwrite the file that is exported")
    store = MediaStore(root or input.parent) if embed else None
    left = LeftOut()
    found = read(input, on_error=left.add)
    if output.suffix == ".parquet":
        num = columns.write_parquet(output, found, embed=store, on_error=left.add)
    elif output.suffix == ".jsonl":
        if embed:
            raise ValueError("media can be embedded in .parquet and in datasets folders, not in .jsonl")
        num = write(output, found)
    elif output.suffix == "":
        num = columns.write_dataset(output, found, embed=store, on_error=left.add)
    else:
        raise ValueError(
            f"--output {output}: give .jsonl, .parquet, or a folder name for a `datasets` folder"
        )
    if num == 0 and output.is_file():
        output.unlink()
    left.require(num, input, "comparison")
    left.tell()
    print(f"{counted(num, 'comparison')} in {output}")
    return left


def check_files(
    inputs: Sequence[Path],
    *,
    output: Path | None = None,
    with_media: bool = True,
    root: Path | None = None,
    allow_http: bool = False,
) -> Report:
    """The findings, told and, where asked for, written."""
    report = check(inputs, with_media=with_media, root=root, allow_http=allow_http)
    if output is not None:
        write_json(report.as_dict(), output)
    _tell(report, with_media=with_media)
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
    print(f"{counted(len(comparisons), 'comparison')} of {counted(num_candidates, 'picture')} each: {pairs}")
    return pairs


def _extracted(
    comparisons: Iterable[Comparison], store: MediaStore, outcome: reading.Outcome
) -> Iterator[Comparison]:
    """Comparisons with their media as files; one whose media cannot be taken out is a bad row."""
    for comparison in comparisons:
        try:
            made = _extract(comparison, store)
        except (ValueError, OSError) as problem:
            outcome.num_comparisons -= 1
            outcome.complain(f"comparison {comparison.id}", str(problem))
        else:
            yield made


def _extract(comparison: Comparison, store: MediaStore) -> Comparison:
    """The comparison with embedded and archived media as files of their own."""

    def out(uri: str) -> str:
        plain = "://" not in uri or uri.startswith(("http://", "https://"))
        return uri if plain else store.path(uri).relative_to(store.root).as_posix()

    def item(one: MediaInput) -> MediaInput:
        return replace(one, uri=out(one.uri))

    def candidate(one: Candidate) -> Candidate:
        if one.uri is None:
            return one
        return replace(one, uri=out(one.uri) if isinstance(one.uri, str) else tuple(map(out, one.uri)))

    return replace(
        comparison,
        inputs=tuple(map(item, comparison.inputs)),
        candidates=tuple(map(candidate, comparison.candidates)),
    )


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _tell_import(outcome: reading.Outcome, output: Path) -> None:
    console = Console()
    for line in outcome.bad[:SHOWN]:
        console.print(f"bad row: {line}", style="yellow", markup=False)
    if outcome.num_bad > SHOWN:
        console.print(f"bad rows: and {outcome.num_bad - SHOWN} more", style="yellow")
    if outcome.unknown_columns:
        names = ", ".join(sorted(outcome.unknown_columns))
        console.print(f"columns that {outcome.format} does not know, left: {names}", markup=False)
    parts = [f"{num} left out ({reason})" for reason, num in outcome.left_out.items()]
    parts += [f"{outcome.num_repeated} repeated"] if outcome.num_repeated else []
    parts += [f"{outcome.num_bad} bad"] if outcome.num_bad else []
    rest = f"; {', '.join(parts)}" if parts else ""
    made, read = counted(outcome.num_comparisons, "comparison"), counted(outcome.num_rows, "row")
    console.print(
        f"{made} from {read} of {outcome.format}{rest}: {output}. mmalign data check {output} looks them over",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if outcome.num_not_for_rewards:
        console.print(
            f"note: {outcome.num_not_for_rewards} of them are checked, but no reward is given them: candidates are "
            "texts or several pictures, or the prompt shows reference pictures",
            style="cyan", markup=False, soft_wrap=True,
        )  # fmt: skip


def _tell(report: Report, *, with_media: bool) -> None:
    console = Console()
    for table in _tables(report):
        console.print(table)
    for kind in FAULTS:
        _tell_kind(console, report, kind, "", "yellow")
    for kind in NOTES:
        _tell_kind(console, report, kind, "note: ", "cyan")
    for line in report.warnings:
        console.print(f"note: {line}", style="cyan", markup=False)
    splits = ", ".join(f"{name} {num}" for name, num in report.splits.items())
    comparisons = counted(report.num_comparisons, "comparison") + (f" ({splits})" if splits else "")
    seen = f"{report.num_media:,} media" if with_media else "media not looked at"
    faults = "no faults" if report.faults == 0 else counted(report.faults, "fault")
    notes = f", {counted(report.notes, 'note')}" if report.notes else ""
    console.print(f"{comparisons}, {seen}: {faults}{notes}", markup=False)


def _tell_kind(console: Console, report: Report, kind: str, before: str, style: str) -> None:
    lines: list[str] = getattr(report, kind)
    name = f"{before}{kind.replace('_', ' ')}"
    for line in lines[:SHOWN]:
        console.print(f"{name}: {line}", style=style, markup=False)
    more = report.counts.get(kind, 0) - SHOWN
    if more > 0:
        console.print(f"{name}: and {more} more", style=style)


def _tables(report: Report) -> Iterator[Table]:
    balance = Table("dimension", "pairs", "ties", "tie rate", "first wins", "agreement", "alpha")
    for dim, found in report.dimensions.items():
        said = report.agreement.get(dim, {})
        cells = [found["tie_rate"], found["first_wins"], said.get("raw"), said.get("alpha")]
        shown = ["–" if value is None else f"{value:.2f}" for value in cells]
        balance.add_row(dim, str(found["pairs"]), str(found["ties"]), *shown)
    yield balance
    if report.models:
        models = Table("model", "win rate", "judgements")
        ranked = sorted(report.models.items(), key=lambda pair: -pair[1]["win_rate"])
        for name, won in ranked[:SHOWN]:
            models.add_row(name, f"{won['win_rate']:.2f}", str(won["n"]))
        yield models
