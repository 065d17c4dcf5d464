"""Tokenizers made offline, for reward models trained from scratch on a small world.

Legend: L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rewardmodels.inputs import REWARD_TOKEN

PAD, UNKNOWN, END = "<|endoftext|>", "<|unknown|>", "<|im_end|>"
VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def word_tokenizer(words: Sequence[str], special: Sequence[str] = (REWARD_TOKEN,)) -> PreTrainedTokenizerFast:
    """A fast tokenizer with one token per word, lower case; other words become the unknown token.

    Special tokens are not in the word list, so text that spells one is split and stays unknown words.

    >>> word_tokenizer(["a", "red", "circle"])("A red dog").input_ids
    [1, 2, 0]
    """
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((UNKNOWN, *words)))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[*VISION, *special],
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
