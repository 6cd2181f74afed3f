"""Where models run: a GPU when there is one."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn


def best_device() -> torch.device:
    """Return the first GPU, or the processor where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's weights, or of what it holds beside them where it has none."""
    return next(chain(model.parameters(), model.buffers())).device
