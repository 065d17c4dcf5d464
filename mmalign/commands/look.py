"""What is there: `ls` and `env`."""

from __future__ import annotations

from typing import Annotated

import typer

from mmalign.commands.options import PANELS

app = typer.Typer()


@app.command(rich_help_panel=PANELS["look"])
def ls(
    what: Annotated[
        str | None, typer.Argument(help="rewards, policies, recipes or models; all without.")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One reward, to be told all of it.")] = None,
) -> None:
    """What is there: rewards, policy families, recipes, bundled models.

    Examples: [cyan]mmalign ls recipes[/], [cyan]mmalign ls rewards pickscore[/]
    """
    from pipelines import ls as pipeline

    pipeline.run(what, name)


@app.command(rich_help_panel=PANELS["look"])
def env(
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Versions, devices and working attention backends: paste this into a bug report."""
    from pipelines import env as pipeline

    pipeline.run(as_json=json)
