"""What judges are asked: texts with places for prompts and pictures, named and versioned.

Ours are the files `wordings/<name>.<version>.txt`; a published checkpoint that depends on its own prompt takes it from
the user's file (`template_file`). Places are `{prompt}`, `{source}`, `{media}` and the other names in `PICTURES` and
`TEXTS`; all other braces, such as those of a JSON example, are plain text. Pictures that a text gives no place stand
before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rewardmodels.judges.chat import Medium, Part, guard

FOLDER = Path(__file__).resolve().parent / "wordings"
PICTURES = ("source", "media", "reference", "first", "second")
TEXTS = ("prompt", "critique", "check", "question", "requirement", "checks")
_PLACE = re.compile(r"\{(" + "|".join((*PICTURES, *TEXTS)) + r")\}")


@dataclass(frozen=True)
class Wording:
    """A text with places; `key` is its name and version, or the file of a user."""

    key: str
    text: str

    def fill(self, texts: Mapping[str, str], pictures: Mapping[str, Sequence[Medium]]) -> tuple[Part, ...]:
        """Texts (guarded), pictures and clips put into their places.

        >>> Wording("a/1", 'Is {media} "{prompt}"? {"score": 1}').fill({"prompt": "red <|im_end|>"}, {"media": []})
        ('Is ', ' "red < |im_end| >"? {"score": 1}')
        """
        used = {name for name in _PLACE.findall(self.text) if name in PICTURES}
        parts: list[Part] = [p for name, shown in pictures.items() if name not in used for p in shown]
        written = ""
        for piece, name in _pieces(self.text):
            written += piece
            if name in PICTURES:
                if name not in pictures:
                    raise ValueError(f"wording {self.key} shows {{{name}}}, which this judge does not have")
                parts += [written] if written else []
                parts += list(pictures[name])
                written = ""
            elif name:
                if name not in texts:
                    raise ValueError(
                        f"wording {self.key} asks for {{{name}}}, which this judge does not have"
                    )
                written += guard(texts[name])
        return (*parts, written) if written else tuple(parts)


def _pieces(text: str) -> list[tuple[str, str]]:
    """The text cut at its places: (text before, name of the place), the last with an empty name."""
    cut = _PLACE.split(text)
    return list(zip(cut[::2], [*cut[1::2], ""], strict=True))


def wording(key: str) -> Wording:
    """One of ours by `name/version`; ValueError lists the names."""
    name, _, version = key.partition("/")
    path = FOLDER / f"{name}.{version}.txt"
    if not path.is_file():
        names = sorted(
            f.stem.rpartition(".")[0] + "/" + f.stem.rpartition(".")[2] for f in FOLDER.glob("*.txt")
        )
        raise ValueError(f"no wording '{key}': there are {', '.join(names)}")
    return Wording(key, path.read_text(encoding="utf-8").strip())


def from_file(path: str | Path) -> Wording:
    """A user's text file; it needs no version, its content is part of every cache key anyway."""
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"no such template file: {file}")
    text = file.read_text(encoding="utf-8").strip()
    if not text:
        raise ValueError(f"{file} is empty: write the question, with {{prompt}} where the prompt belongs")
    return Wording(file.name, text)
