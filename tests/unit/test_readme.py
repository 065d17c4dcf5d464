"""What the README tells people to type exists: verbs, options, recipes, settings, files, links, Python."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest
import typer

from mmalign.__main__ import app
from mmalign.config import available_recipes, load_recipe
from mmalign.data.formats import parsed, read
from mmalign.data.labels import annotator_of, views
from mmalign.strict import _all_paths
from pipelines.settings import CheckReward, EvaluateGenerator, EvaluateReward, Generate, Score, Serve
from pipelines.synthesis import Synthesize
from rewardmodels.ocr.texts import wanted

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def commands() -> list[list[str]]:
    """The words of every `mmalign` call in the pages, after the program's name."""
    lines = [line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
    called = [shlex.split(line, comments=True) for line in lines]
    starts = [next((i for i, word in enumerate(words) if word == "mmalign"), None) for words in called]
    return [words[start + 1 :] for words, start in zip(called, starts, strict=True) if start is not None]


def resolved(command: Any, name: str, words: list[str]) -> tuple[str, dict[str, object]]:
    """The verb and the values it would be called with; nothing is run."""
    context = command.make_context(name, list(words), resilient_parsing=False)
    if not hasattr(command, "resolve_command"):  # a verb, not a group of verbs
        return name, context.params
    rest = [*context._protected_args, *context.args]
    verb, chosen, remaining = command.resolve_command(context, rest)
    assert chosen is not None
    return resolved(chosen, verb or "", remaining)


def test_the_pages_name_commands():
    verbs = {words[0] for words in commands()}
    assert {"demo", "validate", "finetune", "generate", "score", "evaluate", "data", "train-reward"} <= verbs


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_parse_and_recipes_accept_their_overrides(words):
    verb, values = resolved(typer.main.get_command(app), "mmalign", words)
    if verb in ("finetune", "validate"):
        load_recipe(str(values["recipe"]), values["overrides"] or [])


def test_records_are_such_as_are_read():
    rows = [json.loads(block) for block in blocks("README.md", "json")]
    records = [parsed(row) for row in rows if "annotations" in row]
    assert [len(record.annotations) for record in records] == [1, 2]
    voters = [annotator_of(records[1], label) for label in views(records[1].annotations).pairs]
    assert voters == ["ann", "ben"]
    (poster,) = [row for row in rows if "image" in row]
    assert wanted(poster["prompt"]) == ("fresh bread",)


def test_recipes_of_the_table_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:sft|rwr|dpo|npo|grpo|nft)/[\w-]+)`", text))
    assert len(named) == 12 and named <= set(available_recipes())


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = re.findall(r"\]\((?!https?:)([^)#]+)(#[^)]*)?\)", text)
    missing = [path for path, _ in linked if not (ROOT / path).exists()]
    assert not missing
    anchors = {
        "#" + re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).strip().replace(" ", "-")
        for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    }
    assert all(anchor in anchors for path, anchor in linked if path == "CONTRIBUTING.md" and anchor)


def test_map_names_what_exists():
    rows = re.findall(r"^\| `([^|]+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.M)
    folder = Path()
    for cell in rows:
        for name in cell.replace("`", "").split(", "):
            path = Path(name) if "/" in name else folder / name
            folder = path.parent
            assert (ROOT / path).exists(), name


@pytest.mark.parametrize("code", [block for page in PAGES for block in blocks(page, "python")])
def test_python_compiles(code):
    compile(textwrap.dedent(code), "README.md", "exec")


def test_the_votes_file_is_shown_as_it_must_be_written(tmp_path: Path) -> None:
    (line,) = [block for block in blocks("README.md", "json") if '"annotator"' in block]
    file = tmp_path / "votes.jsonl"
    file.write_text(line)
    (record,) = read(file)
    assert len(record.annotations) == 2


MENTIONED = {
    "generate": Generate, "score": Score, "check-reward": CheckReward, "serve": Serve,
    "evaluate generator": EvaluateGenerator, "evaluate reward": EvaluateReward,
    "data synthesize": Synthesize,
}  # fmt: skip
BY_OPTION = {"input", "rewards", "reward", "generator", "generators", "sampling", "helpers", "filters"}


@pytest.mark.parametrize("verb", MENTIONED)
def test_help_names_every_setting_and_an_example_that_is_taken(verb: str) -> None:
    command: Any = typer.main.get_command(app)
    for word in verb.split():
        command = command.commands[word]
    (told,) = [one.help for one in command.params if "KEY=VALUE" in (one.metavar or "")]
    schema, named = MENTIONED[verb], {one.name for one in command.params} | BY_OPTION
    lacking = [key for key in schema.model_fields if key not in named and not re.search(rf"\b{key}\b", told)]
    assert not lacking
    example = re.search(r"e\.g\. ([^;]+);", told)
    known = set(_all_paths(schema))
    mentioned = re.findall(r"[a-z]+(?:[._][a-z_]+)+", told.replace("e.g.", ""))
    assert verb == "serve" or (example is not None and example[1].split("=")[0] in known)
    assert not [key for key in mentioned if key not in known]
