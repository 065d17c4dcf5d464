"""Files of a repository on the Hugging Face hub; what goes wrong there is one sentence with the mend."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

_PLAIN = re.compile(r"Tokenizer|Scheduler|Processor|Extractor")
"""Parts of a pipeline that have no weights, by their class."""
_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def is_id(name: str | Path) -> bool:
    """Whether it has the form of a repository's name.

    >>> is_id("owner/name"), is_id("name"), is_id("./folder"), is_id("a/long/path")
    (True, False, False, False)
    """
    return _ID.fullmatch(str(name)) is not None


def fetch(name: str, patterns: Sequence[str]) -> Path:
    """The local folder with the files of `owner/name` that match; ValueError names the repository and what to do.

    Where the hub cannot be reached it is what lies in the cache; weights of which a part is lacking are an error.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (OSError, RuntimeError, HFValidationError) as problem:  # the hub's own errors are of these kinds
        raise ValueError(
            f"cannot get {name} from the hub: {_why(problem)}; or give the folder of a download in its place"
        ) from problem
    lacking = [one for one in _shards_lacking(folder) if any(fnmatch(one, pattern) for pattern in patterns)]
    if lacking:
        raise ValueError(incomplete(name, lacking))
    return folder


def incomplete(name: str | Path, lacking: Sequence[str]) -> str:
    """The sentence for a model of which files are lacking: in the cache of the hub, or in a folder."""
    shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
    if is_id(name) and not Path(name).exists():
        mend = f"only a part of it is in the cache: with a network, and HF_HUB_OFFLINE unset, run `hf download {name}`"
    else:
        mend = "the folder was copied or downloaded in part: get it again, whole"
    return f"{name} lacks {shown}; {mend}"


def pipeline_lacks(folder: Path, unused: Sequence[str] = ()) -> list[str]:
    """Files, by their place in a diffusers folder, that its model_index.json asks for and that are not there; those of
    `unused` parts may be lacking.
    """
    parts = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    lacking: list[str] = []
    for name, kind in parts.items():
        if name in unused or not isinstance(kind, list) or not all(isinstance(one, str) for one in kind):
            continue
        files = [file.name for file in (folder / name).glob("*") if file.is_file()]
        if not files:
            lacking.append(f"{name}/")
        elif not _PLAIN.search(kind[1]):
            lacking += [f"{name}/config.json"] if "config.json" not in files else []
            weights = any(file.endswith((".safetensors", ".safetensors.index.json")) for file in files)
            lacking += [] if weights else [f"{name}/*.safetensors"]
    return lacking + [one for one in _shards_lacking(folder) if one.split("/")[0] not in unused]


def _shards_lacking(folder: Path) -> list[str]:
    """Weights that an index names and that are not there."""
    found: list[str] = []
    for index in sorted(folder.rglob("*.safetensors.index.json")):
        shards = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        place = index.parent.relative_to(folder)
        found += [(place / one).as_posix() for one in sorted(shards) if not (index.parent / one).is_file()]
    return found


def _why(problem: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    if isinstance(problem, GatedRepoError):
        return "its owner must let you in: ask on its page, then log in with `hf auth login`"
    if isinstance(problem, RepositoryNotFoundError):
        return (
            "there is none of that name, or it is private: look the name up, or log in with `hf auth login`"
        )
    if isinstance(problem, LocalEntryNotFoundError):
        return "it cannot be reached, and no copy lies here: check the network"
    return f"{' '.join(str(problem).split())[:200]}: check name and network"
