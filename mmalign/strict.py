"""Strict schemas read from YAML files and dotted overrides; a mistake is one line that names it.

`load_config("grpo/shapes-flow", ["optimizer.lr=1e-4"], Recipe)` reads a shipped recipe by name (or any YAML
file by path), applies the overrides, and validates. Unknown keys name their nearest neighbour, wrong types
name the path, what was found and what was expected. Any pydantic schema built on `Section` can be read
this way. Imports no torch: the command line validates recipes before anything heavy is loaded.

>>> parse_value("1e-4"), parse_value("true"), parse_value("[1, 2]"), parse_value("null")
(0.0001, True, [1, 2], None)
>>> apply_overrides({"optimizer": {"lr": 1.0}}, ["optimizer.lr=2e-3"])
{'optimizer': {'lr': 0.002}}
"""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

RECIPES = Path(__file__).resolve().parent.parent / "pipelines" / "recipes"


class Section(BaseModel):
    """A part of a recipe: unknown keys and wrong types are refused, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    @classmethod
    def spelled_out(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """`data` with this schema's short forms written in full; done before validation."""
        return data


Schema = TypeVar("Schema", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML in which `1e-4` is a number (YAML 1.1 reads it as text)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse_value(text: str) -> Any:
    """One override value, read as YAML."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"cannot read the value '{text}': {_one_line(error)}") from error


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


# ---------------------------------------------------------------- reading


def available_recipes() -> tuple[str, ...]:
    """Names of the shipped recipes, e.g. `grpo/shapes-flow`."""
    return tuple(sorted(p.relative_to(RECIPES).with_suffix("").as_posix() for p in RECIPES.rglob("*.yaml")))


def find_recipe(path_or_name: str | Path) -> Path:
    """The file of a recipe: an existing path, or the name of a shipped one."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    named = RECIPES / f"{path_or_name}.yaml"
    if named.is_file():
        return named
    names = available_recipes()
    near = difflib.get_close_matches(str(path_or_name), names, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"shipped recipes: {', '.join(names) or 'none'}"
    raise ValueError(f"no recipe '{path_or_name}': neither a file nor a shipped recipe; {hint}")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {_one_line(error)}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a mapping of keys to values, got {type(data).__name__}")
    return data


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `data` with every `a.b.c=value` applied; numbers in the path index lists."""
    result: dict[str, Any] = json.loads(json.dumps(data, default=str))
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ValueError(f"override '{override}' must look like key.subkey=value")
        _set(result, keys, parse_value(text), override)
    return result


def _set(node: Any, keys: list[str], value: Any, override: str) -> None:
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise ValueError(f"override '{override}': '{key}' is not a position in a list of {len(node)}")
            index: Any = int(key)
        elif isinstance(node, dict):
            index = key
        else:
            raise ValueError(f"override '{override}': '{'.'.join(keys[:position])}' holds {node!r}, not keys")
        if last:
            node[index] = value
        elif isinstance(node, dict):
            if node.get(index) is None:
                node[index] = {}
            node = node[index]
        else:
            node = node[index]


def load_config(path_or_name: str | Path, overrides: Sequence[str], schema: type[Schema]) -> Schema:
    """The validated recipe in a file (or shipped under a name), after the overrides."""
    path = find_recipe(path_or_name)
    return validate(apply_overrides(read_yaml(path), overrides), schema, origin=str(path_or_name))


def validate(data: Mapping[str, Any], schema: type[Schema], *, origin: str = "recipe") -> Schema:
    """`data` as a `schema`; every mistake is a one-line ValueError."""
    data = schema.spelled_out(data) if issubclass(schema, Section) else data
    try:
        return schema.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        details = error.errors(include_url=False)
        unknown = [d for d in details if d["type"] == "extra_forbidden"]
        first = (unknown or details)[0]
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise ValueError(f"{origin}: {_explain(first, schema)}{more}") from error


def to_yaml(recipe: BaseModel) -> str:
    """The resolved recipe as YAML that `load_config` reads back to an equal recipe."""
    return str(yaml.safe_dump(json.loads(recipe.model_dump_json()), sort_keys=False, width=110))


# ---------------------------------------------------------------- one-line mistakes


def _explain(detail: ErrorDetails, schema: type[BaseModel]) -> str:
    path, owner = _locate(detail["loc"], schema)
    kind, found = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return f"unknown key '{path}'; {_nearest(path, owner, schema)}"
    if kind == "missing":
        option = _option(path, owner)
        return f"'{path}' is missing{f': give {option}' if option else ''}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        names = detail.get("ctx", {}).get("expected_tags", "the known names")
        return f"'{path}.name' must be one of {names}, got {_tag(found)}"
    if kind == "value_error":
        reason = detail["msg"].removeprefix("Value error, ")
        return f"'{path}': {reason}" if path else reason
    expected = detail["msg"].removeprefix("Input should be ")
    return f"'{path}' must be {expected}, got {found!r} ({type(found).__name__})"


def _option(path: str, owner: type[BaseModel] | None) -> str | None:
    """What the command line calls a key, where its schema says so."""
    field = owner.model_fields.get(path.rpartition(".")[2]) if owner else None
    return field.description if field else None


def _tag(found: Any) -> str:
    return repr(found.get("name")) if isinstance(found, dict) else repr(found)


def _locate(loc: tuple[int | str, ...], schema: type[BaseModel]) -> tuple[str, type[BaseModel] | None]:
    """Dotted path of an error without union tags, and the section that holds its last key."""
    path: list[str] = []
    options: tuple[type[BaseModel], ...] = (schema,)
    owner: type[BaseModel] | None = schema
    for part in loc:
        tagged = tuple(o for o in options if len(options) > 1 and _tag_of(o) == part)
        if tagged:
            options = tagged
            continue
        path.append(str(part))
        owner = options[0] if options else None
        if isinstance(part, str):
            field = next((o.model_fields[part] for o in options if part in o.model_fields), None)
            options = tuple(_sections(field.annotation)) if field else ()
    return ".".join(path), owner


def _tag_of(section: type[BaseModel]) -> str | None:
    field = section.model_fields.get("name")
    values = typing.get_args(field.annotation) if field else ()
    return values[0] if len(values) == 1 else None


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The section classes named in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        if not isinstance(inner, str):
            yield from _sections(inner)


def _all_paths(
    schema: type[BaseModel], prefix: str = "", above: tuple[type[BaseModel], ...] = ()
) -> Iterator[str]:
    """Dotted paths of all keys; a section inside itself (a reward of rewards) is followed once."""
    for name, field in schema.model_fields.items():
        yield prefix + name
        for section in _sections(field.annotation):
            if section not in (*above, schema):
                yield from _all_paths(section, f"{prefix}{name}.", (*above, schema))


def _nearest(path: str, owner: type[BaseModel] | None, schema: type[BaseModel]) -> str:
    parent, _, key = path.rpartition(".")
    names = list(owner.model_fields) if owner else []
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.55)
    if near:
        return f"did you mean '{parent + '.' if parent else ''}{near[0]}'?"
    every = sorted(set(_all_paths(schema)))
    elsewhere = [p for p in every if p.rpartition(".")[2] == key]
    if not elsewhere:
        elsewhere = difflib.get_close_matches(path, every, n=1, cutoff=0.55)
    if elsewhere:
        return f"did you mean '{elsewhere[0]}'?"
    return f"known keys here: {', '.join(sorted(names))}"
