"""Where to start: the whole loop at once, and the side-by-side page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmalign.commands.options import PANELS, Loras, Models, Overrides, Rewards

app = typer.Typer()


@app.command(rich_help_panel=PANELS["start"])
def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder that is written.")] = Path(
        "runs/quickstart"
    ),
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Retrain every bundled model it uses first.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another seed, another run.")] = 0,
    overrides: Overrides = None,
) -> None:
    """The whole loop on this machine, without a GPU, in minutes.

    Loads a tiny generator and a reward model learned from preference pairs, aligns the one to the other, measures with
    an exact judge on held-out prompts, and writes a report with pictures.

    Example: [cyan]mmalign quickstart --output runs/first[/]
    """
    from pipelines import quickstart as pipeline

    pipeline.run(output, from_scratch=from_scratch, seed=seed, overrides=overrides or [])


@app.command(rich_help_panel=PANELS["start"])
def demo(
    model: Models = None,
    lora: Loras = None,
    reward: Rewards = None,
    host: Annotated[
        str, typer.Option(help="The address to serve on; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to serve on.")] = 7860,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance.")] = 1.0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the browser.")] = False,
) -> None:
    """The same prompt and seed through several generators, side by side in the browser.

    Example: [cyan]mmalign demo --lora aligned=runs/quickstart/lora --reward shapes-reward[/]
    """
    from demos import compare

    compare.launch(
        model or (),
        lora or (),
        reward or (),
        host=host,
        port=port,
        device=device,
        num_steps=steps,
        guidance=guidance,
        open_browser=open_browser,
    )
