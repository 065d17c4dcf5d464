"""Tiny CLIP and BLIP checkpoints with the file names and weight names of the published ones.

Pictures are 32 x 32 in 8 x 8 patches; embeddings are 24 wide.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from tests.contract.tiny_pipelines import CLIP_LENGTH, clip_tokenizer

WIDTH = 24
OPEN_CLIP = {
    "embed_dim": WIDTH,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
AESTHETIC = {0: (20, WIDTH), 2: (12, 20), 4: (8, 12), 6: (4, 8), 7: (1, 4)}
"""Output and input widths of the five linear layers, under their published numbers."""
BLIP_WIDTH, TEXT_WIDTH, PICTURE_SIDE = 128, 64, 32


def random(shape: tuple[int, ...], generator: torch.Generator, scale: float = 0.1) -> Tensor:
    return scale * torch.randn(shape, generator=generator)


def hf_clip(folder: Path, *, seed: int = 0) -> Path:
    """A folder as `save_pretrained` makes it, PickScore's layout."""
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer()
    shared = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=shared | {
            "vocab_size": len(tokenizer), "max_position_embeddings": CLIP_LENGTH, "projection_dim": WIDTH,
            "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=shared | {"image_size": 32, "patch_size": 8, "projection_dim": WIDTH},
        projection_dim=WIDTH,
    )  # fmt: skip
    model = CLIPModel(config)
    for parameter in model.parameters():  # the initial weights are so small that all pictures look alike
        parameter.data.mul_(3.0)
    model.logit_scale.data.fill_(3.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def open_clip_file(
    folder: Path, name: str, *, quick_gelu: bool = False, inside: str | None = None
) -> dict[str, Any]:
    """A `.pt` of open_clip names and the configuration of its architecture; returns the options to read it."""
    from open_clip.model import CLIP

    torch.manual_seed(1)
    config = OPEN_CLIP | {"quick_gelu": quick_gelu}
    model = CLIP(**config)
    folder.mkdir(parents=True, exist_ok=True)
    weights = model.state_dict()
    torch.save(weights if inside is None else {inside: weights}, folder / name)
    (folder / "tiny.json").write_text(json.dumps(config))
    return {"path": str(folder), "architecture": str(folder / "tiny.json")}


def head(folder: Path, name: str, *, reads: int = WIDTH) -> Path:
    """A head of `layers.N`."""
    generator = torch.Generator().manual_seed(2)
    weights: dict[str, Tensor] = {}
    for number, (out, wide) in (AESTHETIC | {0: (20, reads)}).items():
        weights[f"layers.{number}.weight"] = random((out, wide), generator, 0.5)
        weights[f"layers.{number}.bias"] = random((out,), generator)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights, folder / name)
    return folder / name


def aesthetic(folder: Path) -> dict[str, Any]:
    file = head(folder, "sac+logos+ava1-l14-linearMSE.pth")
    return {"path": str(file), "clip": str(hf_clip(folder / "clip"))}


def picture_and_prompt_head(folder: Path) -> dict[str, Any]:
    return {"path": str(head(folder, "head.pth", reads=2 * WIDTH)), "clip": str(hf_clip(folder / "clip"))}


def bert_tokenizer(folder: Path) -> Path:
    """BERT's files, with letters for words."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(97, 123)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    return folder


def blip_weights(*, num_words: int = 59) -> dict[str, Tensor]:
    """All weights of an ImageReward.pt, two layers in each encoder."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, BLIP_WIDTH), "pos_embed": (1, 17, BLIP_WIDTH),
        "patch_embed.proj.weight": (BLIP_WIDTH, 3, 8, 8), "patch_embed.proj.bias": (BLIP_WIDTH,),
    }  # fmt: skip

    def linear(name: str, out: int, wide: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, wide), (out,)

    def norm(name: str, wide: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (wide,)

    for k in range(2):
        norm(f"blocks.{k}.norm1", BLIP_WIDTH)
        linear(f"blocks.{k}.attn.qkv", 3 * BLIP_WIDTH, BLIP_WIDTH)
        linear(f"blocks.{k}.attn.proj", BLIP_WIDTH, BLIP_WIDTH)
        norm(f"blocks.{k}.norm2", BLIP_WIDTH)
        linear(f"blocks.{k}.mlp.fc1", 160, BLIP_WIDTH)
        linear(f"blocks.{k}.mlp.fc2", BLIP_WIDTH, 160)
    norm("norm", BLIP_WIDTH)
    shapes = {f"blip.visual_encoder.{name}": shape for name, shape in shapes.items()}
    text = "blip.text_encoder."
    shapes[f"{text}embeddings.word_embeddings.weight"] = (num_words, TEXT_WIDTH)
    shapes[f"{text}embeddings.position_embeddings.weight"] = (48, TEXT_WIDTH)
    norm(f"{text}embeddings.LayerNorm", TEXT_WIDTH)
    for k in range(2):
        layer = f"{text}encoder.layer.{k}."
        for kind, source in (("attention", TEXT_WIDTH), ("crossattention", BLIP_WIDTH)):
            linear(f"{layer}{kind}.self.query", TEXT_WIDTH, TEXT_WIDTH)
            linear(f"{layer}{kind}.self.key", TEXT_WIDTH, source)
            linear(f"{layer}{kind}.self.value", TEXT_WIDTH, source)
            linear(f"{layer}{kind}.output.dense", TEXT_WIDTH, TEXT_WIDTH)
            norm(f"{layer}{kind}.output.LayerNorm", TEXT_WIDTH)
        linear(f"{layer}intermediate.dense", 80, TEXT_WIDTH)
        linear(f"{layer}output.dense", TEXT_WIDTH, 80)
        norm(f"{layer}output.LayerNorm", TEXT_WIDTH)
    linear("blip.vision_proj", 16, BLIP_WIDTH)
    linear("blip.text_proj", 16, TEXT_WIDTH)
    for number, (out, wide) in (AESTHETIC | {0: (20, TEXT_WIDTH)}).items():
        linear(f"mlp.layers.{number}", out, wide)
    generator = torch.Generator().manual_seed(3)
    weights = {name: random(shape, generator, 0.2) for name, shape in shapes.items()}
    for name in weights:
        if "norm" in name.lower() and name.endswith("weight"):
            weights[name] += 1.0
    return weights | {f"{text}embeddings.position_ids": torch.arange(48)[None]}


def image_reward(folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(blip_weights(), folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps({"hidden_size": TEXT_WIDTH}))
    return {"path": str(folder), "tokenizer": str(bert_tokenizer(folder / "bert"))}


TINY: dict[str, Callable[[Path], dict[str, Any]]] = {
    "clip-score": lambda folder: {"path": str(hf_clip(folder))},
    "pickscore": lambda folder: {"path": str(hf_clip(folder))},
    "hpsv2": lambda folder: open_clip_file(folder, "HPS_v2_compressed.pt", inside="state_dict"),
    "hpsv2.1": lambda folder: open_clip_file(folder, "HPS_v2.1_compressed.pt", inside="state_dict"),
    "social-reward": lambda folder: open_clip_file(folder, "social.pt", quick_gelu=True),
    "laion-aesthetic": aesthetic,
    "clip-head": picture_and_prompt_head,
    "image-reward": image_reward,
}
