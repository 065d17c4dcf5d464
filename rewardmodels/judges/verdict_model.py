"""A small VLM that says its verdict: `verdict 7` after a picture and a prompt, or `verdict 2` after two pictures.

The prefix (pictures, prompt, answer token) is read once with its cache; verdicts of few tokens are then drawn, or their
probabilities taken with gradients, on top of it. As a reward its score is the expected mark, on [0, 1].

Folder layout: a plain VLM checkpoint, `preprocessor_config.json`, and `verdict_config.json`.

Legend: S prefixes, R answers, L tokens of an answer, V vocabulary, K marks.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from mmalign.seeds import generator
from mmalign.shapes.bundle import model_path
from mmalign.types import Modality, Sample, Scores
from rewardmodels.backbones import backbone_of
from rewardmodels.batching import Prepared, score
from rewardmodels.inputs import TEMPLATES, InputBuilder, VlmInputs
from rewardmodels.vlm import PIXELS, VlmReward, load_folder, pixels_record, quiet, read_pixels

CONFIG, SCHEMA = "verdict_config.json", "mmalign.verdict/1"
SAYS = "verdict"
POINT, PAIR = "media-prompt/1", "prompt-source-media/1"


@dataclass(frozen=True)
class VerdictSettings:
    """What decides a verdict beside weights and tokenizer; `words` are the marks, worst first."""

    name: str
    template: str
    positions: str
    words: tuple[str, ...]
    max_prompt_tokens: int = 64


@dataclass(frozen=True, eq=False)
class Prefix:
    """S prefixes that were read: logits of the first token, and what the next tokens need."""

    logits: Tensor  # (S, V)
    mask: Tensor  # (S, L)
    next: Tensor  # (S,) the position of the first answer token
    cache: Any

    def __len__(self) -> int:
        return int(self.logits.shape[0])


class VerdictModel(nn.Module):
    """Says verdicts, and is a reward by the expected mark."""

    def __init__(
        self, vlm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rule: Any, settings: VerdictSettings,
        *, batch_size: int = 64,
    ) -> None:  # fmt: skip
        super().__init__()
        self.vlm, self.tokenizer, self.settings, self.batch_size = vlm, tokenizer, settings, batch_size
        self.builder = InputBuilder(
            tokenizer, rule, TEMPLATES[settings.template], settings.positions, settings.max_prompt_tokens,  # type: ignore[arg-type]
            backbone_of(vlm.config.model_type),
        )  # fmt: skip
        ids = tokenizer.convert_tokens_to_ids
        self.opening, self.end = ids(SAYS), int(tokenizer.eos_token_id)
        self.marks = torch.tensor([ids(word) for word in settings.words])
        self.dimensions: tuple[str, ...] = ("mark",)
        self.modalities: frozenset[Modality] = frozenset({"image"})
        self.differentiable = False
        self.expected = True
        """Scores are expected marks; otherwise the likeliest mark."""

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.settings.name

    @property
    def compares(self) -> bool:
        """Whether it is asked about two pictures at once."""
        return self.settings.template == PAIR

    # ------------------------------------------------------------ prefixes and answers

    def inputs(self, samples: Sequence[Sample], seconds: Sequence[Sample] | None = None) -> VlmInputs:
        """Prefixes of single samples, or of pairs with one prompt: the first stands where a source would."""
        frames = [sample.frames() for sample in seconds or samples]
        sources = [sample.frames() for sample in samples] if seconds is not None else None
        return self.builder([sample.prompt for sample in samples], frames, sources)

    def read(self, inputs: VlmInputs) -> Prefix:
        """One pass over the prefixes; gradients flow through the cache."""
        inputs = inputs.to(next(self.vlm.parameters()).device)
        made = self.vlm(**inputs.model_arguments(), use_cache=True)
        last = inputs.attention_mask.sum(1) - 1
        rows = torch.arange(len(last), device=last.device)
        positions = inputs.position_ids[..., rows, last]
        following = (positions.amax(0) if positions.ndim == 2 else positions) + 1
        return Prefix(made.logits[rows, last].float(), inputs.attention_mask, following, made.past_key_values)

    def continued(self, prefix: Prefix, rows: Tensor, tokens: Tensor) -> Tensor:
        """Logits (R, L, V) after each of the tokens (R, L) that follow prefix `rows` (R,)."""
        cache = copy.copy(prefix.cache)
        cache.layers = [copy.copy(layer) for layer in prefix.cache.layers]
        cache.batch_select_indices(rows)
        mask = torch.cat([prefix.mask[rows], torch.ones_like(tokens)], 1)
        along = prefix.next[rows][:, None] + torch.arange(tokens.shape[1], device=tokens.device)
        places = along.expand(3, -1, -1) if self.builder.backbone.mrope else along
        made = self.vlm(
            input_ids=tokens, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True
        )
        logits: Tensor = made.logits.float()
        return logits

    def log_probs(self, prefix: Prefix, rows: Tensor, answers: Tensor) -> Tensor:
        """Log-probabilities (R, L) of the tokens of answers (R, L) that follow prefix `rows` (R,)."""
        logits = torch.cat([prefix.logits[rows][:, None], self.continued(prefix, rows, answers[:, :-1])], 1)
        return logits.log_softmax(-1).gather(2, answers[:, :, None])[..., 0]

    @torch.no_grad()
    def draw(self, prefix: Prefix, num: int, *stream: int | str) -> tuple[Tensor, Tensor]:
        """`num` random answers a prefix from the stream of that name: tokens (S * num, 3) and their prefix rows."""
        rows = torch.arange(len(prefix)).repeat_interleave(num)
        noise = generator(*stream)
        logits = prefix.logits[rows]
        tokens = torch.empty(len(rows), 0, dtype=torch.long)
        for place in range(3):
            chances = logits.softmax(-1).cpu()
            tokens = torch.cat([tokens, torch.multinomial(chances, 1, generator=noise)], 1)
            if place < 2:
                logits = self.continued(prefix, rows, tokens)[:, -1]
        return tokens, rows

    def answer(self, mark: int) -> tuple[int, int, int]:
        """The tokens of the verdict with this mark."""
        return self.opening, int(self.marks[mark]), self.end

    def marks_of(self, answers: Tensor) -> Tensor:
        """Marks (R,) said in answers (R, 3); NaN where an answer is not exactly `verdict mark end`."""
        hit = answers[:, 1, None] == self.marks
        readable = (answers[:, 0] == self.opening) & (answers[:, 2] == self.end) & hit.any(1)
        return torch.where(readable, hit.float().argmax(1).float(), torch.nan)

    def mark_log_probs(self, prefix: Prefix) -> Tensor:
        """Log-probabilities (S, K) of the marks after the opening word, among themselves."""
        opening = torch.full((len(prefix), 1), self.opening, device=prefix.logits.device)
        logits = self.continued(prefix, torch.arange(len(prefix)), opening)[:, -1]
        return logits[:, self.marks].log_softmax(-1)

    # ------------------------------------------------------------ the reward

    @torch.no_grad()
    def forward(self, *, samples: Sequence[Sample]) -> Scores:
        """The expected mark on [0, 1]."""
        if self.compares:
            raise ValueError(f"{self.name} compares two pictures: use its `prefer`")
        return score(
            samples,
            self._judge,
            names=self.dimensions,
            modalities=self.modalities,
            batch_size=self.batch_size,
        )

    def _judge(self, batch: Sequence[Prepared]) -> Tensor:
        samples = [Sample(one.prompt, one.frames) for one in batch]
        chances = self.mark_log_probs(self.read(self.inputs(samples))).exp().cpu()
        levels = torch.linspace(0, 1, len(self.marks))
        if not self.expected:
            return levels[chances.argmax(1)][:, None]
        return (chances * levels).sum(1, keepdim=True)

    @torch.no_grad()
    def prefer(self, firsts: Sequence[Sample], seconds: Sequence[Sample]) -> Tensor:
        """p(the first is better) (P,) of a model that compares; log-odds averaged over both orders."""
        odds = []
        for start in range(0, len(firsts), self.batch_size):
            a, b = firsts[start : start + self.batch_size], seconds[start : start + self.batch_size]
            there, back = (self.mark_log_probs(self.read(self.inputs(x, y))) for x, y in ((a, b), (b, a)))
            odds.append(((there[:, 0] - there[:, 1]) - (back[:, 0] - back[:, 1])) / 2)
        return torch.cat(odds).sigmoid().cpu()

    def save(self, folder: str | Path) -> Path:
        """Write the layout above."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        self.vlm.save_pretrained(target)
        self.tokenizer.save_pretrained(target)
        (target / PIXELS).write_text(json.dumps(pixels_record(self.builder), indent=2) + "\n")
        record = {"schema": SCHEMA, **asdict(self.settings)}
        (target / CONFIG).write_text(json.dumps(record, indent=2) + "\n")
        return target


