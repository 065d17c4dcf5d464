"""Templates: the order in which a reward model reads its instruction, its media and its reward tokens.

A template is a list of parts. `prompt`, `source` and `media` stand for what a sample brings (`source?`: where it
brings one), `<|...|>` is a special token, everything else is literal text. The same can be written as one text with
`{prompt}`, `{source}` and `{media}` in it (`Template.parse`), which is how a user supplies the exact prompt of
somebody else's checkpoint.

Legend: R reward tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rewardmodels.checkpoints import wording

REWARD_TOKEN = "<|Reward|>"
ASPECT_TOKENS = ("<|VQ_reward|>", "<|MQ_reward|>", "<|TA_reward|>")
"""VideoReward: visual quality and motion quality, which stand before the prompt, and text alignment after it."""
LEVEL_TOKENS = ("<|IF_reward|>", "<|RQ_reward|>", "<|EE_reward|>")
"""VEFX-Reward: instruction following, rendering quality, edit exclusivity."""
SLOTS = ("prompt", "source", "media")
_SPLIT = re.compile(r"(\{(?:prompt|source|media)\}|<\|[^|<>]+\|>)")


def is_special(part: str) -> bool:
    """Whether a part is written as a special token.

    >>> is_special("<|Reward|>"), is_special("a <|Reward|>")
    (True, False)
    """
    return part.startswith("<|") and part.endswith("|>") and part.count("<|") == 1


@dataclass(frozen=True)
class Template:
    """The order of a reward model's inputs; a saved model names the template and version it was trained with.

    `reads` are the special tokens whose hidden states are scored, in the order of the scores; by default all the
    special tokens of the template.
    """

    name: str
    version: int
    parts: tuple[str, ...]
    reads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.reads:
            object.__setattr__(self, "reads", tuple(part for part in self.parts if is_special(part)))
        for need in ("media", *self.reads):
            if self.parts.count(need) != 1:
                raise ValueError(
                    f"template {self.key} must hold {need} exactly once, it does {self.parts.count(need)} times"
                )
        if not self.reads:
            raise ValueError(f"template {self.key} has no reward token, so nothing could be scored")

    @classmethod
    def parse(cls, name: str, version: int, text: str, reads: tuple[str, ...]) -> Template:
        """From one text with `{prompt}`, `{source}`, `{media}` and special tokens in it.

        >>> Template.parse("t", 1, "Look: {media} Was it {prompt}?<|Reward|>", ("<|Reward|>",)).parts
        ('Look: ', 'media', ' Was it ', 'prompt', '?', '<|Reward|>')
        """
        pieces = [piece for piece in _SPLIT.split(text) if piece]
        parts = tuple(piece[1:-1] if piece[1:-1] in SLOTS else piece for piece in pieces)
        return cls(name, version, parts, reads)

    @classmethod
    def read(cls, path: str | Path, like: Template) -> Template:
        """The words of a text file in place of those of `like`; it must hold the same slots and reward tokens."""
        file = Path(path)
        if not file.is_file():
            raise ValueError(f"{file}: no such template file")
        text = file.read_text(encoding="utf-8")
        for slot in {part for part in like.parts if part in SLOTS}:
            if text.count("{" + slot + "}") != 1:
                raise ValueError(f"{file} must hold {{{slot}}} exactly once, where the {slot} belongs")
        for token in like.reads:
            if text.count(token) != 1:
                raise ValueError(f"{file} must hold {token} exactly once, where the score is read")
        return cls.parse(file.stem, 0, text, like.reads)

    def slots(self, *, source: bool) -> tuple[str, ...]:
        """The media of a row in order, `source` and `media`, for samples with a source or without."""
        return tuple(part for part in self.expanded(1, source=source) if part in ("source", "media"))

    def expanded(self, num_media: int, *, source: bool) -> tuple[str, ...]:
        """The parts of a row with so many candidates, each followed by its separator, with or without source."""
        parts = tuple(part.rstrip("?") for part in self.parts if part != "source?" or source)
        start = parts.index("media")
        end = parts.index(self.reads[0], start) + 1 if num_media > 1 else start
        return (*parts[:start], *parts[start:end] * num_media, *parts[end:])

    @property
    def key(self) -> str:
        """The name with the version, as settings save it."""
        return f"{self.name}/{self.version}"

    @property
    def specials(self) -> tuple[str, ...]:
        """Its special tokens, each once."""
        return tuple(dict.fromkeys(part for part in self.parts if is_special(part)))

    @property
    def words(self) -> tuple[str, ...]:
        """The words of its literal text."""
        text = " ".join(part for part in self.parts if part.rstrip("?") not in SLOTS and not is_special(part))
        return tuple(dict.fromkeys(text.split()))

    @property
    def uses_source(self) -> bool:
        """Whether a sample must bring a source."""
        return "source" in self.parts

    @property
    def prompt_last(self) -> bool:
        """Whether prompts can share a picture: everything up to its end is the same for all of them."""
        where = {part: i for i, part in enumerate(self.parts)}
        after = where.get("prompt", -1)
        media = max(where["media"], where.get("source", -1), where.get("source?", -1))
        return after > media and all(where[token] > media for token in self.reads)


TEMPLATES: dict[str, Template] = {
    template.key: template
    for template in (
        Template("media", 1, ("media", REWARD_TOKEN)),
        Template("prompt-media", 1, ("prompt", "media", REWARD_TOKEN)),
        Template("media-prompt", 1, ("media", "prompt", REWARD_TOKEN)),
        Template("prompt-source-media", 1, ("prompt", "source", "media", REWARD_TOKEN)),
        Template("source-media-prompt", 1, ("source?", "media", "prompt", REWARD_TOKEN)),
        Template("aspects", 1, ("source?", "media", *ASPECT_TOKENS[:2], "prompt", ASPECT_TOKENS[2])),
        Template("two-aspects", 1, ("source?", "media", ASPECT_TOKENS[0], "prompt", ASPECT_TOKENS[2])),
        Template("levels", 1, ("source?", "media", "prompt", *LEVEL_TOKENS)),
        Template("two-levels", 1, ("source?", "media", "prompt", *LEVEL_TOKENS[:2])),
        Template(
            "ask-following", 1, ("source?", "media", "prompt", "\ndoes it follow the words", REWARD_TOKEN)
        ),
        Template("ask-quality", 1, ("source?", "media", "prompt", "\nhow good does it look", REWARD_TOKEN)),
        Template("candidates", 1, ("prompt", "source?", "media", "<|Candidate|>")),
        Template("named-candidates", 1, ("source?", "media", "prompt", "<|Candidate|>")),
        Template("score-token", 1, ("source?", "media", "prompt", "\nthe score is", "<|SCORE|>")),
        Template("score-number", 1, ("source?", "media", "prompt", "\nthe score is 0 0 . 0 0", "<|im_end|>")),
        Template.parse("videoreward", 1, wording.VIDEO_REWARD, ASPECT_TOKENS),
        Template.parse("hpsv3", 1, wording.HPSV3, (REWARD_TOKEN,)),
        Template.parse("editreward-following", 1, wording.EDIT_FOLLOWING, (REWARD_TOKEN,)),
        Template.parse("editreward-quality", 1, wording.EDIT_QUALITY, (REWARD_TOKEN,)),
        Template.parse("vefx", 1, wording.VEFX, LEVEL_TOKENS),
    )
}
"""Never edit an entry: models were trained with it. Add a version."""
