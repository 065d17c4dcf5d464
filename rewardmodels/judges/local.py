"""Judges in this process: any transformers model that takes pictures and text, through its own processor.

Several answers to a question are said after reading it once (`passes`). Answers do not depend on which questions share
a batch: rows are padded on the left, and every row draws its tokens from a random stream named by its question and
seed. Settings hidden in a checkpoint's `generation_config.json` (penalties, temperatures) are not used; what decides an
answer is the `Sampling`.

Legend: B questions of a batch, L tokens, V vocabulary, W words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from jinja2.exceptions import TemplateError
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from mmalign.media import to_pil
from rewardmodels.clips import Clip
from rewardmodels.judges.answers import Answers
from rewardmodels.judges.chat import Answer, Part, Question, Sampling, Words, key_of, matches
from rewardmodels.judges.drawing import Draw
from rewardmodels.judges.given import Inputs, mean_log_prob, with_answers
from rewardmodels.judges.passes import say, shares_reading
from rewardmodels.judges.videos import as_videos, takes_videos, unframed
from rewardmodels.towers import speed_up

Asked = tuple[Question, Sampling]


@dataclass(eq=False)
class LocalEngine:
    """An engine on a loaded model; `name` must change with the weights, it is part of every cache key. `batch_size` is
    in questions: all answers to one are said together.
    """

    model: PreTrainedModel
    processor: ProcessorMixin
    name: str
    batch_size: int = 8
    answers: Answers = field(default_factory=Answers)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        kept = self.model.generation_config
        ends = kept.eos_token_id if kept is not None else None
        self.tokenizer = self.processor.tokenizer
        ends = ends if ends is not None else self.tokenizer.eos_token_id
        self.ends = frozenset(ends if isinstance(ends, list) else [ends])
        pad = self.tokenizer.pad_token_id
        self.pad = int(pad if pad is not None else min(self.ends))
        self.model.generation_config = GenerationConfig(
            eos_token_id=sorted(self.ends),
            pad_token_id=self.pad,
            do_sample=False,
            suppress_tokens=self._pictures(),
        )
        speed_up(self.model)
        self.watches = takes_videos(self.processor)
        self.special = tuple(self.tokenizer.all_special_tokens)
        self.ids_of = lru_cache(maxsize=256)(self._ids_of)

    def _pictures(self) -> list[int] | None:
        """The tokens that stand for pictures and videos, which nobody can say."""
        named = (getattr(self.processor, f"{kind}_token_id", None) for kind in ("image", "video"))
        return sorted({token for token in named if token is not None}) or None

    def generate(self, questions: Sequence[Question], sampling: Sequence[Sampling]) -> list[Answer]:
        """One answer a question; equal ones are asked once, kept ones not at all."""
        records = [how.record() for how in sampling]
        keys = [key_of(self.name, q, record) for q, record in zip(questions, records, strict=True)]
        found = {key: Answer(**kept) for key in dict.fromkeys(keys) if (kept := self.answers.get(key))}
        once = shares_reading(self.model)
        alike: dict[tuple[Any, ...], dict[str, dict[str, Asked]]] = {}
        for key, question, how in zip(keys, questions, sampling, strict=True):
            if key not in found:
                manner = (how.max_tokens, how.temperature, how.top_p, how.top_k)
                same = alike.setdefault(manner, {}).setdefault(question.digest if once else key, {})
                same[key] = (question, how)
        for groups in (list(members.values()) for members in alike.values()):
            for start in range(0, len(groups), self.batch_size):
                batch = groups[start : start + self.batch_size]
                made = self._generate([list(group.values()) for group in batch])
                for key, answer in zip((key for group in batch for key in group), made, strict=True):
                    found[key] = answer
                    if answer.problem is None:
                        self.answers.put(key, asdict(answer))
        return [found[key] for key in keys]

    @torch.no_grad()
    def _generate(self, groups: Sequence[Sequence[Asked]]) -> list[Answer]:
        """The answers of groups in order; those of a group are to one question, which is read once."""
        how = groups[0][0][1]

        def answer(places: Sequence[int], inputs: Inputs) -> list[list[Answer]]:
            asked = [groups[place] for place in places]
            draw = Draw([one for group in asked for one in group], how) if how.temperature > 0 else None
            said = iter(say(self.model, inputs, [len(group) for group in asked], draw, how.max_tokens))
            return [[self._answer(next(said), how.max_tokens) for _ in group] for group in asked]

        questions = [group[0][0] for group in groups]
        made = self._batched(questions, answer, [how.max_tokens] * len(groups))
        return [
            one
            for group, found in zip(groups, made, strict=True)
            for one in ([Answer(problem=found)] * len(group) if isinstance(found, str) else found)
        ]

    def _answer(self, tokens: list[int], limit: int) -> Answer:
        end = next((i for i, token in enumerate(tokens) if token in self.ends), None)
        said = tokens if end is None else tokens[:end]
        text = self.tokenizer.decode(said, skip_special_tokens=True)
        cut = end is None and len(said) >= limit
        return Answer(
            text, cut=cut, num_tokens=len(said), tokens=tokens if end is None else tokens[: end + 1]
        )

    def forget(self) -> None:
        """What was said before is no longer what the model says: its weights have changed."""
        self.answers = Answers()

    def tokens_of(self, text: str) -> list[int]:
        """A text as a whole answer, with the token that ends it; ValueError where the vocabulary cannot write it."""
        found = list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        if self.tokenizer.unk_token_id is not None and self.tokenizer.unk_token_id in found:
            raise ValueError(f"the tokenizer of {self.name} cannot write {text!r}: use words that it has")
        return [*found, min(self.ends)]

    @torch.no_grad()
    def first_words(
        self, questions: Sequence[Question], words: Sequence[str], *, variants: bool = True
    ) -> list[Words]:
        """Log-probabilities over the whole vocabulary, in float32."""
        ids = [self.ids_of(word, variants) for word in words]

        def look(places: Sequence[int], inputs: Inputs) -> list[Words]:
            made = self.model.generate(
                **inputs, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
            )
            logs = made.logits[0].float().log_softmax(-1).cpu()
            rows = torch.stack([logs[:, list(some)].logsumexp(-1) for some in ids], 1).tolist()
            return [Words(tuple(row)) for row in rows]

        return self._in_batches(questions, look, [1] * len(questions))

    @torch.no_grad()
    def echo(self, questions: Sequence[Question], answers: Sequence[str]) -> list[Words]:
        """Mean log-probability of each given answer's tokens after its question, in float32."""
        tokens = [
            self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            for text in answers
        ]

        def look(places: Sequence[int], inputs: Inputs) -> list[Words]:
            rows = [tokens[i] for i in places]
            width = inputs["input_ids"].shape[1]
            logits = self.model(**with_answers(inputs, rows, self.pad), use_cache=False).logits
            return [
                Words((mean_log_prob(logits[b, width - 1 : width - 1 + len(row)], row),))
                if row
                else Words(problem="the text is empty")
                for b, row in enumerate(rows)
            ]

        return self._in_batches(questions, look, [len(row) for row in tokens])

    def logits(self, questions: Sequence[Question], answers: Sequence[Sequence[int]]) -> Tensor:
        """Logits (B, L, V) for each token of given answers after their questions, with gradients; L is the longest.

        What lies behind the end of a shorter answer means nothing. ValueError for a question that cannot be asked.
        """
        inputs = with_answers(self._inputs(questions), answers, self.pad)
        num = max(map(len, answers))
        logits: Tensor = self.model(**inputs, use_cache=False, logits_to_keep=num + 1).logits
        return logits[:, :-1].float()

    def _ids_of(self, word: str, variants: bool) -> tuple[int, ...]:
        """Every token that is this word; ValueError where the vocabulary has none."""
        special = set(self.tokenizer.all_special_ids)
        names = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        close = [
            i for i, name in enumerate(names)
            if i not in special and name is not None and word.casefold() in name.casefold()
        ]  # fmt: skip
        found = tuple(
            i for i in close
            if matches(self.tokenizer.convert_tokens_to_string([names[i]]), word, variants=variants)
        )  # fmt: skip
        if not found:
            raise ValueError(f"the tokenizer of {self.name} has no single token for '{word}'")
        return found

    # ------------------------------------------------------------ batches

    def _in_batches(
        self, questions: Sequence[Question], look: Callable[[Sequence[int], Inputs], list[Words]],
        reserves: Sequence[int],
    ) -> list[Words]:  # fmt: skip
        made: list[Words] = []
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            found = self._batched(batch, partial(_shifted, look, start), reserves[start : start + len(batch)])
            made += [Words(problem=one) if isinstance(one, str) else one for one in found]
        return made

    def _batched(
        self, questions: Sequence[Question], look: Callable[[Sequence[int], Inputs], list[Any]],
        reserves: Sequence[int],
    ) -> list[Any]:  # fmt: skip
        """What `look` finds for each question, or a problem for one that the processor refuses or that is too long.

        `reserves` are the tokens that each answer needs beside its question.
        """
        found: list[Any] = [None] * len(questions)
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        places = list(range(len(questions)))
        while places:
            inputs, problems = self._encode(questions, places)
            lengths = [] if inputs is None else inputs["attention_mask"].sum(1).tolist()
            good = [place for place in places if place not in problems]
            for place, length in zip(good, lengths, strict=True):
                if length + reserves[place] > limit:
                    problems[place] = (
                        f"a question of {length} tokens and its answer do not fit into {limit} tokens"
                    )
            for place, problem in problems.items():
                found[place] = problem
            if not problems:
                assert inputs is not None
                for place, made in zip(places, look(places, inputs), strict=True):
                    found[place] = made
                break
            places = [place for place in places if place not in problems]
        return found

    def _encode(
        self, questions: Sequence[Question], places: Sequence[int]
    ) -> tuple[Inputs | None, dict[int, str]]:
        """The processor's inputs of all that it takes, and what is wrong with the others, by place."""
        try:
            return self._inputs([questions[i] for i in places]), {}
        except ValueError as error:
            if len(places) == 1:
                return None, {places[0]: " ".join(str(error).split())}
        problems: dict[int, str] = {}
        for place in places:
            problems |= self._encode(questions, [place])[1]
        good = [place for place in places if place not in problems]
        return (self._inputs([questions[i] for i in good]) if good else None), problems

    def _inputs(self, questions: Sequence[Question]) -> Inputs:
        return self.processed([self.text(question) for question in questions], questions)

    def processed(self, texts: Sequence[str], questions: Sequence[Question]) -> Inputs:
        """What the model gets for texts with the pictures and clips of questions, padded on the left."""
        pictures = [[to_pil(one.detach()) for one in question.pictures] for question in questions]
        clips = [clip for question in questions for clip in question.clips]
        made = self.processor(
            text=list(texts),
            **({"images": pictures} if any(pictures) else {}),
            **(as_videos(clips) if clips else {}),
            padding=True,
            padding_side="left",
            return_tensors="pt",
            add_special_tokens=False,
        )
        return {
            name: tensor.to(self.model.device, self.model.dtype if tensor.is_floating_point() else None)
            for name, tensor in made.items()
            if isinstance(tensor, Tensor)
        }

    def text(self, question: Question) -> str:
        """The conversation in the model's own chat format, up to where its answer goes on; ValueError for one that
        cannot be asked.
        """
        for token in self.special:
            for message in question.messages:
                if any(isinstance(part, str) and token in part for part in message.parts):
                    raise ValueError(f"the text holds the control token {token} of the model: remove it")
        if question.clips and not self.watches:
            raise ValueError(
                f"{self.name} takes no videos: show their frames (videos: frames in the judge file)"
            )
        messages = [
            {"role": message.role, "content": [_content(part) for part in message.parts]}
            for message in question.messages
        ]
        try:
            text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ValueError(f"the chat template refuses the question: {error}") from error
        return unframed(str(text), self.processor) + question.start


def _shifted(
    look: Callable[[Sequence[int], Inputs], list[Words]], start: int, places: Sequence[int], inputs: Inputs
) -> list[Words]:
    """Look at places of a batch that begins at `start`."""
    return look([start + place for place in places], inputs)


def _content(part: Part) -> dict[str, str]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "video" if isinstance(part, Clip) else "image"}
