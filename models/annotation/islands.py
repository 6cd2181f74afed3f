"""Islands: stretches of the genome of one width, and how open the peaks in them are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from ...graphs.chromosomes import harmonise
from ...graphs.csr import row_keys
from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.schema import SOURCE
from ..layers.profiles import Profiles

Int64 = NDArray[np.int64]

MOST: Final = 5  # of the values of an island
LEAST_COVERED: Final = 0.3  # share of a model's islands that a query must have peaks in
_FAR: Final = 1 << 32  # more than a chromosome has islands


class Islands(nn.Module):
    """Turns counts of peaks into values of islands, from 1 to 5; islands without counts have 0.

    An island is a stretch of ``width`` bp; a peak belongs to that in which it starts. The value is the mean
    of its peaks' counts, rounded up, at most 5. What tells islands is their place on the genome,
    so that data sets with other peaks have the same ones: which peak is in which is found by `place`, and
    is not saved.

    Parameters
    ----------
    n_islands
        Number of islands.
    width
        In bp.

    Attributes
    ----------
    chromosomes
        Names for the codes in ``chrom``.
    chrom, bin
        (islands,) code of the chromosome, and start // width; ascending.
    of_peak
        (peaks of all data sets,) island of each peak, −1 where it is in none.
    first
        (data sets,) place of the first peak of each in ``of_peak``.
    n_peaks
        (data sets, islands) number of peaks.
    """

    def __init__(self, n_islands: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.chromosomes: tuple[str, ...] = ()
        self.chrom: Tensor
        self.bin: Tensor
        self.of_peak: Tensor
        self.first: Tensor
        self.n_peaks: Tensor
        self.register_buffer("chrom", torch.zeros(n_islands, dtype=torch.int64))
        self.register_buffer("bin", torch.zeros(n_islands, dtype=torch.int64))
        self.register_buffer("of_peak", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("first", torch.zeros(1, dtype=torch.int64), persistent=False)
        self.register_buffer("n_peaks", torch.ones(1, n_islands), persistent=False)

    def __len__(self) -> int:
        return len(self.chrom)

    @classmethod
    def of(cls, graphs: Sequence[MultiomeGraphs], width: int, *, tss: bool) -> Self:
        """Find the islands that hold peaks of any of the data sets.

        Parameters
        ----------
        graphs
            Data sets of one genome.
        width
            In bp.
        tss
            Keep those that hold a transcription start site of their genes.

        Raises
        ------
        InputError
            No gene has a known start, or no island holds one.
        """
        chromosomes = _of_all(graphs)
        keys = np.unique(np.concatenate([_of_peaks(g.peaks.frame, chromosomes, width) for g in graphs]))
        keys = keys[keys >= 0]
        if tss:
            starts = np.unique(np.concatenate([_of_genes(g.genes.frame, chromosomes, width) for g in graphs]))
            if not (starts >= 0).any():
                raise InputError(
                    f"{graphs[0].root} places no gene, and islands with a transcription start site are asked for."
                    " Build it with --gtf, or pass --set tss=false."
                )
            keys = np.intersect1d(keys, starts)
        if len(keys) < 2:
            raise InputError(
                f"{graphs[0].root} has {len(keys)} islands of {width:,} bp"
                f"{' with a transcription start site' if tss else ''}. Pass a smaller --set island=BP"
                f"{', or --set tss=false' if tss else ''}."
            )
        islands = cls(len(keys), width)
        islands.chrom.copy_(torch.from_numpy(keys // _FAR))
        islands.bin.copy_(torch.from_numpy(keys % _FAR))
        islands.place([g.peaks.frame for g in graphs], chromosomes)
        return islands

    def place(self, peaks: Sequence[pd.DataFrame], chromosomes: Sequence[str]) -> None:
        """Find the island of each peak of some data sets.

        Parameters
        ----------
        peaks
            Columns ``chrom`` (name, in any spelling) and ``start``, of each data set.
        chromosomes
            Names for the codes in ``chrom``.
        """
        self.chromosomes = tuple(chromosomes)
        keys = (self.chrom * _FAR + self.bin).cpu().numpy()
        found = [_rows(keys, _of_peaks(frame, chromosomes, self.width)) for frame in peaks]
        sizes = np.cumsum([0, *(len(rows) for rows in found)])
        counted = [np.bincount(rows[rows >= 0], minlength=len(self)) for rows in found]
        device = self.chrom.device
        self.of_peak = torch.from_numpy(np.concatenate(found)).to(device)
        self.first = torch.from_numpy(sizes[:-1]).to(device)
        self.n_peaks = torch.from_numpy(np.stack(counted).astype(np.float32)).to(device)

    def placed(self) -> int:
        """Number of peaks of the last data set placed that lie in an island."""
        return int((self.of_peak[int(self.first[-1]) :] >= 0).sum())

    def keys(self, graphs: MultiomeGraphs, cells: Int64, *, source: int = 0, least: int = 1) -> Int64:
        """Return a number for each cell that cells with the same islands share, whatever their peaks, (cells,).

        Those of cells with fewer than ``least`` open islands are 0: they may be alike by chance.
        """
        found = [np.zeros(0, np.uint64)]
        for peaks in Profiles.chunks(graphs.atac_rows, cells):
            some = self.read(peaks, source)
            sizes = some.ptr.diff().numpy()
            keys = row_keys(some.ids.numpy(), some.counts.numpy(), sizes)
            found.append(np.where(sizes < least, np.uint64(0), keys))
        return np.concatenate(found).view(np.int64)

    def covered(self) -> int:
        """Number of islands in which the last data set placed has peaks."""
        return int((self.n_peaks[-1] > 0).sum())

    def forward(self, batch: Batch) -> Profiles:
        """Return the islands that are open in the cells of a batch, and their values."""
        return self.read(Profiles.peaks(batch), int(batch[SOURCE]) if SOURCE in batch else 0)

    def read(self, peaks: Profiles, source: int = 0) -> Profiles:
        """Return the islands that are open in cells, and their values.

        Parameters
        ----------
        peaks
            Counts of peaks.
        source
            Which of the data sets placed they are of.
        """
        island = self.of_peak[peaks.ids + self.first[source]]
        kept = island >= 0
        key, node = torch.unique(peaks.cell[kept] * len(self) + island[kept], return_inverse=True)
        total = peaks.counts.new_zeros(len(key)).index_add_(0, node, peaks.counts[kept])
        cell, ids = key // len(self), key % len(self)
        values = (total / self.n_peaks[source, ids]).ceil().clamp(1, MOST)
        return Profiles(ids, values, F.pad(torch.bincount(cell, minlength=len(peaks)).cumsum(0), (1, 0)))


def _of_all(graphs: Sequence[MultiomeGraphs]) -> list[str]:
    """Return the chromosomes of all data sets, as the first that has one spells it."""
    found: list[str] = []
    for some in graphs:
        spelled = harmonise(some.store.manifest["chromosomes"], found)
        found += [name for name, known in spelled.items() if known is None]
    return found


def check_covered(
    islands: Islands, graphs: MultiomeGraphs, least: float | None = None, *, every: bool = False
) -> str:
    """Refuse a data set that shares too little with a model's islands, which were placed on it.

    Parameters
    ----------
    islands, graphs
        The model's islands, and the data set placed last.
    least
        Smallest share of the islands that have peaks, where a user may choose it.
    every
        Whether all peaks of the model's own data are in islands: then as large a share of these must be.

    Returns
    -------
    Both shares, in words.

    Raises
    ------
    InputError
        Tells the shares.
    """
    share = LEAST_COVERED if least is None else least
    covered, placed, n_peaks = islands.covered(), islands.placed(), len(graphs.peaks)
    told = (
        f"{placed:,} of {n_peaks:,} peaks ({placed / max(n_peaks, 1):.1%}) lie in {covered:,} of the model's"
        f" {len(islands):,} islands ({covered / len(islands):.1%})"
    )
    if covered < share * len(islands) or (every and placed < share * n_peaks):
        advice = "train on this one" if least is None else "lower --min-placed"
        raise InputError(
            f"{graphs.root}: {told}, fewer than {share:.0%}. Is this the same genome? Pass cells that are on it, or"
            f" {advice}."
        )
    return told


def _of_peaks(peaks: pd.DataFrame, chromosomes: Sequence[str], width: int) -> Int64:
    return _keys(peaks["chrom"], peaks["start"], chromosomes, width)


def _of_genes(genes: pd.DataFrame, chromosomes: Sequence[str], width: int) -> Int64:
    placed = genes[genes["chrom"].notna() & (genes["tss"].fillna(-1) >= 0)]
    return _keys(placed["chrom"], placed["tss"], chromosomes, width)


def _keys(chrom: pd.Series, start: pd.Series, chromosomes: Sequence[str], width: int) -> Int64:
    """Number the islands in which features start; −1 on chromosomes that there are not."""
    codes, names = pd.factorize(chrom.astype(object))
    spelled = harmonise([str(name) for name in names], chromosomes)
    place = pd.Index(chromosomes).get_indexer(pd.Index([spelled[str(name)] for name in names], dtype=object))
    code = np.append(place, -1)[codes].astype(np.int64)
    return np.where(code < 0, -1, code * _FAR + start.to_numpy(np.int64) // width)


def _rows(keys: Int64, wanted: Int64) -> Int64:
    """Find each wanted number among ascending ones, −1 where it is not there."""
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)
