"""The verbs under `mmalign data`: preference data made, imported, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Preference data: make, import, check.")


@app.command("import")
def data_import(
    input: Annotated[
        Path, typer.Argument(help="The published file, e.g. VideoAlign's CSV.", show_default=False)
    ],
    format: Annotated[str, typer.Option(help="videoalign, or auto to tell by its columns.")] = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="The JSONL file that is written.")] = Path(
        "pairs.jsonl"
    ),
    split: Annotated[str, typer.Option(help="The split these comparisons belong to.")] = "train",
) -> None:
    """A published format into mmalign's own (mmalign.pref/1 JSONL).

    Example: [cyan]mmalign data import example.csv -o runs/videoalign.jsonl[/]
    """
    from pipelines import data as pipeline

    pipeline.import_file(input, format=format, output=output, split=split)


@app.command("check")
def data_check(
    input: Annotated[Path, typer.Argument(help="Comparisons, mmalign.pref/1 JSONL.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The JSON report; printed anyway.")
    ] = None,
) -> None:
    """Missing and damaged media, bad lines, duplicates, leaks between splits, balance, ties. Exit code 3 on faults.

    Example: [cyan]mmalign data check runs/videoalign.jsonl[/]
    """
    from pipelines import data as pipeline

    if pipeline.check_file(input, output=output).faults:
        raise typer.Exit(3)


@app.command("votes")
def data_votes(
    input: Annotated[
        Path, typer.Argument(help="Comparisons with the labels of several annotators.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file of settled comparisons.")] = Path(
        "pairs.jsonl"
    ),
    method: Annotated[
        str, typer.Option(help="dawid-skene: annotators weighed by EM; counts: shares of votes, shrunk.")
    ] = "dawid-skene",
    symmetric: Annotated[
        bool, typer.Option(help="Nobody favours the first or the second; --no-symmetric finds who does.")
    ] = True,
) -> None:
    """Votes of several annotators on the same pairs into one soft label a pair; says how reliable each annotator is.

    Example: [cyan]mmalign data votes runs/votes.jsonl -o runs/pairs.jsonl[/]
    """
    from pipelines import votes as pipeline

    pipeline.run(input, output=output, method=method, symmetric=symmetric)  # type: ignore[arg-type]


@app.command("shapes")
def data_shapes(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder that is written.")] = Path(
        "runs/shapes"
    ),
    num_prompts: Annotated[int, typer.Option(help="How many prompts.")] = 64,
    num_candidates: Annotated[int, typer.Option(help="Pictures per prompt.")] = 4,
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
    seed: Annotated[int, typer.Option(help="The same seed draws the same data.")] = 0,
    temperature: Annotated[float, typer.Option(help="How unsure the simulated annotator is.")] = 0.1,
    tie_width: Annotated[float, typer.Option(help="1: no ties; larger: more ties.")] = 1.0,
) -> None:
    """Prompts, pictures and preference pairs of the built-in world.

    Example: [cyan]mmalign data shapes --num-prompts 200 --split heldout -o runs/heldout[/]
    """
    from pipelines import data as pipeline

    pipeline.draw_shapes(
        output,
        num_prompts=num_prompts,
        num_candidates=num_candidates,
        split=split,
        seed=seed,
        temperature=temperature,
        tie_width=tie_width,
    )
