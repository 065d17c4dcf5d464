"""The bundled generators before training: tiny instances of the real diffusers and transformers classes.

A picture of 32 x 32 pixels becomes latents (LATENT_CHANNELS, 8, 8); a prompt becomes at most
`MAX_TOKENS` tokens, one word each. Everything is built offline from the vocabulary of the prompts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

IMAGE_SIZE = 32
LATENT_CHANNELS = 4
MAX_TOKENS = 14
TEXT_WIDTH = 64


def build_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """A CLIP tokenizer whose byte-pair merges make one token of each of `words`; the same for the same words."""
    merges: list[tuple[str, str]] = []
    for word in sorted(set(words)):
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        for merge in merges:
            pieces = merged(pieces, merge)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = merged(pieces, merges[-1])
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(numbers))
        lines = ["#version: 0.2", *(" ".join(merge) for merge in merges), ""]
        (Path(folder) / "merges.txt").write_text("\n".join(lines))
        return CLIPTokenizer.from_pretrained(folder, model_max_length=MAX_TOKENS)


def merged(pieces: Sequence[str], merge: tuple[str, str]) -> list[str]:
    """The pieces of a word after one byte-pair merge.

    >>> merged(["a", "n", "a", "n"], ("a", "n"))
    ['an', 'an']
    """
    made: list[str] = []
    for piece in pieces:
        if made and (made[-1], piece) == merge:
            made[-1] += piece
        else:
            made.append(piece)
    return made


def text_config(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPTextConfig:
    """Configuration of a tiny CLIP text encoder for `tokenizer`."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def build_autoencoder() -> AutoencoderKL:
    """An untrained autoencoder from (3, 32, 32) pictures to (LATENT_CHANNELS, 8, 8) latents."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def build_flow_pipeline(vae: AutoencoderKL, words: Sequence[str]) -> StableDiffusion3Pipeline:
    """An untrained flow-matching pipeline around `vae`: two CLIP text encoders, no T5."""
    tokenizer = build_tokenizer(words)
    encoders = [CLIPTextModelWithProjection(text_config(tokenizer, TEXT_WIDTH, 3)) for _ in range(2)]
    transformer = SD3Transformer2DModel(
        sample_size=IMAGE_SIZE // 4,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=5,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=128,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def build_epsilon_pipeline(vae: AutoencoderKL, words: Sequence[str]) -> StableDiffusionPipeline:
    """An untrained epsilon-prediction pipeline around `vae`: one CLIP text encoder and a UNet."""
    tokenizer = build_tokenizer(words)
    width = 2 * TEXT_WIDTH
    unet = UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(32, 96),
        layers_per_block=1,
        cross_attention_dim=width,
        attention_head_dim=(1, 3),
        norm_num_groups=8,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text_config(tokenizer, width, 3)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
