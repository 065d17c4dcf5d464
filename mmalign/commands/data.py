"""The verbs under `mmalign data`: preference data made, imported, exported, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmalign.commands.options import Config, Output, settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Preference data: make, import, check.")


class ListsFormats(typer.core.TyperCommand):
    """Its help ends with the formats, which are looked up only when it is asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The usual help and the list."""
        from mmalign.data.importing import listing

        self.epilog = "\n\n".join(("Formats:", *(f"[cyan]{name}[/]  {about}" for name, about in listing())))
        super().format_help(ctx, formatter)


@app.command("import", cls=ListsFormats)
def data_import(
    format_or_path: Annotated[
        str,
        typer.Argument(
            metavar="[FORMAT] PATH",
            help="A format of the list below (or auto: told by the columns), and the published file or folder.",
            show_default=False,
        ),
    ],
    path: Annotated[Path | None, typer.Argument(hidden=True)] = None,
    format: Annotated[str, typer.Option(help="The same as naming it before the path.")] = "auto",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .jsonl or .parquet file that is written.")
    ] = Path("pairs.jsonl"),
    split: Annotated[str, typer.Option(help="The split these comparisons belong to.")] = "train",
    media_root: Annotated[
        Path | None, typer.Option(help="Where the published media paths start; the file's folder without.")
    ] = None,
    extract: Annotated[
        bool, typer.Option("--extract", help="Write pictures that lie inside tables as files of their own.")
    ] = False,
    min_confidence: Annotated[
        float | None, typer.Option(help="Leave out rows that state a lower confidence (HPDv3).")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="What became of the rows, as JSON.")] = None,
) -> None:
    """A published format into mmalign's own (mmalign.pref/1, .jsonl or .parquet).

    A bad row is told with its file and line and harms no other; then the exit code is 3.

    Example: [cyan]mmalign data import videoalign example.csv -o runs/videoalign.jsonl[/]
    """
    from pipelines import data as pipeline

    name, place = (format_or_path, path) if path is not None else (format, Path(format_or_path))
    if pipeline.import_file(
        place,
        format=name,
        output=output,
        split=split,
        media=media_root,
        extract=extract,
        min_confidence=min_confidence,
        report=report,
    ).num_bad:
        raise typer.Exit(3)


@app.command("export")
def data_export(
    input: Annotated[
        Path, typer.Argument(help="Comparisons, mmalign.pref/1 .jsonl or .parquet.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help=".parquet, .jsonl, or a folder for Hugging Face `datasets`."),
    ],
    embed: Annotated[bool, typer.Option("--embed", help="Put the media into the table.")] = False,
    media_root: Annotated[
        Path | None, typer.Option(help="Where media paths start; the file's folder without.")
    ] = None,
) -> None:
    """mmalign's own comparisons as parquet, JSONL or a `datasets` folder; reading them back gives the same.

    A bad line is told and harms no other; then the exit code is 3.

    Example: [cyan]mmalign data export runs/videoalign.jsonl -o runs/videoalign.parquet[/]
    """
    from pipelines import data as pipeline

    if pipeline.export_file(input, output=output, embed=embed, root=media_root).num:
        raise typer.Exit(3)


@app.command("check")
def data_check(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Comparisons, mmalign.pref/1 .jsonl or .parquet.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The JSON report; printed anyway.")
    ] = None,
    media: Annotated[bool, typer.Option(help="Read every medium, too.")] = True,
    media_root: Annotated[
        Path | None, typer.Option(help="Where media paths start; each file's folder without.")
    ] = None,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Download what is named by URL.")] = False,
) -> None:
    """Missing and damaged media, bad lines, duplicates, contradictions, leaks between splits; balance of labels and
    positions, ties, win rates, agreement of annotators. Several files are checked together. Exit code 3 on faults,
    which must be mended; what is marked as a note is for judgement.

    Example: [cyan]mmalign data check runs/train.jsonl runs/test.jsonl[/]
    """
    from pipelines import data as pipeline

    if pipeline.check_files(
        inputs, output=output, with_media=media, root=media_root, allow_http=allow_http
    ).faults:
        raise typer.Exit(3)


@app.command("synthesize")
def data_synthesize(
    input: Annotated[
        str | None,
        typer.Argument(
            help="A folder from `mmalign generate`, or JSONL as `mmalign score` takes it.", show_default=False
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        settings(
            "batch_size=8",
            "dimension, split, workers, fps, max_frames, filters.floor, filters.top_share, filters.helper_margin, "
            "filters.helpers_needed, filters.pair_confidence, filters.temperature",
        ),
    ] = None,
    config: Config = None,
    reward: Annotated[str | None, typer.Option(help="The reward that orders the samples.")] = None,
    helper: Annotated[
        list[str] | None, typer.Option("--helper", help="A further reward that must agree. Repeatable.")
    ] = None,
    pairwise: Annotated[
        str | None, typer.Option(help="A judge of pairs that must name the same winner.")
    ] = None,
    rank: Annotated[
        str | None,
        typer.Option(help="all pairs, extremes (best against worst), or k: best k against worst k."),
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Scores must differ by so much.")] = None,
    output: Output = None,
) -> None:
    """Preference pairs out of a generator's samples: scored, and only sure pairs kept; says what was dropped and why.

    Held in memory: the scores of all samples and the pairs they let pass; of media one batch (batch_size samples, or
    pairs for --pairwise).

    Example: [cyan]mmalign data synthesize runs/pictures --reward shapes-reward --helper shapes-verifier
    --rank extremes --margin 0.2 -o runs/synthetic.jsonl[/]

    A reward with options stands in a --config file: [cyan]pairwise: {name: judge, options: {config: unifiedreward-pair,
    server: http://127.0.0.1:8000/v1, model: NAME}}[/]
    """
    from pipelines import settings
    from pipelines.synthesis import Synthesize

    words = list(overrides or [])
    if input is not None and "=" in input and not Path(input).exists():
        words, input = [input, *words], None
    given = {
        "input": input,
        "reward": reward,
        "helpers": [{"name": name} for name in helper or []],
        "pairwise": None if pairwise is None else {"name": pairwise},
        "filters.rank": int(rank) if rank is not None and rank.isdigit() else rank,
        "filters.margin": margin,
        "output": output,
    }
    wanted = settings.gather(Synthesize, config, given, words, verb="data synthesize")
    from pipelines import synthesize as pipeline

    pipeline.run(wanted)


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

    A bad line is told and harms no other; then the exit code is 3.

    Example: [cyan]mmalign data votes runs/votes.jsonl -o runs/pairs.jsonl[/]
    """
    from pipelines import votes as pipeline

    if pipeline.run(input, output=output, method=method, symmetric=symmetric)["left_out"]:  # type: ignore[arg-type]
        raise typer.Exit(3)


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
