"""Files of a repository on the Hugging Face hub; what goes wrong there is one sentence with the mend."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def is_id(name: str | Path) -> bool:
    """Whether it has the form of a repository's name.

    >>> is_id("owner/name"), is_id("name"), is_id("./folder"), is_id("a/long/path")
    (True, False, False, False)
    """
    return _ID.fullmatch(str(name)) is not None


def fetch(name: str, patterns: Sequence[str]) -> Path:
    """The local folder with the files of `owner/name` that match; ValueError names the repository and what to do."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (OSError, RuntimeError, HFValidationError) as problem:  # the hub's own errors are of these kinds
        raise ValueError(
            f"cannot get {name} from the hub: {_why(problem)}; or give the folder of a download in its place"
        ) from problem


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
