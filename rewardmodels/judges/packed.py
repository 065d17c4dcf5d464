"""Questions that begin alike share a row of a forward pass: their pictures and clips are read once, and they do not see
each other. Training asks so, because four prompts about one picture cost little more than one; the logits are those of
`LocalEngine.logits`, which asks every question alone.

Legend: Q questions, A answer tokens, L tokens of a question's beginning, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewardmodels.backbones import BACKBONES, backbone_of
from rewardmodels.clips import Clip
from rewardmodels.judges.chat import Medium, Question
from rewardmodels.judges.given import Inputs
from rewardmodels.judges.local import LocalEngine
from rewardmodels.packing import Row, batched

WORDS = ("input_ids", "attention_mask", "mm_token_type_ids")
"""What a processor makes of the text; the rest it makes of the pictures."""


def answer_logits(
    engine: LocalEngine, questions: Sequence[Question], answers: Sequence[Sequence[int]]
) -> Tensor:
    """Logits (Q, A, V) for each token of given answers after their questions, with gradients; A is the longest.

    What lies behind the end of a shorter answer means nothing. ValueError for a question that cannot be asked.
    """
    marks = _marks(engine)
    if not can_share(engine.model) or not all(_marked(question, marks) for question in questions):
        return engine.logits(questions, answers)
    texts = [engine.text(question) for question in questions]
    beginnings = [text[: _end(text, marks)] for text in texts]
    members: dict[tuple[object, ...], list[int]] = {}
    for i, (beginning, question) in enumerate(zip(beginnings, questions, strict=True)):
        seen = (*map(_identity, question.pictures), *map(_identity, question.clips))
        members.setdefault((beginning, *seen), []).append(i)
    first = [group[0] for group in members.values()]
    made = engine.processed([beginnings[i] for i in first], [questions[i] for i in first])
    tails, most = _tails(engine, texts, {token for _, token in marks.values()}), max(map(len, answers))
    groups = [
        [_row(start, tails[i], answers[i], most) for i in group]
        for start, group in zip(_starts(engine.model, made), members.values(), strict=True)
    ]
    order = torch.tensor([i for group in members.values() for i in group]).argsort()
    visual = {name: tensor for name, tensor in made.items() if name not in WORDS}
    mrope = backbone_of(engine.model.config.model_type).mrope
    inputs = batched(groups, order, visual, pad=engine.pad, mrope=mrope)
    hidden = engine.model.model(**inputs.model_arguments(), use_cache=False).last_hidden_state
    logits: Tensor = engine.model.get_output_embeddings()(hidden[inputs.rows[:, None], inputs.columns])
    return logits.float()


def can_share(model: PreTrainedModel) -> bool:
    """Whether it is of a family whose positions are known here, and takes a mask of who sees whom."""
    known = any(model.config.model_type in backbone.model_types for backbone in BACKBONES)
    return known and model.config._attn_implementation == "sdpa"


def _identity(medium: Medium) -> tuple[object, ...]:
    """The same for views of the same pixels."""
    if isinstance(medium, Clip):
        return (*_identity(medium.frames), medium.times, medium.step)
    return medium.data_ptr(), medium.shape, medium.stride()


def _marks(engine: LocalEngine) -> dict[str, tuple[str, int]]:
    """By kind, what stands for a picture or a video in a text, with its token."""
    known = engine.tokenizer.get_added_vocab()
    named = {kind: getattr(engine.processor, f"{kind}_token", None) for kind in ("image", "video")}
    return {kind: (mark, known[mark]) for kind, mark in named.items() if mark is not None and mark in known}


def _marked(question: Question, marks: Mapping[str, tuple[str, int]]) -> bool:
    """Whether it shows something, and all of it has such a token."""
    shown = {"image": question.pictures, "video": question.clips}
    kinds = {kind for kind, media in shown.items() if media}
    return bool(kinds) and kinds <= marks.keys()


def _end(text: str, marks: Mapping[str, tuple[str, int]]) -> int:
    """Where the last picture or video of a text ends."""
    return max(text.rfind(mark) + len(mark) for mark, _ in marks.values() if mark in text)


def _tails(engine: LocalEngine, texts: Sequence[str], marks: Collection[int]) -> list[list[int]]:
    """The tokens of every text behind its last picture or video."""
    rows = engine.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [row[max(i for i, token in enumerate(row) if token in marks) + 1 :] for row in rows]


def _starts(model: PreTrainedModel, made: Inputs) -> list[Tensor]:
    """Ids and positions (4, L) of every beginning, without padding."""
    ids, real = made["input_ids"], made["attention_mask"]
    if backbone_of(model.config.model_type).mrope:
        inner: Any = model.model
        told = {name: made.get(name) for name in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")}
        kinds = made["mm_token_type_ids"]
        places = inner.get_rope_index(ids, mm_token_type_ids=kinds, attention_mask=real, **told)[0]
    else:
        places = (real.cumsum(1) - 1).expand(3, -1, -1)
    packed = torch.cat([ids[None], places.to(ids.dtype)]).cpu()
    return [packed[:, i, mask] for i, mask in enumerate(real.bool().cpu())]


def _row(start: Tensor, tail: Sequence[int], answer: Sequence[int], most: int) -> Row:
    """A question behind its beginning (4, L) with its answer but for the last token, which nothing follows."""
    ids = torch.tensor([*tail, *answer[:-1]], dtype=torch.long)
    along = int(start[2:].max()) + 1 + torch.arange(len(ids))  # long videos last beyond it, and do not count
    packed = torch.cat([start, torch.stack([ids, along, along, along])], 1)
    columns = start.shape[1] + len(tail) - 1 + torch.arange(most).clamp(max=len(answer) - 1)
    return Row(packed, columns, start.shape[1])
