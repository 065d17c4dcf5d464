"""Which options a reward takes: read from the source of its loader, so that mistakes are told before it is imported."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def options_of(loader: str) -> Mapping[str, bool]:
    """The keyword-only arguments of `module:name`, a function or class of ours, and whether they must be given.

    >>> options_of("rewardmodels.rules:shapes_verifier")
    {'score': False, 'batch_size': False}
    """
    module, _, name = loader.partition(":")
    file = Path(__file__).resolve().parents[1].joinpath(*module.split(".")).with_suffix(".py")
    named = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if _name(node) == name]
    assert len(named) == 1, loader
    node: ast.AST = named[0]
    if isinstance(node, ast.ClassDef):
        node = next(part for part in node.body if _name(part) == "__init__")
    assert isinstance(node, ast.FunctionDef), loader
    arguments = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {argument.arg: default is None for argument, default in arguments}


def require_options(
    name: str, loader: str, options: Mapping[str, Any], *, fixed: Collection[str] = ()
) -> None:
    """ValueError, with the nearest right name, for an option that the reward does not take, or one that it lacks."""
    known = {option: needed for option, needed in options_of(loader).items() if option not in fixed}
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            takes = f"it takes {', '.join(sorted(known)) or 'no options'}"
            raise ValueError(
                f"reward '{name}' has no option '{option}'; "
                + (f"did you mean '{near[0]}'?" if near else takes)
            )
    lacking = [option for option, needed in known.items() if needed and option not in options]
    if lacking:
        raise ValueError(f"reward '{name}' needs the option '{lacking[0]}': see `mmalign ls rewards {name}`")


def _name(node: ast.AST) -> str | None:
    return node.name if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else None
