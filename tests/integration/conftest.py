"""What tests of the command share: pictures that show their prompts, and the bundled generator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmalign import media, shapes
from tests.integration.told import PROMPTS


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three true pictures with their prompts, as a JSONL file beside them."""
    folder = tmp_path / "pictures"
    drawn = shapes.render(list(PROMPTS), seed=0)
    lines = []
    for k, prompt in enumerate(PROMPTS):
        media.write(folder / f"{k}.png", drawn[k].clamp(0, 1))
        lines.append(json.dumps({"id": str(k), "image": f"{k}.png", "prompt": prompt}))
    (folder / "pictures.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def flow() -> str:
    """The bundled generator."""
    try:
        shapes.bundled_path("flow")
    except ValueError as problem:
        pytest.skip(str(problem))
    return "shapes-flow"
