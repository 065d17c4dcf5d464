"""Imports point one way: mmalign <- rewardmodels <- pipelines and demos, which never import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "mmalign": {"mmalign"},
    "rewardmodels": {"mmalign", "rewardmodels"},
    "pipelines": {"mmalign", "rewardmodels", "pipelines"},
    "demos": {"mmalign", "rewardmodels", "demos"},
}
MAIN = ROOT / "mmalign" / "__main__.py"
COMMANDS = ROOT / "mmalign" / "commands"
FILES = [file for package in ALLOWED for file in sorted((ROOT / package).rglob("*.py"))]


def imported(file: Path) -> list[tuple[str, int]]:
    """Every module a file imports, wherever in the file, with its line."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively; name the module in full"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_import_points_the_wrong_way(file: Path) -> None:
    package = file.relative_to(ROOT).parts[0]
    is_command = file == MAIN or COMMANDS in file.parents
    allowed = set(ALLOWED) if is_command else ALLOWED[package]
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for name, line in imported(file)
        if (name.split(".")[0] in ALLOWED and name.split(".")[0] not in allowed)
        or name.split(".")[0] in ("tests", "benchmarks")
        or name.startswith("mmalign.__main__")
        or (name.startswith("mmalign.commands") and not is_command)
    ]
    assert not wrong, "; ".join(wrong)


@pytest.mark.parametrize("package", ["mmalign/objectives", "mmalign/stats"])
def test_the_mathematics_knows_no_model_device_or_file(package: str) -> None:
    heavy = {"diffusers", "transformers", "accelerate", "peft", "pathlib", "os", "logging"}
    for file in (ROOT / package).rglob("*.py"):
        wrong = [name for name, _ in imported(file) if name.split(".")[0] in heavy]
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("file", sorted(COMMANDS.glob("*.py")), ids=lambda file: file.name)
def test_a_verb_imports_its_pipeline_in_its_body_so_that_help_is_quick(file: Path) -> None:
    light = {"__future__", "pathlib", "typing", "typer"}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in top]
    assert all(name in light or name.startswith("mmalign.commands") for name in names), names


def test_every_file_says_what_it_holds() -> None:
    for file in FILES:
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        assert text, f"{file.relative_to(ROOT)} has no module docstring"
