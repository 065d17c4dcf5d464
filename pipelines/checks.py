"""What a recipe names is there: its rewards by name and option, its data as files that hold what is asked of them.

Imports no torch and loads nothing, so mistakes are told at once. A file of comparisons is read until one of them says
what is wanted; `mmalign data check` looks at all of it, media too.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from mmalign import hub
from mmalign.comparison import Comparison
from mmalign.composition import Reward, with_files
from mmalign.config import Recipe
from mmalign.data import formats
from mmalign.data.labels import PairLabel, annotator_of, critiques_of, views
from mmalign.data.rows import open_rows
from mmalign.lines import numbered_lines
from rewardmodels.catalog import require_known

PROMPTS = ("shapes:train", "shapes:heldout")
Kind = tuple[type, ...]
NUMBER: Kind = (int, float)
TEXTS: dict[str, Kind] = {"prompt": (str,), "media": (str,)}
"""What a row of stored samples must have."""
Said = Callable[[Comparison, Collection[str]], bool]
"""Whether a comparison says what is wanted of one of the dimensions."""


def require_rewards(rewards: Iterable[Reward]) -> None:
    """ValueError for the first reward without such a name or option, at any depth and in the YAML files they name."""
    for reward in map(with_files, rewards):
        if reward.rewards:
            require_rewards(reward.rewards)
        else:
            require_known(reward.name, reward.options)


def require_files(named: Mapping[str, str | None], built_in: Collection[str] = ()) -> None:
    """ValueError for the first key of a recipe whose value is neither built in nor a file.

    >>> require_files({"data.pairs": "shape"}, ("shapes",))
    Traceback (most recent call last):
    ValueError: 'data.pairs': no such file shape; did you mean 'shapes'?
    """
    for key, name in named.items():
        if name is None or name in built_in or Path(name).is_file():
            continue
        if Path(name).is_dir():
            raise ValueError(f"'{key}': {name} is a folder: name a file in it")
        near = difflib.get_close_matches(name, built_in, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        hint = hint or (f"; built in are {', '.join(built_in)}" if built_in else "")
        raise ValueError(f"'{key}': no such file {name}{hint}")


def recipe_rewards(recipe: Recipe) -> None:
    """`require_rewards` of all that a fine-tuning recipe names."""
    require_rewards((*recipe.rewards, *recipe.evaluation.rewards))


def recipe_files(recipe: Recipe) -> None:
    """ValueError where the model or the data of a fine-tuning recipe are not there, or not such as its method reads."""
    data = recipe.data
    require_files({"data.pairs": data.pairs, "data.samples": data.samples})
    for key, name in (("data.prompts", data.prompts), ("data.heldout", data.heldout)):
        if name is not None:
            require_prompts(key, name)
    if data.pairs is not None:
        require_comparisons("data.pairs", data.pairs, ("overall",), prefers)
    if data.samples is not None:
        weighed = {"reward": NUMBER} if recipe.method.name == "rwr" else {}
        require_first_row("data.samples", data.samples, TEXTS | weighed)
    require_model("model.path", recipe.model.path)


def require_model(key: str, name: str) -> None:
    """ValueError for what is neither a bundled model, nor a folder, nor the name of a hub repository."""
    if Path(name).is_dir() or hub.is_id(name):
        return
    require_start(key, name)


def require_start(key: str, name: str, *, hub_too: bool = True) -> None:
    """ValueError for what a model cannot be loaded from: no bundled model, no folder (or file), nor, if so asked, the
    name of a hub repository.
    """
    if Path(name).exists() or (hub_too and hub.is_id(name)):
        return
    from mmalign.shapes.bundle import model_path  # imports torch, like all of the world

    try:
        place = model_path(name)
    except ValueError as problem:
        raise ValueError(f"'{key}': {problem}") from problem
    if Path(place).exists():
        return
    more = ", and it is no hub id such as owner/name" if hub_too else ""
    raise ValueError(f"'{key}': no such folder {name}{more}")


def require_prompts(key: str, name: str) -> None:
    """ValueError for a file without prompts, and for a part of the built-in world that it has not."""
    if name in PROMPTS:
        return
    if name.startswith("shapes:"):
        from mmalign.shapes.prompts import read_source  # imports torch, like all of the world

        try:
            read_source(name)
        except ValueError as problem:
            raise ValueError(f"'{key}': {problem}") from problem
        return
    require_files({key: name}, PROMPTS)
    if name.endswith(".txt"):
        if next(numbered_lines(Path(name)), None) is None:
            raise ValueError(f"'{key}': {name} is empty: write a prompt a line")
    elif name.endswith(".jsonl"):
        require_first_row(key, name, {"prompt": TEXTS["prompt"]})
    else:
        raise ValueError(f"'{key}': {name} must end in .txt (a prompt a line) or .jsonl")


def require_first_row(key: str, name: str, fields: Mapping[str, Kind]) -> None:
    """ValueError where the first line of a JSONL file lacks a field, or holds another kind of value in it."""
    number, line = next(numbered_lines(Path(name)), (0, ""))
    if not line:
        raise ValueError(f"'{key}': {name} is empty")
    try:
        row = json.loads(line)
    except json.JSONDecodeError as problem:
        raise ValueError(f"'{key}': {name}:{number} is not valid JSON ({problem.msg})") from problem
    for field, kind in fields.items():
        if not isinstance(row, dict) or not isinstance(row.get(field), kind):
            what = "a number" if kind is NUMBER else "text"
            has = f"; it has {', '.join(row)}" if isinstance(row, dict) and row else ""
            raise ValueError(f"'{key}': {name}:{number} must have {what} in the field '{field}'{has}")


def require_comparisons(key: str, name: str, dimensions: Collection[str], said: Said) -> None:
    """ValueError for a file in which no comparison says what is wanted of one of the dimensions."""
    bad: list[str] = []
    found: dict[str, None] = {}
    for comparison in formats.read(name, on_error=lambda _, why: bad.append(why)):
        found |= {f"{note.dim} ({note.kind})": None for note in comparison.annotations}
        if said(comparison, dimensions):
            return
    if not found:
        why = f" that can be read: {bad[0]}" if bad else ""
        raise ValueError(f"'{key}': {name} holds no judged comparison{why}")
    raise ValueError(
        f"'{key}': {name} holds no {WANTED[said]} of {' or '.join(dimensions)}; it has {', '.join(found)}"
    )


def bad_lines(name: str, dimensions: Collection[str]) -> list[str]:
    """The lines of a file that are no comparisons, each with the reason; a training leaves them out."""
    rows, bad = open_rows(Path(name)), []
    for place in range(len(rows)):
        try:
            _pairs(formats.parsed(rows.record(place)), dimensions)
        except formats.BROKEN as problem:
            bad.append(f"{Path(name).name}:{rows.number(place)}: {formats.in_words(problem)}")
    return bad


def require_every(key: str, name: str, dimensions: Collection[str]) -> None:
    """ValueError for the first pair of a file that is decided in some of the dimensions and not in all of them."""
    rows = open_rows(Path(name))
    for place in range(len(rows)):
        try:
            labels = _pairs(formats.parsed(rows.record(place)), dimensions)
        except formats.BROKEN:
            continue
        decided: dict[tuple[int, ...], set[str]] = {}
        for label in labels:
            if label.p is not None:
                decided.setdefault(tuple(sorted((label.i, label.j))), set()).add(label.dim)
        for said in decided.values():
            lacking = [dim for dim in dimensions if dim not in said]
            if lacking:
                raise ValueError(
                    f"'{key}': {name}:{rows.number(place)} has a pair without a label of {' and '.join(lacking)}: "
                    "method.fit_overall needs all of them; label it, leave the pair out, or set it to false"
                )


def decides(comparison: Comparison, dimensions: Collection[str]) -> bool:
    """Whether a pair is decided, be it as a tie."""
    return any(label.valid and label.p is not None for label in _pairs(comparison, dimensions))


def prefers(comparison: Comparison, dimensions: Collection[str]) -> bool:
    """Whether a pair has a winner."""
    return any(label.valid and label.p not in (None, 0.5) for label in _pairs(comparison, dimensions))


def rates(comparison: Comparison, dimensions: Collection[str]) -> bool:
    """Whether candidates have ratings."""
    return any(note.kind == "rating" and note.dim in dimensions for note in comparison.annotations)


def names_annotators(comparison: Comparison, dimensions: Collection[str]) -> bool:
    """Whether a decided pair says who judged it."""
    labels = [label for label in _pairs(comparison, dimensions) if label.valid]
    return any(annotator_of(comparison, label) is not None for label in labels)


def criticises(comparison: Comparison, dimensions: Collection[str]) -> bool:
    """Whether something is said of candidates in words."""
    return bool(critiques_of(comparison))


def _pairs(comparison: Comparison, dimensions: Collection[str]) -> list[PairLabel]:
    return views(comparison.annotations, dimensions=tuple(dimensions)).pairs


WANTED: Mapping[Said, str] = {
    decides: "preferences", prefers: "preferences with a winner", rates: "ratings",
    names_annotators: "votes that name their annotators", criticises: "critiques beside the preferences",
}  # fmt: skip
