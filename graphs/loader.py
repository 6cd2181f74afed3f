"""GraphLoader: batches of graphs, whole slices at a time, in an order that seed and epoch alone decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch_geometric.data import Batch

from .dataset import MultiomeGraphs
from .schema import SOURCE

Positions = tuple[int, list[int]]  # a dataset, and graphs of it


class EpochBatches(Sampler[Positions]):
    """Visit every position of one dataset or several once an epoch, in batches of one dataset each.

    Parameters
    ----------
    lengths
        Number of positions of each dataset.
    batch_size
        Positions a batch; the last of each dataset may be smaller.
    shuffle
        Whether to permute positions, and the batches of several datasets, anew each epoch.
    seed
        With the epoch it alone decides the permutations, so a resumed run sees the same order.
    share
        Which part of every batch to take, and how many there are: all parts together are the batch. A part
        may be empty, the first only where the batch is.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.lengths, self.batch_size, self.share = tuple(lengths), batch_size, share
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(-(-length // self.batch_size) for length in self.lengths)

    def __iter__(self) -> Iterator[Positions]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        batches = [
            (source, batch)
            for source, length in enumerate(self.lengths)
            if length
            for batch in self._order(length, generator).split(self.batch_size)
        ]
        several = len(self.lengths) > 1
        order = self._order(len(batches), generator) if several else torch.arange(len(batches))
        part, parts = self.share
        for i in order.tolist():
            source, batch = batches[i]
            yield source, batch[part::parts].tolist()

    def _order(self, length: int, generator: torch.Generator) -> Tensor:
        return torch.randperm(length, generator=generator) if self.shuffle else torch.arange(length)


class GraphLoader(DataLoader):  # type: ignore[type-arg]
    """Load batches of a `MultiomeGraphs`, or of several.

    A batch is of one dataset, which its ``source`` tells: a scalar, the place among those given.

    Parameters
    ----------
    graphs
        Dataset or subset of one; or several of them, whose batches come mixed where they are shuffled.
    batch_size
        Graphs a batch; the last batch of a dataset may be smaller and is never dropped.
    shuffle, seed
        Order; see `EpochBatches`. Call ``set_epoch`` before each epoch of a shuffled loader.
    share
        Which part of every batch to load, and how many there are, for processes that share the batches.
        Each has as many batches; where a batch has too few graphs, some have no graph of it.
    attributes, cis
        What each batch carries; see `MultiomeGraphs.get`.
    **options
        Further arguments of `torch.utils.data.DataLoader`, e.g. ``num_workers``.
    """

    def __init__(
        self,
        graphs: MultiomeGraphs | Sequence[MultiomeGraphs],
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        seed: int = 0,
        share: tuple[int, int] = (0, 1),
        attributes: Iterable[str] = (),
        cis: bool = True,
        **options: Any,
    ) -> None:
        sources = (graphs,) if isinstance(graphs, MultiomeGraphs) else tuple(graphs)
        lengths = [len(source) for source in sources]
        super().__init__(
            _Batches(sources, tuple(attributes), cis),
            batch_size=None,  # the sampler gives whole batches
            sampler=EpochBatches(lengths, batch_size, shuffle=shuffle, seed=seed, share=share),
            collate_fn=_as_it_is,
            # Without its own generator a loader draws from the global one, and dropout would depend on it.
            generator=torch.Generator().manual_seed(seed),
            **options,
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        assert isinstance(self.sampler, EpochBatches)
        self.sampler.set_epoch(epoch)


class _Batches(Dataset[Batch]):
    """The batches of some datasets, by what is in them."""

    def __init__(self, sources: Sequence[MultiomeGraphs], attributes: tuple[str, ...], cis: bool) -> None:
        self.sources, self.attributes, self.cis = sources, attributes, cis

    def __getitem__(self, which: Positions) -> Batch:
        source, positions = which
        batch = self.sources[source].batch(positions, attributes=self.attributes, cis=self.cis)
        setattr(batch, SOURCE, torch.tensor(source))
        return batch


def _as_it_is(batch: Batch) -> Batch:
    return batch
