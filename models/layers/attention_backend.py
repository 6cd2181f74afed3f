"""Full attention by the fastest program at hand: flash-attn on CUDA in half precision, else PyTorch's own."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Backend = Literal["flash-attn", "sdpa"]

_HALF: Final = (torch.float16, torch.bfloat16)
_WIDEST: Final = 256  # columns of a head that flash-attn takes


def backend_of(device: torch.device, dtype: torch.dtype, width: int) -> Backend:
    """Say which program attends.

    Parameters
    ----------
    device, dtype
        Of the queries.
    width
        Columns of a head.

    Returns
    -------
    ``flash-attn`` on a CUDA device in half precision where that package is installed, else ``sdpa``
    (`torch.nn.functional.scaled_dot_product_attention`).
    """
    fits = device.type == "cuda" and dtype in _HALF and width % 8 == 0 and width <= _WIDEST
    return "flash-attn" if fits and importlib.util.find_spec("flash_attn") is not None else "sdpa"


def attend(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return softmax(q · kᵀ / √width) · v.

    Parameters
    ----------
    q
        (rows, heads, queries, width).
    k, v
        (rows, heads, keys, width).
    lengths
        (rows,) int64, at least 1: how many keys of each row there are; the others are padding. All when None.

    Returns
    -------
    (rows, heads, queries, width).
    """
    if backend_of(q.device, q.dtype, q.shape[-1]) == "flash-attn":
        return _flash(q, k, v, lengths)
    mask = None if lengths is None else key_mask(lengths, k.shape[2])[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def key_mask(lengths: Tensor, n_keys: int) -> Tensor:
    """Return which keys are no padding, (rows, keys)."""
    return torch.arange(n_keys, device=lengths.device) < lengths[:, None]


def _flash(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None) -> Tensor:
    """Attend with flash-attn, whose columns are (rows, tokens, heads, width); padding is packed away."""
    flash: Any = importlib.import_module("flash_attn")
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if lengths is None:
        return flash.flash_attn_func(q, k, v).transpose(1, 2)  # type: ignore[no-any-return]
    rows, queries = q.shape[:2]
    kept = key_mask(lengths, k.shape[1])
    of_keys = F.pad(lengths.cumsum(0), (1, 0)).int()
    of_queries = torch.arange(0, (rows + 1) * queries, queries, device=q.device, dtype=torch.int32)
    found = flash.flash_attn_varlen_func(
        q.flatten(0, 1), k[kept], v[kept], of_queries, of_keys, queries, int(lengths.max())
    )
    return found.view(q.shape).transpose(1, 2)  # type: ignore[no-any-return]