def load_verdict_model(path: str | Path, *, batch_size: int = 64) -> VerdictModel:
    """What `VerdictModel.save` wrote."""
    folder = Path(path)
    record = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if record.pop("schema", None) != SCHEMA:
        raise ValueError(f"{folder / CONFIG} is no {SCHEMA}: train it again, or update mmalign")
    with quiet():
        vlm, report = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
    wrong = [key for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in report[kind]]
    if wrong:
        raise ValueError(f"{folder}: the weights do not fit the model: {wrong[:5]}")
    settings = VerdictSettings(**{**record, "words": tuple(record["words"])})
    made = VerdictModel(
        vlm,
        AutoTokenizer.from_pretrained(folder),
        read_pixels(folder, vlm.config),
        settings,
        batch_size=batch_size,
    )
    return made.eval()


def start_from(path: str, *, name: str, asks: str, marks: int) -> VerdictModel:
    """A verdict model to train: a saved one, or the backbone of a hidden-state reward model that learns to speak."""
    path = model_path(path)
    if (Path(path) / CONFIG).is_file():
        return load_verdict_model(path)
    reward: VlmReward = load_folder(path)
    words = ("1", "2") if asks == "pair" else tuple(str(mark) for mark in range(marks))
    return speaking(reward, name=name, template=PAIR if asks == "pair" else POINT, words=words)


