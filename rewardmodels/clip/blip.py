"""BLIP's picture encoder and its text encoder with cross-attention, under the names of the published weights.

Source: Li et al. 2022 (2201.12086): a ViT, and BERT whose every layer also attends to the picture's patches.
Differences from transformers' BLIP: attention is PyTorch's fused one; the ViT's LayerNorms have the eps 1e-6 that the
weights were trained with (transformers' default is 1e-5).

Legend: N pictures, P patches and the class token, L tokens, V picture width, W text width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_WIDTH = 64
"""Width of an attention head in every published BLIP."""


def attend(query: Tensor, key: Tensor, value: Tensor, *, where: Tensor | None = None) -> Tensor:
    """(N, L, W) each -> (N, L, W), in heads of `HEAD_WIDTH`; `where` (N, keys) says which keys exist."""
    parts = [item.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2) for item in (query, key, value)]
    mask = None if where is None else where[:, None, None, :]
    seen = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=mask)
    return seen.transpose(1, 2).flatten(-2)


class PictureAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, patches: Tensor) -> Tensor:
        query, key, value = self.qkv(patches).chunk(3, -1)
        return self.proj(attend(query, key, value))


class Perceptron(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, patches: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(patches)))


class PictureBlock(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = PictureAttention(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width, inner)

    def forward(self, patches: Tensor) -> Tensor:
        patches = patches + self.attn(self.norm1(patches))
        return patches + self.mlp(self.norm2(patches))


class Patches(nn.Module):
    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, side, stride=side)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.proj(pictures).flatten(2).transpose(1, 2)


class PictureEncoder(nn.Module):
    """A pre-norm ViT; `num_positions` counts the class token."""

    def __init__(self, *, width: int, inner: int, num_layers: int, patch: int, num_positions: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_positions, width))
        self.patch_embed = Patches(width, patch)
        self.blocks = nn.ModuleList(PictureBlock(width, inner) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, P, V)."""
        patches = self.patch_embed(pictures)
        patches = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self.pos_embed
        for block in self.blocks:
            patches = block(patches)
        return self.norm(patches)


class Words(nn.Module):
    def __init__(self, num_words: int, num_positions: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(num_words, width)
        self.position_embeddings = nn.Embedding(num_positions, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(ids) + positions)


class Projections(nn.Module):
    def __init__(self, width: int, source: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(source, width)
        self.value = nn.Linear(source, width)


class AddNorm(nn.Module):
    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, inner: Tensor, before: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(inner) + before)


class TextAttention(nn.Module):
    """Attention to `source`, with BERT's residual and norm; the published name of the projections is `self`."""

    def __init__(self, width: int, source: int) -> None:
        super().__init__()
        self.add_module("self", Projections(width, source))
        self.output = AddNorm(width, width)

    def forward(self, tokens: Tensor, source: Tensor, where: Tensor | None = None) -> Tensor:
        weights = self.get_submodule("self")
        seen = attend(weights.query(tokens), weights.key(source), weights.value(source), where=where)  # type: ignore[operator]
        return self.output(seen, tokens)


class Inner(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.gelu(self.dense(tokens))


class TextLayer(nn.Module):
    def __init__(self, width: int, inner: int, picture_width: int) -> None:
        super().__init__()
        self.attention = TextAttention(width, width)
        self.crossattention = TextAttention(width, picture_width)
        self.intermediate = Inner(width, inner)
        self.output = AddNorm(inner, width)

    def forward(self, tokens: Tensor, known: Tensor, patches: Tensor) -> Tensor:
        tokens = self.attention(tokens, tokens, known)
        tokens = self.crossattention(tokens, patches)
        return self.output(self.intermediate(tokens), tokens)


class TextStack(nn.Module):
    def __init__(self, num_layers: int, width: int, inner: int, picture_width: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(TextLayer(width, inner, picture_width) for _ in range(num_layers))


class TextEncoder(nn.Module):
    """BERT that attends to a picture in every layer."""

    def __init__(
        self,
        *,
        num_words: int,
        num_positions: int,
        width: int,
        inner: int,
        num_layers: int,
        picture_width: int,
    ) -> None:
        super().__init__()
        self.embeddings = Words(num_words, num_positions, width)
        self.encoder = TextStack(num_layers, width, inner, picture_width)

    def forward(self, ids: Tensor, known: Tensor, patches: Tensor) -> Tensor:
        """Ids (N, L), which of them are tokens (N, L), patches (N, P, V) -> (N, L, W)."""
        tokens = self.embeddings(ids)
        for layer in self.encoder.layer:
            tokens = layer(tokens, known, patches)
        return tokens
