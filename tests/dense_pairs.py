"""scMoAnno's layers written plainly: a cell, a head and a token at a time; the published ones by PyTorch's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scweave.models.layers.cross_attention import CrossAttention
from scweave.models.layers.pair_tokens import PairEncoder, PairExchange, PairTokens
from scweave.models.layers.pre_norm_block import PreNormBlock
from scweave.models.layers.transformer_block import SelfAttention, TransformerBlock


def dense_cross(layer: SelfAttention, x: Tensor, context: Tensor) -> Tensor:
    """(queries, d) and (keys, d) -> (queries, d)."""
    width, heads = layer.width // layer.heads, []
    for h in range(layer.heads):
        own = slice(h * width, (h + 1) * width)
        query = x @ layer.query.weight[own].T + layer.query.bias[own]
        key = context @ layer.key.weight[own].T + layer.key.bias[own]
        value = context @ layer.value.weight[own].T + layer.value.bias[own]
        score = (query @ key.T / width**0.5).exp()
        heads.append(score / score.sum(1, keepdim=True) @ value)
    return torch.cat(heads, 1) @ layer.out.weight.T + layer.out.bias


def dense_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def dense_pre_norm(block: PreNormBlock, x: Tensor) -> Tensor:
    """(tokens, d) -> (tokens, d), without dropout."""
    first, _, _, second = block.feed_forward
    told = dense_norm(block.norm, x)
    h = x + dense_cross(block.attention, told, told)
    inner = dense_norm(block.last_norm, h) @ first.weight.T + first.bias
    inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
    return h + inner @ second.weight.T + second.bias


def dense_tokens(layer: PairTokens, i: int, vector: Tensor, has: bool, beside: Tensor | None) -> Tensor:
    """One modality of one cell, (width,) and (beside,) -> (tokens, d)."""
    if not has:
        return layer.missing[i]
    embed, rows = layer.embed[i], []
    for begin in range(0, len(vector), layer.gap):
        piece = vector[begin : begin + layer.gap]
        rows.append(embed.weight[:, : len(piece)] @ piece + embed.bias)
    if beside is not None:
        rows.append(layer.embed_beside[i].weight @ beside + layer.embed_beside[i].bias)
    return torch.stack(rows) + layer.position[i]


def dense_encoder(layer: PairEncoder, rna: Tensor, atac: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens of one cell."""
    found = [
        dense_norm(layer.norms[i], dense_pre_norm(layer.blocks[i], x)) for i, x in enumerate((rna, atac))
    ]
    return found[0], found[1]


def dense_exchange(layer: PairExchange, rna: Tensor, atac: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens of one cell."""
    if layer.asks != "none":
        told = [dense_norm(layer.norms[i], x) for i, x in enumerate((rna, atac))]
        other = (1, 0) if layer.asks == "cross" else (0, 1)
        rna, atac = (
            (x + dense_cross(layer.attention[i], told[i], told[other[i]])) / 2
            for i, x in enumerate((rna, atac))
        )
    return dense_encoder(layer.encoders, rna, atac)


def torch_cross(layer: CrossAttention, x: Tensor, context: Tensor) -> Tensor:
    """What PyTorch's multi-head attention makes of (queries, d) and (keys, d)."""
    maps = (layer.query, layer.key, layer.value)
    found, _ = F.multi_head_attention_forward(
        x,
        context,
        context,
        layer.width,
        layer.heads,
        torch.cat([m.weight for m in maps]),
        torch.cat([m.bias for m in maps]),
        None,
        None,
        False,
        0.0,
        layer.out.weight,
        layer.out.bias,
        need_weights=False,
    )
    return found


def torch_block(block: TransformerBlock, x: Tensor) -> Tensor:
    """What PyTorch's post-norm encoder layer with ReLU makes of (rows, tokens, d), without dropout."""
    attention, (first, _, second) = block.attention, block.feed_forward
    layer = nn.TransformerEncoderLayer(
        attention.width, attention.heads, first.out_features, dropout=0.0, batch_first=True, dtype=x.dtype
    )
    maps = (attention.query, attention.key, attention.value)
    weights = {
        "self_attn.in_proj_weight": torch.cat([m.weight for m in maps]),
        "self_attn.in_proj_bias": torch.cat([m.bias for m in maps]),
    }
    for name, part in (
        ("self_attn.out_proj", attention.out),
        ("linear1", first),
        ("linear2", second),
        ("norm1", block.norm),
        ("norm2", block.last_norm),
    ):
        weights |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
    return torch.func.functional_call(layer, weights, (x,))
