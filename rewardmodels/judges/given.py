"""Given answers behind their questions: what a model reads to say how likely they are.

Legend: B questions of L tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Inputs = dict[str, Tensor]
"""What a processor makes of questions, by the names of the model's arguments."""


def with_answers(inputs: Inputs, rows: Sequence[Sequence[int]], pad: int) -> Inputs:
    """Questions (B, L) padded on the left, with given answer tokens after them, padded on the right."""
    width = max(max((len(row) for row in rows), default=0), 1)
    device = inputs["input_ids"].device
    ids = torch.full((len(rows), width), pad, dtype=torch.long, device=device)
    seen = torch.zeros_like(ids)
    for b, row in enumerate(rows):
        ids[b, : len(row)] = torch.tensor(row, dtype=torch.long, device=device)
        seen[b, : len(row)] = 1
    made = dict(inputs)
    made["input_ids"] = torch.cat([inputs["input_ids"], ids], 1)
    made["attention_mask"] = torch.cat([inputs["attention_mask"], seen.to(inputs["attention_mask"].dtype)], 1)
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        made["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(ids, dtype=kinds.dtype)], 1)
    return made


def mean_log_prob(logits: Tensor, tokens: Sequence[int]) -> float:
    """Mean over tokens of log p(token), from logits (len(tokens), V) at the places before them."""
    logs = logits.float().log_softmax(-1)
    chosen = torch.tensor(tokens, device=logits.device)[:, None]
    return float(logs.gather(1, chosen).mean())
