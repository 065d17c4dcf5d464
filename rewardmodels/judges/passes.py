"""Several answers to a question after reading it once.

What a model remembers of a question (its keys and values) is the same for every answer to it, so it is made once and
copied for each. Questions with pictures are long and answers short: most of the work is in the reading.

Legend: Q questions of L tokens, R >= Q answers, N tokens said, V vocabulary.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from rewardmodels.judges.given import Inputs

KINDS = frozenset(
    {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "idefics3", "smolvlm", "internvl"}
)
"""The `model_type`s whose answers are known to be those of `generate`; others read a question for each answer."""


def shares_reading(model: PreTrainedModel) -> bool:
    """Whether the answers of this kind of model to one question can be said after reading it once."""
    return model.config.model_type in KINDS


@torch.no_grad()
def say(
    model: PreTrainedModel, inputs: Inputs, counts: Sequence[int], draw: LogitsProcessor | None, most: int
) -> list[list[int]]:  # fmt: skip
    """`counts` answers to each of Q questions (padded on the left), in order: the tokens of R rows, at most `most` of
    them. How an answer ends, and what cannot be said, stands in the `generation_config` of the model.
    """
    if max(counts) > 1:
        return _together(model, inputs, counts, draw, most).tolist()
    drawing = LogitsProcessorList([draw] if draw is not None else [])
    rows = model.generate(**inputs, max_new_tokens=most, logits_processor=drawing)
    return rows[:, inputs["input_ids"].shape[1] :].tolist()


def _together(
    model: PreTrainedModel, inputs: Inputs, counts: Sequence[int], draw: LogitsProcessor | None, most: int
) -> Tensor:  # fmt: skip
    """Tokens (R, N), padded behind one that ended."""
    how, device = model.generation_config, model.device
    row = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device)
    said, logits, step = inputs["input_ids"][row, :0], *_read(model, inputs, row)
    over = torch.zeros(len(row), dtype=torch.bool, device=device)
    while True:
        logits[:, how.suppress_tokens or []] = -math.inf
        warm = logits if draw is None else draw(said, logits)
        token = warm.argmax(-1).masked_fill(over, how.pad_token_id)
        said = torch.cat([said, token[:, None]], 1)
        over = over | torch.isin(token, torch.tensor(how.eos_token_id, device=device))
        if said.shape[1] == most or bool(over.all()):
            return said
        logits = step(token)


def _read(model: PreTrainedModel, inputs: Inputs, row: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Logits (R, V) of the first token after the questions of rows (R,), and what gives those after a token (R,)."""
    cache, seen = DynamicCache(config=model.config), inputs["attention_mask"]
    kept = {_cache_name(model): cache, "use_cache": True, "logits_to_keep": 1}
    places = {} if _draws_a_map(model, inputs) else {"position_ids": _places(seen)}
    first = model(**inputs, **places, **kept).logits[row, -1]
    further = 0 if places else model.model.rope_deltas[row]
    cache.batch_select_indices(row)
    seen = seen[row]

    def step(token: Tensor) -> Tensor:
        nonlocal seen
        seen = torch.cat([seen, seen.new_ones(len(row), 1)], 1)
        place = _places(seen)[:, -1:] + further
        if not places:
            place = place.expand(3, -1, -1)  # in time, height and width
        return model(input_ids=token[:, None], attention_mask=seen, position_ids=place, **kept).logits[:, -1]

    return first, step


def _cache_name(model: PreTrainedModel) -> str:
    """What the argument is called: later versions of transformers 5 renamed it."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _draws_a_map(model: PreTrainedModel, inputs: Inputs) -> bool:
    """Whether the model places the tokens of these questions itself, pictures in time, height and width; what follows
    them then stands `rope_deltas` further than counted.
    """
    return hasattr(model.model, "rope_deltas") and bool(
        {"pixel_values", "pixel_values_videos"} & inputs.keys()
    )


def _places(seen: Tensor) -> Tensor:
    """Where tokens stand (R, L), counted without padding."""
    return (seen.long().cumsum(1) - 1).clamp_min(0)
