"""Learning rates over epochs, as shares of the largest."""

from __future__ import annotations

import math


def warm_restarts(epoch: float, *, cycle: int, warmup: float = 1.0, fall: float = 0.9) -> float:
    """Cosine annealing from the largest rate to a hundredth, anew in cycles that double in length.

    Parameters
    ----------
    epoch
        Epochs done, in parts too.
    cycle
        Epochs of the first cycle; 0 for a constant rate.
    warmup
        Epochs in which a cycle's rate rises to its largest, at most half of the cycle.
    fall
        Factor of the largest rate from one cycle to the next.

    Source
    ------
    Loshchilov & Hutter, SGDR, ICLR 2017.
    """
    if cycle <= 0:
        return 1.0
    number = math.floor(math.log2(epoch / cycle + 1))
    length = float(cycle * 2**number)
    largest = float(fall**number)
    place = epoch - (length - cycle)
    rise = min(warmup, length / 2)
    if place < rise:
        return max(largest * place / rise, 0.01)
    along = (place - rise) / (length - rise)
    return largest * (0.01 + 0.99 * (1 + math.cos(math.pi * along)) / 2)


def step_decay(epoch: float, *, every: int = 5, factor: float = 0.8) -> float:
    """Fall by a factor every so many epochs."""
    return float(factor ** (int(epoch) // every))
