"""Edges of a network: the best link of each peak and gene, the sites of TFs in peaks, and what both make together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from ...graphs.errors import InputError
from .categories import categories_of, codes_of
from .lookup import check_names
from .selection import named

if TYPE_CHECKING:
    from ..maps import RegulatoryMap


def best_links(regulatory_map: RegulatoryMap, cell_type: str | None = None) -> pd.DataFrame:
    """Return one row a linked peak and gene: of one type, or of the type with the highest score."""
    links = regulatory_map.links
    if cell_type is not None:
        check_names(cell_type, regulatory_map.cell_types, "cell type")
        own = links[named(links, cell_type=[cell_type])]
        return own.drop(columns="cell_type").reset_index(drop=True)
    key = codes_of(links["gene"]) * len(regulatory_map.peaks) + codes_of(links["peak"])
    order = np.lexsort((-links["score"].to_numpy(), key))
    first = np.flatnonzero(np.diff(key[order], prepend=-1) != 0)
    best = links.iloc[order[first]].reset_index(drop=True)
    names = links["cell_type"].iloc[np.lexsort((codes_of(links["cell_type"]), key))].tolist()
    ends = np.append(first, len(names))[1:].tolist()
    texts = ["; ".join(names[begin:end]) for begin, end in zip(first.tolist(), ends, strict=True)]
    return best.assign(cell_types=np.array(texts, object))


def tf_peaks(regulatory_map: RegulatoryMap, links: pd.DataFrame) -> pd.DataFrame:
    """Return ``tf, peak, score, n_sites``, one row a TF and a linked peak: the best site's score, and their number."""
    sites = regulatory_map.sites
    if sites is None:
        sites = pd.DataFrame({"tf": pd.Categorical([]), "peak": links["peak"].iloc[:0], "score": np.zeros(0)})
    peaks = links["peak"].cat.categories
    linked = np.zeros(len(peaks), bool)
    linked[codes_of(links["peak"])] = True
    own = sites[linked[codes_of(sites["peak"])]]
    key = pd.Series(codes_of(own["tf"]) * len(peaks) + codes_of(own["peak"]))
    found = own["score"].reset_index(drop=True).groupby(key).agg(["max", "size"])
    which = found.index.to_numpy(np.int64)
    return pd.DataFrame(
        {
            "tf": categories_of(which // len(peaks), sites["tf"].cat.categories),
            "peak": categories_of(which % len(peaks), peaks),
            "score": found["max"].to_numpy(np.float64),
            "n_sites": found["size"].to_numpy(np.int64),
        }
    )


def tf_gene_edges(regulatory_map: RegulatoryMap, *, cell_type: str | None = None) -> pd.DataFrame:
    """Project the network onto TFs and genes: through how many peaks, and how strongly.

    Parameters
    ----------
    regulatory_map
        Map with sites.
    cell_type
        Of this type only; each link's highest score of any type when None.

    Returns
    -------
    ``tf, gene, score, n_peaks``, by descending score: the sum over peaks with a site of the TF and a link to the
    gene of the best site's score · the link's score, and the number of these peaks.

    Raises
    ------
    InputError
        The map has no sites of TFs, or not this cell type.

    Examples
    --------
    >>> tf_gene_edges(found, cell_type="Pvalb").query("gene == 'Gad1'")  # doctest: +SKIP
    """
    if regulatory_map.sites is None:
        raise InputError("the map has no sites of TFs. Map again with `scweave map --motifs`.")
    links = best_links(regulatory_map, cell_type)
    sites = tf_peaks(regulatory_map, links)
    bound, linked = _matrix(sites, "tf", "peak"), _matrix(links, "peak", "gene")
    through, score = _entries(_ones(bound) @ _ones(linked)), _entries(bound @ linked)
    n_genes = linked.shape[1]
    table = pd.DataFrame(
        {
            "tf": categories_of(through.index // n_genes, sites["tf"].cat.categories),
            "gene": categories_of(through.index % n_genes, links["gene"].cat.categories),
            "score": score.reindex(through.index, fill_value=0.0).to_numpy(),
            "n_peaks": through.to_numpy(np.int64),
        }
    )
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _matrix(table: pd.DataFrame, row: str, column: str) -> sparse.csr_matrix:
    shape = len(table[row].cat.categories), len(table[column].cat.categories)
    where = codes_of(table[row]), codes_of(table[column])
    return sparse.csr_matrix((table["score"].to_numpy(np.float64), where), shape=shape)


def _ones(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    ones = matrix.copy()
    ones.data = np.ones_like(ones.data)
    return ones


def _entries(matrix: sparse.csr_matrix) -> pd.Series[float]:
    """Return the values of a matrix, indexed by row · columns + column."""
    entries = matrix.tocoo()
    return pd.Series(entries.data, index=entries.row.astype(np.int64) * matrix.shape[1] + entries.col)
