"""Genes and peaks of a dataset by their names."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.dataset import MultiomeGraphs

Int64 = npt.NDArray[np.int64]


def gene_ids(graphs: MultiomeGraphs, names: pd.Series[str]) -> Int64:
    """Find genes by the dataset's name, else by a gene id, else by a symbol; (names,) rows, -1 for none."""
    ids = np.full(len(names), -1, np.int64)
    for column in ("gene", "gene_id", "symbol"):
        if column in graphs.genes.frame:
            ids = np.where(ids < 0, _ids(graphs.genes.frame[column], names), ids)
    return ids


def peak_ids(graphs: MultiomeGraphs, names: pd.Series[str]) -> Int64:
    """Find peaks by the dataset's name; (names,) rows, -1 where there is none."""
    return _ids(graphs.peaks.frame["peak"], names)


def _ids(nodes: pd.Series[str], names: pd.Series[str]) -> Int64:
    """Return the row of each name, -1 where no row or more than one has it: no id is guessed."""
    unique = np.flatnonzero(~nodes.duplicated(keep=False) & nodes.notna())
    index = pd.Index(nodes.to_numpy(object)[unique], dtype=object)
    found = index.get_indexer(pd.Index(names.to_numpy(object), dtype=object))
    return np.where(found < 0, -1, np.append(unique, -1)[found])
