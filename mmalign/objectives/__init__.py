"""Pure losses: tensors by role in, a loss per sample and metrics out. They know no device, rank, config or logger.

| module | holds |
|---|---|
| `sft` `rwr` | denoising error of good samples; weights from rewards |
| `dpo` | preference pairs: DPO, IPO, hinge, robust, SmPO, SimPO, and NPO (labels turned) |
| `grpo` | clipped ratios, GRPO-Guard, KL to the reference |
| `nft` | DiffusionNFT |
| `advantages` `shaping` | from rewards to advantages; reward transforms |
| `spoken` | verdicts in words: rule and GCPO rewards, the clipped loss on an answer's tokens |
| `reward` `ordinal` `ranking` | what reward models learn from: pairs, ratings, rankings |

Shape legend: `B` samples or pairs. An excluded sample (NaN weight, advantage or label; `where` false) has loss 0.
"""
