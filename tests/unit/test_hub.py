"""What the hub does not give is one sentence that names the id, wherever an id may stand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from mmalign import hub
from mmalign.policies import registry
from mmalign.shapes import bundled_path
from rewardmodels.clip.weights import locate
from rewardmodels.judges.adapters import folder_of

ANSWER = httpx.Response(404, request=httpx.Request("GET", "https://hub.test"))


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (
            LocalEntryNotFoundError("long story"),
            "cannot be reached, and no copy lies here: check the network",
        ),
        (RepositoryNotFoundError("long story", response=ANSWER), "there is none of that name"),
        (GatedRepoError("long story", response=ANSWER), "its owner must let you in"),
        (OSError("disk\nfull"), "disk full: check name and network"),
    ],
)
def test_every_failure_names_the_id_and_the_mend(
    problem: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise problem

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    askers = (
        lambda name: hub.fetch(name, ["*"]),
        lambda name: locate(name, ["*"]),
        folder_of,
        registry.pipeline_config,
    )
    for ask in askers:
        with pytest.raises(ValueError) as told:
            ask("nobody/nothing")
        said = str(told.value)
        assert said.startswith("cannot get nobody/nothing from the hub: ") and words in said
        assert "give the folder of a download" in said and "\n" not in said


def test_a_repository_without_a_pipeline_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(ValueError, match="somebody/a-clip on the hub is not a diffusers pipeline"):
        registry.pipeline_config("somebody/a-clip")
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    assert registry.pipeline_config("somebody/a-video-model") == {"_class_name": "WanPipeline"}


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "lacks unet/*.safetensors; "),
        ("text_encoder", "lacks text_encoder/; "),
        ("vae/config.json", "lacks vae/config.json; "),
    ],
)
def test_a_pipeline_of_which_a_part_is_there_is_told_with_what_lacks(
    gone: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the cache of the hub while that cannot be reached, and as a folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    place = tmp_path / "models--some--body"
    folder = shutil.copytree(bundled_path("epsilon"), place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    (shutil.rmtree if (folder / gone).is_dir() else Path.unlink)(folder / gone)
    with pytest.raises(ValueError) as told:
        registry.load("some/body")
    assert str(told.value).startswith(f"some/body {words}") and "run `hf download some/body`" in str(
        told.value
    )
    with pytest.raises(ValueError) as told:
        registry.load(folder)
    assert str(told.value).startswith(f"{folder} {words}") and "get it again, whole" in str(told.value)


def test_weights_of_which_a_part_is_there_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    shards = {f"layer.{k}": f"model-{k}-of-8.safetensors" for k in range(8)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (tmp_path / "model-0-of-8.safetensors").touch()
    with pytest.raises(
        ValueError, match=r"somebody/large lacks model-1-of-8.safetensors, .* and 2 more; only a part"
    ):
        hub.fetch("somebody/large", ["*.json", "*.safetensors"])
    assert hub.fetch("somebody/large", ["*.json"]) == tmp_path
