"""What a CLIP-type reward is trained from: published files, a saved reward, or tiny random towers of the real classes.

Legend: E embedding width, W width.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmalign.seeds import seed_of
from rewardmodels.clip import prompt_ids
from rewardmodels.clip.blip import PictureEncoder, TextEncoder
from rewardmodels.clip.embedding_head import HEAD_FILES, new_chain, read_chain
from rewardmodels.clip.image_reward import FILES as BLIP_FILES
from rewardmodels.clip.image_reward import MEAN, STD, Blip
from rewardmodels.clip.recipe import ClipModel, ClipScratch
from rewardmodels.clip.scorers import BlipHead, EmbeddingHead, Similarity
from rewardmodels.clip.settings import ClipSettings
from rewardmodels.clip.similarity import HPS_RULE
from rewardmodels.clip.squares import SquareRule
from rewardmodels.clip.towers import HfTowers, OpenClipTowers, load_towers
from rewardmodels.clip.trained import ClipReward, blip_scorer, load_folder
from rewardmodels.clip.weights import find_file, locate, read_tensors
from rewardmodels.folders import CONFIG

BERT = "google-bert/bert-base-uncased"
COSINES = ("logit", "cosine")
"""Scores of the same two towers, which differ in the learned factor only."""


def start(model: ClipModel, words: Sequence[str], *, dimension: str, seed: int = 0) -> ClipReward:
    """The reward to train; the same seed gives the same new weights. `words` are those of prompts, for new towers."""
    saved = None
    if model.path is not None and (Path(model.path) / CONFIG).is_file():
        saved = load_folder(model.path)
        settings = replace(saved.settings, name=model.name, dimensions=(dimension,))
        if settings.score == model.score:
            saved.settings = settings
            return saved
        if settings.score not in COSINES or model.score == "blip":
            raise ValueError(
                f"{model.path} has score: {settings.score}, the recipe {model.score}: say the same"
            )
        if model.score in COSINES:
            saved.settings = replace(settings, score=model.score, mean=(0.0,), std=(1.0,))
            return saved
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "reward-weights"))
        if model.score == "blip":
            scorer: Similarity | EmbeddingHead | BlipHead = _blip(model, words)
        else:
            scorer = _on_towers(model, words, None if saved is None else saved.scorer.encoder)
    published = model.score == "blip" and model.scratch is None
    settings = ClipSettings(
        model.name, model.score, (dimension,), model.modalities, asdict(scorer.rule), model.prefix,
        model.head.activation,
        mean=(MEAN if published else 0.0,), std=(STD if published else 1.0,),
    )  # fmt: skip
    return ClipReward(scorer, settings)


def _on_towers(model: ClipModel, words: Sequence[str], saved: Any = None) -> Similarity | EmbeddingHead:
    """New or published towers, or those of a saved reward, and the head if there is one."""
    rule = HPS_RULE if model.squares == "pad" else None
    towers: HfTowers | OpenClipTowers
    if saved is not None:
        towers = saved
    elif model.scratch is not None:
        towers = new_towers(model.scratch, words, rule or SquareRule())
    else:
        assert model.path is not None
        towers = load_towers(
            model.path,
            architecture=model.architecture,
            inside=model.inside,
            tokenizer=model.tokenizer,
            rule=rule,
        )
    if model.score != "head":
        return Similarity(towers, model.prefix)
    if model.head_file is not None:
        file = find_file(locate(model.head_file, HEAD_FILES), HEAD_FILES)
        chain = read_chain(read_tensors(file), activation=model.head.activation, source=str(file))
        chain.dropout.p = model.head.dropout
    else:
        wide = towers.width * (1 if model.head.reads == "picture" else 2)
        chain = new_chain(wide, model.head.widths, model.head.activation, dropout=model.head.dropout)
    made = EmbeddingHead(towers, chain)
    if (made.reader is not None) != model.reads_prompt:
        raise ValueError(f"{model.head_file} reads another width: set head.reads to what it was trained on")
    return made


def new_towers(scratch: ClipScratch, words: Sequence[str], rule: SquareRule) -> HfTowers:
    """A transformers CLIPModel with random weights, one token a word."""
    from transformers import CLIPConfig, CLIPModel

    from mmalign.shapes.architectures import build_tokenizer

    tokenizer = build_tokenizer(words)
    shared = {
        "hidden_size": scratch.width, "intermediate_size": 2 * scratch.width,
        "num_attention_heads": scratch.heads, "projection_dim": scratch.embedding,
    }  # fmt: skip
    config = CLIPConfig(
        text_config=shared | {
            "num_hidden_layers": scratch.text_layers, "vocab_size": len(tokenizer),
            "max_position_embeddings": scratch.tokens, "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=shared | {
            "num_hidden_layers": scratch.image_layers, "image_size": scratch.image_size,
            "patch_size": scratch.patch_size,
        },
        projection_dim=scratch.embedding,
    )  # fmt: skip
    reader = prompt_ids.from_tokenizer(tokenizer, length=scratch.tokens)
    return HfTowers(CLIPModel(config), replace(rule, size=scratch.image_size), reader, tokenizer)


def _blip(model: ClipModel, words: Sequence[str]) -> BlipHead:
    if model.scratch is None:
        assert model.path is not None
        file = find_file(locate(model.path, BLIP_FILES), BLIP_FILES)
        place = locate(
            model.tokenizer or BERT,
            ("tokenizer*.json", "vocab.txt", "special_tokens_map.json", "config.json"),
        )
        made = blip_scorer(file, place)
        made.head.dropout.p = model.head.dropout
        return made
    scratch = model.scratch
    tokenizer = _bert_tokenizer(words)
    blip = Blip(
        PictureEncoder(
            width=scratch.width, inner=2 * scratch.width, num_layers=scratch.image_layers, patch=scratch.patch_size,
            num_positions=1 + (scratch.image_size // scratch.patch_size) ** 2,
        ),
        TextEncoder(
            num_words=len(tokenizer), num_positions=scratch.tokens, width=scratch.width, inner=2 * scratch.width,
            num_layers=scratch.text_layers, picture_width=scratch.width,
        ),
    )  # fmt: skip
    for table in (blip.visual_encoder.cls_token, blip.visual_encoder.pos_embed):
        nn.init.normal_(table, std=0.02)
    chain = new_chain(scratch.width, model.head.widths, model.head.activation, dropout=model.head.dropout)
    return BlipHead(blip, chain, prompt_ids.from_tokenizer(tokenizer, length=scratch.tokens), tokenizer)


def _bert_tokenizer(words: Sequence[str]) -> Any:
    """BERT's, with one token a word."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        (Path(folder) / "vocab.txt").write_text(
            "\n".join((*special, *sorted(set(words)), "")), encoding="utf-8"
        )
        (Path(folder) / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}), encoding="utf-8"
        )
        return AutoTokenizer.from_pretrained(folder)
