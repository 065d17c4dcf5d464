"""What several verbs take, told once: options and arguments with their help, and the panels `--help` shows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

PANELS = {"start": "Start here", "train": "Train", "measure": "Generate and measure", "look": "Look around"}

Recipe = Annotated[
    str,
    typer.Argument(help="A shipped recipe (see `mmalign ls recipes`) or a YAML file.", show_default=False),
]


SAMPLING = (
    "sampling.num_steps, sampling.seed, sampling.batch_size, sampling.size, sampling.num_frames, sampling.fps"
)


def settings(example: str, others: str) -> Any:
    """The argument KEY=VALUE of a verb that reads settings; `others` are those that no option sets."""
    told = f"Further settings by name, e.g. {example}; also {others}."
    return typer.Argument(metavar="[KEY=VALUE]...", help=told, show_default=False)


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Further settings by name, e.g. optimizer.lr=1e-4",
        show_default=False,
    ),
]
Config = Annotated[
    str | None, typer.Option(help="A YAML file with the settings; options and key=value go over it.")
]
Rewards = Annotated[
    list[str] | None,
    typer.Option(
        "--reward",
        help="A reward: a name (`mmalign ls rewards`), a folder, module:function or a YAML file, under whose file name "
        "its scores are filed. Repeatable.",
    ),
]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="A generator, `name=path` to name it. Repeatable.")
]
Loras = Annotated[
    list[str] | None, typer.Option("--lora", help="A LoRA on the first model, `name=folder`. Repeatable.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or auto.")]
Resamples = Annotated[
    int, typer.Option("--resamples", min=20, help="Bootstrap resamples behind the intervals.")
]
Output = Annotated[str | None, typer.Option("--output", "-o", help="Where the result goes.")]
