"""Which weights an adapter must have, by the `adapter_config.json` beside it: none of them may be missing.

A pair that is lost for a whole module leaves the base's weight as it was, and nothing else would tell. peft's rules for
names are followed (`target_modules`, `exclude_modules`, `modules_to_save`, `layers_to_transform`, `layers_pattern`);
they speak of the names that modules had when the adapter was trained, so the file's own way of naming decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mmalign.console import counted

ALL_LINEAR = "all-linear"
SHOWN = 3


def _before_452(name: str) -> str:
    """As older transformers versions said it.

    >>> _before_452("model.language_model.layers.0.mlp.up_proj"), _before_452("model.visual.merger.mlp.0")
    ('model.layers.0.mlp.up_proj', 'visual.merger.mlp.0')
    """
    return re.sub(r"^model\.language_model\.", "model.", re.sub(r"^model\.visual\.", "visual.", name))


NAMINGS: tuple[Callable[[str], str], ...] = (str, _before_452, lambda name: name.removeprefix("model."))
"""From a module's name in the stock class of today to the ways in which published files say it."""


def require_all(
    file: Path, settings: Mapping[str, Any], adapted: Iterable[str], modules: Iterable[str]
) -> None:
    """ValueError where `file` has no weights for a module that it is said to adapt.

    `adapted` are the modules it has weights for, by its own names; `modules` the linear maps and embeddings of the
    base, by those of today.
    """
    there, base = set(adapted), list(modules)
    naming = next((say for say in NAMINGS if there <= {say(name) for name in base}), None)
    if naming is None or not settings.get("target_modules"):
        return  # weights that no module of the base has are refused where they are merged
    wanted = [name for name in map(naming, base) if is_target(name, settings)]
    missing = [name for name in wanted if name not in there]
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        raise ValueError(
            f"{file} has no weights for {counted(len(missing), 'module')} of {len(wanted)} that its "
            f"adapter_config.json names ({', '.join(missing[:SHOWN])}{more}): it is incomplete, fetch it again"
        )


def is_target(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether peft adapts the module.

    >>> some = {"target_modules": ["q_proj"], "layers_to_transform": [1]}
    >>> [is_target(f"model.layers.{k}.self_attn.{one}_proj", some) for k in (0, 1) for one in "qk"]
    [False, False, True, False]
    >>> is_target("visual.blocks.0.attn.q_proj", {"target_modules": r"^(?!.*visual).*q_proj"})
    False
    """
    targets, saved = settings["target_modules"], settings.get("modules_to_save") or ()
    if _named(name, settings.get("exclude_modules")) or any(
        re.match(rf"(^|.*\.){one}($|\..*)", name) for one in saved
    ):
        return False
    if targets == ALL_LINEAR:
        last = name.rpartition(".")[2]
        return "embed" not in last and last != "lm_head"
    if not _named(name, targets):
        return False
    return isinstance(targets, str) or name in targets or _in_layers(name, settings)


def _named(name: str, names: str | Iterable[str] | None) -> bool:
    """By a pattern for the whole name, or by a list of names or their ends."""
    if isinstance(names, str):
        return bool(names) and re.fullmatch(names, name) is not None
    return any(name == one or name.endswith(f".{one}") for one in names or ())


def _in_layers(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether the layer is one of `layers_to_transform`, if there are any."""
    layers = settings.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    given = settings.get("layers_pattern") or ()
    patterns = [given] if isinstance(given, str) else given
    ways = [rf"(?:^|.*?\.){one}\.(\d+)\." for one in patterns] or [r".*?\.[^.]*\.(\d+)\."]
    match = next((found for way in ways if (found := re.match(way, name))), None)
    return match is not None and int(match[1]) in ([layers] if isinstance(layers, int) else layers)
