"""Multi-head attention of one sequence to another."""

from __future__ import annotations

from torch import Tensor

from .attention_backend import attend
from .transformer_block import SelfAttention


class CrossAttention(SelfAttention):
    """softmax(Q·Kᵀ/√(d/heads))·V with queries of one sequence, and keys and values of another; then a linear map.

    Parameters
    ----------
    width, heads
        As of `SelfAttention`.
    """

    def between(self, x: Tensor, context: Tensor) -> Tensor:
        """Let tokens ask those of a context.

        Parameters
        ----------
        x, context
            (rows, queries, d) and (rows, keys, d).

        Returns
        -------
        (rows, queries, d).
        """
        query, key, value = self.query(x), self.key(context), self.value(context)
        found = attend(self.split(query), self.split(key), self.split(value))
        mixed: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return mixed
