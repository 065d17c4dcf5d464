"""The model card of a bundled generator: how it was made, what it cost, what the exact verifier says of it."""

from __future__ import annotations

from pathlib import Path

import torch

from mmalign.policies.base import Policy
from mmalign.policies.registry import load
from mmalign.rollout import rollout
from mmalign.shapes import sample_prompts, verify
from mmalign.stats.intervals import Interval, mean

NUM_PROMPTS = 700
NUM_STEPS = 20
GUIDANCE = (1.0, 2.0, 3.0)

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# shapes-{kind}: a tiny text-to-image generator of the shapes world

A genuine `{pipeline}` folder for pictures of 32 x 32 pixels, {parameters:,} parameters, made to be aligned: good
enough to learn from, bad enough to gain.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{kind}"{load})
pipe("a red circle"{stock}).images[0]
```

## How it was made

`python -m pipelines.pretrain {kind} --output FOLDER`, seed {seed}: {steps:,} batches of {batch_size} drawn pictures of
training prompts, {minutes:.0f} minutes on one core of a shared machine; the autoencoder before it (`python -m
pipelines.pretrain autoencoder`) {autoencoder}.

## What was measured

Share of {num} held-out prompts whose picture the exact verifier passes, with its 95 % interval ({steps_taken}
deterministic steps):

| guidance | all | {headings} |
|---|---|{rule}|
{rows}
"""


def write_card(folder: Path, kind: str, facts: dict[str, object]) -> None:
    """Measure the pipeline in `folder` and write its card there."""
    policy = load(folder)
    prompts = sample_prompts("heldout", NUM_PROMPTS, seed=7)
    rows = []
    for guidance in GUIDANCE:
        whole, parts = pass_rates(policy, prompts, guidance)
        shares = " | ".join(f"{100 * part:.0f}%" for part in parts.values())
        rows.append(
            f"| {guidance:g} | {100 * whole.mean:.1f}% [{100 * whole.low:.1f}, {100 * whole.high:.1f}] | {shares} |"
        )
    card = CARD.format(
        kind=kind,
        pipeline=type(policy.pipeline).__name__,
        parameters=sum(p.numel() for p in policy.network.parameters()),
        load=", text_encoder_3=None, tokenizer_3=None"
        if kind == "flow"
        else "",  # diffusers wants to be told
        stock=", max_sequence_length=0" if kind == "flow" else "",
        num=NUM_PROMPTS,
        steps_taken=NUM_STEPS,
        headings=" | ".join(parts),
        rule="---|" * (len(parts) - 1) + "---",
        rows="\n".join(rows),
        **facts,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


@torch.no_grad()
def pass_rates(policy: Policy, prompts: list[str], guidance: float) -> tuple[Interval, dict[str, float]]:
    """Share passed, in all and by category, on one fixed seed a prompt."""
    passed: list[float] = []
    categories: list[str] = []
    for start in range(0, len(prompts), 100):
        asked = prompts[start : start + 100]
        noise = [torch.Generator().manual_seed(start + i) for i in range(len(asked))]
        latents = policy.initial_latents(len(asked), generators=noise)
        conditions = policy.encode(asked, guidance=guidance)
        made = rollout(policy, conditions, latents, num_steps=NUM_STEPS, guidance=guidance, record=False)
        verdict = verify(policy.decode(made.clean)[:, 0], asked)
        passed += verdict.passed.float().tolist()
        categories += verdict.categories
    known = sorted(set(categories))
    parts = {
        name: mean([p for p, c in zip(passed, categories, strict=True) if c == name]).mean for name in known
    }
    return mean(passed), parts
