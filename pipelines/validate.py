"""The verb `validate`: what a recipe comes to, before anything heavy is loaded.

It shows the resolved YAML, the batch arithmetic on a number of processes, and an estimate of the memory of one
process, read from the headers of the model's safetensors files: weights, trained parameters with gradients and
AdamW's two moments, further copies (old, EMA, reference), stored trajectories. Activations are not included. Of stored
data every line and the header of every medium is read: what cannot be used, or is of another size than most, is told.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmalign.config import Recipe, load_recipe, to_yaml
from mmalign.console import counted
from mmalign.data.prompts import plan
from pipelines import checks

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Memory:
    """Bytes of one process."""

    weights: int
    trained: int  # trained parameters
    optimizer: int  # gradients and two moments
    copies: int
    trajectories: int

    @property
    def total(self) -> int:
        return self.weights + 4 * self.trained + self.optimizer + self.copies + self.trajectories


def component_shapes(folder: Path) -> Shapes:
    """Names and shapes of the tensors of one component of a pipeline, from the headers of its files."""
    shapes: Shapes = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        shapes |= {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    return shapes


def count(shapes: Shapes) -> int:
    """The number of values."""
    return sum(_product(shape) for shape in shapes.values())


def _product(shape: Sequence[int]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def lora_parameters(shapes: Shapes, targets: Sequence[str], rank: int) -> int:
    """Parameters of a LoRA on the modules whose names end in a target: rank x (in + out) each."""
    total = 0
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if module == name or len(shape) < 2:
            continue
        if any(module == target or module.endswith(f".{target}") for target in targets):
            total += rank * (shape[0] + _product(shape[1:]))
    return total


def num_copies(recipe: Recipe) -> int:
    """Further copies of the trained parameters that the method and the averaging keep."""
    method = recipe.method
    copies = int(recipe.ema is not None) + int(method.name == "nft")
    if method.name in ("dpo", "npo"):
        copies += int(method.update_reference_every is not None)
    return copies + int(recipe.model.weights == "full")


def estimate(recipe: Recipe, folder: Path, *, num_processes: int) -> Memory:
    """The memory of one process for a pipeline folder on disk."""
    from mmalign.policies.registry import family_named, pipeline_config

    family = family_named(str(pipeline_config(folder)["_class_name"]))
    components = {path.name: component_shapes(path) for path in folder.iterdir() if path.is_dir()}
    network = components.get(family.component, {})
    if not network:
        raise ValueError(f"{folder} has no safetensors files under {family.component}/")
    full = recipe.model.weights == "full"
    targets = recipe.model.lora.targets or family.lora_targets
    trained = count(network) if full else lora_parameters(network, targets, recipe.model.lora.rank)
    samples = recipe.rollout.groups_per_iteration * recipe.rollout.group_size // num_processes
    return Memory(
        weights=BYTES[recipe.model.dtype] * sum(count(shapes) for shapes in components.values()),
        trained=0 if full else trained,
        optimizer=12 * trained,
        copies=4 * trained * num_copies(recipe),
        trajectories=4 * samples * kept_latents(recipe) * _latent_size(folder, family.component),
    )


def kept_latents(recipe: Recipe) -> int:
    """Latents kept of each sample of an iteration: the path and the means of its steps, or the clean end."""
    steps = recipe.rollout.num_steps
    return 2 * steps + 1 if recipe.method.name == "grpo" else 1


def _latent_size(folder: Path, component: str) -> int:
    """Values of one sample's latents by the network's own configuration; 0 where it does not say."""
    config = json.loads((folder / component / "config.json").read_text(encoding="utf-8"))
    side, channels = config.get("sample_size"), config.get("in_channels")
    if side is None or channels is None:
        return 0
    sides = side if isinstance(side, list) else [side, side]
    return int(channels) * _product(sides)


def describe_memory(memory: Memory) -> str:
    """The estimate as lines of text."""
    parts = [
        ("frozen and trained weights", memory.weights + 4 * memory.trained),
        ("gradients and optimiser", memory.optimizer),
        ("further copies", memory.copies),
        ("rollouts kept", memory.trajectories),
        ("together, without activations", memory.total),
    ]
    return "\n".join(f"  {name:32}{_human(size):>12}" for name, size in parts)


def _human(size: int) -> str:
    """Bytes in the unit a person would use.

    >>> _human(1536), _human(3 * 2**30)
    ('1.5 KiB', '3.0 GiB')
    """
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def arithmetic(recipe: Recipe, *, num_processes: int = 1) -> str:
    """Batches and budget as text; a division that leaves a rest is an error."""
    settings, budget = recipe.rollout, recipe.budget
    work = plan(
        num_groups=settings.groups_per_iteration,
        group_size=settings.group_size,
        num_updates=budget.updates_per_iteration,
        num_processes=num_processes,
        rank=0,
        batch_size=settings.batch_size,
    )
    total = work.num_samples * budget.iterations
    updates = budget.iterations * budget.updates_per_iteration * budget.passes
    spent = (
        f"{counted(budget.iterations, 'iteration')}, {counted(updates, 'update')}, {counted(total, 'sample')}"
    )
    return f"batches: {work.describe()}\nbudget: {spent}"


def report(recipe: Recipe, *, num_processes: int = 1) -> str:
    """The whole answer as text."""
    from mmalign.shapes.bundle import model_path

    lines = [to_yaml(recipe).rstrip(), "", arithmetic(recipe, num_processes=num_processes)]
    folder = Path(model_path(recipe.model.path))
    if folder.is_dir():
        memory = describe_memory(estimate(recipe, folder, num_processes=num_processes))
        lines.append(f"memory of one process (estimate):\n{memory}")
    else:
        lines.append(f"memory: not estimated, {recipe.model.path} is not on this disk")
    if recipe.offline:
        from mmalign.train.stored import describe_rows, read_rows

        lines.append(f"data: {describe_rows(recipe, *read_rows(recipe))}")
    return "\n".join(lines)


def run(
    config: str | Path,
    overrides: Sequence[str] = (),
    *,
    num_processes: int = 1,
    say: Callable[[str], None] = print,
) -> Recipe:
    """Validate a recipe and say what it comes to; a mistake is a ValueError of one line."""
    recipe = load_recipe(config, overrides)
    checks.recipe_rewards(recipe)
    checks.recipe_files(recipe)
    say(report(recipe, num_processes=num_processes))
    return recipe
