"""Genes and peaks of a dataset by their names."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.dataset import MultiomeGraphs

Int64 = npt.NDArray[np.int64]

_VERSIONED: Final = r"^(ENS[A-Z]*[0-9]+)\.[0-9]+"


def gene_ids(graphs: MultiomeGraphs, names: pd.Series[str]) -> Int64:
    """Find genes by the dataset's name, else by a gene id, else by a symbol; (names,) rows, -1 for none.

    Versions of Ensembl ids (``ENSG00000223972.5``) do not count.
    """
    ids, frame = np.full(len(names), -1, np.int64), graphs.genes.frame
    bare = names.astype(object).str.replace(_VERSIONED, r"\1", regex=True)
    for column, wanted in (("gene", names), ("gene_id", names), ("gene_id", bare), ("symbol", names)):
        if column in frame:
            ids = np.where(ids < 0, _ids(frame[column], wanted), ids)
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
