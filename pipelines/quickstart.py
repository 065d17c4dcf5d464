"""The verb `quickstart`: the whole loop on this machine, told in plain words, written into one folder.

1. What is bundled: a tiny generator and a tiny reward model; `--from-scratch` makes them anew first.
2. What they do before anything is tuned, on held-out prompts, graded by the exact verifier.
3. The generator is aligned to the *learned* reward with LoRA, by the recipe `quickstart`.
4. The same prompts and seeds again; the report.

The folder: `report.html`, `before-after.png`, `metrics.json`, `lora/`, `config.yaml`, and the run's own logs. Started
again on its own folder it goes on where it stopped; after Ctrl-C too.

Shapes: media is (B, T, C, H, W) in [0, 1].
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmalign import console
from mmalign.config import Recipe, load_recipe, to_yaml

if TYPE_CHECKING:
    from torch import Tensor

    from mmalign.train.alignment import Alignment
    from mmalign.train.loop import Counters, Trainer
    from pipelines.quickstart_report import Report

RECIPE = "quickstart"
NUM_SHOWN, NUM_IN_PICTURE = 24, 12
STARTED, MODELS = "config.yaml", "models"


def run(
    output: Path | str = "runs/quickstart",
    from_scratch: bool = False,
    seed: int = 0,
    *,
    overrides: Sequence[str] = (),
) -> Path:
    """The quickstart; the path of its report. `overrides` are further settings of the recipe."""
    folder = Path(output)
    recipe = load_recipe(RECIPE, [f"output={json.dumps(str(folder))}", f"seed={seed}", *overrides])
    check_folder(folder)
    started = time.perf_counter()
    say(f"mmalign quickstart: everything goes into {folder}. Ctrl-C stops it; the same command goes on.\n")
    try:
        with offline():
            if from_scratch:
                recipe = retrained(recipe, folder / MODELS)
            trainer, task = load(recipe)
            earlier = trained_before(trainer, folder)
            counters = trainer.train()
            say("\n4. The same prompts and seeds again, and the report")
            report, metrics = collect(folder, recipe, task, counters)
    except KeyboardInterrupt:
        say(f"\nStopped. What was done is kept in {folder}: the same command goes on from there.")
        raise
    metrics["seconds"] = round(earlier + time.perf_counter() - started, 1)
    return finish(folder, report, metrics)


def say(words: str) -> None:
    """A line for the person who waits."""
    print(words, flush=True)


def check_folder(folder: Path) -> None:
    """A folder of other things is refused; one of an earlier quickstart is continued."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give --output a folder")
    ours = any((folder / name).exists() for name in (STARTED, MODELS))
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise ValueError(f"{folder} holds files of something else: give --output a new or empty folder")


