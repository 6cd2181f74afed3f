"""GraphLoader: batches of graphs, whole slices at a time, in an order that seed and epoch alone decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from .dataset import MultiomeGraphs


class EpochSampler(Sampler[int]):
    """Visit every position once an epoch.

    Parameters
    ----------
    length
        Number of positions.
    shuffle
        Whether to permute them anew each epoch.
    seed
        With the epoch it alone decides the permutation, so a resumed run sees the same order.
    """

    def __init__(self, length: int, *, shuffle: bool, seed: int) -> None:
        self.length, self.shuffle, self.seed, self.epoch = length, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(range(self.length))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.length, generator=generator).tolist())


class GraphLoader(DataLoader):  # type: ignore[type-arg]
    """Load batches of a `MultiomeGraphs`.

    Parameters
    ----------
    graphs
        Dataset, or a subset of one.
    batch_size
        Graphs a batch; the last batch may be smaller and is never dropped.
    shuffle, seed
        Order; see `EpochSampler`. Call ``set_epoch`` before each epoch of a shuffled loader.
    attributes, cis
        What each batch carries; see `MultiomeGraphs.get`.
    **options
        Further arguments of `torch.utils.data.DataLoader`, e.g. ``num_workers``.
    """

    def __init__(
        self,
        graphs: MultiomeGraphs,
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        seed: int = 0,
        attributes: Iterable[str] = (),
        cis: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            range(len(graphs)),  # type: ignore[arg-type]
            batch_size=batch_size,
            sampler=EpochSampler(len(graphs), shuffle=shuffle, seed=seed),
            collate_fn=partial(graphs.batch, attributes=tuple(attributes), cis=cis),
            # Without its own generator a loader draws from the global one, and dropout would depend on it.
            generator=torch.Generator().manual_seed(seed),
            **options,
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        assert isinstance(self.sampler, EpochSampler)
        self.sampler.set_epoch(epoch)
