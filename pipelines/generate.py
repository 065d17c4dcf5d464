"""The verb `generate`: prompts times seeds through one generator, into a folder of media.

Output folder: `manifest.jsonl` (one row a picture: id, file, prompt, seed, model, what the prompt file said besides),
`media/`, `config.yaml`. A re-run makes only what is missing; `mmalign score FOLDER` reads the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from mmalign import media
from mmalign.config import to_yaml
from mmalign.strict import read_yaml
from pipelines.manifest import MANIFEST
from pipelines.sampling import Painter, Request, read_requests
from pipelines.settings import Generate

FREE = frozenset({"num_prompts", "device", "output"})
"""Settings that may differ between a run and its continuation."""


def run(settings: Generate) -> Path:
    """Draws what is missing; the path of the manifest."""
    requests = read_requests(settings.prompts, settings.num_prompts, settings.sampling)
    folder = Path(settings.output)
    _check_folder(folder, settings)
    rows = _known(folder, requests)
    todo = [request for request in requests if request.id not in rows]
    if todo:
        painter = Painter(settings.generator, settings.sampling, device=settings.device)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(to_yaml(settings), encoding="utf-8")
        with (folder / MANIFEST).open("a", encoding="utf-8") as manifest:
            for request, frames in tqdm(painter.draw(todo), total=len(todo), desc="drawing", unit="picture"):
                rows[request.id] = _save(request, frames, folder, settings)
                manifest.write(json.dumps(rows[request.id], ensure_ascii=False) + "\n")
                manifest.flush()
    _write(folder / MANIFEST, [rows[request.id] for request in requests])
    done = len(requests) - len(todo)
    earlier = f" ({done} were there)" if done else ""
    print(
        f"{len(requests)} pictures{earlier} in {folder}; mmalign score {folder} --reward NAME -o SCORES judges them"
    )
    return folder / MANIFEST


def _check_folder(folder: Path, settings: Generate) -> None:
    """A folder drawn with other settings is not mixed with this one."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {folder} is a file: name a folder")
    saved = folder / "config.yaml"
    if not saved.is_file():
        if (folder / MANIFEST).is_file():
            raise ValueError(f"{folder} holds a manifest of something else: name a new --output")
        return
    before, now = read_yaml(saved), json.loads(settings.model_dump_json())
    for key in sorted(now.keys() - FREE):
        if _but_batch(before.get(key)) != _but_batch(now[key]):
            raise ValueError(f"{folder} was drawn with other settings ({key} differs): name a new --output")


def _but_batch(value: Any) -> Any:
    return {k: v for k, v in value.items() if k != "batch_size"} if isinstance(value, Mapping) else value


def _known(folder: Path, requests: list[Request]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run whose pictures are there; a half-written last line is forgotten."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    wanted = {request.id: (request.prompt.text, request.seed) for request in requests}
    whole, _, rest = path.read_text(encoding="utf-8").rpartition("\n")
    if rest:
        path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    rows: dict[str, dict[str, Any]] = {}
    for line in whole.split("\n") if whole else []:
        row = json.loads(line)
        if wanted.get(row["id"]) == (row["prompt"], row["seed"]) and (folder / row["file"]).is_file():
            rows[row["id"]] = row
    return rows


def _save(request: Request, frames: Tensor, folder: Path, settings: Generate) -> dict[str, Any]:
    suffix = ".mp4" if frames.shape[0] > 1 else ".png"
    file = Path("media") / f"{request.id}{suffix}"
    media.write(folder / file, frames, fps=settings.sampling.fps)
    row: dict[str, Any] = {"id": request.id, "file": file.as_posix(), "prompt": request.prompt.text}
    row |= {"seed": request.seed, "model": settings.generator.label}
    if request.prompt.source is not None:
        row["source"] = str(request.prompt.source.resolve())
    return row | {key: value for key, value in request.prompt.metadata.items() if key not in row}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    partial = path.with_suffix(".part")
    partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    partial.replace(path)