@contextmanager
def offline() -> Iterator[None]:
    """Inside, the hub is not asked for anything: all that is needed is bundled."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


# ---------------------------------------------------------------- the steps


def retrained(recipe: Recipe, models: Path) -> Recipe:
    """Every bundled artefact made anew by its shipped recipe, into `models`; the recipe that uses them."""
    say(
        "0. Retraining what is bundled, from drawn pictures: autoencoder, both generators, reward model (hours)"
    )
    from pipelines import pretrain, train_reward

    pretrain.train_autoencoder(models / "vae")
    for kind in pretrain.GENERATORS:
        pretrain.train_generator(kind, models / "vae", models / kind)
    train_reward.run("reward/shapes", [f"output={json.dumps(str(models / 'reward'))}"])
    learned = str(models / "reward" / "reward")
    model = recipe.model.model_copy(update={"path": str(models / "flow")})
    rewards = tuple(reward.model_copy(update={"name": learned}) for reward in recipe.rewards)
    return recipe.model_copy(update={"model": model, "rewards": rewards})


def load(recipe: Recipe) -> tuple[Trainer, Alignment]:
    """Step 1: the generator with a fresh LoRA, the reward model, the verifier."""
    say("1. Loading the generator and the reward model")
    console.hide_hints()
    console.hide_bars()
    from pipelines import train

    def watch(iteration: int, row: Mapping[str, float]) -> None:
        if iteration == 0:
            introduce(Path(recipe.output))

    return train.compose(recipe, watch=watch, say=lambda words: say(f"   {words}"))


def trained_before(trainer: Trainer, folder: Path) -> float:
    """Say what is there already; the seconds that earlier calls have trained."""
    from mmalign.train import checkpoint

    newest = checkpoint.newest(folder)
    if newest is None:
        say("\n2. What the generator draws now, on held-out prompts, graded by the exact verifier")
        return 0.0
    done = checkpoint.load(newest)
    total = trainer.run.iterations
    if done.iteration >= total:
        say(f"\n3. {folder} holds a finished run: nothing is trained again, the report is written anew")
    else:
        say(f"\n3. Going on after iteration {done.iteration} of {total}")
    return float(done.counters["seconds"])


def introduce(folder: Path) -> None:
    """Step 2, told: what the base does, and how the learned reward orders it."""
    from pipelines import quickstart_results as results
    from pipelines.charts import percent

    base = results.read_evaluation(folder, 0)
    for graded in [one for one in base if one.seed == 0][:6]:
        say(f"   {'right' if graded.passed else 'wrong'}  reward {graded.proxy:6.2f}  {graded.prompt}")
    share = results.share(base)
    say(
        f"   {percent(share.mean)} of {share.n} pictures are right ({percent(share.low)} to {percent(share.high)})."
    )
    agreement = results.judge(base).agreement
    if agreement is not None:
        say(f"   The reward model scores a right picture above a wrong one {percent(agreement)} of the time.")
    say("\n3. Aligning the generator to the reward model; the verifier only watches")


def collect(
    folder: Path, recipe: Recipe, task: Alignment, counters: Counters
) -> tuple[Report, dict[str, Any]]:
    """Step 4: everything the report says, and the figures for `metrics.json`."""
    from pipelines import quickstart_listing as listing
    from pipelines import quickstart_results as results
    from pipelines.quickstart_report import Report

    base = results.read_evaluation(folder, 0)
    aligned = results.read_evaluation(folder, recipe.budget.iterations)
    pictures = drawn(task, recipe, "reference"), drawn(task, recipe, task.best_weights)
    gold, proxy = results.gold_change(base, aligned), results.proxy_change(base, aligned)
    gold_curve, proxy_curve = results.curves(folder)
    rows = results.gallery(base, aligned, pictures)[:NUM_SHOWN]
    report = Report(
        gold=gold,
        proxy=proxy,
        gold_curve=gold_curve,
        proxy_curve=proxy_curve,
        outcomes=results.outcomes(base, aligned),
        categories=results.by_category(base, aligned),
        rows=rows,
        selection=f"The first {len(rows)} prompts of {len(base)} graded pairs, not chosen by result.",
        judge=results.judge(base, pictures[0]),
        facts=listing.facts(recipe, task, counters, len(base)),
        commands=listing.commands(folder, recipe),
        files=listing.FILES,
        recipe=to_yaml(recipe),
    )
    metrics = {
        name: {"base": change.base.as_dict(), "aligned": change.aligned.as_dict()}
        for name, change in (("gold", gold), ("proxy", proxy))
    }
    return report, metrics


def drawn(task: Alignment, recipe: Recipe, weights: str) -> Tensor:
    """The first pictures of an evaluation, drawn again in the batch they were graded in."""
    assert task.examination is not None
    settings = recipe.evaluation
    num = min(settings.batch_size, settings.num_prompts * settings.seeds_per_prompt)
    _, media = task.examination.samples(range(num), weights)
    return media.cpu()


def finish(folder: Path, report: Report, metrics: Mapping[str, Any]) -> Path:
    """Write the report and the figures, and say where they are."""
    from pipelines import gallery, quickstart_report

    path = quickstart_report.write(report, folder / "report.html")
    gallery.save_sheet(report.rows[:NUM_IN_PICTURE], folder / "before-after.png")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    say(f"\n{quickstart_report.headline(report)}")
    for words in quickstart_report.story(report)[1:]:
        say(f"   {words}")
    say(f"\nThe report ({metrics['seconds']:.0f} s in all): {path}")
    say(f"Side by side in the browser:\n\n   {report.commands[0][1]}\n")
    return path
