"""The command `mmalign`, put together from the verbs in `mmalign.commands`. Imported by nobody.

Every verb's body imports its pipeline, so that `mmalign --help` answers at once and mistakes in a recipe or an option
are told before anything heavy is loaded. A mistake is one line on stderr and exit code 2; set MMALIGN_TRACEBACK=1 to
see where it arose.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

import mmalign
from mmalign.commands import data, evaluate, look, measure, serve, start, train
from mmalign.commands.options import PANELS
from mmalign.console import tell_loading

OUR_PACKAGES = tuple(
    Path(__file__).resolve().parents[1] / n for n in ("mmalign", "rewardmodels", "pipelines", "demos")
)

app = typer.Typer(
    name="mmalign",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Align image, editing and video generators with preferences.\n\n"
        "[bold]mmalign quickstart[/] runs the whole loop on this machine in minutes. After it:\n\n"
        "[cyan]mmalign ls recipes[/]  what can be trained, by name\n\n"
        "[cyan]mmalign finetune grpo/shapes-flow optimizer.lr=1e-4[/]  train; any setting can follow as key=value\n\n"
        "[cyan]mmalign score pictures/ --reward shapes-verifier --output scores[/]  judge files\n\n"
        "Every verb explains itself: [cyan]mmalign score --help[/]. Documentation: README.md."
    ),
)
for verbs in (start, train, measure, serve, look):
    app.add_typer(verbs.app)
app.add_typer(evaluate.app, name="evaluate", rich_help_panel=PANELS["measure"])
app.add_typer(data.app, name="data", rich_help_panel=PANELS["measure"])


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(mmalign.__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """The entry point. Sentences meant for users become one line and exit code 2; defects keep their traceback."""
    # Importing diffusers makes xformers warn wherever it has no GPU; `mmalign env` proves backends by real calls.
    logging.getLogger("xformers").setLevel(logging.ERROR)
    tell_loading()
    try:
        app(args=arguments)
    except ValueError as problem:
        if os.environ.get("MMALIGN_TRACEBACK") or not _said_by_us(problem):
            raise
        print(f"mmalign: {' '.join(str(problem).split())}", file=sys.stderr)
        raise SystemExit(2) from problem
    except KeyboardInterrupt:
        print("mmalign: stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `mmalign ls | head`
        sys.stderr.close()
        raise SystemExit(0) from None


def _said_by_us(problem: BaseException) -> bool:
    """Whether the error was raised in our own lines, and so is a sentence for users."""
    frames: list[Any] = list(traceback.walk_tb(problem.__traceback__))
    place = Path(frames[-1][0].f_code.co_filename).resolve()
    return any(folder in place.parents for folder in OUR_PACKAGES)


if __name__ == "__main__":
    main()
