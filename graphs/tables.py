"""Static attributes of genes and peaks: held once, looked up by id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .schema import GENE_ATTRIBUTES, PEAK_ATTRIBUTES, UNPLACED
from .store import Store


@dataclass(frozen=True)
class NodeTable:
    """The static attributes of one node type.

    Attributes
    ----------
    frame
        For people: one row a node, names as strings.
    tensors
        For models: attribute name -> tensor whose first dimension is the node id. Also reachable
        as attributes (``ds.genes.tss``).
    """

    frame: pd.DataFrame
    tensors: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.frame)

    def __getattr__(self, name: str) -> Tensor:
        tensors: dict[str, Tensor] = self.__dict__.get("tensors", {})
        if name in tensors:
            return tensors[name]
        raise AttributeError(f"no attribute {name!r}; there are {', '.join(tensors)}")

    def lookup(self, ids: Tensor, attributes: Iterable[str]) -> dict[str, Tensor]:
        """Return those of ``attributes`` that this node type has, for the nodes ``ids``."""
        return {name: self.tensors[name][ids] for name in attributes if name in self.tensors}


def gene_table(store: Store) -> NodeTable:
    """Read the genes: chrom (code), strand (+1, -1, 0), tss (bp, -1 unplaced), and HVG statistics."""
    frame = store.table("genes")
    codes = chromosome_codes(frame["chrom"], store.manifest["chromosomes"])
    strand = frame["strand"].map({"+": 1, "-": -1}).fillna(0)
    tensors = {
        "chrom": torch.from_numpy(codes),
        "strand": torch.from_numpy(strand.to_numpy(np.int64)),
        "tss": torch.from_numpy(frame["tss"].fillna(-1).to_numpy(np.int64)),
        "means": torch.from_numpy(frame["means"].to_numpy(np.float32)),
        "variances_norm": torch.from_numpy(frame["variances_norm"].to_numpy(np.float32)),
        "highly_variable": torch.from_numpy(frame["highly_variable"].to_numpy(bool)),
    }
    return NodeTable(frame, {name: tensors[name] for name in GENE_ATTRIBUTES})


def peak_table(store: Store) -> NodeTable:
    """Read the peaks: chrom (code), start, end (bp) and, where a FASTA was given, sequence (uint8 codes)."""
    frame = store.table("peaks")
    tensors = {
        "chrom": torch.from_numpy(chromosome_codes(frame["chrom"], store.manifest["chromosomes"])),
        "start": torch.from_numpy(frame["start"].to_numpy(np.int64)),
        "end": torch.from_numpy(frame["end"].to_numpy(np.int64)),
    }
    if store.has_array("sequences"):
        tensors["sequence"] = torch.from_numpy(store.array("sequences"))
    return NodeTable(frame, {name: tensors[name] for name in PEAK_ATTRIBUTES if name in tensors})


def chromosome_codes(
    names: pd.Series[str], chromosomes: list[str]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Turn chromosome names into int64 codes; missing names become ``UNPLACED``."""
    codes = pd.Index(chromosomes, dtype=object).get_indexer(pd.Index(names.astype(object)))
    return np.where(codes < 0, UNPLACED, codes).astype(np.int64)
