"""What the hub does not give is one sentence that names the id, wherever an id may stand."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from mmalign import hub
from mmalign.policies import registry
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
