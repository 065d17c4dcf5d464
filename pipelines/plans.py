"""What a recipe of a reward model or a judge comes to, before anything heavy is loaded: its kind, that its data are
there and say what it learns from, and its arithmetic. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mmalign.config import find_recipe, load_config
from mmalign.console import counted
from mmalign.data.rows import open_rows
from mmalign.strict import read_yaml
from pipelines import checks
from rewardmodels.catalog import CONFIG
from rewardmodels.clip.recipe import ClipRecipe
from rewardmodels.judges.probability_recipe import ChecklistRecipe
from rewardmodels.judges.recipes import SCHEMAS, AnyJudge, kind_of
from rewardmodels.judges.text_recipe import TextRecipe
from rewardmodels.judges.verdict_recipe import JudgeRecipe
from rewardmodels.plural_recipe import PluralRecipe
from rewardmodels.recipe import RATING_LOSSES, WORLDS, PairData, RewardRecipe, places_of, require_own
from rewardmodels.recipe import Budget as PairBudget
from rewardmodels.settings import record_of

Trained = RewardRecipe | ClipRecipe
AnyRecipe = Trained | AnyJudge | PluralRecipe
MODEL_KEYS: dict[str, type[AnyRecipe]] = {
    "prototypes": PluralRecipe, "score": ClipRecipe, "template": RewardRecipe, "head": RewardRecipe,
    "scratch": RewardRecipe, "name": RewardRecipe,
}  # fmt: skip
"""By a key of the section `model` what a recipe trains: a personal model has prototypes, one of CLIP a score."""

SHOWN = 2
"""Bad lines of a file that are told with their reasons."""


def schema_of(recipe: str | Path) -> type[AnyRecipe] | None:
    """The schema of a recipe that trains a reward or a judge; None for one of a generator."""
    held = read_yaml(find_recipe(recipe))
    if "judge" in held:
        return SCHEMAS[kind_of(recipe)]
    model = held.get("model")
    if not isinstance(model, dict):
        return None
    return next((schema for key, schema in MODEL_KEYS.items() if key in model), None)


def require_verb(recipe: str | Path, verb: str) -> None:
    """ValueError for a recipe that, by its sections, another verb takes."""
    held = read_yaml(find_recipe(recipe))
    taken = "finetune" if "name" in (held.get("method") or {}) else None
    if schema_of(recipe) is not None:
        taken = "train-judge" if "judge" in held else "train-reward"
    if taken not in (None, verb):
        raise ValueError(f"{recipe} is a recipe of `mmalign {taken}`, not of `mmalign {verb}`")


def resolve(recipe: str | Path, overrides: Sequence[str], schema: type[AnyRecipe]) -> AnyRecipe:
    """The recipe with its start and data looked at; a mistake is a ValueError of one line."""
    resolved = load_config(recipe, overrides, schema)
    require_start(resolved)
    require_data(resolved)
    return resolved


def require_start(recipe: AnyRecipe) -> None:
    """ValueError for a model to go on from that is nowhere; stock models and published files may lie on the hub."""
    if isinstance(recipe, PluralRecipe):
        return
    if isinstance(recipe, RewardRecipe | ClipRecipe):
        starts = {"model.path": (recipe.model.path, isinstance(recipe, ClipRecipe))}
        if isinstance(recipe, RewardRecipe):
            starts["model.backbone"] = (recipe.model.backbone, True)
    else:
        starts = {"judge.path": (recipe.judge.path, not isinstance(recipe, JudgeRecipe))}
    for key, (name, hub_too) in starts.items():
        if name is not None:
            checks.require_start(key, name, hub_too=hub_too)


def require_data(recipe: AnyRecipe) -> None:
    """ValueError for data that are neither built in nor a file that says what the recipe learns from."""
    if isinstance(recipe, PluralRecipe):
        votes, dimension = recipe.data.votes, recipe.data.dimension
        _require("data.votes", votes, ("shapes",), (dimension,), checks.names_annotators)
    elif isinstance(recipe, RewardRecipe | ClipRecipe):
        rated = recipe.method.loss in RATING_LOSSES or recipe.data.labels == "binary"
        wanted = checks.rates if rated else checks.decides
        _require("data.pairs", recipe.data.pairs, WORLDS, recipe.method.label_dimensions, wanted)
        measured = tuple(dict.fromkeys(("overall", *recipe.method.dimensions)))
        if isinstance(recipe, ClipRecipe):
            measured = recipe.method.dimensions  # a label of another dimension says nothing of its one score
        _require("data.heldout", recipe.data.heldout, WORLDS, measured, checks.decides)
        _require("data.calibration", recipe.data.calibration, WORLDS, measured, checks.decides)
        if isinstance(recipe, RewardRecipe) and recipe.data.critiques:
            for key, name in places_of(recipe.data).items():
                _require(f"data.{key}", name, WORLDS, measured, checks.criticises)
    else:
        _require("data.pairs", recipe.data.pairs, WORLDS, ("overall",), checks.prefers)
        if isinstance(recipe, TextRecipe) and recipe.warm_up.updates and recipe.rated:
            raters = tuple(dict.fromkeys(recipe.rated.values()))
            _require("data.pairs", recipe.data.pairs, WORLDS, raters, checks.rates)
        _require("data.heldout", recipe.data.heldout, WORLDS, ("overall",), checks.decides)
    if not isinstance(recipe, PluralRecipe):
        require_kinds(recipe)
    if isinstance(recipe, RewardRecipe) and recipe.method.fit_overall:
        require_every(recipe)


def require_kinds(recipe: Trained | AnyJudge) -> None:
    """ValueError for files of another kind than the model or the judge judges, which the recipe or its start says, and
    for a file that would be measured on a built-in world.
    """
    require_own(recipe.data)
    if all(name in WORLDS for name in places_of(recipe.data).values()):
        return
    from rewardmodels import kinds  # imports torch

    if isinstance(recipe, JudgeRecipe):
        kinds.require_kinds(recipe.data, ("image",), "the data")
    elif not isinstance(recipe, RewardRecipe | ClipRecipe):
        judged = recipe.judge.settings.modalities
        kinds.require_kinds(recipe.data, judged, "one of data and judge.asks.modalities")
    else:
        chosen = recipe.model.modalities or kinds.kinds_of(recipe.data)
        judged, mend = saved_kinds(recipe.model.path) or chosen, "one of data and model.modalities"
        kinds.require_kinds(recipe.data, judged, mend, who="the reward")


def saved_kinds(path: str | None) -> tuple[Any, ...]:
    """What a reward that is gone on from judges; nothing where there is none, or none that this project saved."""
    if path is None:
        return ()
    from mmalign.shapes.bundle import model_path  # imports torch, like all of the world

    file = Path(model_path(path)) / CONFIG
    return tuple(record_of(file).get("modalities", ())) if file.is_file() else ()


def require_every(recipe: RewardRecipe) -> None:
    """ValueError for a calibration file that does not say all that the overall score is fitted on."""
    name, dimensions = recipe.data.calibration, recipe.method.dimensions
    if name is not None and name not in WORLDS and len(dimensions) > 1:
        checks.require_every("data.calibration", name, ("overall", *dimensions))


def _require(
    key: str, name: str | None, built_in: Collection[str], dimensions: Sequence[str], said: checks.Said
) -> None:
    checks.require_files({key: name}, built_in)
    if name is not None and name not in built_in:
        checks.require_comparisons(key, name, dimensions, said)


# ---------------------------------------------------------------- arithmetic


def arithmetic(recipe: AnyRecipe) -> str:
    """What will be done, as text: what an update learns from, how many there are, how much data that is, and the lines
    of files that are left out of it. No medium is opened.
    """
    if isinstance(recipe, PluralRecipe):
        return _of_votes(recipe)
    files = {key: name for key, name in places_of(recipe.data).items() if name not in WORLDS}
    return _spent(recipe) + "".join(_left_out(key, name) for key, name in files.items())


def _left_out(key: str, name: str) -> str:
    """A line where lines of a file cannot be read."""
    bad = checks.bad_lines(name, ("overall",))
    if not bad:
        return ""
    more = f", and {len(bad) - SHOWN} more; `mmalign data check` tells all" if len(bad) > SHOWN else ""
    return f"\ndata.{key}: {counted(len(bad), 'bad line')} will be left out ({'; '.join(bad[:SHOWN])}{more})"


def _spent(recipe: Trained | AnyJudge) -> str:
    data, budget = recipe.data, recipe.budget
    if isinstance(budget, PairBudget):
        num, each = budget.updates, budget.bundles_per_update
    else:
        num, each = budget.iterations, 1
    held, size, unit = _bundle(data)
    total = num * each * size
    read = f"{total:,} {unit}{_epochs(data.pairs, total)}"
    if isinstance(recipe, ChecklistRecipe):
        return f"batches: {counted(num, 'bundle')} of {held}\nbudget: one regression on {read}"
    if isinstance(recipe, JudgeRecipe | TextRecipe):
        return f"batches: an iteration draws a bundle of {held}\nbudget: {_reinforcement(recipe)}, {read}"
    learnt, spent = f"{counted(each, 'bundle')} of {held}", f"{counted(num, 'update')}, {read}"
    return f"batches: an update learns from {learnt}\nbudget: {spent}"


def _bundle(data: PairData) -> tuple[str, int, str]:
    """A bundle in words, its size, and what is counted."""
    if data.pairs not in WORLDS:
        size = data.comparisons_per_bundle
        return counted(size, "comparison"), size, "comparisons"
    how = data.shapes
    size = how.families * how.prompts * how.images
    factors = f"{how.families} families x {how.prompts} prompts x {how.images} pictures"
    return f"{factors} = {size} samples, compared in pairs", size, "samples"


def _epochs(name: str, total: int) -> str:
    """How often a file is read."""
    if name in WORLDS:
        return ""
    rows = len(open_rows(Path(name)))
    return f": {total / rows:.1f} times the {rows:,} of {Path(name).name}"


def _reinforcement(recipe: JudgeRecipe | TextRecipe) -> str:
    method, num = recipe.method, recipe.budget.iterations
    updates = counted(num * method.updates_per_iteration, "update")
    warm_up = counted(recipe.warm_up.updates, "update")
    drawn = f"{updates} on {method.answers} answers a question"
    return f"{warm_up} of warm-up, then {counted(num, 'iteration')} with {drawn}"


def _of_votes(recipe: PluralRecipe) -> str:
    data, fit = recipe.data, recipe.fit
    held = f"the votes of {data.votes}"
    if data.votes == "shapes":
        num = data.num_annotators * data.votes_each
        held = f"{data.num_annotators} annotators x {data.votes_each} votes = {num:,}"
    return (
        f"batches: every step learns from {held}, but those held out\n"
        f"budget: {counted(fit.starts, 'start')} x {counted(fit.num_steps, 'step')}"
    )
