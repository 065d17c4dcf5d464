"""What the quickstart's report lists beside its figures: the run, the commands to go on with, the files."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from mmalign.config import Recipe
from mmalign.train.alignment import Alignment
from mmalign.train.loop import Counters

BUNDLED = "shapes-flow"
FILES = (
    ("report.html", "this page"),
    ("before-after.png", "its first pictures as one"),
    ("metrics.json", "gold and proxy before and after"),
    ("lora/", "for pipe.load_lora_weights()"),
    ("config.yaml", "every setting, resolved"),
    ("evaluations/", "every graded picture's scores"),
    ("metrics.jsonl", "one line an iteration"),
    ("samples/", "grids during training"),
)


def facts(
    recipe: Recipe, task: Alignment, counters: Counters, num_graded: int
) -> tuple[tuple[str, str], ...]:
    """The run in figures."""
    samples = recipe.budget.iterations * task.plan.num_samples
    trained = sum(parameter.numel() for parameter in task.parameters())
    minutes, seconds = divmod(round(counters.seconds), 60)
    return (
        ("method", f"{recipe.method.name} with LoRA of rank {recipe.model.lora.rank}"),
        ("trained parameters", f"{trained:,}"),
        ("pictures made to learn from", f"{samples:,}"),
        ("training and evaluating", f"{minutes} min {seconds} s"),
        ("processors", f"{os.cpu_count()} cores, {task.policy.device.type}"),
        ("graded pictures a side", f"{num_graded:,}"),
        ("seed", str(recipe.seed)),
    )


def commands(folder: Path, recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """What to type next, the demo first."""
    program, settings = command(), recipe.evaluation
    base = "" if recipe.model.path == BUNDLED else f" --model base={shlex.quote(recipe.model.path)}"
    names = (*(reward.name for reward in recipe.rewards), *(reward.name for reward in settings.rewards))
    chosen = f"{base} --lora aligned={shlex.quote(str(folder / 'lora'))}"
    chosen += "".join(f" --reward {shlex.quote(name)}" for name in names)
    measured = shlex.quote(str(folder.parent / "evaluation"))
    return (
        (
            "Compare base and aligned side by side, with prompts of your own",
            f"{program} demo{chosen} --steps {settings.num_steps} --guidance {settings.guidance:g}",
        ),
        (
            "Measure again with other noise",
            f"{program} evaluate generator{chosen} -o {measured} sampling.num_steps={settings.num_steps} "
            f"sampling.guidance={settings.guidance:g}",
        ),
        ("Align with another method", f"{program} finetune grpo/shapes-flow output=runs/grpo"),
        ("See what else can be trained", f"{program} ls recipes"),
    )


def command() -> str:
    """How `mmalign` is called from here: by name if it is on the path, otherwise through this environment."""
    mine = Path(sys.executable).parent / "mmalign"
    found = shutil.which("mmalign")
    if found is not None and Path(found).resolve() == mine.resolve():
        return "mmalign"
    if not mine.is_file():
        return f"{shlex.quote(sys.executable)} -m mmalign"
    here = Path.cwd()
    return shlex.quote(str(mine.relative_to(here) if mine.is_relative_to(here) else mine))
