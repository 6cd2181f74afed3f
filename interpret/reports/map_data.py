"""A regulatory map as compact columns that a browser searches, filters and draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from .columns import figures, shares, signed_numbers, whole_numbers

if TYPE_CHECKING:
    from ..maps import RegulatoryMap

MAX_LINKS: Final = 200_000
_MOST_OPENNESS: Final = 2_000_000  # shares of peaks and types that a page carries
_FIGURES: Final = ("score", "effect", "zscore", "pvalue", "qvalue")
_NO_DISTANCE: Final = np.iinfo(np.int32).min  # other chromosome, or unplaced gene
_TFS: Final = 5  # TFs told of a peak

Int64 = npt.NDArray[np.int64]


def map_data(regulatory: RegulatoryMap, *, max_links: int = MAX_LINKS) -> dict[str, Any]:
    """Return what the page carries of a map.

    Parameters
    ----------
    regulatory
        Map of cell types.
    max_links
        The strongest links of each gene and type are kept, up to so many in all.

    Returns
    -------
    Ready for JSON: ``total`` and ``shown`` links, ``types``, ``genes``, ``peaks``, ``links`` (sorted by gene, then
    descending score; ``first`` says where each gene's begin), ``openness`` and ``exons``, ``tfs`` where known.
    """
    links = regulatory.links
    gene, peak, cell_type = (_categories(links[name]) for name in ("gene", "peak", "cell_type"))
    score = links["score"].to_numpy(np.float64)
    kept = strongest(gene, cell_type, score, max_links)
    order = kept[np.lexsort((-score[kept], gene[kept]))]
    genes, peaks = regulatory.genes.reset_index(drop=True), regulatory.peaks.reset_index(drop=True)
    chroms = list(dict.fromkeys([*peaks["chrom"].astype(str), *genes["chrom"].dropna().astype(str)]))
    content = {
        "total": len(links),
        "shown": len(order),
        "types": _types(regulatory, cell_type),
        "chroms": chroms,
        "genes": _genes(genes, chroms) | _strength(gene, peak, score, len(genes)),
        "peaks": _peaks(peaks, chroms),
        "links": _links(links.iloc[order], peak[order], cell_type[order], gene[order], len(genes)),
    }
    return content | _openness(regulatory) | _expression(regulatory) | _exons(regulatory) | _tfs(regulatory)


def strongest(gene: Int64, cell_type: Int64, score: npt.NDArray[np.float64], most: int) -> Int64:
    """Return the links to keep: of each gene and type the first, then the second, and so on, until they are so many.

    Parameters
    ----------
    gene, cell_type, score
        (links,) each.
    most
        Links to keep.
    """
    if len(gene) <= most:
        return np.arange(len(gene))
    order = np.lexsort((-score, cell_type, gene))
    starts = np.flatnonzero(np.r_[True, (np.diff(gene[order]) != 0) | (np.diff(cell_type[order]) != 0)])
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return order[np.lexsort((-score[order], rank))[:most]]


def _types(regulatory: RegulatoryMap, cell_type: Int64) -> dict[str, Any]:
    names = [str(name) for name in regulatory.cells.index]
    links = np.bincount(cell_type, minlength=len(names))
    return {"name": names, "cells": _counts(regulatory.cells), "links": links.tolist()}


def _counts(values: pd.Series[Any]) -> list[int | None]:
    return [None if pd.isna(value) else int(value) for value in values]


def _genes(genes: pd.DataFrame, chroms: list[str]) -> dict[str, Any]:
    """Return names and places; -1 stands for what is unknown."""
    name = genes["gene"].astype(str)
    symbol = genes["symbol"].astype("string").fillna(name) if "symbol" in genes else name
    strand = genes["strand"].map({"+": 1, "-": 2}).fillna(0) if "strand" in genes else np.zeros(len(genes))
    return {
        "name": name.tolist(),
        "symbol": None if (symbol == name).all() else symbol.tolist(),
        "chrom": signed_numbers(_codes(genes["chrom"], chroms)),
        **{key: signed_numbers(_placed(genes, key)) for key in ("start", "end", "tss")},
        "strand": whole_numbers(np.asarray(strand, np.int64)),
    }


def _categories(names: pd.Series[Any]) -> Int64:
    return np.asarray(names.cat.codes, np.int64)


def _codes(chrom: pd.Series[Any], chroms: list[str]) -> Int64:
    return np.asarray(pd.Categorical(chrom.astype("string"), categories=chroms).codes, np.int64)


def _placed(genes: pd.DataFrame, name: str) -> Int64:
    known = genes[name] if name in genes else pd.Series(np.nan, genes.index)
    return known.astype("Float64").fillna(-1).to_numpy(np.float64).astype(np.int64)


def _strength(gene: Int64, peak: Int64, score: npt.NDArray[np.float64], n: int) -> dict[str, Any]:
    """Return of each gene its links, its highest score, and how far a link's best type is above its second best."""
    best = np.full(n, np.nan)
    np.fmax.at(best, gene, score)
    order = np.lexsort((-score, peak, gene))
    g, p, s = gene[order], peak[order], score[order]
    first = np.r_[True, (np.diff(g) != 0) | (np.diff(p) != 0)] if len(g) else np.zeros(0, bool)
    follows = np.r_[~first[1:], False] if len(g) else np.zeros(0, bool)
    second = np.where(follows, np.r_[s[1:], 0.0] if len(s) else s, 0.0)
    different = np.full(n, np.nan)
    np.fmax.at(different, g[first], s[first] - second[first])
    return {
        "links": whole_numbers(np.bincount(gene, minlength=n)),
        "best": figures(best),
        "different": figures(different),
    }


def _peaks(peaks: pd.DataFrame, chroms: list[str]) -> dict[str, Any]:
    usual = peaks["chrom"].astype(str) + ":" + peaks["start"].astype(str) + "-" + peaks["end"].astype(str)
    return {
        "name": None if (usual == peaks["peak"].astype(str)).all() else peaks["peak"].astype(str).tolist(),
        "chrom": whole_numbers(_codes(peaks["chrom"], chroms)),
        "start": signed_numbers(peaks["start"]),
        "end": signed_numbers(peaks["end"]),
        "open": figures(peaks["accessibility"]) if "accessibility" in peaks else None,
    }


def _links(links: pd.DataFrame, peak: Int64, cell_type: Int64, gene: Int64, n: int) -> dict[str, Any]:
    distance = links["distance"].astype("Float64").fillna(_NO_DISTANCE).to_numpy(np.float64)
    cells = links["n_cells"].astype("Float64").fillna(-1).to_numpy(np.float64).astype(np.int64) + 1
    known = [name for name in _FIGURES if name in links and links[name].notna().any()]
    return {
        "first": whole_numbers(np.r_[0, np.cumsum(np.bincount(gene, minlength=n))]),
        "peak": whole_numbers(peak),
        "type": whole_numbers(cell_type),
        "distance": signed_numbers(distance.astype(np.int64)),
        "cells": whole_numbers(cells),  # 0 where unknown
        **{name: figures(links[name]) for name in known},
    }


def _openness(regulatory: RegulatoryMap) -> dict[str, Any]:
    """Return the share of each type's cells with each peak open, a type after the other."""
    frame = regulatory.openness
    if frame is None or frame.size > _MOST_OPENNESS:
        return {"openness": None}
    wide = frame.reindex(index=regulatory.peaks["peak"], columns=regulatory.cells.index)
    return {"openness": shares(wide.to_numpy(np.float64).T)}


def _expression(regulatory: RegulatoryMap) -> dict[str, Any]:
    frame = regulatory.expression
    if frame is None or frame.size > _MOST_OPENNESS:
        return {"expression": None}
    wide = frame.reindex(index=regulatory.genes["gene"], columns=regulatory.cells.index)
    return {"expression": figures(wide.to_numpy(np.float64))}


def _exons(regulatory: RegulatoryMap) -> dict[str, Any]:
    """Return exons sorted by gene; ``first`` says where each gene's begin."""
    if regulatory.exons is None:
        return {"exons": None}
    genes = regulatory.genes["gene"].astype(str)
    code = pd.Categorical(regulatory.exons["gene"].astype(str), categories=genes).codes
    order = np.argsort(code, kind="stable")[(code < 0).sum() :]
    own = regulatory.exons.iloc[order]
    return {
        "exons": {
            "first": whole_numbers(np.r_[0, np.cumsum(np.bincount(code[order], minlength=len(genes)))]),
            "start": signed_numbers(own["start"]),
            "end": signed_numbers(own["end"]),
        }
    }


def _tfs(regulatory: RegulatoryMap) -> dict[str, Any]:
    """Return the TFs whose motifs match linked peaks best, by increasing p."""
    if regulatory.sites is None:
        return {"tfs": None}
    linked = regulatory.links["peak"].cat.remove_unused_categories().cat.categories
    sites = regulatory.sites[regulatory.sites["peak"].isin(linked)]
    sites = sites.sort_values(["pvalue", "score"], ascending=[True, False], kind="stable")
    sites = sites.drop_duplicates(["peak", "tf"])
    sites = sites[sites.groupby("peak", observed=True).cumcount() < _TFS]
    peaks = regulatory.peaks["peak"].astype(str)
    code = pd.Categorical(sites["peak"].astype(str), categories=peaks).codes
    order = np.argsort(code, kind="stable")
    tf = pd.Categorical(sites["tf"].astype(str))
    return {
        "tfs": {
            "name": list(tf.categories),
            "first": whole_numbers(np.r_[0, np.cumsum(np.bincount(code, minlength=len(peaks)))]),
            "tf": whole_numbers(tf.codes[order]),
        }
    }
