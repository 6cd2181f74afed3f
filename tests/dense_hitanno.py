"""HitAnno written plainly: every token of every sentence attends to all of its sentence, a cell at a time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from scweave.graphs.csr import CsrRows
from scweave.models.hitanno_published import HitAnnoConfig, PublishedHitAnno
from scweave.models.layers.profiles import Profiles
from scweave.models.layers.transformer_block import SelfAttention, TransformerBlock


def dense_probabilities(layer: SelfAttention, x: Tensor) -> Tensor:
    """(tokens, d) -> (heads, tokens, tokens)."""
    q, k = (part(x).view(len(x), layer.heads, -1).transpose(0, 1) for part in (layer.query, layer.key))
    return (q @ k.mT / math.sqrt(q.shape[2])).softmax(2)


def dense_attention(layer: SelfAttention, x: Tensor) -> Tensor:
    """(tokens, d) -> (tokens, d)."""
    v = layer.value(x).view(len(x), layer.heads, -1).transpose(0, 1)
    return layer.out((dense_probabilities(layer, x) @ v).transpose(0, 1).flatten(1))


def dense_block(block: TransformerBlock, x: Tensor) -> Tensor:
    """(tokens, d) -> (tokens, d)."""
    h = block.norm(x + dense_attention(block.attention, x))
    first, _, second = block.feed_forward
    return block.last_norm(h + second(F.gelu(first(h))))


def sentence(model: PublishedHitAnno, which: int, opened: Tensor) -> Tensor:
    """Tokens of one sentence of a cell, sentence token first, (1 + peaks, d); ``opened`` is (tokens,) of 0 and 1."""
    begin, end = model.pointers[which : which + 2].tolist()
    return torch.cat([model.sets[which, None], model.tokens[begin:end] + model.states[opened[begin:end]]])


def opened_tokens(model: PublishedHitAnno, profiles: Profiles) -> Tensor:
    """Which tokens are open in each cell, (cells, tokens)."""
    found = torch.zeros(len(profiles), len(model.tokens), dtype=torch.long)
    token = model.token_of_peak[profiles.ids]
    found[profiles.cell[token >= 0], token[token >= 0]] = 1
    return found


def dense_reading(model: PublishedHitAnno, profiles: Profiles) -> tuple[Tensor, Tensor]:
    """Logits and embeddings of cells, without dropout."""
    embedding = []
    for opened in opened_tokens(model, profiles):
        rows = []
        for which in range(len(model.sets)):
            x = sentence(model, which, opened)
            for block in model.peak_blocks:
                x = dense_block(block, x)
            rows.append(x[:1])
        x = torch.cat([model.cls, *rows])
        for block in model.cell_blocks:
            x = dense_block(block, x)
        embedding.append(x[0])
    z = torch.stack(embedding)
    first, _, _, last = model.classifier
    return last(F.relu(first(z))), z


def random_model(
    sizes: tuple[int, ...] = (4, 1, 3), *, n_peaks: int = 12, seed: int = 0, **options: object
) -> PublishedHitAnno:
    """A float64 model with blocks of these sizes over shuffled peaks, not all of them markers."""
    small = {"dim": 8, "heads": 4, "ffn": 6, "dropout": 0.0, "token_dropout": 0.0}
    torch.manual_seed(seed)
    pointers = torch.tensor([0, *sizes]).cumsum(0)
    n = int(pointers[-1])
    token = torch.full((n_peaks,), -1)
    token[torch.randperm(n_peaks)[:n]] = torch.arange(n)
    return PublishedHitAnno(token, pointers, torch.zeros(n), HitAnnoConfig(**{**small, **options})).double()


def rows_of(counts: object) -> CsrRows:
    """A dense array of counts as the rows of a dataset."""
    from scipy import sparse

    found = sparse.csr_matrix(counts)
    return CsrRows(found.indptr.astype("int64"), found.indices, found.data, found.shape[1])