def speaking(reward: VlmReward, *, name: str, template: str, words: Sequence[str]) -> VerdictModel:
    """The backbone of a reward model with the words of a verdict in its vocabulary; new words are the mean of all."""
    tokenizer, vlm = reward.builder.tokenizer, reward.vlm
    add_words(vlm, tokenizer, (SAYS, *words))
    settings = VerdictSettings(
        name, template, reward.settings.positions, tuple(words), reward.settings.max_prompt_tokens
    )
    made = VerdictModel(vlm, tokenizer, reward.builder.rule, settings)
    return made.requires_grad_(True).eval()


@torch.no_grad()
def add_words(
    vlm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: Sequence[str | AddedToken], *,
    like: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Words that the vocabulary lacks, as tokens of their own; each is the mean of all others, or the token that it is
    `like`, with seeded noise.
    """
    new = [str(word) for word in words if str(word) not in tokenizer.get_vocab()]
    tokenizer.add_tokens([word for word in words if str(word) not in tokenizer.get_vocab()])
    table = vlm.get_input_embeddings().weight.detach()
    mean, old = table.mean(0), table.shape[0]
    vlm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    rows = vlm.get_input_embeddings().weight[old:]
    noise = torch.randn(rows.shape, generator=generator("verdict-words")) * float(table.std())
    ids, begins = tokenizer.convert_tokens_to_ids, like or {}
    first = [table[ids(begins[word])] if word in begins else mean for word in new]
    rows.copy_(torch.stack(first) + noise if first else rows)


def worth_to_mark(worth: Tensor, num: int, top: float) -> Tensor:
    """Marks 0 ... num - 1 for worth in [0, top].

    >>> worth_to_mark(torch.tensor([0.0, 0.7, 9.0]), 10, 1.5).tolist()
    [0, 4, 9]
    """
    return (worth / top * (num - 1)).round().clamp(0, num - 1).long()
