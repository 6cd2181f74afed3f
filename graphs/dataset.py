"""MultiomeGraphs: a graph dataset, one cell or one RNA/ATAC pair a graph, any number of them a batch."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
import torch
from torch import Tensor
from torch_geometric.data import Batch, Dataset, HeteroData

from .collate import CisEdges, assemble
from .csr import ranges
from .errors import InputError
from .schema import (
    ACCESSIBILITY,
    ATAC,
    CELL,
    CELL_TYPE,
    CIS,
    DISTANCE,
    EXPRESSES,
    EXPRESSION,
    GENE,
    GENE_ATTRIBUTES,
    ID,
    MATCH,
    NO_DISTANCE,
    OPENS,
    PEAK,
    PEAK_ATTRIBUTES,
    RNA,
    SPLITS,
    UNLABELLED,
    Split,
    View,
)
from .store import Store
from .tables import NodeTable, gene_table, peak_table

Int64 = npt.NDArray[np.int64]


class MultiomeGraphs(Dataset):  # type: ignore[misc]
    """Cell-peak-gene graphs of a multiome experiment, read memory-mapped.

    Parameters
    ----------
    root
        Dataset folder made by ``scweave build``.
    view
        ``"cells"``: a graph is one cell. ``"pairs"``: a graph is the RNA profile of one cell beside
        the ATAC profile of the same cell or another, as listed in the dataset's pairs.
    split
        Only the cells (or pairs) of this split; all of them when None.
    fold
        Splits, pairs and fitted attributes of this fold of a dataset that was built with folds.

    Attributes
    ----------
    genes, peaks
        `NodeTable` of static attributes, indexed by the ``id`` of gene and peak nodes.
    cells
        Table of cells: barcode, cell_type, donor, batch, split.
    modalities
        ``("rna", "atac")``, or the one that was measured.

    Examples
    --------
    >>> graphs = MultiomeGraphs("runs/demo/dataset", split="train")  # doctest: +SKIP
    >>> graphs[0]["gene"].expression  # doctest: +SKIP
    >>> graphs.get(0, attributes=["tss", "sequence"])  # doctest: +SKIP
    """

    def __init__(
        self,
        root: str | Path,
        *,
        view: View = "cells",
        split: Split | None = None,
        fold: int | None = None,
        transform: Any = None,
    ) -> None:
        super().__init__(transform=transform)
        self.root = str(root)
        self.view: View = view
        self.split = split
        self.fold = fold
        self._open()

    def _open(self) -> None:
        self.store = Store(Path(self.root), self.fold)
        self.modalities: tuple[str, ...] = tuple(self.store.manifest["modalities"])
        self.genes: NodeTable = gene_table(self.store)
        self.peaks: NodeTable = peak_table(self.store)
        self.cells: pd.DataFrame = self.store.table("cells")
        self.rna_rows = self.store.rows(RNA, len(self.genes))
        self.atac_rows = self.store.rows(ATAC, len(self.peaks))
        self.cell_types: list[str] = self.store.manifest["cell_types"]
        codes = pd.Categorical(self.cells["cell_type"], categories=self.cell_types).codes
        self.cell_type_codes: Int64 = np.where(codes < 0, UNLABELLED, codes).astype(np.int64)
        self._rna, self._atac, self._match = self._items()

    def _items(self) -> tuple[Int64, Int64, npt.NDArray[np.float32]]:
        if self.split is not None and self.split not in SPLITS:
            raise InputError(f"no split {self.split!r}; there are {', '.join(SPLITS)}.")
        frame = self.store.table("pairs") if self.view == "pairs" else self._cells_as_pairs()
        if self.split is not None:
            frame = frame[frame["split"] == self.split]
        return (
            frame["rna"].to_numpy(np.int64),
            frame["atac"].to_numpy(np.int64),
            frame["match"].to_numpy(np.float32),
        )

    def _cells_as_pairs(self) -> pd.DataFrame:
        cell = np.arange(len(self.cells))
        return pd.DataFrame({"rna": cell, "atac": cell, "match": 1.0, "split": self.cells["split"]})

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens the files itself: memory-mapped pages are then shared, not copied.
        keep = ("root", "view", "split", "fold", "transform", "modalities")
        return {name: self.__dict__[name] for name in (*keep, "_indices", "_rna", "_atac", "_match")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        given = {name: state[name] for name in ("view", "split", "fold")}
        MultiomeGraphs.__init__(self, state["root"], **given)
        self._leave_out(state["modalities"])
        self.__dict__.update(state)

    def __copy__(self) -> MultiomeGraphs:
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        return clone

    def part(self, view: View = "cells", split: Split | None = None) -> MultiomeGraphs:
        """Open the same dataset and fold in another view, or another split of it."""
        return MultiomeGraphs(self.root, view=view, split=split, fold=self.fold).only(self.modalities)

    def only(self, modalities: str | Iterable[str]) -> MultiomeGraphs:
        """Return the same graphs as if this modality, or these, alone had been measured: the others have no counts.

        Raises
        ------
        InputError
            One of them was not measured.
        """
        chosen = {modalities} if isinstance(modalities, str) else set(modalities)
        self.require(sorted(chosen), "reading some modalities")
        part = copy(self)
        part._leave_out(chosen)
        return part

    def _leave_out(self, kept: Container[str]) -> None:
        if RNA in self.modalities and RNA not in kept:
            self.rna_rows = self.rna_rows.emptied()
        if ATAC in self.modalities and ATAC not in kept:
            self.atac_rows = self.atac_rows.emptied()
        self.modalities = tuple(name for name in self.modalities if name in kept)

    def require(self, modalities: Iterable[str], what: str) -> None:
        """Refuse a dataset that lacks a modality which ``what`` needs.

        Raises
        ------
        InputError
            Names the modality.
        """
        needed = [name.upper() for name in modalities]
        missing = [name for name in needed if name.lower() not in self.modalities]
        if missing:
            raise InputError(
                f"{what} needs {' and '.join(needed)}, and {self.root} has no {missing[0]}."
                " Build it from both modalities, or choose a model for one."
            )

    @property
    def fingerprint(self) -> str:
        """A name made of the checksums: it changes whenever any file of the dataset does."""
        return self.store.fingerprint

    @cached_property
    def cis(self) -> CisEdges | None:
        """The stored prior edges, or None where the prior is the whole chromosome."""
        if self.store.manifest["prior"]["kind"] == "chromosome":
            return None
        return CisEdges(*(self.store.array(f"cis_{part}") for part in ("indptr", "peak", "distance")))

    @cached_property
    def cis_ranges(self) -> tuple[Tensor, Tensor]:
        """First and past-the-last peak on each gene's chromosome, (genes,) int64 each; the chromosome prior."""
        peak_chrom, gene_chrom = self.peaks.chrom, self.genes.chrom
        first = torch.searchsorted(peak_chrom, gene_chrom)
        last = torch.searchsorted(peak_chrom, gene_chrom, right=True)
        return first, last

    def len(self) -> int:
        """Number of graphs before any subset was taken."""
        return len(self._rna)

    def pairs_of(self, indices: Sequence[int] | Int64) -> tuple[Int64, Int64]:
        """Return the RNA and the ATAC cell of graphs (positions in this dataset)."""
        which = np.asarray(self.indices(), np.int64)[np.asarray(indices, np.int64)]
        return self._rna[which], self._atac[which]

    def get(self, idx: int, *, attributes: Iterable[str] = (), cis: bool = True) -> HeteroData:
        """Return one graph.

        Parameters
        ----------
        idx
            Position of the graph.
        attributes
            Static attributes to attach to its genes and peaks, e.g. ``["chrom", "tss", "sequence"]``.
        cis
            Whether to add the peak-gene edges of a window prior.
        """
        which = np.asarray([idx])
        batch = self._assemble(self._rna[which], self._atac[which], self._match[which], attributes, cis)
        return batch[0]

    def batch(
        self, indices: Sequence[int] | Int64, *, attributes: Iterable[str] = (), cis: bool = True
    ) -> Batch:
        """Return many graphs side by side, as ``Batch.from_data_list`` would, built from whole slices.

        Parameters
        ----------
        indices
            Positions in this dataset (or subset of it); repeats are allowed.
        attributes, cis
            As in `get`.
        """
        which = np.asarray(self.indices(), np.int64)[np.asarray(indices, np.int64)]
        return self._assemble(self._rna[which], self._atac[which], self._match[which], attributes, cis)

    def batch_of_pairs(
        self, rna: Int64, atac: Int64, *, attributes: Iterable[str] = (), cis: bool = True
    ) -> Batch:
        """Return the graphs of any RNA cells beside any ATAC cells (row numbers of ``cells``)."""
        match = (np.asarray(rna) == np.asarray(atac)).astype(np.float32)
        return self._assemble(np.asarray(rna), np.asarray(atac), match, attributes, cis)

    def _assemble(
        self, rna: Int64, atac: Int64, match: npt.NDArray[np.float32], attributes: Iterable[str], cis: bool
    ) -> Batch:
        unknown = set(attributes) - set(GENE_ATTRIBUTES) - set(PEAK_ATTRIBUTES)
        if unknown:
            known = sorted({*GENE_ATTRIBUTES, *PEAK_ATTRIBUTES})
            raise InputError(f"no attribute {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
        cells = {
            RNA: torch.from_numpy(rna),
            ATAC: torch.from_numpy(atac),
            MATCH: torch.from_numpy(match),
            CELL_TYPE: torch.from_numpy(self.cell_type_codes[atac]),
        }
        genes, peaks = self.rna_rows.gather(rna), self.atac_rows.gather(atac)
        static = {
            GENE: self.genes.lookup(torch.from_numpy(genes[0]), attributes),
            PEAK: self.peaks.lookup(torch.from_numpy(peaks[0]), attributes),
        }
        edges = self.cis if cis else None
        return assemble(cells, genes, peaks, attributes=static, cis=edges, n_peaks=len(self.peaks))

    def graph(
        self, cells: Sequence[int] | Int64 | None = None, *, cis: bool = True, limit: int | None = None
    ) -> HeteroData:
        """Return the whole cell-peak-gene graph: every gene and peak once, with static attributes.

        Parameters
        ----------
        cells
            Row numbers of ``cells``; all cells when None.
        cis
            Whether to add peak-gene edges: the window edges, or every pair on one chromosome.
        limit
            Largest size in bytes; half of the free memory when None.

        Raises
        ------
        InputError
            The graph would be larger than the limit.
        """
        rows = np.arange(len(self.cells)) if cells is None else np.asarray(cells, np.int64)
        self._refuse_large(rows, cis, limit)
        data = HeteroData()
        data[CELL][ID] = torch.from_numpy(rows)
        data[CELL][CELL_TYPE] = torch.from_numpy(self.cell_type_codes[rows])
        for node, table in ((GENE, self.genes), (PEAK, self.peaks)):
            data[node][ID] = torch.arange(len(table))
            for name, values in table.tensors.items():
                data[node][name] = values
            data[node].num_nodes = len(table)
        data[CELL].num_nodes = len(rows)
        for kind, field, matrix in (
            (EXPRESSES, EXPRESSION, self.rna_rows),
            (OPENS, ACCESSIBILITY, self.atac_rows),
        ):
            ids, counted, counts = matrix.gather(rows)
            data[kind].edge_index = torch.from_numpy(np.stack([np.repeat(np.arange(len(rows)), counts), ids]))
            data[kind][field] = torch.from_numpy(counted)
        if cis:
            data[CIS].edge_index, data[CIS][DISTANCE] = self.cis_edges()
        return data

    def cis_edges(self) -> tuple[Tensor, Tensor]:
        """Return all edges of the prior, by gene, then peak: ends (2, edges), peak first, and distances (edges,).

        The chromosome prior is written out: every peak on a gene's chromosome. Ask `n_cis` first.
        """
        n_genes = len(self.genes)
        if self.cis is not None:
            gene = np.repeat(np.arange(n_genes), np.diff(self.cis.indptr))
            edges = np.stack([self.cis.peak.astype(np.int64), gene])
            return torch.from_numpy(edges), torch.from_numpy(self.cis.distance.astype(np.int64))
        first, last = (bound.numpy() for bound in self.cis_ranges)
        peak = torch.from_numpy(ranges(first, last - first))
        gene_of = torch.repeat_interleave(torch.arange(n_genes), torch.from_numpy(last - first))
        centre = (self.peaks.start[peak] + self.peaks.end[peak]) // 2
        tss, sign = self.genes.tss[gene_of], torch.where(self.genes.strand < 0, -1, 1)[gene_of]
        distance = torch.where(tss < 0, NO_DISTANCE, (centre - tss) * sign)
        return torch.stack([peak, gene_of]), distance

    @property
    def n_cis(self) -> int:
        """Number of edges of the prior."""
        if self.cis is not None:
            return int(self.cis.indptr[-1])
        first, last = self.cis_ranges
        return int((last - first).sum())

    def _refuse_large(self, rows: Int64, cis: bool, limit: int | None) -> None:
        stored = sum(
            int((m.indptr[rows + 1] - m.indptr[rows]).sum()) for m in (self.rna_rows, self.atac_rows)
        )
        n_cis = self.n_cis if cis else 0
        size = 20 * stored + 24 * n_cis  # two int64 ends and a float32 value, or an int64 distance
        allowed = psutil.virtual_memory().available // 2 if limit is None else limit
        if size > allowed:
            raise InputError(
                f"the graph of {len(rows):,} cells has {stored:,} cell edges and {n_cis:,} cis edges, "
                f"{size / 1e9:.1f} GB, more than the limit of {allowed / 1e9:.1f} GB. Take fewer cells, a window "
                f"prior, cis=False, or batches."
            )
