"""Where the models that come with mmalign lie: generators `flow` and `epsilon`, and a reward of each world: `reward`
(images), `edits-reward` and `videos-reward`.
"""

from __future__ import annotations

from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled"
PREFIX = "shapes-"


def bundled_path(name: str) -> Path:
    """The folder of a bundled model; ValueError lists those there are."""
    path = BUNDLED / name
    if not path.is_dir():
        found = (
            sorted(folder.name for folder in BUNDLED.iterdir() if folder.is_dir()) if BUNDLED.is_dir() else []
        )
        raise ValueError(
            f"no bundled model '{name}': there are {', '.join(found) or 'none in this copy of mmalign'}"
        )
    return path


def model_path(name: str) -> str:
    """The folder of a bundled model for `shapes-flow` and the like; otherwise the path or hub id as given.

    >>> model_path("owner/model")
    'owner/model'
    """
    short = name.removeprefix(PREFIX)
    if short == name or (not (BUNDLED / short).is_dir() and Path(name).exists()):
        return name  # somebody's own folder may be called shapes-something, too
    return str(bundled_path(short))
