"""ImageReward's own encoders give what transformers' BLIP gives with the same weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision.transforms.functional as TF
from torch import Tensor
from torchvision.transforms import InterpolationMode
from transformers import AutoTokenizer, BlipTextConfig, BlipVisionConfig, BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

import rewardmodels
from mmalign.media import to_pil
from mmalign.types import Sample
from rewardmodels.clip.squares import CLIP_MEAN, CLIP_STD
from tests.contract import tiny_clip

PROMPTS = ["a red fox", "two birds on a tree that is much too long for thirty five letters"]
RENAMED = (
    (r"^cls_token$", "embeddings.class_embedding"), (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj", "embeddings.patch_embedding"),
    (r"^blocks\.(\d+)\.norm(\d)", r"encoder.layers.\1.layer_norm\2"),
    (r"^blocks\.(\d+)\.attn\.qkv", r"encoder.layers.\1.self_attn.qkv"),
    (r"^blocks\.(\d+)\.attn\.proj", r"encoder.layers.\1.self_attn.projection"),
    (r"^blocks\.(\d+)\.mlp", r"encoder.layers.\1.mlp"), (r"^norm\.", "post_layernorm."),
)  # fmt: skip
"""Published name of the picture encoder -> transformers' name."""


def renamed(name: str) -> str:
    for pattern, new in RENAMED:
        name, done = re.subn(pattern, new, name)
        if done:
            return name
    raise AssertionError(name)


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): item for name, item in weights.items() if name.startswith(prefix)}


@torch.no_grad()
def reconstruction(folder: Path, images: list[Tensor]) -> Tensor:
    weights = torch.load(folder / "ImageReward.pt", weights_only=True)
    vision = BlipVisionModel(
        BlipVisionConfig(hidden_size=128, intermediate_size=160, num_hidden_layers=2, num_attention_heads=2,
                         image_size=32, patch_size=8, layer_norm_eps=1e-6, hidden_act="gelu")
    ).eval()  # fmt: skip
    vision.load_state_dict({renamed(k): v for k, v in part(weights, "blip.visual_encoder.").items()})
    text = BlipTextModel(
        BlipTextConfig(vocab_size=59, hidden_size=64, intermediate_size=80, num_hidden_layers=2, num_attention_heads=1,
                       max_position_embeddings=48, encoder_hidden_size=128, is_decoder=True, layer_norm_eps=1e-12),
        add_pooling_layer=False,
    ).eval()  # fmt: skip
    named = part(weights, "blip.text_encoder.")
    del named["embeddings.position_ids"]
    text.load_state_dict(named)
    pixels = [
        TF.to_tensor(TF.center_crop(TF.resize(to_pil(i), 32, InterpolationMode.BICUBIC), 32)) for i in images
    ]
    seen = TF.normalize(torch.stack(pixels), CLIP_MEAN, CLIP_STD)
    tokenizer = AutoTokenizer.from_pretrained(folder / "bert")
    words = tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    patches = vision(seen).last_hidden_state
    out = text(
        words.input_ids, attention_mask=words.attention_mask, encoder_hidden_states=patches,
        encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long), is_decoder=False,
    ).last_hidden_state[:, 0]  # fmt: skip
    for number in (0, 2, 4, 6, 7):
        out = out @ weights[f"mlp.layers.{number}.weight"].T + weights[f"mlp.layers.{number}.bias"]
    return (out.squeeze(1) - 0.16717362830052426) / 1.0333394966054072


QUIET = re.compile(r"visual_encoder\.(cls_token|pos_embed|patch_embed|.*(attn\.proj|mlp\.fc2)\.)")
"""What the picture encoder writes into its residual stream."""


@pytest.mark.parametrize("loudness", [1.0, 0.003])
def test_scores_are_those_of_transformers_blip(tmp_path: Path, loudness: float) -> None:
    """Also of a stream so quiet that the eps of its norms counts, and of pictures whose middle lies between pixels."""
    options = tiny_clip.image_reward(tmp_path)
    weights = {k: v * loudness if QUIET.search(k) else v for k, v in tiny_clip.blip_weights().items()}
    torch.save(weights, tmp_path / "ImageReward.pt")
    generator = torch.Generator().manual_seed(0)
    images = [(torch.rand(3, 32, 47, generator=generator) * 255).round() / 255 for _ in PROMPTS]
    expected = reconstruction(tmp_path, images)
    assert float((expected[0] - expected[1]).abs()) > 1e-3
    with pytest.warns(UserWarning, match="image-reward read only the beginning of 1 "):
        got = rewardmodels.load("image-reward", **options)(
            samples=[Sample(prompt, image) for prompt, image in zip(PROMPTS, images, strict=True)]
        )
    torch.testing.assert_close(got.overall, expected, atol=1e-4, rtol=0)


def test_a_weight_too_few_or_too_many_is_refused(tmp_path: Path) -> None:
    options = tiny_clip.image_reward(tmp_path)
    weights = tiny_clip.blip_weights()
    gone = "blip.text_encoder.encoder.layer.1.crossattention.self.key.bias"
    torch.save({name: item for name, item in weights.items() if name != gone}, tmp_path / "ImageReward.pt")
    with pytest.raises(ValueError, match="crossattention"):
        rewardmodels.load("image-reward", **options)
    torch.save(weights | {"blip.visual_encoder_m.norm.bias": torch.zeros(1)}, tmp_path / "ImageReward.pt")
    with pytest.raises(ValueError, match="not known"):
        rewardmodels.load("image-reward", **options)
