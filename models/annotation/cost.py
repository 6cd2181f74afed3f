"""What a model is made of, and what reading a cell takes."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from torch_geometric.data import Batch

from ..layers.bags import counted


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Count the operations of attention between tensors of these shapes."""
    return int(sdpa_flop_count(query, key, value))


# Torch counts it on a GPU alone.
_ON_CPU: Final = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


@torch.no_grad()
def cost_of(model: nn.Module, batch: Batch) -> dict[str, int]:
    """Count parameters, and the operations of reading a batch.

    Parameters
    ----------
    model
        Which reads ``batch``, on its device.
    batch
        Cells.

    Returns
    -------
    ``parameters`` (numbers that training may change), ``fitted`` (those that were fitted), ``flops_per_cell``
    (floating-point operations, two for each product and sum: of attention, dense products and weighted sums of
    features; others, like distances, are not counted).
    """
    model.eval()
    with FlopCounterMode(display=False, custom_mapping=_ON_CPU) as counter, counted() as sparse:
        model(batch)
    own = sum(value.numel() for value in model.parameters())
    fitted = sum(value.numel() for value in model.buffers())
    flops = (counter.get_total_flops() + sparse.flops) / max(batch.num_graphs, 1)
    return {"parameters": own, "fitted": fitted, "flops_per_cell": round(flops)}
